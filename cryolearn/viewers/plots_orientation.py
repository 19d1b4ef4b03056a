"""Plots of orientations: errors, viewing directions, distances (numpy and matplotlib)."""

import numpy as np
from matplotlib.ticker import FuncFormatter

from . import plots

FEWEST_IN_CELLS = 600  # from so many images on cells of the sphere are drawn, before that each image
IN_A_CELL = 8  # images that a cell of the sphere holds, about
LARGEST_GRID = 24  # cells from pole to pole
DISTANCE_BINS = 24


def drawErrors(figure, errors, label='error'):
    """Histogram of errors in degrees with their mean, median and 95th percentile."""
    axes = figure.subplots()
    top = max(min(float(np.percentile(errors, 99.5)), 2 * float(np.percentile(errors, 95))), 1e-3)  # a few outliers do not make one bar of the rest
    shown = errors[errors <= top]
    axes.hist(shown, bins=int(np.clip(np.sqrt(len(shown)), 12, 60)), range=(0, top), color=plots.COLOURS[5], edgecolor='white', linewidth=0.4)
    for name, value, colour, style in (('median', np.median(errors), plots.COLOURS[0], '-'), ('mean', errors.mean(), plots.COLOURS[4], '--'),
                                       ('95th percentile', np.percentile(errors, 95), '0.35', ':')):
        axes.axvline(value, color=colour, linestyle=style, linewidth=1.8, label='%s %.2f° (%.4f rad)' % (name, value, np.radians(value)))
    beyond = len(errors) - len(shown)
    axes.set(xlabel='%s (degrees)%s' % (label, '; %d beyond the axis' % beyond if beyond else ''), ylabel='particles',
             title='%s of %d particles' % (label.capitalize(), len(errors)), xlim=(0, top))
    axes.grid(alpha=0.3, axis='y')
    axes.legend(frameon=False)


def drawQuality(figure, values, label, items='particles'):
    """Histogram of what is known of each particle."""
    axes = figure.subplots()
    low, high = np.percentile(values, (0.5, 99.5))
    axes.hist(np.clip(values, low, high), bins=int(np.clip(np.sqrt(len(values)), 12, 60)), color=plots.COLOURS[5], edgecolor='white', linewidth=0.4)
    axes.axvline(np.median(values), color=plots.COLOURS[0], linewidth=1.8, label='median %.3g' % np.median(values))
    axes.set(xlabel=label, ylabel=items, title='%s of %d %s' % (label.split(' (')[0].capitalize(), len(values), items))
    axes.grid(alpha=0.3, axis='y')
    axes.legend(frameon=False)


def drawSphere(figure, longitude, latitude, values=None, label='images', title=''):
    """Viewing directions over the whole sphere in an equal-area projection.

    Parameters
    ----------
    longitude, latitude : arrays (n,), radians
    values : array (n,), optional
        What colours them: its mean in each cell, or each point's own when there are few. None counts the images of each cell.
    """
    axes = figure.add_subplot(projection='mollweide')
    if values is None or len(longitude) >= FEWEST_IN_CELLS:
        mesh = _drawCells(axes, longitude, latitude, values)
        label = label if values is None else label + ', mean of a cell'
    else:
        mesh = axes.scatter(longitude, latitude, c=values, s=18, linewidths=0, cmap='viridis', vmin=values.min(), vmax=np.percentile(values, 95))
    figure.colorbar(mesh, ax=axes, orientation='horizontal', shrink=0.7, pad=0.06, label=label, extend='max' if values is not None else 'neither')
    axes.set_facecolor('0.93')
    axes.grid(color='0.6', alpha=0.5, linewidth=0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, position: ''))  # the poles' distance says enough; these would lie over the cells
    axes.set_yticks(np.radians(range(-60, 61, 30)))
    axes.tick_params(labelsize=8)
    axes.set_title(title, pad=14)


def _drawCells(axes, longitude, latitude, values):
    """Cells of about equal area: the mean of ``values``, or images in each; cells without images stay grey."""
    rings, shown = sphereCells(longitude, latitude, values)
    known = np.concatenate([ring.compressed() for ring in shown])
    low, top = known.min() if values is not None else 0, np.percentile(known, 98)
    for (south, north), ring in zip(rings, shown):
        edges, heights = np.linspace(-np.pi, np.pi, len(ring) + 1), np.linspace(south, north, 9)  # so that the sides of cells follow the sphere
        mesh = axes.pcolormesh(edges, heights, np.ma.stack([ring] * 8), cmap='viridis', vmin=low, vmax=max(top, low + 1e-9), rasterized=True)
    return mesh


def sphereCells(longitude, latitude, values=None):
    """Rings of cells over the sphere, fewer cells towards the poles.

    Returns
    -------
    rings : list of (south, north), radians
    shown : list of masked arrays
        For each ring the mean of ``values`` in its cells, or their numbers of images; cells without images are masked.
    """
    count = int(np.clip(np.sqrt(len(longitude) / (2.5 * IN_A_CELL)), 6, LARGEST_GRID))
    edges = np.linspace(-np.pi / 2, np.pi / 2, count + 1)
    ring = np.clip(np.digitize(latitude, edges) - 1, 0, count - 1)
    shown = []
    for number in range(count):
        cells = max(3, int(round(2 * count * np.cos(edges[number:number + 2].mean()))))
        at = np.minimum(((longitude[ring == number] + np.pi) / (2 * np.pi) * cells).astype(int), cells - 1)
        images = np.bincount(at, minlength=cells)
        found = images if values is None else np.bincount(at, values[ring == number], cells) / np.maximum(images, 1)
        shown.append(np.ma.masked_where(images == 0, found))
    return list(zip(edges[:-1], edges[1:])), shown


def drawDistances(figure, known, learned, weights=None, knownLabel='true distance', title='Learned distances of unseen images'):
    """Learned distance (degrees) over the known one, with the median and the middle 80 % in bins, and where both are equal.

    ``weights`` of the pairs count in the mean absolute error.
    """
    axes = figure.subplots()
    top = float(max(known.max(), learned.max()))
    plots.drawDensity(axes, known, learned, 80)
    rows = plots.sampleRows(len(known), 3000)
    axes.scatter(known[rows], learned[rows], s=4, linewidths=0, alpha=0.25, color=plots.COLOURS[0], zorder=1)
    centres, low, middle, high = distanceCurve(known, learned)
    axes.fill_between(centres, low, high, color=plots.COLOURS[1], alpha=0.25, linewidth=0, label='80 % of the pairs', zorder=2)
    axes.plot(centres, middle, color=plots.COLOURS[4], linewidth=2, label='median', zorder=3)
    axes.plot([0, top], [0, top], color='0.2', linestyle='--', linewidth=1, label='equal', zorder=3)
    error = np.average(np.abs(known - learned), weights=weights)
    axes.set(xlabel='%s (degrees)' % knownLabel, ylabel='learned distance (degrees)', xlim=(0, top), ylim=(0, top),
             title='%s\nmean absolute error %.1f° (%.3f rad)' % (title, error, np.radians(error)))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc='upper left')


def distanceCurve(known, learned, bins=DISTANCE_BINS):
    """Median and 10th and 90th percentile of the learned distance in bins of the known one that hold pairs: four arrays."""
    edges = np.linspace(known.min(), known.max() + 1e-9, bins + 1)
    where = np.clip(np.digitize(known, edges) - 1, 0, bins - 1)
    used = [number for number in range(bins) if (where == number).sum() >= 5]
    centres = 0.5 * (edges[:-1] + edges[1:])[used]
    return (centres,) + tuple(np.array([np.percentile(learned[where == number], part) for number in used]) for part in (10, 50, 90))
