"""Alignment, classification and averaging of subtomograms without a reference."""

import os

import pyworkflow.protocol.params as params
from pwem.objects import SetOfFSCs
from pyworkflow.object import Pointer
from tomo.objects import SetOfAverageSubTomograms, SetOfClassesSubTomograms, SetOfSubTomograms

from ..common.checks import check_average_box, check_references
from ..common.fsc import resolution_text
from ..convert.fsc import makeFsc
from ..convert.subtomogram_averages import AVERAGES_TABLE, appendAligned, readAverages
from ..convert.subtomogram_sets import appendSubtomograms, fillClasses, makeAverage
from ..convert.subtomogram_star import checkAlike, writeSubtomograms
from ..convert.subtomograms import FEATURES_ATTRIBUTE, KNOWN_FEATURES_ATTRIBUTE, imagesOf, isClasses
from ..convert.volumes import writeVolume
from ..engine.subtomogram.config import SubtomogramAverageConfig as Config
from .config_params import isChoice, isNotChoice
from .protocol_base import sentences
from .protocol_subtomogram_base import CryoLearnProtSubtomogramBase

SHOWN_CLASSES = 12  # in the summary
STAR = 'subtomograms.star'


class CryoLearnProtSubtomogramAverage(CryoLearnProtSubtomogramBase):
    """Aligns, classifies and averages subtomograms, without a reference and in spite of the missing wedge. Two half sets are kept apart; their
    Fourier shell correlation is that of independent averages.

    Classes (of "subdivide subtomograms", say) can be averaged each apart: the report then says for each how many subtomograms it has, how well its
    halves agree, and how far it is from the classes that the network was trained on, so that a new structure stands out.
    """

    _label = 'average subtomograms'
    _possibleOutputs = {'outputClasses': SetOfClassesSubTomograms, 'outputSubtomograms': SetOfSubTomograms,
                        'outputAverages': SetOfAverageSubTomograms, 'outputFSCs': SetOfFSCs, 'outputLeftOut': SetOfSubTomograms}

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self._addSubtomogramsParam(form, 'SetOfSubTomograms,SetOfClassesSubTomograms',
                                   help='Subtomograms, or classes of them. Each, or the set, must know its tilt range.')
        self.addEngineParam(form, Config, 'each_class', help='When classes are given: average each of them apart, each into as many classes as asked for.')
        self.addEngineParam(form, Config, 'smallest', condition='eachClass')
        self.addEngineParam(form, Config, 'invert_contrast')
        classes = form.addGroup('Classes')
        self.addEngineParams(classes, Config, 'classes', 'iterations', 'symmetry')
        form.addSection(label='Start and mask')
        self.addEngineParam(form, Config, 'start')
        self.addEngineParam(form, Config, 'starts', condition=isChoice(Config, 'start', 'random'))
        form.addParam('inputReferences', params.MultiPointerParam, pointerClass='Volume,SetOfVolumes', allowsNull=True,
                      condition=isChoice(Config, 'start', 'reference'),
                      label='References', help='Maps with the box and sampling rate of the subtomograms: one for each class, or one for all.')
        self.addEngineParam(form, Config, 'initial_resolution_angst', condition=isNotChoice(Config, 'start', 'random'))
        form.addParam('inputMask', params.PointerParam, pointerClass='VolumeMask,Volume', allowsNull=True, label='Mask',
                      help='Mask around the particle. Without it a soft sphere is used.')
        self.addEngineParam(form, Config, 'mask_radius_angst', condition='not inputMask')
        form.addSection(label='Alignment')
        self.addEngineParam(form, Config, 'shift_range_angst')
        self.addEngineParam(form, Config, 'local_search', condition=isChoice(Config, 'start', 'alignment'))
        self.addEngineParams(form, Config, 'angular_step_deg', 'finest_step_deg', 'wedge_edge_px', 'coverage_floor', 'batch', 'seed')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        references = [[volume, volume.getSamplingRate()] for volume in self._references().values()]
        inputs = self._inputDigest(references=references, mask=self.inputMask.get())
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.averageStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _references(self):
        """``{file in extra: volume}`` of the maps to start from."""
        items = self.pointedItems(self.inputReferences) if self.getEngineValue(Config, 'start') == 'reference' else []
        return {self._getExtraPath('input_reference_%03d.mrc' % number): item for number, item in enumerate(items, start=1)}

    def getMaskFile(self):
        return self._getExtraPath('input_mask.mrc') if self.inputMask.get() is not None else ''

    def _apart(self):
        """Is each input class averaged apart?"""
        return bool(self.eachClass.get()) and self._hasLabels()

    def _hasLabels(self):
        inputSet = self.inputSubtomograms.get()
        return isClasses(inputSet) or bool(inputSet.getFirstItem().getClassId())

    def _config(self):
        tables = [self.inputSubtomograms.get().getAttributeValue(name) or '' for name in (FEATURES_ATTRIBUTE, KNOWN_FEATURES_ATTRIBUTE)]
        features, known = tables if self._apart() and all(tables) else ('', '')
        return self.buildConfig(Config, subtomograms=self.getSubtomogramsFile(), references=list(self._references()), mask=self.getMaskFile(),
                                each_class=self._apart(), features=features, known_features=known, output=self._getExtraPath())

    def convertInputStep(self, digest):
        writeSubtomograms(self.inputSubtomograms.get(), self.getSubtomogramsFile(), classes=self._apart())
        files = [writeVolume(volume, path) for path, volume in self._references().items()]
        if self.getMaskFile():
            files.append(writeVolume(self.inputMask.get(), self.getMaskFile()))
        return [self.getSubtomogramsFile(), *files]

    def averageStep(self, digest):
        self.runEngine('subtomogram-average', self._config())
        return [self._getExtraPath(name) for name in (AVERAGES_TABLE, STAR)]

    # --------------------------------------------------- output ----------------------------------------------------
    def createOutputStep(self, digest):
        averages = readAverages(self._getExtraPath())
        subtomograms = SetOfSubTomograms.create(self._getPath())
        leftOut = appendAligned(self.inputSubtomograms.get(), subtomograms, self._getExtraPath(), averages)
        self._defineOutputs(outputSubtomograms=subtomograms)
        images = Pointer(value=self, extended='outputSubtomograms')
        made = {number: makeAverage(average.path, subtomograms, average.halves) for number, average in averages.items()}
        classes = SetOfClassesSubTomograms.create(self._getPath())
        classes.setImages(images)
        fillClasses(classes, lambda item: item.getClassId(), lambda number: averages[number].name, made.get)
        volumes = SetOfAverageSubTomograms.create(self._getPath())
        volumes.setSamplingRate(subtomograms.getSamplingRate())
        volumes.setAcquisition(subtomograms.getAcquisition())
        curves = SetOfFSCs.create(self._getPath())
        for number, average in averages.items():
            made[number].setObjId(number)
            made[number].setObjLabel(average.name)
            volumes.append(made[number])
            curves.append(makeFsc(average.fsc, average.name))
        outputs = dict(outputSubtomograms=subtomograms, outputClasses=classes, outputAverages=volumes, outputFSCs=curves)
        if leftOut:
            outputs['outputLeftOut'] = SetOfSubTomograms.create(self._getPath(), suffix='left_out')
            appendSubtomograms(imagesOf(self.inputSubtomograms.get()), outputs['outputLeftOut'], keep=leftOut)
        self._defineOutputs(**outputs)
        for output in outputs.values():
            self._defineSourceRelation(self.inputSubtomograms, output)
        self._describe(averages)
        return [output.getFileName() for output in outputs.values()]

    def _describe(self, averages):
        found = self._readEngineSummary(self._getExtraPath())
        count = sum(average.count for average in averages.values())
        lines = ['%d subtomograms in %d classes.' % (count, len(averages))]
        shown = sorted(averages.values(), key=lambda average: -average.count)[:SHOWN_CLASSES]
        lines += [_line(average) for average in shown]
        if len(averages) > SHOWN_CLASSES:
            lines.append('... and %d more, see classes.csv.' % (len(averages) - SHOWN_CLASSES))
        self._setSummary(*lines, *found.get('warnings', []))
        self._setMethods('%d subtomograms were aligned, classified and averaged without a reference in %d iterations, half sets apart [Xu2017].'
                         % (count, self.iterations.get()))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        inputSet = self.inputSubtomograms.get()
        errors = self._validateEngine() + self._validateSymmetry(self.symmetry.get())
        if inputSet is None:
            return errors
        wrong = self._validateSubtomograms(inputSet, 2 * self.classes.get())  # one of each class in each half set
        if wrong:
            return errors + wrong
        images = imagesOf(inputSet)
        errors += sentences(check_average_box, images.getXDim())
        if self.eachClass.get() and not self._hasLabels():
            errors.append('Each class is to be averaged apart, but the subtomograms have no classes: give classes of them.')
        if self.getEngineValue(Config, 'start') == 'alignment' and not images.hasAlignment():
            errors.append('The start is the alignment of the input, but the subtomograms have none: start from random.')
        if self.getEngineValue(Config, 'start') == 'reference':
            errors += self._validateReferences(images)
        mask = self.inputMask.get()
        if mask is not None:
            errors += self._validateMap(mask, images, 'The mask')
        return errors

    def _validateReferences(self, images):
        volumes = list(self._references().values())
        if not volumes:
            return ['References are to be started from, but none is given: give one for all classes, or one for each.']
        errors = sentences(check_references, len(volumes), self.classes.get())
        return errors or [error for volume in volumes for error in self._validateMap(volume, images, "The reference '%s'" % volume.getFileName())][:1]

    @staticmethod
    def _validateMap(volume, images, name):
        """A sentence about a map that is gone, or that is not on the grid of the subtomograms."""
        if not os.path.exists(str(volume.getFileName()).split(':')[0]):
            return ['%s does not exist.' % name]
        if not volume.getSamplingRate():
            return ['%s has no sampling rate.' % name]
        problem = checkAlike(images, volume.getSamplingRate(), volume.getDim()[0], 'The input', name[0].lower() + name[1:])
        return [problem] if problem else []

    def _warnings(self):
        inputSet = self.inputSubtomograms.get()
        if inputSet is not None and not self.usesGpu() and imagesOf(inputSet).getSize() > 5000:
            return ['%d subtomograms take hours on the CPU: use a GPU.' % imagesOf(inputSet).getSize()]
        return []

    def _citations(self):
        return ['Xu2017']


def _line(average):
    """What the summary says of an average."""
    line = '%s: %d subtomograms, half maps %s (FSC 0.143)' % (average.name, average.count, resolution_text(average.resolution))
    if average.outside is not None:
        line += ', %.0f %% like no training class%s' % (100 * average.outside, ' (*new*)' if average.new else '')
    return line + '.'
