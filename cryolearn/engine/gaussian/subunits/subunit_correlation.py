"""How the conformations of a particle's subunits go together.

The places that the posteriors give to neighbouring subunits are wrong together: the subunits overlap in projection, and what one explains of the noise the
other does not. So the correlation is not read off the places. The model's images are taken as linear in the conformations about each particle's own
places; what an image says of all subunits at once is then a normal likelihood with a full precision matrix, the overlap in its off-diagonal
elements, and the covariance of the population is the one that makes the images likeliest (expectation-maximisation for a random-effects model, Laird &
Ware 1982), with one value for all pairs of subunits that are equally far apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ...figures import new_figure
from ...imaging.standard_images import even_rows
from ..model.fourier_particles import GaussianImages
from ..model.slices import SliceGrid
from ..trajectory.trajectory_em import CurveFit
from ..trajectory.trajectory_model import curve_volumes

__all__ = ["SubunitCorrelation", "SubunitInformation", "draw_subunit_correlation", "information_of_errors", "ring_distance", "subunit_correlation",
           "subunit_information"]

Array = NDArray[np.float64]
_MOST_PARTICLES = 20_000  # evenly spread over the set; more change nothing that an error bar of 0.01 would show
_ROUNDS = 200  # each of three steps of expectation-maximisation
_SETTLED = 1e-6  # of the variance
_FLOOR = 1e-4  # smallest eigenvalue of the covariance, of the variance
_TOLERANCE = 1e-4


@dataclass
class SubunitInformation:
    """What each image says of its subunits' conformations c: a log-likelihood ``h c - c J c / 2``.

    Attributes
    ----------
    slope : (n, S) h
    precision : (n, S, S) J
    weight : (n,) probability that the image is a particle
    """

    slope: Array
    precision: Array
    weight: Array

    def __len__(self) -> int:
        return len(self.slope)


def subunit_information(images: GaussianImages, fit: CurveFit, copies: int) -> SubunitInformation:
    """Linearise the images about the places that the posteriors give.

    With ``F(c) = F(m) + sum_a D_a (c_a - m_a)`` and coefficients whose noise has the variance N (over real and imaginary part together),
    ``J_ab = 2 Re sum D_a* D_b / N`` and ``h = 2 Re sum D* (Y - F(m)) / N + J m``.

    Parameters
    ----------
    images
        As :func:`.subunit_particles.expand` makes them, whole particles in order.
    fit
        Of :func:`.subunit_particles.fit_subunits`.
    copies
        Subunits S of a particle.
    """
    curve, grid, device = fit.curve, SliceGrid(images.band), images.device
    table = grid.table(curve_volumes(curve, grid))
    total = fit.posterior.sum(1, keepdim=True)
    posterior = fit.posterior / total.clamp(min=1e-12)
    mean = posterior.mean(0)
    place = posterior @ curve.grid
    # numerical derivative along the grid; columns: the still particle, what moves, and its derivative
    slope = torch.from_numpy(np.gradient(np.eye(len(curve.grid)), curve.grid.double().cpu().numpy(), axis=0)).to(posterior)
    weights = torch.stack((mean.expand_as(posterior), (posterior - mean) * total, posterior @ slope), dim=-1)
    every = len(images) // copies
    chosen = even_rows(every, _MOST_PARTICLES)
    noise = images.band.per_point(images.noise_power)
    step = max(1, grid.images_at_a_time(len(curve.grid), device) // copies)
    slopes, precisions = [], []
    for start in range(0, len(chosen), step):
        block = chosen[start : start + step]
        rows = (block[:, None] * copies + np.arange(copies)).ravel()
        corners = grid.corners(images.rotation[rows])
        found = grid.sample(table, corners).view(len(rows), len(images.band), 2, -1) @ weights[rows][:, None]
        seen = torch.complex(found[:, :, 0], found[:, :, 1] * corners.sign[..., None]).view(len(block), copies, len(images.band), 3)
        first = rows[::copies]
        batch = next(iter(images.batches(first, chunk=len(first))))
        transfer = batch.transfer[:, None]
        rest = batch.data - batch.transfer * (seen[..., 0].mean(1) + seen[..., 1].sum(1))
        change = seen[..., 2] * transfer
        weighted = change.conj() * (2 / noise)
        precision = (weighted @ change.transpose(1, 2)).real.double()
        at = place.view(every, copies)[torch.from_numpy(block).to(device)].double()
        slopes.append((weighted @ rest[..., None])[..., 0].real.double() + (precision @ at[..., None])[..., 0])
        precisions.append(precision)
    return SubunitInformation(torch.cat(slopes).cpu().numpy(), torch.cat(precisions).cpu().numpy(),
                              total.view(every, copies).mean(1).double().cpu().numpy()[chosen])


def information_of_errors(latents: ArrayLike, sigma: ArrayLike) -> SubunitInformation:
    """The same from posterior means and standard deviations (n, S), as if errors of different subunits had nothing to do with each other.

    Their prior was normal with the variance ``t = Var(m) + E[sigma^2]`` (law of total variance), so ``J = 1 / sigma^2 - 1 / t``.
    """
    means, errors = np.asarray(latents, np.float64), np.asarray(sigma, np.float64)
    centre = means.mean()
    variance = float(((means - centre) ** 2).mean() + (errors**2).mean())
    precision = np.clip(1 / errors**2 - 1 / variance, 0, None)
    return SubunitInformation((means - centre) / errors**2, precision[..., None] * np.eye(means.shape[1]), np.ones(len(means)))


def ring_distance(matrices: Tensor, centre_angst: ArrayLike) -> Array:
    """(S, S) distances in Å between the places of the subunits, of which the first is at ``centre_angst`` (x, y, z)."""
    places = matrices.double().cpu().numpy() @ np.asarray(centre_angst, np.float64)
    return np.asarray(np.linalg.norm(places[:, None] - places[None], axis=-1))


@dataclass(kw_only=True)
class SubunitCorrelation:
    """Correlation of the conformations of two subunits of a particle over their distance.

    Attributes
    ----------
    distance_angst : (D,) distances between subunits, in rising order; pairs as far apart count together
    correlation : (D,) of the conformations in the population
    raw : (D,) of the latents as they are
    error : (D,) standard error of ``correlation``
    null : (D,) subunits that have nothing to do with each other are below in 95 % of such sets, in absolute value
    pairs : (D,) pairs a particle
    reliability : part of the conformations' variance that the images tell
    """

    distance_angst: Array
    correlation: Array
    raw: Array
    error: Array
    null: Array
    pairs: NDArray[np.int64]
    reliability: float


def subunit_correlation(information: SubunitInformation, latents: ArrayLike, distance_angst: ArrayLike) -> SubunitCorrelation:
    """Correlation between subunits of a particle as a function of their distance; see the module.

    Standard errors are those of maximum likelihood, by the particles' own scores.

    Parameters
    ----------
    information
        Log-likelihood of each image as a quadratic function of its subunits' conformations (:func:`subunit_information`).
    latents
        (n, S) places as reported; their correlation is given beside.
    distance_angst
        (S, S), see :func:`ring_distance`.
    """
    apart, means = np.asarray(distance_angst, np.float64), np.asarray(latents, np.float64)
    copies = len(apart)
    first, second = np.triu_indices(copies, 1)
    levels, group = _grouped(apart[first, second])
    patterns = np.zeros((len(levels) + 1, copies, copies))
    patterns[0] = np.eye(copies)
    patterns[group + 1, first, second] = patterns[group + 1, second, first] = 1
    together, alone = (_Population(information, patterns[: 1 + kept]).fitted() for kept in (len(levels), 0))
    centred = means - means.mean()
    pairs = [(centred[:, first[group == level]] * centred[:, second[group == level]]).mean() for level in range(len(levels))]
    raw = np.array(pairs) / max(float((centred**2).mean()), 1e-30)
    correlation, error = together.correlations(patterns)
    null = 1.96 * alone.correlations(patterns)[1]
    return SubunitCorrelation(
        distance_angst=levels, correlation=correlation, raw=raw, error=error, null=null, pairs=np.bincount(group), reliability=together.reliability()
    )


@dataclass
class _Population:
    """Normal population of (S,) conformations with the covariance ``sum_k values_k patterns_k`` and one mean."""

    information: SubunitInformation
    patterns: Array
    values: Array | None = None
    mean: float = 0.0

    @property
    def covariance(self) -> Array:
        if self.values is None:  # start: unrelated subunits as broad as a posterior, since nothing is known
            diagonal = np.einsum("nss->ns", self.information.precision)
            return np.eye(self.patterns.shape[1]) / max(float(np.median(diagonal)), 1e-30)
        made = np.tensordot(self.values, self.patterns, 1)
        level, vectors = np.linalg.eigh(made)
        return (vectors * np.clip(level, _FLOOR * np.trace(made) / len(made), None)) @ vectors.T

    def moments(self) -> tuple[Array, Array]:
        """Posterior means (n, S), and second moments (n, S, S) about the population's mean."""
        inverse = np.linalg.inv(self.covariance)
        spread = np.linalg.inv(self.information.precision + inverse)
        means = (spread @ (self.information.slope + inverse.sum(1) * self.mean)[..., None])[..., 0]
        away = means - self.mean
        return means, spread + away[:, :, None] * away[:, None, :]

    def fitted(self) -> _Population:
        """At the likeliest values: expectation-maximisation with squared extrapolation (SqS3 of Varadhan & Roland, Scand. J. Stat. 35 (2008) 335)."""
        start = self._stepped()
        for _ in range(_ROUNDS):
            first = start._stepped()
            second = first._stepped()
            step = first._place - start._place
            bend = second._place - first._place - step
            if float(np.abs(step[:-1]).max()) < _SETTLED * float(first._place[0]):
                return second
            length = max(1.0, float(np.linalg.norm(step)) / max(float(np.linalg.norm(bend)), 1e-30))
            far = start._place + 2 * length * step + length**2 * bend
            start = replace(self, values=far[:-1], mean=float(far[-1]))._stepped() if far[0] > 0 else second
        return start

    @property
    def _place(self) -> Array:
        assert self.values is not None
        return np.append(self.values, self.mean)

    def _stepped(self) -> _Population:
        """After one round of expectation-maximisation."""
        weight = self.information.weight / self.information.weight.sum()
        means, seconds = self.moments()
        values = np.tensordot(self.patterns, np.tensordot(weight, seconds, 1), 2) / self.patterns.sum((1, 2))
        return replace(self, values=values, mean=float(weight @ means.mean(1)))

    def correlations(self, patterns: Array) -> tuple[Array, Array]:
        """Correlations (D,) of the patterns after the first, 0 where they are not free, and standard errors that they have when they are."""
        _, seconds = self.moments()
        covariance = self.covariance
        inverse = np.linalg.inv(covariance)
        scores = np.einsum("nab,kab->nk", inverse @ (seconds - covariance) @ inverse, patterns) / 2 * self.information.weight[:, None]
        values = np.tensordot(patterns, covariance, 2) / patterns.sum((1, 2))
        spread = np.linalg.pinv(scores.T @ scores, hermitian=True)
        by = np.concatenate([-values[1:, None] / values[0] ** 2, np.eye(len(values) - 1) / values[0]], axis=1)
        return values[1:] / values[0], np.sqrt(np.einsum("dk,kl,dl->d", by, spread, by))

    def reliability(self) -> float:
        means = self.moments()[0]
        return float(means.var() / np.diag(self.covariance).mean())


def _grouped(values: Array) -> tuple[Array, NDArray[np.int64]]:
    """Distinct values in rising order, and which of them each is."""
    order = np.argsort(values, kind="stable")
    new = np.diff(values[order], prepend=values[order[0]]) > _TOLERANCE * max(float(values.max()), 1e-12)
    group = np.empty(len(values), np.int64)
    group[order] = np.cumsum(new)
    levels = np.bincount(group, values) / np.bincount(group)
    return levels, group


def draw_subunit_correlation(found: SubunitCorrelation) -> Any:
    """Figure of the correlation against distance, with its null."""
    figure = new_figure(5.6, 3.8)
    axes = figure.add_subplot()
    x = found.distance_angst
    axes.fill_between(x, -found.null, found.null, color="0.88", label="unrelated subunits, 95 %")
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.plot(x, found.raw, "o--", color="0.45", label="latents as they are")
    axes.errorbar(x, found.correlation, 2 * found.error, fmt="o-", capsize=3, label="conformations (± 2 s.e.)")
    axes.set(xlabel="distance between subunits (Å)", ylabel="correlation of conformations", title="How subunits of a particle go together")
    axes.legend(fontsize=8)
    return figure
