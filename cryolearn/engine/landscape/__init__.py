"""Conformational landscapes: axes, clusters, selections and trajectories (shared by elastic and gaussian)."""
