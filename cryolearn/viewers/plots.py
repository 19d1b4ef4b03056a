"""Tables and pictures that a run wrote, for its windows; what runs draw too stands in ``common/figures``."""

import numpy as np

from ..common.figures.maps import draw_slices
from ..convert.tables import readRows


def readColumns(path):
    """Columns of a CSV file by name, as numbers; what is empty or no number is NaN."""
    rows = readRows(path)
    return {name: np.array([row[name] if isinstance(row[name], float) else np.nan for row in rows]) for name in rows[0]} if rows else {}


def drawSlices(figure, volume, pixelSize, fractions=(0.5, 0.5, 0.5), title=''):
    """Slices xy, xz and yz of a map (z, y, x) at the given heights (parts of the box), with one grey scale."""
    draw_slices(figure.subplots(1, 3), volume, pixelSize, fractions, numbered=True)
    figure.suptitle(title)


def drawPicture(figure, path):
    """A PNG that the run wrote."""
    from matplotlib.image import imread
    axes = figure.subplots()
    axes.imshow(imread(path))
    axes.set_axis_off()
