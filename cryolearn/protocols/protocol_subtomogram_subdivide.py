"""Groups of subtomograms of like features."""

from pyworkflow.object import String
from tomo.objects import SetOfClassesSubTomograms, SetOfSubTomograms

from ..common.limits import FEWEST_SUBDIVIDED
from ..convert.subtomogram_classes import CLUSTERS_REPORT, CLUSTERS_TABLE, KNOWN_FEATURES, ClassTable, readRows, writeKnownFeatures
from ..convert.subtomogram_sets import appendSubtomograms, fillClasses
from ..convert.subtomogram_star import writeSubtomograms
from ..convert.subtomograms import FEATURES_ATTRIBUTE, KNOWN_FEATURES_ATTRIBUTE, classNames
from ..engine.subtomogram.config import SubtomogramSubdivideConfig as Config
from .config_params import isChoice, isNotChoice
from .protocol_subtomogram_base import CryoLearnProtSubtomogramBase


class CryoLearnProtSubtomogramSubdivide(CryoLearnProtSubtomogramBase):
    """Divides subtomograms into many groups of like features of a trained network, so that subtomograms of one structure come together even when
    the network was never shown that structure.

    The groups are many and small on purpose: "average subtomograms" (each input class apart) then aligns and averages each, and its report tells which are
    pure and which are new. A killed run continues after its last record.
    """

    _label = 'subdivide subtomograms'
    _possibleOutputs = {'outputClasses': SetOfClassesSubTomograms, 'outputLeftOut': SetOfSubTomograms}

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self._addSubtomogramsParam(form)
        self._addModelParam(form, help='Network of the protocol "subtomogram network: train", for subtomograms with this box and sampling rate. Its '
                                       'features divide the subtomograms; its classes need not be those of the subtomograms.')
        groups = form.addGroup('Groups')
        self.addEngineParam(groups, Config, 'method')
        self.addEngineParam(groups, Config, 'clusters', condition=isNotChoice(Config, 'method', 'hdbscan'))
        self.addEngineParam(groups, Config, 'smallest', condition=isChoice(Config, 'method', 'hdbscan'))
        self.addEngineParams(form, Config, 'invert_contrast', 'picture_points', 'batch', 'chunk', 'seed')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        inputs = self._inputDigest()
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs, model=sorted(self.inputModel.get().getFiles()))
        self._insertFunctionStep(self.subdivideStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _config(self):
        return self.buildConfig(Config, subtomograms=self.getSubtomogramsFile(), model=self.inputModel.get().getFolder(), output=self._getExtraPath())

    def convertInputStep(self, digest):
        inputSet = self.inputSubtomograms.get()
        writeSubtomograms(inputSet, self.getSubtomogramsFile(), poses=False, classes=bool(classNames(inputSet)))
        return [self.getSubtomogramsFile()]

    def subdivideStep(self, digest):
        self.runEngine('subtomogram-subdivide', self._config())
        return [self._getExtraPath(name) for name in (CLUSTERS_TABLE, CLUSTERS_REPORT)]

    def createOutputStep(self, digest):
        table = ClassTable(self._getExtraPath(CLUSTERS_TABLE))
        classes = SetOfClassesSubTomograms.create(self._getPath())
        classes.setImages(self.inputSubtomograms)
        fillClasses(classes, table.classOf, lambda number: 'cluster %d' % number)
        setattr(classes, FEATURES_ATTRIBUTE, String(self._getExtraPath(CLUSTERS_TABLE)))
        setattr(classes, KNOWN_FEATURES_ATTRIBUTE, String(writeKnownFeatures(self.inputModel.get(), self._getExtraPath(KNOWN_FEATURES))))
        outputs = dict(outputClasses=classes)
        leftOut = table.columns['id'][table.columns['class'] == 0]
        if len(leftOut):
            outputs['outputLeftOut'] = SetOfSubTomograms.create(self._getPath(), suffix='left_out')
            appendSubtomograms(self.inputSubtomograms.get(), outputs['outputLeftOut'], keep=leftOut)
        self._defineOutputs(**outputs)
        for output in outputs.values():
            self._defineSourceRelation(self.inputSubtomograms, output)
            self._defineSourceRelation(self.inputModel, output)
        self._describe(table, len(leftOut))
        return [output.getFileName() for output in outputs.values()]

    def _describe(self, table, leftOut):
        sizes = sorted((row['subtomograms'] for row in readRows(self._getExtraPath(CLUSTERS_REPORT))), reverse=True)
        method = self.getEngineValue(Config, 'method')
        found = self._readEngineSummary(self._getExtraPath())
        lines = ['%d subtomograms in %d groups of %d to %d (%s), %d left out.' % (len(table) - leftOut, len(sizes), sizes[-1], sizes[0], method, leftOut)]
        if found.get('silhouette') is not None and found['silhouette'] == found['silhouette']:
            lines.append('Silhouette %.3f (1: well apart, 0: a continuum).' % found['silhouette'])
        if found.get('purity') is not None:
            lines.append('%.1f %% have the most frequent label of their group.' % (100 * found['purity']))
        self._setSummary(*lines)
        self._setMethods('%d subtomograms were divided into %d groups (%s) by the features of a trained network [Xu2017].' % (len(table), len(sizes), method))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        inputSet = self.inputSubtomograms.get()
        errors = self._validateEngine() + (self._validateSubtomograms(inputSet, FEWEST_SUBDIVIDED) or self._validateModel(inputSet, self.inputModel.get()))
        if inputSet is not None and not errors and self.getEngineValue(Config, 'method') != 'hdbscan' and self.clusters.get() > inputSet.getSize():
            errors.append('%d groups are asked for, but there are %d subtomograms.' % (self.clusters.get(), inputSet.getSize()))
        return errors

    def _citations(self):
        return ['Xu2017']
