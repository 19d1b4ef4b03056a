"""Dialogs of the wizards: a picture, controls, Select and Cancel."""

import tkinter as tk
from tkinter import ttk

from matplotlib.patches import Circle
from pyworkflow.gui import dialog

from ..common.figures.palette import COLOURS
from ..viewers.window import Drawing, addChoice, addNote, addSlider
from .images import lowPass

SMOOTHED_ANGST = 20.  # single particles are shown at this resolution, else there is only noise to see


class FigureDialog(Drawing, dialog.Dialog):
    """A dialog with controls at the left and a matplotlib figure at the right."""

    def __init__(self, parent, title, size=(5.4, 5.0)):
        self._size, self.value = size, None
        dialog.Dialog.__init__(self, parent, title, buttons=[('Select', dialog.RESULT_YES), ('Cancel', dialog.RESULT_CANCEL)], default='Select')

    def body(self, bodyFrame):
        controls = ttk.Frame(bodyFrame, padding=6)
        controls.grid(row=0, column=0, sticky='ns')
        self.putFigure(bodyFrame, self._size, row=0, column=1)
        bodyFrame.columnconfigure(1, weight=1)
        bodyFrame.rowconfigure(0, weight=1)
        self.makeControls(controls)
        self.refresh()

    def currentValue(self):
        """What Select takes over."""

    def apply(self):
        self.value = self.currentValue()


class RadiusDialog(FigureDialog):
    """A circle over the input's own image; the value is its radius in Å."""

    _title = 'Mask radius'

    def __init__(self, parent, preview, radius=0.):
        self.preview = preview
        self.half = preview.image(0).shape[0] * preview.pixelSize / 2.
        self.first = radius if 0 < radius <= self.half else 0.9 * self.half
        FigureDialog.__init__(self, parent, self._title)

    def makeControls(self, frame):
        self.which = addChoice(frame, 'Image', self.preview.names, self.refresh)
        self.radius = addSlider(frame, 'Radius (Å)', low=self.preview.pixelSize, high=self.half, value=self.first, command=self.refresh,
                                resolution=self.preview.pixelSize / 2.)
        addNote(frame, 'The circle should hold the whole particle and a little of its surroundings. Single particles are shown at %g Å.'
                % SMOOTHED_ANGST)

    def draw(self, figure):
        pixel, index = self.preview.pixelSize, self.preview.names.index(self.which.get())
        image = self.preview.image(index)
        if self.which.get().startswith('particle'):
            image = lowPass(image, pixel, max(SMOOTHED_ANGST, 2 * pixel))
        axes = figure.subplots()
        drawImage(axes, image, pixel)
        axes.add_patch(Circle((0, 0), self.radius.get(), fill=False, edgecolor=COLOURS[1], linewidth=2))
        axes.set_title('radius %.1f Å (%.1f px) of a box of %.0f Å' % (self.radius.get(), self.radius.get() / pixel, 2 * self.half))

    def currentValue(self):
        return round(self.radius.get(), 1)


class DiameterDialog(RadiusDialog):
    """A circle over the input's own image; the value is its diameter in Å."""

    _title = 'Particle diameter'

    def __init__(self, parent, preview, diameter=0.):
        RadiusDialog.__init__(self, parent, preview, diameter / 2.)

    def draw(self, figure):
        RadiusDialog.draw(self, figure)
        figure.axes[0].set_title('diameter %.0f Å of a box of %.0f Å' % (2 * self.radius.get(), 2 * self.half))

    def currentValue(self):
        return round(2 * self.radius.get(), 1)


class ResolutionDialog(FigureDialog):
    """The input's own image before and after a low-pass filter; the value is the resolution in Å."""

    def __init__(self, parent, preview, resolution=0.):
        self.preview, self.first = preview, max(resolution, 2 * preview.pixelSize)
        FigureDialog.__init__(self, parent, 'Resolution', size=(8.4, 4.4))

    def makeControls(self, frame):
        self.which = addChoice(frame, 'Image', self.preview.names, self.refresh)
        nyquist = 2 * self.preview.pixelSize
        self.resolution = addSlider(frame, 'Resolution (Å)', low=nyquist, high=max(20 * self.preview.pixelSize, 40.), value=self.first,
                                    command=self.refresh, resolution=0.1)
        addNote(frame, 'The finest possible is twice the pixel size: %.2f Å.' % nyquist)

    def draw(self, figure):
        pixel = self.preview.pixelSize
        image = self.preview.image(self.preview.names.index(self.which.get()))
        left, right = figure.subplots(1, 2)
        drawImage(left, image, pixel)
        left.set_title('%s as it is' % self.which.get())
        drawImage(right, lowPass(image, pixel, self.resolution.get()), pixel)
        right.set_title('low-pass filtered at %.1f Å' % self.resolution.get())

    def currentValue(self):
        return round(self.resolution.get(), 1)


def drawImage(axes, image, pixelSize):
    """Image in Å about its centre."""
    half = [size * pixelSize / 2. for size in image.shape]
    axes.imshow(image, cmap='gray', origin='lower', extent=(-half[1], half[1], -half[0], half[0]))
    axes.set(xlabel='x (Å)', ylabel='y (Å)')


class ChoiceDialog(FigureDialog):
    """A score over numbers; the value is the number that is clicked or typed."""

    def __init__(self, parent, title, numbers, scores, first, xLabel, yLabel, note):
        self.numbers, self.scores, self.first, self.labels, self.note = list(numbers), list(scores), first, (xLabel, yLabel), note
        FigureDialog.__init__(self, parent, title)

    def makeControls(self, frame):
        ttk.Label(frame, text=self.labels[0]).pack(anchor='w')
        self.chosen = tk.StringVar(frame, str(self.first))
        ttk.Spinbox(frame, textvariable=self.chosen, values=self.numbers, command=self.refresh, width=8).pack(anchor='w')
        addNote(frame, self.note)
        self.canvas.mpl_connect('button_press_event', self._onClick)

    def _onClick(self, event):
        if event.xdata is not None:
            self.chosen.set(str(min(self.numbers, key=lambda number: abs(number - event.xdata))))
            self.refresh()

    def draw(self, figure):
        axes = figure.subplots()
        axes.plot(self.numbers, self.scores, 'o-', color=COLOURS[0])
        if self.chosen.get().isdigit():
            axes.axvline(int(self.chosen.get()), color=COLOURS[4], linestyle='--')
        axes.set(xlabel=self.labels[0], ylabel=self.labels[1], title='click to choose')
        axes.set_xticks(self.numbers)
        axes.grid(alpha=0.3)

    def currentValue(self):
        return int(self.chosen.get())
