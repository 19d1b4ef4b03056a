"""Curved trajectories by expectation-maximisation over the particles' positions, and maps along them."""
