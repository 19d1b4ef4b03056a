"""Command ``subtomogram-train``: train a network, or a support vector machine, that tells the class of a subtomogram."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...common.checks import check_multiple, check_network_box
from ...common.limits import WIDTH_STEP
from ..config import check_config, digest_config, digest_values, require
from ..device import select_device
from ..exceptions import InputError
from ..io.subtomograms import SubtomogramStack, read_subtomograms
from ..launch import is_first_process, process_rank
from ..progress import Progress
from ..simulate.subtomograms_command import draw_examples
from ..training.plan import BLOCK, TrainingPlan
from ..training.training_run import Training, plan_training, run_training, seeded
from .config import SubtomogramTrainConfig
from .networks.by_name import build_network
from .networks.labelled_subtomograms import CachedVolumes, LabelledSubtomograms, Labels, class_weights, read_labels
from .networks.network_input import standardise
from .networks.on_the_fly_simulation import DrawnSubtomograms
from .networks.rotation_invariant_features import fit_svm, rif_features
from .networks.training_task import ClassTask
from .report.training_report import write_model
from .usable_subtomograms import UsableSubtomograms

__all__ = ["run"]

_RATES = {"residual3d": 4e-3, "inception3d": 1e-2, "dsrf3d": 1e-2}
_DROPOUT = {"residual3d": 0.3, "inception3d": 0.7}
_DECAY = 1e-6  # of the paper's learning rate
_EPOCHS, _STEPS = 20, 800  # at least, of a training
_SMALL, _LARGE = 1000, 4000  # subtomograms from which batches are larger
_AT_ONCE = 64


def run(config: SubtomogramTrainConfig) -> None:
    """Train; a killed run goes on from its last checkpoint, and several processes share each batch.

    Memory: ``cache_mib`` for volumes, one batch, and the network with its optimiser.
    """
    check_config(config)
    _check(config)
    device = select_device(config)
    stack = _open(config, device)
    labels = read_labels(stack.table, config.validation_fraction)
    data = LabelledSubtomograms(
        CachedVolumes(stack, config.cache_mib),
        labels,
        wedge_channel=config.wedge_channel,
        augment_shift_px=config.augment_shift_px if _augments(config) else None,
        seed=config.seed,
        device=device,
        new_each_epoch=config.source == "simulation" and config.new_each_epoch,
    )
    if is_first_process():
        print(f"{len(stack.table)} subtomograms of {len(labels.names)} classes: {len(labels.training)} to learn from, {len(labels.validation)} for validation",
              flush=True)
    if config.network == "rif_svm":
        _fit(config, data)
    else:
        run_training(_training(config, data), config)


def _description(config: SubtomogramTrainConfig, data: LabelledSubtomograms) -> dict[str, Any]:
    """What ``model.json`` says of a network."""
    labels, table = data.labels, data.table
    arguments: dict[str, Any] = {"classes": len(labels.names), "box": table.box, "channels": 1 + config.wedge_channel}
    if config.network == "residual3d":
        arguments |= {"width": config.width, "embedding": config.embedding}
    if config.network in _DROPOUT:
        arguments["dropout"] = _DROPOUT[config.network] if config.dropout < 0 else config.dropout
    if config.network == "rif_svm":
        arguments["space"] = config.rif_space
    files = table.files_digest() if config.source == "subtomograms" else ""
    return {
        "kind": "subtomogram", "architecture": config.network, "arguments": arguments, "classes": labels.names, "box": table.box,
        "pixel_size_angst": table.pixel_size_angst, "wedge_channel": config.wedge_channel,
        "average_turns": config.average_turns and config.network == "residual3d", "digest": digest_values([digest_config(config), table.box, files]),
        "seed": config.seed, "source": config.source,
        "tilt_range_deg": [float(table.tilt_min_deg.min()), float(table.tilt_max_deg.max())], "augmented": _augments(config),
        "training_subtomograms": len(labels.training), "validation_subtomograms": len(labels.validation),
    }


def _training(config: SubtomogramTrainConfig, data: LabelledSubtomograms) -> Training:
    description = _description(config, data)
    network = seeded(lambda: build_network(config.network, description["arguments"]), config.seed, data.device)
    contrastive = config.contrastive_weight if config.network == "residual3d" else 0.0
    task = ClassTask(network, data, class_weights(data.labels, config.balance_classes), contrastive, config.seed)
    plan = _plan(config, data.labels, description["digest"], data.device)
    return Training(task=task, plan=plan, name=config.network, unit="subtomograms", finish=partial(write_model, config, network, data, description))


def _open(config: SubtomogramTrainConfig, device: torch.device) -> UsableSubtomograms | DrawnSubtomograms:
    """The subtomograms to learn from."""
    if config.source == "subtomograms":
        table = read_subtomograms(config.subtomograms, config.datadir)
        check_network_box(config.network, table.box)
        return UsableSubtomograms(SubtomogramStack(table, invert_contrast=config.invert_contrast))
    check_network_box(config.network, config.box)
    drawn = DrawnSubtomograms(config, device)
    if is_first_process():
        folder = Path(config.output) / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        draw_examples(drawn.simulator, str(folder / "examples.png"))
    return drawn


def _check(config: SubtomogramTrainConfig) -> None:
    if config.source == "subtomograms":
        require(config, "subtomograms")
        if config.structures or config.volumes:
            raise InputError("Structures or volumes are given beside labelled subtomograms: choose the source 'simulation', or leave them out.")
    elif config.subtomograms:
        raise InputError("Labelled subtomograms are given, but the source is 'simulation': choose the source 'subtomograms', or leave them out.")
    elif config.invert_contrast:
        raise InputError("Simulated subtomograms are white: switch invert_contrast off.")
    check_multiple("Parameter batch", config.batch, BLOCK)  # 0 is the network's own
    check_multiple("Parameter width", config.width, WIDTH_STEP)
    if config.wedge_channel and config.network != "residual3d":
        raise InputError(f"The network '{config.network}' cannot be told the missing wedge: only 'residual3d' can.")


def _augments(config: SubtomogramTrainConfig) -> bool:
    return config.network == "residual3d" if config.augment == "auto" else config.augment == "yes" and config.network != "rif_svm"


def _plan(config: SubtomogramTrainConfig, labels: Labels, digest: str, device: torch.device) -> TrainingPlan:
    paper = config.network != "residual3d"
    count = len(labels.training)
    batch = config.batch or (64 if paper or count >= _LARGE else 32 if count >= _SMALL else 16)
    epochs = config.epochs or (_EPOCHS if paper else max(_EPOCHS, -(-_STEPS * batch // count)))
    return plan_training(
        config, device, digest=digest, epochs=epochs, samples_per_epoch=max(batch, count), batch=batch, rate=_RATES[config.network], paper=paper,
        schedule="inverse" if paper else "cosine", decay=_DECAY if paper else 0.0, optimiser="nesterov" if paper else "adamw",
        validation_images=BLOCK,  # the task has its own
    )


def _fit(config: SubtomogramTrainConfig, data: LabelledSubtomograms) -> None:
    """Fit the support vector machine to the training subtomograms, and write it."""
    if process_rank()[1] > 1:
        raise InputError("The network 'rif_svm' is fitted in one process: leave --processes out.")
    rows = data.labels.training
    progress = Progress("features", len(rows), "subtomograms")
    parts = []
    for start in range(0, len(rows), _AT_ONCE):
        seen, _ = data.read(rows[start : start + _AT_ONCE])
        parts.append(rif_features(standardise(seen[:, 0]), config.rif_space).cpu().numpy())
        progress.step(len(seen))
    machine, chosen = fit_svm(
        np.concatenate(parts),
        data.labels.number[rows],
        box=data.table.box,
        classes=len(data.labels.names),
        space=config.rif_space,
        penalties=config.svm_penalties,
        balanced=config.balance_classes,
        seed=config.seed,
    )
    print(f"support vector machine with C = {chosen:g} and {len(machine.support)} vectors", flush=True)
    description = _description(config, data)
    description["arguments"]["vectors"] = len(machine.support)
    write_model(config, machine, data, description, [])
