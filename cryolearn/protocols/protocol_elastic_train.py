"""Training of the network that predicts pose, shift and amplitudes."""

from ..common.checks import check_epoch
from ..convert.flex import latentLength, modeNumbers
from ..convert.latents import writeLatents
from ..engine.elastic.config import ElasticTrainConfig
from ..objects import ElasticModel
from .config_params import isChoice, isNotChoice
from .input_checks import sentences
from .protocol_base import EngineStep
from .protocol_elastic_base import CryoLearnProtElasticBase


class CryoLearnProtElasticTrain(CryoLearnProtElasticBase):
    """Trains a network that predicts pose, shift and mode amplitudes of a particle image at once.

    It learns from images that are simulated anew from the modes (with the box, pixel size, CTF and noise of the particles
    given), from the amplitudes and poses that elastic alignment found for these particles, or from both.
    A killed training continues from its last checkpoint and ends as if it had not been killed.
    """

    _label = 'elastic network: train'
    _possibleOutputs = {'outputModel': ElasticModel}
    _references = ['Hamitouche2021']
    _madeFrom = ('inputParticles', 'inputModes')

    def _defineParams(self, form):
        self._defineGpuParams(form)
        Config = ElasticTrainConfig
        form.addSection(label='Input')
        self.addParticles(form, 'SetOfParticlesFlex,SetOfParticles',
                          'Particles like those that will be predicted. Their box, pixel size, CTF and noise shape the simulation; '
                          'their amplitudes and poses (elastic alignment) are learned when labels come from particles.')
        self.addModes(form)
        self.addEngineParam(form, Config, 'mode_numbers')
        self.addEngineParam(form, Config, 'labels')
        self._addImagesParams(form, Config, 'ignore_ctf', 'invert_contrast')
        form.addSection(label='Network')
        self.addEngineParams(form, Config, 'architecture', 'network_pixel_angst')
        self.addEngineParams(form, Config, 'hypotheses', 'width', condition=isChoice(Config, 'architecture', 'multi'))
        simulation = form.addGroup('Simulated images', condition=isNotChoice(Config, 'labels', 'particles'))
        self.addEngineParams(simulation, Config, 'amplitude_range', 'shift_range_angst', 'images_per_epoch')
        form.addSection(label='Training')
        self.addEngineParams(form, Config, 'epochs', 'batch', 'learning_rate', 'weight_decay', 'validation_fraction', 'precision',
                             'checkpoint_steps', 'seed')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        return self.engineDigest(particles=self.inputParticles.get(), modes=self._modesDigest(), labels=self.labels.get())

    def _learnsFrom(self, source):
        """Is this what the network learns from, alone or with the other source?"""
        return self.getEngineValue(ElasticTrainConfig, 'labels') in (source, 'both')

    def _config(self):
        return self.buildConfig(
            ElasticTrainConfig, particles=self.getParticlesFile(), alignment=self.getLabelsFile() if self._learnsFrom('particles') else '',
            modes=self.getModesFile(), **self._ctfValues())

    def getLabelsFile(self):
        return self._getExtraPath('input_alignment.npz')

    def convertInputStep(self, digest):
        files = [self.convertParticles(), self.convertModes()]
        if self._learnsFrom('particles'):
            particles = self.inputParticles.get()
            writeLatents(particles, self.getLabelsFile(), particles.getXDim())
            files.append(self.getLabelsFile())
        return files

    trainStep = EngineStep('elastic-train', *ElasticModel.FILES)

    def _describe(self):
        numbers = ', '.join('%s %s' % (name.replace('_', ' '), '%.4g' % value if isinstance(value, float) else value)
                            for name, value in sorted(self._readEngineSummary().items())
                            if isinstance(value, (int, float, str)) and not isinstance(value, bool))
        source = ('simulated images', 'aligned particles', 'simulated images and aligned particles')[self.labels.get()]
        known = self.outputModel.getArchitecture(), self.outputModel._modeNumbers.get(), source, self.epochs.get()
        return (['Network "%s" for modes %s, trained on %s for %d epochs.' % known, numbers],
                'A network (%s) that predicts pose, shift and the amplitudes of normal modes %s was trained on %s for %d epochs.' % known)

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        particles, labelled = self.inputParticles.get(), self._learnsFrom('particles')
        errors = self._validateParticles(particles, alignment=labelled, ctf=not self.ignoreCtf.get())
        if self._learnsFrom('simulation'):
            errors += sentences(check_epoch, 'images', self.imagesPerEpoch.get(), self.batch.get())
        if particles is not None and not errors:
            errors += self._validateModes(particles.getXDim(), particles.getSamplingRate())
            errors += self._validateModeNumbers(ElasticTrainConfig)
            if labelled and not errors:
                errors += self._validateLabels(particles)
        return errors

    def _validateLabels(self, particles):
        if not hasattr(particles, 'getFlexInfo') or latentLength(particles) == 0:
            return ['The particles have no amplitudes to learn from: align them elastically first, or learn from simulation only.']
        numbers = self.getEngineValue(ElasticTrainConfig, 'mode_numbers')
        known = modeNumbers(particles)
        if latentLength(particles) != len(numbers):
            return ['The particles have %d amplitudes each, but %d modes are chosen.' % (latentLength(particles), len(numbers))]
        if known and known != list(numbers):
            return ['The particles have amplitudes of modes %s, but modes %s are chosen.' % (_list(known), _list(numbers))]
        return []

    def _warnings(self):
        images = self.epochs.get() * self.imagesPerEpoch.get()
        if self.usesGpu() or images <= 200000 or not self._learnsFrom('simulation'):
            return []
        return ['%d images will be simulated and learned on the CPU, which takes hours: use a GPU or fewer epochs.' % images]


def _list(numbers):
    return ' '.join(str(number) for number in numbers)
