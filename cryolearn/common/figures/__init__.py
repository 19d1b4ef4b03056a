"""Drawings that a run writes as PNG and that a window shows: each is one function, from plain arrays, on the figure or axes that it is given."""
