"""The data and judges of the benchmarks of the orientation method: full marks to the truth, none to what is known to be wrong."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
if not (FOLDER / "_orientation.py").exists():
    pytest.skip("benchmarks are not part of the wheel", allow_module_level=True)

from cryolearn.engine.imaging.gaussians import render_gaussians_3d  # noqa: E402
from cryolearn.engine.imaging.poses import random_rotations, so3_exp  # noqa: E402
from cryolearn.engine.io.maps import write_map  # noqa: E402
from cryolearn.engine.io.stacks import ImageStack  # noqa: E402
from cryolearn.engine.io.star import read_particles  # noqa: E402

BOX, PIXEL = 40, 5.0
FLIP = torch.diag(torch.tensor([1.0, 1, -1], dtype=torch.float64))


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> tuple:
    monkeypatch.syspath_prepend(str(FOLDER))
    import _orientation
    import _orientation_data

    return _orientation_data, _orientation


def blobs(count: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, 3, generator=generator) * torch.tensor([30.0, 18, 12]), 0.5 + torch.rand(count, generator=generator)


def density(positions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return render_gaussians_3d(positions, weights, 7.0, BOX, PIXEL)


def specimen(data: object, folder: Path) -> object:
    write_map(str(folder / "blobs.mrc"), density(*blobs()).numpy(), PIXEL)
    return data.Specimen("blobs", "C1", folder / "blobs.mrc", BOX, PIXEL)  # type: ignore[attr-defined]


def test_set_has_the_noise_asked_for_and_hides_the_truth(benchmarks: tuple, tmp_path: Path) -> None:
    data, _ = benchmarks
    options = argparse.Namespace(work=tmp_path)
    imaging = data.Imaging(noise=16, shift=5)
    made = data.make_set(options, specimen(data, tmp_path), 60, imaging)
    assert imaging.snr(116) == pytest.approx(0.065)
    images = ImageStack(read_particles(str(made.particles))).read(np.arange(60))
    assert images.var(axis=(1, 2)).mean() == pytest.approx(1 + imaging.snr(BOX), rel=0.05)
    assert read_particles(str(made.particles)).angles_deg is None
    assert read_particles(str(made.truth)).origin_angst == pytest.approx(-made.shift_angst, abs=1e-4)
    again = data.make_set(options, made.specimen, 60, imaging)
    assert np.array_equal(again.rotation, made.rotation)


def test_distances_without_and_with_a_plateau(benchmarks: tuple) -> None:
    _, judge = benchmarks
    true = np.linspace(0, math.pi, 20001)
    best = judge.judge_distances(true, true)
    assert best.mae_uniform == pytest.approx(0) and best.slope == pytest.approx(1) and not best.plateau
    # the best that features can do with the paper's read-out: 2 acos(c + (1 - c) k), which ends at 2.64 rad
    paper = 2 * np.arccos(0.437 + 0.563 * (1 + 2 * np.cos(true)) / 3)
    found = judge.judge_distances(true, paper)
    assert found.plateau and found.slope < 0.3
    assert found.far == pytest.approx(2.63, abs=0.02)


def test_a_gauge_of_distances_is_no_gauge_of_images(benchmarks: tuple) -> None:
    _, judge = benchmarks
    truth, turns = random_rotations(80, torch.Generator().manual_seed(1), torch.float64), random_rotations(2, torch.Generator().manual_seed(2), torch.float64)
    for found in (truth @ turns[0], FLIP @ truth @ FLIP @ turns[0]):  # what images leave free
        errors = judge.judge_orientations(truth.numpy(), found.numpy(), "C1")
        assert errors.o4_mean < 1e-4 and errors.physical_mean < 1e-4
    errors = judge.judge_orientations(truth.numpy(), (turns[1] @ truth @ turns[0]).numpy(), "C1")  # what only distances do
    assert errors.o4_mean < 1e-4 and errors.physical_mean > 0.5


@pytest.mark.parametrize("mirrored", [False, True])
def test_map_is_judged_in_the_frame_and_hand_of_the_truth(benchmarks: tuple, tmp_path: Path, mirrored: bool) -> None:
    data, judge = benchmarks
    true = specimen(data, tmp_path)
    truth, turn = random_rotations(50, torch.Generator().manual_seed(1), torch.float64), random_rotations(1, torch.Generator().manual_seed(4), torch.float64)[0]
    # W(Q u) = V(u): what lies at u in the truth lies at Q u; poses A Q^T
    positions, weights = blobs()
    moved = positions.double() @ turn.T + torch.tensor([4.0, -3, 2])
    found = truth @ turn.T
    if mirrored:
        moved, found = moved @ FLIP, FLIP @ found @ FLIP
    errors = judge.judge_orientations(truth.numpy(), found.numpy(), "C1")
    resolution, curve = judge.judge_map(density(moved.float(), weights), true, truth.numpy(), found.numpy(), errors)
    assert resolution is not None and resolution == pytest.approx(2 * PIXEL, rel=0.15)
    assert float(curve[1:10].min()) > 0.98
    wrong, _ = judge.judge_map(density(moved.float() @ FLIP.float(), weights), true, truth.numpy(), found.numpy(), errors)
    assert wrong is None or wrong > 20


def test_two_folds_of_a_tetramer_are_brought_onto_the_axes(benchmarks: tuple) -> None:
    data, _ = benchmarks
    from cryolearn.engine.imaging.symmetry import symmetry_matrices
    from cryolearn.engine.io.structures import Structure

    draw = np.random.default_rng(1)
    unit = draw.normal(size=(20, 3)) * 10 + 15
    away = so3_exp(torch.tensor([0.4, -1.1, 0.3], dtype=torch.float64)).numpy()
    places = np.concatenate([unit @ turn.T for turn in symmetry_matrices("D2").numpy()]) @ away.T + (5, 6, 7)
    count = len(places)
    structure = Structure(places, np.full(count, "C"), np.full(count, 6), np.zeros(count), np.ones(count), np.full(count, "CA"), np.tile(np.arange(20), 4),
                          np.full(count, "ALA"), np.repeat(list("ABCD"), 20), np.full(count, ""), np.zeros(count, bool))
    placed = data.along_two_folds(structure)
    for turn in symmetry_matrices("D2").numpy():
        gap = np.linalg.norm((placed @ turn.T)[:, None] - placed[None], axis=2).min(axis=1)
        assert gap.max() < 1e-6


def test_relatives_are_told_from_strangers(benchmarks: tuple) -> None:
    data, _ = benchmarks
    kinase = "MRIILLGAPGAGKGTQAQFIMEKYGIPQISTGDMLRAAVKSGSELGKQAKDIMDAGKLVTDELVIALVKERIAQEDCRNGF"
    lysozyme = "KVFGRCELAAAMKRHGLDNYRGYSLGNWVCAAKFESNFNTQATNRNTDGSTDYGILQINSRWWCNDGRTPGSRNLCNIPCS"
    assert data.smallest_e_value([kinase], [lysozyme, "GS" * 20 + kinase[5:] + "GS" * 20]) < 1e-20
    assert data.smallest_e_value([kinase], [lysozyme]) > 1e-3
