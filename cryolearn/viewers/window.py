"""Windows with a matplotlib canvas and, at its left, controls."""

import tkinter as tk
from tkinter import ttk
from typing import Any

from matplotlib.backends.backend_tkagg import FigureCanvasTkAgg, NavigationToolbar2Tk
from matplotlib.figure import Figure
from pyworkflow.gui import Window, dialog
from pyworkflow.viewer import View

from ..common.figures.surface import default_level


class Drawing:
    """A figure with controls beside it, of a window or a dialog; subclasses fill them in."""

    def putFigure(self, master, size, **place):
        self.figure = Figure(figsize=size, layout='constrained')
        self.canvas = FigureCanvasTkAgg(self.figure, master=master)
        self.canvas.get_tk_widget().grid(sticky='news', **place)

    def refresh(self):
        self.figure.clear()
        self.draw(self.figure)
        self.canvas.draw_idle()

    def makeControls(self, frame):
        """Widgets at the left; none by default."""

    def draw(self, figure):
        """Fill the figure."""


class FigureWindow(Drawing, View):
    """A window that shows one figure.

    ``draw(figure)`` fills the figure; subclasses override :meth:`draw` and add controls in :meth:`makeControls`.
    """

    def __init__(self, title, parent=None, draw=None, size=(7.2, 5.4)):
        View.__init__(self)
        self.title, self.parent, self._draw, self._size = title, parent, draw, size
        self.window: Any = None

    def build(self):
        """Make the window without entering Tk's loop; returns self."""
        self.window = Window(self.title, masterWindow=self.parent, minsize=(560, 420))
        root = self.window.root
        root.bind('<Destroy>', lambda event: self.onClose() if event.widget is root else None)
        root.columnconfigure(0, weight=0)
        root.columnconfigure(1, weight=1)
        self.controls = ttk.Frame(root, padding=8)
        self.controls.grid(row=0, column=0, sticky='ns')
        right = ttk.Frame(root)
        right.grid(row=0, column=1, sticky='news')
        right.rowconfigure(0, weight=1)
        right.columnconfigure(0, weight=1)
        self.putFigure(right, self._size, row=0, column=0)
        bar = ttk.Frame(right)
        bar.grid(row=1, column=0, sticky='ew')
        self.toolbar = NavigationToolbar2Tk(self.canvas, bar)
        self.makeControls(self.controls)
        if not self.controls.winfo_children():
            self.controls.grid_remove()
        self.refresh()
        return self

    def show(self):
        if self.window is None:
            self.build()
        self.window.show()

    def close(self):
        if self.window is not None:
            self.window.root.destroy()
            self.window = None

    # ------------------------------------------- for subclasses ------------------------------------------------
    def draw(self, figure):
        if self._draw is not None:
            self._draw(figure)

    def onClose(self):
        """Called when the window goes away."""

    # ---------------------------------------------- small help -------------------------------------------------
    def showError(self, message):
        dialog.showError(self.title, message, self.window.root)

    def showInfo(self, message):
        dialog.showInfo(self.title, message, self.window.root)


def addChoice(frame, label, values, command, value=None):
    """A labelled drop-down list in the next rows of ``frame``; returns its variable."""
    ttk.Label(frame, text=label).pack(anchor='w', pady=(6, 0))
    variable = tk.StringVar(frame, value if value is not None else (values[0] if values else ''))
    box = ttk.Combobox(frame, textvariable=variable, values=list(values), state='readonly', width=28)
    box.pack(fill='x')
    box.bind('<<ComboboxSelected>>', lambda event: command())
    return variable


class ChoiceWindow(FigureWindow):
    """A figure of one of several things, chosen at the left.

    Parameters
    ----------
    choices : dict
        ``{label: what is drawn}``.
    drawChoice : callable
        ``drawChoice(figure, label, what)``.
    """

    def __init__(self, title, parent, choices, drawChoice, note='', label='Show', size=(7.6, 5.4)):
        FigureWindow.__init__(self, title, parent, size=size)
        self.choices, self.drawChoice, self.note, self.label = choices, drawChoice, note, label

    def makeControls(self, frame):
        self.which = addChoice(frame, self.label, list(self.choices), self.refresh)
        addNote(frame, self.note)

    def draw(self, figure):
        self.drawChoice(figure, self.which.get(), self.choices[self.which.get()])


def addEntry(frame, label, value, onReturn, width=30):
    """A labelled line to type in; returns its variable."""
    ttk.Label(frame, text=label).pack(anchor='w', pady=(6, 0))
    variable = tk.StringVar(frame, value)
    entry = ttk.Entry(frame, textvariable=variable, width=width)
    entry.pack(anchor='w')
    entry.bind('<Return>', lambda event: onReturn())
    return variable


def addCheck(frame, label, command, value=True):
    variable = tk.BooleanVar(frame, value)
    ttk.Checkbutton(frame, text=label, variable=variable, command=command).pack(anchor='w')
    return variable


def addButton(frame, label, command, **options):
    button = ttk.Button(frame, text=label, command=command)
    button.pack(fill='x', pady=2, **options)
    return button


def addSlider(frame, label, low, high, value, command, resolution=1):
    """A labelled slider that shows its value; returns its variable."""
    ttk.Label(frame, text=label).pack(anchor='w', pady=(6, 0))
    variable = tk.DoubleVar(frame, value)
    tk.Scale(frame, from_=low, to=high, resolution=resolution, orient='horizontal', variable=variable, showvalue=True,
             command=lambda text: command(), length=220).pack(fill='x')
    return variable


def addLevel(frame, label, volume, command):
    """A slider over the densities of a map, at the level that fits it; returns its variable."""
    low, high = float(volume.min()), float(volume.max())
    return addSlider(frame, label, low, high, value=default_level(volume), command=command, resolution=(high - low) / 200 or 1)


def addNote(frame, text='', width=230):
    """A text that wraps; returns its variable."""
    variable = tk.StringVar(frame, text)
    label = ttk.Label(frame, textvariable=variable, wraplength=width, justify='left')
    label.variable = variable  # type: ignore[attr-defined]  # Tk forgets the text of a variable that nobody holds
    label.pack(anchor='w', pady=(6, 0))
    return variable
