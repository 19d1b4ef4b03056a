"""Pictures of map validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...common.figures.palette import COLOURS
from ...common.figures.scores import draw_emringer, draw_residues
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
    for row, axes in enumerate(figure.subplots(rows, 1, squeeze=False, sharey=True)[:, 0]):
        draw_residues(axes, chain.tolist(), q, "Q-score", shown=slice(row * wide, min((row + 1) * wide, shown)), numbers=number.tolist(), legend=row == 0)
        axes.set(xlim=(row * wide - 0.5, (row + 1) * wide - 0.5), ylim=(low, 1.0))
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
        axes.hist(difference, bins=40, color=COLOURS[5])
        axes.axvline(0, color="0.3", linewidth=1)
        axes.axvline(line.change.value, color=COLOURS[4], linewidth=1.5, label=f"{line.change.value:+.3g}")
        axes.axvspan(line.change.low or 0.0, line.change.high or 0.0, color="0.5", alpha=0.15, label=f"95 %: {line.change.low:+.3g} to {line.change.high:+.3g}")
        axes.set(xlabel="after minus before", title=line.label)
        axes.title.set_fontsize(8)
        axes.legend(frameon=False, fontsize=7)
    figure.suptitle("Paired bootstrap over the residues")
    return figure
