"""Command ``distance-train``: train a network that tells the distance between the orientations of projections."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ...common.checks import check_epoch, check_multiple
from ...common.limits import WIDTH_STEP
from ..alignment.reference_check import Expected, check_images
from ..config import check_config, digest_config, require
from ..device import select_device
from ..exceptions import InputError
from ..imaging.ctf import Ctf
from ..imaging.first_images import ImageUse, warn
from ..io.star import ParticleTable, read_particles
from ..training.particle_images import ParticleImages
from ..training.plan import BLOCK, TrainingPlan
from ..training.training_run import Training, plan_training, run_training, seeded
from .config import DistanceTrainConfig
from .distance_network.image_statistics import Appearance, choose_size, measure_particles, simulated_appearance
from .distance_network.labelled_particles import LabelledImages
from .distance_network.networks import build_network, choose_readout
from .distance_network.pair_sampling import DistanceWeights, largest_distance
from .distance_network.projected_maps import ProjectedMaps, largest_extent
from .distance_network.training_simulator import ImageSimulator
from .distance_network.training_task import BlockSource, DistanceTask
from .report.training_report import write_model
from .similarity_kernel import SimilarityKernel

__all__ = ["run"]

_RATES = {"exact": 2e-3, "views": 2e-3, "paper": 1e-3}
_DEPTHS = 1024  # defoci drawn when there are no particles to take them from
_DEFAULT_RADIUS = 0.42  # of the box: rings when no map says how large the particle is
_MARGIN_PX = 1.5


@dataclass
class _Setting:
    """What the network learns from."""

    box: int
    pixel_size_angst: float
    files: tuple[str, ...]
    appearance: Appearance
    source: BlockSource
    radius_angst: float
    warnings: list[str]


def run(config: DistanceTrainConfig) -> None:
    """Train; a killed run goes on from its last checkpoint, and several processes share each batch."""
    check_config(config)
    _check_inputs(config)
    device = select_device(config)
    kernel = SimilarityKernel(config.symmetry)
    setting = _prepare(config, kernel, device)
    arguments = _network_arguments(config, setting)
    network = seeded(lambda: build_network(config.preset, kernel, arguments), config.seed, device)
    block = config.views if config.preset == "views" else BLOCK
    task = DistanceTask(network, setting.source, kernel, choose_readout(config.preset, kernel), DistanceWeights(kernel, largest_distance(kernel), block))
    plan = _plan(config, setting, block, device)
    run_training(_training(config, setting, task, plan, arguments), config)


def _training(config: DistanceTrainConfig, setting: _Setting, task: DistanceTask, plan: TrainingPlan, arguments: dict[str, Any]) -> Training:
    scheme, snr = setting.appearance.scheme, setting.appearance.snr
    description = {
        "kind": "distance", "preset": config.preset, "arguments": arguments, "symmetry": config.symmetry, "input": scheme.to_dict(),
        "pixel_size_angst": setting.pixel_size_angst, "box": setting.box, "snr": snr, "radius_angst": setting.radius_angst,
        "shift_range_angst": config.shift_range_angst, "phase_flipped": config.phase_flipped, "source": config.source, "digest": plan.digest,
        "views": config.views,
    }
    sees = f" on {scheme.size} px at {scheme.network_pixel_angst:.2f} Å; {f'SNR {snr:.3g}' if snr else 'no noise'}"
    finish = partial(write_model, config, task, plan, description)
    return Training(task=task, plan=plan, name=config.preset, sees=sees, unit="images", finish=finish)


def _plan(config: DistanceTrainConfig, setting: _Setting, block: int, device: torch.device) -> TrainingPlan:
    paper = config.preset == "paper"
    return plan_training(
        config, device, digest=digest_config(config, setting.files), samples_per_epoch=config.images_per_epoch, rate=_RATES[config.preset], paper=paper,
        # the paper's rate is constant
        schedule="plateau" if paper else "cosine", patience=10**9 if paper else 10, optimiser="rmsprop" if paper else "adamw", block=block,
        validation_images=min(1024, max(256, config.images_per_epoch // 10)), warnings=setting.warnings,
    )


def _check_inputs(config: DistanceTrainConfig) -> None:
    if config.source == "particles":
        require(config, "particles")
    elif not config.volumes and not config.structures:
        raise InputError("There is nothing to project: give volumes or structures, or learn from 'particles'.")
    block = config.views if config.preset == "views" else BLOCK
    check_multiple("Parameter views", block, BLOCK)
    if config.batch % block:
        raise InputError(f"Parameter batch is {config.batch}, but it must be a multiple of {block}: pairs are made within that many images.")
    check_epoch("images", config.images_per_epoch, config.batch)
    check_multiple("Parameter width", config.width, WIDTH_STEP)
    if config.defocus_low_angst > config.defocus_high_angst:
        raise InputError(f"The smallest defocus, {config.defocus_low_angst:g} Å, is above the largest, {config.defocus_high_angst:g} Å.")


def _prepare(config: DistanceTrainConfig, kernel: SimilarityKernel, device: torch.device) -> _Setting:
    table = read_particles(config.particles, datadir=config.datadir) if config.particles else None
    box, pixel = _field(config, table)
    size = choose_size(config, box, pixel)
    maps = None
    if config.source == "simulation":
        maps = ProjectedMaps(
            config.volumes, config.structures, box=box, pixel_size_angst=pixel, size=size, device=device, seed=config.seed, symmetry=kernel.matrices
        )
    radius = maps.radius_angst if maps is not None else _DEFAULT_RADIUS * box * pixel
    power = None if maps is None else maps.power
    images, files, ctf = None, (), None  # type: ParticleImages | None, tuple[str, ...], Ctf | None
    if table is not None:
        images = ParticleImages(
            table, radius + config.shift_range_angst, device, invert_contrast=config.invert_contrast, ignore_ctf=config.ignore_ctf, normalise=False,
        )
        files = table.files()
        ctf = None if config.ignore_ctf else Ctf.from_table(table.ctf, None, device)
        appearance = measure_particles(config, images, size, power)
        warn(table, images.warnings())
        if maps is not None:
            use = ImageUse(invert_contrast=config.invert_contrast, ignore_ctf=config.ignore_ctf, phase_flipped=config.phase_flipped)
            check_images(table, Expected(reference=maps.only_reference(), radius_angst=radius), use)
    else:
        assert power is not None
        ctf = _drawn_ctf(config, device)
        appearance = simulated_appearance(config, box, pixel, size, power, ctf)
    largest = largest_distance(kernel)
    source: BlockSource
    if maps is None:
        assert images is not None
        source = LabelledImages(
            images, appearance.scheme, kernel, shift_range_angst=config.shift_range_angst, largest_rad=largest,
            validation_fraction=config.validation_fraction, seed=config.seed,
        )
    else:
        source = ImageSimulator(
            maps, appearance, ctf, snr_factor=config.snr_factor, shift_range_angst=config.shift_range_angst, largest_rad=largest, seed=config.seed,
        )
    said = [] if table is None else table.warnings
    return _Setting(box, pixel, files=files, appearance=appearance, source=source, radius_angst=radius, warnings=said)


def _field(config: DistanceTrainConfig, table: ParticleTable | None) -> tuple[int, float]:
    """Box and pixel size of the images to learn from."""
    if table is not None:
        return table.box, table.pixel_size_angst
    extent, pixel = largest_extent(config.volumes, config.structures)
    pixel = config.pixel_size_angst or pixel
    least = -(-round(extent / pixel) // 2) * 2
    return config.box_px or max(least, 32), pixel


def _drawn_ctf(config: DistanceTrainConfig, device: torch.device) -> Ctf | None:
    if not config.defocus_high_angst:
        return None
    ctf = Ctf.constant(_DEPTHS, 0.0, device=device)
    low, high = config.defocus_low_angst, config.defocus_high_angst
    ctf.defocus_u_angst = ctf.defocus_v_angst = torch.linspace(low, high, _DEPTHS, device=device)
    return ctf


def _network_arguments(config: DistanceTrainConfig, setting: _Setting) -> dict[str, Any]:
    if config.preset == "paper":
        return {}
    scheme = setting.appearance.scheme
    radius = min(setting.radius_angst / scheme.network_pixel_angst + _MARGIN_PX, 0.5 * scheme.size - 1)
    return {"size": scheme.size, "radius_px": radius, "width": config.width}
