"""Projection matching against the images' own reconstruction, from given and from random orientations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cryolearn.engine.alignment.back_projection import back_projected
from cryolearn.engine.alignment.fourier_band import FourierBand
from cryolearn.engine.alignment.fourier_images import FourierImages
from cryolearn.engine.alignment.grids import pose_grid, rotation_lattice, shift_grid
from cryolearn.engine.alignment.half_set_frames import frame_between
from cryolearn.engine.alignment.local_search import refine_continuously, search_lattice
from cryolearn.engine.alignment.posterior import PoseGrid, Poses, best_poses, expected_slices
from cryolearn.engine.alignment.reference import Reference
from cryolearn.engine.alignment.stochastic_em import StochasticEM
from cryolearn.engine.imaging.ctf import Ctf, ctf_at
from cryolearn.engine.imaging.fourier import filter_shells
from cryolearn.engine.imaging.poses import angle_between_deg, random_rotations, so3_exp
from cryolearn.engine.imaging.symmetry import symmetry_matrices
from cryolearn.engine.io.records import RunRecord
from cryolearn.engine.orientation.frame_alignment import align_physical
from cryolearn.engine.orientation.refinement import half_set_references, projection_matching, random_starts
from cryolearn.engine.orientation.refinement.half_set_references import half_references, map_box, particle_mask
from cryolearn.engine.orientation.refinement.projection_matching import _Rounds, confidence_of, match
from cryolearn.engine.orientation.refinement.random_starts import start_from_nothing
from cryolearn.engine.orientation.refinement.settings import MatchingSettings

from .orientation_cases import BOX, DIAMETER, PIXEL, degrees, fourier_images, model, projections

COUNT = 200


def settings(shift_range_angst: float) -> MatchingSettings:
    return MatchingSettings(diameter_angst=DIAMETER, shift_range_angst=shift_range_angst, seed=0)


def true_reference(images: FourierImages) -> Reference:
    """The model in the box of the band, in the scale of the images' unitary transforms."""
    box = map_box(images)
    pixel = images.band.length / box
    return Reference(model().volume(box, pixel) * (pixel**3 / PIXEL**2 / BOX))


def test_slices_are_the_images() -> None:
    """Clean images and slices of the model in a smaller box agree up to the ghosts of trilinear interpolation."""
    images, rotations, shifts = projections(20, 1e6, 0, 4.0)
    data = fourier_images(images).within(8.5)
    found = true_reference(data).slices(data.band, rotations)
    expected = data.data * data.band.phase(-shifts)
    error = (torch.complex(found[0], found[1]) - expected).abs().square().sum() / expected.abs().square().sum()
    assert float(error) < 0.01


def test_the_ctf_is_in_the_model() -> None:
    images, rotations, shifts = projections(30, 1e6, 0)
    data = fourier_images(images).within(8.5)
    ctf = Ctf.constant(30, 15000.0, 14000.0, 30.0)
    transfer = ctf_at(ctf, data.band.kx / data.band.length, data.band.ky / data.band.length)
    data = replace(data, data=data.data * transfer, ctf=ctf, noise=torch.full_like(data.noise, 1e-3))
    away = so3_exp(torch.randn(30, 3, generator=torch.Generator().manual_seed(1)) * 0.03) @ rotations
    found, _, _ = refine_continuously(data, true_reference(data), away, shifts, steps=4)
    assert float(angle_between_deg(found, rotations).max()) < 0.5


def test_a_global_search_and_local_steps_find_the_pose() -> None:
    """With the true map: within the grid's spacing, then to the floor that noise sets, from no knowledge of pose or shift."""
    images, rotations, shifts = projections(60, 4.0, 4, 8.0)
    data = fourier_images(images).within(8.5)
    data = replace(data, noise=torch.full_like(data.noise, float((images - projections(60, 1e6, 4, 8.0)[0]).var())))
    reference = true_reference(data)
    grid = pose_grid(10.0, None, torch.Generator().manual_seed(0), torch.device("cpu"))
    searched = best_poses(data, reference, PoseGrid(rotations=grid, shifts=shift_grid(12.0, 4.0)), 3, 15.0)
    rotation, shift = searched.poses.best
    assert float(angle_between_deg(rotation, rotations).median()) < 10
    assert float(searched.confidence.median()) > 0.9
    turns, moves = rotation_lattice(8.0, 4.0), shift_grid(4.0, 2.0)
    before = (shift - shifts).norm(dim=1).median()
    rotation, shift, _ = search_lattice(data, reference, rotation, shift, turns, moves)
    middle = float(angle_between_deg(rotation, rotations).median())
    rotation, shift, _ = refine_continuously(data, reference, rotation, shift, 3)
    assert float(angle_between_deg(rotation, rotations).median()) < min(2.5, middle)
    assert float((shift - shifts).norm(dim=1).median()) < min(1.0, float(before))


def test_expected_slices_are_sums_over_the_posterior() -> None:
    """All posterior is given out: the power of all poses adds up to the number of images, and the residual of the truth is the noise."""
    images, rotations, _ = projections(50, 1.0, 6)
    data = fourier_images(images).within(6.5)
    noise = float((images - projections(50, 1e6, 6)[0]).var())
    data = replace(data, noise=torch.full_like(data.noise, noise))
    found = expected_slices(data, [true_reference(data)], rotations, torch.zeros(1, 2))
    assert abs(float(found.power[0, :, 0].sum()) - 50) < 1e-3
    assert abs(float(found.residual[2:].mean()) / noise - 1) < 0.15


def test_orientations_from_nothing() -> None:
    """From random orientations and unknown shifts to a few degrees."""
    images, truth, shifts = projections(COUNT, 1.0, 7, 4.0)
    data = fourier_images(images)
    start = start_from_nothing(data, 1, settings(6.0))
    first = degrees(align_physical(truth, start.poses.best[0]).errors_rad)
    assert first < 30
    halves = 1 + torch.arange(COUNT) % 2
    found = match(data, start.poses, halves, 4, settings(6.0))
    last = degrees(align_physical(truth, found.rotation).errors_rad)
    assert last < 5 and last < first
    assert float(found.confidence.median()) > 0.9
    assert float((found.shift_angst.norm(dim=1)).max()) <= 6.01


@pytest.mark.parametrize("leaks", [False, True])
def test_half_sets_are_kept_apart(monkeypatch: pytest.MonkeyPatch, leaks: bool) -> None:
    """After the common start, other images in one half change nothing of the other half's poses in any search but through noise and FSC, held fixed here.

    With one reference for both halves, as a leak would have it, they do.
    """
    images, truth, _ = projections(100, 1.0, 8)
    halves = 1 + torch.arange(100) % 2
    monkeypatch.setattr(half_set_references, "fsc", lambda first, second, mask: torch.linspace(1, 0.2, first.shape[-1] // 2 + 1))
    found = []
    for changed in (False, True):
        work = _Rounds(fourier_images(images), Poses.single(truth, torch.zeros(100, 2)), halves, settings(4.0))
        monkeypatch.setattr(work, "_measure_noise", lambda: None)
        if changed:
            work.images.data[1::2] = work.images.data[1::2].flip(0)
        work.update()
        for search, steps in ((work.global_search, (20.0,)), (work.rescue, (20.0,)), (work.local_search, (7.5, 3.75, False))):
            if leaks:
                work.references = work.references[1:] * 2
            search(*steps)
            work.update()
        found.append(work.poses.best)
    same = [torch.equal(first[halves == 1], second[halves == 1]) for first, second in zip(*found, strict=True)]
    assert same == [not leaks] * 2
    assert not torch.equal(found[0][0][halves == 2], found[1][0][halves == 2])


def test_confidence_tells_wrong_poses_from_right_ones() -> None:
    """Also of poses that are wrong all together, and of those that nothing relates to the images: in its own half's map every image would find itself."""
    images, truth, _ = projections(COUNT, 1.0, 9)
    random = torch.Generator().manual_seed(1)
    data, halves = fourier_images(images), 1 + torch.arange(COUNT) % 2

    def confidence(rotations: torch.Tensor) -> float:
        return float(confidence_of(data, Poses.single(rotations, torch.zeros(COUNT, 2)), halves, settings(4.0)).median())

    def off_by(error_rad: float) -> torch.Tensor:
        return so3_exp(torch.randn(COUNT, 3, generator=random) * error_rad / 1.6) @ truth  # 1.6: mean length of three normal numbers

    assert confidence(truth) > 0.9 and confidence(off_by(0.08)) > 0.9
    assert confidence(off_by(1.0)) < 0.2
    assert confidence(random_rotations(COUNT, random)) < 0.2
    some = truth.clone()
    some[:40] = random_rotations(40, random)
    each = confidence_of(data, Poses.single(some, torch.zeros(COUNT, 2)), halves, settings(4.0))
    assert float(each[:40].median()) < 0.1 < 0.9 < float(each[40:].median())


def test_a_near_start_of_shifted_images() -> None:
    """Unknown shifts of up to a tenth of the box and images that start somewhere else: all end at their poses."""
    images, truth, shifts = projections(COUNT, 1.0, 9, 8.0)
    random = torch.Generator().manual_seed(1)
    start = so3_exp(torch.randn(COUNT, 3, generator=random) * 0.05) @ truth
    start[:20] = random_rotations(20, random)
    halves = 1 + torch.arange(COUNT) % 2
    found = match(fourier_images(images), Poses.single(start, torch.zeros(COUNT, 2)), halves, 6, settings(30.0), error_deg=5.0)
    left = torch.as_tensor(align_physical(truth, found.rotation).errors_rad).rad2deg()
    assert float(shifts.norm(dim=1).max()) > 10
    assert float(left.median()) < 5
    assert float(left.max()) < 20  # none is lost


def test_killed_matching_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in each random start and each round, with the last record empty or cut in half: what is finished is not done again."""
    count = 24
    data = fourier_images(projections(count, 1.0, 0)[0], 8)
    halves = 1 + torch.arange(count) % 2
    monkeypatch.setattr(random_starts, "_STEPS", 3)
    for place, name in ((random_starts, "_FINE_DEG"), (projection_matching, "FINE_GRID_DEG"), (projection_matching, "_COARSE_GRID_DEG")):
        monkeypatch.setattr(place, name, 20.0)

    def recover(record: RunRecord | None) -> dict[str, torch.Tensor]:
        start = start_from_nothing(data, 2, settings(6.0), record)
        return vars(match(data, start.poses, halves, 3, settings(6.0), record=record))

    whole = recover(None)
    record, calls, limit = RunRecord(tmp_path, "recovery", "d"), [0], [0]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            calls[0] += 1
            if calls[0] > limit[0]:
                raise KeyboardInterrupt
            return function(*values)
        return call

    monkeypatch.setattr(StochasticEM, "_start", counted(StochasticEM._start))
    monkeypatch.setattr(projection_matching._Rounds, "update", counted(projection_matching._Rounds.update))
    for damage in (None, None, None, b"", "half", None):
        calls[0], limit[0] = 0, 1
        with pytest.raises(KeyboardInterrupt):
            recover(record)
        last = max(record.path.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
        if damage is not None:
            last.write_bytes(last.read_bytes()[: last.stat().st_size // 2] if damage == "half" else b"")
    calls[0], limit[0] = 0, 9
    found = recover(record)
    assert calls[0] == 1  # the last round: a start or a round was finished each time, the second round three times
    for name, values in whole.items():
        assert torch.equal(found[name], values), name


def test_frames_of_half_maps_are_brought_together() -> None:
    """A map that was turned and moved is found in the frame of the other; a symmetric one may turn about its axis only."""
    volume = model().volume(22, 7.0)
    data = fourier_images(projections(5, 1.0, 0)[0], 8)
    first, poses = Reference(volume), random_rotations(200, torch.Generator().manual_seed(2))
    turn, offset = so3_exp(torch.tensor([0.03, -0.02, 0.04])), torch.tensor([2.0, -1.0, 1.5])

    class Moved:
        def slices(self, band: FourierBand, rotations: torch.Tensor) -> torch.Tensor:
            found = first.slices(band, rotations @ turn)
            there = torch.complex(found[0], found[1]) * band.phase((rotations @ turn)[..., :2, :] @ offset)
            return torch.stack((there.real, there.imag))

    found = frame_between(data, first, Moved(), None, torch.Generator().manual_seed(3))  # type: ignore[arg-type]
    assert float(angle_between_deg(found.rotation[None], turn[None])) < 0.1
    assert float((found.shift - turn @ offset).norm()) < 0.1
    back = found.compose_rows(Poses.single(poses, torch.zeros(200, 2)), torch.arange(100))
    assert torch.equal(back.rotation[100:, 0], poses[100:])
    assert float(angle_between_deg(back.rotation[:100, 0], poses[:100] @ turn).max()) < 0.1
    about = frame_between(data, first, Moved(), symmetry_matrices("C4").float(), torch.Generator().manual_seed(3))  # type: ignore[arg-type]
    assert torch.allclose(about.rotation[2], torch.tensor([0.0, 0.0, 1.0]), atol=1e-5)
    assert float(about.shift[:2].norm()) < 1e-5 and abs(float(about.shift[2]) - 1.5) < 0.1


def test_references_hold_less_of_the_solvent() -> None:
    """Half maps of noisy images are masked about their density, whatever its sign: less noise than within the sphere alone, and no less of the model."""
    images, rotations, shifts = projections(COUNT, 0.3, 10, 4.0)
    data = fourier_images(images)
    halves = 1 + torch.arange(COUNT) % 2
    sphere = particle_mask(data, DIAMETER)
    truth = model().volume(map_box(data), data.band.length / map_box(data)) * sphere
    found, likeness = [], []
    for sign in (1, -1):
        data = replace(data, data=data.data * sign)
        sums = back_projected(data, Poses.single(rotations, shifts), map_box(data), halves)
        volumes, curve = half_references(sums, sphere)
        within = [filter_shells(half, curve) * sphere for half in sums.half_maps()]
        found.append(volumes)
        likeness += [[float(torch.corrcoef(torch.stack((item.flatten(), truth.flatten())))[0, 1].abs()) for item in maps] for maps in (volumes, within)]
        kept = [float((volume * truth).sum() / (whole * truth).sum()) for volume, whole in zip(volumes, within, strict=True)]
        assert min(kept) > 0.95
    assert likeness[0][0] > likeness[1][0] and likeness[0][1] > likeness[1][1]
    assert torch.allclose(found[0][0], -found[1][0], atol=1e-4 * float(found[0][0].abs().max()))
