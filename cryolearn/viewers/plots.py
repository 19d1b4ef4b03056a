"""Plots of the interactive windows, drawn on a given figure or axes from tables that the runs wrote (numpy and matplotlib)."""

import csv
from typing import Dict, List

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.ndimage import gaussian_filter

MAX_POINTS = 8000
COLOURS = ('#0072b2', '#e69f00', '#009e73', '#cc79a7', '#d55e00', '#56b4e9', '#7f7f7f', '#8c6d31', '#6a3d9a', '#b2df8a')


def colourOf(number):
    """Colour of class ``number`` (from 1; 0 is left out)."""
    return COLOURS[(int(number) - 1) % len(COLOURS)] if number > 0 else '0.6'


def sampleRows(count, limit=MAX_POINTS, seed=0):
    """Rows to draw of ``count``: all, or a random part in their order."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.RandomState(seed).choice(count, limit, replace=False))


def drawDensity(axes, x, y, bins=100):
    """Smoothed density in grey levels, as quick for a million points as for a thousand."""
    if len(x) < 100:  # too few for a density
        return
    limits = []
    for values in (x, y):
        low, high = float(values.min()), float(values.max())
        pad = 0.05 * (high - low) or 0.5
        limits.append((low - pad, high + pad))
    counts, xEdges, yEdges = np.histogram2d(x, y, bins=bins, range=limits)
    width = [0.6 * len(x) ** (-1 / 6.) * bins * values.std() / (high - low) for values, (low, high) in zip((x, y), limits)]
    smooth = gaussian_filter(counts, np.maximum(width, 0.8))  # Scott's rule, narrower since landscapes have several peaks
    axes.pcolormesh(xEdges, yEdges, smooth.T, cmap='Greys', vmax=1.6 * smooth.max(), rasterized=True, zorder=0)


def drawPoints(figure, axes, x, y, colour=None, label='', categorical=False, limit=MAX_POINTS, names=None, items='particles'):
    """Points coloured by a column; a random part of them when there are many. Returns how many were drawn.

    ``names`` are those of the groups 1, 2 ... of a category.
    """
    rows = sampleRows(len(x), limit)
    size = 14 if len(x) < 500 else 8 if len(x) < 3000 else 4
    style = dict(s=size, linewidths=0, alpha=0.75)
    if colour is None:
        axes.scatter(x[rows], y[rows], color=COLOURS[0], **style)
    elif categorical:
        groups, counts = np.unique(colour, return_counts=True)
        for group, count in zip(groups, counts):
            here = rows[colour[rows] == group]
            known = names[int(group) - 1] if names and 0 < group <= len(names) else '%d' % group
            name = '%s (%d)' % (known, count) if group > 0 else 'left out (%d)' % count
            axes.scatter(x[here], y[here], color=colourOf(group), label=name, **style)
        if len(groups) <= 20:
            axes.legend(title='%s (%s)' % (label, items), fontsize=8, frameon=False, markerscale=2, loc='upper left', bbox_to_anchor=(1, 1))
    else:
        low, high = np.nanpercentile(colour, (1, 99))
        points = axes.scatter(x[rows], y[rows], c=colour[rows], cmap='viridis', vmin=low, vmax=high, **style)
        figure.colorbar(points, ax=axes, label=label, extend='both')
    return len(rows)


def drawErrorBars(axes, x, y, xError=None, yError=None, limit=300):
    """Error bars (standard deviations) of a random part of the points."""
    rows = sampleRows(len(x), limit, seed=1)
    axes.errorbar(x[rows], y[rows], xerr=None if xError is None else xError[rows], yerr=None if yError is None else yError[rows],
                  fmt='none', ecolor='0.25', elinewidth=0.7, alpha=0.7)


def drawFreeEnergy(figure, columns, label='place on the path'):
    """Free energy with its error bars over a path, and the population below it."""
    names = list(columns)
    energy, error, population = [next((name for name in names if word in name), None) for word in ('energy', 'error', 'population')]
    x = columns[names[0]]
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw=dict(height_ratios=(2, 1)))
    shown = np.isfinite(columns[energy])
    upper.errorbar(x[shown], columns[energy][shown], yerr=columns[error][shown] if error else None, fmt='o-', color=COLOURS[4], capsize=3)
    upper.set(ylabel='free energy (kT)', title='Free energy along the path (error bars: one standard error)')
    upper.grid(alpha=0.3)
    lower.bar(x, columns[population], width=0.8 * (np.diff(x).min() if len(x) > 1 else 1), color=COLOURS[5])
    lower.set(xlabel=label, ylabel='population')
    lower.grid(alpha=0.3, axis='y')


def drawFsc(figure, curves, thresholds=(0.143, 0.5), title='Fourier shell correlation'):
    """Curves ``[(label, frequency in 1/Å, values, resolution in Å or None)]`` in one plot."""
    axes = figure.subplots()
    maps = []  # curves of one map share a colour: 'class 1' and 'class 1, unmasked'
    for label, frequency, values, found in curves:
        name, _, kind = label.partition(', ')
        maps += [name] if name not in maps else []
        text = '%s: %s' % (label, 'none' if found is None else '%.2f Å' % found)
        axes.plot(frequency, values, color=COLOURS[maps.index(name) % len(COLOURS)], label=text, linestyle=':' if kind else '-',
                  linewidth=1.2 if kind else 1.8)
    for threshold in thresholds:
        axes.axhline(threshold, color='0.4', linestyle='--', linewidth=1)
        axes.annotate('%g' % threshold, (1.0, threshold), xycoords=('axes fraction', 'data'), xytext=(-3, 3), textcoords='offset points',
                      ha='right', va='bottom', fontsize=8, color='0.3')
    axes.axhline(0, color='0.8', linewidth=0.8, zorder=0)
    axes.set(xlabel='Resolution (Å)', ylabel='FSC', title=title, xlim=(0, max([max(c[1]) for c in curves] or [0.5])))
    axes.set_ylim(min(-0.1, axes.get_ylim()[0]), 1.05)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda f, position: '%.1f' % (1 / f) if f > 1e-9 else '∞'))
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(frameon=False, fontsize=8, title='Resolution at FSC %g' % thresholds[0])


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


def drawLearning(figure, columns, title='Learning curves'):
    """Losses, errors and the learning rate over epochs, a panel each."""
    x = 'epoch' if 'epoch' in columns else next(iter(columns))
    panels: Dict[str, List[str]] = {'Loss': [], 'Error': [], 'Learning rate': []}
    for name in columns:
        if name not in (x, 'epoch', 'step', 'seconds', 'time_s') and np.isfinite(columns[name]).any():
            panels['Learning rate' if 'rate' in name else 'Error' if 'error' in name else 'Loss'].append(name)
    panels = {label: names for label, names in panels.items() if names}
    if not panels:
        figure.text(0.5, 0.5, 'No epoch has ended yet.', ha='center')
        return
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, names) in zip(grid, panels.items()):
        for index, name in enumerate(names):
            shown = np.isfinite(columns[name])
            axes.plot(columns[x][shown], columns[name][shown], color=COLOURS[index % len(COLOURS)], label=name.replace('_', ' '),
                      marker='.' if shown.sum() < 40 else '')
        values = np.concatenate([columns[name][np.isfinite(columns[name])] for name in names])
        if values.min() > 0 and values.max() > 10 * values.min():
            axes.set_yscale('log')
        axes.set_ylabel(label)
        axes.grid(alpha=0.3, which='both')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=8)
    grid[-1].set_xlabel(x)
    figure.suptitle(title)


def drawSlices(figure, volume, pixelSize, fractions=(0.5, 0.5, 0.5), title=''):
    """Slices xy, xz and yz of a map (z, y, x) at the given heights (parts of the box), with one grey scale."""
    nz, ny, nx = volume.shape
    z, y, x = [min(int(part * size), size - 1) for part, size in zip(fractions, (nz, ny, nx))]
    planes = (('xy', volume[z], nx, ny, z), ('xz', volume[:, y], nx, nz, y), ('yz', volume[:, :, x], ny, nz, x))
    low, high = np.percentile(np.concatenate([plane.ravel() for _, plane, _, _, _ in planes]), (0.5, 99.8))
    for axes, (name, plane, width, height, index) in zip(figure.subplots(1, 3), planes):
        axes.imshow(plane, cmap='gray', vmin=low, vmax=high, origin='lower', extent=(0, width * pixelSize, 0, height * pixelSize))
        axes.set(xlabel='%s (Å)' % name[0], ylabel='%s (Å)' % name[1], title='%s slice %d' % (name, index))
        axes.tick_params(labelsize=7)
    figure.suptitle(title)


def drawPicture(figure, path):
    """A PNG that the run wrote."""
    from matplotlib.image import imread
    axes = figure.subplots()
    axes.imshow(imread(path))
    axes.set_axis_off()
