"""What Scipion's side and the engine share: result tables, Fourier shell correlations, axis labels, figures, flags, limits and cheap input checks.

Standard library, numpy and matplotlib only, and Python 3.8: the engine, protocols, viewers and wizards all import it, it imports none of them.
"""
