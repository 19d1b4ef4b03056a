"""The command ``volume-to-gaussians``."""

from __future__ import annotations

import os
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...common.fsc import TRUTH_THRESHOLD, resolution_at
from ..config import check_config, digest_config, require
from ..device import select_device
from ..exceptions import InputError
from ..figures import fsc_curves, map_slices, save_figure
from ..io.maps import Map, read_mask, write_map
from ..io.pseudo_atoms import write_gaussians
from ..io.summary import write_summary
from ..launch import say_once
from .config import VolumeToGaussiansConfig
from .density_maps import read_density
from .first_images import negative_map
from .fourier import low_pass
from .fsc import fsc
from .half_set_maps import write_fsc_csv
from .masks import mask_from_map
from .volume_gaussians import GaussianModel, fit_gaussians, mean_projection_frc

__all__ = ["run"]


class GaussiansSummary(TypedDict):
    """Entries of ``summary.json``."""

    gaussians: int
    resolution_angst: float
    sigma_mean_angst: float
    frc_mean: float
    fsc_05_angst: float | None
    fsc_at_resolution: float
    correlation: float
    pixel_size_angst: float
    box: int
    digest: str


def run(config: VolumeToGaussiansConfig) -> None:
    """Represent a map by Gaussians as ``config`` says and write the results to ``config.output``.

    Writes ``gaussians.pdb`` (occupancy: weight relative to the mean; B factor 8 pi^2 sigma^2, up to the format's 999.99),
    ``gaussians.cif`` (the same without the format's limits), ``gaussians.npz`` (result table), ``rendered.mrc``, ``fsc.csv``,
    ``summary.json`` and ``figures/``.

    Raises
    ------
    InputError
        when the map or mask cannot be used, or nothing is above the threshold.
    """
    check_config(config)
    require(config, "volume")
    device = select_device(config)
    source = read_density(config.volume)
    shape, pixel = source.data.shape, source.pixel_size_angst
    resolution = config.resolution_angst or 3 * pixel
    if resolution < 2 * pixel:
        raise InputError(f"The resolution {resolution:g} Å is finer than twice the pixel size of '{config.volume}' ({pixel:g} Å).")
    volume = _cube(source.data).to(device)
    warnings = negative_map(volume, f"map '{config.volume}'")
    for text in warnings:
        say_once(f"WARNING: {text}")
    mask = _mask(config, source, volume, resolution)
    model = fit_gaussians(
        volume * mask, pixel, resolution_angst=resolution, number=config.number, iterations=config.iterations, seed=config.seed, spacing=config.spacing
    )
    rendered = model.render(volume.shape, pixel)
    curves = {"fsc": fsc(rendered, volume * mask).cpu(), "fsc_unmasked": fsc(rendered, volume).cpu()}
    found = resolution_at(curves["fsc"], TRUTH_THRESHOLD, len(volume), pixel)
    smooth = low_pass(volume * mask, resolution, pixel, dims=3)
    correlation = float(torch.corrcoef(torch.stack((rendered.flatten(), smooth.flatten())))[0, 1])
    model = _ordered(model)
    _write_model(config.output, model, source)
    inside = rendered[: shape[0], : shape[1], : shape[2]].cpu().numpy()
    write_map(os.path.join(config.output, "rendered.mrc"), inside, pixel, source.origin_angst)
    write_fsc_csv(os.path.join(config.output, "fsc.csv"), curves, len(volume), pixel)
    _draw(config.output, source, inside, curves, len(volume))
    at_resolution = float(np.interp(len(volume) * pixel / resolution, np.arange(len(curves["fsc"])), curves["fsc"].numpy()))
    summary: GaussiansSummary = {
        "gaussians": len(model), "resolution_angst": resolution, "sigma_mean_angst": float(model.sigma_angst.mean()),
        "frc_mean": mean_projection_frc(model, volume * mask, pixel, resolution), "fsc_05_angst": found,
        "fsc_at_resolution": at_resolution, "correlation": correlation,
        "pixel_size_angst": pixel, "box": len(volume), "digest": digest_config(config),
    }
    write_summary(config.output, summary, warnings=warnings)
    text = "none" if found is None else f"{found:.2f} Å"
    print(f"{len(model)} Gaussians for {resolution:.2f} Å: correlation {correlation:.4f}, mean FRC {summary['frc_mean']:.4f}, FSC 0.5 at {text}", flush=True)


def _cube(data: NDArray[np.float32]) -> Tensor:
    """The map padded with zeros at the far ends to equal sides, so that voxel [0, 0, 0] stays."""
    side = max(data.shape)
    pads = [pad for length in data.shape[::-1] for pad in (0, side - length)]
    return torch.nn.functional.pad(torch.from_numpy(data), pads)


def _mask(config: VolumeToGaussiansConfig, source: Map, volume: Tensor, resolution: float) -> Tensor:
    if config.mask:
        soft = _cube(read_mask(config.mask, source.data.shape, source.pixel_size_angst)).to(volume)
        if config.threshold:
            soft = soft * (volume > config.threshold)
        return soft
    pixel = source.pixel_size_angst
    seen = volume if config.threshold else low_pass(volume, max(resolution, 3 * pixel), pixel, dims=3)
    try:
        return mask_from_map(seen, config.threshold or None, dilate_px=resolution / pixel / 2, soft_px=resolution / pixel / 2)
    except ValueError as error:
        raise InputError(f"The map '{config.volume}' has no voxel above the threshold {config.threshold:g}: lower it.") from error


def _ordered(model: GaussianModel) -> GaussianModel:
    """Neighbours in space as neighbours in the list, so that runs of residues make compact blocks."""
    points = model.positions_angst.cpu().numpy()

    def halves(rows: NDArray[np.int64]) -> list[int]:
        if len(rows) <= 2:
            return rows.tolist()
        part = points[rows]
        axis = int(np.argmax(np.ptp(part, axis=0)))
        order = rows[np.argsort(part[:, axis], kind="stable")]
        return halves(order[: len(order) // 2]) + halves(order[len(order) // 2 :])

    order = torch.as_tensor(halves(np.arange(len(points))), device=model.weights.device)
    return GaussianModel(model.positions_angst[order], model.weights[order], model.sigma_angst[order])


def _write_model(folder: str, model: GaussianModel, source: Map) -> None:
    places, weights, sigma = (values.cpu().numpy().astype(np.float64) for values in (model.positions_angst, model.weights, model.sigma_angst))
    write_gaussians(folder, places + np.asarray(source.origin_angst), weights, sigma, {
        "pixel_size_angst": source.pixel_size_angst, "shape": list(source.data.shape), "origin_angst": list(source.origin_angst),
    })


def _draw(folder: str, source: Map, rendered: NDArray[np.float32], curves: dict[str, Tensor], box: int) -> None:
    named = {"map inside the mask": curves["fsc"].numpy(), "whole map": curves["fsc_unmasked"].numpy()}
    figure = fsc_curves(named, box, source.pixel_size_angst, (0.5,), title="Gaussians against the map")
    save_figure(figure, os.path.join(folder, "figures", "fsc.png"))
    figure = map_slices({"map": source.data, "Gaussians": rendered}, source.pixel_size_angst)
    save_figure(figure, os.path.join(folder, "figures", "slices.png"))
