"""What a run with subunits leaves: tables by subunit and by particle, and the correlation between subunits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...figures import save_figure
from ...io.atomic import copy_file, write_csv
from ...io.star import ParticleTable
from ...io.tables import read_table, write_table
from ..conformation_estimates import Found
from ..report.result_files import write_particles_star
from ..summary import SummaryNotes
from .subunit_correlation import (
    SubunitCorrelation,
    SubunitInformation,
    draw_subunit_correlation,
    information_of_errors,
    ring_distance,
    subunit_correlation,
)

__all__ = ["write_subunits"]

_LEAST_PARTICLES = 10


def write_subunits(output: Path, table: ParticleTable, found: Found, matrices: Tensor, centre_angst: NDArray[np.float64],
                   information: SubunitInformation | None) -> SummaryNotes:
    """Turn the tables of a run on expanded images into tables by particle; returns what the summary says of them.

    ``expanded.npz`` and ``expanded.star`` keep a row for each subunit, with the columns ``particle`` (its id) and ``subunit`` (from 1);
    ``conformations.npz`` and ``particles.star`` get a row a particle, with a latent a subunit. ``subunits.csv`` and ``figures/subunits.png`` show the
    correlation between subunits by distance; ``information`` is what the images say of all subunits at once, and without it the places' error bars are taken.
    """
    copies, count = len(matrices), len(table)
    columns, meta = read_table(str(output / "conformations.npz"))
    subunit = np.tile(np.arange(1, copies + 1), count)
    write_table(str(output / "expanded.npz"), {**columns, "particle": np.repeat(table.ids, copies), "subunit": subunit}, meta)
    copy_file(output / "particles.star", output / "expanded.star")

    def by_particle(values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(count, copies, *values.shape[1:])

    names = [f"{name}, subunit {number}" for number in range(1, copies + 1) for name in meta["latent_names"]]
    latents, errors = (by_particle(columns[name]).reshape(count, -1) for name in ("amplitudes", "amplitude_sigma"))
    weight = by_particle(columns["weight"]).mean(1)
    whole = {
        "id": table.ids, "amplitudes": latents, "amplitude_sigma": errors, "weight": weight, "gain": by_particle(columns["gain"]).sum(1),
        "log_likelihood": by_particle(columns["log_likelihood"]).mean(1), "state_weight": by_particle(columns["state_weight"]).mean(1),
        "rotation": by_particle(columns["rotation"])[:, 0], "shift_angst": by_particle(columns["shift_angst"])[:, 0],
        "half": by_particle(columns["half"])[:, 0], "flags": np.bitwise_and.reduce(by_particle(columns["flags"]), axis=1),
    }
    write_table(str(output / "conformations.npz"), whole, {**meta, "latent_names": names, "subunits": copies})
    write_particles_star(str(output), table, latents, errors, weight)
    first = by_particle(columns["amplitudes"])[..., 0], by_particle(columns["amplitude_sigma"])[..., 0]
    notes: SummaryNotes = {"particles": count, "subunits": copies}
    if found.motion.basis in ("polynomial", "linear") and count >= _LEAST_PARTICLES:
        known = information_of_errors(*first) if information is None else information
        measured = subunit_correlation(known, first[0], ring_distance(matrices, centre_angst))
        _write_correlation(output, measured)
        notes |= {
            "neighbour_correlation": float(measured.correlation[0]), "neighbour_correlation_error": float(measured.error[0]),
            "neighbour_correlation_raw": float(measured.raw[0]), "neighbour_correlation_null": float(measured.null[0]),
            "subunit_reliability": measured.reliability}
        print(f"Neighbouring subunits correlate by {measured.correlation[0]:.3f} ± {measured.error[0]:.3f} (unrelated ones: below {measured.null[0]:.3f})",
              flush=True)
    return notes


def _write_correlation(output: Path, found: SubunitCorrelation) -> None:
    rows = zip(found.distance_angst, found.pairs, found.correlation, found.error, found.raw, found.null, strict=True)
    write_csv(output / "subunits.csv", ["distance_angst", "pairs", "correlation", "standard_error", "uncorrected", "null_95_percent"],
              ([f"{value:.6g}" for value in row] for row in rows))
    save_figure(draw_subunit_correlation(found), str(output / "figures" / "subunits.png"))
