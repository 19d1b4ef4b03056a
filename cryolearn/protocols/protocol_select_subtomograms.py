"""Subtomograms inside a polygon drawn on the picture of their features (launched by the viewer)."""

import os

import pyworkflow.protocol.params as params
from pwem.protocols import BatchProtocol
from tomo.objects import SetOfSubTomograms

from ..common.tables import read_table
from ..convert.subtomogram_sets import appendSubtomograms
from ..engine.landscape.config import SelectLandscapeConfig
from .protocol_subtomogram_base import CryoLearnProtSubtomogramBase


class CryoLearnProtSelectSubtomograms(CryoLearnProtSubtomogramBase, BatchProtocol):
    """Makes a subset of the subtomograms inside a polygon that was drawn on the picture of their features. The viewer of classify and subdivide
    launches it, so that a selection by hand is a run like any other, which can be repeated.
    """

    _label = 'select subtomograms'
    _possibleOutputs = {'outputSubtomograms': SetOfSubTomograms}

    def _defineParams(self, form):
        Config = SelectLandscapeConfig
        form.addSection(label='Input')
        self._addSubtomogramsParam(form)
        form.addParam('table', params.FileParam, label='Table', help='Result table (npz) that holds the axes.')
        self.addEngineParam(form, Config, 'x_axis', default='reduced:0')
        self.addEngineParam(form, Config, 'y_axis', default='reduced:1')
        self.addEngineParam(form, Config, 'polygon')

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        digest = self.engineDigest(self._config(), subtomograms=self.inputSubtomograms.get(), table=self.table.get())
        self._insertFunctionStep(self.selectStep, digest, needsGPU=False)
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _config(self):
        return self.buildConfig(SelectLandscapeConfig, table=self.table.get(), output=self._getExtraPath())

    def selectStep(self, digest):
        self.runEngine('select-landscape', self._config())
        return [self._getExtraPath('selection.npz')]

    def createOutputStep(self, digest):
        columns, _ = read_table(self._getExtraPath('selection.npz'))
        source = self.inputSubtomograms.get()
        subtomograms = SetOfSubTomograms.create(self._getPath())
        appendSubtomograms(source, subtomograms, keep=columns['id'])
        self._defineOutputs(outputSubtomograms=subtomograms)
        self._defineSourceRelation(self.inputSubtomograms, subtomograms)
        self._setSummary('%d of %d subtomograms are inside the polygon on %s and %s.'
                         % (subtomograms.getSize(), source.getSize(), self.xAxis.get(), self.yAxis.get()))
        self._setMethods('%d subtomograms were selected by hand on the picture of their features.' % subtomograms.getSize())
        return [subtomograms.getFileName()]

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        errors = self._validateEngine() + self._validateSubtomograms(self.inputSubtomograms.get())
        if not os.path.exists(self.table.get() or ''):
            errors.append("The table '%s' does not exist: it is written by the run whose picture the polygon was drawn on." % (self.table.get() or ''))
        numbers = self.getEngineValue(SelectLandscapeConfig, 'polygon')
        if len(numbers) < 6 or len(numbers) % 2:
            errors.append('The polygon has %d numbers: give x and y of at least three corners.' % len(numbers))
        return errors
