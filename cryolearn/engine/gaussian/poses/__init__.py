"""Orientations and shifts, searched together with the position along the trajectory."""
