"""Scores of a map, or of a map before and after a treatment, against an atomic model."""

import pyworkflow.protocol.params as params
from pwem.objects import SetOfFSCs
from pyworkflow.object import Float

from ..common.limits import same_pixel_size
from ..convert.files import mapSides, plainName
from ..convert.fsc import fillFscs
from ..convert.map_scores import (
    EMRINGER_TABLE,
    FSC_TABLE,
    RESIDUES_TABLE,
    SCORES_TABLE,
    halfMapFiles,
    makeFscs,
    readScores,
    scoreText,
    writeHalfMaps,
    writePlacedVolume,
)
from ..engine.map_validation.config import ValidateMapConfig as Config
from .input_checks import missingFiles
from .protocol_base import CryoLearnProtBase, EngineStep

TOLD = ('emringer_tie_safe', 'q_score', 'cc_mask', 'fsc_model_masked_0.5_angst', 'decoy_gap_emringer', 'decoy_gap_q')
PLACES = {'zero': 'with its first voxel at 0, 0, 0', 'centre': 'with its middle voxel at 0, 0, 0'}


class CryoLearnProtValidateMap(CryoLearnProtBase):
    """Scores a map against an atomic model; with a second map, what a treatment of it (sharpening, enhancement) has changed, side by side.

    EMRinger tells whether the density around the side chains peaks where side chains are known to stand, the Q-score how much each atom looks
    like an atom, the correlations and the Fourier shell correlations how far map and model agree. Of two maps the change of EMRinger and
    Q-score is judged by resampling the residues, the same ones for both maps: a change whose interval holds zero is none. Wrong models
    are scored beside the right one: what they gain as well is no improvement.

    The two maps must stand on one grid. Half maps that the volumes carry are used too: the resolution that counts after a treatment is that
    of a treated half map with the *other* half before the treatment, since two treated halves can agree on what the treatment put in.

    A map that was made with the model's help, or by a network that has seen it, cannot be validated with that model.
    """

    _label = 'validate map'
    _possibleOutputs = {'outputFSCs': SetOfFSCs, 'outputEmringer': Float, 'outputQScore': Float}
    _references = ['Barad2015', 'Pintilie2020', 'Afonine2018']
    _madeFrom = ('inputVolume', 'inputVolumeAfter', 'inputStructure')

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        form.addSection(label='Input')
        self.addInput(form, 'inputVolume', 'Volume', 'Map',
                      'Map to score; of two maps the one before the treatment. Its half maps are used when it has any.')
        self.addInput(form, 'inputVolumeAfter', 'Volume', 'Map after',
                      'The same map after a treatment (sharpened, enhanced), on the same grid. Its half maps must have been treated one by one. '
                      'Without it one map is scored.', allowsNull=True)
        self.addInput(form, 'inputStructure', 'AtomStruct', 'Atomic model', 'All-atom model that was fitted to the map.')
        self.addEngineParam(form, Config, 'place')
        form.addParam('useHalfMaps', params.BooleanParam, default=True, label='Use half maps?',
                      help='Fourier shell correlations of the half maps that the volumes carry, and of each half after the treatment with the other half '
                           'before it.')
        self.addInput(form, 'inputMask', 'VolumeMask,Volume', 'Mask',
                      'Mask for the Fourier shell correlations. Without it 3 Å around the model with a soft edge of 5 Å.', allowsNull=True)
        scores = form.addGroup('Scores')
        self.addEngineParams(scores, Config, 'q_sigma_angst', 'resolution_angst', 'decoys', 'bootstraps', 'seed')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        return self.engineDigest(maps=[[volume, volume.getSamplingRate(), list(volume.getOrigin(force=True).getShifts()), halfMapFiles(volume)]
                                       for volume in self._volumes()],
                                 structure=self.inputStructure.get(), mask=self.inputMask.get(), halves=self.useHalfMaps.get())

    def _volumes(self):
        """The map, or the maps before and after."""
        return [pointer.get() for pointer in (self.inputVolume, self.inputVolumeAfter) if pointer.get() is not None]

    def _halves(self, volume):
        return halfMapFiles(volume) if self.useHalfMaps.get() else []

    def _config(self):
        volumes = self._volumes()
        values = dict(volume=self._getExtraPath('input_map.mrc'), structure=self.inputStructure.get().getFileName())
        if len(volumes) > 1:
            values['volume_after'] = self._getExtraPath('input_map_after.mrc')
        if self.inputMask.get() is not None:
            values['mask'] = self.getMaskFile()
        for volume, prefix, stem in zip(volumes, ('', 'after_'), ('input_map_half', 'input_map_after_half')):
            if self._halves(volume):
                values.update({'%shalf%d' % (prefix, number): self._getExtraPath('%s%d.mrc' % (stem, number)) for number in (1, 2)})
        return self.buildConfig(Config, **values)

    def convertInputStep(self, digest):
        files = []
        for volume, name in zip(self._volumes(), ('input_map', 'input_map_after')):
            files.append(writePlacedVolume(volume, self._getExtraPath(name + '.mrc')))
            if self._halves(volume):
                files += writeHalfMaps(volume, self._getExtraPath(name + '_half'))
        if self.inputMask.get() is not None:
            # a mask belongs to its map, wherever Scipion believes that each of them stands
            mask = self.inputMask.get().clone()
            mask.setOrigin(self._volumes()[0].getOrigin(force=True))
            files.append(writePlacedVolume(mask, self.getMaskFile()))
        return files

    scoreStep = EngineStep('validate-map', SCORES_TABLE, RESIDUES_TABLE, EMRINGER_TABLE, FSC_TABLE, 'summary.json', processes=1)

    def _makeOutputs(self):
        yield 'outputFSCs', self.newSet(SetOfFSCs, fillFscs, makeFscs(self._getExtraPath()))
        names, rows = readScores(self._getExtraPath())
        last = {row['score']: row[names[-1]] for row in rows}
        yield 'outputEmringer', Float(last['emringer_tie_safe'])
        yield 'outputQScore', Float(last['q_score'])

    def _describe(self):
        found, (names, rows) = self._readEngineSummary(), readScores(self._getExtraPath())
        lines = [scoreText(row, names) for row in rows if row['score'] in TOLD]
        lines.append('%d side chains of %d residues; EMRinger of this model cannot pass %.2f.'
                     % (found['side_chains'], found['residues'], found['model_ceiling']))
        if found.get('fsc_cross_masked_angst'):
            lines.append('Half maps after the treatment agree with the other half before it to %.2f Å (FSC 0.143).' % found['fsc_cross_masked_angst'])
        if found['place'] in PLACES:
            lines.append('The map was taken %s: where its header has it, the model is not in its density.' % PLACES[found['place']])
        if found['atoms_outside']:
            lines.append('%d of %d atoms lie outside the map and were not scored.' % (found['atoms_outside'], found['atoms']))
        return lines, ('Maps were scored against the model by EMRinger (one vote a residue, on a grid of at most 0.5 Å), the Q-score (sigma %g Å), '
                       'real-space and Fourier shell correlations; intervals are from %d resamplings of the residues.'
                       % (found['q_sigma_angst'], self.getEngineValue(Config, 'bootstraps')))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        first, after, structure, mask = (pointer.get() for pointer in (self.inputVolume, self.inputVolumeAfter, self.inputStructure, self.inputMask))
        errors = self._validateVolume(first, 'map') + self._validateVolume(after, 'map after')
        errors += missingFiles([structure] if structure is not None else [], "The model's file '%s' does not exist.")
        if errors or first is None:
            return errors
        if after is not None:
            if mapSides(after) != mapSides(first):
                errors.append('The two maps differ in size (%s and %s voxels): resample one onto the grid of the other.' % (mapSides(first), mapSides(after)))
            if not same_pixel_size(after.getSamplingRate(), first.getSamplingRate()):
                errors.append('The two maps differ in sampling rate (%g and %g Å): resample one onto the grid of the other.'
                              % (first.getSamplingRate(), after.getSamplingRate()))
        errors += self._validateMap(mask, 'mask')
        if mask is not None and not errors and mapSides(mask) != mapSides(first):
            errors.append('The mask and the map differ in size: %s and %s.' % (mapSides(mask), mapSides(first)))
        return errors

    def _validateVolume(self, volume, what):
        if volume is None:
            return []
        errors = self._validateMap(volume, what)
        halves = self._halves(volume)
        if halves and len(halves) != 2:
            errors.append('The %s has %d half maps instead of two: say not to use half maps, or give a volume that has both.' % (what, len(halves)))
        return errors + missingFiles(map(plainName, halves), "The half map '%%s' of the %s does not exist." % what)

    def _warnings(self):
        volume, after = self.inputVolume.get(), self.inputVolumeAfter.get()
        if after is not None and volume is not None and self.useHalfMaps.get() and bool(halfMapFiles(volume)) != bool(halfMapFiles(after)):
            return ['Only one of the maps has half maps: without those of both, nothing tells whether the treatment put something in.']
        return []
