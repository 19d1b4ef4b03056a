"""The commands reconstruct and fsc: files, half sets, classes, subsets, bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging import fsc_command, reconstruct_command
from cryolearn.engine.imaging.config import FscConfig, ReconstructConfig
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.half_set_maps import split_halves
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.star import ParticleTable, read_particles, write_particles
from cryolearn.engine.io.tables import write_table

from .imaging_cases import gaussian_model, particle_set

BOX, PIXEL = 32, 4.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("particles")
    particle_set(str(folder), 300, BOX, PIXEL, gaussian_model(22, 6.0), snr=1.0)
    return folder


def _run(data: Path, output: Path, **values: object) -> dict[str, object]:
    output.mkdir(exist_ok=True)
    config = ReconstructConfig(particles=str(data / "particles.star"), output=str(output), threads=1, **values)
    reconstruct_command.run(config)
    with open(output / "reconstructions.json") as handle:
        return json.load(handle)


def _map(path: Path) -> torch.Tensor:
    return torch.from_numpy(read_map(str(path)).data.copy())


@pytest.mark.parametrize("wiener", ["fsc", "constant"])
def test_one_map(data: Path, tmp_path: Path, wiener: str) -> None:
    report = _run(data, tmp_path, wiener=wiener)
    (entry,) = report["reconstructions"]
    assert entry["name"] == "map" and entry["particles"] == 300 == entry["particles_half1"] + entry["particles_half2"]
    found = read_map(str(tmp_path / "map.mrc"))
    assert found.pixel_size_angst == pytest.approx(PIXEL) and found.data.shape == (BOX,) * 3
    mask = sphere_mask(BOX, 0.45 * BOX, 0.05 * BOX)
    # the Gaussians' amplitude, exp(-2 pi^2 sigma^2 / d^2), is above 10 % to 17.6 Å: shell 7
    assert float(fsc(_map(tmp_path / "map.mrc"), _map(data / "true.mrc"), mask)[:8].min()) > 0.9
    with open(tmp_path / "map_fsc.csv") as handle:
        rows = list(csv.DictReader(handle))
    halves = [_map(tmp_path / f"map_half{k}.mrc") for k in (1, 2)]
    expected = fsc(*halves, mask)
    assert [int(row["shell"]) for row in rows] == list(range(1, BOX // 2 + 1))
    assert np.allclose([float(row["fsc"]) for row in rows], expected[1:], atol=1e-4)
    assert float(rows[3]["resolution_angst"]) == pytest.approx(BOX * PIXEL / 4)
    for name in ("summary.json", "figures/fsc.png", "figures/slices.png"):
        assert (tmp_path / name).stat().st_size > 0


def test_negative_contrast_and_batches(data: Path, tmp_path: Path) -> None:
    """The map of inverted particles is the inverted map; the batch size changes nothing."""
    _run(data, tmp_path / "plain")
    _run(data, tmp_path / "other", invert_contrast=True, batch=37)
    plain, other = _map(tmp_path / "plain/map.mrc"), _map(tmp_path / "other/map.mrc")
    assert float((plain + other).abs().max()) < 1e-3 * float(plain.max())


def test_half_sets() -> None:
    def table(ids: np.ndarray, subset: np.ndarray | None = None) -> ParticleTable:
        count = len(ids)
        return ParticleTable(
            ids=ids, image_file=["a.mrcs"], file_index=np.zeros(count, np.int64), image_index=np.arange(count),
            pixel_size_angst=1.0, box=8, random_subset=subset,
        )

    every_second = np.arange(2, 4002, 2)
    halves = split_halves(table(every_second), np.arange(2000))
    assert abs(int((halves == 1).sum()) - 1000) < 4 * np.sqrt(2000) / 2
    # a particle keeps its half in any subset
    some = np.random.default_rng(0).permutation(2000)[:100]
    assert np.array_equal(split_halves(table(every_second[some]), np.arange(100)), halves[some])
    given = np.array([2, 1, 1, 2])
    assert np.array_equal(split_halves(table(np.arange(1, 5), given), np.arange(4)), given)
    for ids in ([1, 2], [7, 9], [100, 3]):  # never an empty half
        assert set(split_halves(table(np.array(ids)), np.arange(2)).tolist()) == {1, 2}


def test_classes_join_by_id(data: Path, tmp_path: Path) -> None:
    """Class tables name particles by id, in any order, some left out; a class of one particle is left out and said."""
    random = np.random.default_rng(0)
    ids = random.permutation(np.arange(1, 301))[:250]
    labels = np.where(ids % 3 == 0, 1, np.where(ids % 3 == 1, 2, 0))
    labels[np.flatnonzero(ids % 3 == 2)[0]] = 4
    write_table(str(tmp_path / "clusters.npz"), {"id": ids, "class": labels})
    report = _run(data, tmp_path / "out", classes=str(tmp_path / "clusters.npz"))
    found = {entry["name"]: entry["particles"] for entry in report["reconstructions"]}
    assert found == {"class_001": int((labels == 1).sum()), "class_002": int((labels == 2).sum())}
    assert report["left_out"] == {"class_004": 1}
    # class 1 alone, as a particle set of its own, makes the same map
    table = read_particles(str(data / "particles.star"))
    write_particles(str(data / "class1.star"), table.subset(np.sort(ids[labels == 1]) - 1))
    (tmp_path / "own").mkdir()
    reconstruct_command.run(ReconstructConfig(particles=str(data / "class1.star"), output=str(tmp_path / "own"), threads=1))
    first, second = _map(tmp_path / "out/class_001.mrc"), _map(tmp_path / "own/map.mrc")
    assert float((first - second).abs().max()) < 1e-4 * float(first.max())


def test_bad_input(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="symmetry 'Q7'"):
        _run(data, tmp_path, symmetry="Q7")
    write_map(str(tmp_path / "mask.mrc"), np.ones((8, 8, 8), np.float32), PIXEL)
    with pytest.raises(InputError, match="mask"):
        _run(data, tmp_path, mask=str(tmp_path / "mask.mrc"))
    write_table(str(tmp_path / "c.npz"), {"id": [1, 2, 999], "class": [1, 1, 1]})
    with pytest.raises(InputError, match="999"):
        _run(data, tmp_path, classes=str(tmp_path / "c.npz"))
    write_table(str(tmp_path / "c.npz"), {"id": [1, 2], "class": [0, 0]})
    with pytest.raises(InputError, match="no particle in a class"):
        _run(data, tmp_path, classes=str(tmp_path / "c.npz"))
    write_table(str(tmp_path / "c.npz"), {"id": [1, 2], "group": [0, 0]})
    with pytest.raises(InputError, match="'class'"):
        _run(data, tmp_path, classes=str(tmp_path / "c.npz"))
    table = read_particles(str(data / "particles.star"))
    table.ctf = None
    write_particles(str(data / "no_ctf.star"), table)
    with pytest.raises(InputError, match="no CTF"):
        reconstruct_command.run(ReconstructConfig(particles=str(data / "no_ctf.star"), output=str(tmp_path), threads=1))
    table.angles_deg = None
    write_particles(str(data / "no_pose.star"), table)
    with pytest.raises(InputError, match="no poses"):
        reconstruct_command.run(ReconstructConfig(particles=str(data / "no_pose.star"), output=str(tmp_path), threads=1))


def test_fsc_command(data: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    truth = read_map(str(data / "true.mrc")).data
    write_map(str(tmp_path / "noisy.mrc"), truth + generator.normal(0, 3 * truth.std(), truth.shape).astype(np.float32), PIXEL)
    mask = sphere_mask(BOX, 10, 3)
    write_map(str(tmp_path / "mask.mrc"), mask.numpy(), PIXEL)
    values = dict(map1=str(data / "true.mrc"), map2=str(tmp_path / "noisy.mrc"), output=str(tmp_path), threshold=0.5, threads=1)
    fsc_command.run(FscConfig(mask=str(tmp_path / "mask.mrc"), **values))
    with open(tmp_path / "fsc.csv") as handle:
        rows = list(csv.DictReader(handle))
    noisy = _map(tmp_path / "noisy.mrc")
    assert np.allclose([float(row["fsc"]) for row in rows], fsc(torch.from_numpy(truth.copy()), noisy, mask)[1:], atol=1e-5)
    assert np.allclose([float(row["fsc_unmasked"]) for row in rows], fsc(torch.from_numpy(truth.copy()), noisy)[1:], atol=1e-5)
    assert (tmp_path / "figures/fsc.png").exists()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["masked"] and 2 * PIXEL <= summary["resolution_angst"] < BOX * PIXEL
    write_map(str(tmp_path / "small.mrc"), truth[:8, :8, :8], PIXEL)
    write_map(str(tmp_path / "coarse.mrc"), truth, 5.0)
    for other, message in (("small.mrc", "shapes differ"), ("coarse.mrc", "pixel sizes differ")):
        with pytest.raises(InputError, match=message):
            fsc_command.run(FscConfig(**{**values, "map2": str(tmp_path / other)}))
    with pytest.raises(InputError, match="Two maps"):
        fsc_command.run(FscConfig(output=str(tmp_path), threads=1))
