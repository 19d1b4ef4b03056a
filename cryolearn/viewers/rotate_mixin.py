"""Turning a scene by dragging it."""

from typing import Any

import numpy as np

from ..common.figures.surface import turn

DEGREES_OF_PIXEL = 0.4


class Turning:
    """Mixin of a window whose picture follows ``rotation``; :meth:`turnByDragging` makes the mouse change it."""

    # of the window
    canvas: Any
    refresh: Any
    toolbar: Any = None

    rotation: Any = np.eye(3)
    _press: Any = None

    def turnByDragging(self):
        self.canvas.mpl_connect('button_press_event', self._onPress)
        self.canvas.mpl_connect('motion_notify_event', self._onMove)
        self.canvas.mpl_connect('button_release_event', self._onRelease)

    def _isFree(self, event):
        """Is the mouse over a picture, and not the toolbar's to zoom or shift it?"""
        return event.inaxes is not None and not str(getattr(self.toolbar, 'mode', ''))

    def _onPress(self, event):
        if self._isFree(event):
            self._press = event.x, event.y

    def _onMove(self, event):
        if self._press is not None:
            dx, dy = event.x - self._press[0], event.y - self._press[1]
            self._press = event.x, event.y
            self.rotation = turn(self.rotation, DEGREES_OF_PIXEL * dx, DEGREES_OF_PIXEL * dy)
            self.refresh()

    def _onRelease(self, event):
        self._press = None
