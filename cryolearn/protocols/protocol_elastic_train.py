"""Training of the network that predicts pose, shift and amplitudes."""

from ..common.checks import check_epoch
from ..convert.flex import latentLength, modeNumbers, writeLatents
from ..engine.elastic.config import ElasticTrainConfig
from ..objects import ElasticModel
from .config_params import isChoice, isNotChoice
from .protocol_base import sentences
from .protocol_elastic_base import CryoLearnProtElasticBase, addModesParam, addParticlesParam

MODEL = 'model'


class CryoLearnProtElasticTrain(CryoLearnProtElasticBase):
    """Trains a network that predicts pose, shift and mode amplitudes of a particle image at once.

    It learns from images that are simulated anew from the modes (with the box, pixel size, CTF and noise of the particles
    given), from the amplitudes and poses that elastic alignment found for these particles, or from both.
    A killed training continues from its last checkpoint and ends as if it had not been killed.
    """

    _label = 'elastic network: train'
    _possibleOutputs = {'outputModel': ElasticModel}

    def _defineParams(self, form):
        self._defineGpuParams(form)
        Config = ElasticTrainConfig
        form.addSection(label='Input')
        addParticlesParam(form, 'SetOfParticlesFlex,SetOfParticles',
                          'Particles like those that will be predicted. Their box, pixel size, CTF and noise shape the simulation; '
                          'their amplitudes and poses (elastic alignment) are learned when labels come from particles.')
        addModesParam(form)
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
    def _insertAllSteps(self):
        inputs = self.engineDigest(particles=self.inputParticles.get(), modes=self._modesDigest(), labels=self.labels.get())
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.trainStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _config(self):
        labelled = self.getEngineValue(ElasticTrainConfig, 'labels') != 'simulation'
        return self.buildConfig(
            ElasticTrainConfig, particles=self.getParticlesFile(), alignment=self.getLabelsFile() if labelled else '',
            modes=self.getModesFile(), output=self._getExtraPath(), **self._ctfValues())

    def getLabelsFile(self):
        return self._getExtraPath('input_alignment.npz')

    def convertInputStep(self, digest):
        files = [self.convertParticles(), self.convertModes()]
        if self.getEngineValue(ElasticTrainConfig, 'labels') != 'simulation':
            particles = self.inputParticles.get()
            writeLatents(particles, self.getLabelsFile(), particles.getXDim())
            files.append(self.getLabelsFile())
        return files

    def trainStep(self, digest):
        self.runEngine('elastic-train', self._config())
        return [self._getExtraPath(MODEL, name) for name in ('weights.safetensors', 'model.json')]

    def createOutputStep(self, digest):
        model = ElasticModel.fromFolder(self._getExtraPath(MODEL))
        self._defineOutputs(outputModel=model)
        self._defineSourceRelation(self.inputParticles, model)
        self._defineSourceRelation(self.inputModes, model)
        self._describe(model)

    def _describe(self, model):
        found = self._readEngineSummary(self._getExtraPath())
        numbers = ', '.join('%s %s' % (name.replace('_', ' '), _short(value)) for name, value in sorted(found.items())
                            if isinstance(value, (int, float, str)) and not isinstance(value, bool))
        source = ('simulated images', 'aligned particles', 'simulated images and aligned particles')[self.labels.get()]
        self._setSummary('Network "%s" for modes %s, trained on %s for %d epochs.'
                         % (model.getArchitecture(), model._modeNumbers.get(), source, self.epochs.get()), numbers)
        self._setMethods('A network (%s) that predicts pose, shift and the amplitudes of normal modes %s was trained on %s for %d epochs.'
                         % (model.getArchitecture(), model._modeNumbers.get(), source, self.epochs.get()))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        particles = self.inputParticles.get()
        labelled = self.getEngineValue(ElasticTrainConfig, 'labels') != 'simulation'
        errors = self._validateEngine()
        errors += self._validateParticles(particles, alignment=labelled, ctf=not self.ignoreCtf.get())
        if self.getEngineValue(ElasticTrainConfig, 'labels') != 'particles':
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
        if not self.usesGpu() and self.epochs.get() * self.imagesPerEpoch.get() > 200000 and self.getEngineValue(ElasticTrainConfig, 'labels') != 'particles':
            return ['%d images will be simulated and learned on the CPU, which takes hours: use a GPU or fewer epochs.'
                    % (self.epochs.get() * self.imagesPerEpoch.get())]
        return []

    def _citations(self):
        return ['Hamitouche2021']


def _list(numbers):
    return ' '.join(str(number) for number in numbers)


def _short(value):
    return '%.4g' % value if isinstance(value, float) else str(value)
