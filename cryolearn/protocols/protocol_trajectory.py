"""Conformations along a path through the landscape."""

import os
from typing import Dict

import pyworkflow.protocol.params as params
from pwem.objects import SetOfAtomStructFlex, SetOfClasses, SetOfVolumesFlex

from ..common.limits import same_pixel_size
from ..convert.classes import particlesOf, writeClasses
from ..convert.files import mapSides
from ..convert.flex import latentLength
from ..convert.latents import writeLatents
from ..convert.motions import describeMotion
from ..convert.structures import fillStructures, fillVolumes, modelsFile
from ..convert.volumes import writeVolume
from ..engine.config import help_of
from ..engine.landscape.config import TrajectoryConfig
from .config_params import isChoice, isNotChoice
from .protocol_base import EngineStep
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
    _madeFrom = ('inputSet', 'inputModes')

    def _defineParams(self, form):
        Config = TrajectoryConfig
        form.addSection(label='Input')
        self.addInput(form, 'inputSet', 'SetOfParticlesFlex,SetOfClassesFlex', 'Particles or classes',
                      'Particles with amplitudes of normal modes or with places on a Gaussian model\'s motion, or classes of them '
                      '("cluster landscape").')
        self.addModes(form, 'The normal modes that the amplitudes belong to. Particles of "Gaussian heterogeneity" need none; where the set '
                            'has lost its motion, give the eigen-motions of that run.', allowsNull=True)
        self._addModeNumbers(form)
        form.addSection(label='Path')
        self.addEngineParam(form, Config, 'path')
        self.addEngineParams(form, Config, 'axis', 'extent_percent', condition=isChoice(Config, 'path', 'pca'))
        self.addEngineParam(form, Config, 'points', condition=isChoice(Config, 'path', 'points', 'frames'))
        self.addEngineParam(form, Config, 'frames', condition=isNotChoice(Config, 'path', 'frames'))
        self.addEngineParam(form, Config, 'geometry', condition='inputModes')
        maps = form.addGroup('Maps')
        self.addEngineParam(maps, Config, 'volumes')
        self.addInput(maps, 'inputVolume', 'Volume', 'Consensus map (optional)', help_of(Config, 'consensus'), allowsNull=True,
                      condition='volumes and not inputModes')
        maps.addParam('box', params.IntParam, default=0, condition='volumes', label='Box size (px)', validators=[params.GE(0, 'must be at least 0.')],
                      help='Side of the maps in pixels; 0 takes that of the particles.')
        maps.addParam('pixelSizeAngst', params.FloatParam, default=0., condition='volumes', label='Pixel size (Å)',
                      validators=[params.GE(0, 'must be at least 0.')], help='Å a pixel; 0 takes that of the particles.')
        form.addParallelSection(threads=2, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        motion = self.getMotionFile(self.particles())
        return self.engineDigest(inputSet=self.inputSet.get(), motion=motion or self._modesDigest(), path=self.path.get(),
                                 consensus=self.inputVolume.get() if self._onConsensus() else None)

    def _config(self):
        particles = self.particles()
        return self.buildConfig(
            TrajectoryConfig, table=self.getTableFile(), column='amplitudes', **self._motionValues(particles),
            clusters=self.getClustersFile() if self.getEngineValue(TrajectoryConfig, 'path') == 'clusters' else '', box=self.box.get() or particles.getXDim(),
            pixel_size_angst=self.pixelSizeAngst.get() or particles.getSamplingRate(),
            consensus=self.getConsensusFile() if self._onConsensus() else '')

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
        writeLatents(self.particles(), self.getTableFile(), self.particles().getXDim(), items=particlesOf(self.inputSet.get(), members))
        writeClasses(members, self.getClustersFile())
        return files + [self.getClustersFile()]

    trajectoryStep = EngineStep('trajectory', 'trajectory.npz', lambda run: [os.path.basename(modelsFile(run._getExtraPath()))], 'trajectory.cxc')

    def _makeOutputs(self):
        yield 'outputStructures', self.newSet(SetOfAtomStructFlex, fillStructures, self._getExtraPath())
        if self.volumes.get():
            yield 'outputVolumes', self.newSet(SetOfVolumesFlex, fillVolumes, self._getExtraPath())

    def _sources(self, name=''):
        return super()._sources(name) + ([self.inputVolume] if self._onConsensus() else [])

    def _describe(self):
        found = self._readEngineSummary()
        lines = ['%d conformations, up to %.2f Å RMSD from the reference.' % (found['frames'], found['largest_rmsd_angst'])]
        atoms = not self.getMotionFile(self.particles())
        if atoms:
            lines.append('Geometry "%s": at worst %.1f %% of the bonds are off by more than 0.2 Å, %d contacts below 2 Å.'
                         % (found['geometry'], found['bonds_off_percent'], found['clashes']))
        lines.append('ChimeraX: open %s' % self._getExtraPath('trajectory.cxc'))
        if os.path.exists(self._getExtraPath('movie.mrc')):
            lines.append('All maps as one series: %s' % self._getExtraPath('movie.mrc'))
        along = ('principal axis %d' % self.axis.get(), 'a path', 'the class centres', 'points')[self.path.get()]
        return lines, ('%d conformations along %s of the conformational landscape were computed (%s).' % (
            found['frames'], along, '%s geometry' % found['geometry'] if atoms else 'Gaussian model'))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        if self.inputSet.get() is None:
            return []
        particles, path = self.particles(), self.getEngineValue(TrajectoryConfig, 'path')
        errors = self._validateLatents(particles)
        if path == 'clusters' and not self._hasClasses():
            errors.append('A path through classes needs a set of classes as input.')
        if errors:
            return errors
        length = latentLength(particles)
        if self.getMotionFile(particles):
            errors += self._validateMotion(particles)
            length = length if errors else self._subunit()
            errors += self._validateConsensus(particles)
            if not errors and latentLength(particles) != length and self._hasClasses():
                errors.append('Classes of particles with several subunits have no path of one subunit: give the particles.')
        else:
            errors += self._validateAmplitudes(particles)
        if path == 'pca' and self.axis.get() > length:
            errors.append('Principal axis %d does not exist: the particles have %d amplitudes.' % (self.axis.get(), length))
        if path in ('points', 'frames'):
            count = len(self.getEngineValue(TrajectoryConfig, 'points'))
            if count == 0 or count % length:
                errors.append('The path has %d numbers, but each of its points takes %d.' % (count, length))
        return errors

    def _validateConsensus(self, particles):
        if not self._onConsensus():
            return []
        unread = self._validateMap(self.inputVolume.get(), 'consensus map')
        if unread:
            return unread
        given = mapSides(self.inputVolume.get())[0], self.inputVolume.get().getSamplingRate()
        if given[0] != particles.getXDim() or not same_pixel_size(particles.getSamplingRate(), given[1]):
            return ['The consensus map has %d px of %.3g Å, but the particles have %d px of %.3g Å: give the map that the motion was found with.'
                    % (*given, particles.getXDim(), particles.getSamplingRate())]
        if (self.box.get() or given[0], self.pixelSizeAngst.get() or given[1]) != given:
            return ['Frames on the consensus map have its box and pixel size: leave both at 0, or leave the map out.']
        return []

    def _citations(self):
        gaussian = self.inputSet.get() is not None and self.getMotionFile(self.particles())
        return ['Chen2018' if gaussian else 'Hamitouche2021']
