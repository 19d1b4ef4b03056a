"""Noise of sets whose images hold different frequencies: coarser pixels, magnified, multiplied by their CTF. It is known, and must be found."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.alignment.local_search import unexplained_power
from cryolearn.engine.alignment.reference import Reference
from cryolearn.engine.gaussian.model.fourier_particles import ImageConventions, band_between, crop_images
from cryolearn.engine.gaussian.model.gain_and_noise import calibrate
from cryolearn.engine.gaussian.model.projection import Gaussians
from cryolearn.engine.imaging.ctf import Ctf, ctf_2d
from cryolearn.engine.imaging.fourier import power_spectrum
from cryolearn.engine.imaging.half_set_maps import ImageOptions, insert_particles, new_reconstructor
from cryolearn.engine.imaging.normalise import kept_share
from cryolearn.engine.imaging.standard_images import StandardImages
from cryolearn.engine.io.records import RunRecord
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star import ParticleTable, read_particles
from cryolearn.engine.io.star_text import read_star, write_star
from cryolearn.engine.orientation.config import DistanceTrainConfig
from cryolearn.engine.orientation.distance_network.image_statistics import measure_particles
from cryolearn.engine.orientation.refinement.read_images import matching_band, read_fourier_images
from cryolearn.engine.training.particle_images import ParticleImages

from .imaging_cases import gaussian_model, particle_set

BOX, PIXEL, COARSE_BOX, COARSE = 48, 3.0, 38, 3.8
COUNT, CPU = 240, torch.device("cpu")
MODEL = gaussian_model(25, 3.5, count=30)
MAGNIFIED = (1.02, 0.01, -0.01, 0.97)
STRENGTH = 40.0  # of the signal, for noise of variance 1 a pixel: an SNR of about .1


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> ParticleTable:
    return _mixed(tmp_path_factory.mktemp("noise"), 0.0, 4)


@pytest.fixture(scope="module")
def signal(tmp_path_factory: pytest.TempPathFactory) -> ParticleTable:
    return _mixed(tmp_path_factory.mktemp("signal"), STRENGTH, 3)


def _mixed(folder: Path, strength: float, count: int) -> ParticleTable:
    """Images in turns as they are, of coarser pixels, times their CTF, and magnified; white noise of variance 1 in each as the microscope took it."""
    particle_set(str(folder), COUNT, BOX, PIXEL, MODEL, seed=2)
    plain = read_particles(str(folder / "particles.star"))
    seen = torch.from_numpy(strength * StandardImages(plain).read(np.arange(COUNT)))
    random = np.random.default_rng(5)

    def noisy(images: torch.Tensor) -> torch.Tensor:
        return images + torch.from_numpy(random.normal(size=images.shape).astype(np.float32))

    half, low = COARSE_BOX // 2 + 1, -(-COARSE_BOX // 2)
    whole = torch.fft.rfft2(torch.fft.ifftshift(seen, dim=(-2, -1)))
    cropped = torch.cat((whole[:, :low, :half], whole[:, BOX - COARSE_BOX + low :, :half]), 1)
    cropped[:, low], cropped[..., -1] = 0, 0  # Nyquist
    scale = (COARSE_BOX / BOX) ** 2 * COARSE / PIXEL  # as strong against the noise of each coefficient
    coarse = torch.fft.fftshift(torch.fft.irfft2(cropped, s=(COARSE_BOX, COARSE_BOX)), dim=(-2, -1)) * scale
    ctf = ctf_2d(Ctf.from_table(plain.ctf), BOX, PIXEL)
    multiplied = torch.fft.irfft2(torch.fft.rfft2(noisy(seen)) * ctf, s=(BOX, BOX))
    stacks = {"plain": noisy(seen), "coarse": noisy(coarse), "multiplied": multiplied, "magnified": noisy(seen)}
    for name, images in stacks.items():
        write_stack(str(folder / f"{name}.mrcs"), images.numpy(), COARSE if name == "coarse" else PIXEL)
    blocks = read_star(str(folder / "particles.star"))
    turn = np.arange(COUNT) % count
    names = np.array([f"{row + 1:06d}@{list(stacks)[kind]}.mrcs" for row, kind in enumerate(turn)], dtype=object)
    blocks["particles"].update(rlnOpticsGroup=turn + 1, rlnImageName=names)
    optics = {label: np.repeat(values, count) for label, values in blocks["optics"].items()}
    kind = np.arange(count)
    optics.update(
        rlnOpticsGroup=kind + 1, rlnImagePixelSize=np.where(kind == 1, COARSE, PIXEL), rlnImageSize=np.where(kind == 1, COARSE_BOX, BOX),
        rlnCtfDataAreCtfPremultiplied=(kind == 2).astype(int))
    for place, value in enumerate(MAGNIFIED):
        optics[f"rlnMagMat{place // 2}{place % 2}"] = np.where(kind == 3, value, float(place in (0, 3)))
    write_star(str(folder / "mixed.star"), {"optics": optics, "particles": blocks["particles"]})
    return read_particles(str(folder / "mixed.star"))


def test_each_shell_counts_the_images_that_hold_it(noise: ParticleTable) -> None:
    """White noise of variance 1 has power 1 at all shells, for every group and for all.

    What magnified images hold ends on the grid of a box that is a little wider, so that their share of the noise is known to a frequency of each axis.
    """
    images = ParticleImages(noise, 45.0, CPU)
    found = images.noise_power()
    shells = np.arange(3, BOX // 2)
    assert np.abs(found.numpy()[shells] - 1).max() < 0.05
    limit = int(0.5 / COARSE * BOX * PIXEL)
    plain = power_spectrum(images.read(np.arange(COUNT))[0]).mean(0)[2:]  # without counting
    assert np.abs((plain / images.noise_kept(np.arange(COUNT))[2:]).numpy() - 1).max() < 0.05 and float(plain[-1]) < 0.8
    for kind in range(4):
        rows = np.arange(kind, COUNT, 4)
        power, kept = power_spectrum(images.read(rows)[0]).mean(0), images.noise_kept(rows)
        assert float((power / kept)[1 : limit - 1].mean()) == pytest.approx(1, abs=4 / BOX if kind == 3 else 0.03), kind


def test_share_of_the_noise(noise: ParticleTable) -> None:
    """Coarser pixels keep the square of the ratio of pixel sizes, premultiplied images all but 5 %: 2 / pi .1 4 / 5."""
    kept = StandardImages(noise).noise_kept(np.arange(COUNT))
    assert kept is not None
    share = kept_share(kept).numpy()
    assert (share[::4] == 1).all()
    inside = 2 * np.ceil(0.5 * PIXEL / COARSE * BOX) - 1  # frequencies along an axis, Nyquist left out
    assert share[1::4] == pytest.approx((inside / BOX) ** 2, rel=1e-5)
    assert share[2::4].mean() == pytest.approx(1 - 2 / math.pi * 0.1 * 4 / 5, abs=0.01)
    assert (share[3::4] < 1).all() and (share[3::4] > 0.9).all()


def test_noise_of_the_gaussian_model(signal: ParticleTable) -> None:
    """The noise of a coefficient is box^2 in every ring, whatever the CTF, and the gain is that of plain images alone."""
    band = band_between(BOX, PIXEL, 6.6, 70.0)
    store = Path(signal.image_file[0]).parent
    model = Gaussians(MODEL.positions, MODEL.weights * STRENGTH / PIXEL**2, torch.full((30,), MODEL.sigma))
    found = {}
    for name, rows in {"all": np.arange(COUNT), "plain": np.arange(0, COUNT, 3)}.items():
        part = signal.subset(rows)
        images = crop_images(part, band, store / f"{name}.npy", CPU, radius_angst=60.0, conventions=ImageConventions())
        found[name] = calibrate(images, model)
    both = found["all"]
    assert both.ctf_noise is not None
    points = band.ring_sum(torch.ones(len(band)))
    held = COUNT * (1 - (band.per_point(torch.arange(band.rings)) + band.lowest > 0.5 / COARSE * BOX * PIXEL).float() / 3)
    held = band.ring_sum(held) / points
    error = 4 / (points * held).sqrt()  # of a mean of squares
    middle = both.noise_power * (1 + both.ctf_noise / 2) / BOX**2  # at the mean of CTF^2
    assert bool(((middle - 1).abs() < error + 0.02).all()), middle
    assert bool((both.ctf_noise.abs() < 6 * error + 0.02).all()), both.ctf_noise
    strong = found["plain"].gain > 0.5 * found["plain"].gain.max()
    assert float((both.gain / found["plain"].gain)[strong].mean()) == pytest.approx(1, abs=0.05)


def test_noise_of_matching(noise: ParticleTable, tmp_path: Path) -> None:
    """The mean power of noise, and what a reference of 0 leaves unexplained, are 1 at every ring."""
    source = ParticleImages(noise, 45.0, CPU)
    images = read_fourier_images(source, matching_band(source, BOX // 2 - 1), 64, RunRecord(tmp_path, "recovery", "1"))
    nothing = Reference(torch.zeros(BOX, BOX, BOX))
    left = unexplained_power(images, nothing, torch.eye(3).expand(COUNT, 3, 3), torch.zeros(COUNT, 2))
    assert np.abs(images.noise.numpy()[2:] - 1).max() < 0.06
    assert torch.allclose(left, images.noise, rtol=1e-5)


def test_noise_of_the_distance_network(signal: ParticleTable) -> None:
    """Power of the noise relative to that at low frequencies."""
    images = ParticleImages(signal, 60.0, CPU, normalise=False)
    config = DistanceTrainConfig(particles="particles.star", output="out")
    noise = measure_particles(config, images, BOX, None).noise_power.numpy()
    assert noise[3:-1] / noise[3:12].mean() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("use_ctf", [True, False])
def test_maps_count_the_images_that_hold_a_shell(signal: ParticleTable, use_ctf: bool) -> None:
    """Weights of a reconstruction beyond the coarser Nyquist frequency come from the other images, with the CTF and without."""
    shells = {}
    for name, rows in {"all": np.arange(COUNT), "fine": np.flatnonzero(np.arange(COUNT) % 3 != 1)}.items():
        work = new_reconstructor(signal, 1.0, CPU, phase_flipped=False)
        insert_particles([work], StandardImages(signal, keep_magnification=True), rows, np.ones(len(rows), int), options=ImageOptions(use_ctf=use_ctf))
        shells[name] = work._shell_mean(work.denominator[0]).numpy()
    ratio = shells["all"] / shells["fine"]
    limit = 0.5 / COARSE * BOX * PIXEL
    assert ratio[3 : int(limit) - 1] == pytest.approx(1.5, abs=0.1)
    coarse = ParticleImages(signal, 60.0, CPU).noise_kept(np.array([1])).numpy()  # part of the circle at a radius that lies in the square they hold
    assert ratio[math.ceil(limit) + 1 :] == pytest.approx(1 + coarse[math.ceil(limit) + 1 :] / 2, abs=0.06)
