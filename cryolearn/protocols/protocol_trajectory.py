"""Conformations along a path through the landscape."""

import pyworkflow.protocol.params as params
from pwem.objects import SetOfAtomStructFlex, SetOfClasses, SetOfVolumesFlex

from ..convert.classes import iterMembers, writeClasses
from ..convert.flex import latentLength, modeNumbers, writeLatentItems, writeLatents
from ..convert.modes import checkModeNumbers
from ..convert.structures import fillStructures, fillVolumes
from ..engine.landscape.config import TrajectoryConfig
from .protocol_elastic_base import CryoLearnProtElasticBase, addModesParam

PRINCIPAL_AXIS, POINTS, CLUSTERS, FRAMES = range(4)


class CryoLearnProtTrajectory(CryoLearnProtElasticBase):
    """Writes conformations along a path through the landscape, as structures and as maps: along a principal axis of the
    amplitudes, through points of the landscape, or through the centres of classes. ChimeraX opens the animated trajectory with
    the script trajectory.cxc in the run's folder.
    """

    _label = 'trajectory'
    _possibleOutputs = {'outputStructures': SetOfAtomStructFlex, 'outputVolumes': SetOfVolumesFlex}

    def _defineParams(self, form):
        Config = TrajectoryConfig
        form.addSection(label='Input')
        form.addParam('inputSet', params.PointerParam, pointerClass='SetOfParticlesFlex,SetOfClassesFlex', label='Particles or classes',
                      important=True, help='Particles with amplitudes of normal modes, or classes of them ("cluster landscape").')
        addModesParam(form, 'The normal modes that the amplitudes belong to.')
        self.addEngineParam(form, Config, 'mode_numbers', default='',
                            help='Modes that the amplitudes belong to, in their order. Empty: as noted in the set of particles.')
        form.addSection(label='Path')
        self.addEngineParam(form, Config, 'path')
        self.addEngineParams(form, Config, 'axis', 'extent_percent', condition='path == %d' % PRINCIPAL_AXIS)
        self.addEngineParam(form, Config, 'points', condition="path == %d or path == %d" % (POINTS, FRAMES))
        self.addEngineParam(form, Config, 'frames', condition="path != %d" % FRAMES)
        self.addEngineParam(form, Config, 'geometry')
        maps = form.addGroup('Maps')
        self.addEngineParam(maps, Config, 'volumes')
        maps.addParam('box', params.IntParam, default=0, condition='volumes', label='Box size (px)', validators=[params.GE(0, 'must be at least 0.')],
                      help='Side of the maps in pixels; 0 takes that of the particles.')
        maps.addParam('pixelSizeAngst', params.FloatParam, default=0., condition='volumes', label='Pixel size (Å)',
                      validators=[params.GE(0, 'must be at least 0.')], help='Å a pixel; 0 takes that of the particles.')
        form.addParallelSection(threads=2, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        inputs = self.engineDigest(inputSet=self.inputSet.get(), modes=self._modesDigest(), path=self.path.get())
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.trajectoryStep, digest, needsGPU=False)
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _config(self):
        particles = self._particles()
        return self.buildConfig(
            TrajectoryConfig, table=self.getTableFile(), column='amplitudes', modes=self.getModesFile(), mode_numbers=self._modeNumbers(),
            clusters=self.getClustersFile() if self.path.get() == CLUSTERS else '', box=self.box.get() or particles.getXDim(),
            pixel_size_angst=self.pixelSizeAngst.get() or particles.getSamplingRate(), output=self._getExtraPath())

    def getTableFile(self):
        return self._getExtraPath('input_landscape.npz')

    def getClustersFile(self):
        return self._getExtraPath('input_clusters.npz')

    def _hasClasses(self):
        return isinstance(self.inputSet.get(), SetOfClasses)

    def _particles(self):
        """The particles, or those that were classified."""
        return self.inputSet.get().getImages() if self._hasClasses() else self.inputSet.get()

    def _modeNumbers(self):
        return self.getEngineValue(TrajectoryConfig, 'mode_numbers') or modeNumbers(self._particles())

    def convertInputStep(self, digest):
        self.convertModes()
        if not self._hasClasses():
            writeLatents(self.inputSet.get(), self.getTableFile(), self.inputSet.get().getXDim())
            return [self.getTableFile()]
        members = {}

        def items():
            for number, particle in iterMembers(self.inputSet.get()):
                members[particle.getObjId()] = number
                yield particle
        writeLatentItems(items(), self._particles(), self.getTableFile(), self._particles().getXDim())
        writeClasses(members, self.getClustersFile())
        return [self.getTableFile(), self.getClustersFile()]

    def trajectoryStep(self, digest):
        self.runEngine('trajectory', self._config())
        return [self._getExtraPath(name) for name in ('trajectory.npz', 'trajectory.pdb', 'trajectory.cxc')]

    def createOutputStep(self, digest):
        structures = SetOfAtomStructFlex.create(self._getPath())
        fillStructures(structures, self._getExtraPath())
        outputs = {'outputStructures': structures}
        if self.volumes.get():
            outputs['outputVolumes'] = SetOfVolumesFlex.create(self._getPath())
            fillVolumes(outputs['outputVolumes'], self._getExtraPath())
        self._defineOutputs(**outputs)
        for output in outputs.values():
            self._defineSourceRelation(self.inputSet, output)
            self._defineSourceRelation(self.inputModes, output)
        self._describe()
        return [output.getFileName() for output in outputs.values()]

    def _describe(self):
        found = self._readEngineSummary(self._getExtraPath())
        self._setSummary(
            '%d conformations, up to %.2f Å RMSD from the reference.' % (found['frames'], found['largest_rmsd_angst']),
            'Geometry "%s": at worst %.1f %% of the bonds are off by more than 0.2 Å, %d contacts below 2 Å.'
            % (found['geometry'], found['bonds_off_percent'], found['clashes']),
            'ChimeraX: open %s' % self._getExtraPath('trajectory.cxc'))
        self._setMethods('%d conformations along %s of the conformational landscape were computed (%s geometry).' % (
            found['frames'], ('principal axis %d' % self.axis.get(), 'a path', 'the class centres', 'points')[self.path.get()], found['geometry']))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        inputSet = self.inputSet.get()
        errors = self._validateEngine()
        if inputSet is None or self.inputModes.get() is None:
            return errors
        errors += self._validateParticles(self._particles())
        if self.path.get() == CLUSTERS and not self._hasClasses():
            errors.append('A path through classes needs a set of classes as input.')
        if errors:
            return errors
        length, numbers = latentLength(self._particles()), self._modeNumbers()
        if length == 0:
            return ['The particles have no latent vectors: align or predict them first.']
        if not numbers:
            return ['The set of particles does not say which modes its amplitudes belong to: fill in the modes.']
        errors += self._validateModes() or checkModeNumbers(self.inputModes.get(), numbers)
        if not errors and len(numbers) != length:
            errors.append('%d modes are given, but the particles have %d amplitudes each.' % (len(numbers), length))
        if self.path.get() == PRINCIPAL_AXIS and self.axis.get() > length:
            errors.append('Principal axis %d does not exist: the particles have %d amplitudes.' % (self.axis.get(), length))
        if self.path.get() in (POINTS, FRAMES):
            count = len(self.getEngineValue(TrajectoryConfig, 'points'))
            if count == 0 or count % length:
                errors.append('The path has %d numbers, but each of its points takes %d.' % (count, length))
        return errors

    def _citations(self):
        return ['Hamitouche2021']
