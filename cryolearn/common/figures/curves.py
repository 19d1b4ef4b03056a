"""Curves: Fourier shell correlations, learning, free energy along a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..fsc import HALF_MAP_THRESHOLD, TRUTH_THRESHOLD
from .palette import COLOURS, resolution_axis

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["draw_evidence", "draw_free_energy", "draw_fsc", "draw_learning", "learning_panels"]

_FEW = 40  # values that are drawn as dots too
_NO_CURVES = ("epoch", "step", "seconds", "time_s")


def draw_fsc(
    figure: Any, curves: Sequence[Tuple[str, Sequence[float], Sequence[float], Optional[float]]],
    thresholds: Sequence[float] = (HALF_MAP_THRESHOLD, TRUTH_THRESHOLD), title: str = "Fourier shell correlation",
) -> None:
    """FSC curves with threshold lines and each curve's resolution in the legend.

    Parameters
    ----------
    curves
        (label, frequencies in 1/Å from shell 1 on, values, resolution in Å at the first threshold or None). Curves of one map, 'class 1' and
        'class 1, unmasked', share a colour.
    """
    axes = figure.subplots()
    maps: List[str] = []
    for label, frequency, values, found in curves:
        name, _, kind = label.partition(", ")
        maps += [name] if name not in maps else []
        text = "%s: %s" % (label, "none" if found is None else "%.2f Å" % found)
        axes.plot(frequency, values, color=COLOURS[maps.index(name) % len(COLOURS)], label=text, linestyle=":" if kind else "-", linewidth=1.2 if kind else 1.8)
    for threshold in thresholds:
        axes.axhline(threshold, color="0.4", linestyle="--", linewidth=1)
        axes.annotate("%g" % threshold, (1.0, threshold), xycoords=("axes fraction", "data"), xytext=(-3, 3), textcoords="offset points", ha="right",
                      va="bottom", fontsize=8, color="0.3")
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set(ylabel="FSC", title=title, xlim=(0, max([max(curve[1]) for curve in curves] or [0.5])))
    axes.set_ylim(min(-0.1, axes.get_ylim()[0]), 1.05)
    resolution_axis(axes)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(frameon=False, fontsize=8, title="Resolution at FSC %g" % thresholds[0] if thresholds else None)


def draw_evidence(
    figure: Any, curves: Sequence[Tuple[str, Sequence[float], Sequence[float]]], resolution_angst: float, title: str = "Half maps before and after",
) -> None:
    """FSC of half maps before, across and after a treatment, (label, frequencies in 1/Å, values); what is no evidence is dotted.

    The input's resolution is a dashed line, and no other is read from the curves.
    """
    axes = figure.subplots()
    for number, (label, frequency, values) in enumerate(curves):
        axes.plot(frequency, values, color=COLOURS[number % len(COLOURS)], label=label, linestyle=":" if "no evidence" in label else "-")
    axes.axvline(1 / resolution_angst, color="0.4", linestyle="--", linewidth=1, label="resolution of the input, %.2f Å" % resolution_angst)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set(ylabel="FSC", title=title, ylim=(-0.15, 1.05), xlim=(0, max(curve[1][-1] for curve in curves)))
    resolution_axis(axes)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


def learning_panels(columns: Mapping[str, ArrayLike], x: str = "epoch") -> Dict[str, List[str]]:
    """Which columns of a table of learning are drawn in which panel; columns without any value are left out."""
    panels: Dict[str, List[str]] = {"Loss": [], "Error": [], "Learning rate": []}
    for name, values in columns.items():
        if name != x and name not in _NO_CURVES and np.isfinite(np.asarray(values, dtype=float)).any():
            panels["Learning rate" if "rate" in name else "Error" if "error" in name else "Loss"].append(name)
    return {label: names for label, names in panels.items() if names}


def draw_learning(figure: Any, columns: Mapping[str, ArrayLike], title: str = "Learning curves", x: str = "epoch") -> None:
    """Losses, errors and the learning rate over epochs, a panel each; values that are absent are NaN and leave a gap."""
    from matplotlib.ticker import MaxNLocator

    x = x if x in columns else next(iter(columns))
    panels = learning_panels(columns, x)
    if not panels:
        figure.text(0.5, 0.5, "No epoch has ended yet.", ha="center")
        return
    abscissa = np.asarray(columns[x], dtype=float)
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (label, names) in zip(grid, panels.items()):
        drawn = []
        for index, name in enumerate(names):
            values = np.asarray(columns[name], dtype=float)
            shown = np.isfinite(values)
            drawn.append(values[shown])
            axes.plot(abscissa[shown], values[shown], color=COLOURS[index % len(COLOURS)], label=name.replace("_", " "),
                      marker="." if shown.sum() < _FEW else "")
        together = np.concatenate(drawn)
        if 0 < 10 * together.min() < together.max():
            axes.set_yscale("log")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3, which="both")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=8)
    grid[-1].set_xlabel(x.replace("_", " "))
    figure.suptitle(title)


def draw_free_energy(
    figure: Any, grid: ArrayLike, population: ArrayLike, free_energy: ArrayLike, standard_error: Optional[ArrayLike] = None,
    label: str = "place along the path", separate: bool = False,
) -> None:
    """Population (numbers, or shares that add up to 1) and free energy (G,) in kT along a path, with error bars.

    ``separate`` states are not joined by a line.
    """
    from matplotlib.ticker import MaxNLocator

    places, counts, energy = np.asarray(grid, float), np.asarray(population, float), np.asarray(free_energy, float)
    seen = np.isfinite(energy)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw=dict(height_ratios=(1, 1.6)))
    width = 0.8 if separate else float(np.min(np.diff(places))) * 0.9 if len(places) > 1 else 0.8
    is_share = counts.sum() <= 1 + 1e-6
    top.bar(places, 100 * counts if is_share else counts, width=width, color=COLOURS[5])
    title = "Population and free energy along the path" + ("" if standard_error is None else " (bars: one standard error)")
    top.set(ylabel="particles (%)" if is_share else "particles", title=title)
    top.grid(alpha=0.3, axis="y")
    bars = None
    if standard_error is not None:
        error = np.asarray(standard_error, float)[seen]
        bars = np.where(np.isfinite(error), error, 0)
    bottom.errorbar(places[seen], energy[seen], yerr=bars, fmt="o" if separate else "o-", color=COLOURS[4], ecolor="0.4", capsize=2, markersize=4)
    bottom.set(xlabel=label, ylabel="free energy (kT), lowest 0")
    if seen.any():  # a place with next to no particles has an error bar that would squeeze all others
        highest = float(energy[seen].max()) if bars is None else float(np.percentile(energy[seen] + bars, 90))
        bottom.set_ylim(-0.08 * max(highest, 1), 1.15 * max(highest, float(energy[seen].max()), 1))
    bottom.grid(alpha=0.3)
    if separate:
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
