"""What the wizards share."""

import subprocess
from typing import Any

from pyworkflow.gui import dialog
from pyworkflow.wizard import Wizard

from ..protocols.config_params import rangeText, wholeNumbers


class DialogWizard(Wizard):
    """Fills a parameter of the form with what is chosen in a dialog about the form's input."""

    _parameter = ''
    _title = ''
    _wanted = ''  # what to say where there is no input

    def makeDialog(self, form) -> Any:
        """The dialog after it was closed; None where the form has no input for it."""

    def show(self, form, *params):
        try:
            found = self.makeDialog(form)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            dialog.showError(self._title, str(error), form.root)
            return
        if found is None:
            dialog.showWarning(self._title, self._wanted, form.root)
        elif found.resultYes():
            form.setVar(self._parameter, rangeText(found.value) if isinstance(found.value, list) else found.value)

    def numbersOf(self, form):
        """Numbers that the parameter holds; none where it holds something else."""
        try:
            return wholeNumbers(getattr(form.protocol, self._parameter).get())
        except ValueError:
            return []
