"""Pictures of map validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...common.figures.palette import COLOURS
from ...common.figures.scores import draw_emringer
from ..figures import new_figure
from .emringer import EmringerScore
from .score_table import Change

__all__ = ["change_figure", "emringer_figure", "q_figure"]

_ROW_RESIDUES, _MAX_ROWS = 300, 8


def emringer_figure(curves: Mapping[str, tuple[EmringerScore, EmringerScore]], ceiling: float) -> Figure:
    """Score and share of rotameric votes over the density threshold, of each map: tie-safe (solid) and cctbx's votes (dashed).

    Parameters
    ----------
    curves
        (tie-safe, classic) score by the map's name.
    ceiling
        The model's own; the formula's is drawn too.
    """
    drawn = {
        (name, votes): {"step": list(range(len(score.scores))), "score": score.scores.tolist(), "rotameric_share": score.ratios.tolist(),
                        "count": score.counts.tolist()}
        for name, pair in curves.items() for votes, score in zip(("tie_safe", "cctbx"), pair)
    }
    figure = new_figure(6.8, 6.4)
    draw_emringer(figure, drawn, ceiling, next(iter(curves.values()))[0].residues)
    return figure


def q_figure(
    chain: NDArray[np.str_], number: NDArray[np.int64], q: Mapping[str, NDArray[np.float64]], sigma_angst: float
) -> Figure:
    """Q-score along the residues, of each map, in rows of 300 residues; the names of chains stand where they begin."""
    count = len(chain)
    rows = min(_MAX_ROWS, max(1, -(-count // _ROW_RESIDUES)))
    shown = min(count, rows * _ROW_RESIDUES)
    wide = -(-shown // rows)
    values = np.concatenate([item[np.isfinite(item)] for item in q.values()])
    low = min(0.0, float(values.min())) if len(values) else 0.0
    figure = new_figure(9.0, 0.9 + 1.9 * rows)
    starts = np.flatnonzero(np.concatenate(([True], chain[1:] != chain[:-1])))
    for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False, sharey=True)[:, 0]):
        at = np.arange(row * wide, min((row + 1) * wide, shown))
        for index, (name, values_here) in enumerate(q.items()):
            axes.plot(at, values_here[at], color=COLOURS[index % len(COLOURS)], linewidth=1.1,
                      label=f"{name}: mean of residues {np.nanmean(values_here):.3f}")
        for start in starts[(starts >= at[0]) & (starts <= at[-1])]:
            axes.axvline(start, color="0.6", linewidth=0.8)
            axes.annotate(f"{chain[start]}", (start, 1), xycoords=("data", "axes fraction"), xytext=(2, -9), textcoords="offset points",
                          fontsize=8, color="0.3")
        ticks = at[:: max(1, wide // 10)]
        axes.set_xticks(ticks, [str(number[tick]) for tick in ticks], fontsize=7)
        axes.set(xlim=(at[0], at[0] + wide - 1), ylim=(low, 1.0), ylabel="Q-score")
        axes.grid(alpha=0.3)
        if row == 0:
            axes.legend(frameon=False, fontsize=8, loc="lower right", ncols=2)
    figure.supxlabel("residue number", fontsize=9)
    rest = f", the first {shown} of {count}" if shown < count else ""
    figure.suptitle(f"Q-score of the residues (sigma {sigma_angst:g} Å{rest})")
    return figure


def change_figure(lines: Sequence[Change]) -> Figure:
    """Change of the scores between two maps over resampled residues: histogram, interval, and zero."""
    drawn = [line for line in lines if line.draws is not None and line.change is not None]
    figure = new_figure(3.6 * len(drawn) + 0.4, 3.4)
    for axes, line in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn):
        assert line.draws is not None and line.change is not None
        difference = line.draws[:, 1] - line.draws[:, 0]
        axes.hist(difference, bins=40, color="#56b4e9")
        axes.axvline(0, color="0.3", linewidth=1)
        axes.axvline(line.change.value, color="#d55e00", linewidth=1.5, label=f"{line.change.value:+.3g}")
        axes.axvspan(line.change.low or 0.0, line.change.high or 0.0, color="0.5", alpha=0.15, label=f"95 %: {line.change.low:+.3g} to {line.change.high:+.3g}")
        axes.set(xlabel="after minus before", title=line.label)
        axes.title.set_fontsize(8)
        axes.legend(frameon=False, fontsize=7)
    figure.suptitle("Paired bootstrap over the residues")
    return figure
