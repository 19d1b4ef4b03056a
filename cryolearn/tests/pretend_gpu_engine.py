"""Runs of the engine's commands on the pretend GPU (:mod:`.pretend_gpu`), in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer.connectors import accelerator_connector

from cryolearn.engine import device
from cryolearn.engine.__main__ import main
from cryolearn.engine.batches import BatchPlan
from cryolearn.engine.commands import COMMANDS
from cryolearn.engine.training import trainer

from .pretend_gpu import GPU, Counts, pretend_gpu

__all__ = ["engine_on_pretend_gpu", "run_on_pretend_gpu"]


class _PretendAccelerator(Accelerator):
    """Lightning's view of the pretend GPU."""

    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    @staticmethod
    def parse_devices(devices: Any) -> int:
        return 1

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [GPU]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return GPU.type


def _trainer_arguments(config: Any) -> dict[str, Any]:
    if not config.use_gpu:
        return _real_arguments(config)
    strategy = SingleDeviceStrategy(GPU, accelerator=_PretendAccelerator())
    return {**_real_arguments(dataclasses.replace(config, use_gpu=False)), "accelerator": "auto", "devices": 1, "strategy": strategy}


_real_arguments = trainer.trainer_arguments


@contextlib.contextmanager
def engine_on_pretend_gpu(sizes: str = "cpu", places: bool = False) -> Iterator[Counts]:
    """Commands with ``use_gpu`` take the pretend GPU, trainings too; what they ask of it is counted.

    Parameters
    ----------
    sizes
        Batches as large as those of the 'cpu', whose sums come in the same order, or of 'cuda', as on a GPU. They are the tables ``{"cpu": .., "cuda": ..}``
        of the modules that have been imported.
    places
        Count by place in the engine too.
    """
    tables = [value for name, module in list(sys.modules.items()) if name.startswith("cryolearn.engine") and module is not None
              for value in vars(module).values() if isinstance(value, dict) and set(value) == {"cpu", "cuda"}]
    with contextlib.ExitStack() as stack:
        for table in tables:
            stack.enter_context(mock.patch.dict(table, {GPU.type: table[sizes]}))
        if sizes == "cpu":
            stack.enter_context(mock.patch.object(
                BatchPlan, "fitting", lambda what, bytes_each, device, on_cpu: BatchPlan(what, max(1, on_cpu), bytes_each)))
        stack.enter_context(mock.patch.object(device, "gpu_indices", lambda config: [0] if config.use_gpu else []))
        stack.enter_context(mock.patch.object(device, "gpu_device", lambda index: GPU))
        stack.enter_context(mock.patch.object(trainer, "trainer_arguments", _trainer_arguments))
        stack.enter_context(mock.patch.object(accelerator_connector, "MixedPrecision", lambda precision, device: MixedPrecision(precision, GPU.type)))
        yield stack.enter_context(pretend_gpu(places))


def run_on_pretend_gpu(words: Sequence[str], sizes: str = "cpu", places: bool = False, sixteen_bits: bool = True) -> tuple[int, Counts]:
    """Exit code and counts of a command given as on the command line, on the pretend GPU, which has fast bfloat16 or not."""
    importlib.import_module(COMMANDS[words[0]].run.partition(":")[0])
    with engine_on_pretend_gpu(sizes, places) as counts, mock.patch.object(torch.pgpu, "is_bf16_supported", lambda **_: sixteen_bits):  # type: ignore[attr-defined]
        return main([*words, "--use_gpu", "true"]), counts
