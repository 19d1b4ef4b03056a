"""A curved trajectory of the Gaussians: ``p_m(c) = p_m + sum_d phi_d(c) sum_a W_ma U_da``.

Anchors' displacements U, spread to the Gaussians by normalised radial weights W, bend with the latent c by the basis phi.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...imaging.standard_images import even_rows
from ...io.motions import basis_values
from ..model.anchored_motion import AnchoredMotion, anchor_weights
from ..model.projection import Gaussians
from ..model.slices import SliceGrid

__all__ = ["Curve", "curve_volumes", "make_curve", "thinned", "transfer_curve"]


@dataclass(kw_only=True)
class Curve(AnchoredMotion):
    """A trajectory whose terms D are those of the basis phi.

    Attributes
    ----------
    grid : (G,) places along the path, and ``phi`` (G, D) their factors
    population : (G,) part of the particles at each place; they add up to 1
    basis : 'polynomial', 'periodic' or 'states'
    """

    grid: Tensor
    phi: Tensor
    population: Tensor
    basis: str

    @property
    def log_prior(self) -> Tensor:
        """(G + 1,) logarithms of the populations and, last, of images without a particle."""
        return torch.cat((self.population * (1 - self.junk), self.population.new_tensor([self.junk]))).log()

    @property
    def moving(self) -> Curve:
        """The trajectory of the Gaussians in the focus alone."""
        free = self._free
        return self if bool(free.all()) else replace(self, base=self.base.part(free), spread=self.spread[free])

    @property
    def still(self) -> Gaussians | None:
        """The Gaussians outside the focus; None when there are none."""
        fixed = ~self._free
        return self.base.part(fixed) if bool(fixed.any()) else None

    @property
    def _free(self) -> Tensor:
        return self.spread.abs().sum(1) > 0

    def with_moving(self, moving: Curve) -> Curve:
        """The whole trajectory again, with what :attr:`moving` has become."""
        free = self._free
        base = replace(self.base, positions_angst=self.base.positions_angst.clone(), amplitudes=self.base.amplitudes.clone())
        base.positions_angst[free], base.amplitudes[free] = moving.base.positions_angst, moving.base.amplitudes
        return replace(self, base=base, bend=moving.bend, change=moving.change)

    def states(self) -> tuple[Tensor, Tensor]:
        """Positions (G, M, 3) and amplitudes (G, M) along the path."""
        return self.states_at(self.base.positions_angst, self.base.amplitudes, self.bend, self.change)

    def states_at(self, places: Tensor, amplitudes: Tensor, bend: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """The same for other values of the base and of the anchors."""
        moved = places + torch.einsum("gd,ma,dak->gmk", self.phi, self.spread, bend)
        factor = 1 + self.phi @ (change @ self.spread.T)
        return moved, amplitudes * torch.nn.functional.softplus(factor, beta=20.0)


def make_curve(model: Gaussians, *, vary: str, path: str, states: int, degree: int, anchors: int, moves: Tensor, seed: int) -> Curve:
    """A straight, motionless trajectory to start from.

    Parameters
    ----------
    model
        Gaussians at rest.
    vary
        'conformation', 'composition' or 'both'.
    path
        'open', 'closed' or 'states' (separate states without order).
    states
        Number G of places along the path, or of states.
    degree
        Degree of the polynomials of an open path, number of harmonics of a closed one; separate states do not use it.
    anchors
        Number of anchors; 0, or more than half of the Gaussians, gives each its own.
    moves
        (M,) bool, Gaussians that may change.
    seed
        Of the k-means clustering that places the anchors.
    """
    device = model.positions_angst.device
    if path == "states":
        basis, terms, grid = "states", states, np.arange(states, dtype=float)
    elif path == "closed":
        basis, terms, grid = "periodic", 2 * degree, -1 + 2 * np.arange(states) / states
    else:
        basis, terms, grid = "polynomial", degree, np.linspace(-1, 1, states)
    phi = basis_values(basis, terms, grid[:, None])
    weights = anchor_weights(model, moves, anchors, seed)
    return Curve(
        base=model,
        grid=torch.as_tensor(grid, dtype=torch.float32, device=device),
        phi=torch.as_tensor(phi, dtype=torch.float32, device=device),
        spread=weights,
        bend=torch.zeros(terms, weights.shape[1], 3, device=device),
        change=torch.zeros(terms, weights.shape[1], device=device),
        population=torch.full((states,), 1 / states, device=device),
        basis=basis,
        moves_places=vary in ("conformation", "both"),
        moves_amplitudes=vary in ("composition", "both"),
    )


def transfer_curve(curve: Curve, old: Gaussians, new: Gaussians) -> Curve:
    """The same trajectory carried by other Gaussians (more of them, at a finer resolution).

    Parameters
    ----------
    curve
        Trajectory carried by ``old``, from which its base may have moved.
    old
        The Gaussians as they were fitted to the map, before the trajectory changed its base.
    new
        Others, fitted to the same map.
    """
    reach = torch.cdist(old.positions_angst, old.positions_angst).topk(2, largest=False).values[:, 1].mean()
    near = torch.softmax(-torch.cdist(new.positions_angst, old.positions_angst).square() / (2 * reach**2), 1)
    ratio = torch.log(curve.base.amplitudes / old.amplitudes)
    base = replace(new, positions_angst=new.positions_angst + near @ (curve.base.positions_angst - old.positions_angst),
                   amplitudes=new.amplitudes * torch.exp(near @ ratio))
    return replace(curve, base=base, spread=near @ curve.spread)


def curve_volumes(curve: Curve, grid: SliceGrid) -> Tensor:
    """Transforms (G, z, y, x) of the states, corrected for the fading of the slices' interpolation."""
    moving, still = curve.moving, curve.still
    places, amplitudes = moving.states()
    with torch.no_grad():
        states = (Gaussians(*state, moving.base.sigma_angst) for state in zip(places, amplitudes, strict=True))
        volumes = torch.cat([grid.model_volume(state) for state in states])
        return volumes if still is None else volumes.add_(grid.model_volume(still))


def thinned(curve: Curve) -> tuple[Curve, NDArray[np.int64]]:
    """The trajectory at every second place of its grid, ends included, and which places these are; separate states are all kept."""
    count = len(curve.grid)
    kept = np.arange(count) if curve.basis == "states" else even_rows(count, max(5, (count + 1) // 2))
    at = torch.from_numpy(kept).to(curve.grid.device)
    return replace(curve, grid=curve.grid[at], phi=curve.phi[at], population=torch.full_like(curve.population[at], 1 / len(kept))), kept
