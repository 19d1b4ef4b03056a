"""Tables and pictures that a run wrote, for its windows; what runs draw too stands in ``common/figures``."""

import csv

import numpy as np

from ..common.figures.maps import draw_slices


def readColumns(path):
    """Columns of a CSV file by name, as numbers; what is empty or no number is NaN."""
    with open(path, newline='') as handle:
        rows = list(csv.reader(line for line in handle if not line.startswith('#')))
    return {name: np.array([_number(row[index]) if index < len(row) else np.nan for row in rows[1:]]) for index, name in enumerate(rows[0])}


def _number(text):
    try:
        return float(text)
    except ValueError:
        return np.nan


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
