"""How Lightning finds its processes and its device: alone, under torchrun, or under srun."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from ..config import RunConfig
from ..cpu import number_in
from ..device import gpu_indices, has_fast_bfloat16
from ..exceptions import DeviceError
from ..launch import is_torchrun, process_rank

__all__ = ["choose_precision", "quieten", "trainer_arguments"]


def trainer_arguments(config: RunConfig) -> dict[str, Any]:
    """Arguments of ``lightning.Trainer`` that say which processes and devices take part.

    Raises
    ------
    DeviceError
        when there are more processes on this node than GPUs (NCCL has one process a GPU).
    """
    _, world, _ = process_rank()
    gpus = gpu_indices(config)
    here = world if world == 1 else _processes_on_this_node(world)
    environment: ClusterEnvironment
    if world == 1:
        # SLURM sets its variables in a batch script too, which is one process all the same
        environment = LightningEnvironment()
    elif is_torchrun():
        environment = TorchElasticEnvironment()
    else:
        environment = SLURMEnvironment(auto_requeue=False)
    arguments: dict[str, Any] = {"num_nodes": world // here, "plugins": [environment]}
    if gpus:
        if here > len(gpus):
            raise DeviceError(
                f"Training in {here} processes on a node needs {here} GPUs, but the list names {len(gpus)}: name more GPU IDs or take fewer processes."
            )
        arguments |= {"accelerator": "gpu", "devices": gpus[:here]}
    else:
        arguments |= {"accelerator": "cpu", "devices": here}
    arguments["strategy"] = "ddp" if world > 1 else "auto"
    return arguments


def _processes_on_this_node(world: int) -> int:
    if is_torchrun():
        return number_in("LOCAL_WORLD_SIZE", world)
    return world // max(1, number_in("SLURM_STEP_NUM_NODES", number_in("SLURM_NNODES", 1)))


def choose_precision(name: str, device: torch.device) -> str:
    """Lightning's precision for 'auto', 'bf16' or '32'; 'auto' takes bfloat16 where the hardware multiplies it fast."""
    if name != "auto":
        return "bf16-mixed" if name == "bf16" else "32-true"
    return "bf16-mixed" if has_fast_bfloat16(device) else "32-true"


def quieten() -> None:
    """Keep Lightning's greetings and hints out of a run's log; its errors stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*(num_workers|isinstance\(treespec|lr_scheduler\.step).*")
