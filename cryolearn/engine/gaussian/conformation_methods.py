"""The methods that find each particle's conformation, behind one function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..io.records import RunRecord
from .autoencoder.autoencoder_estimates import autoencoder_of, comparison_notes, judge_rows
from .autoencoder.training import AutoencoderFit
from .config import GaussianHeterogeneityConfig
from .conformation_estimates import Found, found_off_grid, found_on_curve, found_on_posterior
from .linear.eigen_motions import EigenMotions, find_eigen_motions
from .linear.fisher_information import settled
from .linear.gradients import GradientSource
from .linear.line_search import scan_motion
from .linear.linear_estimates import linear_of
from .model.anchored_motion import written_motion
from .model.fourier_particles import GaussianImages
from .model.projection import Gaussians
from .model.slices import SliceGrid
from .model.state_likelihood import state_likelihood
from .poses.pose_alternation import RefinedPoses, first_poses, refine_round
from .poses.pose_search import PoseRange
from .subunits.subunit_particles import ExpandedImages, fit_subunits, search_subunits
from .trajectory.multi_start import first_posterior, search_curve, start_directions
from .trajectory.trajectory_em import CurveFit, fit_curve
from .trajectory.trajectory_model import Curve, make_curve, transfer_curve

__all__ = ["Problem", "curve_of", "eigen_motions_of", "find_conformations", "half_agreement", "half_curves", "refine_problem_poses", "rigid_likelihood"]

_LEAST_AXES = 2  # tried when noise, or among subunits the others' motions, hides significance
_SCALE_SAMPLE = 300  # images whose scan tells how many Å an eigen-motion spans


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a round works on: images, Gaussians, which of them may move, and the parameters."""

    config: GaussianHeterogeneityConfig
    images: GaussianImages
    model: Gaussians
    moves: Tensor
    meta: dict[str, Any]
    record: RunRecord
    before: tuple[CurveFit, Gaussians] | None = None  # of the coarser round

    @property
    def kind(self) -> str:
        """What the gradients are taken by."""
        return "amplitude" if self.config.vary == "composition" else "position"

    @property
    def score(self) -> str:
        """Score of the gradients; the slides always take the FRC."""
        return "frc" if self.config.method == "slides" else self.config.score

    @property
    def keeps_rigid(self) -> bool:
        """Whether the gradients keep their rigid-body part; the slides take nothing from theirs."""
        return self.config.method == "slides" or (self.config.keep_rigid and not self.config.refine_poses)

    def source(self, images: GaussianImages | None = None, score: str = "") -> GradientSource:
        """Gradients of the images, by the configured score or another."""
        return GradientSource(images or self.images, self.model, self.kind, score or self.score, self.moves, self.keeps_rigid)


def eigen_motions_of(problem: Problem, images: GaussianImages | None = None, score: str = "") -> EigenMotions:
    """Eigen-motions of the particles' gradients."""
    config = problem.config
    return find_eigen_motions(problem.source(images, score), config.components, config.null_runs, config.seed)


def eigen_displacements(problem: Problem, eigen: EigenMotions) -> Tensor:
    """Eigen-motions (K, M, 3) or (K, M, 1) with unit norm, in the frame in which most of the Gaussians are still."""
    vectors = eigen.vectors.view(len(eigen.vectors), len(problem.model), -1)
    if problem.source().keeps_rigid:
        return vectors
    still = torch.stack([settled(vector, problem.model.positions_angst) for vector in vectors])
    return still / still.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None]


def motions_in_angst(problem: Problem, eigen: EigenMotions) -> tuple[Tensor, NDArray[np.float64]]:
    """Eigen-motions (K, M, 3) or (K, M, 1) with unit norm, and the standard deviation (K,) of the particles along each, in Å.

    A gradient has no scale; a scan of some images along each motion finds one. The scatter that error bars explain is taken away.
    """
    images = problem.images
    sample = images.subset(images.sample_rows(_SCALE_SAMPLE))
    vectors = eigen_displacements(problem, eigen)
    deviations = np.zeros(len(vectors))
    for number, vector in enumerate(vectors):
        largest = float(vector.norm(dim=1).max())
        if not largest > 0:
            continue
        unit = vector / largest
        motion = unit if problem.kind == "position" else unit[:, 0]
        scanned = scan_motion(problem.source(sample, "likelihood"), motion)
        spread = np.var(scanned.place) - np.median(scanned.error) ** 2
        deviations[number] = np.sqrt(max(float(spread), 0.0)) / largest
    return vectors, deviations


def rigid_likelihood(problem: Problem) -> NDArray[np.float64]:
    """Log-likelihood (n,) of the images given the model that does not move, over an empty image."""
    grid = SliceGrid(problem.images.band)
    return state_likelihood(problem.images, grid.model_volume(problem.model), grid)[0][:, 0].double().cpu().numpy()


def curve_of(problem: Problem, images: GaussianImages, name: str, eigen: EigenMotions | None = None) -> CurveFit:
    """The trajectory of some images: from their eigen-motions, or from the coarser round."""
    config = problem.config
    record = problem.record.stage(f"curve_{name}")
    if problem.before is not None:
        fit, old = problem.before
        return fit_curve(images, transfer_curve(fit.curve, old, problem.model), fit.posterior, config.rounds, record=record)
    curve = make_curve(
        problem.model, vary=config.vary, path=config.path, states=config.states, degree=config.degree, anchors=config.anchors, moves=problem.moves,
        seed=config.seed)
    if record.read() is not None:
        return fit_curve(images, curve, torch.empty(0), config.rounds, record=record)
    found = eigen or eigen_motions_of(problem, images, "likelihood")
    weak = not found.significant.any()
    expanded = isinstance(images, ExpandedImages)
    guesses = first_guesses(curve, found, config, _LEAST_AXES if expanded or weak else 1)
    if expanded:
        return search_subunits(images, curve, guesses, config.rounds, record=record)
    return search_curve(images, curve, guesses, config.rounds, record=record, weak=weak)


def first_guesses(curve: Curve, eigen: EigenMotions, config: GaussianHeterogeneityConfig, axes: int = 1) -> list[Tensor]:
    """First posteriors (n, G) of the images over the path or the states; at least ``axes`` eigen-motions are tried, noise or not."""
    if config.path == "states":
        from scipy.cluster.vq import kmeans2

        kept = max(1, int(eigen.significant.sum()))
        starts = []
        for seed in range(3):
            label = kmeans2(eigen.projection[:, :kept].astype(np.float64), config.states, minit="++", seed=config.seed + seed)[1]
            weight = np.full((len(label), config.states), 0.5 / config.states, np.float32)
            weight[np.arange(len(label)), label] += 0.5
            starts.append(torch.from_numpy(weight).to(curve.grid.device))
        return starts
    tried = eigen.significant | (np.arange(len(eigen.significant)) < axes)
    return [first_posterior(curve, guess) for guess in start_directions(eigen.projection, tried, config.path == "closed")]


def find_conformations(problem: Problem, eigen: EigenMotions, copies: int = 1) -> tuple[Found, CurveFit | None]:
    """Conformations by the configured method; the fitted trajectory too when the method has one.

    ``eigen`` are the eigen-motions by the configured score; ``copies`` the subunits that each particle was expanded to.
    """
    method, pixel, meta = problem.config.method, problem.images.band.pixel_size, problem.meta
    if method == "slides":
        return _one_step(problem, eigen), None
    if method == "scan":
        return _scan(problem, eigen), None
    if method == "linear":
        lines = linear_of(problem.source(score="likelihood"), problem.config)
        motion = lines.motions.written("linear", pixel, meta)
        return found_on_posterior(lines.posterior, motion, rigid_likelihood(problem), {"junk_percent": 100 * lines.motions.junk}), None
    network = None
    if method == "autoencoder":
        network = _autoencoder(problem, copies)
        if network.accepted:
            motion = network.network.motion(pixel, meta)
            return found_on_posterior(network.posterior, motion, rigid_likelihood(problem), comparison_notes(network)), None
    fit = curve_of(problem, problem.images, "all", eigen if problem.score == "likelihood" else None)
    if isinstance(problem.images, ExpandedImages):
        fit = fit_subunits(problem.images, fit, copies)
    found = found_on_curve(fit, rigid_likelihood(problem), pixel, meta)
    if network is not None:
        found.notes.update(comparison_notes(network))
    return _upright(found, eigen), fit


def _autoencoder(problem: Problem, copies: int) -> AutoencoderFit:
    """The network and the curve learn from the same half of the particles; the other half judges."""
    part = problem.images.subset(judge_rows(len(problem.images), copies)[0])
    eigen = eigen_motions_of(problem, part, "likelihood")
    curve = curve_of(replace(problem, before=None), part, "judged", eigen)
    return autoencoder_of(problem.source(score="likelihood"), curve, problem.config, problem.record.file("network"), copies)


def refine_problem_poses(problem: Problem, half: NDArray[np.int64], about: tuple[Tensor, Tensor]) -> RefinedPoses:
    """Poses refined in alternation with a new search for the trajectory; ``about`` are the poses the particles came with."""
    config, record = problem.config, problem.record.stage("poses")
    limits = PoseRange(deg=config.pose_range_deg, angst=config.pose_range_angst, about=about)
    poses = first_poses(problem.images, problem.model, limits, centre=problem.before is None, record=record)
    for number in range(len(poses.history), config.refine_poses):
        here = replace(problem, images=poses.images, record=problem.record.part(f"poses_{number}"))
        poses = refine_round(poses, problem.model, curve_of(here, poses.images, "all"), half, record)
    return poses


def _upright(found: Found, eigen: EigenMotions) -> Found:
    """The path's sign is free: it runs the way of the first eigen-motion, so that two runs agree."""
    if found.motion.basis != "polynomial" or np.corrcoef(found.latents[:, 0], eigen.projection[:, 0])[0, 1] >= 0:
        return found
    odd = np.arange(len(found.motion.displacement)) % 2 == 0  # degrees 1, 3, ...
    signs = np.where(odd, -1.0, 1.0)
    motion = replace(found.motion, displacement=found.motion.displacement * signs[:, None, None], weight_change=found.motion.weight_change * signs[:, None])
    return replace(
        found, motion=motion, latents=-found.latents, state_weight=np.ascontiguousarray(found.state_weight[:, ::-1]),
        state_likelihood=np.ascontiguousarray(found.state_likelihood[:, ::-1]))


def _one_step(problem: Problem, eigen: EigenMotions) -> Found:
    """Coordinates are the gradients' own components, as the released programs of Chen 2018 have it."""
    vectors, deviations = motions_in_angst(problem, eigen)
    latents = eigen.projection.astype(np.float64)
    noise = np.sqrt(np.clip(eigen.null.cpu().numpy() / np.maximum(eigen.explained.cpu().numpy(), 1e-30), 0, 1))
    return _linear(problem, vectors, deviations, latents, np.broadcast_to(noise, latents.shape).copy(), eigen)


def _scan(problem: Problem, eigen: EigenMotions) -> Found:
    vectors = eigen_displacements(problem, eigen)[:1]
    largest = float(vectors[0].norm(dim=1).max())
    unit = vectors[0] / largest
    scanned = scan_motion(problem.source(), unit if problem.kind == "position" else unit[:, 0])
    # most images lie within; places that the noise threw to the ends of the range do not count
    deviation = max(float(np.subtract(*np.percentile(scanned.place, [84, 16]))) / 2, 1e-6)
    found = _linear(problem, vectors, np.array([deviation / largest]), scanned.place[:, None] / deviation, scanned.error[:, None] / deviation, eigen)
    return replace(found, at_end=scanned.at_end, log_likelihood=scanned.log_likelihood, gain=scanned.log_likelihood - scanned.rigid)


def _linear(problem: Problem, vectors: Tensor, deviations: NDArray[np.float64], latents: NDArray[np.float64], errors: NDArray[np.float64],
            eigen: EigenMotions) -> Found:
    """Straight motions: ``vectors`` (K, M, 3) or (K, M, 1) times ``deviations`` (K,) is one standard deviation of a latent."""
    model, pixel = problem.model, problem.images.band.pixel_size
    steps = vectors.double().cpu() * torch.from_numpy(deviations)[:, None, None]
    still = steps.new_zeros(len(steps), len(model), 3)
    positions = steps if problem.kind == "position" else still
    amplitudes = steps[..., 0] if problem.kind == "amplitude" else still[..., 0]
    motion = written_motion(model, positions, amplitudes, basis="linear", pixel_size_angst=pixel, meta=problem.meta)
    return found_off_grid(motion, latents, errors, rigid_likelihood(problem))


def half_curves(problem: Problem, half: NDArray[np.int64]) -> list[CurveFit]:
    """The trajectory that each half set finds alone."""
    alone = replace(problem, before=None)
    return [curve_of(alone, problem.images.subset(np.flatnonzero(half == number)), f"half{number}") for number in (1, 2)]


def half_agreement(both: NDArray[np.float64], path: str) -> float:
    """How well latents (n, 2) of two half sets agree: absolute rank correlation, or its form for circles and states."""
    if path == "states":
        from sklearn.metrics import adjusted_rand_score

        return float(adjusted_rand_score(both[:, 0].astype(int), both[:, 1].astype(int)))
    if path == "closed":
        first, second = np.exp(1j * np.pi * both.T)
        return float(max(abs(np.mean(first * second.conj())), abs(np.mean(first * second))))
    from scipy.stats import spearmanr

    return abs(float(spearmanr(both[:, 0], both[:, 1]).statistic))
