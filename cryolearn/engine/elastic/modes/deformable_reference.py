"""The deformable reference: Gaussians at the atoms, displaced along normal modes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...alignment.reference_check import Expected, map_of_gaussians
from ...io.modes import Modes


@dataclass(frozen=True)
class ElasticReference:
    """Gaussians that normal modes displace: ``x = x0 + sum_k q_k v_k`` (Hamitouche & Jonic 2021, section II.A).

    Attributes
    ----------
    coordinates : (N, 3) Å, x, y, z relative to the reference's centroid
    modes : (K, N, 3), unit norm over all atoms of the full reference, so that RMSD = |q| / sqrt(n_atoms)
    weights : (N,) scattering weight of each Gaussian, mean 1 over the atoms
    sigma_angst : (N,) standard deviation of each Gaussian
    n_atoms : atoms of the full reference (a coarse reference has fewer Gaussians)
    """

    coordinates: torch.Tensor
    modes: torch.Tensor
    weights: torch.Tensor
    sigma_angst: torch.Tensor
    n_atoms: int

    @classmethod
    def from_modes(
        cls, modes: Modes, mode_numbers: list[int], device: torch.device | str = "cpu", sigma_angst: float = 0.0
    ) -> ElasticReference:
        """Reference with the named modes; ``sigma_angst`` > 0 replaces the widths of all atoms."""
        chosen = modes.select(mode_numbers)

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32, device=device)

        weights = tensor(modes.weights / np.mean(modes.weights))
        sigma = tensor(modes.sigma_angst)
        return cls(
            coordinates=tensor(modes.coordinates - modes.origin_angst),
            modes=tensor(chosen.eigenvectors),
            weights=weights,
            sigma_angst=torch.full_like(sigma, sigma_angst) if sigma_angst > 0 else sigma,
            n_atoms=len(weights),
        )

    def positions(self, amplitudes: torch.Tensor) -> torch.Tensor:
        """Deformed coordinates (..., N, 3) Å of amplitudes (..., K)."""
        count, n, _ = self.modes.shape
        moved = amplitudes @ self.modes.reshape(count, 3 * n)
        return self.coordinates + moved.reshape(*amplitudes.shape[:-1], n, 3)

    def radius_angst(self, amplitude_range: float) -> float:
        """Largest distance of any atom from the centre while each amplitude stays within ``+-amplitude_range``."""
        reach = self.coordinates.norm(dim=1)
        # modes are independent directions: their largest joint displacement is bounded by the root sum of squares
        reach = reach + amplitude_range * self.modes.norm(dim=2).square().sum(0).sqrt()
        return float(reach.max())

    def expected(self, posed: bool = False, resolution_angst: float = 0.0) -> Expected:
        """What the undeformed structure says of images; ``posed`` if their poses are meant for it, ``resolution_angst`` is the finest that is used."""
        seen = map_of_gaussians(self.coordinates, self.weights, self.sigma_angst)
        return Expected(reference=seen, name="structure", posed=posed, radius_angst=self.radius_angst(0.0), resolution_angst=resolution_angst)

    def coarse(self, cell_angst: float) -> ElasticReference:
        """Fewer, wider Gaussians for low resolution: atoms in one cubic cell become one Gaussian.

        Weight, centre and mean displacement are kept; the width takes up the second moment of the cell's atoms.
        """
        cells = torch.floor(self.coordinates / cell_angst).long()
        _, group = torch.unique(cells, dim=0, return_inverse=True)
        count = int(group.max()) + 1
        weights = torch.zeros(count, dtype=self.weights.dtype, device=group.device).index_add_(0, group, self.weights)

        def mean(values: torch.Tensor) -> torch.Tensor:
            weighted = values * self.weights.reshape(-1, *[1] * (values.ndim - 1))
            total = torch.zeros(count, *values.shape[1:], dtype=weighted.dtype, device=group.device).index_add_(0, group, weighted)
            return total / weights.reshape(-1, *[1] * (values.ndim - 1))

        centres = mean(self.coordinates)
        spread = (self.coordinates - centres[group]).square().sum(1) / 3
        variance = mean(self.sigma_angst.square() + spread)
        modes = mean(self.modes.permute(1, 0, 2)).permute(1, 0, 2).contiguous()
        return ElasticReference(centres, modes, weights, variance.sqrt(), self.n_atoms)
