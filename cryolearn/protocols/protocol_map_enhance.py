"""Enhancement of a map by a trained network."""

import os

import pyworkflow.protocol.params as params
from pwem.objects import SetOfFSCs, Volume

from ..common.verdicts import enhancement_verdict
from ..convert.enhanced_maps import CONFIDENCE, ENHANCED, FSC_TABLE, HALVES, LOCAL_CORRELATION, UNCERTAINTY, makeEnhancedFscs
from ..convert.fsc import fillFscs
from ..convert.map_scores import halfMapFiles, writeHalfMaps, writePlacedVolume
from ..convert.volumes import makeVolume
from ..engine.map_enhancement.config import MapEnhanceConfig as Config
from .input_checks import missingFiles
from .protocol_base import CryoLearnProtBase, EngineStep

NOT_FOR = 'The enhanced map is for looking and building: do not refine against it, and do not deposit it.'


class CryoLearnProtMapEnhance(CryoLearnProtBase):
    """Enhances a map with a network that has learned what the density of proteins looks like, and says how far the result can be trusted.

    It works right after installation, with a network for maps of 2.5 to 6 Å that comes with the software; "map network: train" makes others.

    Where half maps agree the result is held to the data; what is finer comes from the network. The half maps are enhanced independently of each
    other. That two enhanced half maps agree says nothing, since the network makes like things of noise too: look at the correlation of each
    enhanced half map with the *raw* other one. The uncertainty is the spread over orientations in which the network saw the map. The confidence map
    says where the *input* stands out of its noise (1 minus the false discovery rate). "validate map" scores the result against a model.

    The enhanced map is for looking and building. It has no resolution of its own; do not refine against it and do not deposit it.
    """

    _label = 'enhance map'
    _possibleOutputs = {'outputVolume': Volume, 'outputUncertainty': Volume, 'outputConfidence': Volume, 'outputFSCs': SetOfFSCs}
    _references = ['Mullick2022']
    _madeFrom = ('inputVolume', 'inputModel')

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self.addInput(form, 'inputVolume', 'Volume', 'Map', 'Map with white density. Its half maps are used when it has any.')
        form.addParam('useHalfMaps', params.BooleanParam, default=True, label='Use half maps?',
                      help='The half maps that the map carries tell its resolution, how much of it is signal, and what of the result is real.')
        self.addEngineParam(form, Config, 'resolution_angst')
        self.addInput(form, 'inputModel', 'MapModel', 'Network', 'Empty: the network that comes with the software.', allowsNull=True)
        form.addSection(label='Enhancement')
        self.addEngineParams(form, Config, 'rotations', 'data_consistency', 'keep_sharpness', 'target_angst', 'scale', 'tile_px', 'local_window_angst')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        volume = self.inputVolume.get()
        return self.engineDigest(volume=volume, sampling=volume.getSamplingRate(), origin=list(volume.getOrigin(force=True).getShifts()),
                                 halves=self._halves())

    def _halves(self):
        return halfMapFiles(self.inputVolume.get()) if self.useHalfMaps.get() else []

    def _config(self):
        values = dict(volume=self._getExtraPath('input_map.mrc'))
        if self._halves():
            values.update({'half%d' % number: self._getExtraPath('input_map_half%d.mrc' % number) for number in (1, 2)})
        if self.inputModel.get() is not None:
            values['model'] = self.inputModel.get().getFolder()
        return self.buildConfig(Config, **values)

    def convertInputStep(self, digest):
        files = [writePlacedVolume(self.inputVolume.get(), self._getExtraPath('input_map.mrc'))]
        return files + (writeHalfMaps(self.inputVolume.get(), self._getExtraPath('input_map_half')) if self._halves() else [])

    enhanceStep = EngineStep('map-enhance', ENHANCED, UNCERTAINTY, LOCAL_CORRELATION, 'summary.json',
                             lambda run: [*HALVES, FSC_TABLE] if run._halves() else [], processes=1)

    def _makeOutputs(self):
        halves = [self._getExtraPath(name) for name in HALVES] if self._halves() else None
        for name, file, halfMaps in (('outputVolume', ENHANCED, halves), ('outputUncertainty', UNCERTAINTY, None), ('outputConfidence', CONFIDENCE, None)):
            if file != CONFIDENCE or os.path.exists(self._getExtraPath(file)):  # a masked map without half maps has none
                volume = makeVolume(self._getExtraPath(file), halfMaps)
                volume.setSamplingRate(self.inputVolume.get().getSamplingRate())
                yield name, volume
        if halves:
            yield 'outputFSCs', self.newSet(SetOfFSCs, fillFscs, makeEnhancedFscs(self._getExtraPath()))

    def _describe(self):
        found = self._readEngineSummary()
        lines = ['Map of %.2f Å, enhanced in %d orientation(s) by the network %s.' % (
            found['input_resolution_angst'], found['orientations'],
            'that comes with the software' if self.inputModel.get() is None else '"%s"' % self.inputModel.get().getPreset()),
            'It agrees with the input to %.2f (local correlation inside the molecule).' % found['local_correlation']]
        if 'confident_part' in found:
            lines.append('Of the molecule, %.0f %% stand out of the input\'s noise (false discovery rate 1 %%).' % (100 * found['confident_part']))
        return [*lines, NOT_FOR], (
            'For interpretation only, the map was enhanced by a neural network held to the data by the half maps\' FSC (data consistency %g); '
            'half maps were enhanced independently.' % found['data_consistency'])

    def _verdict(self):
        return enhancement_verdict(self._readEngineSummary())

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        volume = self.inputVolume.get()
        if volume is None:
            return []
        errors = self._validateMap(volume) + missingFiles(self._halves(), "The map '%s' does not exist.")
        if not self._halves() and not self.resolutionAngst.get():
            errors.append('The map brings no half maps: give its resolution.')
        resolution, model = self.resolutionAngst.get(), self.inputModel.get()
        if resolution and model is not None and model.getDegradation() == 'physics':
            finest, coarsest = model.getResolutions()
            if not 0.9 * finest <= resolution <= coarsest / 0.9:
                errors.append('The resolution is %g Å, but the network was trained on maps of %g to %g Å.' % (resolution, finest, coarsest))
        return errors

    def _warnings(self):
        if self.inputVolume.get() is not None and not self._halves():
            return ['Without half maps nothing can tell what of the result is real: import the map with its half maps if there are any.']
        return []
