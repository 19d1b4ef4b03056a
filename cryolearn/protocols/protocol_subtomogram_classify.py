"""Classes of subtomograms by a trained network."""

from pyworkflow.object import Float
from tomo.objects import SetOfClassesSubTomograms, SetOfSubTomograms

from ..common.verdicts import classification_verdict
from ..convert.subtomogram_classes import CLASSES_TABLE, ClassTable
from ..convert.subtomogram_sets import NO_CLASS, appendSubtomograms, fillClasses, setClass
from ..convert.subtomograms import imagesOf
from ..engine.subtomogram.config import SubtomogramClassifyConfig as Config
from .protocol_base import EngineStep
from .protocol_subtomogram_base import CryoLearnProtSubtomogramBase

UNKNOWN = 'unknown'
NOVELTY_ATTRIBUTE = '_classNovelty'


class CryoLearnProtSubtomogramClassify(CryoLearnProtSubtomogramBase):
    """Tells the class of each subtomogram by a trained network, how sure that is, and which subtomograms are like none of the classes.

    Every subtomogram of the input is in the output set, with class, confidence and novelty. Those that are like no class are in the output set
    "outputUnknown", which "subdivide subtomograms" can divide into new structures. A killed run continues after its last record.
    """

    _label = 'classify subtomograms'
    _possibleOutputs = {'outputSubtomograms': SetOfSubTomograms, 'outputClasses': SetOfClassesSubTomograms, 'outputUnknown': SetOfSubTomograms}
    _madeFrom = ('inputSubtomograms', 'inputModel')

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self._addSubtomogramsParam(form)
        self._addModelParam(form)
        unknown = form.addGroup('Unknown structures')
        self.addEngineParams(unknown, Config, 'reject_fraction', 'least_confidence')
        self.addEngineParams(form, Config, 'invert_contrast', 'batch', 'chunk')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _dependencies(self):
        return {'model': sorted(self.inputModel.get().getFiles())}

    def _config(self):
        return self.buildConfig(Config, subtomograms=self.getSubtomogramsFile(), model=self.inputModel.get().getFolder())

    classifyStep = EngineStep('subtomogram-classify', CLASSES_TABLE)

    def _makeOutputs(self):
        table, unknown = ClassTable(self._getExtraPath(CLASSES_TABLE)), set()

        def update(item):
            number = table.classOf(item)
            if not number:
                unknown.add(item.getObjId())
            setClass(item, number, table.nameOf(number) if number else UNKNOWN, table.value(item, 'confidence'))
            setattr(item, NOVELTY_ATTRIBUTE, Float(table.value(item, 'novelty')))
        yield 'outputSubtomograms', self.newSet(SetOfSubTomograms, lambda new: appendSubtomograms(self.inputSubtomograms.get(), new, update))
        classes = self.newClasses(SetOfClassesSubTomograms, 'outputSubtomograms', fillClasses, table.classOf, table.nameOf)
        if classes.getSize():
            yield 'outputClasses', classes
        if unknown:
            yield 'outputUnknown', self.newSet(SetOfSubTomograms, lambda new: appendSubtomograms(self.outputSubtomograms, new, keep=unknown), suffix='unknown')

    def _describe(self):
        table = ClassTable(self._getExtraPath(CLASSES_TABLE))
        numbers = table.columns['class'].tolist()
        sizes = ['%s %d' % (name, numbers.count(number)) for number, name in enumerate(table.names, start=1)]
        unknown = numbers.count(NO_CLASS)
        return (['%d subtomograms: %s; %d unknown.' % (len(table), ', '.join(sizes), unknown)],
                '%d subtomograms were classified by a trained network [Xu2017]; %d were rejected as unknown.' % (len(table), unknown))

    def _verdict(self):
        found = self._readEngineSummary()
        return classification_verdict(found['subtomograms'], found['rejected'], found['mean_confidence'])

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        inputSet = self.inputSubtomograms.get()
        return self._validateSubtomograms(inputSet) or self._validateModel(inputSet, self.inputModel.get())

    def _warnings(self):
        return self._warnOfSlowness(imagesOf(self.inputSubtomograms.get()), 100000, 'subtomograms')
