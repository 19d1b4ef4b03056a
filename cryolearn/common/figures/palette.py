"""Colours, and which points of many are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COLOURS", "LEFT_OUT", "MAX_POINTS", "class_colour", "resolution_axis", "sample_rows"]

# The first six are Okabe & Ito's, told apart by colour-blind readers too.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7f7f7f", "#8c6d31", "#6a3d9a", "#b2df8a")
LEFT_OUT = "0.6"
MAX_POINTS = 8000  # drawn over a density; more only make a blot


def class_colour(number: int) -> str:
    """Colour of class ``number``, from 1; 0 is left out."""
    return COLOURS[(int(number) - 1) % len(COLOURS)] if number > 0 else LEFT_OUT


def sample_rows(count: int, limit: int = MAX_POINTS, seed: int = 0) -> NDArray[np.int64]:
    """Rows to draw of ``count``, ascending: all, or a random part of them."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def resolution_axis(axes: Any) -> None:
    """Label a horizontal axis of frequencies (1/Å) by resolutions in Å."""
    from matplotlib.ticker import FuncFormatter

    axes.set_xlabel("Resolution (Å)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda frequency, _: "%.1f" % (1 / frequency) if frequency > 1e-9 else "∞"))
