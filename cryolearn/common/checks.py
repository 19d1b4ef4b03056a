"""Cheap checks of inputs that the forms make before a run and the engine makes again: each raises one sentence."""

from __future__ import annotations

from typing import Sequence

from .exceptions import InputError
from .limits import BOX_MULTIPLES, FINEST_RESOLUTION_PX, SMALLEST_BOX_PX, same_pixel_size

__all__ = ["check_average_box", "check_components", "check_count", "check_epoch", "check_gaussian_numbers", "check_map_of_particles", "check_multiple",
           "check_network_box", "check_references", "check_resolution_range", "check_resolutions", "check_tilt_heterogeneity", "check_trained_for"]


def check_map_of_particles(what: str, sides: Sequence[int], voxel_angst: float, box: int, pixel_size_angst: float) -> None:
    """Refuse a map that cannot be compared with particles: no cube, another box or another pixel size.

    Parameters
    ----------
    what
        The map, as in "consensus map" or "map 'path'".
    sides
        Voxels along its axes.
    box, pixel_size_angst
        Of the particles, px and Å.
    """
    if len(set(sides)) > 1:
        raise InputError("The %s is %s voxels: it must be a cube." % (what, " x ".join("%d" % side for side in sides)))
    if sides[0] != box:
        raise InputError("The %s has a box of %d px, but the particles have a box of %d px: crop, pad or resample it." % (what, sides[0], box))
    if not same_pixel_size(voxel_angst, pixel_size_angst):
        raise InputError("The %s has a pixel size of %.4g Å, but the particles have %.4g Å: correct or resample it." % (what, voxel_angst, pixel_size_angst))


def check_trained_for(items: str, box: int, pixel_size_angst: float, trained_box: int, trained_pixel_angst: float, larger_boxes: bool = False) -> None:
    """Refuse items, 'particles' or 'subtomograms', of another pixel size or box than those that a network was trained for.

    Parameters
    ----------
    larger_boxes
        Larger boxes are cut, so that only smaller ones are refused.
    """
    unit, units = ("voxel", "voxels") if items == "subtomograms" else ("px", "px")
    if not same_pixel_size(pixel_size_angst, trained_pixel_angst):
        raise InputError("The %s have %g Å/%s, but the network was trained for %g Å/%s: bring them to that sampling rate, or train another network."
                         % (items, pixel_size_angst, unit, trained_pixel_angst, unit))
    if box < trained_box or (box > trained_box and not larger_boxes):
        raise InputError("The %s have a box of %d %s, but the network was trained for %d %s%s: extract them so, or train another network."
                         % (items, box, units, trained_box, units, " or more" if larger_boxes else ""))


def check_components(components: int, particles: int) -> None:
    """Refuse more components than particles can give."""
    if components >= particles:
        raise InputError("%d components are asked for, but there are only %d particles: give more particles, or ask for fewer components."
                         % (components, particles))


def check_resolutions(resolutions_angst: Sequence[float], pixel_size_angst: float) -> None:
    """Refuse resolutions of rounds that do not become finer, or that the pixels do not hold."""
    if any(later >= earlier for earlier, later in zip(resolutions_angst, resolutions_angst[1:])):
        raise InputError("The resolutions must become finer from round to round, as in '40 20 10'.")
    limit = FINEST_RESOLUTION_PX * pixel_size_angst
    if min(resolutions_angst, default=limit) < limit:
        raise InputError("A resolution of %g Å is finer than the pixels of the particles hold (%.3g Å)." % (min(resolutions_angst), limit))


def check_tilt_heterogeneity(method: str, refine_poses: int, symmetry: str) -> None:
    """Refuse what Gaussian heterogeneity does not do with tilt-series particles."""
    asked = {"the method 'autoencoder'": method == "autoencoder", "pose refinement": refine_poses > 0, "the symmetry %s" % symmetry: symmetry.upper() != "C1"}
    for what, chosen in asked.items():
        if chosen:
            raise InputError("The particles are tilt series, which %s does not take: leave it out." % what)


def check_gaussian_numbers(numbers: Sequence[int], count: int) -> None:
    """Refuse numbers of Gaussians, counted from 1, that a model of ``count`` Gaussians does not have."""
    wrong = [number for number in numbers if not 1 <= number <= count]
    if wrong:
        raise InputError("Gaussian %d of the focus does not exist: they are numbered from 1 to %d." % (wrong[0], count))


def check_network_box(network: str, box: int) -> None:
    """Refuse a box of subtomograms that a network cannot take."""
    multiple = BOX_MULTIPLES[network]
    if box % multiple or box < SMALLEST_BOX_PX:
        raise InputError("The subtomograms have a box of %d px, but the network '%s' wants a multiple of %d, %d at least."
                         % (box, network, multiple, SMALLEST_BOX_PX))


def check_average_box(box: int) -> None:
    """Refuse a box of subtomograms that cannot be averaged."""
    if box % 2 or box < SMALLEST_BOX_PX:
        raise InputError("The subtomograms have a box of %d px: an even box of at least %d is needed." % (box, SMALLEST_BOX_PX))


def check_multiple(name: str, value: int, step: int) -> None:
    """Refuse a parameter that is no multiple of ``step``."""
    if value % step:
        raise InputError("%s is %d: it must be a multiple of %d." % (name, value, step))


def check_count(items: str, count: int, fewest: int) -> None:
    """Refuse too few items, such as 'subtomograms'."""
    if count < fewest:
        raise InputError("There are only %d %s: at least %d are needed." % (count, items, fewest))


def check_epoch(items: str, per_epoch: int, batch: int) -> None:
    """Refuse an epoch of fewer items, such as 'images', than a batch has."""
    if per_epoch < batch:
        raise InputError("An epoch of %d %s holds no batch of %d: choose a smaller batch." % (per_epoch, items, batch))


def check_references(references: int, classes: int) -> None:
    """Refuse references that are neither one for all classes nor one for each."""
    if references not in (1, classes):
        raise InputError("There are %d references for %d classes: give one for each class, or one for all." % (references, classes))


def check_resolution_range(finest_angst: float, coarsest_angst: float) -> None:
    """Refuse a range of resolutions that is the wrong way round."""
    if finest_angst > coarsest_angst:
        raise InputError("The finest resolution (%g Å) is coarser than the coarsest (%g Å)." % (finest_angst, coarsest_angst))
