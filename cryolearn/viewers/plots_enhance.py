"""Plot of what of an enhanced map is real, drawn on a given figure (numpy and matplotlib)."""

from matplotlib.ticker import FuncFormatter

from .plots import COLOURS


def drawEvidence(figure, curves, resolutionAngst, title='Half maps before and after'):
    """Correlations ``[(label, frequency in 1/Å, values)]``; the input's resolution is a dashed line, and no other is read from them."""
    axes = figure.subplots()
    for number, (label, frequency, values) in enumerate(curves):
        axes.plot(frequency, values, color=COLOURS[number % len(COLOURS)], label=label, linestyle=':' if 'no evidence' in label else '-')
    axes.axvline(1 / resolutionAngst, color='0.4', linestyle='--', linewidth=1, label='resolution of the input, %.2f Å' % resolutionAngst)
    axes.axhline(0, color='0.8', linewidth=0.8, zorder=0)
    axes.set(xlabel='Resolution (Å)', ylabel='FSC', title=title, ylim=(-0.15, 1.05), xlim=(0, max(curve[1][-1] for curve in curves)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda f, position: '%.1f' % (1 / f) if f > 1e-9 else '∞'))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
