"""Limits and tolerances that hold everywhere."""

from __future__ import annotations

__all__ = ["BOX_MULTIPLES", "DEFAULT_RESOLUTION_PX", "FEWEST_IMAGES", "FEWEST_SUBDIVIDED", "FINEST_RESOLUTION_PX", "LARGEST_BOX_PX", "PIXEL_SIZE_TOLERANCE",
           "SMALLEST_BOX_PX", "SPACING_FOR_MOTION", "TRAINING_BLOCK", "WIDTH_STEP", "same_pixel_size"]

# Relative difference of two pixel sizes that is taken as rounding. A pixel size written with two decimals is off by up to 0.2 % from 2.5 Å on, and a
# header keeps the cell, not the pixel, in single precision; at 0.2 % the border of a 400 px box is off by 0.4 px, which no result here notices.
# A wrong calibration of a microscope is 1 % and more, and must be refused.
PIXEL_SIZE_TOLERANCE = 2e-3

FINEST_RESOLUTION_PX = 2.1  # resolution that images hold: Nyquist, and a shell beyond it
DEFAULT_RESOLUTION_PX = 6.0  # resolution of Gaussians when none is given
SPACING_FOR_MOTION = 0.73  # in resolutions, of Gaussians that are to move: fewer, better determined by noisy images than those that represent a map

FEWEST_IMAGES = 50  # from which orientations are learned or recovered
FEWEST_SUBDIVIDED = 10  # subtomograms to see groups among
SMALLEST_BOX_PX = 16  # of subtomograms
LARGEST_BOX_PX = 16384  # of images: what is larger is no image
BOX_MULTIPLES = {"residual3d": 1, "inception3d": 2, "dsrf3d": 4, "rif_svm": 2}  # what the box of a subtomogram network is a multiple of
TRAINING_BLOCK = 16  # images that are drawn, and whose pairs are learned, together
WIDTH_STEP = 8  # networks' channels come in groups of so many


def same_pixel_size(first_angst: float, second_angst: float) -> bool:
    """Are two pixel sizes in Å the same but for rounding?"""
    return abs(first_angst - second_angst) <= PIXEL_SIZE_TOLERANCE * abs(second_angst)
