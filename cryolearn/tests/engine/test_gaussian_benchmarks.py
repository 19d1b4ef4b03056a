"""The data that the benchmarks of the Gaussian method are judged by: two ways of making them agree, and judges give 1 to the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
if not (FOLDER / "_gaussian_data.py").exists():
    pytest.skip("benchmarks are not part of the wheel", allow_module_level=True)


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> tuple:
    monkeypatch.syspath_prepend(str(FOLDER))
    import _gaussian
    import _gaussian_data

    return _gaussian_data, _gaussian


def test_maps_and_blobs_give_the_same_projections(benchmarks: tuple) -> None:
    data, _ = benchmarks
    from cryolearn.engine.imaging.poses import random_rotations

    body, arm = data.hinged_blobs()
    positions = np.concatenate([body, arm])[None]
    blobs = data.BlobScene(positions, np.ones(positions.shape[:2]), 7.0, 48, 5.0, torch.device("cpu"))
    maps = data.MapScene(blobs.maps(), 5.0, torch.device("cpu"))
    rotation, shift = random_rotations(4, torch.Generator().manual_seed(1)), torch.tensor([[3.0, -7], [0, 0], [5, 5], [-8, 2]])
    state = np.zeros((4, 1), np.int64)
    first, second = blobs.transforms(state, rotation, shift), maps.transforms(state, rotation, shift) * 5.0
    # trilinear slices of a twice padded map: within 1 % of the power
    assert float((first - second).abs().square().sum() / first.abs().square().sum()) < 0.01


def test_set_has_the_signal_to_noise_ratio_asked_for(benchmarks: tuple, tmp_path: Path) -> None:
    data, _ = benchmarks
    from cryolearn.engine.io.stacks import ImageStack
    from cryolearn.engine.io.star import read_particles

    made = data.slides_set(tmp_path, 15, data.Imaging(0.5, solvent_noise=0.5, pure_noise=0.2), 220, torch.device("cpu"), box=48, pixel=5.0)
    images = ImageStack(read_particles(str(made.particles))).read(np.arange(220))
    variance = images.var(axis=(1, 2))
    assert variance[~made.real].mean() == pytest.approx(1, rel=0.05)  # noise has variance 1
    assert variance[made.real].mean() == pytest.approx(1.5, rel=0.05)


def test_kinase_ends_at_the_closed_structure(benchmarks: tuple) -> None:
    data, _ = benchmarks
    structure, shapes = data.kinase_states(5)
    calpha = structure.atom_name == "CA"
    lid = calpha & (structure.residue_number >= 118) & (structure.residue_number <= 160)
    steps = np.linalg.norm(np.diff(shapes[:, lid].mean(axis=1), axis=0), axis=1)
    assert steps.sum() > 10  # Å; the LID's way from open to closed
    bonds = [np.linalg.norm(np.diff(shape[lid], axis=0), axis=1) for shape in shapes]
    assert np.abs(bonds[2] - bonds[0]).max() < 1e-6  # domains move as rigid bodies


def test_judges_give_full_marks_to_the_truth(benchmarks: tuple) -> None:
    data, judge = benchmarks
    body, arm = data.hinged_blobs()
    turned = data.axis_rotation(np.array([0.0, 0, 1]), np.deg2rad([-30.0, 0, 30]))
    positions = np.stack([np.concatenate([body, (arm - data.HINGE) @ turn.T + data.HINGE]) for turn in turned])
    maps = data.BlobScene(positions, np.ones(positions.shape[:2]), 6.0, 48, 5.0, torch.device("cpu")).maps()
    mask = judge.truth_mask(maps)
    assert judge.fsc_area(maps, maps, mask) == pytest.approx(0.5)
    assert (judge.fsc_area(maps[[1, 1, 1]], maps, mask)[[0, 2]] < 0.45).all()
    assert judge.is_monotonic(judge.steps_along_truth(maps, maps))
    assert not judge.is_monotonic(judge.steps_along_truth(maps[[0, 2, 1]], maps))
    angle = np.linspace(0, 2 * np.pi, 50)
    assert judge.circular_correlation(1 - angle, angle) == pytest.approx(1)
    assert judge.auc(np.array([0.0, 1, 2, 3]), np.array([True, True, False, False])) == 1
