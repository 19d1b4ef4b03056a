"""Command ``orientation-compare``: one set of orientations aligned to another of the same images, and the errors that remain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import check_config, require
from ..exceptions import InputError
from ..figures import error_histogram, save_figure
from ..imaging.poses import euler_to_matrix, matrix_to_euler
from ..io.atomic import write_csv
from ..io.star import ParticleTable, read_particles, write_particles
from ..io.summary import ComparisonSummary, write_summary
from ..io.tables import write_table
from .config import CompareOrientationsConfig
from .frame_alignment import Alignment
from .pose_errors import OrientationErrors, distance_against_distance, measure_errors, pair_distances, random_error_rad, sphere_plot, statistics
from .similarity_kernel import SimilarityKernel

__all__ = ["run"]

_FEWEST = 3  # any two orientations can be aligned to any other two, nearly


def run(config: CompareOrientationsConfig) -> None:
    """Join the sets by image name, align, write table, particles, summary and figures.

    Particles that the reference does not have are aligned like the rest; their errors are NaN.
    """
    check_config(config)
    require(config, "reference", "particles")
    kernel = SimilarityKernel(config.symmetry)
    # truth and answer may come without their images
    reference, particles = (_with_poses(path, config.datadir) for path in (config.reference, config.particles))
    known, judged = shared_rows(reference, particles, config.reference, config.particles)
    truth, found = rotations_of(reference)[known], rotations_of(particles)
    errors = measure_errors(truth, found[judged], kernel)
    chosen = errors.of(config.alignment)
    aligned = chosen.apply(found).numpy()
    out = Path(config.output)
    out.mkdir(parents=True, exist_ok=True)
    _write_tables(out, config, particles=particles, aligned=aligned, truth=truth, judged=judged, errors=errors)
    _draw(out, config, kernel, truth, found[judged], errors)
    guess = random_error_rad(kernel)
    _write_summary(out, config, len(truth), errors, guess, (len(reference), len(particles)))
    mean = float(chosen.errors_rad.mean())
    if mean > 0.8 * guess:
        print(f"The two sets agree no better than chance (mean error {mean:.3f} rad, chance {guess:.3f} rad).", flush=True)


def _with_poses(path: str, datadir: str) -> ParticleTable:
    table = read_particles(path, check_images=False, datadir=datadir)
    if table.angles_deg is None:
        raise InputError(f"The particles '{path}' have no orientations (rlnAngleRot, rlnAngleTilt, rlnAnglePsi).")
    return table


def rotations_of(table: ParticleTable) -> NDArray[np.float64]:
    """Poses (n, 3, 3) of aligned particles."""
    return euler_to_matrix(torch.from_numpy(np.asarray(table.angles_deg, np.float64))).numpy()


def shared_rows(reference: ParticleTable, particles: ParticleTable, first: str, second: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of both tables that show the same images, by image name, in the order of ``particles``.

    Raises
    ------
    InputError
        when fewer than three images are shared, or an image is in a set twice.
    """
    places = []
    for table, path in ((reference, first), (particles, second)):
        rows: dict[tuple[str, int], int] = {}
        files = [str(Path(name).resolve()) for name in table.image_file]  # links to one stack are one stack
        for row, image in enumerate(zip((files[number] for number in table.file_index), table.image_index.tolist())):
            if rows.setdefault(image, row) != row:
                raise InputError(f"The image {table.image_name(row)} is in '{path}' more than once.")
        places.append(rows)
    both = [(places[0][image], row) for image, row in places[1].items() if image in places[0]]
    if len(both) < _FEWEST:
        raise InputError(
            f"The particles '{second}' and the reference '{first}' share {len(both)} images, but {_FEWEST} at least are needed: "
            "give orientations of the same images (joined by the image's name)."
        )
    known, judged = np.array(both, np.int64).T
    return known, judged


def _write_tables(
    out: Path, config: CompareOrientationsConfig, particles: ParticleTable, aligned: NDArray[np.float64], truth: NDArray[np.float64],
    judged: NDArray[np.int64], errors: OrientationErrors,
) -> None:
    count = len(particles)
    origin = np.zeros((count, 2)) if particles.origin_angst is None else np.asarray(particles.origin_angst, np.float64)
    columns: dict[str, Any] = {"id": particles.ids, "rotation": aligned, "shift_angst": -origin}
    spread = {"error_rad": errors.of(config.alignment).errors_rad, "physical_rad": errors.physical.errors_rad, "o4_rad": errors.o4.errors_rad}
    spread["reference"] = truth
    for name, values in spread.items():
        columns[name] = np.full((count, *values.shape[1:]), np.nan)
        columns[name][judged] = values
    write_table(str(out / "errors.npz"), columns, {"symmetry": config.symmetry, "alignment": config.alignment})
    angles = matrix_to_euler(torch.from_numpy(aligned)).numpy()
    write_particles(str(out / "aligned.star"), particles.with_poses(angles, origin))


def _draw(
    out: Path, config: CompareOrientationsConfig, kernel: SimilarityKernel, truth: NDArray[np.float64], found: NDArray[np.float64], errors: OrientationErrors
) -> None:
    degrees = {f"{_label(kind)} error": np.degrees(errors.of(kind).errors_rad) for kind in _kinds(config)}
    save_figure(error_histogram(degrees, "degrees", f"Errors of {len(truth)} orientations"), str(out / "figures" / "errors.png"))
    shown = errors.of(config.alignment).errors_rad
    save_figure(sphere_plot(truth, shown, f"Mean {_label(config.alignment)} error over the viewing directions"), str(out / "figures" / "sphere.png"))
    pair = pair_distances(truth, found, kernel, seed=0)
    save_figure(distance_against_distance(*pair, "distance in the reference", "distance in the other set"), str(out / "figures" / "distances.png"))


def _write_summary(
    out: Path, config: CompareOrientationsConfig, count: int, errors: OrientationErrors, guess: float, sizes: tuple[int, int]
) -> None:
    rows = []
    measures: dict[str, Any] = {}
    for kind in _kinds(config):
        values = statistics(errors.of(kind).errors_rad)
        rows.append([_label(kind), *(f"{value:.6f}" for value in values.values())])
        measures |= {f"{kind}_{name}": round(value, 6) for name, value in values.items()}
        print(f"{_label(kind)} error of {count} orientations: mean {values['mean_rad']:.4f} rad ({np.degrees(values['mean_rad']):.2f} degrees), "
              f"median {values['median_rad']:.4f}, 95th percentile {values['p95_rad']:.4f} rad", flush=True)
    write_csv(out / "errors.csv", ["kind", "mean_rad", "median_rad", "p95_rad"], rows)
    for kind in _kinds(config):
        measures[f"{kind}_alignment"] = _describe(errors.of(kind))
    write_summary(out, ComparisonSummary(
        particles=count, particles_reference=sizes[0], particles_judged=sizes[1], alignment=config.alignment, symmetry=config.symmetry,
        random_error_rad=round(guess, 4),
    ), measures)


def _kinds(config: CompareOrientationsConfig) -> list[str]:
    """The alignment asked for first."""
    return sorted(("physical", "o4"), key=lambda kind: kind != config.alignment)


def _label(kind: str) -> str:
    return "O(4)" if kind == "o4" else kind


def _describe(alignment: Alignment) -> dict[str, Any]:
    return {"left": alignment.left.tolist(), "right": alignment.right.tolist(), "transposed": alignment.transposed, "mirrored": alignment.mirrored}
