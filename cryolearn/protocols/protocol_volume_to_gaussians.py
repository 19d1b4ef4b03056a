"""A map as Gaussians (pseudo-atoms)."""

from pwem.objects import AtomStruct, SetOfFSCs, Volume

from ..common.fsc import TRUTH_THRESHOLD, read_curve, resolution_of_curve, resolution_text
from ..convert.files import mapSides
from ..convert.fsc import fillFscs, makeFsc
from ..convert.volumes import makeVolume, writeVolume
from ..engine.imaging.config import VolumeToGaussiansConfig
from .protocol_base import CryoLearnProtBase, EngineStep

GAUSSIANS, RENDERED, FSC_FILE = 'gaussians.pdb', 'rendered.mrc', 'fsc.csv'


class CryoLearnProtVolumeToGaussians(CryoLearnProtBase):
    """Represents a map by Gaussians. They are written as pseudo-atoms (occupancy: relative weight, B factor: width), which have
    normal modes like atoms have; the map that they make and its Fourier shell correlation with the input come with them.
    """

    _label = 'volume to Gaussians'
    _possibleOutputs = {'outputStructure': AtomStruct, 'outputVolume': Volume, 'outputFSCs': SetOfFSCs}
    _madeFrom = ('inputVolume',)

    def _defineParams(self, form):
        self._defineGpuParams(form)
        Config = VolumeToGaussiansConfig
        form.addSection(label='Input')
        self.addInput(form, 'inputVolume', 'Volume', 'Map', 'Map to represent.')
        self.addInput(form, 'inputMask', 'VolumeMask,Volume', 'Mask', 'Where Gaussians may be. Without it the map is thresholded.', allowsNull=True)
        self.addEngineParam(form, Config, 'threshold', condition='not inputMask')
        gaussians = form.addGroup('Gaussians')
        self.addEngineParams(gaussians, Config, 'resolution_angst', 'number', 'spacing')
        self.addEngineParams(gaussians, Config, 'spacing', 'iterations', 'seed')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        return self.engineDigest(volume=self.inputVolume.get(), mask=self.inputMask.get(), pixel=self.inputVolume.get().getSamplingRate())

    def _files(self):
        """``{file in extra: object}`` of the maps that the engine is given."""
        files = {self._getExtraPath('input_volume.mrc'): self.inputVolume.get()}
        if self.inputMask.get() is not None:
            files[self._getExtraPath('input_mask.mrc')] = self.inputMask.get()
        return files

    def _config(self):
        volume, mask = (list(self._files()) + [''])[:2]
        return self.buildConfig(VolumeToGaussiansConfig, volume=volume, mask=mask)

    def convertInputStep(self, digest):
        return [writeVolume(volume, path) for path, volume in self._files().items()]

    fitStep = EngineStep('volume-to-gaussians', GAUSSIANS, RENDERED, FSC_FILE)

    def _makeOutputs(self):
        volume = makeVolume(self._getExtraPath(RENDERED))
        structure = AtomStruct(filename=self._getExtraPath(GAUSSIANS), pseudoatoms=True)
        structure.setVolume(volume.clone())
        yield 'outputStructure', structure
        yield 'outputVolume', volume
        yield 'outputFSCs', self.newSet(SetOfFSCs, fillFscs, [makeFsc(self._getExtraPath(FSC_FILE), 'Gaussians against map')])

    def _describe(self):
        found = resolution_of_curve(*read_curve(self._getExtraPath(FSC_FILE)), threshold=TRUTH_THRESHOLD)
        with open(self._getExtraPath(GAUSSIANS)) as handle:
            count = sum(line.startswith(('ATOM', 'HETATM')) for line in handle)
        agreement = count, resolution_text(found), TRUTH_THRESHOLD
        return (['%d Gaussians agree with the map to %s (FSC %g).' % agreement],
                'The map was represented by %d Gaussians, which agree with it to %s (FSC %g).' % agreement)

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        volume, mask = self.inputVolume.get(), self.inputMask.get()
        if volume is None:
            return []
        errors = self._validateMap(volume) + self._validateMap(mask, 'mask')
        if errors:
            return errors
        dim = mapSides(volume)
        if len(set(dim)) > 1:
            errors.append('The map is %d x %d x %d voxels: it must be a cube.' % dim)
        if mask is not None and mapSides(mask) != dim:
            errors.append('The mask and the map differ in size: %s and %s.' % (mapSides(mask), dim))
        if self.resolutionAngst.get() and volume.getSamplingRate() and self.resolutionAngst.get() < 2 * volume.getSamplingRate():
            errors.append('A resolution of %g Å is finer than two pixels (%g Å).' % (self.resolutionAngst.get(), 2 * volume.getSamplingRate()))
        return errors

    def _warnings(self):
        if self.number.get() > 50000:
            return ['%d Gaussians are many: normal modes of so many pseudo-atoms take long.' % self.number.get()]
        return []
