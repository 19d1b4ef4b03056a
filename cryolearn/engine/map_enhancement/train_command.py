"""Command ``map-train``: train a network that sharpens maps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...common.checks import check_epoch
from ..config import check_config, digest_config
from ..cpu import cpu_threads
from ..device import select_device
from ..exceptions import InputError
from ..launch import is_first_process
from ..training.plan import TrainingPlan
from ..training.training_run import Training, plan_training, run_training, seeded
from .config import MapTrainConfig
from .networks.by_name import build_network
from .report.training_report import write_model
from .training.degradation import PaperDegradation
from .training.patches import PatchSampler, Setting
from .training.training_sources import Sources, gather_sources, write_manifest
from .training.training_task import MapTask

__all__ = ["run", "training_setting"]

_RATES = {"residual": 2e-3, "paper": 2e-4}
_WIDTHS = {"residual": 32, "paper": 64}
_PATCHES = {"residual": 48, "paper": 128}
_SMALLEST_PATCH = 32
_TOLD = ("epochs", "patches_per_epoch", "learning_rate", "weight_decay", "side_chain_weight", "fine_weight", "e_value", "validation_fraction", "precision")
_CONSTANT = 10**6  # epochs of patience: the paper's learning rate does not change


def run(config: MapTrainConfig) -> None:
    """Train; a killed run goes on from its last checkpoint, and several processes share each batch."""
    check_config(config)
    device = select_device(config)
    setting = training_setting(config)
    sources = gather_sources(config, setting.voxel_angst)
    if is_first_process():
        write_manifest(Path(config.output) / "manifest.csv", sources.entries)
    run_training(_training(config, setting, sources, device), config)


def _training(config: MapTrainConfig, setting: Setting, sources: Sources, device: torch.device) -> Training:
    arguments = {"width": config.width or _WIDTHS[config.preset]}
    network = seeded(lambda: build_network(config.preset, arguments), config.seed, device)
    plan = _plan(config, device)
    # on a GPU drawing takes longer than learning
    sampler = PatchSampler(sources.training, sources.validation, setting, config.seed, device, cpu_threads(config.threads) if config.use_gpu else 1)
    task = MapTask(network, sampler, config.preset, plan.blocks_per_step, plan.steps * plan.blocks_per_step, config.fine_weight)
    sees = f" on patches of {setting.patch_px} voxels of {setting.voxel_angst:g} Å, degradation '{config.degradation}'"
    finish = partial(write_model, config, task, plan, _description(config, setting, arguments, sources.entries, plan))
    return Training(task=task, plan=plan, name=config.preset, sees=sees, unit="patches", finish=finish)


def training_setting(config: MapTrainConfig) -> Setting:
    """Patches as the parameters want them.

    Raises
    ------
    InputError
        when the patch does not suit the network.
    """
    patch = config.patch_px or _PATCHES[config.preset]
    if patch % 16 or patch < _SMALLEST_PATCH:
        raise InputError(f"Parameter patch_px is {patch}, but it must be a multiple of 16, {_SMALLEST_PATCH} at least.")
    voxel = config.voxel_angst or (0.6 if config.degradation == "paper" else 0.7 if config.coarsest_angst <= 2.5 else 1.0)
    paper = PaperDegradation(config.ball_radius_px, config.blur_angst, config.noise_sd)
    unit = config.preset == "paper"
    return Setting(
        patch_px=patch,
        voxel_angst=voxel,
        degradation=config.degradation,
        finest_angst=config.finest_angst,
        coarsest_angst=config.coarsest_angst,
        paper=paper,
        unit=unit,
        side_chain_weight=config.side_chain_weight,
    )


def _plan(config: MapTrainConfig, device: torch.device) -> TrainingPlan:
    check_epoch("patches", config.patches_per_epoch, config.batch)
    paper = config.preset == "paper"
    return plan_training(
        config, device, digest=digest_config(config), samples_per_epoch=config.patches_per_epoch, rate=_RATES[config.preset], paper=paper,
        schedule="plateau" if paper else "cosine", patience=_CONSTANT if paper else 10, validation_images=config.validation_patches,
        optimiser="adam_half" if paper else "", block=1,
    )


def _description(config: MapTrainConfig, setting: Setting, arguments: dict[str, Any], entries: list[Any], plan: TrainingPlan) -> dict[str, Any]:
    return {
        "kind": "map", "preset": config.preset, "arguments": arguments, "degradation": config.degradation, "voxel_angst": setting.voxel_angst,
        "pixel_size_angst": setting.voxel_angst, "box": setting.patch_px, "finest_angst": config.finest_angst, "coarsest_angst": config.coarsest_angst,
        "paper": vars(setting.paper), "settings": {name: getattr(config, name) for name in _TOLD},
        "digest": plan.digest, "seed": config.seed, "steps": plan.steps, "batch": plan.batch,
        "training": [entry.name for entry in entries if entry.side == "training"],
        "validation": [entry.name for entry in entries if entry.side == "validation"],
        "left_out": len([entry for entry in entries if entry.side == "left out"]),
    }
