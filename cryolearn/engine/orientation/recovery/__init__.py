"""Orientations from pairwise distances: annealed starts, placement, Gauss-Newton steps, and the ambiguity of the detector frame."""
