"""A map as Gaussians (pseudo-atoms)."""

import pyworkflow.protocol.params as params
from pwem.objects import AtomStruct, SetOfFSCs, Volume

from ..common.fsc import TRUTH_THRESHOLD, read_curve, resolution_of_curve, resolution_text
from ..convert.fsc import makeFsc
from ..convert.volumes import makeVolume, writeVolume
from ..engine.imaging.config import VolumeToGaussiansConfig
from .protocol_base import CryoLearnProtBase


class CryoLearnProtVolumeToGaussians(CryoLearnProtBase):
    """Represents a map by Gaussians. They are written as pseudo-atoms (occupancy: relative weight, B factor: width), which have
    normal modes like atoms have; the map that they make and its Fourier shell correlation with the input come with them.
    """

    _label = 'volume to Gaussians'
    _possibleOutputs = {'outputStructure': AtomStruct, 'outputVolume': Volume, 'outputFSCs': SetOfFSCs}

    def _defineParams(self, form):
        self._defineGpuParams(form)
        Config = VolumeToGaussiansConfig
        form.addSection(label='Input')
        form.addParam('inputVolume', params.PointerParam, pointerClass='Volume', label='Map', important=True, help='Map to represent.')
        form.addParam('inputMask', params.PointerParam, pointerClass='VolumeMask,Volume', allowsNull=True, label='Mask',
                      help='Where Gaussians may be. Without it the map is thresholded.')
        self.addEngineParam(form, Config, 'threshold', condition='not inputMask')
        gaussians = form.addGroup('Gaussians')
        self.addEngineParams(gaussians, Config, 'resolution_angst', 'number', 'spacing')
        self.addEngineParams(gaussians, Config, 'spacing', 'iterations', 'seed')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        inputs = self.engineDigest(volume=self.inputVolume.get(), mask=self.inputMask.get(), pixel=self.inputVolume.get().getSamplingRate())
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.fitStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _files(self):
        """``{file in extra: object}`` of the maps that the engine is given."""
        files = {self._getExtraPath('input_volume.mrc'): self.inputVolume.get()}
        if self.inputMask.get() is not None:
            files[self._getExtraPath('input_mask.mrc')] = self.inputMask.get()
        return files

    def _config(self):
        volume, mask = (list(self._files()) + [''])[:2]
        return self.buildConfig(VolumeToGaussiansConfig, volume=volume, mask=mask, output=self._getExtraPath())

    def convertInputStep(self, digest):
        return [writeVolume(volume, path) for path, volume in self._files().items()]

    def fitStep(self, digest):
        self.runEngine('volume-to-gaussians', self._config())
        return [self._getExtraPath(name) for name in ('gaussians.pdb', 'rendered.mrc', 'fsc.csv')]

    def createOutputStep(self, digest):
        volume = makeVolume(self._getExtraPath('rendered.mrc'))
        structure = AtomStruct(filename=self._getExtraPath('gaussians.pdb'), pseudoatoms=True)
        structure.setVolume(volume.clone())
        fscs = SetOfFSCs.create(self._getPath())
        fscs.append(makeFsc(self._getExtraPath('fsc.csv'), 'Gaussians against map'))
        self._defineOutputs(outputStructure=structure, outputVolume=volume, outputFSCs=fscs)
        for output in (structure, volume, fscs):
            self._defineSourceRelation(self.inputVolume, output)
        self._describe()
        return [self._getExtraPath('gaussians.pdb'), fscs.getFileName()]

    def _describe(self):
        found = resolution_of_curve(*read_curve(self._getExtraPath('fsc.csv')), threshold=TRUTH_THRESHOLD)
        with open(self._getExtraPath('gaussians.pdb')) as handle:
            count = sum(line.startswith(('ATOM', 'HETATM')) for line in handle)
        self._setSummary('%d Gaussians agree with the map to %s (FSC %g).' % (count, resolution_text(found), TRUTH_THRESHOLD))
        self._setMethods('The map was represented by %d Gaussians, which agree with it to %s (FSC %g).'
                         % (count, resolution_text(found), TRUTH_THRESHOLD))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        errors = self._validateEngine()
        volume, mask = self.inputVolume.get(), self.inputMask.get()
        if volume is None:
            return errors
        if not volume.getSamplingRate():
            errors.append('The map has no sampling rate.')
        dim = volume.getDim()
        if dim is None:
            return errors + ["The map's file '%s' does not exist." % volume.getFileName()]
        if len(set(dim)) > 1:
            errors.append('The map is %d x %d x %d voxels: it must be a cube.' % tuple(dim))
        if mask is not None and mask.getDim() != dim:
            errors.append('The mask and the map differ in size: %s and %s.' % (mask.getDim(), dim))
        if self.resolutionAngst.get() and volume.getSamplingRate() and self.resolutionAngst.get() < 2 * volume.getSamplingRate():
            errors.append('A resolution of %g Å is finer than two pixels (%g Å).' % (self.resolutionAngst.get(), 2 * volume.getSamplingRate()))
        return errors

    def _warnings(self):
        if self.number.get() > 50000:
            return ['%d Gaussians are many: normal modes of so many pseudo-atoms take long.' % self.number.get()]
        return []
