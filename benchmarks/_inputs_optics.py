"""Optics rows of the benchmark ``inputs``: aberrations against relion_reconstruct, premultiplied images and several optics groups against plain ones."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import prody
import torch
from _elastic import judge
from _foreign_particles import density, write_map
from _gaussian import consensus, rank_correlation
from _gaussian_data import Imaging, slides_set
from _results import Row
from _run import engine

from cryolearn.engine.imaging.ctf import Ctf, ctf_2d
from cryolearn.engine.imaging.fourier import frequency_grid
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.standard_images import odd_phase
from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.stacks import ImageStack, write_stack
from cryolearn.engine.io.star import read_particles
from cryolearn.engine.io.star_text import read_star, write_star
from cryolearn.engine.io.tables import join, read_table

BOX, PIXEL, IMAGES = 80, 1.5, 300
TILT = (0.8, -0.5)  # mrad
CASES: dict[str, dict[str, object]] = {
    "plain": {},
    "beam tilt .8 mrad": {"rlnBeamTiltX": TILT[0], "rlnBeamTiltY": TILT[1]},
    "EvenZernike": {"rlnEvenZernike": "[0.5,-8,6,0,60,0,90,0,60]"},
    "OddZernike": {"rlnOddZernike": "[0,0,30,-10,20,-40]"},
    "magnification 1.5 %": {"rlnMagMat00": 1.015, "rlnMagMat01": 0.0, "rlnMagMat10": 0.0, "rlnMagMat11": 0.985},
}


def _said(star: Path, path: Path, columns: dict[str, object], stack: str = "") -> Path:
    """A copy of a STAR file with more columns in its optics, and another stack."""
    blocks = read_star(str(star))
    count = len(blocks["optics"]["rlnOpticsGroup"])
    blocks["optics"].update({label: np.array([value] * count, dtype=object if isinstance(value, str) else None) for label, value in columns.items()})
    if stack:
        blocks["particles"]["rlnImageName"] = np.array([f"{i + 1:06d}@{stack}" for i in range(len(blocks["particles"]["rlnImageName"]))], dtype=object)
    write_star(str(path), blocks)
    return path


def _relion(program: str, where: Path, *words: str) -> None:
    subprocess.run([program, *words], cwd=where, check=True, stdout=subprocess.DEVNULL)


def aberrations(work: Path) -> Iterator[Row]:
    """Mean FSC with the density of our map and of RELION's, from images of relion_project with noise; odd phases are added to them."""
    work.mkdir(parents=True, exist_ok=True)
    structure = Path(prody.__file__).parent / "tests" / "datafiles" / "4akeA_alg_fixed.pdb"
    atoms = prody.parsePDB(str(structure)).select("not hydrogen and not water")
    map_path = work / "truth.mrc"
    write_map(map_path, density(atoms.getCoords() - atoms.getCoords().mean(0), [name.capitalize() for name in atoms.getElements()], 30.0, BOX, PIXEL), PIXEL)
    truth, mask = torch.from_numpy(read_map(str(map_path)).data.copy()), sphere_mask(BOX, 0.4 * BOX, 4)
    engine("simulate-particles", work / "poses", structure=structure, number=IMAGES, box=BOX, pixel_size_angst=PIXEL, snr=1, astigmatism_angst=1000,
           defocus_min_angst=8000, defocus_max_angst=20000, shift_angst=6)

    def mean(path: Path) -> float:
        return float(fsc(torch.from_numpy(read_map(str(path)).data.copy()), truth, mask)[1:].mean())

    for name, columns in CASES.items():
        star = _said(work / "poses" / "particles.star", work / "case.star", columns, "case.mrcs")
        shutil.copy(work / "poses" / "particles.mrcs", work / "case.mrcs")
        _relion("relion_project", work, "--i", "truth.mrc", "--o", "made", "--ang", "case.star", "--ctf")
        images = torch.from_numpy(ImageStack(read_particles(str(work / "made.star"))).read(np.arange(IMAGES)))
        odd = torch.tensor([float(word) for word in str(columns.get("rlnOddZernike", "[0]")).strip("[]").split(",")])
        tilt = torch.tensor(TILT if "rlnBeamTiltX" in columns else (0.0, 0.0))
        ky, kx = (axis / PIXEL for axis in frequency_grid(BOX))
        images = torch.fft.irfft2(torch.fft.rfft2(images) * torch.exp(1j * odd_phase(odd, tilt, 300.0, 2.7, (kx, ky))), s=(BOX, BOX))
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(3))
        write_stack(str(work / "case.mrcs"), (images + noise * (images.var((1, 2), keepdim=True) / 2).sqrt()).numpy(), PIXEL)
        engine("reconstruct", work / "ours", particles=star)
        _relion("relion_reconstruct", work, "--i", "case.star", "--o", "relion.mrc", "--ctf")
        ours, theirs = mean(work / "ours" / "map.mrc"), mean(work / "relion.mrc")
        yield Row("reconstruct, mean FSC at 3 Å", name, "at least RELION's less .02", f"{ours:.3f}, RELION {theirs:.3f}", ours > theirs - 0.02)


def _variants(star: Path) -> dict[str, Path]:
    """The same images plain, times their CTF, and half of each as two optics groups."""
    table = read_particles(str(star))
    every = np.arange(len(table))
    images = torch.from_numpy(ImageStack(table).read(every))
    ctf = ctf_2d(Ctf.from_table(table.ctf), table.box, table.pixel_size_angst)
    taken = torch.fft.irfft2(torch.fft.rfft2(images) * ctf, s=images.shape[-2:])
    folder = star.parent
    write_stack(str(folder / "taken.mrcs"), taken.numpy(), table.pixel_size_angst)
    multiplied = _said(star, folder / "premultiplied.star", {"rlnCtfDataAreCtfPremultiplied": 1}, "taken.mrcs")
    blocks, other = read_star(str(star)), read_star(str(multiplied))
    names = blocks["particles"]["rlnImageName"]
    names[1::2] = other["particles"]["rlnImageName"][1::2]
    blocks["particles"]["rlnOpticsGroup"] = every % 2 + 1
    blocks["optics"] = {label: np.repeat(values, 2) for label, values in blocks["optics"].items()}
    blocks["optics"].update(rlnOpticsGroup=np.array([1, 2]), rlnCtfDataAreCtfPremultiplied=np.array([0, 1]))
    write_star(str(folder / "groups.star"), blocks)
    return {"plain": star, "premultiplied": multiplied, "two optics groups": folder / "groups.star"}


def elastic(work: Path, number: int = 48) -> Iterator[Row]:
    """Failures of elastic alignment; the bound is a binomial one of two standard deviations."""
    structure = Path(prody.__file__).parent / "tests" / "datafiles" / "4akeA_alg_fixed.pdb"
    engine("normal-modes", work / "modes", structure=structure, number=12)
    modes = work / "modes" / "modes.npz"
    engine("simulate-particles", work / "set", modes=modes, number=number, box=64, pixel_size_angst=3, snr=0.3, shift_angst=6, astigmatism_angst=1000,
           defocus_min_angst=8000, defocus_max_angst=20000)
    failures: dict[str, int] = {}
    for name, star in _variants(work / "set" / "particles.star").items():
        output = work / name.replace(" ", "-")
        engine("elastic-align", output, particles=star, modes=modes)
        failures[name] = int(judge(work, output.name, output / "alignment.npz", work / "set" / "truth.npz", modes)["failures"])
        if name != "plain":
            most = failures["plain"] + 2 * max(failures["plain"], 1) ** 0.5
            yield Row("elastic alignment, failures", name, "as plain within 2 sigma", f"{failures[name]} of {number}, plain {failures['plain']}",
                              failures[name] <= most)


def gaussian(work: Path, number: int = 500) -> Iterator[Row]:
    """Rank correlation of the latents with the truth, an arm that turns; the bound is two standard errors of a rank correlation of independent sets."""
    made = slides_set(work / "set", 30.0, Imaging(snr=0.1), number, torch.device("cpu"))
    consensus(made, work / "consensus")
    found: dict[str, float] = {}
    for name, star in _variants(made.particles).items():
        output = work / name.replace(" ", "-")
        engine("gaussian-heterogeneity", output, particles=star, volume=made.consensus, method="linear")
        columns, _ = read_table(str(output / "conformations.npz"))
        found[name] = rank_correlation(columns["amplitudes"], made.columns["latent"][join(columns["id"], made.columns["id"])])
        if name != "plain":
            least = np.tanh(np.arctanh(found["plain"]) - 2 * (2 / (number - 3)) ** 0.5)
            yield Row("Gaussian heterogeneity, rank correlation with the truth", name, "as plain within 2 sigma",
                              f"{found[name]:.3f}, plain {found['plain']:.3f}", found[name] > least)
