"""A curved trajectory of the Gaussians, found by expectation-maximisation over the places of the particles along it.

``p_m(c) = p_m + sum_d phi_d(c) sum_a W_ma U_da``: anchors' displacements U, spread to the Gaussians by normalised radial weights W, bend with the latent
c by the basis phi. E-step: the likelihood of each image at every place of a grid over c, by slices of the states' volumes. M-step: the model is fitted to
the sums ``b_g``, ``L_g`` that the images leave in Fourier space (:mod:`slices`), so its cost does not depend on the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor

from ...io.motions import basis_values
from ...io.records import Columns, Stage
from ...progress import Progress
from ..model.fourier_particles import GaussianImages
from ..model.m_step_parameters import FreeParameters
from ..model.projection import Gaussians
from ..model.slices import SliceGrid, VolumeSums, envelope
from ..model.state_likelihood import state_batches, state_likelihood

__all__ = ["Curve", "CurveFit", "curve_volumes", "evaluate_curve", "fit_curve", "make_curve", "thinned", "transfer_curve"]

_BEND_STEP_ANGST = 5.0
_POPULATION_FLOOR = 0.1  # part of the prior over states that stays even, so that no state dies
_OPTIMISER_STEPS = 6
_SETTLED = 0.02  # log-likelihood an image gains in a round
_LEAST_JUNK, _MOST_JUNK = 0.001, 0.5


@dataclass(kw_only=True)
class Curve:
    """A trajectory. Tensors on the device; see the module for the formulas.

    Attributes
    ----------
    base : Gaussians at phi = 0
    grid : (G,) places along the path, and ``phi`` (G, D) their factors
    spread : (M, A) weights of the anchors; 0 outside the focus
    bend : (D, A, 3) displacements U of the anchors in Å
    change : (D, A) relative changes of amplitude, spread the same way
    population : (G,) part of the particles at each place; they add up to 1
    junk : part of the images that hold no particle
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
    junk: float = 0.02

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
    """A fitted trajectory, with what it says of each particle.

    Attributes
    ----------
    curve : the trajectory
    likelihood : (n, G) log-likelihood of each image at each place, relative to nothing (no population)
    posterior : (n, G); rows add up to the probability that the image is a particle at all
    expected : (n,) what the likelihood would be without noise at the best place: it says how surprising the likelihood is
    history : mean log-likelihood (marginal) of each round
    starts : that of the best start at the coarse resolution, when there were several
    """

    curve: Curve
    likelihood: Tensor
    posterior: Tensor
    expected: Tensor
    history: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)


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
        base=model,
        grid=torch.as_tensor(grid, dtype=torch.float32, device=device),
        phi=torch.as_tensor(phi, dtype=torch.float32, device=device),
        spread=whole,
        bend=torch.zeros(terms, spread.shape[1], 3, device=device),
        change=torch.zeros(terms, spread.shape[1], device=device),
        population=torch.full((states,), 1 / states, device=device),
        basis=basis,
        moves_places=vary in ("conformation", "both"),
        moves_amplitudes=vary in ("composition", "both"),
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


def transfer_curve(curve: Curve, old: Gaussians, new: Gaussians) -> Curve:
    """The same trajectory carried by other Gaussians (more of them, at a finer resolution).

    Parameters
    ----------
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
    def volume(places: Tensor, amplitudes: Tensor, sigma: Tensor) -> Tensor:
        return grid.volumes(places[None], (amplitudes / envelope(places, grid.band))[None], sigma)

    moving, still = curve.moving, curve.still
    places, amplitudes = moving.states()
    with torch.no_grad():
        volumes = torch.cat([volume(place, amplitude, moving.base.sigma_angst) for place, amplitude in zip(places, amplitudes, strict=True)])
        return volumes if still is None else volumes.add_(volume(still.positions_angst, still.amplitudes, still.sigma_angst))


def fit_curve(images: GaussianImages, curve: Curve, start: Tensor, rounds: int, *, temperatures: Sequence[float] = (), free_base: bool = True,
              what: str = "Trajectory", record: Stage | None = None) -> CurveFit:
    """Expectation-maximisation from a first posterior.

    Parameters
    ----------
    start
        (n, G) first weights of the images over the grid.
    rounds
        E- and M-steps; fewer when the log-likelihood settles.
    temperatures
        Of the first rounds: the log-likelihoods are divided by them, so that images do not settle before the path has formed
        (deterministic annealing, Ueda & Nakano 1998). The other rounds are at 1.
    free_base
        Also fit places and amplitudes at phi = 0.
    record
        Keeps the state after each round; when it is there already, work goes on from it.
    """
    grid = SliceGrid(images.band)
    done, posterior = 0, start
    history: list[float] = []
    if record is not None and (found := record.read()):
        done, curve, posterior, history, temperatures = _load(*found, curve)
    progress = Progress(what, rounds, "rounds", done)
    sums = VolumeSums(grid, len(curve.grid), len(curve.grid), images.device)
    _gather(images, grid, sums, posterior)
    likelihood = expected = torch.empty(0)
    for number in range(done, rounds):
        if _has_settled(history, len(temperatures)):
            break
        curve = _maximise(curve, sums, free_base=free_base)
        last = number == rounds - 1
        sums = VolumeSums(grid, len(curve.grid), len(curve.grid), images.device)
        posterior = torch.empty_like(posterior)
        likelihood, expected = torch.empty_like(posterior), torch.empty_like(posterior)
        prior = curve.log_prior
        heat = temperatures[number] if number < len(temperatures) else 1.0
        for batch in state_batches(images, curve_volumes(curve, grid), grid):
            likelihood[batch.rows], expected[batch.rows] = batch.likelihood, batch.expected
            posterior[batch.rows] = _posterior(batch.likelihood / heat, prior)[:, :-1]
            if not last:
                sums.add(batch.corners, batch.signal, batch.power, posterior[batch.rows])
        history.append(float(torch.logsumexp(torch.nn.functional.pad(likelihood, (0, 1)) + prior, 1).double().mean()))
        curve = _populate(curve, posterior)
        if record is not None:
            _save(record, number + 1, curve, posterior, history, temperatures)
        progress.step(note=f"log-likelihood {history[-1]:.4f}")
    if not len(likelihood):  # the record was that of the end
        likelihood, expected = state_likelihood(images, curve_volumes(curve, grid), grid)
    best = expected.gather(1, likelihood.argmax(1, keepdim=True))[:, 0]
    return CurveFit(curve, likelihood, posterior, best, history)


def _has_settled(history: list[float], heated: int) -> bool:
    """Whether the last round changed so little that no posterior would notice; rounds after a change of temperature do not count."""
    return len(history) > heated + 1 and history[-1] - history[-2] < _SETTLED


def thinned(curve: Curve) -> tuple[Curve, NDArray[np.int64]]:
    """The trajectory at every second place of its grid, ends included, and which places these are; separate states are all kept."""
    count = len(curve.grid)
    kept = np.arange(count) if curve.basis == "states" else np.unique(np.linspace(0, count - 1, max(5, (count + 1) // 2)).round().astype(np.int64))
    at = torch.from_numpy(kept).to(curve.grid.device)
    return replace(curve, grid=curve.grid[at], phi=curve.phi[at], population=torch.full_like(curve.population[at], 1 / len(kept))), kept


def evaluate_curve(images: GaussianImages, curve: Curve) -> CurveFit:
    """Where images lie on a trajectory that is not changed."""
    grid = SliceGrid(images.band)
    likelihood, expected = state_likelihood(images, curve_volumes(curve, grid), grid)
    marginal = torch.logsumexp(torch.nn.functional.pad(likelihood, (0, 1)) + curve.log_prior, 1)
    best = expected.gather(1, likelihood.argmax(1, keepdim=True))[:, 0]
    return CurveFit(curve, likelihood, _posterior(likelihood, curve.log_prior)[:, :-1], best, [float(marginal.double().mean())])


def _posterior(values: Tensor, log_prior: Tensor) -> Tensor:
    """(b, G + 1) weights of the places and, last, of an empty image, whose log-likelihood is 0."""
    return torch.softmax(torch.nn.functional.pad(values, (0, 1)) + log_prior, dim=1)


def _populate(curve: Curve, posterior: Tensor) -> Curve:
    total = posterior.double().sum(0)
    even = _POPULATION_FLOOR / len(curve.grid)
    particles = float(total.sum()) / len(posterior)
    return replace(curve, population=(1 - _POPULATION_FLOOR) * (total / total.sum()).float() + even, junk=min(_MOST_JUNK, max(_LEAST_JUNK, 1 - particles)))


def _save(record: Stage, done: int, curve: Curve, posterior: Tensor, history: list[float], temperatures: Sequence[float]) -> None:
    arrays = {"base": curve.base.positions_angst, "amplitudes": curve.base.amplitudes, "bend": curve.bend, "change": curve.change,
              "population": curve.population, "posterior": posterior}
    record.write({name: value.cpu().numpy() for name, value in arrays.items()},
                 {"done": done, "junk": curve.junk, "history": history, "temperatures": list(temperatures)})


def _load(arrays: Columns, values: dict[str, Any], curve: Curve) -> tuple[int, Curve, Tensor, list[float], list[float]]:
    tensor = {name: torch.as_tensor(array, device=curve.grid.device) for name, array in arrays.items()}
    base = replace(curve.base, positions_angst=tensor["base"], amplitudes=tensor["amplitudes"])
    path_then = replace(curve, base=base, bend=tensor["bend"], change=tensor["change"], population=tensor["population"], junk=values["junk"])
    return values["done"], path_then, tensor["posterior"], values["history"], values["temperatures"]


def _gather(images: GaussianImages, grid: SliceGrid, sums: VolumeSums, weight: Tensor) -> None:
    noise = images.band.per_point(images.noise_power)
    for batch in images.batches(chunk=grid.images_at_a_time(weight.shape[1], images.device)):
        sums.add(grid.corners(batch.rotation), batch.transfer / noise * batch.data, batch.transfer.square() / noise, weight[batch.rows])


def _maximise(curve: Curve, sums: VolumeSums, free_base: bool) -> Curve:
    """Fit the trajectory to the sums by L-BFGS; the objective is the expected log-likelihood and the priors.

    Gaussians outside the focus are taken off the data once: the cost is that of the focus.
    """
    grid, signal, power = sums.grid, sums.signal, sums.power
    still = curve.still
    if still is not None:
        faded = still.amplitudes * envelope(still.positions_angst, grid.band)
        signal -= power * grid.volumes(still.positions_angst[None], faded[None], still.sigma_angst)
    moving = _fit_to_sums(curve.moving, grid, signal, power, free_base)
    return moving if still is None else curve.with_moving(moving)


def _fit_to_sums(curve: Curve, grid: SliceGrid, signal: Tensor, power: Tensor, free_base: bool) -> Curve:
    fade = envelope(curve.base.positions_angst, grid.band)
    free = FreeParameters(curve.base, curve.bend, curve.change, moves_places=curve.moves_places, moves_amplitudes=curve.moves_amplitudes,
                          free_base=free_base, bend_unit_angst=_BEND_STEP_ANGST)

    def objective() -> float:
        base, penalty = free.base(), free.penalty()
        places, amplitudes = curve._at(base.positions_angst, base.amplitudes, free.bend(), free.change())
        with torch.no_grad():
            value, by_place, by_amplitude = grid.misfit(places.detach(), amplitudes.detach() * fade, base.sigma_angst, signal, power)
        torch.autograd.backward([penalty, places, amplitudes], [None, by_place, by_amplitude * fade])
        return float(penalty.detach()) + value

    base, bend, change = free.minimise(objective, _OPTIMISER_STEPS)
    return replace(curve, base=base, bend=bend, change=change)
