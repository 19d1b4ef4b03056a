"""The training task: classes of subtomograms, and features that lie together within a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...launch import process_rank
from ...training.distributed import BlockDropout
from ...training.task import Blocks, Task
from .labelled_subtomograms import LabelledSubtomograms
from .network_residual import supervised_contrastive

__all__ = ["ClassTask"]

_VALIDATED = 512  # subtomograms of the learning curve; all of them are judged at the end
_AT_ONCE = 32


class ClassTask(Task):
    """Losses of a network that tells classes.

    Parameters
    ----------
    weight : (classes,) of the classes in the loss
    contrastive_weight : of the contrastive loss beside the cross entropy; 0 for networks without an embedding
    """

    def __init__(self, network: nn.Module, data: LabelledSubtomograms, weight: Tensor, contrastive_weight: float, seed: int) -> None:
        self.network, self.data, self._seed = network, data, seed
        self._weight, self._contrastive = weight, contrastive_weight

    def training_loss(self, blocks: Blocks) -> Tensor:
        """Mean of cross entropy and contrastive loss over the subtomograms of the blocks, weighted by class."""
        seen, number = self.data.draw(blocks)
        BlockDropout.show(self.network, self._seed, blocks)
        logits, features = self.network(seen)
        loss = functional.cross_entropy(logits.float(), number, reduction="none")
        if self._contrastive:
            loss = loss + self._contrastive * supervised_contrastive(features.float(), number)
        elif features is not logits:
            loss = loss + 0.0 * features.float().sum()  # several processes wait for a gradient of every weight
        return (self._weight.to(loss)[number] * loss).mean()

    @torch.no_grad()
    def validation_sums(self, blocks: Blocks) -> dict[str, Tensor]:
        """Cross entropy and the part of wrong classes, of subtomograms kept for validation."""
        sums = {name: torch.zeros(2, dtype=torch.float64) for name in ("loss", "error")}
        rank, world, _ = process_rank()
        kept = self.data.labels.validation
        some = kept[:: -(-len(kept) // _VALIDATED)][rank::world]
        for start in range(0, len(some), _AT_ONCE):
            seen, number = self.data.read(some[start : start + _AT_ONCE])
            logits = self.network(seen)[0].float()
            weight = self._weight.to(logits)[number]
            for name, values in zip(sums, (functional.cross_entropy(logits, number, reduction="none"), (logits.argmax(1) != number).float())):
                sums[name] += torch.stack(((weight * values).double().sum().cpu(), weight.double().sum().cpu()))
        return sums
