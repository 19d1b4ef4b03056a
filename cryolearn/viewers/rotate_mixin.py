"""Turning a scene by dragging it."""

from typing import Any

from ..common.figures.surface import turn


class Turning:
    """Mixin of a FigureWindow whose picture follows ``rotation``; :meth:`turnByDragging` makes the mouse change it."""

    # of the window
    canvas: Any
    toolbar: Any
    refresh: Any
    rotation: Any

    _press: Any = None

    def turnByDragging(self):
        self.canvas.mpl_connect('button_press_event', self._onPress)
        self.canvas.mpl_connect('motion_notify_event', self._onMove)
        self.canvas.mpl_connect('button_release_event', self._onRelease)

    def _onPress(self, event):
        if event.inaxes is not None and not str(self.toolbar.mode):
            self._press = event.x, event.y

    def _onMove(self, event):
        if self._press is None:
            return
        dx, dy = event.x - self._press[0], event.y - self._press[1]
        self._press = event.x, event.y
        self.rotation = turn(self.rotation, 0.4 * dx, 0.4 * dy)
        self.refresh()

    def _onRelease(self, event):
        self._press = None
