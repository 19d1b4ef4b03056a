"""Playing a motion to and fro in a window."""

from typing import Any

import numpy as np

STEPS = 24  # of one period of the animation


class Playing:
    """Mixin of a FigureWindow with a ``playButton`` whose command is :meth:`togglePlay`; its picture follows :attr:`phase`."""

    # of the window
    playButton: Any
    refresh: Any
    window: Any

    _timer: Any = None
    _step = 0

    @property
    def phase(self):
        """From -1 to 1: how far the motion is out."""
        return np.sin(2 * np.pi * self._step / STEPS)

    def togglePlay(self):
        if self._timer is not None:
            self.onClose()
            self._step = 0
            self.playButton.config(text='Play')
            self.refresh()
            return
        self.playButton.config(text='Stop')
        self._advance()

    def _advance(self):
        self._step = (self._step + 1) % STEPS
        self.refresh()
        self._timer = self.window.root.after(60, self._advance)

    def onClose(self):
        if self._timer is not None:
            self.window.root.after_cancel(self._timer)
            self._timer = None
