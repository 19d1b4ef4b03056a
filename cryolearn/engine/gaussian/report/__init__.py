"""Figures and result files of Gaussian heterogeneity."""
