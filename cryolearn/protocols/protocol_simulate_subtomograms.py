"""Subtomograms with known classes and poses."""

from tomo.objects import SetOfSubTomograms

from ..common.tables import read_table
from ..convert.subtomogram_classes import TRUTH_TABLE
from ..convert.subtomogram_star import StarSubtomograms
from ..engine.subtomogram.config import SubtomogramSimulateConfig as Config
from .protocol_base import EngineStep
from .simulated_subtomograms import SimulatedSubtomograms

STAR = 'subtomograms.star'


class CryoLearnProtSimulateSubtomograms(SimulatedSubtomograms):
    """Simulates subtomograms of atomic models and maps, each a class, at random orientations, with CTF, missing wedge and noise. Class, pose, tilt
    range and signal-to-noise ratio of each are known: they are in the output set, and in truth.npz in the run's folder.

    A network can be trained on them ("subtomogram network: train") for experimental subtomograms of like tilt range, sampling rate and noise.
    """

    _label = 'simulate subtomograms'
    _possibleOutputs = {'outputSubtomograms': SetOfSubTomograms}
    _references = ['Xu2017']
    _madeFrom = ('inputStructures', 'inputVolumes')

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self._addSimulatedInputs(form, Config)
        images = form.addGroup('Subtomograms')
        self.addEngineParam(images, Config, 'per_class', important=True)
        self.addEngineParams(images, Config, 'box', 'pixel_size_angst', 'shift_angst', 'seed')
        self.addEngineParams(form, Config, 'map_floor', 'batch')
        form.addSection(label='Tilts and noise')
        self._addSimulationParams(form, Config)
        form.addSection(label='Microscope')
        self._addMicroscopeParams(form, Config)
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        inputs = self._simulationDigest()
        if self._volumes():
            self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        self._insertResultSteps(inputs=inputs)

    def _config(self):
        return self.buildConfig(Config, structures=self._structures(), volumes=list(self._volumes()), names=self._names())

    def convertInputStep(self, digest):
        return self._writeMaps()

    simulateStep = EngineStep('subtomogram-simulate', STAR, TRUTH_TABLE)

    def _makeOutputs(self):
        _, meta = read_table(self._getExtraPath(TRUTH_TABLE))
        star = StarSubtomograms(self._getExtraPath(STAR), meta['class_names'], voltage=self.voltageKv.get(), sphericalAberration=self.csMm.get(),
                                amplitudeContrast=self.amplitudeContrast.get(), step=self.tiltStepDeg.get())
        yield 'outputSubtomograms', self.newSet(SetOfSubTomograms, star.fillSet)

    def _describe(self):
        names, count = read_table(self._getExtraPath(TRUTH_TABLE))[1]['class_names'], self.outputSubtomograms.getSize()
        box = 'Box %d voxels at %g Å, tilts %g to %g degrees, %s.' % (
            self.box.get(), self.pixelSizeAngst.get(), self.tiltMinDeg.get(), self.tiltMaxDeg.get(),
            'SNR %g over the box' % self.snr.get() if self.snr.get() else 'without noise')
        return ['%d subtomograms of %d classes: %s.' % (count, len(names), ', '.join(names)), box], (
            '%d subtomograms of %d classes were simulated at a signal-to-noise ratio of %g and tilts from %g to %g degrees.'
            % (count, len(names), self.snr.get(), self.tiltMinDeg.get(), self.tiltMaxDeg.get()))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        return self._validateSimulation()

    def _warnings(self):
        number = (len(self._volumes()) + len(self._structures()) + bool(self.nullClass.get())) * self.perClass.get()
        size = 4 * number * self.box.get() ** 3 / 1e9
        return ['%d subtomograms will take %.0f GB of disk.' % (number, size)] if size > 20 else []
