"""Plots of a map's scores: EMRinger over the threshold, residues in their order, one score of each map with its interval."""

import numpy as np

from .plots import COLOURS

CHANCE = 39 / 72.
STYLES = {'tie_safe': ('-', 'one vote a residue', 1.8), 'cctbx': ('--', "cctbx's votes", 1.1)}


def drawEmringer(figure, curves, ceiling, sideChains):
    """Score, and share of rotameric votes, over the density threshold; ``curves`` are those of ``readEmringerCurves``, of so many side chains."""
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw=dict(height_ratios=(3, 2)))
    names = list(dict.fromkeys(name for name, _ in curves))
    for (name, votes), curve in curves.items():
        colour, (line, text, width) = COLOURS[names.index(name) % len(COLOURS)], STYLES[votes]
        x, best = np.array(curve['step']) / 20., int(np.argmax(curve['score']))
        upper.plot(x, curve['score'], line, color=colour, linewidth=width, label='%s, %s: %.2f' % (name, text, curve['score'][best]))
        upper.plot(x[best], curve['score'][best], 'o', color=colour, markersize=5, markerfacecolor=colour if line == '-' else 'white')
        if votes == 'tie_safe':
            lower.plot(x, curve['rotameric_share'], color=colour, label='%s, rotameric' % name)
            lower.plot(x, np.array(curve['count']) / sideChains, ':', color=colour, label='%s, above the threshold' % name)
    for axes, value, text in ((upper, ceiling, 'ceiling of the model'), (lower, CHANCE, 'chance')):
        axes.axhline(value, color='0.5', linestyle=':', linewidth=1)
        axes.annotate('%s: %.2f' % (text, value), (1, value), xycoords=('axes fraction', 'data'), xytext=(-4, 2), textcoords='offset points',
                      ha='right', fontsize=8, color='0.3')
    upper.set(ylabel='EMRinger score', title='EMRinger of %d side chains over the density threshold' % sideChains)
    lower.set(xlabel='density threshold (0: mean of the rings, 1: highest peak)', ylabel='share of side chains', xlim=(0, 1), ylim=(0, 1.05))
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)


def drawResidues(figure, residues, columns, label, selected=()):
    """Columns ``{map: name of the column}`` along the residues; chains are parted by lines, selected residues (rows) are marked."""
    axes = figure.subplots()
    for index, (name, column) in enumerate(columns.items()):
        values = np.array([np.nan if row[column] is None else row[column] for row in residues])
        mean = np.nanmean(values) if np.isfinite(values).any() else np.nan
        axes.plot(np.arange(len(values)), values, color=COLOURS[index % len(COLOURS)], linewidth=1.1, marker='.', markersize=3,
                  label='%s: mean of residues %.3g' % (name, mean))
    chains = [row['chain'] for row in residues]
    for start in [0] + [row for row in range(1, len(chains)) if chains[row] != chains[row - 1]]:
        axes.axvline(start, color='0.7', linewidth=0.8)
        axes.annotate(chains[start], (start, 1), xycoords=('data', 'axes fraction'), xytext=(2, -10), textcoords='offset points', fontsize=8, color='0.3')
    for row in selected:
        axes.axvline(row, color=COLOURS[4], linewidth=1)
    axes.set(xlabel='residue (in the order of the model)', ylabel=label, xlim=(-0.5, max(len(residues) - 0.5, 1)), title='%s of each residue' % label)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)


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
