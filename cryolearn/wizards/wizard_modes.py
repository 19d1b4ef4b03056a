"""Wizard that chooses normal modes from a table with their collectivity."""

from pyworkflow.gui import dialog

from ..convert.modes import engineModes
from ..protocols import (
    CryoLearnProtClusterLandscape,
    CryoLearnProtElasticAlign,
    CryoLearnProtElasticTrain,
    CryoLearnProtSimulateParticles,
    CryoLearnProtTrajectory,
)
from ..viewers.modes_window import ModeMotion, ModesTable, modeRows
from ..viewers.window import addNote
from .dialogs import FigureDialog
from .wizard_base import DialogWizard

AMPLITUDE_RMSD_ANGST = 3.


class ModesDialog(FigureDialog):
    """Table of modes at the left (several can be selected), motion of the last selected one at the right."""

    def __init__(self, parent, rows, path, chosen=()):
        self.rows, self.chosen, self.last = rows, list(chosen), None
        self.motion = ModeMotion(path) if path else None
        FigureDialog.__init__(self, parent, 'Normal modes', size=(5.2, 5.2))

    def makeControls(self, frame):
        self.table = ModesTable(frame, self.rows, self._onSelect, height=16)
        self.table.pack(fill='both', expand=True)
        addNote(frame, 'Select several with Ctrl or Shift. Grey modes are below the collectivity threshold; click a heading to sort. '
                'Slow and collective modes have a low score.', 290)
        self.table.select(self.chosen)

    def _onSelect(self):
        found = self.table.selected()
        added = [mode for mode in found if mode not in self.chosen]
        self.last = added[-1] if added else found[-1] if found else None
        self.chosen = found
        self.refresh()

    def draw(self, figure):
        axes = figure.subplots()
        mode = self.last or (self.chosen[0] if self.chosen else None)
        if self.motion is None or mode not in self.motion.vectors:
            axes.set_axis_off()
            return
        self.motion.draw(axes, mode, AMPLITUDE_RMSD_ANGST * self.motion.atoms ** 0.5)

    def validate(self):
        if not self.table.selected():
            dialog.showInfo('Normal modes', 'Select one mode at least.', self)
            return False
        return True

    def currentValue(self):
        return self.table.selected()


class CryoLearnModesWizard(DialogWizard):
    """Fills the field of mode numbers from the modes that are selected in a table."""

    _parameter, _title, _wanted = 'modeNumbers', 'Normal modes', 'Choose the set of normal modes first.'
    _targets = [(protocol, ['modeNumbers']) for protocol in (
        CryoLearnProtElasticAlign, CryoLearnProtElasticTrain, CryoLearnProtSimulateParticles, CryoLearnProtTrajectory,
        CryoLearnProtClusterLandscape)]

    def makeDialog(self, form):
        modes = form.protocol.inputModes.get()
        if modes is None or not modes.getSize():
            return None
        return ModesDialog(form.root, modeRows(modes), engineModes(modes), self.numbersOf(form))
