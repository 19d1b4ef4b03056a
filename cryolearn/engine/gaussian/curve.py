"""A curved trajectory of the Gaussians, found by expectation-maximisation over the places of the particles along it.

``p_m(c) = p_m + sum_d phi_d(c) sum_a W_ma U_da``: anchors' displacements U, spread to the Gaussians by normalised radial weights W, bend with the latent
c by the basis phi. E-step: the likelihood of each image at every place of a grid over c, by slices of the states' volumes. M-step: the model is fitted to
the sums ``b_g``, ``L_g`` that the images leave in Fourier space (:mod:`slices`), so its cost does not depend on the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor

from ..io.motions import basis_values
from ..progress import Progress
from .forward import Gaussians
from .particles import GaussianImages
from .slices import SliceGrid, VolumeSums, envelope

__all__ = ["Curve", "CurveFit", "fit_curve", "make_curve", "state_likelihood"]

_DISPLACEMENT_PRIOR_ANGST = 20.0  # standard deviations of what may change; weak beside the data
_PLACE_PRIOR_ANGST = 2.0
_AMPLITUDE_PRIOR = 0.5
_CHANGE_PRIOR = 1.0
_POPULATION_FLOOR = 0.1  # part of the prior over states that stays even, so that no state dies
_OPTIMISER_STEPS = 12


@dataclass
class Curve:
    """A trajectory. Tensors on the device; see the module for the formulas.

    Attributes
    ----------
    base : Gaussians at phi = 0
    grid : (G,) places along the path, and ``phi`` (G, D) their factors
    spread : (M, A) weights of the anchors; 0 outside the focus
    bend : (D, A, 3) displacements U of the anchors in Å
    change : (D, A) relative changes of amplitude, spread the same way
    population : (G,) part of the particles at each place
    basis : 'polynomial', 'periodic' or 'states'
    moves_places, moves_amplitudes : what differs between particles
    """

    base: Gaussians
    grid: Tensor
    phi: Tensor
    spread: Tensor
    bend: Tensor
    change: Tensor
    population: Tensor
    basis: str
    moves_places: bool
    moves_amplitudes: bool

    def displacement(self) -> Tensor:
        """(D, M, 3) displacement fields in Å."""
        return self.spread @ self.bend

    def weight_change(self) -> Tensor:
        """(D, M) relative changes of amplitude."""
        return self.change @ self.spread.T

    def states(self) -> tuple[Tensor, Tensor]:
        """Positions (G, M, 3) and amplitudes (G, M) along the path."""
        return self._at(self.base.positions_angst, self.base.amplitudes, self.bend, self.change)

    def _at(self, places: Tensor, amplitudes: Tensor, bend: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        moved = places + torch.einsum("gd,ma,dak->gmk", self.phi, self.spread, bend)
        factor = 1 + self.phi @ (change @ self.spread.T)
        return moved, amplitudes * torch.nn.functional.softplus(factor, beta=20.0)


@dataclass
class CurveFit:
    """Attributes
    ----------
    curve : the trajectory
    likelihood : (n, G) log-likelihood of each image at each place, relative to nothing (no population)
    posterior : (n, G)
    history : mean log-likelihood (marginal) of each round
    """

    curve: Curve
    likelihood: Tensor
    posterior: Tensor
    history: list[float] = field(default_factory=list)


def make_curve(model: Gaussians, *, vary: str, path: str, states: int, degree: int, anchors: int, moves: Tensor, seed: int) -> Curve:
    """A straight, motionless trajectory to start from.

    Parameters
    ----------
    moves
        (M,) bool, Gaussians that may change.
    anchors
        Number of anchors; 0, or more than half of the Gaussians, gives each its own.
    """
    device = model.positions_angst.device
    if path == "states":
        basis, terms, grid = "states", states, np.arange(states, dtype=float)
    elif path == "closed":
        basis, terms, grid = "periodic", 2 * degree, -1 + 2 * np.arange(states) / states
    else:
        basis, terms, grid = "polynomial", degree, np.linspace(-1, 1, states)
    phi = basis_values(basis, terms, grid[:, None])
    spread = _spread(model.positions_angst[moves], anchors, seed)
    whole = torch.zeros(len(model), spread.shape[1], device=device)
    whole[moves] = spread
    return Curve(
        model, torch.as_tensor(grid, dtype=torch.float32, device=device), torch.as_tensor(phi, dtype=torch.float32, device=device), whole,
        torch.zeros(terms, spread.shape[1], 3, device=device), torch.zeros(terms, spread.shape[1], device=device),
        torch.full((states,), 1 / states, device=device), basis, vary in ("conformation", "both"), vary in ("composition", "both"),
    )


def _spread(positions: Tensor, anchors: int, seed: int) -> Tensor:
    """Normalised radial weights (M, A) of k-means centres of the Gaussians."""
    count = len(positions)
    if anchors == 0 or 2 * anchors >= count:
        return torch.eye(count, device=positions.device)
    centres = kmeans2(positions.cpu().double().numpy(), anchors, minit="++", seed=seed)[0]
    places = torch.as_tensor(centres, dtype=torch.float32, device=positions.device)
    reach = torch.cdist(places, places).topk(2, largest=False).values[:, 1].mean()
    weight = torch.exp((-torch.cdist(positions, places).square() / (2 * reach**2)).clamp(min=-28))
    return weight / weight.sum(1, keepdim=True)


def state_likelihood(images: GaussianImages, volumes: Tensor, grid: SliceGrid, visit: Callable[..., None] | None = None) -> Tensor:
    """Log-likelihood (n, G) of the images given each of (G, z, y, x) volumes; constants that all share are left out.

    ``visit(rows, corners, signal, power, likelihood)`` is called for each batch.
    """
    count = len(volumes)
    parts = volumes.flatten(1).T
    table = torch.cat((parts.real, parts.imag), dim=1).contiguous()
    result = torch.empty(len(images), count, device=images.device)
    noise = images.band.per_point(images.noise_power)
    for batch in images.batches(chunk=grid.images_at_a_time(count, images.device)):
        corners = grid.corners(batch.rotation)
        slices = grid.sample(table, corners)
        signal, power = batch.transfer / noise * batch.data, batch.transfer.square() / noise
        cross = signal.real[:, None] @ slices[..., :count] + (signal.imag * corners.sign)[:, None] @ slices[..., count:]
        slices.square_()
        own = power[:, None] @ (slices[..., :count] + slices[..., count:])
        result[batch.rows] = (2 * cross - own)[:, 0]
        if visit:
            visit(batch.rows, corners, signal, power, result[batch.rows])
    return result


def curve_volumes(curve: Curve, grid: SliceGrid) -> Tensor:
    """Transforms (G, z, y, x) of the states, corrected for the fading of the slices' interpolation."""
    places, amplitudes = curve.states()
    amplitudes = amplitudes / envelope(places, grid.band)
    with torch.no_grad():
        return torch.cat([grid.volumes(place[None], amplitude[None], curve.base.sigma_angst) for place, amplitude in zip(places, amplitudes, strict=True)])


def fit_curve(images: GaussianImages, curve: Curve, start: Tensor, rounds: int, *, temperatures: Sequence[float] = (), free_base: bool = True, what: str = "Trajectory") -> CurveFit:
    """Expectation-maximisation from a first posterior.

    Parameters
    ----------
    start
        (n, G) first weights of the images over the grid.
    rounds
        E- and M-steps.
    temperatures
        Of the first rounds: the log-likelihoods are divided by them, so that images do not settle before the path has formed
        (deterministic annealing, Ueda & Nakano 1998). The other rounds are at 1.
    free_base
        Also fit places and amplitudes at phi = 0.
    """
    grid = SliceGrid(images.band)
    progress = Progress(what, rounds, "rounds")
    sums = VolumeSums(grid, len(curve.grid), len(curve.grid), images.device)
    _gather(images, grid, sums, start)
    posterior, history = start, []
    likelihood = torch.empty(0)
    for number in range(rounds):
        curve = _maximise(curve, sums, start_bend=number == 0, free_base=free_base)
        sums = VolumeSums(grid, len(curve.grid), len(curve.grid), images.device)
        posterior = torch.empty_like(start)
        prior = curve.population.log()
        heat = temperatures[number] if number < len(temperatures) else 1.0

        def visit(rows: NDArray[np.int64], corners: object, signal: Tensor, power: Tensor, values: Tensor,
                  sums: VolumeSums = sums, prior: Tensor = prior, posterior: Tensor = posterior, heat: float = heat) -> None:
            weight = torch.softmax(values / heat + prior, dim=1)
            posterior[rows] = weight
            sums.add(corners, signal, power, weight)  # type: ignore[arg-type]

        likelihood = state_likelihood(images, curve_volumes(curve, grid), grid, visit)
        history.append(float(torch.logsumexp(likelihood + prior, 1).double().mean()))
        even = _POPULATION_FLOOR / len(curve.grid)
        curve = replace(curve, population=(1 - _POPULATION_FLOOR) * posterior.double().mean(0).float() + even)
        progress.step(note=f"log-likelihood {history[-1]:.4f}")
    return CurveFit(curve, likelihood, posterior, history)


def _gather(images: GaussianImages, grid: SliceGrid, sums: VolumeSums, weight: Tensor) -> None:
    noise = images.band.per_point(images.noise_power)
    for batch in images.batches(chunk=grid.images_at_a_time(weight.shape[1], images.device)):
        sums.add(grid.corners(batch.rotation), batch.transfer / noise * batch.data, batch.transfer.square() / noise, weight[batch.rows])


def _maximise(curve: Curve, sums: VolumeSums, start_bend: bool, free_base: bool) -> Curve:
    """Fit the trajectory to the sums by L-BFGS; the objective is the expected log-likelihood and the priors."""
    grid, base = sums.grid, curve.base
    signal, power = sums.signal, sums.power
    fade = envelope(base.positions_angst, grid.band)
    unit = {"bend": 5.0, "place": 1.0, "amplitude": 0.2, "change": 0.3}  # steps of similar effect
    bend = (curve.bend / unit["bend"]).requires_grad_(curve.moves_places)
    change = (curve.change / unit["change"]).requires_grad_(curve.moves_amplitudes)
    place = torch.zeros_like(base.positions_angst).requires_grad_(free_base)
    amplitude = torch.zeros_like(base.amplitudes).requires_grad_(free_base)
    parameters = [item for item in (bend, change, place, amplitude) if item.requires_grad]
    optimiser = torch.optim.LBFGS(parameters, max_iter=_OPTIMISER_STEPS, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        places, amplitudes = curve._at(
            base.positions_angst + place * unit["place"], base.amplitudes * torch.exp(amplitude * unit["amplitude"]), bend * unit["bend"],
            change * unit["change"])
        prior = (bend * unit["bend"] / _DISPLACEMENT_PRIOR_ANGST).square().sum() + (change * unit["change"] / _CHANGE_PRIOR).square().sum()
        prior = prior + (place * unit["place"] / _PLACE_PRIOR_ANGST).square().sum() + (amplitude * unit["amplitude"] / _AMPLITUDE_PRIOR).square().sum()
        loss = prior / 2
        total = float(loss.detach())
        # state by state, so that the factors of one volume at a time are held
        leaf_places, leaf_amplitudes = places.detach().requires_grad_(), amplitudes.detach().requires_grad_()
        for state in range(len(curve.grid)):
            volume = grid.volumes(leaf_places[state : state + 1], leaf_amplitudes[state : state + 1] * fade, base.sigma_angst)[0]
            misfit = (power[state] * volume.abs().square()).sum() - 2 * (signal[state].real * volume.real + signal[state].imag * volume.imag).sum()
            misfit.backward()
            total += float(misfit.detach())
        torch.autograd.backward([loss, places, amplitudes], [None, leaf_places.grad, leaf_amplitudes.grad])
        return total

    with torch.enable_grad():
        optimiser.step(closure)
    with torch.no_grad():
        new_base = replace(base, positions_angst=base.positions_angst + place * unit["place"], amplitudes=base.amplitudes * torch.exp(amplitude * unit["amplitude"]))
        return replace(curve, base=new_base, bend=(bend * unit["bend"]).detach(), change=(change * unit["change"]).detach())
