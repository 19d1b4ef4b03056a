"""The training task: patches of degraded density that are to become the density of their molecules."""

from __future__ import annotations

import torch

from ...training.task import Blocks, Task
from ..networks.by_name import MapNetwork
from .losses import dice_loss, patch_errors, residual_losses
from .patches import PatchBatch, PatchSampler

__all__ = ["MapTask"]

_AT_ONCE = 8


class MapTask(Task):
    """Losses of a map network on patches.

    Parameters
    ----------
    preset : 'paper' takes the dice loss
    fine_weight : see :func:`.losses.residual_losses`
    step_blocks, last_block : blocks of a step, and the number after those of the last step: the next step's patches are drawn while this one's are learned from
    """

    def __init__(
        self, network: MapNetwork, sampler: PatchSampler, preset: str, step_blocks: int, last_block: int, fine_weight: float = 1.0,
    ) -> None:
        self.network: MapNetwork = network
        self.sampler, self._preset, self._step_blocks, self._last_block = sampler, preset, step_blocks, last_block
        self._fine_weight = fine_weight

    def training_loss(self, blocks: Blocks) -> torch.Tensor:
        """Mean loss over the patches of the blocks; those of the next step are begun meanwhile."""
        batch = self.sampler.draw(blocks)
        following = [(number + self._step_blocks, count) for number, count in blocks]
        self.sampler.look_ahead([block for block in following if block[0] < self._last_block])
        return self.losses(batch)[0].mean()

    @torch.no_grad()
    def validation_sums(self, blocks: Blocks) -> dict[str, torch.Tensor]:
        """Loss, the error that is left, and the error of the input as it is."""
        sums = {name: torch.zeros(2, dtype=torch.float64) for name in ("loss", "error", "input_error")}
        for start in range(0, len(blocks), _AT_ONCE):
            batch = self.sampler.draw(blocks[start : start + _AT_ONCE])
            values = (*self.losses(batch), patch_errors(batch.seen, batch.target, batch.weight))
            for name, part in zip(sums, values, strict=True):
                sums[name] += torch.stack([part.double().sum().cpu(), torch.tensor(float(len(part)), dtype=torch.float64)])
        return sums

    def losses(self, batch: PatchBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and mean absolute error (b,)."""
        found, error = self.network(batch.seen, batch.resolution, batch.target_resolution)
        if self._preset == "paper" or error is None:
            return dice_loss(found, batch.target), patch_errors(found, batch.target, batch.weight).detach()
        return residual_losses(
            found,
            error,
            target=batch.target,
            weight=batch.weight,
            resolution=batch.resolution,
            target_resolution=batch.target_resolution,
            fine_weight=self._fine_weight,
        )
