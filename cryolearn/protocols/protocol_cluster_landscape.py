"""Reduction of a landscape to a few axes, and groups of its particles."""

import numpy as np
from pwem.objects import SetOfAtomStructFlex, SetOfClassesFlex, SetOfParticlesFlex

from ..common.choices import choices_of
from ..common.tables import read_table
from ..convert.classes import fillClasses
from ..convert.flex import PROGRAM, appendReduced, latentLength
from ..convert.latents import writeLatents
from ..convert.motions import describeMotion
from ..convert.structures import fillStructures
from ..engine.config import default_of
from ..engine.landscape.config import ClusterLandscapeConfig, TrajectoryConfig
from .protocol_base import EngineStep
from .protocol_elastic_base import CryoLearnProtElasticBase

CLUSTERS_TABLE, MEANS_TABLE = 'clusters.npz', 'representatives.npz'
REDUCTIONS_WITHOUT_PLACE = ('tsne', 'umap')
NOT_INSTALLED = ('umap',)  # the last of the choices, so that the others keep their places


class CryoLearnProtClusterLandscape(CryoLearnProtElasticBase):
    """Reduces the conformational landscape of a set of particles to a few axes and groups the particles.

    The output classes can be reconstructed ("reconstruct"); the output particles carry the reduced coordinates. With normal
    modes given, and for particles of "Gaussian heterogeneity", the mean conformation of each class is written as a structure
    too. Works on any set with latent vectors.
    """

    _label = 'cluster landscape'
    _possibleOutputs = {'outputParticles': SetOfParticlesFlex, 'outputClasses': SetOfClassesFlex, 'outputStructures': SetOfAtomStructFlex}

    def _defineParams(self, form):
        Config = ClusterLandscapeConfig
        form.addSection(label='Input')
        self.addParticles(form, 'SetOfParticlesFlex',
                          'Particles with latent vectors: amplitudes of elastic alignment or of the network, or those of another program.')
        self.addModes(form, 'Optional. With the modes that the amplitudes belong to, the mean conformation of each class is written as a structure. '
                            'Particles of "Gaussian heterogeneity" need none.', allowsNull=True)
        self._addModeNumbers(form)
        form.addSection(label='Landscape')
        self.addEngineParam(form, Config, 'reduction', choices=[name for name in choices_of(Config, 'reduction') if name not in NOT_INSTALLED])
        self.addEngineParam(form, Config, 'dimensions')
        clusters = form.addGroup('Clusters')
        self.addEngineParams(clusters, Config, 'method', 'clusters')
        self.addEngineParams(clusters, Config, 'drop_flagged', 'seed')
        form.addParallelSection(threads=2, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        inputs = self.engineDigest(particles=self.inputParticles.get())
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.clusterStep, digest, needsGPU=False)
        if self._hasStructures():
            motion = self.getMotionFile(self.inputParticles.get())
            digest = self.engineDigest(clusters=digest, motion=motion or self._modesDigest(), numbers=self._modeNumbers(self.inputParticles.get()))
            self._insertFunctionStep(self.representativesStep, digest, needsGPU=False)
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _config(self):
        return self.buildConfig(ClusterLandscapeConfig, table=self.getTableFile(), column='amplitudes')

    def getTableFile(self):
        return self._getExtraPath('input_landscape.npz')

    def _hasStructures(self):
        """Can the mean conformations be made: is it known what the latent vectors mean?"""
        particles = self.inputParticles.get()
        motion = self.getMotionFile(particles)
        if not motion:
            return self.inputModes.get() is not None
        return describeMotion(motion)['latents'] == latentLength(particles)  # else they are those of several subunits

    def convertInputStep(self, digest):
        writeLatents(self.inputParticles.get(), self.getTableFile(), self.inputParticles.get().getXDim())
        return [self.getTableFile()]

    clusterStep = EngineStep('cluster-landscape', CLUSTERS_TABLE, MEANS_TABLE)

    def representativesStep(self, digest):
        """The classes' mean conformations: as many frames as points, so that the frames are the points."""
        if not self.getMotionFile(self.inputParticles.get()):
            self.convertModes()
        means, _ = read_table(self._getExtraPath(MEANS_TABLE))
        self.runEngine('trajectory', self.buildConfig(
            TrajectoryConfig, table=self.getTableFile(), column='amplitudes', **self._motionValues(self.inputParticles.get()),
            path='frames', points=means['vectors'].ravel().tolist(), volumes=False, output=self._getRepresentatives()), name='representatives')
        return [self._getExtraPath('representatives', 'trajectory.npz')]

    def _getRepresentatives(self):
        return self._getExtraPath('representatives')

    def _makeOutputs(self):
        columns, _ = read_table(self._getExtraPath(CLUSTERS_TABLE))
        reduced = {int(objId): vector.tolist() for objId, vector in zip(columns['id'], columns['reduced']) if np.isfinite(vector).all()}
        yield 'outputParticles', self.newSet(SetOfParticlesFlex, lambda new: appendReduced(self.inputParticles.get(), new, reduced), progName=PROGRAM)
        yield 'outputClasses', self.newClasses(SetOfClassesFlex, 'outputParticles', fillClasses, self._getExtraPath(CLUSTERS_TABLE), self._representatives())
        if self._hasStructures():
            yield 'outputStructures', self.newSet(SetOfAtomStructFlex, fillStructures, self._getRepresentatives())

    def _sources(self, name=''):
        deformed = name == 'outputStructures' and self.inputModes.get() is not None
        return [self.inputParticles] + ([self.inputModes] if deformed else [])

    def _representatives(self):
        """What gives each class's representative its mean latent vector."""
        means, _ = read_table(self._getExtraPath(MEANS_TABLE))

        def setter(vector):
            return lambda representative: representative.setZFlex(vector.tolist())
        return {int(number): setter(vector) for number, vector in zip(means['class'], means['vectors'])}

    def _describe(self):
        found = self._readEngineSummary()
        method = self.getEngineValue(ClusterLandscapeConfig, 'method')
        lines = ['%d particles in %d classes (%s), %d left out.' % (found['particles'] - found['left_out'], found['clusters'], method, found['left_out'])]
        if found.get('silhouette') is not None:
            lines.append('Silhouette %.3f (1: well apart, 0: a continuum).' % found['silhouette'])
        if found.get('explained_variance') is not None:
            lines.append('The axes explain %.0f %% of the variance.' % (100 * found['explained_variance']))
        return lines, ('The conformational landscape of %d particles was divided into %d classes (%s).'
                       % (found['particles'], found['clusters'], method))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        particles = self.inputParticles.get()
        errors = self._validateLatents(particles)
        if particles is None or errors:
            return errors
        length = latentLength(particles)
        most = max(length, default_of(ClusterLandscapeConfig, 'dimensions'))  # of the default, as many as there are
        if self.getEngineValue(ClusterLandscapeConfig, 'reduction') in ('pca', 'none') and self.dimensions.get() > most:
            errors.append('%d axes are asked for, but the latent vectors have %d coordinates.' % (self.dimensions.get(), length))
        if self.clusters.get() and self.clusters.get() > particles.getSize():
            errors.append('%d clusters are asked for, but there are %d particles.' % (self.clusters.get(), particles.getSize()))
        if self.getMotionFile(particles):
            return errors + self._validateMotion(particles)
        return errors + (self._validateAmplitudes(particles) if self.inputModes.get() is not None else [])

    def _warnings(self):
        particles = self.inputParticles.get()
        slow = self.getEngineValue(ClusterLandscapeConfig, 'reduction') in REDUCTIONS_WITHOUT_PLACE
        if particles is not None and slow and particles.getSize() > 200000:
            return ['This reduction takes long for %d particles: PCA takes seconds.' % particles.getSize()]
        return []

    def _citations(self):
        return ['Chen2018' if self.getMotionFile(self.inputParticles.get()) else 'Hamitouche2021']
