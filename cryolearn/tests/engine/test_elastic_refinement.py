"""The parts of elastic alignment one by one: derivatives and steps of the refinement, the template bank, and the calibration of noise and gain."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.batches import BatchPlan
from cryolearn.engine.elastic.alignment.aligner import ElasticAligner, radial_gain
from cryolearn.engine.elastic.alignment.forward_model import RIGID, ForwardModel, band_to
from cryolearn.engine.elastic.alignment.global_search import TemplateBank, conformer_grid, search_band
from cryolearn.engine.elastic.alignment.levenberg_marquardt import ElasticPose, Observed, Refined, _linearise, refine
from cryolearn.engine.elastic.alignment.noise_and_gain import calibrate, flat_model
from cryolearn.engine.elastic.alignment.tilt_particles import TiltGroups
from cryolearn.engine.elastic.modes.deformable_reference import ElasticReference
from cryolearn.engine.imaging.ctf import Ctf
from cryolearn.engine.imaging.fourier import rfft2_centred
from cryolearn.engine.imaging.gaussians import render_gaussians_2d
from cryolearn.engine.imaging.poses import angle_between_deg, matrix_to_euler, random_rotations, rotation_z, so3_exp
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star import ParticleTable
from cryolearn.engine.training.particle_images import ParticleImages

BOX, PIXEL, ATOMS, MODES = 48, 2.5, 200, 2
SIZE = RIGID + MODES


def reference(dtype: torch.dtype = torch.float64) -> ElasticReference:
    """Random Gaussians within 25 Å and two random modes, without symmetry."""
    made = torch.Generator().manual_seed(3)
    places = torch.randn(ATOMS, 3, generator=made, dtype=torch.float64) * torch.tensor([8.0, 11.0, 14.0], dtype=torch.float64)
    modes = torch.randn(MODES, ATOMS, 3, generator=made, dtype=torch.float64)
    modes = modes / modes.norm(dim=(1, 2), keepdim=True)
    weights = 0.5 + torch.rand(ATOMS, generator=made, dtype=torch.float64)
    return ElasticReference(*(item.to(dtype) for item in (places, modes, weights, torch.full((ATOMS,), 2.0))), n_atoms=ATOMS)


def forward(dtype: torch.dtype = torch.float64) -> ForwardModel:
    return ForwardModel(reference(dtype), band_to(BOX, PIXEL, 7.0), amplitude_range=40.0)


def truth(count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rotations, shifts in Å and amplitudes of ``count`` images."""
    made = torch.Generator().manual_seed(seed)
    rotation = random_rotations(count, made).double()
    shift = 8 * torch.rand(count, 2, generator=made, dtype=torch.float64) - 4
    return rotation, shift, 60 * torch.rand(count, MODES, generator=made, dtype=torch.float64) - 30


def observed(model: ForwardModel, pose: tuple[torch.Tensor, torch.Tensor, torch.Tensor], scale: float, noise: float = 0.0) -> Observed:
    """Whitened samples behind a transfer that changes its sign; ``noise`` is the deviation of each real and imaginary part."""
    rotation, shift, amplitudes = pose
    transfer = torch.cos(0.15 * model.band.ring.double()).expand(len(rotation), -1).clone()
    data = scale * model.project(rotation, amplitudes) * transfer * model.band.phase(shift)
    random = torch.randn(*data.shape, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return Observed(data + noise * torch.view_as_complex(random), transfer)


def disturbed(pose: tuple[torch.Tensor, torch.Tensor, torch.Tensor], angle_deg: float, shift_angst: float, amplitude: float) -> list[torch.Tensor]:
    """Poses a known way off, each in a direction of its own."""
    made = torch.Generator().manual_seed(7)
    rotation, shift, amplitudes = pose
    sizes = 3, shift.shape[1], MODES
    axis, way, along = (torch.nn.functional.normalize(torch.randn(len(rotation), n, generator=made, dtype=torch.float64), dim=1) for n in sizes)
    return [so3_exp(axis * math.radians(angle_deg)) @ rotation, shift + shift_angst * way, amplitudes + amplitude * along]


def pose_of(parts: list[torch.Tensor]) -> ElasticPose:
    return ElasticPose(rotation=parts[0], shift_angst=parts[1], amplitudes=parts[2])


def tilted(model: ForwardModel, count: int, scale: float, noise: float = 0.0) -> tuple[Observed, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Tilt images, 3, 4, 5 ... of each of ``count`` particles, and the particles' poses with shifts in 3D."""
    member = torch.repeat_interleave(torch.arange(count), torch.arange(count) + 3)
    made = torch.Generator().manual_seed(9)
    tilts = TiltGroups(matrix=random_rotations(len(member), made).double(), member=member, count=count)
    rotation, _, amplitudes = truth(count)
    shift = 8 * torch.rand(count, 3, generator=made, dtype=torch.float64) - 4
    images = observed(model, (*tilts.seen(rotation, shift), amplitudes[member]), scale, noise)
    return Observed(images.data, images.transfer, tilts), (rotation, shift, amplitudes)


@pytest.mark.parametrize("rigid", [RIGID, 6], ids=["images", "tilt series"])
def test_the_gradient_of_the_misfit_matches_finite_differences(rigid: int) -> None:
    """With the contrast solved at each point, also of noisy images away from the solution: ``d|r|^2 = -2 J r``."""
    model, pose = forward(), truth(3)
    images = observed(model, pose, 1.7, 20.0)
    if rigid == 6:
        images, pose = tilted(model, 3, 1.7, 20.0)
    at = disturbed(pose, 5.0, 2.0, 20.0)
    point = _linearise(model, images, *at)
    found = -2 * point.gradient
    assert float((point.scale - 1.7).abs().min()) > 1e-3  # not the trivial contrast
    for index in range(rigid + MODES):
        size = 1e-2 if index >= rigid else 1e-5 if index < 3 else 1e-3
        ends = []
        for sign in (1, -1):
            step = torch.zeros(3, rigid + MODES, dtype=torch.float64)
            step[:, index] = sign * size
            ends.append(_linearise(model, images, so3_exp(step[:, :3]) @ at[0], at[1] + step[:, 3:rigid], at[2] + step[:, rigid:]).cost)
        difference = (ends[0] - ends[1]) / (2 * size)
        # the window's aliases, 0.04 % of the signal at the band's edge, are in both up to their own derivative
        torch.testing.assert_close(found[:, index], difference, rtol=2e-3, atol=2e-3 * float(difference.abs().max()))


def test_pose_and_conformer_come_back_from_a_known_start() -> None:
    """Noise-free images, 8 degrees, 3 Å and 2 Å RMSD off: the exact solution, with the contrast."""
    model, pose = forward(), truth(6)
    start = disturbed(pose, 8.0, 3.0, 2.0 * math.sqrt(ATOMS))
    found = refine(model, observed(model, pose, 1.7), torch.arange(6), pose_of(start), iterations=25)
    assert float(angle_between_deg(found.rotation, pose[0]).max()) < 0.01
    assert float((found.shift_angst - pose[1]).norm(dim=1).max()) < 1e-3
    assert float((found.amplitudes - pose[2]).norm(dim=1).max()) / math.sqrt(ATOMS) < 1e-3
    torch.testing.assert_close(found.scale, torch.full_like(found.scale, 1.7), rtol=1e-4, atol=0)
    assert float(found.correlation.min()) > 1 - 1e-6 and bool(found.converged.all())


def test_tilt_images_of_a_particle_give_one_pose_and_conformer() -> None:
    """Noise-free tilt images of particles 8 degrees, 3 Å and 2 Å RMSD off: one pose, 3D shift and conformer each, in any order of the particles."""
    model = forward()
    images, pose = tilted(model, 4, 1.7)
    order = torch.tensor([2, 0, 3, 1, 2])
    wanted = tuple(part[order] for part in pose)
    two = BatchPlan("images", 10, 1)  # two particles at a time
    found = refine(model, images, order, pose_of(disturbed(wanted, 8.0, 3.0, 2.0 * math.sqrt(ATOMS))), iterations=25, plan=two)
    assert float(angle_between_deg(found.rotation, wanted[0]).max()) < 0.01
    assert float((found.shift_angst - wanted[1]).norm(dim=1).max()) < 1e-3
    assert float((found.amplitudes - wanted[2]).norm(dim=1).max()) / math.sqrt(ATOMS) < 1e-3
    assert found.covariance.shape == (5, 6 + MODES, 6 + MODES) and float(found.correlation.min()) > 1 - 1e-6


def test_the_covariance_is_that_of_the_errors() -> None:
    """Under white noise ``e^T C^-1 e`` is chi-squared with as many degrees of freedom as parameters; its mean over n images is held to four standard errors."""
    count = 60
    model, pose = forward(), truth(count, 2)
    data = observed(model, pose, 1.0, float(model.project(pose[0], pose[2]).abs().square().mean().sqrt()) / 2)
    noise = float((data.data - observed(model, pose, 1.0).data).real.std())
    images = Observed(data.data / noise, data.transfer / noise)
    found = refine(model, images, torch.arange(count), pose_of(disturbed(pose, 1.0, 0.5, 5.0)), iterations=8)
    turn = found.rotation @ pose[0].transpose(1, 2)
    vector = torch.stack([turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], 1) / 2  # of a small rotation
    error = torch.cat([vector, found.shift_angst - pose[1], found.amplitudes - pose[2]], 1)
    pull = (error[:, None] @ torch.linalg.solve(found.covariance, error[..., None]))[:, 0, 0]
    assert abs(float(pull.mean()) - SIZE) < 4 * math.sqrt(2 * SIZE / count)
    free = 2 * len(model.band) - SIZE - 1  # the contrast is fitted too
    assert abs(float(found.cost.mean()) - free) < 4 * math.sqrt(2 * free / count)


def test_the_template_bank_finds_what_is_on_its_grids() -> None:
    """Of an image that is one of the templates, turned in plane and shifted by the grids' steps, the matched filter is largest there (Cauchy-Schwarz)."""
    band = search_band(BOX, PIXEL, 4.0, "cpu")
    model = ForwardModel(reference(torch.float32), band, amplitude_range=40.0)
    shifts = torch.cartesian_prod(torch.tensor([-5.0, 0.0, 5.0]), torch.tensor([-5.0, 0.0, 5.0]))
    bank = TemplateBank(model, views=150, conformers=conformer_grid(MODES, 2, 60.0), sample_angst=4.0, shifts=shifts)
    assert len(bank.conformers) == 4 and torch.equal(bank.conformers.abs(), torch.full((4, 2), 30.0))
    made = torch.Generator().manual_seed(11)
    view, angle, shift, conformer = (torch.randint(n, (10,), generator=made) for n in (len(bank.views), len(bank.angles_deg), 9, 4))
    rotation = rotation_z(bank.angles_deg[angle]) @ bank.views[view]
    images = observed(model, (rotation, shifts[shift], bank.conformers[conformer]), 1.0)
    found = bank.search(Observed(images.data.to(torch.complex64), images.transfer.float()), keep=3)
    assert found.rotation.shape == (10, 3, 3, 3) and bool((found.score[:, :-1] >= found.score[:, 1:]).all())
    torch.testing.assert_close(found.rotation[:, 0], rotation, atol=1e-4, rtol=0)
    assert torch.equal(found.shift_angst[:, 0], shifts[shift])
    assert torch.equal(found.amplitudes[:, 0], bank.conformers[conformer])


def solved(rotation: torch.Tensor, shift: torch.Tensor, amplitudes: torch.Tensor) -> Refined:
    """Known poses and conformers as the result of a refinement, in contrast 1."""
    count = len(rotation)
    return Refined(rotation=rotation, shift_angst=shift, amplitudes=amplitudes, cost=torch.zeros(count), correlation=torch.ones(count),
                   scale=torch.ones(count), covariance=torch.eye(SIZE).expand(count, -1, -1), converged=torch.ones(count, dtype=torch.bool))


def within_smoothing(found: torch.Tensor, gain: torch.Tensor, rings: range, slack: float) -> bool:
    """Whether each value lies, but for a relative ``slack``, where a falling gain is within four rings: two standard deviations of the smoothing."""
    return all(float(gain[ring + 4]) * (1 - slack) <= float(found[ring]) <= float(gain[max(0, ring - 4)]) * (1 + slack) for ring in rings)


def test_a_radial_gain_is_recovered() -> None:
    """Images with a gain by rings, poses known: exact where it is flat, and within what the smoothing blurs where it falls."""
    model = forward(torch.float32)
    pose = tuple(item.float() for item in truth(8))
    plain = observed(model, pose, 1.0)  # type: ignore[arg-type]
    ring = torch.arange(BOX // 2 + 5)
    for gain in (torch.full((len(ring),), 0.6), 1 - 0.03 * ring):
        data = Observed((plain.data / plain.transfer).to(torch.complex64) * gain[model.band.ring], torch.ones_like(plain.transfer).float())
        found = radial_gain(model, data, solved(*pose), BOX)
        assert within_smoothing(found, gain, range(1, model.band.radius + 1), 1e-4)


def test_calibration_finds_noise_and_gain_of_a_set(tmp_path: Path) -> None:
    """White noise of deviation 1, and images that fall off with exp(-2 pi^2 s^2 k^2), s of 3 Å; the true poses as solution."""
    count, blur, level = 40, 3.0, 2.0
    model = reference(torch.float32)
    rotation, shift, amplitudes = (item.float() for item in truth(count, 4))
    seen = (model.positions(amplitudes) @ rotation.transpose(1, 2))[..., :2] + shift[:, None]
    clean = render_gaussians_2d(seen, model.weights.expand(count, -1), math.hypot(2.0, blur), BOX, PIXEL)
    clean = clean * level / float(clean.std())
    images = clean + torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    write_stack(str(tmp_path / "particles.mrcs"), images.numpy(), PIXEL)
    table = ParticleTable(
        ids=np.arange(1, count + 1), image_file=[str(tmp_path / "particles.mrcs")], file_index=np.zeros(count, np.int64), image_index=np.arange(count),
        pixel_size_angst=PIXEL, box=BOX, angles_deg=matrix_to_euler(rotation.double()).numpy(), origin_angst=-shift.double().numpy(), ctf=None)
    stack = ParticleImages(table, 50.0, torch.device("cpu"), ignore_ctf=True)
    aligner = ElasticAligner.build(model, flat_model(stack), amplitude_range=40.0)

    def solve(_: ElasticAligner, some: torch.Tensor, __: Ctf | None, rows: np.ndarray) -> Refined:
        return solved(rotation[rows], shift[rows], amplitudes[rows])

    found = calibrate(aligner, stack, solve, rounds=1, batch=16)
    band = aligner.fine.band
    # the background is an annulus of about a third of the pixels: a ring of n of its coefficients in all images has a relative error of sqrt(2 / n)
    error = torch.sqrt(2 / (count * band.ring_sum(torch.ones(len(band))) * 2 / 3))
    assert bool(((found.noise_power[band.lowest : band.radius + 1] - 1).abs()[2:] < 4 * error[2:] + 0.02).all())
    model_values = aligner.fine.project(rotation, amplitudes) * band.phase(shift)
    true = torch.exp(-2 * math.pi**2 * blur**2 * (torch.arange(BOX // 2 + 5) / (BOX * PIXEL)) ** 2)
    expected = model_values * true[band.ring]
    scale = float((expected.conj() * band.gather(rfft2_centred(clean))).real.sum() / expected.abs().square().sum())
    assert within_smoothing(found.gain, scale * true, range(2, 14), 0.05)  # beyond, less than a tenth is left and the noise rules
