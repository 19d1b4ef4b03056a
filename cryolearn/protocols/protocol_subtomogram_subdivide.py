"""Groups of subtomograms of like features."""

from pyworkflow.object import String
from tomo.objects import SetOfClassesSubTomograms, SetOfSubTomograms

from ..common.limits import FEWEST_SUBDIVIDED
from ..common.verdicts import groups_verdict
from ..convert.subtomogram_classes import CLUSTERS_REPORT, CLUSTERS_TABLE, KNOWN_FEATURES, ClassTable, writeKnownFeatures
from ..convert.subtomogram_sets import NO_CLASS, fillClasses
from ..convert.subtomograms import FEATURES_ATTRIBUTE, KNOWN_FEATURES_ATTRIBUTE
from ..convert.tables import readRows
from ..engine.subtomogram.config import SubtomogramSubdivideConfig as Config
from .config_params import isChoice, isNotChoice
from .protocol_base import EngineStep
from .protocol_subtomogram_base import CryoLearnProtSubtomogramBase


class CryoLearnProtSubtomogramSubdivide(CryoLearnProtSubtomogramBase):
    """Divides subtomograms into many groups of like features of a trained network, so that subtomograms of one structure come together even when
    the network was never shown that structure.

    The groups are many and small on purpose: "average subtomograms" (each input class apart) then aligns and averages each, and its report tells which are
    pure and which are new. A killed run continues after its last record.
    """

    _label = 'subdivide subtomograms'
    _possibleOutputs = {'outputClasses': SetOfClassesSubTomograms, 'outputLeftOut': SetOfSubTomograms}
    _madeFrom = ('inputSubtomograms', 'inputModel')

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self._addSubtomogramsParam(form)
        self._addModelParam(form, ' Its features divide the subtomograms; its classes need not be those of the subtomograms.')
        groups = form.addGroup('Groups')
        self.addEngineParam(groups, Config, 'method')
        self.addEngineParam(groups, Config, 'clusters', condition=isNotChoice(Config, 'method', 'hdbscan'))
        self.addEngineParam(groups, Config, 'smallest', condition=isChoice(Config, 'method', 'hdbscan'))
        self.addEngineParams(form, Config, 'invert_contrast', 'picture_points', 'batch', 'chunk', 'seed')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _dependencies(self):
        return {'model': sorted(self.inputModel.get().getFiles())}

    def _config(self):
        return self.buildConfig(Config, subtomograms=self.getSubtomogramsFile(), model=self.inputModel.get().getFolder())

    subdivideStep = EngineStep('subtomogram-subdivide', CLUSTERS_TABLE, CLUSTERS_REPORT)

    def _leftOut(self, table):
        """Ids of the subtomograms that are in no group."""
        return table.columns['id'][table.columns['class'] == NO_CLASS]

    def _makeOutputs(self):
        table = ClassTable(self._getExtraPath(CLUSTERS_TABLE))
        classes = self.newClasses(SetOfClassesSubTomograms, self.inputSubtomograms, fillClasses, table.classOf, lambda number: 'cluster %d' % number)
        setattr(classes, FEATURES_ATTRIBUTE, String(self._getExtraPath(CLUSTERS_TABLE)))
        setattr(classes, KNOWN_FEATURES_ATTRIBUTE, String(writeKnownFeatures(self.inputModel.get(), self._getExtraPath(KNOWN_FEATURES))))
        yield 'outputClasses', classes
        if len(self._leftOut(table)):
            yield 'outputLeftOut', self._makeSubset(self._leftOut(table), 'left_out')

    def _describe(self):
        table = ClassTable(self._getExtraPath(CLUSTERS_TABLE))
        leftOut = len(self._leftOut(table))
        sizes = sorted((row['subtomograms'] for row in readRows(self._getExtraPath(CLUSTERS_REPORT))), reverse=True)
        method = self.getEngineValue(Config, 'method')
        found = self._readEngineSummary()
        lines = ['%d subtomograms in %d groups of %d to %d (%s), %d left out.' % (len(table) - leftOut, len(sizes), sizes[-1], sizes[0], method, leftOut)]
        if found.get('purity') is not None:
            lines.append('%.1f %% have the most frequent label of their group.' % (100 * found['purity']))
        return lines, '%d subtomograms were divided into %d groups (%s) by the features of a trained network [Xu2017].' % (len(table), len(sizes), method)

    def _verdict(self):
        found = self._readEngineSummary()
        return groups_verdict(found['silhouette'], found['left_out'], found['subtomograms'])

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        inputSet = self.inputSubtomograms.get()
        errors = self._validateSubtomograms(inputSet, FEWEST_SUBDIVIDED) or self._validateModel(inputSet, self.inputModel.get())
        if inputSet is not None and not errors and self.getEngineValue(Config, 'method') != 'hdbscan' and self.clusters.get() > inputSet.getSize():
            errors.append('%d groups are asked for, but there are %d subtomograms.' % (self.clusters.get(), inputSet.getSize()))
        return errors
