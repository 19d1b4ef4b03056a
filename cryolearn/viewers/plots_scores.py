"""Plots of a map's scores: residues in their order, one score of each map with its interval."""

import numpy as np

from ..common.figures.palette import COLOURS
from ..common.figures.scores import draw_residues


def drawResidues(figure, residues, columns, label, selected=()):
    """Columns ``{map: name of the column}`` along the residues; selected residues (rows) are marked."""
    axes = figure.subplots()
    values = {name: [np.nan if row[column] is None else row[column] for row in residues] for name, column in columns.items()}
    draw_residues(axes, [row['chain'] for row in residues], values, label, selected=selected)
    axes.set(xlabel='residue (in the order of the model)', title='%s of each residue' % label)


def drawScore(figure, row, names):
    """One score of each map, with its 95 % interval when residues were resampled for it, and its change."""
    axes = figure.subplots()
    for index, name in enumerate(names):
        value = row[name]
        if value is None:
            continue
        axes.bar(index, value, width=0.6, color=COLOURS[index % len(COLOURS)], alpha=0.85)
        if row[name + '_low'] is not None:
            axes.errorbar(index, value, yerr=[[max(value - row[name + '_low'], 0)], [max(row[name + '_high'] - value, 0)]], color='black', capsize=5)
        axes.annotate('%.3g' % value, (index, value), xytext=(14, 3), textcoords='offset points', fontsize=9)
    axes.set_xticks(range(len(names)), names)
    axes.set(title=row['label'], xlim=(-0.6, len(names) - 0.4))
    axes.axhline(0, color='0.5', linewidth=0.8)
    axes.margins(y=0.15)
    axes.grid(alpha=0.3, axis='y')
    if row.get('change') is not None:
        text = 'change %+.3g' % row['change']
        if row['change_low'] is not None:
            verdict = 'none, its interval holds 0' if row['change_low'] <= 0 <= row['change_high'] else 'higher' if row['change'] > 0 else 'lower'
            text += ' (%+.3g to %+.3g): %s' % (row['change_low'], row['change_high'], verdict)
        axes.set_xlabel(text)
