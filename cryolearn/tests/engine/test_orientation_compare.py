"""The command orientation-compare: files, joins, alignment of map frame and hand, errors, bad input."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.poses import euler_to_matrix, matrix_to_euler, random_rotations, so3_exp
from cryolearn.engine.io.stacks import StackWriter
from cryolearn.engine.io.star import ParticleTable, read_particles, write_particles
from cryolearn.engine.io.tables import read_table
from cryolearn.engine.orientation import compare_command as compare
from cryolearn.engine.orientation.config import CompareOrientationsConfig
from cryolearn.engine.orientation.pose_errors import pair_distances, random_error_rad, statistics
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel

from .imaging_cases import gaussian_model

BOX, PIXEL, COUNT = 8, 2.0, 120
FIGURES = ("errors", "sphere", "distances")
HAND = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


@pytest.fixture(autouse=True)
def fewer_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time; one test draws them."""
    if request.function is not test_errors_are_the_angles_that_were_put_in:
        monkeypatch.setattr(compare, "save_figure", lambda figure, path: path)


def _random(count: int, seed: int) -> torch.Tensor:
    return random_rotations(count, torch.Generator().manual_seed(seed), torch.float64)


def _star(path: Path, rotations: torch.Tensor, rows: np.ndarray | None = None, stack: str = "particles.mrcs", ids: np.ndarray | None = None) -> str:
    """Particles of the images ``rows`` of a stack beside the STAR file; origins are the image's number and half of it, in Å."""
    rows = np.arange(len(rotations)) if rows is None else rows
    file = path.parent / stack
    if not file.exists():
        with StackWriter(str(file), COUNT, BOX, PIXEL) as writer:
            writer.write(0, np.zeros((COUNT, BOX, BOX), np.float32))
    origin = np.stack((rows, 0.5 * rows), 1).astype(float)
    table = ParticleTable(
        ids=rows + 1 if ids is None else ids, image_file=[str(file)], file_index=np.zeros(len(rows), np.int64), image_index=rows,
        pixel_size_angst=PIXEL, box=BOX, angles_deg=matrix_to_euler(rotations).numpy(), origin_angst=origin,
    )
    write_particles(str(path), table)
    return str(path)


def _compare(folder: Path, reference: str, judged: str, **values: object) -> tuple[dict[str, np.ndarray], list[dict[str, str]], dict[str, object]]:
    out = folder / "out"
    compare.run(CompareOrientationsConfig(output=str(out), reference=reference, particles=judged, **values))
    with open(out / "errors.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return read_table(str(out / "errors.npz"))[0], rows, json.loads((out / "summary.json").read_text())


@pytest.mark.parametrize("mirrored", [False, True])
def test_another_frame_and_hand_are_no_errors_and_shifts_stay(tmp_path: Path, mirrored: bool) -> None:
    truth, frame = _random(COUNT, 1), _random(1, 2)[0]
    judged = truth @ frame
    judged = HAND @ judged @ HAND if mirrored else judged
    columns, rows, summary = _compare(tmp_path, _star(tmp_path / "truth.star", truth), _star(tmp_path / "judged.star", judged))
    # STAR files hold angles to 1e-6 degrees
    assert columns["physical_rad"].max() < 1e-6 and columns["o4_rad"].max() < 1e-6 and np.array_equal(columns["error_rad"], columns["physical_rad"])
    assert columns["rotation"] == pytest.approx(truth.numpy(), abs=1e-6) and columns["reference"] == pytest.approx(truth.numpy(), abs=1e-6)
    assert summary["physical_alignment"]["mirrored"] is mirrored and summary["particles"] == COUNT
    assert [row["kind"] for row in rows] == ["physical", "O(4)"]
    aligned = read_particles(str(tmp_path / "out" / "aligned.star"))
    assert aligned.origin_angst == pytest.approx(np.stack((np.arange(COUNT), 0.5 * np.arange(COUNT)), 1))
    assert columns["shift_angst"] == pytest.approx(-aligned.origin_angst)
    assert euler_to_matrix(torch.from_numpy(aligned.angles_deg)).numpy() == pytest.approx(truth.numpy(), abs=1e-6)


def test_images_of_the_other_hand_are_the_same_at_the_same_shift() -> None:
    model, poses = gaussian_model(9, 6.0), _random(5, 3).float()
    hand = HAND.float()
    shift = torch.linspace(-3, 3, 10).view(5, 2)
    other = replace(model, positions=model.positions @ hand)
    assert torch.allclose(model.images(poses, shift, 24, 4.0), other.images(hand @ poses @ hand, shift, 24, 4.0), atol=1e-5)


def test_o4_takes_off_what_distances_leave_free_and_physical_does_not(tmp_path: Path) -> None:
    truth = _random(COUNT, 4)
    left, right = _random(2, 5)
    judged = left @ truth.transpose(1, 2) @ right
    reference, particles = _star(tmp_path / "truth.star", truth), _star(tmp_path / "judged.star", judged)
    columns, rows, summary = _compare(tmp_path, reference, particles, alignment="o4")
    assert columns["error_rad"].max() < 1e-6 and columns["physical_rad"].mean() > 0.5
    assert summary["o4_alignment"]["transposed"] is True and [row["kind"] for row in rows] == ["O(4)", "physical"]
    assert columns["rotation"] == pytest.approx(truth.numpy(), abs=1e-6)


def test_errors_are_the_angles_that_were_put_in(tmp_path: Path) -> None:
    """Turns about random axes by 0.1 rad leave errors of 0.1 rad, but for the frame, which the 120 images fix to 0.1 / sqrt(120)."""
    truth = _random(COUNT, 6)
    axes = torch.nn.functional.normalize(torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64), dim=1)
    columns, rows, summary = _compare(tmp_path, _star(tmp_path / "truth.star", truth), _star(tmp_path / "judged.star", so3_exp(0.1 * axes) @ truth))
    assert columns["physical_rad"].mean() == pytest.approx(0.1, abs=0.005)
    expected = statistics(columns["physical_rad"])
    assert {name: float(rows[0][name]) for name in expected} == pytest.approx(expected, abs=1e-6)
    assert summary["physical_median_rad"] == pytest.approx(np.median(columns["physical_rad"]), abs=1e-6)
    assert columns["o4_rad"].mean() <= columns["physical_rad"].mean()
    for name in FIGURES:
        assert (tmp_path / "out" / "figures" / f"{name}.png").stat().st_size > 8000


def test_symmetric_copies_are_no_errors(tmp_path: Path) -> None:
    truth, kernel = _random(COUNT, 8), SimilarityKernel("D2")
    copies = kernel.matrices[torch.arange(COUNT) % 4]
    paths = _star(tmp_path / "truth.star", truth), _star(tmp_path / "judged.star", truth @ copies)
    assert _compare(tmp_path, *paths, symmetry="D2")[0]["error_rad"].max() < 1e-6
    assert _compare(tmp_path, *paths)[0]["error_rad"].mean() > 0.5


def test_sets_are_joined_by_image_whatever_their_order_and_ids(tmp_path: Path) -> None:
    truth = _random(COUNT, 9)
    rows = np.random.default_rng(0).permutation(COUNT)[:80]
    (tmp_path / "linked").mkdir()
    reference = _star(tmp_path / "truth.star", truth[:100])
    (tmp_path / "linked" / "other_name.mrcs").symlink_to(tmp_path / "particles.mrcs")
    judged = _star(tmp_path / "linked" / "judged.star", truth[rows], rows, "other_name.mrcs", ids=np.arange(1000, 1080))
    columns, _, summary = _compare(tmp_path, reference, judged)
    known = rows < 100
    assert summary["particles"] == known.sum() and (summary["particles_reference"], summary["particles_judged"]) == (100, 80)
    assert np.array_equal(columns["id"], np.arange(1000, 1080)) and np.array_equal(np.isfinite(columns["error_rad"]), known)
    assert columns["error_rad"][known].max() < 1e-6
    assert columns["rotation"] == pytest.approx(truth[rows].numpy(), abs=1e-6)  # those without a reference come along


def test_distances_of_pairs_need_no_alignment() -> None:
    truth = _random(50, 10)
    left, right = _random(2, 11)
    first, second = pair_distances(truth.numpy(), (left @ truth @ right).numpy(), SimilarityKernel(), seed=0)
    assert second == pytest.approx(first, abs=1e-7) and first.min() > 0


def test_chance_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A guess is off by pi / 2 + 2 / pi on average."""
    assert random_error_rad(SimilarityKernel()) == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.02)
    _compare(tmp_path, _star(tmp_path / "truth.star", _random(COUNT, 20)), _star(tmp_path / "judged.star", _random(COUNT, 21)))
    assert "no better than chance" in capsys.readouterr().out


def test_bad_input_is_refused_in_one_sentence(tmp_path: Path) -> None:
    truth = _random(COUNT, 12)
    good = _star(tmp_path / "truth.star", truth)
    refused = {
        "share 0 images, but 3 at least are needed": _star(tmp_path / "elsewhere.star", truth, stack="elsewhere.mrcs"),
        "share 2 images, but 3 at least are needed": _star(tmp_path / "few.star", truth[:2]),
        "image 000007@.* more than once": _star(tmp_path / "twice.star", truth[:9], np.array([0, 1, 2, 3, 4, 5, 6, 6, 7]), ids=np.arange(9) + 1),
    }
    plain = replace(read_particles(good), angles_deg=None)
    write_particles(str(tmp_path / "plain.star"), plain)
    refused["have no orientations"] = str(tmp_path / "plain.star")
    for sentence, judged in refused.items():
        with pytest.raises(InputError, match=sentence) as caught:
            _compare(tmp_path, good, judged)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="symmetry 'X3' is not known"):
        _compare(tmp_path, good, good, symmetry="X3")
    with pytest.raises(InputError, match="Parameter particles is needed"):
        _compare(tmp_path, good, "")
