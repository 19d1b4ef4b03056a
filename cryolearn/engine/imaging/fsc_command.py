"""The command ``fsc``: Fourier shell correlation of two maps."""

from __future__ import annotations

import os

import torch

from ...common.fsc import resolution_at
from ...common.limits import same_pixel_size
from ..device import select_device
from ..exceptions import InputError
from ..figures import fsc_curves, save_figure
from ..io.maps import Map, read_map, read_mask
from ..io.summary import FscSummary, write_summary
from .config import FscConfig
from .density_maps import check_density
from .fsc import fsc
from .half_set_maps import write_fsc_csv

__all__ = ["run"]


def run(config: FscConfig) -> None:
    """Run the command.

    Raises
    ------
    InputError
        when a map is missing or not a cube, or boxes or pixel sizes differ.
    """
    device = select_device(config)
    if not config.map1 or not config.map2:
        raise InputError("Two maps are needed: give map1 and map2.")
    first, second = read_map(config.map1), read_map(config.map2)
    if len(set(first.data.shape)) != 1:
        raise InputError(f"The map '{config.map1}' has the shape {first.data.shape}: crop or pad it to a cube.")
    _check_same(first, second, config.map1, config.map2)
    if not same_pixel_size(first.pixel_size_angst, second.pixel_size_angst):
        raise InputError(
            f"The pixel sizes differ: {first.pixel_size_angst:g} Å in '{config.map1}' and {second.pixel_size_angst:g} Å in "
            f"'{config.map2}': resample one of the maps."
        )
    check_density(first, config.map1)
    check_density(second, config.map2)
    box, pixel = first.data.shape[0], first.pixel_size_angst
    volumes = [torch.from_numpy(item.data).to(device) for item in (first, second)]
    curves = {"fsc_unmasked": fsc(volumes[0], volumes[1]).cpu()}
    if config.mask:
        mask = torch.from_numpy(read_mask(config.mask, first.data.shape, pixel)).to(device)
        curves = {"fsc": fsc(volumes[0], volumes[1], mask).cpu(), **curves}
    else:
        curves = {"fsc": curves["fsc_unmasked"], **curves}
    resolution = resolution_at(curves["fsc"], config.threshold, box, pixel)
    write_fsc_csv(os.path.join(config.output, "fsc.csv"), curves, box, pixel)
    summary = FscSummary(resolution_angst=resolution, threshold=config.threshold, box=box, pixel_size_angst=pixel, masked=bool(config.mask))
    write_summary(config.output, summary)
    drawn = {"masked": curves["fsc"], "not masked": curves["fsc_unmasked"]} if config.mask else {"not masked": curves["fsc"]}
    figure = fsc_curves({name: curve.numpy() for name, curve in drawn.items()}, box, pixel, (config.threshold,))
    save_figure(figure, os.path.join(config.output, "figures", "fsc.png"))
    print(f"Resolution at FSC {config.threshold:g}: " + ("none" if resolution is None else f"{resolution:.2f} Å"), flush=True)


def _check_same(first: Map, second: Map, first_path: str, second_path: str) -> None:
    if first.data.shape != second.data.shape:
        raise InputError(f"The shapes differ: {first.data.shape} in '{first_path}' and {second.data.shape} in '{second_path}'.")
