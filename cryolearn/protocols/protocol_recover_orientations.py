"""Orientations of particle images from the distances that a network tells between them."""

import math

import pyworkflow.protocol.params as params
from pwem.objects import FSC, SetOfParticles, Volume

from ..common.fsc import resolution_text
from ..common.verdicts import recovery_verdict
from ..convert.fsc import makeFsc
from ..convert.orientations import PARTICLES_TABLE, appendRecovered
from ..convert.volumes import makeVolume
from ..engine.orientation.config import RecoverOrientationsConfig as Config
from .config_params import isChoice
from .protocol_base import CryoLearnProtBase, EngineStep

MAP, HALVES, FSC_FILE, STAR = 'map.mrc', ('half1.mrc', 'half2.mrc'), 'fsc.csv', 'particles.star'


class CryoLearnProtRecoverOrientations(CryoLearnProtBase):
    """Finds the orientations of particle images that nobody has aligned, without a reference map.

    A network ("distance network: train") tells for each pair of images how far apart their orientations are. Orientations whose mutual
    distances fit are found, their common free rotation is read off the images, and rounds of matching against the images' own
    reconstruction, half sets apart, make them precise. A map with half maps and their Fourier shell correlation comes out too.

    The handedness of the map is free, as it always is from images alone. The summary says when the result should not be
    trusted. Every particle of the input is in the output. A killed run continues after its last record.
    """

    _label = 'recover orientations'
    _possibleOutputs = {'outputParticles': SetOfParticles, 'outputVolume': Volume, 'outputFSC': FSC}
    _references = ['Banjac2021']

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self.addInput(form, 'inputParticles', 'SetOfParticles', 'Particles',
                      'Particle images with CTF. Orientations that they may have are not used.')
        self.addEngineParam(form, Config, 'start')
        self.addInput(form, 'inputModel', 'DistanceModel', 'Network',
                      'Network of the protocol "distance network: train", of particles with this pixel size, in a box that is no larger.',
                      allowsNull=True, condition=isChoice(Config, 'start', 'network'), important=True)
        self.addEngineParams(form, Config, 'symmetry', 'particle_diameter_angst')
        images = form.addGroup('Images')
        self.addEngineParams(images, Config, 'ignore_ctf', 'invert_contrast')
        form.addSection(label='Recovery')
        distances = form.addGroup('From distances', condition=isChoice(Config, 'start', 'network'), expertLevel=params.LEVEL_ADVANCED)
        self.addEngineParams(distances, Config, 'landmarks', 'restarts', 'gauge_candidates')
        matching = form.addGroup('Matching against the own reconstruction')
        self.addEngineParam(matching, Config, 'rounds')
        self.addEngineParams(matching, Config, 'matching_resolution_angst', 'shift_range_angst', condition='rounds > 0')
        self.addEngineParam(matching, Config, 'second_start', condition='rounds > 0 and ' + isChoice(Config, 'start', 'network'))
        self.addEngineParams(form, Config, 'batch', 'chunk', 'seed')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        particles = self.inputParticles.get()
        return self.engineDigest(particles=particles, sampling=particles.getSamplingRate())

    def _dependencies(self):
        return {'model': sorted(self._model().getFiles()) if self._model() else []}

    def _model(self):
        """The network, or None when the start is random."""
        return self.inputModel.get() if self.getEngineValue(Config, 'start') == 'network' else None

    def _config(self):
        return self.buildConfig(
            Config, particles=self.getParticlesFile(), model=self._model().getFolder() if self._model() else '',
            phase_flipped=bool(self.inputParticles.get().isPhaseFlipped()))

    def convertInputStep(self, digest):
        return [self.convertParticles(poses=False)]

    recoverStep = EngineStep('orientation-recover', PARTICLES_TABLE, STAR, MAP, *HALVES, FSC_FILE)

    def _makeOutputs(self):
        yield 'outputParticles', self.newSet(SetOfParticles, lambda new: appendRecovered(self.inputParticles.get(), new, self._getExtraPath(PARTICLES_TABLE)))
        yield 'outputVolume', makeVolume(self._getExtraPath(MAP), [self._getExtraPath(name) for name in HALVES])
        yield 'outputFSC', makeFsc(self._getExtraPath(FSC_FILE), 'half maps')

    def _sources(self, name=''):
        return [self.inputParticles] + ([self.inputModel] if self._model() is not None else [])

    def _describe(self):
        found, count = self._readEngineSummary(), self.outputParticles.getSize()
        lines = ['Orientations of %d particles, symmetry %s.' % (count, found['symmetry'])]
        if found['residual_rad'] is not None:
            lines.append('They fit the learned distances to %.1f degrees (root mean square).' % math.degrees(found['residual_rad']))
        if self._model() and found.get('start_used') == 'random':
            lines.append('That is too little to build on: the orientations given are those of matching from random ones, whose half maps agree better.')
        if found['median_confidence'] is not None:
            lines.append('Median confidence %.2f.' % found['median_confidence'])
        lines.append('Half maps: %s (FSC 0.143).' % resolution_text(found['resolution_angst']))
        lines += found['warnings']
        return lines, ('Orientations of %d particles were recovered without a reference %s, followed by %d rounds of projection matching against '
                       'the images\' own reconstruction, half sets apart.' % (
                           count, 'from learned distances between images [Banjac2021]' if self._model() else 'from random starts', self.rounds.get()))

    def _group(self):
        """Point group of the form, or else the network's."""
        return (self.symmetry.get() or '').strip() or (self._model().getSymmetry() if self._model() else 'C1')

    def _verdict(self):
        found = self._readEngineSummary()
        return recovery_verdict(found['trust'], found['trust_reasons'])

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        particles = self.inputParticles.get()
        errors = self._validateSymmetry(self.symmetry.get(), optional=True)
        errors += self._validateParticles(particles, ctf=not self.ignoreCtf.get()) or self._validateNumber(particles)
        if self.getEngineValue(Config, 'start') == 'random':
            if not self.rounds.get():
                errors.append('From random orientations there must be at least one matching round.')
        elif self.inputModel.get() is None:
            errors.append('A network is needed to start from distances: train one with "distance network: train", or start from random orientations.')
        elif particles is not None and not errors:
            errors += self._validateModel(particles)
        return errors

    def _validateModel(self, particles):
        model = self.inputModel.get()
        if self._validateDescription(model):
            return self._validateDescription(model)
        errors = self._validatePixelOfNetwork(particles, model)
        if model.getBox() and particles.getXDim() < model.getBox():
            errors.append('The particles have a box of %d px, but the network was trained for %d px and takes no smaller one: extract them in a larger box.'
                          % (particles.getXDim(), model.getBox()))
        if self.symmetry.get() and self._group().upper() != model.getSymmetry().upper():
            errors.append('The network tells distances of symmetry %s, but the form says %s: leave the symmetry empty, or train for it.'
                          % (model.getSymmetry(), self._group()))
        return errors

    def _warnings(self):
        particles = self.inputParticles.get()
        warnings = self._warnOfSlowness(particles, 20000)
        diameter = self.particleDiameterAngst.get() or 0
        if particles is not None and particles.getSamplingRate() and diameter > particles.getXDim() * particles.getSamplingRate():
            warnings.append('The particle diameter (%g Å) is larger than the box (%g Å).' % (diameter, particles.getXDim() * particles.getSamplingRate()))
        if not self.rounds.get() and self.getEngineValue(Config, 'start') == 'network':
            warnings.append('Without matching rounds the orientations are as good as the learned distances, no better.')
        return warnings
