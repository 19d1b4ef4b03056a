"""Limits and tolerances that hold everywhere."""

from __future__ import annotations

__all__ = ["PIXEL_SIZE_TOLERANCE", "same_pixel_size"]

# Relative difference of two pixel sizes that is taken as rounding. A pixel size written with two decimals is off by up to 0.2 % from 2.5 Å on, and a
# header keeps the cell, not the pixel, in single precision; at 0.2 % the border of a 400 px box is off by 0.4 px, which no result here notices.
# A wrong calibration of a microscope is 1 % and more, and must be refused.
PIXEL_SIZE_TOLERANCE = 2e-3


def same_pixel_size(first_angst: float, second_angst: float) -> bool:
    """Are two pixel sizes in Å the same but for rounding?"""
    return abs(first_angst - second_angst) <= PIXEL_SIZE_TOLERANCE * abs(second_angst)
