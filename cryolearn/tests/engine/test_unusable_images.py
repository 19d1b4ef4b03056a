"""Images that cannot be used are named and flagged, and change nothing of what is estimated from the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.alignment.fourier_band import FourierBand
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.gaussian.model.fourier_particles import ImageConventions, crop_images
from cryolearn.engine.imaging.standard_images import StandardImages
from cryolearn.engine.imaging.unusable_images import UnusableImages
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star import CtfTable, ParticleTable
from cryolearn.engine.training.particle_images import ParticleImages

COUNT, BOX, BAD = 24, 16, 6


def _images() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(COUNT, BOX, BOX)).astype(np.float32)


def _table(path: Path, images: np.ndarray) -> ParticleTable:
    write_stack(str(path), images, 2.0)
    count = len(images)
    one, zero = np.ones(count), np.zeros(count)
    ctf = CtfTable(defocus_u=12000 * one, defocus_v=12000 * one, defocus_angle=zero, phase_shift=zero, voltage_kv=300 * one, cs_mm=2.7 * one,
                   amplitude_contrast=0.1 * one)
    return ParticleTable(ids=np.arange(1, count + 1), image_file=[str(path)], file_index=np.zeros(count, np.int64), image_index=np.arange(count),
                         pixel_size_angst=2.0, box=BOX, ctf=ctf)


def _masked(image: np.ndarray) -> np.ndarray:
    axis = np.arange(BOX) - BOX // 2
    return np.where(axis**2 + axis[:, None] ** 2 < 25, image, 0)


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "constant": lambda image: np.full_like(image, 3), "masked": _masked, "saturated": lambda image: np.sign(image) * 3, "median": lambda image: image * 1e10,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_image_that_cannot_be_used_is_named_and_leaves_the_noise_as_it_is(tmp_path: Path, fault: str) -> None:
    images = _images()
    without = ParticleImages(_table(tmp_path / "without.mrcs", np.delete(images, BAD, 0)), 12.0, torch.device("cpu"))
    images[BAD] = FAULTS[fault](images[BAD])
    found = ParticleImages(_table(tmp_path / "with.mrcs", images), 12.0, torch.device("cpu"))
    torch.testing.assert_close(found.noise_power(), without.noise_power())
    assert np.flatnonzero(found.unusable).tolist() == [BAD]
    assert BAD not in found.sample_rows(COUNT)
    (text,) = found.warnings()
    assert f"particle {BAD + 1}" in text and fault in text
    pictures, ctf = found.read(np.array([BAD, 0]))
    assert float(pictures[0].abs().max()) == 0 and ctf is not None and ctf.limit_inv_angst is not None
    assert ctf.limit_inv_angst[0] == 0 and torch.isinf(ctf.limit_inv_angst[1])


def test_gaussian_heterogeneity_knows_them_before_it_estimates_anything(tmp_path: Path) -> None:
    """Their CTF is 0 at all frequencies, from the first reading as from the file that is kept."""
    images = _images()
    images[BAD] = 3
    table = _table(tmp_path / "with.mrcs", images).with_poses(np.random.default_rng(4).uniform(0, 180, (COUNT, 3)), np.zeros((COUNT, 2)))
    band = FourierBand.up_to(BOX, 5, length=2.0 * BOX, device="cpu")
    for _ in range(2):
        kept = crop_images(table, band, tmp_path / "crops.npy", torch.device("cpu"), radius_angst=12.0, conventions=ImageConventions())
        assert np.flatnonzero(kept.unusable).tolist() == [BAD]
        assert float(kept.transfer(np.array([BAD])).abs().max()) == 0 and float(kept.transfer(np.array([0])).abs().max()) > 0


def test_what_many_images_have_makes_none_unusable(tmp_path: Path) -> None:
    images = np.stack([_masked(image) for image in _images()])
    images[::2] *= 40  # another grey scale of half the set
    stack = StandardImages(_table(tmp_path / "a.mrcs", images))
    np.testing.assert_array_equal(stack.read(np.arange(COUNT)), images)
    assert not stack.unusable.any()
    (text,) = stack.warnings()
    assert "Many of the images are masked" in text


def test_volumes_are_judged_as_images_are() -> None:
    volumes = np.random.default_rng(4).normal(size=(20, 8, 8, 8)).astype(np.float32)
    volumes[2] = 7
    found = UnusableImages(20, lambda most: [volumes[:10].copy(), volumes[10:].copy()])
    seen = volumes.copy()
    found.judge(np.arange(20), seen)
    assert np.flatnonzero(found.found).tolist() == [2] and not seen[2].any()
    np.testing.assert_array_equal(np.delete(seen, 2, 0), np.delete(volumes, 2, 0))


def test_a_set_without_any_image_is_refused(tmp_path: Path) -> None:
    images = ParticleImages(_table(tmp_path / "a.mrcs", np.ones((COUNT, BOX, BOX), np.float32)), 12.0, torch.device("cpu"))
    with pytest.raises(InputError, match="All images are constant"):
        images.noise_power()
