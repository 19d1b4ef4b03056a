"""RELION as the referee of conventions: projections, reconstruction, FSC, point groups.

Thresholds: correlation of projections at least .998; FSC curves within .02 of each other to Nyquist / 1.2.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.imaging.config import ReconstructConfig
from cryolearn.engine.imaging.ctf import Ctf, apply_ctf
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import euler_to_matrix
from cryolearn.engine.imaging.reconstruct_command import run
from cryolearn.engine.imaging.slices import VolumeProjector
from cryolearn.engine.imaging.symmetry import symmetry_matrices
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.stacks import ImageStack
from cryolearn.engine.io.star import read_particles
from cryolearn.engine.io.star_text import read_star

from .imaging_cases import GaussianModel, correlation, gaussian_model, particle_set

BOX, PIXEL = 64, 3.0
pytestmark = pytest.mark.relion


def _relion(program: str, folder: Path, *arguments: str) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install relion)")
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def _model() -> GaussianModel:
    return gaussian_model(45, 4.5, count=150)


def _map(path: Path) -> torch.Tensor:
    return torch.from_numpy(read_map(str(path)).data.copy())


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relion")
    particle_set(str(folder), 600, BOX, PIXEL, _model(), snr=1.0)
    return folder


@pytest.mark.parametrize("ctf", [False, True])
def test_projection_against_relion_project(particles: Path, tmp_path: Path, ctf: bool) -> None:
    """Random poses, shifts and astigmatic CTFs: the slice projector and the separable Gaussians against relion_project."""
    flags = ["--ctf"] if ctf else []
    star, true = str(particles / "particles.star"), str(particles / "true.mrc")
    # relion_project looks the images up from where it is run
    _relion("relion_project", particles, "--i", true, "--ang", star, "--o", str(tmp_path / "proj"), "--angpix", str(PIXEL), *flags)
    table = read_particles(str(particles / "particles.star"))
    theirs = ImageStack(read_particles(str(tmp_path / "proj.star"))).read(np.arange(len(table)))
    theirs = torch.from_numpy(theirs)
    assert table.angles_deg is not None and table.origin_angst is not None
    rotations = euler_to_matrix(torch.from_numpy(table.angles_deg)).float()
    shift = -torch.from_numpy(table.origin_angst).float()
    parameters = Ctf.from_table(table.ctf) if ctf else None
    sliced = VolumeProjector(_map(particles / "true.mrc")).project_real(rotations, shift / PIXEL, parameters, PIXEL)
    separable = _model().images(rotations, shift, BOX, PIXEL)
    if parameters is not None:
        separable = apply_ctf(separable, parameters, PIXEL)
    for ours in (sliced, separable):
        assert float(correlation(ours, theirs).min()) >= 0.998
        scale = (ours * theirs).sum((1, 2)) / (ours * ours).sum((1, 2))
        assert float((scale - 1).abs().max()) < 0.05


def test_reconstruction_against_relion_reconstruct(particles: Path, tmp_path: Path) -> None:
    """RELION reads our STAR; its map and ours have the same FSC with the true map, and agree with each other."""
    _relion("relion_reconstruct", particles, "--i", "particles.star", "--o", str(tmp_path / "relion.mrc"), "--ctf", "--angpix", str(PIXEL))
    run(ReconstructConfig(particles=str(particles / "particles.star"), output=str(tmp_path), threads=1, wiener="constant"))
    truth, theirs, ours = _map(particles / "true.mrc"), _map(tmp_path / "relion.mrc"), _map(tmp_path / "map.mrc")
    mask = sphere_mask(BOX, 0.4 * BOX, 4)
    last = int(BOX / 2 / 1.2) + 1
    first, second = fsc(ours, truth, mask)[1:last], fsc(theirs, truth, mask)[1:last]
    assert float((first - second).abs().max()) <= 0.02
    assert float(fsc(ours, theirs, mask)[1:last].min()) > 0.95
    assert float((ours * theirs * mask).sum() / (theirs * theirs * mask).sum()) == pytest.approx(1, abs=0.1)


def test_fsc_against_relion_postprocess(particles: Path, tmp_path: Path) -> None:
    """Unmasked FSC column of relion_postprocess against ours, both from the same half maps."""
    run(ReconstructConfig(particles=str(particles / "particles.star"), output=str(tmp_path), threads=1, padding=1.0))
    for half in (1, 2):
        shutil.copy(tmp_path / f"map_half{half}.mrc", tmp_path / f"run_half{half}_class001_unfil.mrc")
    write_map(str(tmp_path / "mask.mrc"), sphere_mask(BOX, 0.4 * BOX, 4).numpy(), PIXEL)
    (tmp_path / "post").mkdir()  # where it wants to put a PDF
    _relion(
        "relion_postprocess", tmp_path, "--i", "run_half1_class001_unfil.mrc", "--i2", "run_half2_class001_unfil.mrc",
        "--o", "post/result", "--mask", "mask.mrc", "--angpix", str(PIXEL),
    )
    columns = read_star(str(tmp_path / "post/result.star"), ("fsc",))["fsc"]
    halves = [_map(tmp_path / f"map_half{half}.mrc") for half in (1, 2)]
    count = BOX // 2 + 1
    for label, mask in (("rlnFourierShellCorrelationUnmaskedMaps", None), ("rlnFourierShellCorrelationMaskedMaps", sphere_mask(BOX, 0.4 * BOX, 4))):
        theirs = np.asarray(columns[label], float)[1 : count - 1]
        assert np.abs(fsc(*halves, mask)[1 : count - 1].numpy() - theirs).max() <= 0.02


@pytest.mark.parametrize("name", ["C3", "D3", "T", "O", "I1", "I2"])
def test_point_groups_against_relion(tmp_path: Path, name: str) -> None:
    """The same rotations as relion_refine prints for the group."""
    text = _relion("relion_refine", tmp_path, "--sym", name, "--print_symmetry_ops")
    numbers: list[list[float]] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3:
            try:
                numbers.append([float(word) for word in words])
            except ValueError:
                continue
    theirs = np.array(numbers).reshape(-1, 3, 3)
    ours = symmetry_matrices(name).numpy()
    distance = np.abs(ours[:, None] - theirs[None]).max((2, 3))
    assert distance.min(1).max() < 1e-4, "a rotation of ours that RELION does not have"
    assert distance.min(0).max() < 1e-4, "a rotation of RELION's that we do not have"
