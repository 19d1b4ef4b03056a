"""Does Gaussian heterogeneity say no when it must? A still molecule with wrong poses, one that moves, and free energies with and without wells."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _gaussian import METHOD, Run, arguments, consensus, heterogeneity, rank_correlation
from _gaussian_data import HINGE, BlobScene, Imaging, ParticleSet, axis_rotation, hinged_blobs, make_set
from _results import record
from numpy.typing import NDArray

Array = NDArray[np.float64]
BOX, PIXEL, SIGMA = 64, 4.0, 5.0
CLASSES = 41
WRONG_DEG, WRONG_ANGST = 2.0, 1.0
_SHOWN = ("moves", "held_out_gain", "held_out_gain_error", "significant_components", "free_energy")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A set: how far the arm turns, its free energy in kT over the angle, from -1 to 1, and what is known of it."""

    reach_deg: float
    energy_kt: Array
    snr: float
    wrong_deg: float = 0.0
    wrong_angst: float = 0.0

    def write(self, folder: Path, number: int, seed: int) -> ParticleSet:
        """Write particles, and the consensus map that is reconstructed at their poses."""
        body, arm = hinged_blobs()
        angles = np.deg2rad(np.linspace(-self.reach_deg, self.reach_deg, CLASSES))
        turned = np.einsum("kij,mj->kmi", axis_rotation(np.array([0.0, 0, 1]), angles), arm - HINGE) + HINGE
        positions = np.concatenate([np.broadcast_to(body, (CLASSES, *body.shape)), turned], axis=1)
        scene = BlobScene(positions, np.ones(positions.shape[:2]), SIGMA, BOX, PIXEL, torch.device("cpu"))
        part = np.exp(-self.energy_kt)
        part[[0, -1]] /= 2  # of the path, the ends stand for half of what the others do
        state = np.random.default_rng(seed).choice(CLASSES, number, p=part / part.sum())
        imaging = Imaging(self.snr, seed=seed, pose_noise_deg=self.wrong_deg, pose_noise_angst=self.wrong_angst)
        made = make_set(folder, scene, state, {"latent": np.rad2deg(angles)[state]}, imaging)
        consensus(made, folder / "consensus")
        return made


GRID = np.linspace(-1, 1, CLASSES)
CASES = {
    "still": Case(reach_deg=0.0, energy_kt=np.zeros(CLASSES), snr=0.05, wrong_deg=WRONG_DEG, wrong_angst=WRONG_ANGST),
    "moving": Case(reach_deg=20.0, energy_kt=np.zeros(CLASSES), snr=0.05, wrong_deg=WRONG_DEG, wrong_angst=WRONG_ANGST),
    "flat": Case(reach_deg=30.0, energy_kt=np.zeros(CLASSES), snr=0.1),
    "two wells": Case(reach_deg=30.0, energy_kt=1 + np.cos(2 * np.pi * GRID), snr=0.1),
}


def found_angles(run: Run) -> Array:
    """Angle (G,) in degrees to which the model's arm is turned at each place of the path."""
    motion = run.motion()
    places = motion.conformation(np.asarray(run.meta["grid"], float)[:, None])[0]
    arm = motion.positions_angst[:, 0] > HINGE[0] + 20
    along = np.einsum("m,gmk->gk", motion.weights[arm] / motion.weights[arm].sum(), places[:, arm]) - HINGE
    return np.asarray(np.rad2deg(np.arctan2(along[:, 1], along[:, 0])))


def within(run: Run, case: Case) -> tuple[float, float]:
    """Part of the places, of those that any particle reaches, whose free energy lies within two standard errors of the truth; and the median error bar."""
    with open(run.folder / "landscape.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    energy, error, population = (np.array([float(row[name]) for row in rows]) for name in ("free_energy_kt", "standard_error_kt", "population"))
    angle = found_angles(run)
    inside = np.abs(angle) <= case.reach_deg
    truth = np.interp(angle, GRID * case.reach_deg, case.energy_kt)
    weight = population * inside / (population * inside).sum()
    away = (energy - weight @ energy) - (truth - weight @ truth)
    return float((np.abs(away) <= 2 * error)[inside].mean()), float(np.median(error[inside]))


def main() -> None:
    options = arguments(__doc__ or "")
    number, seeds = (1000, 10) if options.scale == "laptop" else (10_000, 10)
    for name, case in CASES.items():
        if options.only and name not in options.only:
            continue
        runs = []
        for seed in range(1, seeds + 1):
            folder = options.work / METHOD / f"silence-{name.replace(' ', '-')}-{seed}"
            made = case.write(folder, number, seed)
            run = heterogeneity(made, folder / "found", options.use_gpu, maps=0)
            runs.append(run)
            print(name, seed, json.dumps({key: run.summary[key] for key in _SHOWN}), flush=True)
        condition = f"hinged arm ±{case.reach_deg:g} degrees, {BOX} px of {PIXEL:g} Å, SNR {case.snr:g}, {number} particles, {seeds} seeds"
        if case.wrong_deg:
            condition += f", poses wrong by {WRONG_DEG:g} degrees and {WRONG_ANGST:g} Å rms"
        record_case(name, case, runs, condition, options.scale)


def record_case(name: str, case: Case, runs: list[Run], condition: str, scale: str) -> None:
    count, least = len(runs), round(0.9 * len(runs))
    if name == "still":
        silent = sum(run.summary["moves"] is False and not run.summary["significant_components"] and not (run.folder / "landscape.csv").exists()
                     for run in runs)
        record("silence", "still molecule: nothing reported", condition=condition, target=f">= {least} of {count}", measured=f"{silent} of {count}",
               holds=silent >= least, scale=scale)
    elif name == "moving":
        found = [rank_correlation(run.latents, np.asarray(run.columns["latent"], float)) if run.summary["moves"] else 0.0 for run in runs]
        record("silence", "moving molecule: |Spearman|", condition=condition, target=">= 0.9, least of all",
               measured=f"{min(found):.3f}, median {np.median(found):.3f}", holds=min(found) >= 0.9, scale=scale)
    else:
        parts, bars = zip(*(within(run, case) if run.summary["moves"] else (0.0, np.nan) for run in runs))
        held = sum(part >= 0.9 for part in parts)
        said = sum("not flat" in str(run.summary["free_energy"]) for run in runs)
        record("silence", f"free energy within two standard errors, {name}", condition=condition, target=f">= {least} of {count}",
               measured=f"{held} of {count}, median error bar {np.nanmedian(bars):.2f} kT; said to be not flat: {said}", holds=held >= least, scale=scale)


if __name__ == "__main__":
    main()
