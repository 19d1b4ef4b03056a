"""The metric of the gradients, the scan along a motion, and the M-step's parameters, against exact answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cryolearn.engine.alignment.fourier_band import FourierBand
from cryolearn.engine.gaussian.linear.fisher_information import fisher_metric, settled
from cryolearn.engine.gaussian.linear.gradients import GradientSource
from cryolearn.engine.gaussian.linear.line_search import scan_motion
from cryolearn.engine.gaussian.model.anchored_motion import AnchoredMotion
from cryolearn.engine.gaussian.model.fourier_particles import GaussianImages, band_between
from cryolearn.engine.gaussian.model.m_step_parameters import FreeParameters
from cryolearn.engine.gaussian.model.projection import Gaussians, project
from cryolearn.engine.imaging.poses import random_rotations

BOX, PIXEL, RESOLUTION, NOISE = 32, 5.0, 25.0, 4.0


def blobs(count: int = 12) -> Gaussians:
    made = torch.Generator().manual_seed(1)
    return Gaussians(torch.randn(count, 3, generator=made) * 20, 5 + torch.rand(count, generator=made), torch.full((count,), 8.0))


def motion_of(model: Gaussians, bend: torch.Tensor, change: torch.Tensor, moves_places: bool = True) -> AnchoredMotion:
    """Of as many anchors as ``bend`` and ``change`` have rows, the first Gaussians, each with its own."""
    return AnchoredMotion(base=model, spread=torch.eye(len(model), len(change)), bend=bend, change=change, moves_places=moves_places, moves_amplitudes=True)


def values_of(model: Gaussians, rotation: torch.Tensor, band: FourierBand) -> torch.Tensor:
    return project(model, rotation, band).values.flatten(1)[:, band.grid_index]


def images_of(model: Gaussians, count: int, noise: float) -> GaussianImages:
    """Images of one model or of (count, M, 3) conformations, without CTF; ``noise`` is the variance of a coefficient."""
    made = torch.Generator().manual_seed(2)
    band, rotation = band_between(BOX, PIXEL, RESOLUTION, 160.0), random_rotations(count, made)
    values = values_of(model, rotation, band)
    values = values + math.sqrt(noise / 2) * torch.view_as_complex(torch.randn(*values.shape, 2, generator=made))
    return GaussianImages(
        band=band, transforms=values.numpy(), rotation=rotation, shift_angst=torch.zeros(count, 2), ctf=None, phase_flipped=False, device=torch.device("cpu"),
        gain=torch.ones(band.rings), noise_power=torch.full((band.rings,), NOISE))


@pytest.mark.parametrize("kind", ["position", "amplitude"])
def test_the_metric_is_the_fisher_information(kind: str) -> None:
    """``L L^T`` is ``2 Re D^H D / noise`` averaged over views, D the derivatives of projections (finite differences), and a twentieth of its mean diagonal."""
    model, images = blobs(6), images_of(blobs(6), 8, NOISE)
    found = fisher_metric(GradientSource(images, model, kind=kind, score="likelihood"))
    lower = torch.linalg.inv(found.inverse.double())
    columns = []
    step = 1e-3
    double = Gaussians(model.positions_angst.double(), model.amplitudes.double(), model.sigma_angst.double())
    rotation = images.rotation.double()
    for index in range(18 if kind == "position" else 6):
        ends = []
        for sign in (1, -1):
            places, amplitudes = double.positions_angst.clone(), double.amplitudes.clone()
            if kind == "position":
                places.view(-1)[index] += sign * step
            else:
                amplitudes[index] *= 1 + sign * step
            ends.append(values_of(Gaussians(places, amplitudes, double.sigma_angst), rotation, images.band))
        columns.append(((ends[0] - ends[1]) / (2 * step)).flatten())
    derivatives = torch.stack(columns)
    information = 2 * (derivatives.conj() @ derivatives.T).real / NOISE / len(images)
    information.diagonal().add_(0.05 * information.diagonal().mean())
    torch.testing.assert_close(lower @ lower.T, information, rtol=1e-3, atol=1e-4 * float(information.diagonal().max()))


def test_noise_is_the_same_in_every_direction_of_the_metric() -> None:
    """Gradients of images that hold the model and noise only, whitened, have covariance 1, less the regularisation along directions that images hardly see."""
    model, count = blobs(), 3000
    source = GradientSource(images_of(model, count, NOISE), model, score="likelihood")
    metric = fisher_metric(source)
    gradients = torch.cat([vectors for _, _, vectors in source.vectors(plain=True)])
    white = metric.whiten(gradients).double()
    values = torch.linalg.eigvalsh(white.T @ white / count)
    # eigenvalues of a sample's covariance end at (1 + sqrt(size / count))^2 (Marchenko and Pastur); 0.1: views of a tenth of the images make the metric
    assert float(values.max()) < (1 + math.sqrt(source.size / count)) ** 2 + 0.1
    assert float(values.mean()) > 0.7
    unit = metric.displacements(torch.eye(source.size)[:3])
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(3))


def test_a_settled_motion_moves_the_arm_only() -> None:
    """A third of the Gaussians moves; with a rotation and a translation of the whole added, the same motion comes back."""
    places = blobs(60).positions_angst
    arm = torch.arange(60) < 20
    motion = torch.where(arm[:, None], torch.tensor([0.0, 1.0, 0.5]), torch.tensor(0.0))
    rigid = torch.linalg.cross(torch.tensor([0.02, -0.01, 0.015]).expand_as(places), places) + torch.tensor([0.3, -0.2, 0.1])
    torch.testing.assert_close(settled(motion + rigid, places), motion, atol=0.02, rtol=0)


def test_the_scan_finds_the_place_with_its_error() -> None:
    """Places along a known motion: errors are those of the Cramér-Rao bound, noise's variance over ``2 |dF/dc|^2``, and the error bars say so."""
    count = 200
    model = blobs()
    motion = torch.zeros(12, 3)
    motion[:4, 1] = 1.0
    true = (torch.rand(count, generator=torch.Generator().manual_seed(3)) * 2 - 1) * 12
    images = images_of(model.moved(true[:, None, None] * motion), count, NOISE)
    found = scan_motion(GradientSource(images, model, score="likelihood"), motion)
    ends = [values_of(model.moved((true + shift)[:, None, None] * motion), images.rotation, images.band) for shift in (0.05, -0.05)]
    bound = (NOISE / 2 / ((ends[0] - ends[1]) / 0.1).abs().square().sum(1)).sqrt().numpy()
    sees = bound < 3  # others look along the motion: there the likelihood is no parabola
    assert sees.mean() > 0.5
    pull = (found.place - true.numpy())[sees] / bound[sees]
    assert abs(pull.mean()) < 4 / np.sqrt(sees.sum())
    assert abs(np.square(pull).mean() - 1) < 4 * np.sqrt(2 / sees.sum()) + 0.1
    assert abs(np.median(found.error[sees] / bound[sees]) - 1) < 0.1
    assert not found.at_end[sees].any()
    gained = found.log_likelihood - found.rigid
    assert gained[np.abs(true.numpy()) > 4 * bound].min() > 0


def test_the_m_step_weighs_data_and_priors() -> None:
    """A quadratic misfit ``a (x - t)^2 / 2`` beside a normal prior of deviation s has its least value at ``t a / (a + s^-2)``."""
    model = blobs(5)
    free = FreeParameters(motion_of(model, torch.zeros(3, 3), torch.zeros(3)), bend_unit_angst=2.0)
    target = {"bend": torch.randn(3, 3, generator=torch.Generator().manual_seed(1)) * 10, "change": torch.tensor([0.5, -0.2, 0.1])}
    moved = model.positions_angst + torch.tensor([1.0, -2.0, 0.5])

    def objective() -> float:
        misfit = 0.01 * (free.bend() - target["bend"]).square().sum() + 3.0 * (free.change() - target["change"]).square().sum()
        misfit = misfit + 0.5 * (free.base().positions_angst - moved).square().sum()
        loss = misfit / 2 + free.penalty()
        loss.backward()
        return float(loss.detach())

    base, found_bend, found_change = free.minimise(objective, 60)
    torch.testing.assert_close(found_bend, target["bend"] * 0.01 / (0.01 + 20.0**-2), atol=1e-3, rtol=0)
    torch.testing.assert_close(found_change, target["change"] * 3.0 / (3.0 + 1.0), atol=1e-4, rtol=0)
    expected = model.positions_angst + (moved - model.positions_angst) * 0.5 / (0.5 + 2.0**-2)
    torch.testing.assert_close(base.positions_angst, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(base.amplitudes, model.amplitudes, rtol=1e-4, atol=0)


def test_parameters_that_are_not_free_stay() -> None:
    model = blobs(4)
    free = FreeParameters(motion_of(model, torch.ones(2, 3), torch.ones(2), moves_places=False), bend_unit_angst=2.0)

    def objective() -> float:
        loss = (free.change() - 2).square().sum() + free.bend().square().sum()
        loss.backward()
        return float(loss.detach())

    base, bend, change = free.minimise(objective, 20)
    assert torch.equal(base.positions_angst, model.positions_angst) and torch.equal(bend, torch.ones(2, 3))
    torch.testing.assert_close(change, torch.full((2,), 2.0), atol=1e-4, rtol=0)
