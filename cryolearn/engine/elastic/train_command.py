"""Command ``elastic-train``: train a network that predicts pose, shift and mode amplitudes of particle images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...common.checks import check_epoch
from ..alignment.reference_check import check_images
from ..config import check_config, digest_config, digest_file, require
from ..device import select_device
from ..exceptions import InputError
from ..imaging.ctf import Ctf
from ..imaging.first_images import ImageUse, warn
from ..imaging.fourier import power_spectrum, radial_average
from ..imaging.noise import fit_contrast
from ..imaging.poses import random_rotations
from ..io.atomic import copy_file
from ..io.models import save_model
from ..io.modes import read_modes
from ..io.star import read_particles
from ..io.structures import find_structure
from ..io.summary import write_summary
from ..training.learning_curve import Row
from ..training.network_input import NetworkInput, network_size
from ..training.particle_images import ParticleImages
from ..training.plan import TrainingPlan
from ..training.training_run import Training, curve_summary, plan_training, run_training, seeded
from .config import ElasticTrainConfig
from .modes.deformable_reference import ElasticReference
from .network.architectures import AmplitudeResNet34, MultiNetwork, build_network
from .network.labelled_particles import LabelledParticles, read_labels, share_of_labels
from .network.training_simulator import BatchSimulator, DensityRenderer
from .network.training_task import ElasticTask

_RINGS = 12  # pixels from the particle's centre to its rim that the 'multi' network wants
_SAMPLE = 256
_RATES = {"multi": 2e-3, "resnet34": 1e-4}


def run(config: ElasticTrainConfig) -> None:
    """Train; a killed run goes on from its last checkpoint, and several processes share each batch."""
    check_config(config)
    require(config, "modes", "particles")
    if config.labels != "simulation" and not config.alignment:
        raise InputError("Parameter alignment is needed to learn from particles: give their alignment.npz, or learn from 'simulation'.")
    device = select_device(config)
    reference = ElasticReference.from_modes(read_modes(config.modes), config.mode_numbers, device)
    reach = reference.radius_angst(config.amplitude_range) + config.shift_range_angst
    table = read_particles(config.particles, datadir=config.datadir)
    images = ParticleImages(table, reach, device, invert_contrast=config.invert_contrast, ignore_ctf=config.ignore_ctf)
    check_images(
        table, reference.expected(), ImageUse(invert_contrast=config.invert_contrast, ignore_ctf=config.ignore_ctf, phase_flipped=config.phase_flipped))
    scheme, renderer, contrast = _measure(config, images, reference, reach)
    warn(table, images.warnings())
    arguments = _network_arguments(config, reference, scheme)
    run_training(_training(config, images, arguments, scheme=scheme, renderer=renderer, contrast=contrast), config)


def _training(
    config: ElasticTrainConfig, images: ParticleImages, arguments: dict[str, Any], scheme: NetworkInput, renderer: DensityRenderer, contrast: float,
) -> Training:
    table = images.table
    network = seeded(lambda: build_network(config.architecture, arguments), config.seed, images.device)
    task, per_epoch = _task(config, images, scheme=scheme, renderer=renderer, contrast=contrast, network=network)
    plan = plan_training(
        config, images.device, digest=digest_config(config, table.files()), samples_per_epoch=per_epoch, rate=_RATES[config.architecture],
        schedule="cosine" if config.architecture == "multi" else "plateau", warnings=table.warnings,
    )
    description = {
        "architecture": config.architecture, "arguments": arguments, "input": scheme.to_dict(), "mode_numbers": list(config.mode_numbers),
        "pixel_size_angst": table.pixel_size_angst, "box": table.box, "amplitude_range": config.amplitude_range,
        "shift_range_angst": config.shift_range_angst, "hypotheses": config.hypotheses, "ignore_ctf": config.ignore_ctf,
        "phase_flipped": config.phase_flipped, "labels": config.labels, "digest": plan.digest, "reference": digest_file(config.modes),
    }
    sees = f" on {scheme.size} px at {scheme.network_pixel_angst:.2f} Å"
    finish = partial(_write_model, config, network, plan, description)
    return Training(task=task, plan=plan, name=config.architecture, sees=sees, unit="images", finish=finish)


def _measure(
    config: ElasticTrainConfig, images: ParticleImages, reference: ElasticReference, reach: float
) -> tuple[NetworkInput, DensityRenderer, float]:
    """Scheme of the input, renderer at its pixel size, and contrast of the particles, all measured on the particles."""
    table, device = images.table, images.device
    wanted = config.network_pixel_angst
    if wanted == 0 and config.architecture == "multi":
        wanted = ring_radius(reference, config.amplitude_range) / _RINGS
    size = network_size(table.box, table.pixel_size_angst, wanted)
    pixel = table.box * table.pixel_size_angst / size
    renderer = DensityRenderer(reference, size, pixel, reach)
    generator = torch.Generator().manual_seed(config.seed)
    rotation = random_rotations(_SAMPLE, generator).to(device, torch.float32)
    amplitudes = (torch.rand(_SAMPLE, len(reference.modes), generator=generator) * 2 - 1).to(device) * config.amplitude_range
    density, square = renderer.power(rotation, amplitudes)
    # a crop in Fourier space lowers the noise by the square of the ratio of sizes
    noise = images.noise_power()[: size // 2 + 1] * (size / table.box) ** 2
    noise[0] = noise[1]  # the background's own mean was taken away, but that of the noise over the particle was not
    gyration = float((reference.coordinates.square().sum(1) * reference.weights).sum().div(reference.weights.sum()).sqrt())
    plain = NetworkInput(
        box=table.box,
        pixel_size_angst=table.pixel_size_angst,
        size=size,
        signal_power=tuple(density.tolist()),
        noise_power=tuple(noise.tolist()),
        scale=1.0,
        centre_radius_angst=2 * gyration,
        phase_flipped=config.phase_flipped,
        ignore_ctf=config.ignore_ctf,
    )
    contrast = _contrast(plain, images, density, noise)
    signal = tuple((density * contrast**2).tolist())
    return replace(plain, signal_power=signal, scale=1 / (contrast * square**0.5)), renderer, contrast


def _contrast(scheme: NetworkInput, images: ParticleImages, density: torch.Tensor, noise: torch.Tensor) -> float:
    """Strength of the particles' density, from their power beyond the noise's (no alignment is needed for it)."""
    rows = images.sample_rows(_SAMPLE)
    whole = replace(scheme, size=images.table.box - images.table.box % 2)
    shells = scheme.size // 2 + 1
    power, transfer, kept = (torch.zeros(shells, device=images.device) for _ in range(3))
    for some in np.array_split(rows, max(1, len(rows) // 64)):
        data, ctf = images.read(some)
        power += power_spectrum(data)[:, :shells].sum(0) * (scheme.size / scheme.box) ** 2 / len(rows)
        squares = whole.transfer(ctf, images.device).square().expand(len(some), -1, -1)
        transfer += radial_average(squares, whole.size)[:, :shells].sum(0) / len(rows)
        kept += images.noise_kept(some)[:shells] * len(some) / len(rows)
    found = fit_contrast(power, noise * kept, density * transfer)
    if not found > 0:
        raise InputError(
            "The particles' images hold no more power than their background: check the CTF, the contrast (black or white) and the box."
        )
    return found


def ring_radius(reference: ElasticReference, amplitude_range: float) -> float:
    """Radius in Å that holds the particle, but for the tips of its largest deformations."""
    return reference.radius_angst(0.5 * amplitude_range)


def _network_arguments(config: ElasticTrainConfig, reference: ElasticReference, scheme: NetworkInput) -> dict[str, Any]:
    shared = {"modes": len(config.mode_numbers), "amplitude_unit": max(config.amplitude_range / 2, 1.0)}
    if config.architecture == "resnet34":
        return shared
    pixel = scheme.network_pixel_angst
    radius = min(ring_radius(reference, config.amplitude_range), (scheme.size // 2 - 1) * pixel)
    return {
        **shared, "pixel_angst": pixel, "radius_angst": radius, "centre_radius_angst": scheme.centre_radius_angst, "width": config.width,
    }


def _task(
    config: ElasticTrainConfig, images: ParticleImages, scheme: NetworkInput, renderer: DensityRenderer, contrast: float,
    network: MultiNetwork | AmplitudeResNet34,
) -> tuple[ElasticTask, int]:
    """What is learned, and the images of an epoch."""
    simulator = labelled = None
    per_epoch, share = config.images_per_epoch, 0.0
    table = images.table
    if config.labels != "particles":
        ctf = None if config.ignore_ctf else Ctf.from_table(table.ctf, None, images.device)
        simulator = BatchSimulator(
            renderer, scheme, contrast, ctf, modes=len(config.mode_numbers), amplitude_range=config.amplitude_range,
            shift_range_angst=config.shift_range_angst, seed=config.seed,
        )
    if config.labels != "simulation":
        labels = read_labels(config.alignment, table, config.mode_numbers, config.validation_fraction, config.architecture == "multi")
        labelled = LabelledParticles(images, labels, scheme, config.shift_range_angst, config.seed)
        share = share_of_labels(len(labels.training), config.epochs * per_epoch)
        if config.labels == "particles":
            per_epoch, share = len(labels.training), 1.0
    check_epoch("images", per_epoch, config.batch)
    return ElasticTask(network, simulator, labelled, share, config.seed), per_epoch


def _write_model(
    config: ElasticTrainConfig, network: torch.nn.Module, plan: TrainingPlan, description: dict[str, Any], history: list[Row],
) -> None:
    out = Path(config.output)
    folder = out / "model"
    folder.mkdir(exist_ok=True)
    # prediction refines with the modes the network learned: they go where the model goes
    copy_file(config.modes, folder / "modes.npz")
    structure = Path(find_structure(str(Path(config.modes).parent)))
    if structure.exists():
        copy_file(structure, folder / structure.name)
    save_model(str(folder), network.state_dict(), description)
    summary = curve_summary(plan, history, "images")
    if "val_simulated_error" in summary:
        summary["constant_predictor_error"] = config.amplitude_range / 2  # mean absolute error of always answering zero to uniform amplitudes
    write_summary(out, summary)
    errors = ", ".join(f"{name[4:].replace('_', ' ')} {value:.4g}" for name, value in history[-1].items() if name.endswith("_error"))
    print(f"trained {plan.steps} steps in {summary['seconds']} s; mean absolute amplitude error on unseen images: {errors}", flush=True)
