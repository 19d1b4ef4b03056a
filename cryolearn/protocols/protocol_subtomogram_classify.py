"""Classes of subtomograms by a trained network."""

from pyworkflow.object import Float, Pointer
from tomo.objects import SetOfClassesSubTomograms, SetOfSubTomograms

from ..convert.subtomogram_classes import CLASSES_TABLE, ClassTable
from ..convert.subtomogram_sets import appendSubtomograms, fillClasses, setClass
from ..convert.subtomogram_star import writeSubtomograms
from ..convert.subtomograms import classNames, imagesOf
from ..engine.subtomogram.config import SubtomogramClassifyConfig as Config
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

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self._addSubtomogramsParam(form)
        self._addModelParam(form)
        unknown = form.addGroup('Unknown structures')
        self.addEngineParams(unknown, Config, 'reject_fraction', 'least_confidence')
        self.addEngineParams(form, Config, 'invert_contrast', 'batch', 'chunk')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        inputs = self._inputDigest()
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs, model=sorted(self.inputModel.get().getFiles()))
        self._insertFunctionStep(self.classifyStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _config(self):
        return self.buildConfig(Config, subtomograms=self.getSubtomogramsFile(), model=self.inputModel.get().getFolder(), output=self._getExtraPath())

    def convertInputStep(self, digest):
        writeSubtomograms(self.inputSubtomograms.get(), self.getSubtomogramsFile(), poses=False, classes=self._isLabelled())
        return [self.getSubtomogramsFile()]

    def _isLabelled(self):
        return bool(classNames(self.inputSubtomograms.get()))

    def classifyStep(self, digest):
        self.runEngine('subtomogram-classify', self._config())
        return [self._getExtraPath(CLASSES_TABLE)]

    def createOutputStep(self, digest):
        source, table = self.inputSubtomograms.get(), ClassTable(self._getExtraPath(CLASSES_TABLE))
        subtomograms = SetOfSubTomograms.create(self._getPath())
        unknown = set()

        def update(item):
            number = table.classOf(item)
            if not number:
                unknown.add(item.getObjId())
            setClass(item, number, table.nameOf(number) if number else UNKNOWN, table.value(item, 'confidence'))
            setattr(item, NOVELTY_ATTRIBUTE, Float(table.value(item, 'novelty')))
        appendSubtomograms(source, subtomograms, update)
        outputs = dict(outputSubtomograms=subtomograms)
        self._defineOutputs(**outputs)
        classes = SetOfClassesSubTomograms.create(self._getPath())
        classes.setImages(Pointer(value=self, extended='outputSubtomograms'))
        fillClasses(classes, table.classOf, table.nameOf)
        if classes.getSize():
            outputs['outputClasses'] = classes
        if unknown:
            outputs['outputUnknown'] = SetOfSubTomograms.create(self._getPath(), suffix='unknown')
            appendSubtomograms(subtomograms, outputs['outputUnknown'], keep=unknown)
        self._defineOutputs(**outputs)
        for output in outputs.values():
            self._defineSourceRelation(self.inputSubtomograms, output)
            self._defineSourceRelation(self.inputModel, output)
        self._describe(table, len(unknown))
        return [output.getFileName() for output in outputs.values()]

    def _describe(self, table, unknown):
        numbers = table.columns['class'].tolist()
        sizes = ['%s %d' % (name, numbers.count(number)) for number, name in enumerate(table.names, start=1)]
        self._setSummary('%d subtomograms: %s; %d unknown.' % (len(table), ', '.join(sizes), unknown))
        self._setMethods('%d subtomograms were classified by a trained network [Xu2017]; %d were rejected as unknown.' % (len(table), unknown))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        inputSet = self.inputSubtomograms.get()
        return self._validateEngine() + (self._validateSubtomograms(inputSet) or self._validateModel(inputSet, self.inputModel.get()))

    def _warnings(self):
        inputSet = self.inputSubtomograms.get()
        if inputSet is not None and not self.usesGpu() and imagesOf(inputSet).getSize() > 100000:
            return ['%d subtomograms take long on the CPU: use a GPU.' % imagesOf(inputSet).getSize()]
        return []

    def _citations(self):
        return ['Xu2017']
