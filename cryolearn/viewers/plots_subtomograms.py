"""Plots of classes of subtomograms: confusion, sizes, a gallery (numpy and matplotlib)."""

from typing import Any

import numpy as np

from . import plots, scene

MAX_NAMES = 40  # names written on an axis
SIDE_VIEW = scene.turn(np.eye(3), 30, 20)


def drawConfusion(figure, counts, names, title='Confusion of unseen subtomograms', columnNames=None):
    """How many subtomograms of each true class (rows) were given which class (columns), as parts of the rows.

    Parameters
    ----------
    counts : (n, m)
    names : list of str
        Of the rows; ``columnNames`` those of the columns where they differ.
    """
    counts = np.asarray(counts, dtype=float)
    columnNames = columnNames or names
    totals = counts.sum(axis=1, keepdims=True)
    parts = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    axes = figure.subplots()
    image = axes.imshow(parts, cmap='Blues', vmin=0, vmax=1, aspect='auto')
    figure.colorbar(image, ax=axes, label='part of the true class')
    size = 8 if max(counts.shape) <= 12 else 6 if max(counts.shape) <= MAX_NAMES else 0
    for (row, column), part in np.ndenumerate(parts):
        if size and counts[row, column]:
            text = '%.0f' % (100 * part) if max(counts.shape) > 12 else '%.0f %%\n(%d)' % (100 * part, counts[row, column])
            axes.text(column, row, text, ha='center', va='center', fontsize=size, color='white' if part > 0.55 else 'black')
    if size:
        axes.set_xticks(range(len(columnNames)), columnNames, rotation=60 if len(columnNames) > 4 else 0, ha='right' if len(columnNames) > 4 else 'center',
                        fontsize=8)
        axes.set_yticks(range(len(names)), ['%s (%d)' % (name, total) for name, total in zip(names, totals[:, 0])], fontsize=8)
    axes.set(xlabel='class of the network', ylabel='true class (subtomograms)')
    right = sum(counts[row, columnNames.index(name)] for row, name in enumerate(names) if name in columnNames)
    axes.set_title('%s: %.1f %% right' % (title, 100 * right / max(counts.sum(), 1)))


def drawSizes(figure, numbers, names=None, colour=None, colourLabel='', title='Cluster sizes'):
    """Bars of class sizes, largest first, coloured by a value of each class where there is one."""
    order = np.argsort(-np.asarray(numbers), kind='stable')
    heights = np.asarray(numbers)[order]
    axes = figure.subplots()
    paint: Any = plots.COLOURS[0]
    if colour is not None:
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        values = np.asarray(colour, dtype=float)[order]
        finite = values[np.isfinite(values)]
        scale = ScalarMappable(Normalize(finite.min(), finite.max()) if len(finite) else None, colormaps['viridis'])
        paint = [scale.to_rgba(value) if np.isfinite(value) else (0.7, 0.7, 0.7, 1) for value in values]
        figure.colorbar(scale, ax=axes, label=colourLabel)
    axes.bar(range(len(heights)), heights, color=paint)
    labels = [str(name) for name in (np.asarray(names, dtype=object)[order] if names is not None else order + 1)]
    step = -(-len(labels) // MAX_NAMES)
    axes.set_xticks(range(0, len(labels), step), labels[::step], rotation=90 if len(labels) > 12 else 0, fontsize=8)
    axes.set(xlabel='class, largest first', ylabel='subtomograms', title='%s (%d classes, %d subtomograms)' % (title, len(heights), heights.sum()))
    axes.grid(alpha=0.3, axis='y')


def drawGallery(figure, entries, level=None):
    """Averages, a row each: central slices xy, xz and yz, and the isosurface.

    Parameters
    ----------
    entries : list of (label, volume (z, y, x), pixel size in Å)
    level : float, optional
        Density of the surfaces in standard deviations above the mean; each volume's own when not said.
    """
    grid = figure.subplots(len(entries), 4, squeeze=False)
    for row, (label, volume, pixelSize) in zip(grid, entries):
        low, high = np.percentile(volume, (0.5, 99.8))
        middle = [size // 2 for size in volume.shape]
        planes = (('xy', volume[middle[0]]), ('xz', volume[:, middle[1]]), ('yz', volume[:, :, middle[2]]))
        for axes, (name, plane) in zip(row, planes):
            extent = (0, plane.shape[1] * pixelSize, 0, plane.shape[0] * pixelSize)
            axes.imshow(plane, cmap='gray', vmin=low, vmax=high, origin='lower', extent=extent)
            axes.set(xlabel='%s (Å)' % name[0], ylabel='%s (Å)' % name[1])
            axes.tick_params(labelsize=6)
            axes.xaxis.label.set_size(7)
            axes.yaxis.label.set_size(7)
        row[0].set_title(label, fontsize=9, loc='left')
        _drawSurface(row[3], volume, pixelSize, level)


def _drawSurface(axes, volume, pixelSize, level):
    density = scene.defaultLevel(volume) if level is None else float(volume.mean() + level * volume.std())
    mesh = scene.surfaceMesh(volume, pixelSize, density)
    if mesh is None:
        axes.text(0.5, 0.5, 'nothing is that dense', ha='center', va='center', fontsize=8, transform=axes.transAxes)
        axes.set_axis_off()
        return
    scene.drawSurface(axes, mesh, SIDE_VIEW)
    reach = 0.5 * max(volume.shape) * pixelSize
    scene.finishAxes(axes, np.zeros(3), reach, SIDE_VIEW)
