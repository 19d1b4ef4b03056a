"""Eigen-motions of a Gaussian model: a table, arrows on the Gaussians, colours, and picking a region for a new run."""

import os
from tkinter import ttk

import numpy as np

from ..common.figures.bars import draw_explained_variance
from ..convert.structures import modelsFile, readFrames
from ..engine.landscape.config import TrajectoryConfig
from . import scene
from .animate_mixin import Playing
from .backbone import readModelsAndWeights
from .engine_preview import callEngine, emptyFolder
from .gaussian_scene import GaussianModel, GaussianScene, drawModel
from .scene_window import SceneWindow
from .table import RowsTable
from .window import FigureWindow, addButton, addCheck, addChoice, addNote, addSlider

COLUMNS = (('motion', 'motion', 64), ('explained', 'explains %', 92), ('null', 'noise %', 74), ('std', 'SD (Å)', 64))
THIS_MOTION, NO_COLOUR = 'this motion', 'none'
SHOWN_FRAMES = 20  # models shown at once along a path
LARGEST_SD, FIRST_SD = 8, 2


class EigenMotionsWindow(Playing, GaussianScene, FigureWindow):
    """Table of eigen-motions at the left, Gaussians with arrows at the right.

    Parameters
    ----------
    model : GaussianModel
    onFocus : callable, optional
        Called with the numbers of the picked Gaussians to prepare a new run; returns what to tell.
    """

    def __init__(self, model, title='Eigen-motions', parent=None, onFocus=None):
        FigureWindow.__init__(self, title, parent, size=(7.4, 6.6))
        self.setUpScene(model)
        self.onFocus = onFocus

    def makeControls(self, frame):
        self.table = RowsTable(frame, COLUMNS, self.model.motions, self.refresh, multiple=False, height=min(8, max(3, len(self.model.motions))),
                               descending=('explained', 'std'))
        self.table.pack(fill='x')
        colours = [THIS_MOTION, *self.model.values, NO_COLOUR]
        self.colour = addChoice(frame, 'Colour of the Gaussians', colours, self.refresh, colours[1] if self.model.values else colours[0])
        self.amplitude = addSlider(frame, 'Amplitude (standard deviations)', low=0, high=LARGEST_SD, value=FIRST_SD, command=self.refresh, resolution=0.25)
        self.arrows = addCheck(frame, 'Arrows', self.refresh)
        self.playButton = addButton(frame, 'Play', self.togglePlay)
        ttk.Separator(frame).pack(fill='x', pady=6)
        self.makePickControls(frame)
        if self.onFocus:
            addButton(frame, 'Prepare a new run with this focus', self.newRun)
        self.note = addNote(frame, 'Grey motions explain no more than noise does. Drag the picture to turn it.', 270)
        if self.model.motions:
            self.table.select([self.model.motions[0]['motion']])
        self.turnByDragging()

    def newRun(self):
        if not self.focus():
            self.showError('No Gaussian is picked: choose the tool "pick" or "lasso" first, or type numbers.')
            return
        self.note.set(self.onFocus(self.focus()) or '')

    # ------------------------------------------------- drawing ------------------------------------------------
    def draw(self, figure):
        axes = figure.subplots()
        chosen = self.table.selected()
        row = next((item for item in self.model.motions if chosen and item['motion'] == chosen[0]), None)
        move = np.zeros_like(self.model.positions) if row is None else self.amplitude.get() * row['std'] * self.model.vectors[row['motion']]
        length = np.linalg.norm(move, axis=1)
        label = self.colour.get()
        values = length if label == THIS_MOTION else self.model.values.get(label)
        moved = move.shape[1] == 3  # else amplitudes vary, and nothing moves
        self.drawScene(axes, self.model.positions + self.phase * move if moved else None, (label, values))
        if row is None:
            axes.set_title('%d Gaussians' % len(self.model))
            return
        if self.arrows.get() and moved:
            scene.drawArrows(axes, self.model.positions, move, self.rotation)
        axes.set_title(motionTitle(row, self.amplitude.get(), move), fontsize=11)


def motionTitle(row, deviations, move):
    """What a picture of an eigen-motion says above it; ``move`` is what is drawn: (M, 3) in Å, or (M, 1) for amplitudes."""
    length = np.linalg.norm(move, axis=1)
    size = np.sqrt((length ** 2).mean()), length.max()
    text = 'move the Gaussians by %.1f Å RMS, at most %.1f Å' if move.shape[1] == 3 else 'change the weights by %.3g RMS, at most %.3g'
    return 'eigen-motion %d: %.1f %% of the variance (noise %.1f %%)\n%.3g SD %s' % (
        row['motion'], row['explained'], row['null'], deviations, text % size)


class GaussianPathWindow(SceneWindow):
    """Gaussian models along a path, coloured by what is known of each Gaussian."""

    def __init__(self, title, parent, model, conformations, weights, **options):
        SceneWindow.__init__(self, title, parent, conformations, np.zeros(conformations.shape[1] - 1, bool), **options)
        self.model = model
        self.weights = None if weights is None else weights / np.maximum(weights.max(axis=0), 1e-9)  # of the most there is along the path

    def makeControls(self, frame):
        self.colour = addChoice(frame, 'Colour of the Gaussians', [*self.model.values, NO_COLOUR], self.refresh)
        SceneWindow.makeControls(self, frame)

    def drawConformation(self, axes, index):
        label = self.colour.get()
        drawModel(axes, self.model, self.rotation, self.conformations[index], None if self.weights is None else self.weights[index],
                  (label, self.model.values.get(label)))


def drawExplained(figure, motions):
    """Explained variance of each eigen-motion against that of shuffled residuals."""
    columns = {name: np.array([row[name] for row in motions]) for name in ('explained', 'null', 'selected')}
    draw_explained_variance(figure, columns['explained'] / 100, columns['null'] / 100, columns['selected'])


def gaussianPath(motion, table, folder, path, points=(), frames=SHOWN_FRAMES):
    """Gaussian models along a path, made by the engine in a scratch folder.

    Parameters
    ----------
    motion, table : str
        The motion model, and the particles' latent vectors.
    path : str
        As of the trajectory command: 'pca', 'points' or 'frames'.
    points : (m, k)

    Returns
    -------
    conformations (f, M, 3) in Å, weights (f, M) relative to the mean, latent vectors (f, k)
    """
    config = TrajectoryConfig(table=table, motion=motion, path=path, points=[float(value) for value in np.ravel(points)], frames=frames,
                              volumes=False, output=emptyFolder(folder))
    callEngine('trajectory', config)
    models, weights, _ = readModelsAndWeights(modelsFile(folder))
    return np.stack(models), np.stack(weights), np.array([vector for _, vector in readFrames(folder)])


def openGaussianPath(motion, table, folder, parent, title, path='pca', points=()):
    """The window of Gaussian models along a path, at once, without a run."""
    conformations, weights, vectors = gaussianPath(motion, table, folder, path, points)
    model = GaussianModel(os.path.dirname(motion))
    names = ['frame %d of %d, place %s' % (number, len(vectors), ', '.join('%.2f' % value for value in vector))
             for number, vector in enumerate(vectors, start=1)]
    return GaussianPathWindow(title, parent, model, conformations, weights, names=names)
