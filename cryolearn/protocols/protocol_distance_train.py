"""Training of the network that tells the distance between the orientations of two particle images."""

import math

from ..common.checks import check_epoch, check_multiple
from ..common.limits import TRAINING_BLOCK, WIDTH_STEP
from ..convert.orientations import VALIDATION_TABLE
from ..convert.volumes import writeVolume
from ..engine.orientation.config import DistanceTrainConfig as Config
from ..objects import DistanceModel
from .config_params import isChoice, isNotChoice
from .input_checks import sentences
from .protocol_base import CryoLearnProtBase, EngineStep


class CryoLearnProtDistanceTrain(CryoLearnProtBase):
    """Trains a network that tells, from two particle images alone, how far apart their orientations are.

    It learns from images that are simulated anew from maps and atomic models, of the same protein or of others, or from particles that were
    aligned before. Particles given beside maps and models shape the simulation: box, pixel size, CTF and noise become theirs.

    "recover orientations" then finds the orientations of images that nobody has aligned. For a protein that the network has not
    seen, choose the network "views" and give it many maps or models. A killed training continues from its last checkpoint
    and ends as if it had not been killed.
    """

    _label = 'distance network: train'
    _possibleOutputs = {'outputModel': DistanceModel}
    _references = ['Banjac2021']

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        simulated = isChoice(Config, 'source', 'simulation')
        form.addSection(label='Input')
        self.addEngineParam(form, Config, 'source')
        self.addInputs(form, 'inputVolumes', 'Volume,SetOfVolumes', 'Maps',
                       'Maps to project: of the same protein, or of many others for the network "views".', condition=simulated, important=True)
        self.addInputs(form, 'inputStructures', 'AtomStruct,SetOfAtomStructs', 'Structures', 'Atomic models to project, beside or instead of maps.',
                       condition=simulated, important=True)
        self.addInput(form, 'inputParticles', 'SetOfParticles', 'Particles',
                      'Learning from simulation: optional; particles like those whose orientations will be recovered, aligned or not. Their box, '
                      'pixel size, CTF and noise shape the simulation.\nLearning from particles: aligned particles.', allowsNull=True, important=True)
        self.addEngineParam(form, Config, 'symmetry')
        images = form.addGroup('Images', condition='inputParticles')
        self.addEngineParams(images, Config, 'ignore_ctf', 'invert_contrast')

        form.addSection(label='Simulation')
        images = form.addGroup('Images', condition=simulated)
        self.addEngineParams(images, Config, 'box_px', 'pixel_size_angst', condition='%s and not inputParticles' % simulated)
        self.addEngineParams(images, Config, 'defocus_low_angst', 'defocus_high_angst', condition='%s and not inputParticles' % simulated)
        self.addEngineParams(images, Config, 'snr', 'snr_factor', 'shift_range_angst', 'images_per_epoch', condition=simulated)

        form.addSection(label='Network')
        self.addEngineParam(form, Config, 'preset')
        self.addEngineParams(form, Config, 'network_pixel_angst', 'network_size_px')
        self.addEngineParam(form, Config, 'width', condition=isNotChoice(Config, 'preset', 'paper'))
        self.addEngineParam(form, Config, 'views', condition=isChoice(Config, 'preset', 'views'))
        training = form.addGroup('Training')
        self.addEngineParams(training, Config, 'epochs', 'batch', 'learning_rate')
        self.addEngineParam(training, Config, 'weight_decay', condition=isNotChoice(Config, 'preset', 'paper'))
        self.addEngineParam(training, Config, 'validation_fraction', condition=isChoice(Config, 'source', 'particles'))
        self.addEngineParams(training, Config, 'precision', 'checkpoint_steps', 'seed')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        volumes = [[volume, volume.getSamplingRate()] for volume in self._volumes().values()]
        particles = self.inputParticles.get()
        return self.engineDigest(particles=particles, sampling=particles.getSamplingRate() if particles is not None else None, volumes=volumes)

    def getParticlesFile(self):
        return self._getExtraPath('input_particles.star') if self.inputParticles.get() is not None else ''

    def _simulates(self):
        return self.getEngineValue(Config, 'source') == 'simulation'

    def _volumes(self):
        """``{file in extra: volume}`` of all maps, those of sets one by one."""
        return self.numberedMaps(self.inputVolumes) if self._simulates() else {}

    def _structures(self):
        """Files of all atomic models."""
        return self.filesOf(self.inputStructures) if self._simulates() else []

    def _config(self):
        particles = self.inputParticles.get()
        return self.buildConfig(
            Config, volumes=list(self._volumes()), structures=self._structures(), particles=self.getParticlesFile(),
            phase_flipped=particles is not None and bool(particles.isPhaseFlipped()))

    def convertInputStep(self, digest):
        files = [writeVolume(volume, path) for path, volume in self._volumes().items()]
        if self.getParticlesFile():
            files.append(self.convertParticles())
        return files

    trainStep = EngineStep('distance-train', *DistanceModel.FILES, VALIDATION_TABLE)

    def _sources(self, name=''):
        simulated = [*self.inputVolumes, *self.inputStructures] if self._simulates() else []
        return simulated + ([self.inputParticles] if self.inputParticles.get() is not None else [])

    def _describe(self):
        found, model = self._readEngineSummary(), self.outputModel
        degrees = {name: '%.1f' % math.degrees(found['%s_error_rad' % name]) for name in ('distance', 'calibrated', 'constant_answer')}
        numbers = ('Mean error of the distance of unseen images, all distances alike: {distance} degrees, calibrated {calibrated} degrees '
                   '(a constant answer: {constant_answer}).').format(**degrees)
        source = ('images simulated from %d map(s) and %d structure(s)' % (len(self._volumes()), len(self._structures())) if self._simulates()
                  else '%d aligned particles' % self.inputParticles.get().getSize())
        return (['Network "%s", symmetry %s, trained on %s for %d epochs.' % (model.getPreset(), model.getSymmetry(), source, self.epochs.get()), numbers],
                'A network ("%s") that tells the distance between the orientations of two images [Banjac2021] was trained on %s for %d epochs.'
                % (model.getPreset(), source, self.epochs.get()))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        errors = self._validateSymmetry(self.symmetry.get())
        particles = self.inputParticles.get()
        if self._simulates():
            errors += self._validateSimulation(particles)
        elif particles is None:
            errors.append('Aligned particles are needed to learn from particles: give them, or learn from simulation.')
        errors += self._validateParticles(particles, alignment=not self._simulates(), ctf=not self.ignoreCtf.get())
        if not self._simulates() and not errors:
            errors += self._validateNumber(particles)
        return errors + self._validateMultiples()

    def _validateMultiples(self):
        preset = self.getEngineValue(Config, 'preset')
        together = self.views.get() if preset == 'views' else TRAINING_BLOCK
        errors = sentences(check_multiple, '"Width"', self.width.get(), WIDTH_STEP) if preset != 'paper' else []
        errors += sentences(check_multiple, '"Views together"', together, TRAINING_BLOCK) if preset == 'views' else []
        return errors + sentences(check_multiple, '"Batch"', self.batch.get(), together)

    def _validateSimulation(self, particles):
        errors, volumes = [], list(self._volumes().values())
        if not volumes and not self._structures():
            errors.append('Neither maps nor structures are given: the network needs at least one of them to learn from, or aligned particles.')
        errors += self._validateModels(volumes, self._structures())
        if particles is None and self.defocusLowAngst.get() > self.defocusHighAngst.get():
            errors.append('The smallest defocus (%g Å) is above the largest (%g Å).' % (self.defocusLowAngst.get(), self.defocusHighAngst.get()))
        return errors + sentences(check_epoch, 'images', self.imagesPerEpoch.get(), self.batch.get())

    def _warnings(self):
        warnings, images = [], self.epochs.get() * self.imagesPerEpoch.get()
        if self._simulates() and not self.usesGpu() and images > 200000:
            warnings.append('%d images will be simulated and learned on the CPU, which takes hours: use a GPU or fewer epochs.' % images)
        if self._simulates() and self.getEngineValue(Config, 'preset') == 'views' and len(self._volumes()) + len(self._structures()) == 1:
            warnings.append('The network "views" is for proteins that it has not seen, and it learns that from many others: one map or structure '
                            'teaches it that one only.')
        if self._simulates() and self.inputParticles.get() is None and not self.snr.get():
            warnings.append('Without particles and without an SNR the network learns from images without noise: it will not know noisy ones.')
        return warnings
