"""Maps of the conformations of a Gaussian model, alone or on top of the consensus map."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..imaging.gaussians import render_gaussians_3d
from ..imaging.standard_images import even_rows
from ..io.motions import MotionModel

__all__ = ["GaussianMaps"]

Array = NDArray[np.float64]
_SAMPLE = 256  # particles whose conformations make the mean


class GaussianMaps:
    """Maps (box, box, box) in the units of the consensus map.

    With a consensus map, a conformation is that map plus what the Gaussian model changes: the model at this conformation minus its mean over the
    particles. What does not move keeps the detail of the consensus map, and the mean over all particles is the consensus map itself.

    Parameters
    ----------
    model
        The motion.
    latents
        (n, K) of the particles.
    consensus
        Map reconstructed of all these particles, of the model's box and pixel size; None gives the Gaussians alone.
    """

    def __init__(self, model: MotionModel, latents: Array, box: int, pixel_size_angst: float, consensus: NDArray[np.float32] | None = None) -> None:
        self._box, self._pixel = box, pixel_size_angst
        self._sigma = torch.as_tensor(model.sigma_angst, dtype=torch.float32).clamp(min=pixel_size_angst / 2)
        self._rest: Tensor | float = 0.0
        if consensus is not None:
            rows = even_rows(len(latents), _SAMPLE)
            places, weights = model.conformation(latents[rows])
            # the Gaussians of all conformations at once: a mean density needs no map of each
            mean = self._render(places.reshape(-1, 3), weights.reshape(-1) / len(rows), self._sigma.repeat(len(rows)))
            self._rest = torch.from_numpy(np.ascontiguousarray(consensus, np.float32)) - mean

    def at(self, places: Array, weights: Array) -> Tensor:
        """Map of one conformation: (M, 3) places in Å from the centre and (M,) weights of the Gaussians."""
        return self._render(places, weights, self._sigma) + self._rest

    def _render(self, places: Array, weights: Array, sigma: Tensor) -> Tensor:
        at, weight = (torch.as_tensor(array, dtype=torch.float32) for array in (places, weights))
        return render_gaussians_3d(at, weight, sigma, self._box, self._pixel)
