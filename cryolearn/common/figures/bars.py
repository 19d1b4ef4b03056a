"""Bars and histograms: modes, eigen-motions, errors, confidence; and the confusion of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

import numpy as np

from .palette import COLOURS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["draw_collectivity", "draw_confusion", "draw_errors", "draw_explained_variance", "draw_quality"]

_GREY = "#bbbbbb"
_MAX_NAMES = 40  # names written on an axis
_FEW_NAMES = 12


def draw_collectivity(
    figure: Any, mode_numbers: ArrayLike, collectivity: ArrayLike, score: Optional[ArrayLike] = None, selected: Optional[ArrayLike] = None,
    title: str = "Collectivity of the normal modes",
) -> None:
    """Collectivity (n,) of each mode as bars, the selected ones in colour, with the score as dots when given (low is good)."""
    from matplotlib.ticker import MaxNLocator

    numbers, heights = np.asarray(mode_numbers, dtype=int), np.asarray(collectivity, float)
    chosen = np.ones(len(numbers), bool) if selected is None else np.asarray(selected, bool)
    axes = figure.subplots()
    for kept, colour, label in ((chosen, COLOURS[0], "above the threshold"), (~chosen, _GREY, "below the threshold")):
        if kept.any():
            axes.bar(numbers[kept], heights[kept], color=colour, label=label)
    axes.set(xlabel="mode", ylabel="collectivity (0 local, 1 global)", ylim=(0, 1), title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, axis="y")
    axes.set_axisbelow(True)
    if len(numbers):
        axes.set_xlim(numbers.min() - 0.6, numbers.max() + 0.6)
    handles, _ = axes.get_legend_handles_labels()
    if score is not None:
        right = axes = axes.twinx()  # the legend stands over its dots
        right.plot(numbers, np.asarray(score, float), "o", color=COLOURS[4], markersize=4)
        right.set_ylabel("score (low: collective and slow)", color=COLOURS[4])
        right.set_ylim(0, None)
    if handles:
        axes.legend(handles=handles, loc="upper center", ncol=2, fontsize=8, framealpha=0.9, edgecolor="none")


def draw_explained_variance(figure: Any, explained: ArrayLike, null: ArrayLike, significant: Optional[ArrayLike] = None) -> None:
    """Part of the variance that each of (K,) eigen-motions explains, against the same of shuffled residuals (K,) or (runs, K)."""
    from matplotlib.ticker import MaxNLocator

    part, noise = 100 * np.asarray(explained, float), 100 * np.atleast_2d(np.asarray(null, float))
    numbers = np.arange(1, len(part) + 1)
    kept = part > noise[:, 0].max() if significant is None else np.asarray(significant, bool)
    axes = figure.subplots()
    axes.bar(numbers, part, width=0.7, color=np.where(kept, COLOURS[0], _GREY), zorder=2)
    axes.plot(numbers, noise.max(axis=0), "o--", color=COLOURS[4], markersize=5, linewidth=1, label="shuffled residuals (noise alone)", zorder=3)
    axes.axhline(float(noise[:, 0].max()), color=COLOURS[4], linewidth=0.8, alpha=0.6)
    axes.bar(0, 0, color=COLOURS[0], label="more than noise")  # legend only
    if not kept.all():
        axes.bar(0, 0, color=_GREY, label="not told from noise")
    axes.set(xlabel="eigen-motion", ylabel="explained variance of the gradients (%)", xlim=(0.3, len(part) + 0.7),
             title="%d of %d eigen-motions explain more than noise does" % (np.count_nonzero(kept), len(part)))
    axes.set_ylim(0, 1.1 * max(float(part.max(initial=0)), float(noise.max(initial=0)), 1e-6))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, axis="y")
    axes.legend(frameon=False)


def draw_errors(axes: Any, errors: ArrayLike, label: str = "error", unit: str = "", items: str = "particles", small: bool = False) -> None:
    """Histogram of errors (n,) with their mean, median and 95th percentile.

    A few outliers do not make one bar of the rest: what lies beyond is counted on the axis. Degrees are said in radians too.
    """
    values = np.asarray(errors, dtype=float)
    values = values[np.isfinite(values)]
    axes.set_xlabel("%s (%s)" % (label, unit) if unit else label)
    if not len(values):
        return
    top = max(min(float(np.percentile(values, 99.5)), 2 * float(np.percentile(values, 95))), 1e-3 if unit == "degrees" else 1e-12)
    shown = values[values <= top]
    low = min(0.0, float(shown.min()))
    axes.hist(shown, bins=int(np.clip(np.sqrt(len(shown)), 12, 60)), range=(low, top), color=COLOURS[5], edgecolor="white", linewidth=0.4)
    marks = (("median", np.median(values), COLOURS[0], "-"), ("mean", values.mean(), COLOURS[4], "--"),
             ("95 %" if small else "95th percentile", np.percentile(values, 95), "0.35", ":"))
    for name, value, colour, style in marks:
        text = "%s %.2f° (%.4f rad)" % (name, value, np.radians(value)) if unit == "degrees" and not small else "%s %.3g" % (name, value)
        axes.axvline(min(float(value), top), color=colour, linestyle=style, linewidth=1.2 if small else 1.8, label=text)
    beyond = len(values) - len(shown)
    axes.set(xlim=(low, top), ylabel=items)
    if beyond:
        axes.set_xlabel("%s; %d beyond the axis" % (axes.get_xlabel(), beyond))
    axes.grid(alpha=0.3, axis="y")
    axes.legend(frameon=False, fontsize=7 if small else None)


def draw_quality(figure: Any, values: ArrayLike, label: str, items: str = "particles", limits: Optional[Tuple[float, float]] = None) -> None:
    """Histogram of what is known of each particle (n,), and its median; values beyond the limits stand in the last bars."""
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    axes = figure.subplots()
    title = "%s of %d %s" % (label.split(" (")[0].capitalize(), len(known), items)
    axes.set(xlabel=label, ylabel=items, title=title)
    if not len(known):
        return
    low, high = limits or np.percentile(known, (0.5, 99.5))
    axes.hist(np.clip(known, low, high), bins=int(np.clip(np.sqrt(len(known)), 12, 60)), range=limits, color=COLOURS[5], edgecolor="white", linewidth=0.4)
    axes.axvline(np.median(known), color=COLOURS[0], linewidth=1.8, label="median %.3g" % np.median(known))
    if limits:
        axes.set_xlim(*limits)
    axes.grid(alpha=0.3, axis="y")
    axes.legend(frameon=False)


def draw_confusion(
    figure: Any, counts: ArrayLike, names: Sequence[str], title: str = "Confusion of unseen subtomograms", column_names: Optional[Sequence[str]] = None,
) -> None:
    """How many items of each true class (rows) were given which class (columns), as parts of the rows.

    Parameters
    ----------
    counts
        (n, m).
    names
        Of the rows; ``column_names`` those of the columns where they differ.
    """
    table = np.asarray(counts, dtype=float)
    columns = list(names if column_names is None else column_names)
    totals = table.sum(axis=1, keepdims=True)
    parts = np.divide(table, totals, out=np.zeros_like(table), where=totals > 0)
    axes = figure.subplots()
    image = axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=axes, label="part of the true class")
    largest = max(table.shape)
    size = 8 if largest <= _FEW_NAMES else 6 if largest <= _MAX_NAMES else 0
    for (row, column), part in np.ndenumerate(parts):
        if size and table[row, column]:
            text = "%.0f" % (100 * part) if largest > _FEW_NAMES else "%.0f %%\n(%d)" % (100 * part, table[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if part > 0.55 else "black")
    if size:
        slanted = len(columns) > 4
        axes.set_xticks(range(len(columns)))
        axes.set_xticklabels(columns, rotation=60 if slanted else 0, ha="right" if slanted else "center", fontsize=8)
        axes.set_yticks(range(len(names)))
        axes.set_yticklabels(["%s (%d)" % (name, total) for name, total in zip(names, totals[:, 0])], fontsize=8)
    axes.set(xlabel="class of the network", ylabel="true class (subtomograms)")
    right = sum(table[row, columns.index(name)] for row, name in enumerate(names) if name in columns)
    axes.set_title("%s: %.1f %% right" % (title, 100 * right / max(table.sum(), 1)))
