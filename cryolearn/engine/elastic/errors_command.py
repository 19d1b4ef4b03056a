"""Command ``elastic-errors``: amplitudes, poses and shifts against the truth of a simulation, over all images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from ..config import check_config, require
from ..exceptions import InputError
from ..figures import error_histogram, save_figure
from ..imaging.poses import angle_between_deg
from ..io.atomic import write_csv
from ..io.modes import read_modes
from ..io.summary import ErrorsSummary, write_summary
from ..io.tables import join, number_vectors, read_table
from .config import ElasticErrorsConfig


def run(config: ElasticErrorsConfig) -> None:
    """Write and print the table of errors; images join by id, and every image of the alignment counts."""
    check_config(config)
    require(config, "alignment", "truth", "modes")
    found, meta = read_table(config.alignment)
    truth, truth_meta = read_table(config.truth)
    for columns, path in ((found, config.alignment), (truth, config.truth)):
        if path == config.alignment or "amplitudes" in columns:
            columns["amplitudes"] = number_vectors(columns, "amplitudes", path)
    rows = join(found, truth, table=f"the truth '{config.truth}'")
    numbers = [int(number) for number in meta["mode_numbers"]]
    errors = elastic_errors(found, {name: values[rows] for name, values in truth.items()}, numbers,
                            [int(number) for number in truth_meta["mode_numbers"]], len(read_modes(config.modes).coordinates))
    solved = (errors["pose (degrees)"] <= config.solved_deg) & (errors["RMSD (Å)"] <= config.solved_rmsd_angst)
    out = Path(config.output)
    out.mkdir(parents=True, exist_ok=True)
    lines = [(name, *_statistics(values)) for name, values in errors.items()]
    failed = int((~solved).sum())
    write_csv(out / "errors.csv", ["quantity", "mean", "median", "percentile_95", "failures", "images"],
              ([name, *(f"{value:.4f}" for value in values), failed, len(solved)] for name, *values in lines))
    save_figure(error_histogram(errors, title=f"Errors against the truth, {len(solved)} images"), str(out / "figures" / "errors.png"))
    measures: dict[str, float] = {}
    for name, mean, median, high in lines:
        key = name.split(" (")[0].replace(" ", "_").lower()
        measures |= {f"{key}_mean": round(mean, 4), f"{key}_median": round(median, 4), f"{key}_p95": round(high, 4)}
    write_summary(out, ErrorsSummary(images=len(solved), solved_fraction=round(1 - failed / len(solved), 5), failures=failed), measures)
    print(f"{'error against the truth':<28}{'mean':>10}{'median':>10}{'95 %':>10}")
    for name, *values in lines:
        print(f"{name:<28}" + "".join(f"{value:>10.3f}" for value in values))
    print(
        f"failures (pose > {config.solved_deg:g} degrees or RMSD > {config.solved_rmsd_angst:g} Å): "
        f"{failed} of {len(solved)} images ({100 * failed / len(solved):.2f} %)", flush=True,
    )


def elastic_errors(
    found: dict[str, np.ndarray], truth: dict[str, np.ndarray], found_modes: list[int], truth_modes: list[int], atoms: int
) -> dict[str, np.ndarray]:
    """Errors (n,) of each image, rows in the same order in both tables.

    The RMSD counts every mode of either side: an amplitude that was not looked for is zero in the answer.
    """
    if "amplitudes" not in truth:
        raise InputError("The truth has no column 'amplitudes': it was simulated without normal modes.")
    numbers = sorted(set(found_modes) | set(truth_modes))

    def spread(table: dict[str, np.ndarray], present: list[int]) -> np.ndarray:
        whole = np.zeros((len(table["id"]), len(numbers)))
        whole[:, [numbers.index(number) for number in present]] = table["amplitudes"]
        return whole

    difference = spread(found, found_modes) - spread(truth, truth_modes)
    errors = {f"amplitude of mode {number}": np.abs(difference[:, k]) for k, number in enumerate(numbers)}
    errors["amplitude of all modes"] = np.abs(difference).mean(1)
    errors["RMSD (Å)"] = np.linalg.norm(difference, axis=1) / math.sqrt(atoms)
    rotations = (torch.from_numpy(np.asarray(table["rotation"], dtype=np.float64)) for table in (found, truth))
    errors["pose (degrees)"] = angle_between_deg(*rotations).numpy()
    errors["shift (Å)"] = np.linalg.norm(found["shift_angst"] - truth["shift_angst"], axis=1)
    return errors


def _statistics(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.mean()), float(np.median(values)), float(np.percentile(values, 95))
