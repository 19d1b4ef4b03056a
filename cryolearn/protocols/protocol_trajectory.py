"""Conformations along a path through the landscape."""

import os
from typing import Dict

import pyworkflow.protocol.params as params
from pwem.objects import SetOfAtomStructFlex, SetOfClasses, SetOfVolumesFlex

from ..common.limits import same_pixel_size
from ..convert.classes import particlesOf, writeClasses
from ..convert.flex import latentLength, modeNumbers, writeLatentItems, writeLatents
from ..convert.modes import checkModeNumbers
from ..convert.motions import describeMotion
from ..convert.structures import fillStructures, fillVolumes, modelsFile
from ..convert.volumes import writeVolume
from ..engine.config import help_of
from ..engine.landscape.config import TrajectoryConfig
from .config_params import isChoice, isNotChoice
from .protocol_elastic_base import CryoLearnProtElasticBase


class CryoLearnProtTrajectory(CryoLearnProtElasticBase):
    """Writes conformations along a path through the landscape, as structures and as maps: along a principal axis of the
    amplitudes, through points of the landscape, or through the centres of classes. ChimeraX opens the animated trajectory with
    the script trajectory.cxc in the run's folder.

    Particles of elastic alignment or of the network need the normal modes that their amplitudes belong to. Particles of
    "Gaussian heterogeneity" bring their motion along: their conformations are Gaussian models (pseudo-atoms).
    """

    _label = 'trajectory'
    _possibleOutputs = {'outputStructures': SetOfAtomStructFlex, 'outputVolumes': SetOfVolumesFlex}

    def _defineParams(self, form):
        Config = TrajectoryConfig
        form.addSection(label='Input')
        form.addParam('inputSet', params.PointerParam, pointerClass='SetOfParticlesFlex,SetOfClassesFlex', label='Particles or classes',
                      important=True, help='Particles with amplitudes of normal modes or with places on a Gaussian model\'s motion, or classes of them '
                                           '("cluster landscape").')
        form.addParam('inputModes', params.PointerParam, pointerClass='SetOfNormalModes', allowsNull=True, label='Normal modes',
                      help='The normal modes that the amplitudes belong to. Particles of "Gaussian heterogeneity" need none; where the set '
                           'has lost its motion, give the eigen-motions of that run.')
        self.addEngineParam(form, Config, 'mode_numbers', default='', condition='inputModes',
                            help='Modes that the amplitudes belong to, in their order. Empty: as noted in the set of particles.')
        form.addSection(label='Path')
        self.addEngineParam(form, Config, 'path')
        self.addEngineParams(form, Config, 'axis', 'extent_percent', condition=isChoice(Config, 'path', 'pca'))
        self.addEngineParam(form, Config, 'points', condition=isChoice(Config, 'path', 'points', 'frames'))
        self.addEngineParam(form, Config, 'frames', condition=isNotChoice(Config, 'path', 'frames'))
        self.addEngineParam(form, Config, 'geometry', condition='inputModes')
        maps = form.addGroup('Maps')
        self.addEngineParam(maps, Config, 'volumes')
        maps.addParam('inputVolume', params.PointerParam, pointerClass='Volume', allowsNull=True, condition='volumes and not inputModes',
                      label='Consensus map (optional)', help=help_of(Config, 'consensus'))
        maps.addParam('box', params.IntParam, default=0, condition='volumes', label='Box size (px)', validators=[params.GE(0, 'must be at least 0.')],
                      help='Side of the maps in pixels; 0 takes that of the particles.')
        maps.addParam('pixelSizeAngst', params.FloatParam, default=0., condition='volumes', label='Pixel size (Å)',
                      validators=[params.GE(0, 'must be at least 0.')], help='Å a pixel; 0 takes that of the particles.')
        form.addParallelSection(threads=2, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        motion = self.getMotionFile(self.particles())
        inputs = self.engineDigest(inputSet=self.inputSet.get(), motion=motion or self._modesDigest(), path=self.path.get(),
                                   consensus=self.inputVolume.get() if self._onConsensus() else None)
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.trajectoryStep, digest, needsGPU=False)
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _config(self):
        particles = self.particles()
        return self.buildConfig(
            TrajectoryConfig, table=self.getTableFile(), column='amplitudes', **self._motionValues(particles, self._modeNumbers()),
            clusters=self.getClustersFile() if self.getEngineValue(TrajectoryConfig, 'path') == 'clusters' else '', box=self.box.get() or particles.getXDim(),
            pixel_size_angst=self.pixelSizeAngst.get() or particles.getSamplingRate(),
            consensus=self.getConsensusFile() if self._onConsensus() else '', output=self._getExtraPath())

    def getTableFile(self):
        return self._getExtraPath('input_landscape.npz')

    def getClustersFile(self):
        return self._getExtraPath('input_clusters.npz')

    def getConsensusFile(self):
        return self._getExtraPath('input_consensus.mrc')

    def _onConsensus(self):
        """Whether frames of a Gaussian model are built on the consensus map."""
        return bool(self.volumes.get() and self.inputVolume.get() is not None and self.getMotionFile(self.particles()))

    def _hasClasses(self):
        return isinstance(self.inputSet.get(), SetOfClasses)

    def particles(self):
        """The particles, or those that were classified."""
        return self.inputSet.get().getImages() if self._hasClasses() else self.inputSet.get()

    def _modeNumbers(self):
        return self.getEngineValue(TrajectoryConfig, 'mode_numbers') or modeNumbers(self.particles())

    def _subunit(self):
        """Latents of one subunit of a particle; None when its vector is that of one motion."""
        motion = self.getMotionFile(self.particles())
        return describeMotion(motion)['latents'] if motion else None

    def convertInputStep(self, digest):
        if not self.getMotionFile(self.particles()):
            self.convertModes()
        files = [self.getTableFile()]
        if self._onConsensus():
            writeVolume(self.inputVolume.get(), self.getConsensusFile())
            files.append(self.getConsensusFile())
        if not self._hasClasses():
            writeLatents(self.inputSet.get(), self.getTableFile(), self.inputSet.get().getXDim(), self._subunit())
            return files
        members: Dict[int, int] = {}
        writeLatentItems(particlesOf(self.inputSet.get(), members), self.particles(), self.getTableFile(), self.particles().getXDim())
        writeClasses(members, self.getClustersFile())
        return files + [self.getClustersFile()]

    def trajectoryStep(self, digest):
        self.runEngine('trajectory', self._config())
        return [self._getExtraPath('trajectory.npz'), modelsFile(self._getExtraPath()), self._getExtraPath('trajectory.cxc')]

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
            if self.inputModes.get() is not None:
                self._defineSourceRelation(self.inputModes, output)
            if self._onConsensus():
                self._defineSourceRelation(self.inputVolume, output)
        self._describe()
        return [output.getFileName() for output in outputs.values()]

    def _describe(self):
        found = self._readEngineSummary(self._getExtraPath())
        lines = ['%d conformations, up to %.2f Å RMSD from the reference.' % (found['frames'], found['largest_rmsd_angst'])]
        atoms = not self.getMotionFile(self.particles())
        if atoms:
            lines.append('Geometry "%s": at worst %.1f %% of the bonds are off by more than 0.2 Å, %d contacts below 2 Å.'
                         % (found['geometry'], found['bonds_off_percent'], found['clashes']))
        lines.append('ChimeraX: open %s' % self._getExtraPath('trajectory.cxc'))
        if os.path.exists(self._getExtraPath('movie.mrc')):
            lines.append('All maps as one series: %s' % self._getExtraPath('movie.mrc'))
        self._setSummary(*lines)
        self._setMethods('%d conformations along %s of the conformational landscape were computed (%s).' % (
            found['frames'], ('principal axis %d' % self.axis.get(), 'a path', 'the class centres', 'points')[self.path.get()],
            '%s geometry' % found['geometry'] if atoms else 'Gaussian model'))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        errors = self._validateEngine()
        if self.inputSet.get() is None:
            return errors
        particles = self.particles()
        errors += self._validateParticles(particles)
        if self.getEngineValue(TrajectoryConfig, 'path') == 'clusters' and not self._hasClasses():
            errors.append('A path through classes needs a set of classes as input.')
        if errors:
            return errors
        length = latentLength(particles)
        if length == 0:
            return ['The particles have no latent vectors: align or predict them first.']
        if self.getMotionFile(particles):
            errors += self._validateMotion(particles)
            length = length if errors else self._subunit()
            errors += self._validateConsensus(particles)
            if not errors and latentLength(particles) != length and self._hasClasses():
                errors.append('Classes of particles with several subunits have no path of one subunit: give the particles.')
        else:
            errors += self._validateAmplitudes(particles, length)
        if self.getEngineValue(TrajectoryConfig, 'path') == 'pca' and self.axis.get() > length:
            errors.append('Principal axis %d does not exist: the particles have %d amplitudes.' % (self.axis.get(), length))
        if self.getEngineValue(TrajectoryConfig, 'path') in ('points', 'frames'):
            count = len(self.getEngineValue(TrajectoryConfig, 'points'))
            if count == 0 or count % length:
                errors.append('The path has %d numbers, but each of its points takes %d.' % (count, length))
        return errors

    def _validateConsensus(self, particles):
        if not self._onConsensus():
            return []
        given = self.inputVolume.get().getXDim(), self.inputVolume.get().getSamplingRate()
        if given[0] != particles.getXDim() or not same_pixel_size(particles.getSamplingRate(), given[1]):
            return ['The consensus map has %d px of %.3g Å, but the particles have %d px of %.3g Å: give the map that the motion was found with.'
                    % (*given, particles.getXDim(), particles.getSamplingRate())]
        if (self.box.get() or given[0], self.pixelSizeAngst.get() or given[1]) != given:
            return ['Frames on the consensus map have its box and pixel size: leave both at 0, or leave the map out.']
        return []

    def _validateAmplitudes(self, particles, length):
        """Sentences about normal modes that the particles' amplitudes cannot belong to."""
        numbers = self._modeNumbers()
        if self.inputModes.get() is None:
            return ['Give the normal modes that the amplitudes belong to: the particles bring no motion of their own.']
        if not numbers:
            return ['The set of particles does not say which modes its amplitudes belong to: fill in the modes.']
        errors = self._validateModes() or checkModeNumbers(self.inputModes.get(), numbers)
        if not errors and len(numbers) != length:
            errors.append('%d modes are given, but the particles have %d amplitudes each.' % (len(numbers), length))
        return errors

    def _citations(self):
        gaussian = self.inputSet.get() is not None and self.getMotionFile(self.particles())
        return ['Chen2018' if gaussian else 'Hamitouche2021']
