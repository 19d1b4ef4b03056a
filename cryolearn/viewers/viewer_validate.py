"""Viewer of a map's scores: table before and after, EMRinger curve, FSC curves, residues."""

from typing import Any, Dict, List

from ..common.figures.curves import draw_fsc
from ..common.figures.scores import draw_emringer
from ..common.fsc import HALF_MAP_THRESHOLD, TRUTH_THRESHOLD, resolution_of_curve
from ..convert.map_scores import (
    EMRINGER_TABLE,
    FSC_TABLE,
    HALVES,
    MODEL,
    RESIDUES_TABLE,
    SCORES_TABLE,
    readEmringerCurves,
    readFscCurves,
    readResidues,
    readScores,
)
from ..protocols import CryoLearnProtValidateMap
from . import plots_scores
from .slices_window import SlicesWindow
from .table import RowsTable
from .viewer_base import CryoLearnViewer, whenWritten
from .window import ChoiceWindow, FigureWindow, addChoice, addNote

SCORES_NOTE = ('Intervals hold 95 % of what resampled residues give. A change whose interval holds 0 is none. Click a row to see it drawn.')
RESIDUES_NOTE = 'Peak: chi1 at which the density around CA-CB is highest. Click a heading to sort, rows to mark them.'
CROSS_NOTE = ('"cross" is each half map after the treatment against the other half before it: only that is evidence of what the treatment has '
              'brought out.')
COLUMNS = {'Q-score': 'q_%s', 'EMRinger peak (SD above the mean)': 'peak_sd_%s', 'EMRinger peak (chi1, degrees)': 'peak_deg_%s',
           'EMRinger vote (1: rotameric)': 'rotameric_%s'}


class ScoresWindow(FigureWindow):
    """Table of all scores at the left, the chosen one drawn at the right."""

    def __init__(self, title, names, rows, parent=None):
        FigureWindow.__init__(self, title, parent, size=(4.6, 4.8))
        self.names = names
        self.rows = [dict(row, number=number, **_texts(row, names)) for number, row in enumerate(rows, 1)]

    def makeControls(self, frame):
        columns = [('number', '', 30), ('label', 'score', 330)] + [(name + '_text', name, 150) for name in self.names]
        if len(self.names) == 2:
            columns.append(('change_text', 'change', 200))
        self.table = RowsTable(frame, columns, self.rows, self.refresh, multiple=False, height=min(22, len(self.rows)))
        self.table.tree.column('label', anchor='w')
        self.table.pack(fill='both', expand=True)
        addNote(frame, SCORES_NOTE, 560)
        self.table.select([1])

    def draw(self, figure):
        for number in self.table.selected():
            plots_scores.drawScore(figure, self.rows[number - 1], self.names)


def _texts(row, names):
    """Value and interval of each map, and of the change, as the table shows them."""
    texts = {}
    for name in names + (['change'] if 'change' in row else []):
        form = '%+.3g' if name == 'change' else '%.3g'
        text = '' if row[name] is None else form % row[name]
        if row[name] is not None and row[name + '_low'] is not None:
            text += ' (%s, %s)' % (form % row[name + '_low'], form % row[name + '_high'])
        texts[name + '_text'] = text
    return texts


class ResiduesWindow(FigureWindow):
    """Residues as a table at the left, one of their columns along the chains at the right."""

    def __init__(self, title, names, residues, parent=None):
        FigureWindow.__init__(self, title, parent, size=(7.4, 4.6))
        self.names = names
        self.rows = [dict(row, number=int(row['id']), name='%s %s %d%s' % (row['chain'], row['residue_name'], row['residue_number'], row['insertion_code']))
                     for row in residues]

    def makeControls(self, frame):
        columns = [('number', '#', 45), ('name', 'residue', 100)]
        for kind, heading in (('q', 'Q'), ('peak_deg', 'peak (°)')):
            columns += [('%s_%s' % (kind, name), heading if len(self.names) == 1 else '%s %s' % (heading, name), 150) for name in self.names]
        self.which = addChoice(frame, 'Show', list(COLUMNS), self.refresh)
        self.table = RowsTable(frame, columns, self.rows, self.refresh, height=20)
        self.table.pack(fill='both', expand=True, pady=(6, 0))
        addNote(frame, RESIDUES_NOTE, 420)

    def draw(self, figure):
        form = COLUMNS[self.which.get()]
        plots_scores.drawResidues(figure, self.rows, {name: form % name for name in self.names}, self.which.get(),
                                  [number - 1 for number in self.table.selected()])


class CryoLearnValidateMapViewer(CryoLearnViewer):
    """Scores of one map, or of a map before and after a treatment, side by side."""

    _label = 'map scores viewer'
    _targets = [CryoLearnProtValidateMap]

    def _defineResults(self, form):
        self._addLine(form, 'showScores', 'Scores, side by side', important=True,
                      help='Every score of each map, with the interval that resampled residues give, and the change between two maps.')
        self._addLine(form, 'showEmringer', 'EMRinger curve', important=True,
                      help='The score over the density threshold, by one vote a residue and by the votes of cctbx, and the share of rotameric side chains.')
        self._addLine(form, 'showFsc', 'FSC curves, all in one plot')
        self._addFscSet(form)
        self._addLine(form, 'showResidues', 'Residues', important=True, help='Table of the residues, and their Q-scores along the chains.')
        self._addLine(form, 'showSlices', 'Slices of the maps')

    @whenWritten(SCORES_TABLE)
    def _showScores(self):
        return [ScoresWindow(self.title('Scores'), *readScores(self.extra()), parent=self.formWindow)]

    @whenWritten('summary.json', EMRINGER_TABLE)
    def _showEmringer(self):
        curves, found = readEmringerCurves(self.extra()), self.protocol._readEngineSummary()
        return self.figure('EMRinger', lambda figure: draw_emringer(figure, curves, found['model_ceiling'], found['side_chains']), size=(7.2, 6.2))

    @whenWritten(FSC_TABLE)
    def _showFsc(self):
        kinds: Dict[str, List[Any]] = {MODEL: [], HALVES: []}
        for kind, *curve in readFscCurves(self.extra()):
            kinds[MODEL if kind == MODEL else HALVES].append(curve)
        return [ChoiceWindow(self.title('FSC'), self.formWindow, {kind: curves for kind, curves in kinds.items() if curves or kind == MODEL}, drawCurvesOf,
                             CROSS_NOTE if kinds[HALVES] else 'Map and model: read at 0.5.', 'Curves of', size=(7.4, 5.2))]

    @whenWritten(RESIDUES_TABLE)
    def _showResidues(self):
        names, _ = readScores(self.extra())
        return [ResiduesWindow(self.title('Residues'), names, readResidues(self.extra()), self.formWindow)]

    def _showSlices(self, param=None):
        files = {'map': 'input_map.mrc', 'map after': 'input_map_after.mrc'}
        maps = {label: self.extra(name) for label, name in files.items() if self.has(name)}
        return [SlicesWindow(self.title('Slices'), maps, self.formWindow)] if maps else self._notReady('The map')


def drawCurvesOf(figure, kind, curves):
    """FSC curves of maps and model, or of half maps."""
    thresholds = (HALF_MAP_THRESHOLD,) if kind == HALVES else (TRUTH_THRESHOLD, HALF_MAP_THRESHOLD)
    drawn = [(label, frequency, values, resolution_of_curve(frequency, values, thresholds[0])) for label, frequency, values in curves]
    draw_fsc(figure, drawn, thresholds, 'FSC of %s' % kind)
