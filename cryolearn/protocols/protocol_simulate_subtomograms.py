"""Subtomograms with known classes and poses."""

import os

import pyworkflow.protocol.params as params
from tomo.objects import SetOfSubTomograms

from ..convert.subtomogram_classes import TRUTH_TABLE
from ..convert.subtomogram_star import StarSubtomograms
from ..convert.tables import readTable
from ..convert.volumes import writeVolume
from ..engine.subtomogram.config import SubtomogramSimulateConfig as Config
from .protocol_base import CryoLearnProtBase

STAR = 'subtomograms.star'
NULL_CLASS = 'NULL'


class CryoLearnProtSimulateSubtomograms(CryoLearnProtBase):
    """Simulates subtomograms of atomic models and maps, each a class, at random orientations, with CTF, missing wedge and noise. Class, pose, tilt
    range and signal-to-noise ratio of each are known: they are in the output set, and in truth.npz in the run's folder.

    A network can be trained on them ("subtomogram network: train") for experimental subtomograms of like tilt range, sampling rate and noise.
    """

    _label = 'simulate subtomograms'
    _possibleOutputs = {'outputSubtomograms': SetOfSubTomograms}

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        form.addParam('inputStructures', params.MultiPointerParam, pointerClass='AtomStruct,SetOfAtomStructs', allowsNull=True, label='Structures',
                      important=True, help='Atomic models, each a class.')
        form.addParam('inputVolumes', params.MultiPointerParam, pointerClass='Volume,SetOfVolumes', allowsNull=True, label='Maps', important=True,
                      help='Maps, each a class, beside or instead of structures. Density must be positive (white).')
        form.addParam('classNames', params.StringParam, default='', label='Class names',
                      help='Names of the classes, separated by commas: structures first, then maps. Empty: the names of the files.')
        self.addEngineParam(form, Config, 'null_class')
        images = form.addGroup('Subtomograms')
        self.addEngineParam(images, Config, 'per_class', important=True)
        self.addEngineParams(images, Config, 'box', 'pixel_size_angst', 'shift_angst', 'seed')
        self.addEngineParams(form, Config, 'map_floor', 'batch')
        form.addSection(label='Tilts and noise')
        tilts = form.addGroup('Tilt range')
        self.addEngineParams(tilts, Config, 'tilt_min_deg', 'tilt_max_deg', 'tilt_step_deg', 'tilt_spread_deg')
        noise = form.addGroup('Noise')
        self.addEngineParams(noise, Config, 'snr', 'route', 'noise_scale', 'noise_before_ctf', 'noise_colour')
        form.addSection(label='Microscope')
        self.addEngineParam(form, Config, 'apply_ctf')
        self.addEngineParams(form, Config, 'defocus_angst', 'defocus_spread_angst', 'voltage_kv', 'cs_mm', 'amplitude_contrast', condition='applyCtf')
        self.addEngineParams(form, Config, 'mtf', 'b_factor_angst2')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        volumes = [[volume, volume.getSamplingRate()] for volume in self._volumes().values()]
        inputs = self.engineDigest(volumes=volumes, structures=self._structures())
        if volumes:
            self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.simulateStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _volumes(self):
        """``{file in extra: volume}`` of all maps, those of sets one by one."""
        return {self._getExtraPath('input_map_%03d.mrc' % number): item for number, item in enumerate(self.pointedItems(self.inputVolumes), start=1)}

    def _structures(self):
        """Files of all atomic models."""
        return [item.getFileName() for item in self.pointedItems(self.inputStructures)]

    def _names(self):
        """Names of the classes as the form gives them, else those of the files, told apart by a number where they are the same."""
        given = [name.strip() for name in (self.classNames.get() or '').split(',') if name.strip()]
        if given:
            return given
        files = self._structures() + [str(volume.getFileName()).split(':')[0] for volume in self._volumes().values()]
        names = []
        for name in ('_'.join(os.path.splitext(os.path.basename(file))[0].split()) for file in files):
            names.append(name if name not in names else '%s_%d' % (name, len(names) + 1))
        return names

    def _config(self):
        return self.buildConfig(Config, structures=self._structures(), volumes=list(self._volumes()), names=self._names(), output=self._getExtraPath())

    def convertInputStep(self, digest):
        return [writeVolume(volume, path) for path, volume in self._volumes().items()]

    def simulateStep(self, digest):
        self.runEngine('subtomogram-simulate', self._config())
        return [self._getExtraPath(name) for name in (STAR, TRUTH_TABLE)]

    def createOutputStep(self, digest):
        _, meta = readTable(self._getExtraPath(TRUTH_TABLE))
        subtomograms = SetOfSubTomograms.create(self._getPath())
        star = StarSubtomograms(self._getExtraPath(STAR), meta['class_names'], voltage=self.voltageKv.get(), sphericalAberration=self.csMm.get(),
                                amplitudeContrast=self.amplitudeContrast.get(), step=self.tiltStepDeg.get())
        star.fillSet(subtomograms)
        self._defineOutputs(outputSubtomograms=subtomograms)
        for pointer in [*self.inputStructures, *self.inputVolumes]:
            self._defineSourceRelation(pointer, subtomograms)
        self._describe(subtomograms, star.classNames)
        return [subtomograms.getFileName()]

    def _describe(self, subtomograms, names):
        self._setSummary(
            '%d subtomograms of %d classes: %s.' % (subtomograms.getSize(), len(names), ', '.join(names)),
            'Box %d voxels at %g Å, tilts %g to %g degrees, %s.' % (
                self.box.get(), self.pixelSizeAngst.get(), self.tiltMinDeg.get(), self.tiltMaxDeg.get(),
                'SNR %g over the box' % self.snr.get() if self.snr.get() else 'without noise'))
        self._setMethods('%d subtomograms of %d classes were simulated at a signal-to-noise ratio of %g and tilts from %g to %g degrees.' % (
            subtomograms.getSize(), len(names), self.snr.get(), self.tiltMinDeg.get(), self.tiltMaxDeg.get()))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        errors = self._validateEngine()
        volumes, structures = list(self._volumes().values()), self._structures()
        if not volumes and not structures:
            errors.append('Neither structures nor maps are given: each is a class, so give at least one.')
        for volume in volumes:
            name = volume.getFileName()
            if not os.path.exists(str(name).split(':')[0]):
                errors.append("The map '%s' does not exist." % name)
            elif not volume.getSamplingRate():
                errors.append("The map '%s' has no sampling rate." % name)
        errors += ["The structure '%s' does not exist." % name for name in structures if not os.path.exists(name)]
        names = self._names()
        if len(names) != len(volumes) + len(structures):
            errors.append('%d class names are given for %d structures and maps.' % (len(names), len(volumes) + len(structures)))
        errors += ["The class name '%s' is given twice." % name for name in sorted({name for name in names if names.count(name) > 1})]
        errors += ["The class name '%s' has white space: write an underscore instead." % name for name in names if len(name.split()) > 1]
        if self.nullClass.get() and NULL_CLASS in names:
            errors.append("'%s' is the name of the class of noise alone: give the class another name." % NULL_CLASS)
        if self.tiltMinDeg.get() >= self.tiltMaxDeg.get():
            errors.append('The first tilt (%g) is not below the last (%g).' % (self.tiltMinDeg.get(), self.tiltMaxDeg.get()))
        return errors

    def _warnings(self):
        number = (len(self._volumes()) + len(self._structures()) + bool(self.nullClass.get())) * self.perClass.get()
        size = 4 * number * self.box.get() ** 3 / 1e9
        return ['%d subtomograms will take %.0f GB of disk.' % (number, size)] if size > 20 else []

    def _citations(self):
        return ['Xu2017']
