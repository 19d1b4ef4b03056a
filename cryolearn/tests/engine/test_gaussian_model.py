"""The Gaussian model's projections, derivatives, slices and sums, against independent computations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.gaussian.linear.eigen_motions import principal_components
from cryolearn.engine.gaussian.model.fourier_particles import Batch, GaussianImages, band_between
from cryolearn.engine.gaussian.model.gain_and_noise import calibrate
from cryolearn.engine.gaussian.model.image_scores import frc_score, likelihood_score
from cryolearn.engine.gaussian.model.projection import Gaussians, project
from cryolearn.engine.gaussian.model.slices import SliceGrid, VolumeSums, envelope
from cryolearn.engine.imaging.fourier import rfft2_centred
from cryolearn.engine.imaging.gaussians import render_gaussians_2d
from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.io.star import CtfTable

BAND = band_between(64, 4.0, 25.0, 200.0)


def some_model(count: int = 15, dtype: torch.dtype = torch.float64) -> Gaussians:
    random = torch.Generator().manual_seed(2)
    return Gaussians(torch.randn(count, 3, generator=random, dtype=dtype) * 25, torch.rand(count, generator=random, dtype=dtype) + 0.5,
                     5 + 3 * torch.rand(count, generator=random, dtype=dtype))


def some_batch(count: int = 3) -> Batch:
    random = torch.Generator().manual_seed(3)
    data = torch.randn(count, len(BAND), generator=random, dtype=torch.complex128) * 3
    return Batch(
        rows=np.arange(count), data=data, transfer=torch.randn(count, len(BAND), generator=random, dtype=torch.float64),
        rotation=random_rotations(count, random).double())


def values_of(model: Gaussians, rotation: torch.Tensor) -> torch.Tensor:
    return project(model, rotation, BAND).values.flatten(1)[:, BAND.grid_index]


def test_projection_is_the_transform_of_the_picture() -> None:
    """Against the real-space renderer, shift included; its sampling of Gaussians of 1.2 pixels and more aliases below 1e-4."""
    model, batch = some_model(), some_batch()
    shift = torch.tensor([[3.0, -7.0], [0.0, 2.5], [-11.0, 4.0]], dtype=torch.float64)
    seen = (model.positions_angst @ batch.rotation.transpose(1, 2))[..., :2] + shift[:, None]
    picture = render_gaussians_2d(seen, model.amplitudes * 4.0**2, model.sigma_angst, 64, 4.0)
    transform = BAND.gather(rfft2_centred(picture))
    found = values_of(model, batch.rotation) * BAND.phase(shift)
    assert (found - transform).abs().max() < 1e-4 * transform.abs().max()


@pytest.mark.parametrize("score", ["frc", "likelihood"])
def test_gradients_are_finite_differences(score: str) -> None:
    model, batch = some_model(), some_batch()
    noise = torch.rand(BAND.rings, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 1

    def value(changed: Gaussians) -> torch.Tensor:
        seen = values_of(changed, batch.rotation)
        return (frc_score(seen, batch, BAND) if score == "frc" else likelihood_score(seen, batch, BAND, noise))[0]

    projection = project(model, batch.rotation, BAND)
    seen = projection.values.flatten(1)[:, BAND.grid_index]
    direction = (frc_score(seen, batch, BAND) if score == "frc" else likelihood_score(seen, batch, BAND, noise))[1]
    by_place, by_amplitude = projection.gradients(BAND.on_grid(direction))
    by_place = by_place @ batch.rotation[:, :2]
    step = 1e-4
    for number, axis in ((0, 0), (7, 1), (14, 2)):
        push = torch.zeros(len(model), 3, dtype=torch.float64)
        push[number, axis] = step
        slope = (value(model.moved(push)) - value(model.moved(-push))) / (2 * step)
        assert torch.allclose(slope, by_place[:, number, axis], rtol=1e-6, atol=1e-6 * float(by_place.abs().max()))
        bump = push[:, axis]
        high, low = (value(replace(model, amplitudes=model.amplitudes + sign * bump)) for sign in (1, -1))
        assert torch.allclose((high - low) / (2 * step), by_amplitude[:, number], rtol=1e-6, atol=1e-6 * float(by_amplitude.abs().max()))


def test_slices_are_projections() -> None:
    """Trilinear slices on the twofold finer grid, corrected for their fading, against the exact projection.

    For density within a quarter of the box the error of the interpolation, after the correction, is below one part in a hundred of the power.
    """
    model, rotation = some_model(dtype=torch.float32), random_rotations(6, torch.Generator().manual_seed(5))
    grid = SliceGrid(BAND)
    fade = envelope(model.positions_angst, BAND)
    volume = grid.volumes(model.positions_angst[None], (model.amplitudes / fade)[None], model.sigma_angst)
    parts = volume.flatten(1).T
    corners = grid.corners(rotation)
    found = grid.sample(torch.cat((parts.real, parts.imag), 1).contiguous(), corners)
    found = torch.complex(found[..., 0], found[..., 1] * corners.sign)
    exact = values_of(model, rotation)
    assert (found - exact).abs().square().sum() < 0.01 * exact.abs().square().sum()


@pytest.mark.parametrize("limit", [0, 1000])
def test_sums_are_the_adjoint_of_slices(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """<sample(V), y> = <V, add(y)> for every volume and weight, by both ways to add."""
    monkeypatch.setattr("cryolearn.engine.gaussian.model.slices._SPARSE_BELOW", limit)
    grid, random = SliceGrid(BAND), torch.Generator().manual_seed(6)
    rotation = random_rotations(4, random)
    corners = grid.corners(rotation)
    table = torch.randn(grid.size, 4, generator=random)
    signal = torch.randn(4, len(BAND), generator=random, dtype=torch.complex64)
    power, weight = torch.rand(4, len(BAND), generator=random), torch.rand(4, 2, generator=random)
    sums = VolumeSums(grid, 2, 2, torch.device("cpu"))
    sums.add(corners, signal, power, weight)
    slices = grid.sample(table, corners)
    for volume in range(2):
        sampled = torch.complex(slices[..., volume], slices[..., 2 + volume] * corners.sign)
        left = (sampled.conj() * signal).real.sum(1) @ weight[:, volume]
        right = (table[:, volume] * sums.signal[volume].real.flatten() + table[:, 2 + volume] * sums.signal[volume].imag.flatten()).sum()
        assert left == pytest.approx(float(right), rel=1e-3)
        ones = grid.sample(torch.ones(grid.size, 1), corners)[..., 0]
        assert float((ones * power).sum(1) @ weight[:, volume]) == pytest.approx(float(sums.power[volume].sum()), rel=1e-4)


def test_misfit_is_its_formula_and_its_gradient() -> None:
    grid, random = SliceGrid(band_between(64, 4.0, 40.0, 200.0)), torch.Generator().manual_seed(7)
    signal = torch.randn(3, *grid.shape, generator=random, dtype=torch.complex128)
    power = torch.rand(3, *grid.shape, generator=random, dtype=torch.float64)
    places = (torch.randn(3, 6, 3, generator=random, dtype=torch.float64) * 20).requires_grad_()
    amplitudes = torch.rand(3, 6, generator=random, dtype=torch.float64).requires_grad_()
    widths = torch.full((6,), 7.0, dtype=torch.float64)
    volume = grid.volumes(places, amplitudes, widths)
    direct = (power * volume.abs().square() - 2 * (signal.conj() * volume).real).sum()
    direct.backward()
    value, by_place, by_amplitude = grid.misfit(places.detach(), amplitudes.detach(), widths, signal, power)
    assert value == pytest.approx(float(direct.detach()), rel=1e-9)
    assert places.grad is not None and amplitudes.grad is not None
    assert torch.allclose(by_place, places.grad, rtol=1e-8, atol=1e-8 * float(places.grad.abs().max()))
    assert torch.allclose(by_amplitude, amplitudes.grad, rtol=1e-8, atol=1e-8 * float(amplitudes.grad.abs().max()))


@pytest.mark.parametrize("limit", [3000, 10])
def test_streamed_components_are_those_of_the_whole_matrix(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways, the covariance and the range finder, on vectors with three clear directions."""
    monkeypatch.setattr("cryolearn.engine.gaussian.linear.eigen_motions._LARGEST_COVARIANCE", limit)
    random = np.random.default_rng(1)
    vectors = random.normal(size=(400, 3)) * [9, 6, 4] @ random.normal(size=(3, 50)) + random.normal(size=(400, 50)) + 5
    held = torch.from_numpy(vectors).float()

    def stream():
        for start in range(0, 400, 37):
            rows = np.arange(start, min(start + 37, 400))
            yield rows, torch.zeros(len(rows)), held[rows]

    mean, axes, variance, total, spread = principal_components(stream, 50, 400, 3, 1)
    centred = vectors - vectors.mean(0)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(mean, vectors.mean(0), atol=1e-3)
    assert np.allclose(variance, singular[:3] ** 2 / 400, rtol=1e-3)
    assert np.abs((axes.numpy() * right[:3]).sum(1)) == pytest.approx(1, abs=1e-3)
    assert float(total) == pytest.approx(centred.var(0).sum(), rel=1e-3)
    assert np.allclose(spread, centred.var(0), rtol=1e-3)


def test_band_refuses_what_images_do_not_hold() -> None:
    with pytest.raises(InputError, match="finer than the images hold"):
        band_between(64, 4.0, 7.0, 200.0)
    with pytest.raises(InputError, match="fewer than three rings"):
        band_between(64, 4.0, 150.0, 200.0)


def test_noise_that_passes_the_ctf_is_told_from_the_cameras() -> None:
    """Two kinds of noise: after whitening all images have that of a zero of the CTF, whatever their CTF is at a ring."""
    made = torch.Generator().manual_seed(3)
    band = band_between(32, 4.0, 16.0, 80.0)
    model = Gaussians(20 * torch.randn(12, 3, generator=made), torch.ones(12), torch.full((12,), 6.0))
    count, even, passed = 800, 2.0, 5.0
    rotation = random_rotations(count, made).float()
    defocus = np.linspace(5000.0, 25000.0, count)
    ctf = CtfTable(defocus, defocus, *(np.full(count, value) for value in (0.0, 0.0, 300.0, 2.7, 0.1)))
    ones = torch.ones(band.rings)
    images = GaussianImages(
        band=band, transforms=np.empty((count, len(band)), np.complex64), rotation=rotation, shift_angst=torch.zeros(count, 2), ctf=ctf,
        phase_flipped=False, device=torch.device("cpu"), gain=ones, noise_power=ones)
    transfer = images.transfer(np.arange(count))
    noise = torch.view_as_complex(torch.randn(count, len(band), 2, generator=made)) * ((even + passed * transfer.square()) / 2).sqrt()
    images.transforms = (transfer * project(model, rotation, band).values.flatten(1)[:, band.grid_index] + noise).numpy()
    found = calibrate(images, model)
    assert found.ctf_noise is not None
    points = count * band.ring_sum(torch.ones(len(band)))
    error = 8 * (even + passed) / points.sqrt()  # of a line through that many squares, with room for the spread of CTF^2
    assert (torch.abs(found.noise_power - even) < error).all()
    assert (torch.abs(found.noise_power * found.ctf_noise - passed) < 3 * error).all()
    for batch in found.batches():
        left = batch.data - batch.transfer * project(model, batch.rotation, band).values.flatten(1)[:, band.grid_index]
        high, low = (float(left[chosen].abs().square().mean()) for chosen in (transfer[batch.rows].abs() > 0.8, transfer[batch.rows].abs() < 0.3))
        assert abs(high / low - 1) < 0.15
    coarse = found.coarser(40.0)
    assert coarse.ctf_noise is not None and len(coarse.ctf_noise) == coarse.band.rings
    assert calibrate(replace(images, ctf=None), model).ctf_noise is None
