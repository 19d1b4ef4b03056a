"""Plot of the sizes of classes (numpy and matplotlib)."""

from typing import Any

import numpy as np

from ..common.figures.palette import COLOURS

MAX_NAMES = 40  # names written on an axis


def drawSizes(figure, numbers, names=None, colour=None, colourLabel='', title='Cluster sizes'):
    """Bars of class sizes, largest first, coloured by a value of each class where there is one."""
    order = np.argsort(-np.asarray(numbers), kind='stable')
    heights = np.asarray(numbers)[order]
    axes = figure.subplots()
    paint: Any = COLOURS[0]
    if colour is not None and np.isfinite(colour).any():
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
