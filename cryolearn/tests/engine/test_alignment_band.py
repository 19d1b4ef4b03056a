"""The Fourier band of images and volumes: each frequency once, sorted, and moved by the sign convention of the imaging package."""

from __future__ import annotations

import pytest
import torch

from cryolearn.engine.alignment.fourier_band import FourierBand
from cryolearn.engine.imaging.fourier import phase_shift, rfftn_centred


@pytest.mark.parametrize(("dims", "box"), [(2, 24), (2, 25), (3, 12), (3, 13)])
def test_a_band_holds_each_frequency_once(dims: int, box: int) -> None:
    """Parseval: what the band holds, twice, is the energy of the image or volume between its radii."""
    images = torch.randn(*[box] * dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    band = FourierBand.up_to(box, 4.3, dims)
    full = torch.fft.fftn(images).abs().square()
    axes = torch.meshgrid(*[torch.fft.fftfreq(box, 1 / box)] * dims, indexing="ij")
    squared = torch.stack(axes).square().sum(0)
    inside = (squared > 0.1) & (squared <= 4.3**2)
    assert 2 * len(band) == int(inside.sum())
    assert 2 * float(band.gather(rfftn_centred(images, dims)).abs().square().sum()) == pytest.approx(float(full[inside].sum()), rel=1e-9)
    assert len(torch.unique(torch.cat((band.points, -band.points)), dim=0)) == 2 * len(band)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_narrower_band_is_the_first_part_of_a_wider_one(dims: int) -> None:
    band = FourierBand.up_to(20, 7.3, dims)
    for radius in (2.3, 4.6, 5.8, 6.4, 7.0):
        part = band.within(radius)
        assert torch.equal(part.index, FourierBand.up_to(20, radius, dims).index) and torch.equal(part.index, band.index[: len(part)])
        assert len(band.within(part.radius_px)) == len(part)  # a band's own radius gives itself
    assert FourierBand.up_to(20, 100.0, dims).radius_px <= 9.5  # below Nyquist
    whole = FourierBand.up_to(20, 5.5, dims, lowest=0)
    assert not whole.points[0].any() and torch.equal(whole.points[1:], FourierBand.up_to(20, 5.5, dims).points)
    assert FourierBand.up_to(20, 5.5, dims, lowest=3).ring.unique().tolist() == [3, 4, 5]


def test_phases_move_images_forward() -> None:
    """The convention of imaging.fourier.phase_shift, in the unit of the band's length: the content moves towards larger x and y."""
    band = FourierBand.up_to(16, 6.5, length=16 * 2.5)
    shift = torch.tensor([[3.0, -2.0], [0.5, 1.25]])
    assert torch.allclose(band.phase(shift), band.gather(phase_shift(shift / 2.5, 16)), atol=1e-5)
    spot = torch.zeros(16, 16)
    spot[8, 8] = 1.0
    moved = band.gather(rfftn_centred(torch.roll(spot, (-2, 3), (0, 1)), 2))  # y, x
    assert torch.allclose(band.gather(rfftn_centred(spot, 2)) * FourierBand.up_to(16, 6.5).phase(torch.tensor([3.0, -2.0])), moved, atol=1e-5)
    at = torch.randn(4, len(band), 2, generator=torch.Generator().manual_seed(0))
    other = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(band.phase_at(at, other), torch.exp(-2j * torch.pi / 40.0 * (at * other[:, None]).sum(-1)), atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_friedel_mates_complete_the_half_transform(dims: int) -> None:
    """A band, put on the half transform with its mates, is the low-passed transform."""
    box = 10
    transform = rfftn_centred(torch.randn(*[box] * dims, generator=torch.Generator().manual_seed(0)), dims)
    band = FourierBand.up_to(box, 4.0, dims)
    values, flat = band.gather(transform), torch.zeros(transform.numel(), dtype=transform.dtype)
    own, mates = band.mates
    flat[band.index], flat[mates] = values, values[own].conj()
    axes = torch.meshgrid(*[torch.fft.fftfreq(box, 1 / box)] * (dims - 1), torch.arange(box // 2 + 1.0), indexing="ij")
    squared = torch.stack(axes).square().sum(0)
    assert torch.allclose(flat.view_as(transform), transform * ((squared > 0) & (squared <= 16)), atol=1e-5)


def test_rings_are_nearest_radii() -> None:
    band = FourierBand.up_to(20, 6.5, lowest=2)
    assert torch.equal(band.ring, band.points.norm(dim=1).round().long()) and band.rings == 5
    curve = torch.arange(5.0) + 1
    assert torch.allclose(band.ring_mean(band.per_point(curve)), curve)
    assert torch.equal(band.ring_sum(torch.ones(3, len(band)))[1], torch.bincount(band.ring)[2:].float())
    values = torch.randn(2, len(band), generator=torch.Generator().manual_seed(0))
    grid = band.on_grid(values)
    assert grid.shape == (2, 13, 7) and torch.equal(grid.flatten(1)[:, band.grid_index], values)
    assert grid[0, 6 + 3, 2] == values[0, (band.kx == 2) & (band.ky == 3)]
