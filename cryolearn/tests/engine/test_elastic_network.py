"""The elastic networks: architecture, symmetry, frames, input, samples and losses, against theory."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cryolearn.engine.elastic.modes.deformable_reference import ElasticReference
from cryolearn.engine.elastic.network.architectures import AmplitudeResNet34, Hypotheses, MultiNetwork
from cryolearn.engine.elastic.network.labelled_particles import move_samples
from cryolearn.engine.elastic.network.losses import multi_loss, soft_cells
from cryolearn.engine.elastic.network.refine_hypotheses import distinct_hypotheses
from cryolearn.engine.elastic.network.training_simulator import BatchSimulator, DensityRenderer, Samples
from cryolearn.engine.elastic.network.training_task import weighted_amplitudes
from cryolearn.engine.imaging.ctf import Ctf, ctf_2d
from cryolearn.engine.imaging.gaussians import render_gaussians_2d
from cryolearn.engine.imaging.noise import fit_contrast
from cryolearn.engine.imaging.poses import angle_between_deg, random_rotations, rotation_z, so3_log
from cryolearn.engine.training.network_input import NetworkInput, network_size

SIZE, PIXEL = 32, 4.0


def make_reference(atoms: int = 60, modes: int = 2, sigma: float = 5.0) -> ElasticReference:
    generator = torch.Generator().manual_seed(5)
    coordinates = torch.randn(atoms, 3, generator=generator) * torch.tensor([18.0, 10.0, 6.0])
    vectors = torch.linalg.qr(torch.randn(3 * atoms, modes, generator=generator)).Q.T.reshape(modes, atoms, 3)
    return ElasticReference(coordinates - coordinates.mean(0), vectors, torch.ones(atoms), torch.full((atoms,), sigma), atoms)


def make_network(modes: int = 2, **changes) -> MultiNetwork:
    torch.manual_seed(1)
    values = dict(modes=modes, pixel_angst=PIXEL, radius_angst=44.0, centre_radius_angst=40.0, amplitude_unit=50.0, width=16)
    return MultiNetwork(**{**values, **changes}).eval()


def correlation(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = a.flatten(1) - a.flatten(1).mean(1, keepdim=True), b.flatten(1) - b.flatten(1).mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def projections(reference: ElasticReference, rotation: torch.Tensor, shift: torch.Tensor, amplitudes: torch.Tensor) -> torch.Tensor:
    """Exact projections, by the imaging room's renderer."""
    seen = reference.positions(amplitudes) @ rotation.transpose(1, 2)
    seen = seen[..., :2] + shift[:, None]
    return render_gaussians_2d(seen, reference.weights, reference.sigma_angst, SIZE, PIXEL)


def test_resnet34_has_the_published_number_of_weights() -> None:
    # He et al. 2016: 21,797,672 with 3 channels in and 1,000 classes (64 x 7 x 7 weights a channel; 512 x 1000 + 1000 of the last layer)
    body = 21_797_672 - 2 * 64 * 49 - (512 * 1000 + 1000)
    linear = (512 * 1000 + 1000) + (1000 * 512 + 512) + (512 * 128 + 128) + (128 * 3 + 3)
    norms = 2 * (1000 + 512 + 128)
    network = AmplitudeResNet34(modes=3, amplitude_unit=100.0)
    assert sum(weight.numel() for weight in network.parameters()) == body + linear + norms
    assert network(torch.randn(2, 64, 64)).shape == (2, 3)


def test_cells_are_rotations_that_cover_all_poses() -> None:
    network = make_network()
    cells = network.cells
    assert torch.allclose(cells @ cells.transpose(1, 2), torch.eye(3), atol=1e-5)
    assert torch.allclose(torch.linalg.det(cells), torch.ones(len(cells)), atol=1e-5)
    poses = random_rotations(300, torch.Generator().manual_seed(0))
    nearest = torch.stack([angle_between_deg(pose, cells).min() for pose in poses])
    # views lie a spacing apart and in-plane angles 15 degrees: no pose is farther than both half diagonals together
    assert nearest.max() < math.degrees(network.spacing_rad) * math.sqrt(0.5) + 7.5
    distinct = angle_between_deg(cells[::7][:, None], cells[::7][None]) + 999 * torch.eye(len(cells[::7]))
    assert distinct.min() > 1.0


def quarter_turn(images: torch.Tensor) -> torch.Tensor:
    """Pictures turned by 90 degrees about pixel n // 2, from x to y, exactly (row and column 0 must be empty)."""
    index = torch.arange(SIZE)
    y, x = torch.meshgrid(index, index, indexing="ij")
    turned = torch.zeros_like(images)
    # new (x, y) = (-y, x): the value at (x, y) comes from (y, -x)
    turned[:, 1:, 1:] = images[:, (SIZE - x) % SIZE, y][:, 1:, 1:]
    return turned


def test_network_commutes_with_turns_and_mirrors_of_the_picture() -> None:
    """A turn by 90 degrees moves probabilities by six in-plane angles, a mirror swaps front and behind."""
    network = make_network()
    images = torch.zeros(3, SIZE, SIZE)
    images[:, 6:27, 6:27] = torch.rand(3, 21, 21, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        features, centre = network.features(images)
        turned, turned_centre = network.features(quarter_turn(images))
        mirrored, mirrored_centre = network.features(images.flip(1).roll(1, 1))
    assert torch.allclose(turned_centre, torch.stack([-centre[:, 1], centre[:, 0]], 1), atol=1e-3)
    assert torch.allclose(mirrored_centre, centre * torch.tensor([1.0, -1.0]), atol=1e-3)
    quarter = network.turns_count // 4
    # the mirrored picture turns the other way
    expected = torch.stack([features[:, 0].roll(quarter, 1), features[:, 1].roll(-quarter, 1)], 1)
    assert torch.allclose(turned, expected, atol=1e-3)
    assert torch.allclose(mirrored, features.flip(1), atol=1e-3)
    assert (features - expected).abs().max() > 0.1  # the test would see a network that does not tell turns apart


def test_cell_frames_agree_with_projections() -> None:
    """Density projected at a cell's pose is the view's density, turned, and mirrored when it is seen from behind."""
    network, reference = make_network(), make_reference()
    cells = torch.tensor([[3, 5 * 75 + 10, 24 * 75 + 6 * 75 + 20]])
    frame, view = network._frames(cells)
    zero = torch.zeros(1, 2)
    for index in range(3):
        at_cell = projections(reference, network.cells[cells[:, index]], zero, zero)
        assert torch.allclose(frame[:, index] @ view[:, index], network.cells[cells[:, index]], atol=1e-6)
        at_view = Samples(projections(reference, view[:, index], zero, zero), view[:, index], zero, zero)
        turn = int(cells[0, index]) // 75 % 24 * 15.0
        moved = move_samples(at_view, torch.tensor([turn]), zero, PIXEL).images
        if int(cells[0, index]) >= 24 * 75:
            moved = moved.flip(1).roll(1, 1)
        assert correlation(moved, at_cell) > 0.999


def test_pose_and_shift_survive_the_cell_frame() -> None:
    network = make_network()
    generator = torch.Generator().manual_seed(4)
    rotation = random_rotations(20, generator)
    shift, centre = torch.randn(20, 2, generator=generator) * 8, torch.randn(20, 2, generator=generator)
    cells = torch.randint(len(network.cells), (20, 4), generator=generator)
    turn, offset = network.in_cell_frame(cells, rotation, shift, centre)
    with torch.no_grad():
        given = network.given_cells(torch.randn(20, 2, 24, 16), cells)
    given.turn, given.shift = so3_log(turn) / network.spacing_rad, offset
    back, back_shift = network.from_cell_frame(cells, given, centre)
    assert torch.allclose(back, rotation[:, None].expand_as(back), atol=1e-3)
    assert torch.allclose(back_shift, shift[:, None].expand_as(back_shift), atol=1e-3)


def test_centre_of_mass_finds_the_shift() -> None:
    reference, network = make_reference(), make_network()
    shift = torch.tensor([[0.0, 0.0], [9.0, -7.0], [-10.0, 3.0]])
    images = projections(reference, random_rotations(3, torch.Generator().manual_seed(1)), shift, torch.zeros(3, 2))
    # half a pixel: the rings are a pixel apart (the soft mask pulls a little towards the density's heaviest part)
    assert (network.centre(images) - shift).norm(dim=1).max() < 0.5 * PIXEL


@pytest.mark.parametrize("turn_deg", [90.0, 37.0, 251.0])
def test_labels_move_with_their_picture(turn_deg: float) -> None:
    """The picture moved by augmentation is the projection at the moved label."""
    reference = make_reference()
    generator = torch.Generator().manual_seed(8)
    rotation = random_rotations(4, generator)
    shift, amplitudes = torch.randn(4, 2, generator=generator) * 4, torch.randn(4, 2, generator=generator) * 20
    samples = Samples(projections(reference, rotation, shift, amplitudes), rotation, shift, amplitudes)
    extra = torch.tensor([[4.0, -8.0], [3.1, 2.2], [0.0, 0.0], [-7.0, 5.0]])
    moved = move_samples(samples, torch.full((4,), turn_deg), extra, PIXEL)
    again = projections(reference, moved.rotation, moved.shift_angst, moved.amplitudes)
    assert correlation(moved.images, again).min() > 0.9995
    assert torch.equal(moved.amplitudes, amplitudes)
    assert torch.allclose(moved.rotation, rotation_z(torch.tensor(turn_deg)) @ rotation, atol=1e-6)
    wrong = projections(reference, rotation, shift, amplitudes)
    assert correlation(moved.images, wrong).max() < 0.98  # an unmoved label would be seen


def test_quarter_turns_and_whole_pixels_are_exact() -> None:
    image = torch.zeros(1, SIZE, SIZE)
    image[0, 8:22, 6:25] = torch.rand(14, 19, generator=torch.Generator().manual_seed(0))
    samples = Samples(image, torch.eye(3)[None], torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    moved = move_samples(samples, torch.tensor([90.0]), torch.tensor([[2 * PIXEL, -PIXEL]]), PIXEL)
    assert torch.allclose(moved.images, quarter_turn(image).roll((-1, 2), (1, 2)), atol=1e-4)
    assert torch.allclose(moved.shift_angst, torch.tensor([[-2.0 + 8, 1.0 - 4]]), atol=1e-5)


def make_scheme(size: int, box: int, pixel: float, **changes) -> NetworkInput:
    values = dict(box=box, pixel_size_angst=pixel, size=size, signal_power=(5.0,) * (size // 2 + 1),
                  noise_power=(1.0,) * (size // 2 + 1), scale=1.0, centre_radius_angst=40.0)
    return NetworkInput(**{**values, **changes})


def test_simulated_and_real_images_reach_the_network_alike() -> None:
    """Two roads to the network's input: rendered at its pixel size, or rendered at the images' and cropped."""
    reference = make_reference(sigma=4.0)
    box, pixel, size = 64, 2.0, 32
    scheme = make_scheme(size, box, pixel)
    generator = torch.Generator().manual_seed(3)
    rotation, shift = random_rotations(5, generator), torch.randn(5, 2, generator=generator) * 4
    amplitudes = torch.randn(5, 2, generator=generator) * 20
    ctf = Ctf.constant(5, 9000.0, 8000.0, 30.0)
    renderer = DensityRenderer(reference, size, 4.0, 60.0)
    clean = renderer.transform(rotation, shift, amplitudes)
    transfer = scheme.transfer(ctf, torch.device("cpu"))
    simulated = torch.fft.irfft2(clean * transfer * scheme.wiener(transfer), s=(size, size))
    seen = reference.positions(amplitudes) @ rotation.transpose(1, 2)
    images = render_gaussians_2d(seen[..., :2] + shift[:, None], reference.weights, reference.sigma_angst, box, pixel)
    images = torch.fft.irfft2(torch.fft.rfft2(images) * ctf_2d(ctf, box, pixel), s=(box, box))
    real = scheme.from_images(images, ctf)
    # the coarse reference has merged atoms closer than 1.25 pixels; both scales must agree too
    assert correlation(simulated, real).min() > 0.99
    assert torch.allclose(simulated.std((1, 2)) / real.std((1, 2)), torch.ones(5), atol=0.05)


def test_wiener_filter_has_the_least_error() -> None:
    """For signal and noise of the stated powers, no multiple of the filter restores the signal better."""
    size = 32
    scheme = make_scheme(size, size, 4.0, signal_power=(3.0,) * 17, noise_power=(2.0,) * 17)
    generator = torch.Generator().manual_seed(1)
    signal = math.sqrt(3) * torch.randn(200, size, size, generator=generator)
    transfer = scheme.transfer(Ctf.constant(1, 12000.0), torch.device("cpu"))
    data = torch.fft.rfft2(signal) * transfer + torch.fft.rfft2(math.sqrt(2) * torch.randn(200, size, size, generator=generator))

    def error(factor: float) -> float:
        return float((torch.fft.irfft2(data * scheme.wiener(transfer) * factor, s=(size, size)) - signal).square().mean())

    # orthogonality principle: the error of the best linear estimate is the mean of S N / (c^2 S + N)
    expected = (6.0 / (3.0 * transfer.square() + 2.0)).mean().item()
    assert error(1.0) == pytest.approx(expected, rel=0.03)
    assert error(1.0) < error(0.9) and error(1.0) < error(1.1)


def make_simulator(scheme: NetworkInput, contrast: float = 1.0) -> BatchSimulator:
    renderer = DensityRenderer(make_reference(), scheme.size, scheme.network_pixel_angst, 60.0)
    ctf = Ctf.constant(7, 9000.0)
    return BatchSimulator(renderer, scheme, contrast, ctf, modes=2, amplitude_range=30.0, shift_range_angst=6.0, seed=1)


def test_samples_do_not_depend_on_how_blocks_are_shared() -> None:
    simulator = make_simulator(make_scheme(SIZE, SIZE, PIXEL))
    together = simulator.draw([(5, 16), (6, 16)])
    apart = Samples.concatenate([simulator.draw([(5, 16)]), simulator.draw([(6, 16)])])
    for name in Samples.__dataclass_fields__:
        assert torch.allclose(getattr(together, name), getattr(apart, name), atol=1e-5)
    assert together.amplitudes.abs().max() <= 30 and together.shift_angst.abs().max() <= 6
    assert not torch.allclose(simulator.draw([(7, 16)]).images, together.images[:16])


def test_simulated_noise_has_the_stated_power() -> None:
    # no density and a flat filter: scale * S / (S + N) times the noise
    scheme = make_scheme(SIZE, SIZE, PIXEL, signal_power=(2.0,) * 17, noise_power=(3.0,) * 17, ignore_ctf=True)
    images = make_simulator(scheme, contrast=0.0).draw([(number, 16) for number in range(16)]).images
    expected = 3.0 * (2.0 / 5.0) ** 2
    # 256 x 1024 normal numbers: the relative standard deviation of their variance is sqrt(2 / n) = 0.3 %
    assert float(images.square().mean()) == pytest.approx(expected, rel=0.015)


def test_contrast_is_found_from_powers() -> None:
    shells = torch.arange(33, dtype=torch.float32)
    model, noise = torch.exp(-shells / 8), 0.5 + 0.01 * shells
    assert fit_contrast(noise + 1.7**2 * model, noise, model) == pytest.approx(1.7, rel=1e-4)
    assert fit_contrast(noise - 0.1 * model, noise, model) == 0.0


def test_network_sizes_are_even_and_quick_to_transform() -> None:
    assert network_size(128, 2.0, 4.0) == 64
    assert network_size(128, 2.0, 1.0) == 128
    for box in (100, 128, 250, 301):
        for wanted in (2.5, 3.46, 5.2):
            size = network_size(box, 2.0, wanted)
            assert size % 2 == 0 and size <= box
            for prime in (2, 3, 5, 7):
                while size % prime == 0:
                    size //= prime
            assert size == 1


def test_soft_cells_are_a_normal_law_of_the_angle() -> None:
    cells = rotation_z(torch.tensor([0.0, 10.0, 20.0, 30.0]))
    found = soft_cells(rotation_z(torch.tensor([10.0])), cells, math.radians(10.0))[0]
    assert torch.allclose(found / found[1], torch.exp(torch.tensor([-0.5, 0.0, -0.5, -2.0])), rtol=0.02)
    assert found.sum() == pytest.approx(1.0)


def test_loss_falls_towards_the_truth_and_reaches_every_weight() -> None:
    """Overfitting one batch: the loss falls and the true pose's cell becomes the most probable one."""
    network = make_network().train()
    samples = make_simulator(make_scheme(SIZE, SIZE, PIXEL, noise_power=(0.01,) * 17, scale=50.0)).draw([(0, 8)])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(150):
        loss = multi_loss(network, samples.images, samples.rotation, samples.shift_angst, samples.amplitudes, torch.full((8,), 0.5)).mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in network.parameters())
        optimizer.step()
    with torch.no_grad():
        found = network.eval()(samples.images)
    error = angle_between_deg(found.rotation[:, 0], samples.rotation)
    assert (error < math.degrees(network.spacing_rad)).float().mean() > 0.8
    mean, _ = weighted_amplitudes(found)
    assert (mean - samples.amplitudes).abs().mean() < 0.5 * samples.amplitudes.abs().mean()


def test_distinct_hypotheses_are_apart_and_ordered() -> None:
    rotation = rotation_z(torch.tensor([0.0, 5.0, 40.0, 42.0, 90.0]))[None]
    found = Hypotheses(rotation, torch.zeros(1, 5, 2), torch.zeros(1, 5, 2), torch.ones(1, 5, 2), torch.tensor([[0.4, 0.3, 0.15, 0.1, 0.05]]))
    assert distinct_hypotheses(found, 3).probability[0].tolist() == pytest.approx([0.4, 0.15, 0.05])
    # when nothing else is left, the next best come after them
    assert distinct_hypotheses(found, 5).probability[0].tolist() == pytest.approx([0.4, 0.15, 0.05, 0.3, 0.1])


def test_input_scheme_survives_the_model_file() -> None:
    import json

    scheme = replace(make_scheme(32, 64, 2.0), phase_flipped=True)
    assert NetworkInput.from_dict(json.loads(json.dumps(scheme.to_dict()))) == scheme


def test_mean_of_hypotheses_weighs_by_probability() -> None:
    found = Hypotheses(torch.eye(3).expand(1, 2, 3, 3), torch.zeros(1, 2, 2), torch.tensor([[[0.0], [4.0]]]), torch.ones(1, 2, 1),
                       torch.tensor([[0.3, 0.1]]))
    mean, deviation = weighted_amplitudes(found)
    assert float(mean) == pytest.approx(1.0)
    # mixture of two Laplace laws of variance 2 whose means have variance 3
    assert float(deviation) == pytest.approx(np.sqrt(5.0))
