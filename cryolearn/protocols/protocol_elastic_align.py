"""Pose, shift and mode amplitudes of each particle image."""

from pwem.objects import SetOfParticlesFlex

from ..common.flags import AlignmentFlag, flag_counts
from ..common.tables import read_table
from ..convert.tilt_particles import isTiltSeries, particleClasses
from ..engine.elastic.config import ElasticAlignConfig
from .config_params import isChoice
from .protocol_base import EngineStep
from .protocol_elastic_base import CryoLearnProtElasticBase

RESULT = 'alignment.npz'


class CryoLearnProtElasticAlign(CryoLearnProtElasticBase):
    """Finds, for each particle image, the orientation, the shift and the amplitudes of normal modes with which the structure
    explains it best. By default no pose is needed: orientations and conformations are searched together and then refined.

    Every particle of the input is in the output. Error bars, correlation, the margin to the runner-up and flags (1 ambiguous,
    2 amplitude at the search's bound, 4 low correlation, 8 not converged) come with it; nothing is dropped silently.
    A killed run continues after the last chunk that it recorded.
    """

    _label = 'elastic alignment'
    _possibleOutputs = {'outputParticles': SetOfParticlesFlex}
    _references = ['Hamitouche2021']
    _madeFrom = ('inputParticles', 'inputModes')

    def _defineParams(self, form):
        self._defineGpuParams(form)
        Config = ElasticAlignConfig
        form.addSection(label='Input')
        self.addParticles(form, particleClasses('SetOfParticles'), 'Particle images with CTF, or aligned tilt-series particles of scipion-em-reliontomo '
                          '(2D stacks), whose search starts from their poses.')
        self.addModes(form)
        self.addEngineParam(form, Config, 'mode_numbers')
        self._addImagesParams(form, Config, 'ignore_ctf', 'invert_contrast')
        form.addSection(label='Search')
        self.addEngineParam(form, Config, 'start')
        self.addEngineParam(form, Config, 'local_range_deg', condition=isChoice(Config, 'start', 'local'))
        self.addEngineParams(form, Config, 'amplitude_range', 'shift_range_angst')
        self.addEngineParams(form, Config, 'views', 'conformers', 'search_pixel_angst', 'candidates')
        form.addSection(label='Refinement')
        self.addEngineParams(form, Config, 'resolution_angst', 'atom_sigma_angst', 'prior_sigma', 'batch', 'chunk')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        return self.engineDigest(particles=self.inputParticles.get(), modes=self._modesDigest())

    def _config(self):
        return self.buildConfig(ElasticAlignConfig, particles=self.getParticlesFile(), modes=self.getModesFile(), **self._ctfValues())

    def convertInputStep(self, digest):
        return [self.convertParticles(), self.convertModes()]

    alignStep = EngineStep('elastic-align', RESULT)

    def _makeOutputs(self):
        yield 'outputParticles', self._createAligned(self._getExtraPath(RESULT))

    def _describe(self):
        count = self.outputParticles.getSize()
        columns, _ = read_table(self._getExtraPath(RESULT))
        modes = ' '.join(str(number) for number in self.getEngineValue(ElasticAlignConfig, 'mode_numbers'))
        lines = ['%d particles aligned elastically with modes %s.' % (count, modes)]
        if 'flags' in columns:
            lines.append('Flagged: %(ambiguous)d ambiguous, %(amplitude_at_bound)d with an amplitude at the bound of the search, '
                         '%(low_correlation)d of low correlation, %(not_converged)d not converged, %(unusable_image)d with an image that cannot be used.'
                         % flag_counts(columns['flags'], AlignmentFlag))
        blind = self.getEngineValue(ElasticAlignConfig, 'start') == 'blind'
        return lines, (
            'Pose, shift and the amplitudes of normal modes %s were found for %d particles by %s and batched Levenberg-Marquardt refinement.'
            % (modes, count, 'a joint search over orientations and conformations' if blind else 'a local search about the given poses'))

    def _verdict(self):
        return self._alignmentVerdict(self._getExtraPath(RESULT))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        particles = self.inputParticles.get()
        isLocal = self.getEngineValue(ElasticAlignConfig, 'start') == 'local'
        errors = self._validateParticles(particles, alignment=isLocal, ctf=not self.ignoreCtf.get(), tilts=True)
        if particles is not None and not errors:
            if isTiltSeries(particles) and not isLocal:
                errors.append('The particles are tilt series, whose poses are not searched from scratch: choose the start "local".')
            errors += self._validateModes(particles.getXDim(), particles.getSamplingRate())
            errors += self._validateModeNumbers(ElasticAlignConfig)
        return errors

    def _warnings(self):
        particles = self.inputParticles.get()
        if particles is None or self.usesGpu() or particles.getSize() <= 20000:
            return []
        return ['%d particles on the CPU take about %.0f hours for each two cores: use a GPU or more MPI processes.'
                % (particles.getSize(), particles.getSize() * 2 / 3600.)]
