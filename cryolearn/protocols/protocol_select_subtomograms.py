"""Subtomograms inside a polygon drawn on the picture of their features (launched by the viewer)."""

from typing import List

import pyworkflow.protocol.params as params
from pwem.protocols import BatchProtocol
from tomo.objects import SetOfSubTomograms

from ..common.tables import read_table
from ..engine.landscape.config import SelectLandscapeConfig
from .input_checks import missingFiles
from .protocol_base import EngineStep
from .protocol_select_landscape import SELECTION
from .protocol_subtomogram_base import CryoLearnProtSubtomogramBase


class CryoLearnProtSelectSubtomograms(CryoLearnProtSubtomogramBase, BatchProtocol):
    """Makes a subset of the subtomograms inside a polygon that was drawn on the picture of their features. The viewer of classify and subdivide
    launches it, so that a selection by hand is a run like any other, which can be repeated.
    """

    _label = 'select subtomograms'
    _possibleOutputs = {'outputSubtomograms': SetOfSubTomograms}
    _madeFrom = ('inputSubtomograms',)
    _references: List[str] = []

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
        self._insertResultSteps(subtomograms=self.inputSubtomograms.get(), table=self.table.get())

    def _config(self):
        return self.buildConfig(SelectLandscapeConfig, table=self.table.get())

    selectStep = EngineStep('select-landscape', SELECTION)

    def _makeOutputs(self):
        columns, _ = read_table(self._getExtraPath(SELECTION))
        yield 'outputSubtomograms', self._makeSubset(columns['id'])

    def _describe(self):
        counts = self.outputSubtomograms.getSize(), self.inputSubtomograms.get().getSize()
        return (['%d of %d subtomograms are inside the polygon on %s and %s.' % (*counts, self.xAxis.get(), self.yAxis.get())],
                '%d subtomograms were selected by hand on the picture of their features.' % counts[0])

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        return (self._validateSubtomograms(self.inputSubtomograms.get())
                + missingFiles([self.table.get() or ''], "The table '%s' does not exist: it is written by the run whose picture the polygon was drawn on.")
                + self._validatePolygon(self.getEngineValue(SelectLandscapeConfig, 'polygon')))
