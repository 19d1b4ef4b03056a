"""Subtomograms: simulation, 3D networks, subdivision, and reference-free alignment, classification and averaging."""
