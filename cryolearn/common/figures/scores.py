"""Scores of maps against models: EMRinger over the density threshold, scores along the residues."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from .palette import COLOURS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["CHANCE", "FORMULA_CEILING", "draw_emringer", "draw_residues"]

CHANCE = 39 / 72.0  # rotameric among 72 angles
FORMULA_CEILING = 10 * math.sqrt((1 - CHANCE) / CHANCE)  # all votes rotameric
_STEPS = 20.0  # thresholds from the mean of the rings to the highest peak
_STYLES = {"tie_safe": ("-", "one vote a residue", 1.8), "cctbx": ("--", "cctbx's votes", 1.1)}


def draw_emringer(
    figure: Any, curves: Mapping[Tuple[str, str], Mapping[str, Sequence[float]]], model_ceiling: float, side_chains: int,
) -> None:
    """EMRinger score, and share of rotameric votes, over the density threshold.

    Parameters
    ----------
    curves
        Of each (map, votes), votes 'tie_safe' or 'cctbx': 'step' of the threshold, 'score', 'rotameric_share' and 'count' of side chains above it.
    model_ceiling
        Largest score that the model's side chains allow; that of the formula is drawn too.
    """
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw=dict(height_ratios=(3, 2)))
    names = list(dict.fromkeys(name for name, _ in curves))
    for (name, votes), curve in curves.items():
        colour, (line, text, width) = COLOURS[names.index(name) % len(COLOURS)], _STYLES[votes]
        x, best = np.asarray(curve["step"]) / _STEPS, int(np.argmax(curve["score"]))
        upper.plot(x, curve["score"], line, color=colour, linewidth=width, label="%s, %s: %.2f" % (name, text, curve["score"][best]))
        upper.plot(x[best], curve["score"][best], "o", color=colour, markersize=5, markerfacecolor=colour if line == "-" else "white")
        if votes == "tie_safe":
            lower.plot(x, curve["rotameric_share"], color=colour, label="%s, rotameric" % name)
            lower.plot(x, np.asarray(curve["count"]) / side_chains, ":", color=colour, label="%s, above the threshold" % name)
    for axes, value, label in ((upper, model_ceiling, "ceiling of the model"), (upper, FORMULA_CEILING, "ceiling of the formula"), (lower, CHANCE, "chance")):
        axes.axhline(value, color="0.5", linestyle=":", linewidth=1)
        left = label == "ceiling of the formula"
        axes.annotate("%s: %.2f" % (label, value), (0 if left else 1, value), xycoords=("axes fraction", "data"), xytext=(4 if left else -4, 2),
                      textcoords="offset points", ha="left" if left else "right", fontsize=8, color="0.3")
    upper.set(ylabel="EMRinger score", title="EMRinger of %d side chains over the density threshold" % side_chains)
    lower.set(xlabel="density threshold (0: mean of the rings, 1: highest peak)", ylabel="share of side chains", xlim=(0, 1), ylim=(0, 1.05))
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)


def draw_residues(
    axes: Any, chains: Sequence[str], columns: Mapping[str, ArrayLike], label: str, *, shown: Optional[slice] = None,
    numbers: Optional[Sequence[int]] = None, selected: Sequence[int] = (), legend: bool = True,
) -> None:
    """A score of each residue in the order of the model, (n,) of each map; chains are parted by lines.

    Parameters
    ----------
    shown
        Which residues; all when not said.
    numbers
        Residue numbers, (n,), for the ticks; without them residues are counted.
    selected
        Residues (rows) that are marked.
    """
    at = np.arange(len(chains))[shown or slice(None)]
    for index, (name, column) in enumerate(columns.items()):
        values = np.asarray(column, dtype=float)
        mean = np.nanmean(values) if np.isfinite(values).any() else np.nan
        axes.plot(at, values[at], color=COLOURS[index % len(COLOURS)], linewidth=1.1, marker=".", markersize=3,
                  label="%s: mean of residues %.3g" % (name, mean))
    for row in at.tolist():
        if row == 0 or chains[row] != chains[row - 1]:
            axes.axvline(row, color="0.6", linewidth=0.8)
            axes.annotate(str(chains[row]), (row, 1), xycoords=("data", "axes fraction"), xytext=(2, -10), textcoords="offset points", fontsize=8, color="0.3")
    for row in selected:
        axes.axvline(row, color=COLOURS[4], linewidth=1)
    axes.set(ylabel=label, xlim=(at[0] - 0.5, at[-1] + 0.5) if len(at) else (0, 1))
    if numbers is not None:
        ticks = at[:: max(1, len(at) // 10)]
        axes.set_xticks(ticks)
        axes.set_xticklabels([str(numbers[tick]) for tick in ticks], fontsize=7)
    axes.grid(alpha=0.3)
    if legend:
        axes.legend(frameon=False, fontsize=8)
