"""The command validate-map: tables, curves, before and after, half maps, bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.maps import Map, read_map, write_map
from cryolearn.engine.io.structures import write_structure
from cryolearn.engine.io.tables import read_table
from cryolearn.engine.map_validation import validate_command as validate
from cryolearn.engine.map_validation.config import ValidateMapConfig
from cryolearn.engine.map_validation.emringer import CEILING

from .map_cases import STRUCTURES, blurred, polymer, sharp_map

Row = dict[str, str]
FIGURES = ("emringer", "map_model_fsc", "half_map_fsc", "q_score", "change")


@pytest.fixture(autouse=True)
def fewer_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time; one test draws them."""
    if request.function is not test_two_maps_with_half_maps:
        monkeypatch.setattr(validate, "save_figure", lambda figure, path: path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ubiquitin at 3 Å (after) and the same blurred (before), each with half maps, and the model."""
    folder = tmp_path_factory.mktemp("validate")
    write_structure(str(folder / "model.pdb"), polymer("1ubi"))
    sharp = sharp_map("1ubi", 3.0)
    for name, volume in (("after", sharp), ("before", blurred(sharp, 200.0))):
        _write(folder / f"{name}.mrc", volume)
        for half in (1, 2):
            _write(folder / f"{name}_half{half}.mrc", blurred(volume, 0.0, noise=0.3, seed=half))
    return folder


def _write(path: Path, volume: Map) -> str:
    write_map(str(path), volume.data, volume.pixel_size_angst, volume.origin_angst)
    return str(path)


def _run(folder: Path, out: Path, **values: object) -> tuple[dict[str, Row], dict[str, object]]:
    given = {"volume": str(folder / "before.mrc"), "structure": str(folder / "model.pdb"), "output": str(out), "threads": 1, "bootstraps": 200}
    validate.run(ValidateMapConfig(**{**given, **values}))
    with open(out / "scores.csv", newline="") as handle:
        return {row["score"]: row for row in csv.DictReader(handle)}, json.loads((out / "summary.json").read_text())


def test_two_maps_with_half_maps(folder: Path, tmp_path: Path) -> None:
    """The map that was not blurred is better by every score, beyond the bootstrap's interval, and so is its gap to wrong models."""
    names = {f"{'after_' if name == 'after' else ''}half{half}": str(folder / f"{name}_half{half}.mrc") for name in ("before", "after") for half in (1, 2)}
    rows, summary = _run(folder, tmp_path, volume_after=str(folder / "after.mrc"), resolution_angst=3.0, **names)
    for score in ("emringer_tie_safe", "emringer_fine", "q_score"):
        row = {name: float(value) for name, value in rows[score].items() if name not in ("score", "label")}
        assert row["before_low"] <= row["before"] <= row["before_high"] and row["after_low"] <= row["after"] <= row["after_high"]
        assert row["change"] == pytest.approx(row["after"] - row["before"], abs=2e-4) and row["change_low"] <= row["change"] <= row["change_high"]
    assert float(rows["q_score"]["change_low"]) > 0 and float(rows["q_score"]["better"]) == 1.0
    assert float(rows["decoy_gap_q"]["change"]) > 0
    for score in ("cc_mask", "cc_box", "cc_peaks"):
        assert float(rows[score]["after"]) > 0.99 and float(rows[score]["before"]) < float(rows[score]["after"]) and rows[score]["change_low"] == ""
    assert float(rows["emringer"]["after"]) == pytest.approx(5.2270, abs=5e-5)  # cctbx on this map
    # halves of one map and noise of 0.3 SD each: FSC = P / (P + N) in each shell, P the map's power and N that of the noise
    curves = _columns(tmp_path / "fsc.csv")
    after, noise = read_map(str(folder / "after.mrc")), 0.09
    side = max(after.data.shape)
    cube = np.zeros((side,) * 3)
    cube[tuple(slice(0, count) for count in after.data.shape)] = after.data - after.data.mean()
    power, shell = np.abs(np.fft.fftn(cube)) ** 2, np.rint(np.sqrt(sum(axis**2 for axis in np.meshgrid(*[np.fft.fftfreq(side, 1 / side)] * 3)))).astype(int)
    mean = np.bincount(shell.ravel(), power.ravel()) / np.bincount(shell.ravel())
    expected = mean / (mean + noise * after.data.var() * after.data.size)
    assert curves["after_halves"][4:20] == pytest.approx(expected[5:21], abs=0.1)
    assert set(curves) == {"shell", "frequency_inv_angst", "resolution_angst", "cross", "cross_masked"} | {
        f"{name}_{kind}" for name in ("before", "after") for kind in ("model", "model_masked", "halves", "halves_masked")}
    assert summary["maps"] == ["before", "after"] and summary["side_chains"] == 47 and summary["resolution_angst"] == 3
    assert summary["fsc_cross_masked_angst"] is not None
    for name in FIGURES:
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 8000


def _columns(path: Path) -> dict[str, list[float]]:
    with open(path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def test_one_map_and_its_residues(folder: Path, tmp_path: Path) -> None:
    rows, summary = _run(folder, tmp_path, volume=str(folder / "after.mrc"), resolution_angst=3.0, q_sigma_angst=0.6)
    assert "change" not in rows["q_score"] and "sigma 0.6" in rows["q_score"]["label"] and summary["q_sigma_angst"] == 0.6
    columns, meta = read_table(str(tmp_path / "residues.npz"))
    assert meta == {"maps": ["map"], "q_sigma_angst": 0.6} and len(columns["id"]) == 76
    assert [columns["residue_name"][0], int(columns["residue_number"][75])] == ["MET", 76]
    scored = columns["emringer"]
    assert scored.sum() == 47 and np.isnan(columns["peak_deg_map"][~scored]).all()
    # most peaks of a 3 Å map stand where the model's side chains are
    apart = np.abs((columns["peak_deg_map"] - columns["chi1_deg"] + 180) % 360 - 180)[scored]
    assert np.median(apart) < 20
    atoms = np.bincount(np.cumsum(np.r_[True, polymer("1ubi").residue_number[1:] != polymer("1ubi").residue_number[:-1]]) - 1)
    assert np.average(columns["q_map"], weights=atoms) == pytest.approx(float(rows["q_score"]["map"]), abs=1e-4)
    with open(tmp_path / "residues.csv", newline="") as handle:
        table = list(csv.DictReader(handle))
    assert [row["q_map"] for row in table] == [f"{value:.4f}" for value in columns["q_map"]]
    curve = [row for row in csv.DictReader((tmp_path / "emringer.csv").read_text().splitlines()) if row["votes"] == "cctbx"]
    assert max(float(row["score"]) for row in curve) == pytest.approx(summary["emringer_fine_map"], abs=1e-4)


def test_the_same_map_twice_changes_nothing(folder: Path, tmp_path: Path) -> None:
    halves = {f"half{half}": str(folder / f"before_half{half}.mrc") for half in (1, 2)}
    rows, summary = _run(folder, tmp_path, volume_after=str(folder / "before.mrc"), **halves)
    row = rows.pop("fsc_halves_masked_0.143_angst")  # only one of the maps has half maps
    assert float(row["before"]) == pytest.approx(summary["resolution_angst"], abs=1e-4) and row["after"] == row["change"] == ""
    assert rows.pop("fsc_halves_0.143_angst")["after"] == ""
    for row in rows.values():
        assert float(row["change"]) == 0 and (not row["change_low"] or float(row["change_low"]) == float(row["change_high"]) == 0)


def test_a_binarised_map_is_found_out(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """cctbx's votes call it better than the honest map; one vote a residue, Q, CC and the decoy gap do not, and the log says why."""
    honest = sharp_map("1ubi", 2.0)
    data = (honest.data > honest.data.mean() + 4 * honest.data.std()).astype(np.float32)
    trap = _write(tmp_path / "trap.mrc", Map(data, honest.pixel_size_angst, honest.origin_angst))
    rows, summary = _run(folder, tmp_path / "out", volume=_write(tmp_path / "honest.mrc", honest), volume_after=trap)
    assert float(rows["emringer"]["after"]) > CEILING > float(rows["emringer"]["before"])
    assert "vote more than once" in capsys.readouterr().out
    for score in ("emringer_tie_safe", "q_score", "cc_mask", "cc_box", "decoy_gap_emringer"):
        assert float(rows[score]["change"]) < 0, score


@pytest.mark.filterwarnings("ignore:Data array contains NaN:RuntimeWarning")  # mrcfile, of the map that this test writes
def test_bad_input_is_refused_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    before, model = read_map(str(folder / "before.mrc")), polymer("1ubi")
    data, pixel, origin = before.data, before.pixel_size_angst, before.origin_angst
    made = {
        "far": Map(data, pixel, (origin[0] + 500, origin[1], origin[2])), "empty": Map(np.zeros_like(data), pixel, origin),
        "constant": Map(np.full_like(data, 3), pixel, origin), "coarse": Map(data[::5, ::5, ::5], 5 * pixel, origin),
        "inverted": Map(-data, pixel, origin), "cropped": Map(data[:-2], pixel, origin), "scaled": Map(data, pixel * 1.01, origin),
        "moved": Map(data, pixel, (origin[0], origin[1] + 1, origin[2])),
    }
    paths = {name: _write(tmp_path / f"{name}.mrc", volume) for name, volume in made.items()}
    broken = data.copy()
    broken[3, 4, 5] = np.nan
    paths["nan"] = _write(tmp_path / "nan.mrc", Map(broken, pixel, origin))
    with mrcfile.mmap(_write(tmp_path / "oblique.mrc", before), mode="r+") as handle:  # an X-ray map of a hexagonal crystal
        handle.header.cellb.gamma = 120
    bare = model.subset(np.isin(model.atom_name, ["N", "CA", "C", "O"]))
    write_structure(str(tmp_path / "bare.pdb"), bare)
    good = {"volume": str(folder / "before.mrc")}
    refused: list[tuple[str, dict[str, str]]] = [
        ("do not overlap: 0 of 602 atoms", {"volume": paths["far"]}),
        ("is empty: every voxel is 0", {"volume": paths["empty"]}),
        ("is empty: every voxel is 3", {"volume": paths["constant"]}),
        ("voxels of 3.75 Å, which show no side chains", {"volume": paths["coarse"]}),
        ("no denser at the atoms .* invert the map's contrast", {"volume": paths["inverted"]}),
        ("holds NaN", {"volume": paths["nan"]}),
        (r"not rectangular \(90, 90, 120 degrees\)", {"volume": str(tmp_path / "oblique.mrc")}),
        ("holds NaN", {**good, "volume_after": paths["nan"]}),
        (r"another grid .*64 x 72 x 60 voxels instead of|another grid .*voxels instead of", {**good, "volume_after": paths["cropped"]}),
        ("another grid .*voxels of 0.7575 Å instead of 0.75 Å", {**good, "volume_after": paths["scaled"]}),
        ("another grid .*first voxel at", {**good, "volume_after": paths["moved"]}),
        ("another grid", {**good, "half1": paths["cropped"], "half2": paths["cropped"]}),
        ("Only one half map", {**good, "half1": str(folder / "before_half1.mrc")}),
        ("without the map after it", {**good, "after_half1": str(folder / "after_half1.mrc"), "after_half2": str(folder / "after_half2.mrc")}),
        ("has no side chains to score", {**good, "structure": str(tmp_path / "bare.pdb")}),
        ("has no side chains to score", {**good, "structure": f"{STRUCTURES}/pdb1ubi_ca.pdb"}),
        ("Parameter structure is needed", {**good, "structure": ""}),
        ("does not exist", {**good, "structure": str(tmp_path / "absent.pdb")}),
        ("Parameter q_sigma_angst is 5", {**good, "q_sigma_angst": 5.0}),
    ]
    for sentence, values in refused:
        with pytest.raises(InputError, match=sentence) as caught:
            _run(folder, tmp_path / "refused", **values)
        assert "\n" not in str(caught.value)


def test_a_map_whose_header_says_otherwise_is_moved_to_the_model(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scores do not depend on how the place is known; what was assumed is said, and can be forbidden."""
    after = read_map(str(folder / "after.mrc"))
    expected, _ = _run(folder, tmp_path / "header", volume=str(folder / "after.mrc"), decoys=False)
    middle = np.array([side // 2 for side in after.data.shape[::-1]]) * after.pixel_size_angst
    for place, model_origin in (("zero", np.zeros(3)), ("centre", -middle)):
        model = str(tmp_path / f"{place}.cif")
        write_structure(model, polymer("1ubi"), polymer("1ubi").coordinates - np.asarray(after.origin_angst) + model_origin)
        moved = _write(tmp_path / f"{place}.mrc", Map(after.data, after.pixel_size_angst, (300.0, 0.0, 0.0)))
        rows, summary = _run(folder, tmp_path / place, volume=moved, structure=model, decoys=False)
        assert summary["place"] == place and "The map is taken with its" in capsys.readouterr().out
        for name, row in rows.items():
            assert float(row["map"]) == pytest.approx(float(expected[name]["map"]), abs=2e-3), name  # atoms of PDB and mmCIF are rounded
        with pytest.raises(InputError, match="do not overlap"):
            _run(folder, tmp_path / place, volume=moved, structure=model, place="header")


def test_a_model_that_sticks_out_is_scored_where_the_map_is(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_map(str(folder / "after.mrc"))
    part = Map(before.data[: before.data.shape[0] * 3 // 5], before.pixel_size_angst, before.origin_angst)
    rows, summary = _run(folder, tmp_path / "out", volume=_write(tmp_path / "part.mrc", part))
    assert summary["atoms_outside"] > 0 and summary["side_chains"] + summary["side_chains_outside"] == 47
    assert "lie outside the map: they are not scored" in capsys.readouterr().out
    columns, _ = read_table(str(tmp_path / "out" / "residues.npz"))
    assert np.isnan(columns["q_map"]).any() and np.isfinite(float(rows["q_score"]["map"]))
