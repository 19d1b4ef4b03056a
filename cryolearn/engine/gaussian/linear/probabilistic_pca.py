"""Several motions at once: probabilistic principal components of the deformation by expectation-maximisation.

Each particle has K latents z, normal with unit variance; the Gaussians stand at ``p_m + sum_k z_k u_km`` and weigh ``a_m (1 + sum_k z_k c_km)``.
Near a place z_g the volume is ``V_g + sum_k (z - z_g)_k D_gk`` with derivative volumes D, so the posterior of z is normal and exact
(probabilistic PCA, Tipping & Bishop 1999). Small motions need one place, z = 0. Motions that are long beside the resolution get a small lattice of
places, each with a normal prior as wide as half the lattice's spacing; together these make up the normal prior: a mixture of factor analysers
(Ghahramani & Hinton 1996) whose parts share one deformation.

The M-step depends on sums in Fourier space only (``model/slices.py``): ``E[1], E[z_k]`` weigh the numerators and ``E[z_k z_l]`` the denominators, so its
cost does not depend on the number of images. After each round the latents are brought back to mean 0, variance 1 and principal axes (the
parameter expansion of Liu, Rubin & Wu 1998), which makes the expectation-maximisation fast and the result unique.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...exceptions import EXTREMES, require_finite
from ...progress import Progress
from ..model.anchored_motion import outlier_mixture
from ..model.fourier_particles import GaussianImages
from ..model.m_step_parameters import FreeParameters
from ..model.slices import SliceGrid, VolumeSums, envelope
from ..model.volume_jacobian import tangent_misfit, tangent_volumes
from .linear_motions import LatentPosterior, LinearMotions, lattice, to_principal_axes

__all__ = ["LinearFit", "expectation", "fit_linear", "linear_latents"]

_BEND_STEP_ANGST = 3.0
_OPTIMISER_STEPS = 12
_MEMORY = {"cpu": 1 << 28, "cuda": 1 << 31}  # numbers of the accumulators, 4 bytes each
_VOLUMES = {"cpu": 50, "cuda": 600}  # places of the lattice times volumes of each


@dataclass
class LinearFit:
    """Linear motions fitted by probabilistic principal component analysis.

    Attributes
    ----------
    motions : the motions, with the Gaussians at z = 0
    posterior : of each particle
    history : mean evidence of each round, with the chance that there is no particle
    """

    motions: LinearMotions
    posterior: LatentPosterior
    history: list[float] = field(default_factory=list)


def fit_linear(
    images: GaussianImages, motions: LinearMotions, rounds: int, *, rough: bool = True, places: int = 0, what: str = "Linear motions",
) -> LinearFit:
    """Fit K linear motions and each particle's latents.

    Parameters
    ----------
    images
        Coefficients, poses and noise of the particles.
    motions
        To start from.
    rounds
        E- and M-steps.
    rough
        The sizes of the motions are arbitrary, as those of :func:`start_motions`: in the first round the lattice has one place.
    places
        Largest number of places of the lattice; 1 is probabilistic PCA proper, 0 chooses by memory and kind of device.
    what
        Name in the progress lines.
    """
    grid, limit = SliceGrid(images.band), _limit(images, len(motions), places)
    progress = Progress(what, rounds, "rounds")
    history: list[float] = []
    for number in range(rounds):
        centres, widths, prior = lattice(_phases(motions, images), limit if number or not rough else 1)
        posterior, sums = expectation(images, motions, grid, centres, widths, prior, gather=True)
        assert sums is not None
        evidence = float(outlier_mixture(posterior.evidence, motions.junk).mean())
        history.append(require_finite(evidence, f"The log-likelihood of round {number + 1}", EXTREMES))
        progress.step(note=f"log-likelihood {history[-1]:.4f}, {len(centres)} places")
        motions = _maximise(motions, sums, centres)
        motions = to_principal_axes(motions, posterior)
    return replace(linear_latents(images, motions, places), history=history)


def linear_latents(images: GaussianImages, motions: LinearMotions, places: int = 0) -> LinearFit:
    """Latents of images, also of others than the motions were fitted to."""
    centres, widths, prior = lattice(_phases(motions, images), _limit(images, len(motions), places))
    posterior, _ = expectation(images, motions, SliceGrid(images.band), centres, widths, prior, gather=False)
    return LinearFit(motions, posterior)


def _limit(images: GaussianImages, count: int, places: int) -> int:
    """Most places of the lattice that memory and patience allow."""
    channels = 2 * (count + 1) + (count + 1) * (count + 2) // 2
    room = max(1, _MEMORY[images.device.type] // (SliceGrid(images.band).size * channels))
    return min(places or max(9, _VOLUMES[images.device.type] // (1 + count)), room)


def _phases(motions: LinearMotions, images: GaussianImages) -> Tensor:
    """(K,) radians by which one standard deviation moves the waves of the finest ring, at the Gaussians that move most."""
    moved = motions.displacement().norm(dim=2).quantile(0.9, dim=1)
    return (2 * math.pi * images.band.radius / images.band.length * moved).cpu()


def _part_volumes(motions: LinearMotions, grid: SliceGrid, centre: Tensor) -> Tensor:
    """(1 + K, z, y, x) at a place z_g, for slices: divided by what their interpolation fades."""
    displacement, change = motions.displacement(), motions.weight_change()
    places = motions.base.positions_angst + torch.einsum("k,kmc->mc", centre, displacement)
    amplitudes = motions.base.amplitudes / envelope(places, grid.band)
    return tangent_volumes(grid, places, _weighed(amplitudes, centre, change), motions.base.sigma_angst, displacement if motions.moves_places else None,
                           change * amplitudes if motions.moves_amplitudes else None)


def _weighed(amplitudes: Tensor, centre: Tensor, change: Tensor) -> Tensor:
    """Amplitudes (M,) at a place, never negative."""
    return amplitudes * torch.nn.functional.softplus(1 + centre @ change, beta=20.0)


def expectation(
    images: GaussianImages, motions: LinearMotions, grid: SliceGrid, centres: Tensor, widths: Tensor, prior: Tensor, gather: bool,
) -> tuple[LatentPosterior, VolumeSums | None]:
    """Posterior of the latents, and the sums that the images leave for the M-step.

    ``centres``, ``widths`` and ``prior`` are those of :func:`lattice`. Of the sums, numerators are in the order (place, 1 and K latents),
    denominators in that of the upper triangle of their products.
    """
    count, parts, device = len(motions), len(centres), images.device
    outer = count + 1
    with torch.no_grad():
        volumes = torch.cat([_part_volumes(motions, grid, centre.to(device, torch.float32)) for centre in centres])  # (G (1 + K), ...)
    table = grid.table(volumes)
    above = torch.triu_indices(outer, outer, device=device)
    sums = VolumeSums(grid, parts * outer, parts * above.shape[1], device) if gather else None
    total = len(images)
    found = LatentPosterior(*(torch.empty(total, *shape, dtype=torch.float64, device=device) for shape in ((count,), (count, count), (), (), (), ())))
    noise = images.band.per_point(images.noise_power)
    centres, precision, prior = centres.to(device), torch.diag(1 / widths.square()).to(device), prior.to(device)
    for batch in images.batches(chunk=grid.images_at_a_time(parts * outer, device)):
        corners = grid.corners(batch.rotation)
        signal, power = batch.filtered(noise)
        slices = grid.sample(table, corners).unflatten(-1, (2, parts, outer)).permute(0, 3, 4, 2, 1)  # (b, G, 1 + K, 2, P)
        ours = torch.stack((signal.real, signal.imag * corners.sign), dim=1)
        cross = batch.pooled(torch.einsum("bgarp,brp->bga", slices, ours).double())
        weighted = (slices * power.sqrt()[:, None, None, None]).flatten(-2)
        inner = batch.pooled((weighted @ weighted.transpose(-1, -2)).double())
        slope = 2 * (cross[..., 1:] - inner[..., 0, 1:])
        curvature = 2 * inner[..., 1:, 1:]
        hessian = curvature + precision
        covariance = torch.linalg.inv(hessian)
        step = (covariance @ slope[..., None])[..., 0]
        at_centre = 2 * cross[..., 0] - inner[..., 0, 0]
        evidence = at_centre + (slope * step).sum(-1) / 2 - (torch.logdet(hessian) - torch.logdet(precision)) / 2 + prior
        weight = torch.softmax(evidence, dim=1)
        place = centres + step
        mean = (weight[..., None] * place).sum(1)
        off = place - mean[:, None]
        found.mean[batch.rows] = mean
        found.covariance[batch.rows] = (weight[..., None, None] * (covariance + off[..., :, None] * off[..., None, :])).sum(1)
        found.evidence[batch.rows] = whole = torch.logsumexp(evidence, dim=1)
        found.weight[batch.rows] = particle = torch.sigmoid(whole + math.log(1 / motions.junk - 1))
        best = weight.argmax(1)
        away = mean - centres[best]
        take = torch.arange(len(best), device=device)
        # the linear image nearest to the mean latents, and its power
        found.log_likelihood[batch.rows] = at_centre[take, best] + (slope[take, best] * away).sum(1) - _quadratic(away, curvature[take, best]) / 2
        found.expected[batch.rows] = (
            inner[take, best, 0, 0] + 2 * (inner[take, best, 0, 1:] * away).sum(1) + _quadratic(away, curvature[take, best]) / 2)
        if sums is not None:
            weight = weight * particle[:, None]
            first = torch.cat((torch.ones_like(step[..., :1]), step), dim=-1)
            second = first[..., :, None] * first[..., None, :]
            second[..., 1:, 1:] += covariance
            moments = second[..., above[0], above[1]]
            sums.add(corners, signal, power, (weight[..., None] * first).flatten(1).float(), (weight[..., None] * moments).flatten(1).float())
    return found, sums


def _quadratic(vector: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("bk,bkl,bl->b", vector, matrix, vector)


def _maximise(motions: LinearMotions, sums: VolumeSums, centres: Tensor) -> LinearMotions:
    """Fit base and motions to the sums by L-BFGS; the objective is the expected log-likelihood and the priors."""
    grid, base, outer = sums.grid, motions.base, len(motions) + 1
    signal, power = sums.signal.unflatten(0, (len(centres), outer)), sums.power.unflatten(0, (len(centres), -1))
    fade = envelope(base.positions_angst, grid.band)
    free = FreeParameters(motions, _BEND_STEP_ANGST)
    nodes = [centre.to(signal.device, torch.float32) for centre in centres]
    used = [part for part in range(len(centres)) if float(power[part, 0].max()) > 0]

    def objective() -> float:
        penalty = free.penalty()
        penalty.backward()
        total = float(penalty.detach())
        now = replace(motions, base=free.base(), bend=free.bend(), change=free.change())
        field, changes = now.displacement(), now.weight_change()
        amplitudes = now.base.amplitudes * fade
        # what the parts share; their gradients meet here before they go on to the parameters
        shared = [item.detach().requires_grad_() for item in (now.base.positions_angst, amplitudes, field, changes)]
        for part in used:
            places = shared[0] + torch.einsum("k,kmc->mc", nodes[part], shared[2])
            weighed, slope = _weighed(shared[1], nodes[part], shared[3]), shared[3] * shared[1]
            value, *gradients = tangent_misfit(
                grid,
                places.detach(),
                amplitudes=weighed.detach(),
                sigma_angst=base.sigma_angst,
                displacement=shared[2].detach() if motions.moves_places else None,
                change=slope.detach() if motions.moves_amplitudes else None,
                signal=signal[part],
                power=power[part],
            )
            total += value
            known = [(item, gradient) for item, gradient in zip((places, weighed, shared[2], slope), gradients, strict=True) if gradient is not None]
            torch.autograd.backward([item for item, _ in known], [gradient for _, gradient in known])
        pairs = [(item, leaf.grad) for item, leaf in zip((now.base.positions_angst, amplitudes, field, changes), shared, strict=True) if item.requires_grad]
        torch.autograd.backward([item for item, _ in pairs], [gradient for _, gradient in pairs])
        return total

    fitted, bend, change = free.minimise(objective, _OPTIMISER_STEPS)
    return replace(motions, base=fitted, bend=bend, change=change)
