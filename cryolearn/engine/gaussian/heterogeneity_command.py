"""The command ``gaussian-heterogeneity``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...common.flags import ConformationFlag, flag_counts
from ..config import check_config, digest_config, require
from ..device import select_device
from ..exceptions import InputError
from ..figures import save_figure
from ..imaging.first_images import warn
from ..imaging.poses import matrix_to_euler
from ..imaging.symmetry import symmetry_matrices
from ..imaging.unusable_images import unusable_sentences
from ..io.atomic import copy_file, write_csv
from ..io.motions import write_motion
from ..io.records import RunRecord
from ..io.tables import write_table
from ..io.tilt_stacks import particle_poses
from ..landscape.summary import write_summary
from .config import GaussianHeterogeneityConfig
from .conformation_estimates import Found
from .conformation_methods import Problem, eigen_motions_of, find_conformations, motions_in_angst, refine_problem_poses
from .input_validation import Inputs, make_gaussians, read_inputs, select_gaussians
from .linear.eigen_motions import EigenMotions
from .model.fourier_particles import band_between, crop_images
from .model.gain_and_noise import calibrate
from .model.projection import Gaussians
from .poses.pose_alternation import RefinedPoses, pose_notes, write_poses
from .report import figures as report
from .report.result_files import write_gaussian_files, write_particles_star
from .subunits.subunit_correlation import subunit_information
from .subunits.subunit_particles import expand, expand_table
from .subunits.subunit_tables import write_subunits
from .summary import HeterogeneitySummary
from .trajectory.trajectory_em import CurveFit
from .trajectory.trajectory_maps import path_weights, window_weights, write_path_maps
from .verdict import Verdict, judge, path_free_energy

__all__ = ["run"]

_HIDDEN_ERROR = {"polynomial": 0.5, "periodic": 0.5, "states": 0.5, "linear": 0.9, "network": 0.9}
_UNLIKELY = -3.0  # standard deviations
_FRAMES = 11


def run(config: GaussianHeterogeneityConfig) -> None:
    """Run the command; a run that was killed goes on from its last record.

    Raises
    ------
    InputError
        when the input cannot be used.
    """
    check_config(config)
    require(config, "particles", "volume")
    device = select_device(config)
    inputs = read_inputs(config, device)
    digest = digest_config(config, inputs.table.files())
    output = Path(config.output)
    record = RunRecord(output, "heterogeneity", digest)
    table, pixel = inputs.table, inputs.table.pixel_size_angst
    meta: dict[str, Any] = {
        "box": table.box, "pixel_size_angst": pixel, "origin_angst": list(inputs.source.origin_angst), "method": config.method, "vary": config.vary,
        "digest": digest,
    }
    matrices = symmetry_matrices(config.symmetry)
    copies = len(matrices)
    if copies > 1 and not config.focus and not config.focus_gaussians:
        raise InputError(f"With the symmetry {config.symmetry} give a focus: a mask around one subunit, whose conformation is then found for each of them.")
    refined: RefinedPoses | None = None
    before: tuple[CurveFit, Gaussians] | None = None
    problem: Problem | None = None
    found: Found | None = None
    eigen: EigenMotions | None = None
    for number, resolution in enumerate(inputs.resolutions_angst):
        last = number == len(inputs.resolutions_angst) - 1
        print(f"Round {number + 1} of {len(inputs.resolutions_angst)}: {resolution:.3g} Å", flush=True)
        model = make_gaussians(config, inputs, resolution, last, device)
        moves = select_gaussians(config, inputs, model)
        band = band_between(table.box, pixel, resolution, config.coarse_angst, device)
        images = crop_images(
            table, band, record.file(f"coefficients_{number}.npy"), device, radius_angst=inputs.radius_angst, conventions=inputs.conventions,
            batch=config.batch)
        given = images.rotation, images.shift_angst
        if refined is not None:
            images = replace(images, rotation=refined.images.rotation, shift_angst=refined.images.shift_angst)
        images = calibrate(images, model)
        problem = Problem(
            config=config, images=images, model=model, moves=moves, meta={**meta, "resolution_angst": resolution},
            record=record.part(f"round_{number}"), before=before)
        if config.refine_poses:
            refined = refine_problem_poses(problem, inputs.half, given)
            problem = replace(problem, images=refined.images)
        if copies > 1:
            problem = replace(problem, images=expand(problem.images, matrices))
        eigen = eigen_motions_of(problem)
        found, fit = find_conformations(problem, eigen, copies)
        before = None if fit is None else (fit, model)
    assert problem is not None and found is not None and eigen is not None
    working, notes = inputs, found.notes
    if refined is not None:
        notes = notes | pose_notes(refined)
        angles = matrix_to_euler(refined.images.rotation.double().cpu()).numpy()
        working = replace(inputs, table=table.with_poses(angles, -refined.images.shift_angst.double().cpu().numpy()))
    by_particle = working.table
    if copies > 1:
        working = replace(working, table=expand_table(by_particle, problem.images.rotation, copies), half=np.repeat(inputs.half, copies))
    particle = np.arange(len(working.half)) // copies if problem.images.particle is None else problem.images.particle
    verdict, found = judge(problem, replace(found, notes=notes), working.half, particle)
    summary = _write(working, problem, found, eigen, verdict)
    if refined is not None:
        write_poses(output, table.ids, refined)
    if copies > 1:
        places = problem.model.positions_angst[problem.moves].double().mean(0).cpu().numpy()
        information = None
        # places around a circle, or in states, have no such correlation
        if before is not None and verdict.moves is not False and found.motion.basis == "polynomial":
            information = subunit_information(problem.images, before[0], copies)
        summary |= write_subunits(output, by_particle, found, matrices, places, information)
    write_summary(output, summary, warnings=table.warnings)
    record.remove()


def _write(inputs: Inputs, problem: Problem, of_images: Found, eigen: EigenMotions, verdict: Verdict) -> HeterogeneitySummary:
    """Write all files but the summary, which is returned."""
    config, table, basis = problem.config, inputs.table, of_images.motion.basis
    ids, member = table.particles()
    first = np.unique(member, return_index=True)[1]  # image of each particle
    found = of_images.of_particles(first)
    output = Path(config.output)
    vectors, deviations = motions_in_angst(problem, eigen)
    write_motion(str(output / "motion.npz"), found.motion)
    frames = found.grid if len(found.grid) else np.linspace(-2, 2, _FRAMES)[:, None] * np.eye(found.latents.shape[1])[0]
    places = found.motion.conformation(frames)[0]
    excursion = _excursion(places, basis)
    moves = problem.moves.cpu().numpy()
    significant = eigen.significant & (verdict.moves is not False)  # wrong poses make eigen-motions too
    write_gaussian_files(
        str(output), found.motion, eigen.flexibility.cpu().numpy(), excursion, moves, vectors=vectors.cpu().numpy(), std_angst=deviations,
        significant=significant)
    explained, null = eigen.explained.cpu().numpy(), eigen.null.cpu().numpy()
    write_table(
        str(output / "eigen_motions.npz"),
        {"id": np.arange(1, len(vectors) + 1), "vector": vectors.double().cpu().numpy(), "std_angst": deviations, "explained": explained, "null": null,
         "significant": significant}, {**problem.meta, "kind": problem.kind})
    unusable = np.bincount(member, ~problem.images.unusable) == 0  # particles
    warn(table, unusable_sentences(ids, unusable))
    flags = _flags(found, unusable)
    names = [f"latent {number + 1}" for number in range(found.latents.shape[1])]
    rotation, shift = (values.double().cpu().numpy() for values in (problem.images.rotation, problem.images.shift_angst))
    poses = (rotation, shift) if table.tilts is None else particle_poses(table.tilts, member, rotation, shift)
    columns: dict[str, NDArray[Any]] = {
        "id": ids, "amplitudes": found.latents, "amplitude_sigma": found.errors, "weight": found.weight, "gain": found.gain,
        "log_likelihood": found.log_likelihood, "state_weight": found.state_weight, "rotation": poses[0], "shift_angst": poses[1],
        "half": inputs.half[first], "flags": flags, "eigen_projection": eigen.projection[first],
    }
    halves = None if verdict.held_out is None or not len(found.grid) else verdict.held_out.latents[first]
    if halves is not None:
        columns["half_latents"] = halves
    write_table(str(output / "conformations.npz"), columns, {
        **problem.meta, "basis": basis, "grid": found.grid[:, 0].tolist() if len(found.grid) else [], "latent_names": names, "symmetry": config.symmetry,
        "explained": explained.tolist(),
    })
    figures = output / "figures"
    free_energy = ""
    if len(found.grid):
        energy, way, free_energy = path_free_energy(found, of_images, verdict.held_out)
        profile = energy.population, energy.energy_kt, energy.error_kt
        write_csv(output / "landscape.csv", ["place", "rmsd_angst", "population", "free_energy_kt", "standard_error_kt"],
                  ([f"{value:.6g}" for value in row] for row in zip(found.grid[:, 0], way, *profile)))
        save_figure(report.draw_free_energy(found.grid[:, 0], *profile, separate=basis == "states"), str(figures / "free_energy.png"))
        save_figure(report.draw_trajectory(places, found.grid[:, 0]), str(figures / "trajectory.png"))
    save_figure(report.draw_explained_variance(explained, null, significant), str(figures / "explained_variance.png"))
    reference = found.motion.positions_angst
    save_figure(report.draw_flexibility(reference, eigen.flexibility.cpu().numpy(), moves=moves), str(figures / "flexibility.png"))
    for number in range(min(2, len(vectors))):
        drawn = report.draw_eigen_motion(
            reference, vectors[number].cpu().numpy(), deviations[number], number + 1, explained[number])
        save_figure(drawn, str(figures / f"eigen_motion_{number + 1}.png"))
    weight = found.weight if np.ptp(found.weight) > 0.01 else None
    save_figure(report.draw_landscape(found.latents, found.errors, names, weight), str(figures / "landscape.png"))
    if halves is not None:
        save_figure(report.draw_half_agreement(halves[:, 0], halves[:, 1]), str(figures / "half_sets.png"))
    classes = np.ones(len(table), np.int64)
    if config.maps and (verdict.moves is not False or config.report_still):
        classes = _write_maps(inputs, problem, of_images, rotation, shift)
    write_particles_star(str(output), table, of_images.latents, of_images.errors, of_images.weight, classes)
    counts = flag_counts(flags, ConformationFlag)
    summary: HeterogeneitySummary = {
        "moves": verdict.moves, "verdict": verdict.sentence, "free_energy": free_energy,
        "particles": len(ids), "gaussians": len(problem.model), "moving_gaussians": int(problem.moves.sum()),
        "resolution_angst": inputs.resolutions_angst[-1], "method": config.method, "vary": config.vary, "latents": found.latents.shape[1],
        "components": len(eigen.explained), "significant_components": int(significant.sum()),
        "explained_by_first": float(eigen.explained[0]), "null_of_first": float(eigen.null[0]),
        "std_angst_of_first": float(deviations[0]), "largest_excursion_angst": float(excursion.max()),
        "median_error": float(np.median(found.errors[:, 0])), "mean_gain": float(np.mean(found.gain)),
        "mean_frc": float(np.mean(eigen.scores)) if problem.score == "frc" else None,
        "flagged_hidden": counts["hidden"], "flagged_at_end": counts["at_end"], "flagged_unlikely": counts["unlikely"],
        "pixel_size_angst": table.pixel_size_angst, "box": table.box, "digest": problem.meta["digest"], **found.notes,
    }
    agree = found.notes.get("half_set_agreement")
    print(
        f"{len(ids)} particles, {len(problem.model)} Gaussians: {summary['significant_components']} eigen-motion(s) beyond noise, "
        f"log-likelihood gain {summary['mean_gain']:.3g} a particle over a still model"
        + (f", half sets agree to {agree:.3f}" if agree is not None else ""), flush=True)
    print(" ".join(filter(None, (verdict.sentence, free_energy))), flush=True)
    return summary


def _excursion(places: NDArray[np.float64], basis: str) -> NDArray[np.float64]:
    """(M,) length in Å of each Gaussian's way; of separate states the largest distance from the mean."""
    if basis == "states":
        return np.asarray(np.linalg.norm(places - places.mean(0), axis=2).max(0))
    way = np.concatenate([places, places[:1]]) if basis == "periodic" else places
    return np.asarray(np.linalg.norm(np.diff(way, axis=0), axis=2).sum(0))


def _flags(found: Found, unusable: NDArray[np.bool_]) -> NDArray[np.int32]:
    hidden = (found.errors > _HIDDEN_ERROR[found.motion.basis]).all(1)
    unlikely = (found.surprise < _UNLIKELY) | (found.weight < 0.5)
    return (ConformationFlag.HIDDEN * hidden + ConformationFlag.AT_END * found.at_end + ConformationFlag.UNLIKELY * unlikely
            + ConformationFlag.UNUSABLE_IMAGE * unusable).astype(np.int32)


def _write_maps(inputs: Inputs, problem: Problem, found: Found, rotation: NDArray[np.float64], shift: NDArray[np.float64]) -> NDArray[np.int64]:
    """Reconstruct maps along the path; returns the map (from 1) that each particle weighs most in."""
    config, basis = problem.config, found.motion.basis
    if len(found.grid):
        path = path_weights(found.state_weight, found.grid[:, 0], config.maps, basis == "periodic", basis == "states")
    else:
        path = window_weights(found.latents, found.weight, config.maps)
    table = inputs.table.with_poses(matrix_to_euler(torch.from_numpy(rotation)).numpy(), -shift)
    folder = Path(config.output) / "maps"
    write_path_maps(
        str(folder), table, path, half=inputs.half, conventions=inputs.conventions, batch=config.batch, device=problem.images.device, mask=inputs.mask)
    for name in ("fsc.png", "slices.png"):
        drawn = folder / "figures" / name
        if drawn.exists():
            copy_file(drawn, Path(config.output) / "figures" / ("maps.png" if name == "slices.png" else name))
    return np.where(path.weights.sum(1) > 0, path.weights.argmax(1) + 1, 0)
