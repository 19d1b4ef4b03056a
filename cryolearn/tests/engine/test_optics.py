"""Optics of particle images: what a STAR file says of each optics group reaches images and CTFs, with RELION's conventions."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.affine_resampling import AffineResampling
from cryolearn.engine.imaging.config import ReconstructConfig
from cryolearn.engine.imaging.ctf import Ctf, ctf_2d, ctf_at, plain_factor
from cryolearn.engine.imaging.fourier import frequency_grid
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import euler_to_matrix
from cryolearn.engine.imaging.reconstruct_command import run
from cryolearn.engine.imaging.standard_images import StandardImages, odd_phase
from cryolearn.engine.imaging.zernike import zernike, zernike_index
from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.stacks import ImageStack, write_stack
from cryolearn.engine.io.star import read_particles, write_particles
from cryolearn.engine.io.star_text import read_star, write_star

from .imaging_cases import GaussianModel, gaussian_model, particle_set

BOX, PIXEL = 48, 3.0
MATRIX = np.array([[1.03, 0.015], [-0.01, 0.975]])
TILT = np.array([6.0, -4.0])
ODD, EVEN = np.array([3.0, -2.0, 260.0, 0.0, 0.0, -200.0]), np.array([0.3, 5.0, -8.0, 4.0, 60.0])


def _lists(values: np.ndarray) -> str:
    return "[" + ",".join(f"{value:g}" for value in values) + "]"


def _said(path: Path, source: str = "particles.star", **columns: object) -> str:
    """A copy of a STAR file whose optics say more; a list gives a value to each of several groups, to which particles belong in turns."""
    blocks = read_star(str(path.parent / source))
    several = [value for value in columns.values() if isinstance(value, list)]
    count = len(several[0]) if several else 1
    optics = {label: np.repeat(values, count) for label, values in blocks["optics"].items()}
    optics["rlnOpticsGroup"] = np.arange(1, count + 1)
    for label, value in columns.items():
        values = value if isinstance(value, list) else [value] * count
        optics[label] = np.array(values, dtype=object if isinstance(values[0], str) else None)
    blocks["particles"]["rlnOpticsGroup"] = np.arange(len(blocks["particles"]["rlnImageName"])) % count + 1
    write_star(str(path), {"optics": optics, "particles": blocks["particles"]})
    return str(path)


def _matrix_columns(matrix: np.ndarray) -> dict[str, object]:
    return {f"rlnMagMat{i}{j}": float(matrix[i, j]) for i in (0, 1) for j in (0, 1)}


def _taken(
    model: GaussianModel, table: object, box: int, pixel: float, *, matrix: np.ndarray = np.eye(2), odd: bool = False, even: np.ndarray | None = None,
) -> np.ndarray:
    """Images of a model as a microscope takes them: each coefficient at k is that of the particle at ``matrix k``, behind all aberrations."""
    ky, kx = (axis.double() / pixel for axis in frequency_grid(box))
    x, y = matrix[0, 0] * kx + matrix[0, 1] * ky, matrix[1, 0] * kx + matrix[1, 1] * ky
    phase = odd_phase(torch.from_numpy(ODD), torch.from_numpy(TILT), 300.0, 2.7, (x, y)) if odd else torch.zeros_like(x)
    rotation, images = euler_to_matrix(torch.from_numpy(table.angles_deg)), []
    ctf = ctf_at(Ctf.from_table(table.ctf, dtype=torch.float64), x, y) if table.ctf is not None else torch.ones(len(table), *x.shape)
    if even is not None:
        plain = Ctf.from_table(table.ctf, dtype=torch.float64)
        plain.even_zernike = torch.from_numpy(even).expand(len(table), -1)
        ctf = ctf_at(plain, x, y)
    for row in range(len(table)):
        seen = (model.positions.double() @ rotation[row].T)[:, :2] - torch.from_numpy(table.origin_angst[row])
        wave = torch.exp(-2j * math.pi * (seen[:, 0, None, None] * x + seen[:, 1, None, None] * y))
        envelope = torch.exp(-2 * math.pi**2 * model.sigma**2 * (x * x + y * y))
        transform = (model.weights.double()[:, None, None] * wave).sum(0) * envelope * ctf[row] * torch.exp(1j * phase) / pixel**2
        if box % 2 == 0:
            transform[box // 2], transform[:, box // 2] = 0, 0  # Nyquist
        images.append(torch.fft.fftshift(torch.fft.irfft2(transform, s=(box, box))))
    return torch.stack(images).numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("optics")
    particle_set(str(path), 12, BOX, PIXEL, _model())
    return path


def _model() -> GaussianModel:
    return gaussian_model(30, 3.5, count=30)


def test_zernike_order_and_orthogonality() -> None:
    """n and m as RELION numbers them; over the unit disc the polynomials are orthogonal, with the textbook norm."""
    assert [zernike_index(i, odd=False) for i in range(9)] == [(0, 0), (2, -2), (2, 0), (2, 2), (4, -4), (4, -2), (4, 0), (4, 2), (4, 4)]
    assert [zernike_index(i, odd=True) for i in range(6)] == [(1, -1), (1, 1), (3, -3), (3, -1), (3, 1), (3, 3)]
    line = (torch.arange(800, dtype=torch.float64) + 0.5) / 400 - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    inside = (x * x + y * y < 1).double()
    terms = [zernike_index(i, odd) for odd in (False, True) for i in range(6)]
    values = torch.stack([(zernike(n, m, x, y) * inside).flatten() for n, m in terms])
    gram = values @ values.T / 400**2
    expected = torch.diag(torch.tensor([math.pi / (2 * n + 2) * (2 if m == 0 else 1) for n, m in terms], dtype=torch.float64))
    assert float((gram - expected).abs().max()) < 0.01  # the disc's rim cuts pixels: 2 pi 400 of 400^2 of them


@pytest.mark.parametrize(("pixel_in", "box_in", "pixel_out", "box_out", "matrix"), [
    (1.5, 96, 1.5, 96, MATRIX), (1.0, 95, 1.4, 70, np.eye(2)), (1.4, 96, 1.0, 140, np.eye(2)), (1.0, 96, 1.25, 75, MATRIX)])
def test_resampling_of_a_wave_packet(pixel_in: float, box_in: int, pixel_out: float, box_out: int, matrix: np.ndarray) -> None:
    """A packet at .8 of the coarser Nyquist frequency is what it is on the other grid, to 1e-3 of its height; at .9 it would reach beyond Nyquist."""
    coarse = max(pixel_in, pixel_out)
    wave, width = 0.8 * 0.5 / coarse * np.array([0.97, -0.2]), 8 * coarse

    def packet(box: int, pixel: float, turn: np.ndarray) -> np.ndarray:
        axis = (np.arange(box) - box // 2) * pixel
        y, x = np.meshgrid(axis, axis, indexing="ij")
        x, y = turn[0, 0] * x + turn[0, 1] * y, turn[1, 0] * x + turn[1, 1] * y
        return np.exp(-(x**2 + y**2) / 2 / width**2) * np.cos(2 * np.pi * (wave[0] * x + wave[1] * y) + 0.3)

    resample = AffineResampling(box_in, box_out, matrix * (pixel_out / pixel_in))
    image = torch.from_numpy(packet(box_in, pixel_in, np.eye(2))).float()
    result = resample(torch.fft.rfft2(torch.fft.ifftshift(image))[None])[0].numpy()
    assert np.abs(result - packet(box_out, pixel_out, matrix)).max() < 1e-3


@pytest.mark.parametrize("odd", [False, True])
def test_aberrations_and_magnification_are_undone(folder: Path, odd: bool) -> None:
    """Images behind odd aberrations and anisotropic magnification, and what they are without."""
    matrix, more = (np.eye(2), {"rlnBeamTiltX": TILT[0], "rlnBeamTiltY": TILT[1], "rlnOddZernike": _lists(ODD)}) if odd else (MATRIX, {})
    plain = read_particles(str(folder / "particles.star"))
    star = _said(folder / "said.star", **_matrix_columns(matrix), **more)
    write_stack(str(folder / "said.mrcs"), _taken(_model(), plain, BOX, PIXEL, matrix=matrix, odd=odd), PIXEL)
    blocks = read_star(star)
    blocks["particles"]["rlnImageName"] = np.array([f"{i + 1:06d}@said.mrcs" for i in range(len(plain))], dtype=object)
    shift = plain.origin_angst @ matrix  # of the image as it was taken
    blocks["particles"].update(rlnOriginXAngst=shift[:, 0], rlnOriginYAngst=shift[:, 1])
    write_star(star, blocks)
    table = read_particles(star)
    assert np.abs(table.origin_angst - plain.origin_angst).max() < 1e-5
    found, wanted = StandardImages(table).read(np.arange(len(plain))), _taken(_model(), plain, BOX, PIXEL)
    scale = (found * wanted).sum() / (wanted**2).sum()
    inner = slice(4, -4)  # the border is what the image does not hold
    assert scale == pytest.approx(math.sqrt(abs(np.linalg.det(matrix))) / abs(np.linalg.det(matrix)), rel=2e-3)
    assert np.abs(found / scale - wanted)[:, inner, inner].max() < 0.02 * np.abs(wanted).max()
    write_particles(str(folder / "again.star"), table)
    again = read_star(str(folder / "again.star"))
    assert np.abs(again["particles"]["rlnOriginXAngst"] - shift[:, 0]).max() < 1e-5  # as in the file that was read


def test_noise_stays_what_it_is(folder: Path) -> None:
    """White noise keeps its variance within the frequencies that a resampled image holds, and all of it behind odd aberrations."""
    noise = np.random.default_rng(0).normal(size=(12, 60, 60))
    write_stack(str(folder / "noise.mrcs"), noise, 2.4)
    blocks = read_star(_said(folder / "noise.star", rlnImagePixelSize=[3.0, 2.4], rlnImageSize=[48, 60]))
    blocks["particles"]["rlnImageName"][1::2] = [f"{i + 1:06d}@noise.mrcs" for i in range(6)]
    write_star(str(folder / "noise.star"), blocks)
    table = read_particles(str(folder / "noise.star"))
    assert (table.box, table.pixel_size_angst) == (48, 3.0)
    power = np.abs(np.fft.fft2(StandardImages(table).read(np.arange(1, 12, 2)))) ** 2 / 48**2
    inside = np.ones(48, bool)
    inside[23:26] = False
    values = power[:, inside][:, :, inside]
    assert values.mean() == pytest.approx(1, abs=4 / math.sqrt(values.size / 2))


def test_mixed_pixel_sizes_are_one_set(folder: Path) -> None:
    """A finer and a coarser group show the same particle as the set's own images; beyond the coarser one's Nyquist its CTF is 0."""
    plain = read_particles(str(folder / "particles.star"))
    write_stack(str(folder / "coarse.mrcs"), _taken(_model(), plain, 38, 3.8), 3.8)
    blocks = read_star(_said(folder / "mixed.star", rlnImagePixelSize=[3.0, 3.0, 3.8], rlnImageSize=[48, 48, 38]))
    names = blocks["particles"]["rlnImageName"]
    names[2::3] = [f"{i + 1:06d}@coarse.mrcs" for i in range(2, 12, 3)]
    write_star(str(folder / "mixed.star"), blocks)
    table = read_particles(str(folder / "mixed.star"))
    rows = np.arange(2, 12, 3)
    found, wanted = StandardImages(table).read(np.arange(12)), _taken(_model(), plain, BOX, PIXEL)
    transfer = ctf_2d(Ctf.from_table(table.ctf), BOX, PIXEL)
    kx = torch.arange(BOX // 2 + 1) / BOX / PIXEL
    assert not transfer[rows][:, :, kx >= 0.5 / 3.8].any() and transfer[0, 1:, kx >= 0.5 / 3.8].all()
    band = (np.abs(np.fft.fftfreq(BOX, PIXEL)) < 0.45 / 3.8)[:, None] & (np.fft.rfftfreq(BOX, PIXEL) < 0.45 / 3.8)
    both = [np.fft.irfft2(np.fft.rfft2(images) * band) for images in (found[rows], wanted[rows])]
    scale = (both[0] * both[1]).sum() / (both[1] ** 2).sum()
    assert scale == pytest.approx(3.0 / 3.8, rel=0.01)  # projections count pixels, of which there are fewer
    assert np.abs(both[0] / scale - both[1]).max() < 0.03 * np.abs(both[1]).max()


def test_premultiplied_images_become_plain(folder: Path) -> None:
    """An image times its CTF is the plain image where the CTF is above .1; what is lost of the information is below 1e-3."""
    plain = read_particles(str(folder / "particles.star"))
    images = StandardImages(plain).read(np.arange(12)) + np.random.default_rng(1).normal(size=(12, BOX, BOX)).astype(np.float32)
    ctf = ctf_2d(Ctf.from_table(plain.ctf), BOX, PIXEL)
    taken = torch.fft.irfft2(torch.fft.rfft2(torch.from_numpy(images)) * ctf, s=(BOX, BOX)).numpy()
    write_stack(str(folder / "multiplied.mrcs"), taken, PIXEL)
    star = _said(folder / "multiplied.star", rlnCtfDataAreCtfPremultiplied=[1, 0])
    blocks = read_star(star)
    blocks["particles"]["rlnImageName"][::2] = [f"{i + 1:06d}@multiplied.mrcs" for i in range(0, 12, 2)]
    write_star(star, blocks)
    table = read_particles(star)
    assert table.ctf is not None and np.array_equal(table.ctf.premultiplied, np.arange(12) % 2 == 0)
    transfer = ctf_2d(Ctf.from_table(table.ctf), BOX, PIXEL)
    strong = (ctf.abs() > 0.1) & (torch.arange(BOX // 2 + 1) < BOX // 2)  # at Nyquist only real parts remain
    assert torch.equal(transfer[strong], ctf[strong]) and torch.equal(transfer[1::2], ctf[1::2])
    found = torch.fft.rfft2(torch.from_numpy(StandardImages(table).read(np.arange(12))))
    wanted = torch.fft.rfft2(torch.from_numpy(images))
    rows = torch.arange(0, 12, 2)
    strong[:, BOX // 2] = False
    difference = (found - wanted)[rows][strong[rows]].abs().max() / wanted.abs().max()
    assert float(difference) < 1e-5
    lost = 1 - (transfer.square().sum() / ctf.square().sum())
    assert 0 <= float(lost) < 1e-3  # uniform phases: 2 / pi * .1^3 * 2 / 3 = 4e-4
    weak = Ctf.from_table(table.ctf, np.array([0]))
    assert float(plain_factor(weak, *reversed([axis / PIXEL for axis in frequency_grid(BOX)])).abs().max()) <= 10.0001


def test_flags_and_envelope_of_each_particle(folder: Path) -> None:
    """Phase-flipped by optics group; B factor and scale of each particle multiply its CTF."""
    star = _said(folder / "flags.star", rlnCtfDataArePhaseFlipped=[0, 1])
    blocks = read_star(star)
    blocks["particles"].update(rlnCtfBfactor=np.arange(12) * 10.0, rlnCtfScalefactor=np.linspace(0.5, 1, 12))
    write_star(star, blocks)
    table, plain = read_particles(star), read_particles(str(folder / "particles.star"))
    ours, ctf = (ctf_2d(Ctf.from_table(item.ctf, dtype=torch.float64), BOX, PIXEL) for item in (table, plain))
    ky, kx = (axis.double() / PIXEL for axis in frequency_grid(BOX))
    envelope = torch.exp(-torch.arange(12)[:, None, None] * 10.0 / 4 * (kx * kx + ky * ky)) * torch.linspace(0.5, 1, 12, dtype=torch.float64)[:, None, None]
    expected = ctf * envelope
    expected[1::2] = expected[1::2].abs()
    assert float((ours - expected).abs().max()) < 1e-7
    write_particles(str(folder / "flags2.star"), table)
    back = read_particles(str(folder / "flags2.star"))
    for name, values in vars(table.ctf).items():
        assert (values is None) == (getattr(back.ctf, name) is None) and (values is None or np.allclose(values, getattr(back.ctf, name))), name


def test_what_is_not_used_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One warning in the log and in the summary; lists that are none, and premultiplied images without CTF, are refused."""
    star = _said(folder / "unused.star")
    blocks = read_star(star)
    blocks["particles"]["rlnBeamTiltX"] = np.full(12, 0.3)
    write_star(star, blocks)
    (folder / "out").mkdir()
    run(ReconstructConfig(particles=star, output=str(folder / "out"), threads=1))
    warnings = json.loads((folder / "out" / "summary.json").read_text())["warnings"]
    assert len(warnings) == 1 and "rlnBeamTiltX" in warnings[0] and f"WARNING: {warnings[0]}" in capsys.readouterr().out
    with pytest.raises(InputError, match="rlnEvenZernike"):
        read_particles(_said(folder / "bad.star", rlnEvenZernike="[1,x]"))
    with pytest.raises(InputError, match="no number as rlnBeamTiltX of optics group 1"):
        read_particles(_said(folder / "nan.star", rlnBeamTiltX=float("nan")))
    with pytest.raises(InputError, match="rlnCtfScalefactor"):
        read_particles(_said(folder / "zero.star", rlnCtfScalefactor=0.0))
    blocks = read_star(_said(folder / "no_ctf.star", rlnCtfDataAreCtfPremultiplied=1))
    for label in ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift"):
        del blocks["particles"][label]
    write_star(str(folder / "no_ctf.star"), blocks)
    with pytest.raises(InputError, match="rlnCtfDataAreCtfPremultiplied"):
        read_particles(str(folder / "no_ctf.star"))


def _relion(program: str, where: Path, *arguments: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian: apt-get install relion)")
    done = subprocess.run([program, *arguments], cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.relion
def test_transfer_against_relion_project(folder: Path) -> None:
    """relion_project with and without the CTF gives its values: even Zernike terms, B factor, scale, and all of them at magnified frequencies."""
    star = _said(folder / "project.star", rlnEvenZernike=_lists(EVEN), rlnCtfBfactor=60.0, rlnCtfScalefactor=0.6, **_matrix_columns(MATRIX))
    for name, flags in (("with", ["--ctf"]), ("without", [])):
        _relion("relion_project", folder, "--i", "true.mrc", "--ang", star, "--o", name, "--angpix", str(PIXEL), *flags)
    ratio_of, over = (np.fft.rfft2(ImageStack(read_particles(str(folder / f"{name}.star"))).read(np.arange(12)).astype(float)) for name in ("with", "without"))
    ky, kx = (axis.double() / PIXEL for axis in frequency_grid(BOX))
    x, y = MATRIX[0, 0] * kx + MATRIX[0, 1] * ky, MATRIX[1, 0] * kx + MATRIX[1, 1] * ky
    ours = ctf_at(Ctf.from_table(read_particles(star).ctf, dtype=torch.float64), x, y).numpy()
    inside = np.broadcast_to((kx * kx + ky * ky < (0.45 / PIXEL) ** 2).numpy(), ours.shape)
    assert np.abs(ratio_of - ours * over)[inside].max() < 1e-5 * np.abs(over).max()


@pytest.mark.relion
@pytest.mark.parametrize("what", ["beam tilt", "odd", "even", "magnification"])
def test_reconstruction_against_relion_reconstruct(tmp_path: Path, what: str) -> None:
    """From the same aberrated images our map and RELION's have the same mean FSC with the truth, within .02."""
    model = gaussian_model(40, 2.5, count=60)
    particle_set(str(tmp_path), 250, BOX, PIXEL, model)
    plain = read_particles(str(tmp_path / "particles.star"))
    matrix = MATRIX if what == "magnification" else np.eye(2)
    columns: dict[str, object] = {
        "beam tilt": {"rlnBeamTiltX": 15.0, "rlnBeamTiltY": -9.0}, "odd": {"rlnOddZernike": _lists(ODD)}, "even": {"rlnEvenZernike": _lists(EVEN)},
        "magnification": _matrix_columns(MATRIX)}[what]
    images = torch.from_numpy(_taken(model, plain, BOX, PIXEL, matrix=matrix, even=EVEN if what == "even" else None))
    ky, kx = (axis.double() / PIXEL for axis in frequency_grid(BOX))
    tilt = torch.tensor([15.0, -9.0]) if what == "beam tilt" else torch.zeros(2)
    phase = odd_phase(torch.from_numpy(ODD if what == "odd" else 0 * ODD), tilt, 300.0, 2.7, (kx, ky))
    images = torch.fft.irfft2(torch.fft.rfft2(images) * torch.exp(1j * phase), s=(BOX, BOX)).numpy()
    images += np.random.default_rng(2).normal(size=images.shape) * images.std() / 2
    write_stack(str(tmp_path / "particles.mrcs"), images, PIXEL)
    shift = plain.origin_angst @ matrix
    blocks = read_star(_said(tmp_path / "said.star", **columns))
    blocks["particles"].update(rlnOriginXAngst=shift[:, 0], rlnOriginYAngst=shift[:, 1])
    write_star(str(tmp_path / "said.star"), blocks)
    truth, mask = model.volume(BOX, PIXEL), sphere_mask(BOX, 0.4 * BOX, 4)
    _relion("relion_reconstruct", tmp_path, "--i", "said.star", "--o", "relion.mrc", "--ctf")
    mean = {}
    for name in ("said", "particles"):
        (tmp_path / name).mkdir()
        run(ReconstructConfig(particles=str(tmp_path / f"{name}.star"), output=str(tmp_path / name), threads=1, wiener="constant"))
        mean[name] = float(fsc(torch.from_numpy(read_map(str(tmp_path / name / "map.mrc")).data.copy()), truth, mask)[1:].mean())
    theirs = float(fsc(torch.from_numpy(read_map(str(tmp_path / "relion.mrc")).data.copy()), truth, mask)[1:].mean())
    assert mean["said"] > theirs - 0.02
    assert mean["particles"] < mean["said"] - 0.02, mean  # the columns matter
