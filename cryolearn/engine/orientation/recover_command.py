"""The command ``orientation-recover``: orientations of particle images from learned distances, and the map they make."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...common.limits import FEWEST_IMAGES
from ..alignment.posterior import Poses
from ..alignment.reference_check import Expected, check_images
from ..config import digest_config, require
from ..device import select_device
from ..exceptions import InputError
from ..imaging.ctf import ctf_2d
from ..imaging.first_images import ImageUse, warn
from ..imaging.half_set_maps import ImageOptions, Reconstruction, finish_reconstruction, fsc_sphere, insert_particles, new_reconstructor, split_halves
from ..imaging.poses import matrix_to_euler
from ..imaging.standard_images import StandardImages
from ..imaging.symmetry import symmetry_matrices
from ..io.records import RunRecord, remove_records
from ..io.star import ParticleTable, read_particles
from ..io.tables import Columns
from ..launch import is_first_process, say_once
from ..progress import Progress
from ..training.particle_images import ParticleImages
from ..training.process_group import broadcast, process_group
from .config import RecoverOrientationsConfig
from .distance_network.distance_model import FEATURES, DistanceModel
from .recovery.detector_frame import MOST_IMAGES, apply_gauge, find_gauge
from .recovery.recover_from_distances import recover
from .recovery_result import RecoveryResult, distances_fail, summarise
from .refinement.memory_plan import matching_bytes, memory_line
from .refinement.projection_matching import confidence_of, match
from .refinement.random_starts import start_from_nothing
from .refinement.read_images import matching_band, read_fourier_images
from .refinement.settings import Matched, MatchingSettings
from .report.recovery_report import write_report
from .similarity_kernel import SimilarityKernel

__all__ = ["run"]

_GAUGE_IMAGES = min(300, MOST_IMAGES)
_PAIRS = 20000  # kept for the plot of learned against recovered distances
_RANDOM_STARTS = 6
_DIAMETER = 0.8  # of the box
_MATCHING_PIXELS = 3.0
_ALIKE = 1e-6


def run(config: RecoverOrientationsConfig) -> None:
    """Run the command.

    Raises
    ------
    InputError
        when there are fewer than 50 images, they are all alike, carry no CTF though one is expected, do not suit the network, or the
        symmetry is not known.
    """
    require(config, "particles")
    with process_group():
        _recover(config)


def _recover(config: RecoverOrientationsConfig) -> None:
    device = select_device(config)
    table = read_particles(config.particles, datadir=config.datadir)
    if len(table) < FEWEST_IMAGES:
        raise InputError(f"'{config.particles}' has {len(table)} images, but orientations are recovered from at least {FEWEST_IMAGES}: give more particles.")
    model = None
    if config.start == "network":
        require(config, "model")
        model = DistanceModel.load(config.model, device)
        model.check_particles(table)
    kernel = SimilarityKernel(config.symmetry or (model.kernel.group if model else "C1"))
    diameter = config.particle_diameter_angst or _DIAMETER * table.box * table.pixel_size_angst
    images = ParticleImages(table, diameter / 2, device, invert_contrast=config.invert_contrast, ignore_ctf=config.ignore_ctf)
    _refuse_alike(images, config.particles)
    use = ImageUse(invert_contrast=config.invert_contrast, ignore_ctf=config.ignore_ctf, phase_flipped=config.phase_flipped)
    check_images(table, Expected(radius_angst=config.particle_diameter_angst / 2), use)
    record = RunRecord(config.output, "recovery", digest_config(config, table.files()))
    found = _find(config, table, images=images, model=model, kernel=kernel, diameter=diameter, record=record)
    if not is_first_process():
        return
    posed, maps = _reconstruct(config, table, found, kernel, diameter, device)
    summary = summarise(found, posed, maps, kernel, diameter, config.rounds)
    write_report(config.output, posed, found, maps, kernel, summary)
    remove_records(config.output, FEATURES)
    record.remove()


def _finished(record: RunRecord, name: str, make: Callable[[], tuple[Columns, dict[str, Any]]], shared: bool = False) -> tuple[Columns, dict[str, Any]]:
    """A stage's columns and facts: from the record, or made and recorded by the first process; all processes have a part in one that is ``shared``."""
    stage, first = record.stage(name), is_first_process()
    if not bool(broadcast(torch.tensor(stage.exists()))):
        made = make() if first or shared else None
        if first and made is not None:
            stage.write(*made)
            return made
    else:
        say_once(f"{name}: goes on after the finished stage")
    return stage.awaited()


def _refuse_alike(images: ParticleImages, path: str) -> None:
    sample, _ = images.read(images.sample_rows(32))
    if float((sample - sample.mean(0)).square().mean()) <= _ALIKE * float(sample.square().mean()) + 1e-12:
        raise InputError(f"The images of '{path}' are all alike: give projections of the particle in different orientations.")


def _find(
    config: RecoverOrientationsConfig, table: ParticleTable, images: ParticleImages, model: DistanceModel | None, kernel: SimilarityKernel,
    diameter: float, record: RunRecord,
) -> RecoveryResult:
    """All stages up to the final poses; finished ones are read from disk."""
    count = len(table)
    half = split_halves(table, np.arange(count))
    facts: dict[str, Any] = {"start": config.start}
    pairs, residual = None, np.full(count, np.nan, np.float32)
    rotation = torch.eye(3).expand(count, 3, 3)
    if model is not None:
        if is_first_process() and record.stage("recovered").exists() and record.stage("pairs").read() is None:  # both come from the same computation
            record.stage("recovered").remove()
        if not bool(broadcast(torch.tensor(record.stage("recovered").exists()))):
            model.encode_share(table, config, config.output)
        columns, more = _finished(record, "recovered", lambda: _from_distances(config, table, model, record))
        facts.update(more)
        residual = columns["residual_rad"].astype(np.float32)
        pairs, _ = record.stage("pairs").read() or (None, {})
        gauged, more = _finished(record, "gauge", lambda: _gauge(config, table, images, columns["rotation"], model.kernel, diameter))
        facts.update(more)
        rotation = torch.from_numpy(gauged["rotation"]).float()
    matched, more = _finished(
        record,
        "matched",
        lambda: _match(
            config, table, images=images, rotation=rotation, half=half, kernel=kernel, diameter=diameter, residual=residual, so_far=facts, record=record),
        shared=True,
    )
    facts.update(more)
    return RecoveryResult(
        rotation=torch.from_numpy(matched["rotation"]), shift_angst=torch.from_numpy(matched["shift_angst"]), confidence=matched["confidence"],
        residual_rad=residual, log_likelihood=matched["log_likelihood"], half=half, pairs=pairs, facts=facts)


def _from_distances(
    config: RecoverOrientationsConfig, table: ParticleTable, model: DistanceModel, record: RunRecord,
) -> tuple[Columns, dict[str, Any]]:
    """Orientations that fit the learned distances."""
    random = np.random.default_rng(config.seed)
    count = len(table)
    landmarks = np.arange(count) if count <= config.landmarks else np.sort(random.choice(count, config.landmarks, replace=False))
    distances, weights = model.measure(table, landmarks, config, config.output)
    found = recover(distances, landmarks, weights, model.kernel, config.restarts, config.seed, report=lambda text: print(f"Recovery: {text}", flush=True))
    first, column = random.integers(count, size=_PAIRS), random.integers(len(landmarks), size=_PAIRS)
    kept = first != landmarks[column]
    first, column = first[kept], column[kept]
    pairs = {
        "id": np.arange(1, len(first) + 1), "first": first, "second": landmarks[column], "learned_rad": np.asarray(distances[first, column], np.float32),
        "weight": np.asarray(weights[first, column], np.float32),
    }
    record.stage("pairs").write(pairs)
    facts = {"residual_rad": float(np.sqrt(found.loss)), "loss_rad2": float(found.loss), "landmarks": len(landmarks)}
    return {"id": table.ids, "rotation": found.rotations, "residual_rad": found.residual_rad}, facts


def _gauge(
    config: RecoverOrientationsConfig, table: ParticleTable, images: ParticleImages, rotations: NDArray[np.float64], kernel: SimilarityKernel, diameter: float,
) -> tuple[Columns, dict[str, Any]]:
    """Orientations with what distances leave free put right."""
    rows = images.sample_rows(_GAUGE_IMAGES)
    pictures, ctf = images.read(rows)
    if ctf is not None and not config.phase_flipped:
        transfer = ctf_2d(ctf, table.box, table.pixel_size_angst)
        pictures = torch.fft.irfft2(torch.fft.rfft2(pictures) * transfer.sign(), s=pictures.shape[-2:])
    whole = torch.from_numpy(rotations).float()
    gauge = find_gauge(
        pictures, whole[rows].to(pictures.device), config.gauge_candidates, config.seed, diameter_px=diameter / table.pixel_size_angst,
        shift_px=min(config.shift_range_angst, 0.1 * diameter) / table.pixel_size_angst, transposition=len(kernel.matrices) == 1,
    )
    print(f"Detector-side rotation: agreement {gauge.score:.3f}, margin {gauge.margin:.2f}, transposed: {'yes' if gauge.transposed else 'no'}", flush=True)
    facts = {"gauge_score": gauge.score, "gauge_margin": gauge.margin, "transposed": gauge.transposed}
    return {"id": table.ids, "rotation": apply_gauge(gauge, whole).cpu().numpy()}, facts


def _match(
    config: RecoverOrientationsConfig, table: ParticleTable, images: ParticleImages, rotation: Tensor, half: NDArray[np.int64], kernel: SimilarityKernel,
    diameter: float, residual: NDArray[np.float32], so_far: dict[str, Any], record: RunRecord,
) -> tuple[Columns, dict[str, Any]]:
    """Poses after matching rounds; without rounds as they are, with their confidence. Starts and rounds are recorded by the start that they belong to."""
    device, count = images.device, len(table)
    finest = config.matching_resolution_angst or _MATCHING_PIXELS * table.pixel_size_angst
    rings = int(np.clip(table.box * table.pixel_size_angst / finest, 4, table.box // 2 - 2))
    band, symmetry = matching_band(images, rings), kernel.matrices.float().to(device)
    say_once(memory_line(band, count, matching_bytes(band, count, diameter, symmetry, device.type), device.type))
    data = read_fourier_images(images, band, config.batch, record, config.phase_flipped)
    halves = torch.from_numpy(half).to(device)
    settings = MatchingSettings(
        diameter_angst=diameter, shift_range_angst=config.shift_range_angst, seed=config.seed, symmetry=symmetry)

    def from_random() -> tuple[Poses, dict[str, Any]]:
        begun = start_from_nothing(data, min(config.restarts, _RANDOM_STARTS), settings, record.part("random"))
        return begun.poses, {"start_used": "random", "start_evidence": sorted(begun.evidence.tolist(), reverse=True)}

    def matched(start: Poses, error_deg: float, name: str) -> Matched:
        return match(data, start, halves, rounds=config.rounds, settings=settings, error_deg=error_deg, record=record.part(name))

    if config.start == "random":
        start, facts = from_random()
    else:
        start, facts = Poses.single(rotation.to(device), torch.zeros(count, 2, device=device)), {}
    if not config.rounds:
        confidence = confidence_of(data, start, halves, settings)
        return _pose_columns(table, *start.best, confidence.cpu().numpy(), np.zeros(count)), facts
    found = matched(start, math.inf if config.start == "random" else _expected_error_deg(residual), config.start)
    if config.start == "network":
        moved = kernel.distance_rad(start.rotation[:, 0].cpu().double(), found.rotation.cpu().double())
        facts = {"start_used": "network", "matching_moved_rad": float(moved.median())}
        if config.second_start and distances_fail({**so_far, **facts}):
            say_once("The learned distances do not hold for these images: matching from random orientations too.")
            start, more = from_random()
            other = matched(start, math.inf, "random")
            if float(other.curve.mean()) > float(found.curve.mean()):
                found, facts = other, {**facts, **more}
            say_once(f"The half maps agree better from the {facts['start_used']} start, whose orientations are kept.")
    return _pose_columns(table, found.rotation, found.shift_angst, found.confidence.cpu().numpy(), found.log_likelihood.cpu().numpy()), facts


def _pose_columns(table: ParticleTable, rotation: Tensor, shift: Tensor, confidence: NDArray[Any], likelihood: NDArray[Any]) -> Columns:
    return {"id": table.ids, "rotation": rotation.cpu().double().numpy(), "shift_angst": shift.cpu().double().numpy(),
            "confidence": confidence.astype(np.float32), "log_likelihood": likelihood.astype(np.float32)}


def _expected_error_deg(residual_rad: NDArray[np.float32]) -> float:
    """Error of an orientation whose distances to others are off by these: both ends of a pair bring theirs along."""
    return float(np.degrees(np.median(residual_rad))) / math.sqrt(2)


def _reconstruct(
    config: RecoverOrientationsConfig, table: ParticleTable, found: RecoveryResult, kernel: SimilarityKernel, diameter: float, device: torch.device,
) -> tuple[ParticleTable, Reconstruction]:
    """The particle table with its poses and half sets, and its maps."""
    posed = table.with_poses(matrix_to_euler(found.rotation).numpy(), -found.shift_angst.numpy())
    posed = dataclasses.replace(posed, random_subset=found.half)
    work = new_reconstructor(posed, 2.0, device, config.phase_flipped)
    options = ImageOptions(use_ctf=not config.ignore_ctf, invert_contrast=config.invert_contrast, batch=config.batch)
    stack = StandardImages(posed, keep_magnification=True)
    insert_particles([work], stack, np.arange(len(posed)), found.half, options=options, progress=Progress("Reconstruction", len(posed)))
    warn(posed, stack.warnings())
    found.confidence[stack.unusable] = 0
    mask = fsc_sphere(table.box, table.pixel_size_angst, diameter / 2)
    return posed, finish_reconstruction(work, mask, symmetry=symmetry_matrices(kernel.group))
