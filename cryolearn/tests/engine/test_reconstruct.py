"""Reconstruction against the known density: scale, weighting, half sets, sharding, symmetry, Wiener filter."""

from __future__ import annotations

import math

import pytest
import torch

from cryolearn.engine.imaging.ctf import Ctf, apply_ctf, ctf_2d
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.imaging.reconstruction import Reconstructor
from cryolearn.engine.imaging.symmetry import symmetry_matrices

from .imaging_cases import DEVICES, GaussianModel, gaussian_model

BOX, PIXEL = 48, 3.0


def _data(count: int, seed: int = 0, ctf: bool = True) -> tuple[GaussianModel, torch.Tensor, torch.Tensor, torch.Tensor, Ctf | None]:
    generator = torch.Generator().manual_seed(seed)
    model = gaussian_model(26, 4.5)
    rotations, shift = random_rotations(count, generator), (torch.rand(count, 2, generator=generator) - 0.5) * 18
    images = model.images(rotations, shift, BOX, PIXEL)
    if not ctf:
        return model, images, rotations, shift, None
    parameters = Ctf.constant(count, 14000, 13000, 25)
    change = 6000 * torch.rand(count, generator=generator)
    parameters.defocus_u_angst = parameters.defocus_u_angst + change
    parameters.defocus_v_angst = parameters.defocus_v_angst + change
    return model, apply_ctf(images, parameters, PIXEL), rotations, shift, parameters


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("padding", [2.0, 1.5])
@pytest.mark.parametrize("ctf", [False, True])
def test_recovers_the_density(ctf: bool, padding: float, device: str) -> None:
    """Without noise the map is the density (x Å): FSC 0.5 is passed to where the Gaussians have no power left, scale 1."""
    model, images, rotations, shift, parameters = _data(300, ctf=ctf)
    work = Reconstructor(BOX, PIXEL, padding, device)
    for rows in torch.arange(300).split(128):
        work.insert(images[rows], rotations[rows], shift[rows], parameters[rows] if parameters else None, half=1 + rows % 2)
    assert work.count == [150, 150]
    truth = model.volume(BOX, PIXEL) * PIXEL
    found = work.finish(constant=0.01).cpu()
    mask = sphere_mask(BOX, 14, 4)
    curve = fsc(found, truth, mask)
    # exp(-2 pi^2 sigma^2 / d^2) is 1 % of the amplitude at d = 9.3 Å: shell 15
    assert float(curve[:16].min()) > 0.98
    scale = float((found * truth).sum() / (truth * truth).sum())
    assert scale == pytest.approx(1, abs=0.03)


def test_phase_flipped_images() -> None:
    model, _, rotations, shift, _ = _data(300, ctf=False)
    parameters = Ctf.constant(300, 14000)
    images = apply_ctf(model.images(rotations, shift, BOX, PIXEL), parameters, PIXEL, phase_flipped=True)
    work = Reconstructor(BOX, PIXEL, phase_flipped=True)
    work.insert(images, rotations, shift, parameters)
    assert float(fsc(work.finish(constant=0.01), model.volume(BOX, PIXEL), sphere_mask(BOX, 14, 4))[2:12].min()) > 0.95


def test_given_transfer() -> None:
    """The CTF given as numbers makes the map that its parameters make."""
    _, images, rotations, shift, parameters = _data(100)
    assert parameters is not None
    plain, other = Reconstructor(BOX, PIXEL), Reconstructor(BOX, PIXEL)
    plain.insert(images, rotations, shift, parameters)
    other.insert(images, rotations, shift, ctf_2d(parameters, BOX, PIXEL))
    first, second = plain.finish(constant=0.01), other.finish(constant=0.01)
    assert float((first - second).abs().max()) < 1e-4 * float(first.max())


def test_weights_count_as_copies() -> None:
    """An image of weight 2 is the image twice; weight 0 is not there."""
    _, images, rotations, shift, parameters = _data(12)
    assert parameters is not None
    twice, weighted = Reconstructor(BOX, PIXEL), Reconstructor(BOX, PIXEL)
    rows = torch.tensor([0, 1, 1, 3, 4, 5])
    twice.insert(images[rows], rotations[rows], shift[rows], parameters[rows])
    weighted.insert(images[:6], rotations[:6], shift[:6], parameters[:6], weights=torch.tensor([1.0, 2, 0, 1, 1, 1]))
    for first, second in zip(twice.numerator + twice.denominator, weighted.numerator + weighted.denominator):
        assert torch.allclose(first, second, atol=1e-4 * float(first.abs().max() + 1))


def test_batches_add_up() -> None:
    """Images in any batches make one reconstruction."""
    _, images, rotations, shift, parameters = _data(40)
    assert parameters is not None
    whole, work = Reconstructor(BOX, PIXEL), Reconstructor(BOX, PIXEL)
    half = 1 + torch.arange(40) % 2
    whole.insert(images, rotations, shift, parameters, half=half)
    for rows in (torch.arange(0, 7), torch.arange(7, 23), torch.arange(23, 40)):
        work.insert(images[rows], rotations[rows], shift[rows], parameters[rows], half=half[rows])
    assert work.count == whole.count == [20, 20]
    scale = float(whole.finish().abs().max())
    assert float((work.finish() - whole.finish()).abs().max()) < 1e-4 * scale


def test_symmetry_is_imposed() -> None:
    """Particles of a C4 object seen from a few sides only: with the symmetry the map is the object, and is symmetric."""
    base = gaussian_model(22, 4.5, count=10)
    group = symmetry_matrices("C4").float()
    positions = (group[:, None] @ base.positions[None, :, :, None])[..., 0].flatten(0, 1)
    model = GaussianModel(positions, base.weights.repeat(4), base.sigma)
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotations(150, generator)
    shift = torch.zeros(150, 2)
    work = Reconstructor(BOX, PIXEL)
    work.insert(model.images(rotations, shift, BOX, PIXEL), rotations, shift)
    alone = fsc(work.finish(constant=0.01), model.volume(BOX, PIXEL), sphere_mask(BOX, 13, 4))
    work.symmetrise(group)
    found = work.finish(constant=0.01)
    curve = fsc(found, model.volume(BOX, PIXEL), sphere_mask(BOX, 13, 4))
    assert float(curve[1:16].mean()) > float(alone[1:16].mean()) and float(curve[:16].min()) > 0.98
    # a quarter turn about the axis through voxel n // 2 (the box without its first, unpaired layer)
    inner = found[1:, 1:, 1:]
    assert float((torch.rot90(inner, 1, (1, 2)) - inner).abs().max()) < 0.02 * float(found.max())


def test_fsc_of_half_maps_and_wiener_filter() -> None:
    """With noise: half maps agree as FSC_half = FSC_truth^2 / (2 - FSC_truth^2) says, and the filtered map is nearer to the truth."""
    count = 800
    model, images, rotations, shift, parameters = _data(count)
    assert parameters is not None
    generator = torch.Generator().manual_seed(5)
    noisy = images + 3 * images.std() * torch.randn(images.shape, generator=generator)
    work = Reconstructor(BOX, PIXEL)
    work.insert(noisy, rotations, shift, parameters, half=1 + torch.arange(count) % 2)
    mask = sphere_mask(BOX, 14, 4)
    curve = fsc(*work.half_maps(), mask)
    truth = model.volume(BOX, PIXEL) * PIXEL
    plain, filtered = work.finish(), work.finish(curve)
    reference = fsc(plain, truth, mask)
    expected = reference**2 / (2 - reference**2)  # Rosenthal & Henderson (2003): C_ref^2 = 2 FSC / (1 + FSC)
    assert float((curve - expected)[2:16].abs().mean()) < 0.05
    assert float(((filtered - truth) * mask).norm()) < float(((plain - truth) * mask).norm())


def test_empty_shells_stay_finite() -> None:
    work = Reconstructor(16, 2.0)
    work.insert(torch.zeros(1, 16, 16), torch.eye(3)[None])
    assert torch.equal(work.finish(), torch.zeros(16, 16, 16))
    assert all(math.isfinite(float(volume.sum())) for volume in work.half_maps())
