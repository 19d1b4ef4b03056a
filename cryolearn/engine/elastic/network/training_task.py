"""The training task of the elastic networks: simulated samples, labelled ones, or both."""

from __future__ import annotations

import torch

from ...launch import process_rank
from ...training.plan import BLOCK, block_generator
from ...training.task import Blocks, Task
from .architectures import AmplitudeResNet34, Hypotheses, MultiNetwork
from .labelled_particles import LabelledParticles, is_labelled, labelled_before
from .losses import amplitude_loss, multi_loss
from .training_simulator import BatchSimulator, Samples

__all__ = ["ElasticTask", "mean_amplitudes", "weighted_amplitudes"]

_AT_ONCE = 128
_CELLS = 2**40  # apart from the numbers of blocks


class ElasticTask(Task):
    """Losses of an amplitude network.

    Parameters
    ----------
    network : 'multi' or 'resnet34'
    simulator : source of simulated samples, or None
    labelled : source of labelled samples, or None
    share : share of labelled blocks
    """

    def __init__(
        self, network: MultiNetwork | AmplitudeResNet34, simulator: BatchSimulator | None, labelled: LabelledParticles | None,
        share: float, seed: int,
    ) -> None:
        self.network: MultiNetwork | AmplitudeResNet34 = network
        self._simulator, self._labelled, self._share, self._seed = simulator, labelled, share, seed

    def training_loss(self, blocks: Blocks) -> torch.Tensor:
        """Mean loss over the labelled and the simulated samples of the blocks."""
        labelled = [block for block in blocks if self._is_labelled(block[0])]
        simulated = [block for block in blocks if not self._is_labelled(block[0])]
        drawn = []
        for number, count in labelled:
            assert self._labelled is not None
            before = labelled_before(number, self._share) if self._simulator is not None else number
            drawn.append(self._labelled.draw(number, count, before * BLOCK))
        if simulated:
            assert self._simulator is not None
            drawn.append(self._simulator.draw(simulated))
        samples = Samples.concatenate(drawn)
        # a generator of its own: which number a sample gets must not depend on what else was drawn for it
        device = samples.images.device
        uniform = [
            torch.rand(count, generator=block_generator(self._seed, _CELLS + number, device), device=device)
            for number, count in labelled + simulated
        ]
        return self._losses(samples, torch.cat(uniform)).mean()

    def _is_labelled(self, block: int) -> bool:
        return self._simulator is None or (self._labelled is not None and is_labelled(block, self._share))

    @torch.no_grad()
    def validation_sums(self, blocks: Blocks) -> dict[str, torch.Tensor]:
        """Loss over all samples, and mean absolute error of the amplitudes, of labelled and of simulated samples apart."""
        found: dict[str, list[torch.Tensor]] = {"loss": [torch.zeros(2, dtype=torch.float64)]}
        if self._labelled is not None:
            found["labelled_error"] = [torch.zeros(2, dtype=torch.float64)]
            rows = self._labelled.validation_part(*process_rank()[:2])
            for first in range(0, len(rows), _AT_ONCE):
                self._validate(self._labelled.read(rows[first : first + _AT_ONCE]), "labelled_error", found)
        if self._simulator is not None:
            found["simulated_error"] = [torch.zeros(2, dtype=torch.float64)]
            step = _AT_ONCE // BLOCK
            for first in range(0, len(blocks), step):
                self._validate(self._simulator.draw(blocks[first : first + step]), "simulated_error", found)
        return {name: torch.stack(values).sum(0) for name, values in found.items()}

    def _validate(self, samples: Samples, name: str, found: dict[str, list[torch.Tensor]]) -> None:
        count = len(samples.images)
        middle = torch.full((count,), 0.5, device=samples.images.device)
        loss = self._losses(samples, middle).double().sum()
        error = (mean_amplitudes(self.network, samples.images) - samples.amplitudes).abs().mean(1).double().sum()
        for key, value in (("loss", loss), (name, error)):
            found[key].append(torch.tensor([float(value), float(count)], dtype=torch.float64))

    def _losses(self, samples: Samples, uniform: torch.Tensor) -> torch.Tensor:
        if isinstance(self.network, MultiNetwork):
            return multi_loss(self.network, samples.images, samples.rotation, samples.shift_angst, samples.amplitudes, uniform)
        return amplitude_loss(self.network, samples.images, samples.amplitudes)


def mean_amplitudes(network: MultiNetwork | AmplitudeResNet34, images: torch.Tensor) -> torch.Tensor:
    """The network's own answer (b, K): the mean over its most probable cells."""
    if isinstance(network, AmplitudeResNet34):
        return network(images).float() * network.amplitude_unit
    return weighted_amplitudes(network(images))[0]


def weighted_amplitudes(found: Hypotheses) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (b, K) of the amplitudes over the hypotheses, each a Laplace distribution."""
    weight = (found.probability / found.probability.sum(1, keepdim=True))[..., None]
    mean = (found.amplitudes * weight).sum(1)
    variance = ((2 * found.amplitude_scale.square() + (found.amplitudes - mean[:, None]).square()) * weight).sum(1)
    return mean, variance.sqrt()
