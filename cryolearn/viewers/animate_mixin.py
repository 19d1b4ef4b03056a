"""Windows that draw themselves again and again."""

from typing import Any

import numpy as np

STEPS = 24  # of one period of a motion to and fro


class Repeating:
    """Mixin of a FigureWindow that is drawn again after each pause."""

    PAUSE_MS = 60
    # of the window
    refresh: Any
    window: Any

    _timer: Any = None

    def nextStep(self):
        """What changes from one drawing to the next."""

    def wait(self):
        self._timer = self.window.root.after(self.PAUSE_MS, self._again)

    def _again(self):
        self.nextStep()
        self.refresh()
        self.wait()

    def onClose(self):
        if self._timer is not None:
            self.window.root.after_cancel(self._timer)
            self._timer = None


class Playing(Repeating):
    """Mixin of a FigureWindow with a ``playButton`` whose command is :meth:`togglePlay`; its picture follows :attr:`phase`."""

    playButton: Any  # of the window

    _step = 0

    @property
    def phase(self):
        """From -1 to 1: how far the motion is out."""
        return np.sin(2 * np.pi * self._step / STEPS)

    def nextStep(self):
        self._step = (self._step + 1) % STEPS

    def rest(self):
        """Go back to where the motion is not out."""
        self._step = 0
        self.refresh()

    def togglePlay(self):
        if self._timer is None:
            self.playButton.config(text='Stop')
            self._again()
        else:
            self.onClose()
            self.playButton.config(text='Play')
            self.rest()
