"""Alignment of subtomograms under the missing wedge: bands, references, correlation, averages."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cryolearn.engine.alignment.fourier_band import FourierBand
from cryolearn.engine.alignment.fourier_images import FourierImages, wedged_volumes
from cryolearn.engine.alignment.grids import shift_grid
from cryolearn.engine.alignment.half_set_frames import Frame
from cryolearn.engine.alignment.posterior import expected_slices
from cryolearn.engine.alignment.reference import Reference, rotated_coverage
from cryolearn.engine.imaging.fourier import rfftn_centred
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import angle_between_deg, euler_to_matrix, random_rotations
from cryolearn.engine.imaging.symmetry import symmetry_matrices
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.subtomogram.averaging.aligner import Aligner, Plan
from cryolearn.engine.subtomogram.averaging.averages import Averages, turned_average
from cryolearn.engine.subtomogram.averaging.correlation_search import GridSearch, correlation_around
from cryolearn.engine.subtomogram.averaging.half_set_alignment import ClassFrames, match_classes

from .subtomogram_average_cases import BOX, PIXEL, TILT, Copies, behind_wedge, copies, models

HERE = torch.zeros(1, 3)


def particles_of(volumes: torch.Tensor, tilt_deg: torch.Tensor, band: FourierBand, edge_px: float) -> FourierImages:
    return wedged_volumes(band.gather(rfftn_centred(volumes, 3)), tilt_deg, band, edge_px)


def aligned(made: Copies, reference: Reference, fine_px: float = 8.0, **changes: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Angles (degrees) and distances (voxels) from the truth after alignment."""
    plan = Plan(step_deg=15.0, finest_deg=1.0, fine_px=fine_px, particle_px=9.0, shift_px=2.0, **changes)  # type: ignore[arg-type]
    band = FourierBand.up_to(BOX, fine_px, 3)
    found = Aligner([reference], band, torch.ones(len(band)), plan).align(particles_of(made.volumes, made.tilt, band, 0.0), made.rotation, made.shift_px)
    return angle_between_deg(found.rotation, made.rotation), (found.shift_px - made.shift_px).norm(dim=1)


def test_a_reference_is_seen_as_a_turned_and_moved_model():
    """The transform of a rotated, shifted copy is the reference's at A^T k, moved by the shift."""
    made = copies(6)
    band = FourierBand.up_to(BOX, 8, 3)
    volume = models(1)[0].volume(BOX, PIXEL)
    reference = Reference(volume)
    values = torch.complex(*reference.slices(band, made.rotation))
    assert reference.coverage_at(band, made.rotation) is None
    everywhere = particles_of(made.volumes, made.tilt, band, 0.0)
    measured = everywhere.measured(torch.arange(6))
    seen = values * band.phase(made.shift_px) * measured
    error = (seen - everywhere.data * measured).norm() / (everywhere.data * measured).norm()
    assert float(error) < 0.02  # ghosts of trilinear interpolation, as in imaging.slices


def test_an_exact_copy_correlates_fully_in_spite_of_the_wedge():
    made = copies(5)
    band = FourierBand.up_to(BOX, 8, 3)
    particles = particles_of(made.volumes, made.tilt, band, 0.0)
    reference = Reference(models(1)[0].volume(BOX, PIXEL))
    score, _ = correlation_around(reference, particles, made.rotation[:, None], made.shift_px, HERE, torch.ones(len(band)))
    assert float(score.min()) > 0.999
    blind = replace(particles, coverage=torch.ones_like(particles.coverage))  # as if there were no wedge
    lower, _ = correlation_around(reference, blind, made.rotation[:, None], made.shift_px, HERE, torch.ones(len(band)))
    assert float(lower.max()) < 0.98


def test_grid_and_single_poses_give_the_same_correlation():
    made = copies(4, snr=1.0)
    band = FourierBand.up_to(BOX, 6, 3)
    coverage = torch.rand(BOX, BOX, BOX // 2 + 1, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(len(band), generator=torch.Generator().manual_seed(1)) + 0.5
    grid = random_rotations(9, torch.Generator().manual_seed(2))
    shifts = shift_grid(2.0, 1.0, 3)
    for known in (None, coverage):
        reference = Reference(models(1)[0].volume(BOX, PIXEL), known)
        particles = particles_of(made.volumes, made.tilt, band, 0.0)
        score, which = GridSearch(reference, grid, band, weight).correlations(particles, shifts, None)
        other, choice = correlation_around(reference, particles, grid.expand(4, 9, 3, 3), torch.zeros(4, 3), shifts, weight)
        assert torch.allclose(score, other, atol=1e-4)
        assert torch.equal(which, choice)


def test_poses_of_copies_are_found():
    """A maximum of a noise-free correlation is found to within the last step of the search (a cross of steps: sqrt(3) / 2 of it)."""
    made = copies(12)
    angle, distance = aligned(made, Reference(models(1)[0].volume(BOX, PIXEL)))
    assert float(angle.max()) < math.sqrt(3) * 1.0
    assert float(distance.max()) < math.sqrt(3) * 0.1 + 0.05


def test_local_search_stays_and_finds_the_pose():
    made = copies(6)
    started = Copies(made.volumes, made.number, euler_to_matrix(torch.tensor([4.0, 0.0, 3.0])) @ made.rotation, made.shift_px)
    plan = Plan(step_deg=15.0, finest_deg=1.0, fine_px=8.0, particle_px=9.0, shift_px=2.0, local=True)
    band = FourierBand.up_to(BOX, 8, 3)
    aligner = Aligner([Reference(models(1)[0].volume(BOX, PIXEL))], band, torch.ones(len(band)), plan)
    found = aligner.align(particles_of(made.volumes, made.tilt, band, 0.0), started.rotation, started.shift_px)
    assert not any(aligner.grid)
    assert float(angle_between_deg(found.rotation, made.rotation).max()) < math.sqrt(3)


def test_normalised_correlation_of_noise_favours_no_orientation():
    """Without any signal the constrained correlation has the same variance at all rotations; the bare sum favours strong slices of the reference.

    The sum has variance s^2 times the reference's energy in what is measured, by which the normalisation divides.
    """
    count = 400
    noise = behind_wedge(torch.randn(count, BOX, BOX, BOX, generator=torch.Generator().manual_seed(5)))
    band = FourierBand.up_to(BOX, 6, 3)
    particles = particles_of(noise, torch.tensor([[-TILT, TILT]]).expand(count, 2), band, 0.0)
    rod = sphere_mask(BOX, 3, 2, dims=2).expand(BOX, BOX, BOX)  # along z: its energy lies in a plane, which the wedge cuts or not
    rotations = euler_to_matrix(torch.tensor([[0.0, tilt, 0.0] for tilt in (0, 30, 60, 90)]))
    search = GridSearch(Reference(rod * sphere_mask(BOX, 9, 2)), rotations, band, torch.ones(len(band)))
    score, _ = search.correlations(particles, HERE, None)
    spread = score.std(0)
    energy = (particles.coverage @ search.energy.T)[0]
    error = 1 / math.sqrt(2 * count)  # of a standard deviation, relative
    assert float(spread.max() / spread.min()) < 1 + 6 * error
    assert float((energy.max() / energy.min()).sqrt()) > 1 + 6 * error


def test_average_of_copies_is_the_model():
    made = copies(60)
    work = Averages(BOX, 1)
    work.add(made.volumes, made.tilt, made.rotation, made.shift_px, made.number, 1 + torch.arange(60) % 2)
    curve = fsc(work.maps(0.05, joined=True)[0], models(1)[0].volume(BOX, PIXEL))
    assert float(curve[1:8].min()) > 0.99
    assert work.count.tolist() == [[30], [30]]


def test_coverage_of_all_orientations_is_isotropic():
    """The share of subtomograms that have measured a frequency is the tilt range over 180 degrees at every frequency."""
    box, count = 8, 3000
    work = Averages(box, 1)
    rotation = random_rotations(count, torch.Generator().manual_seed(6))
    tilt = torch.tensor([[-TILT, TILT]]).expand(count, 2)
    zeros = torch.zeros(count, 3)
    work.add(torch.zeros(count, box, box, box), tilt, rotation, zeros, zeros[:, 0].long(), torch.ones(count, dtype=torch.long))
    share, expected = work.weight[0, 0] / count, 2 * TILT / 180
    assert float(share[0]) == 1  # the zero frequency
    assert float((share[1:] - expected).abs().max()) < 5 * math.sqrt(expected * (1 - expected) / count)
    assert bool((work.coverage(0.05)[0, 0].flatten()[work.band.index] == 1).all())


def test_the_mask_is_turned_with_the_particle():
    """Subtomograms all seen from one side leave the wedge in the average, at the particle's own axes, and it is known there that nothing is known."""
    made = copies(1)
    turn = euler_to_matrix(torch.tensor([[90.0, 0.0, 0.0]]))  # the tilt axis becomes the particle's x
    work = Averages(BOX, 1)
    work.add(made.volumes, made.tilt, turn, torch.zeros(1, 3), made.number, torch.ones(1, dtype=torch.long))
    coverage = work.coverage(0.05)[0, 0]
    assert float(coverage[6, 6, 0]) == 1 and float(coverage[6, 0, 6]) == 0  # z, y, x
    spectrum = torch.fft.rfftn(work.maps(0.05)[0, 0]).abs()
    assert float(spectrum[6, 0, 6]) < 1e-6 * float(spectrum[0, 0, 0])
    unturned = rotated_coverage(coverage, turn[0].T)
    assert float(unturned[6, 0, 6]) == 1 and float(unturned[6, 6, 0]) == 0


def test_symmetry_is_imposed_by_averaging_at_all_equivalent_poses():
    made = copies(10)
    group = symmetry_matrices("C2").float()
    work = Averages(BOX, 1)
    work.add(made.volumes, made.tilt, made.rotation, made.shift_px, made.number, torch.ones(10, dtype=torch.long), group)
    volume = work.maps(0.05)[0, 0]
    half_turn = volume[1:, 1:, 1:].flip((1, 2))
    assert torch.allclose(half_turn, volume[1:, 1:, 1:], atol=0.02 * float(volume.max()))


def test_half_maps_in_different_frames_are_laid_on_each_other():
    """Classes of the second half set in another order, turned and moved: paired, and poses composed such that A A' is the first frame's."""
    known = torch.stack([model.volume(BOX, PIXEL) for model in models(2)])
    turns = random_rotations(2, torch.Generator().manual_seed(8))
    moved = torch.tensor([[1.0, -0.5, 0.5], [0.0, 1.0, -1.0]])
    # the second half's map 0 shows model 1, and its map 1 shows model 0
    second = torch.stack([
        turned_average(known[1 - own], turns[own].T, -(turns[own].T @ moved[own])) for own in range(2)
    ])
    curves = torch.ones(2, BOX // 2 + 1)
    frame = match_classes(
        torch.stack((known, second)), torch.full((2, 2), 9), curves, Plan(step_deg=15.0, finest_deg=1.0, fine_px=8.0, particle_px=9.0, shift_px=2.0)
    )
    assert frame.partner.tolist() == [1, 0]
    assert float(angle_between_deg(frame.frame.rotation, turns).max()) < math.sqrt(3)
    assert float((frame.frame.shift - moved).norm(dim=1).max()) < 0.25
    exact = ClassFrames(partner=frame.partner, frame=Frame(rotation=turns, shift=moved))
    rotation = random_rotations(2, torch.Generator().manual_seed(9))
    number, composed, shift = exact.compose(torch.tensor([0, 1]), rotation, torch.zeros(2, 3))
    point = torch.tensor([3.0, -2.0, 5.0])  # of model 1 - own, to its place in the map of the second half, to its place in the subtomogram
    for own in range(2):
        assert torch.allclose(rotation[own] @ (turns[own] @ point + moved[own]), composed[own] @ point + shift[own], atol=1e-4)
    assert number.tolist() == [1, 0]


def test_expectation_weighs_classes_by_their_likelihood():
    """With one rotation and one shift the posterior of two classes is the softmax of two Gaussian log-likelihoods, written out."""
    made = copies(3, snr=0.05, classes=2)
    band = FourierBand.up_to(BOX, 4, 3)
    particles = particles_of(made.volumes, made.tilt, band, 0.0)
    maps = [Reference(model.volume(BOX, PIXEL)) for model in models(2)]
    turn = made.rotation[:1]
    noise = band.ring_mean(particles.data.abs().square().mean(0))
    found = expected_slices(replace(particles, noise=noise), maps, turn, HERE)
    measured = particles.measured(torch.arange(3))
    seen = torch.stack([torch.complex(*item.slices(band, turn))[0] for item in maps])
    left = (particles.data * measured)[:, None] - seen * measured[:, None]
    likelihood = (((particles.data * measured).abs().square()[:, None] - left.abs().square()) / band.per_point(noise)).sum(-1)
    share = torch.softmax(likelihood, 1)
    assert torch.allclose(found.power[:, 0], share.T @ measured, rtol=1e-3, atol=1e-4)
    assert torch.allclose(found.evidence, torch.logsumexp(likelihood, 1) - math.log(2), rtol=1e-4)
    residual = (share[..., None] * left.abs().square()).sum((0, 1)) / measured.sum(0).clamp(min=1e-6)
    assert torch.allclose(found.residual, band.ring_mean(residual), rtol=1e-2, atol=1e-3)


@pytest.mark.relion
def test_poses_against_relion(tmp_path: Path) -> None:
    """relion_project --3d_rot turns and moves a map by the angles and offsets of a STAR file; our average puts it back."""
    if shutil.which("relion_project") is None:
        pytest.skip("relion_project is not installed (Debian: apt-get install relion)")
    volume = models(1)[0].volume(BOX, PIXEL)
    write_map(str(tmp_path / "map.mrc"), volume.numpy(), PIXEL)
    angles, origin = (35.0, 70.0, -110.0), (1.0, -2.0, 1.5)
    words = ["relion_project", "--i", "map.mrc", "--3d_rot", "--o", "turned.mrc", "--angpix", str(PIXEL)]
    for name, value in zip(("--rot", "--tilt", "--psi", "--xoff", "--yoff", "--zoff"), (*angles, *origin)):
        words += [name, str(value)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    theirs = torch.from_numpy(read_map(str(next(tmp_path.glob("turned*.mrc")))).data.copy())
    turn = euler_to_matrix(torch.tensor(angles))
    back = turned_average(theirs, turn, -torch.tensor(origin))
    assert float(fsc(back, volume)[1:9].min()) > 0.98
    wrong = turned_average(theirs, turn.T, -torch.tensor(origin))
    assert float(fsc(wrong, volume)[1:9].min()) < 0.5
