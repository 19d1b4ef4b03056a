"""Alignment, classification and averaging of subtomograms without a reference."""

from pwem.objects import SetOfFSCs
from tomo.objects import SetOfAverageSubTomograms, SetOfClassesSubTomograms, SetOfSubTomograms

from ..common.checks import check_average_box, check_references
from ..common.fsc import resolution_text
from ..common.verdicts import averages_verdict
from ..convert.files import mapSides
from ..convert.fsc import fillFscs, makeFsc
from ..convert.subtomogram_averages import AVERAGES_TABLE, appendAligned, fillAverages, readAverages
from ..convert.subtomogram_sets import fillClasses, makeAverage
from ..convert.subtomogram_star import checkAlike, writeSubtomograms
from ..convert.subtomograms import FEATURES_ATTRIBUTE, KNOWN_FEATURES_ATTRIBUTE, imagesOf, isClasses
from ..convert.volumes import writeVolume
from ..engine.subtomogram.config import SubtomogramAverageConfig as Config
from .config_params import isChoice, isNotChoice
from .input_checks import InputChecks, sentences
from .protocol_base import EngineStep
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
    _madeFrom = ('inputSubtomograms',)

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self._addSubtomogramsParam(form, 'SetOfSubTomograms,SetOfClassesSubTomograms',
                                   'Subtomograms, or classes of them. Each, or the set, must know its tilt range.')
        self.addEngineParam(form, Config, 'each_class', help='When classes are given: average each of them apart, each into as many classes as asked for.')
        self.addEngineParam(form, Config, 'smallest', condition='eachClass')
        self.addEngineParam(form, Config, 'invert_contrast')
        classes = form.addGroup('Classes')
        self.addEngineParams(classes, Config, 'classes', 'iterations', 'symmetry')
        form.addSection(label='Start and mask')
        self.addEngineParam(form, Config, 'start')
        self.addEngineParam(form, Config, 'starts', condition=isChoice(Config, 'start', 'random'))
        self.addInputs(form, 'inputReferences', 'Volume,SetOfVolumes', 'References',
                       'Maps with the box and sampling rate of the subtomograms: one for each class, or one for all.',
                       condition=isChoice(Config, 'start', 'reference'))
        self.addEngineParam(form, Config, 'initial_resolution_angst', condition=isNotChoice(Config, 'start', 'random'))
        self.addInput(form, 'inputMask', 'VolumeMask,Volume', 'Mask', 'Mask around the particle. Without it a soft sphere is used.', allowsNull=True)
        self.addEngineParam(form, Config, 'mask_radius_angst', condition='not inputMask')
        form.addSection(label='Alignment')
        self.addEngineParam(form, Config, 'shift_range_angst')
        self.addEngineParam(form, Config, 'local_search', condition=isChoice(Config, 'start', 'alignment'))
        self.addEngineParams(form, Config, 'angular_step_deg', 'finest_step_deg', 'wedge_edge_px', 'coverage_floor', 'batch', 'seed')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        references = [[volume, volume.getSamplingRate()] for volume in self._startMaps().values()]
        return self._subtomogramsDigest(references=references, mask=self.inputMask.get())

    def _startMaps(self):
        """``{file in extra: volume}`` of the maps to start from."""
        return self.numberedMaps(self.inputReferences, 'reference') if self.getEngineValue(Config, 'start') == 'reference' else {}

    def _apart(self):
        """Is each input class averaged apart?"""
        return bool(self.eachClass.get()) and self._hasLabels()

    def _hasLabels(self):
        inputSet = self.inputSubtomograms.get()
        return isClasses(inputSet) or bool(inputSet.getFirstItem().getClassId())

    def _config(self):
        tables = [self.inputSubtomograms.get().getAttributeValue(name) or '' for name in (FEATURES_ATTRIBUTE, KNOWN_FEATURES_ATTRIBUTE)]
        features, known = tables if self._apart() and all(tables) else ('', '')
        return self.buildConfig(Config, subtomograms=self.getSubtomogramsFile(), references=list(self._startMaps()), mask=self.getMaskFile(),
                                each_class=self._apart(), features=features, known_features=known)

    def convertInputStep(self, digest):
        writeSubtomograms(self.inputSubtomograms.get(), self.getSubtomogramsFile(), classes=self._apart())
        files = [writeVolume(volume, path) for path, volume in self._startMaps().items()]
        if self.getMaskFile():
            files.append(writeVolume(self.inputMask.get(), self.getMaskFile()))
        return [self.getSubtomogramsFile(), *files]

    averageStep = EngineStep('subtomogram-average', AVERAGES_TABLE, STAR)

    def _makeOutputs(self):
        averages = readAverages(self._getExtraPath())
        subtomograms = SetOfSubTomograms.create(self._getPath())
        leftOut = appendAligned(self.inputSubtomograms.get(), subtomograms, self._getExtraPath(), averages)
        yield 'outputSubtomograms', subtomograms
        made = {number: makeAverage(average.path, subtomograms, average.halves) for number, average in averages.items()}
        yield 'outputClasses', self.newClasses(SetOfClassesSubTomograms, 'outputSubtomograms', fillClasses, lambda item: item.getClassId(),
                                               lambda number: averages[number].name, made.get)
        yield 'outputAverages', self.newSet(SetOfAverageSubTomograms, fillAverages, subtomograms, averages, made)
        yield 'outputFSCs', self.newSet(SetOfFSCs, fillFscs, (makeFsc(average.fsc, average.name) for average in averages.values()))
        if leftOut:
            yield 'outputLeftOut', self._makeSubset(leftOut, 'left_out')

    def _describe(self):
        found, averages = self._readEngineSummary(), readAverages(self._getExtraPath())
        count = sum(average.count for average in averages.values())
        lines = ['%d subtomograms in %d classes.' % (count, len(averages))]
        shown = sorted(averages.values(), key=lambda average: -average.count)[:SHOWN_CLASSES]
        lines += [_line(average) for average in shown]
        if len(averages) > SHOWN_CLASSES:
            lines.append('... and %d more, see classes.csv.' % (len(averages) - SHOWN_CLASSES))
        return [*lines, *found.get('warnings', [])], (
            '%d subtomograms were aligned, classified and averaged without a reference in %d iterations, half sets apart [Xu2017].'
            % (count, self.iterations.get()))

    def _verdict(self):
        found = [average.resolution for average in readAverages(self._getExtraPath()).values()]
        return averages_verdict(found, self._readEngineSummary().get('warnings', []))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        inputSet = self.inputSubtomograms.get()
        errors = self._validateSymmetry(self.symmetry.get())
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
            errors += self._validateOnGrid(mask, images, 'The mask')
        return errors

    def _validateReferences(self, images):
        volumes = list(self._startMaps().values())
        if not volumes:
            return ['References are to be started from, but none is given: give one for all classes, or one for each.']
        errors = sentences(check_references, len(volumes), self.classes.get())
        return errors or [error for volume in volumes for error in self._validateOnGrid(volume, images, "The reference '%s'" % volume.getFileName())][:1]

    @staticmethod
    def _validateOnGrid(volume, images, name):
        """A sentence about a map that cannot be read, or that is not on the grid of the subtomograms."""
        unread = InputChecks._validateMap(volume, name[0].lower() + name[1:])
        if unread:
            return unread
        problem = checkAlike(images, volume.getSamplingRate(), mapSides(volume)[0], 'The input', name[0].lower() + name[1:])
        return [problem] if problem else []

    def _warnings(self):
        return self._warnOfSlowness(imagesOf(self.inputSubtomograms.get()), 5000, 'subtomograms', 'hours')


def _line(average):
    """What the summary says of an average."""
    line = '%s: %d subtomograms, half maps %s (FSC 0.143)' % (average.name, average.count, resolution_text(average.resolution))
    if average.outside is not None:
        line += ', %.0f %% like no training class%s' % (100 * average.outside, ' (*new*)' if average.new else '')
    return line + '.'
