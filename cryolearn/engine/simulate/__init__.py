"""Simulated particles and subtomograms with known truth."""
