"""Sets of subtomograms: what is written is read, and each kind of bad input is refused by a sentence that names it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.star_text import read_star, write_star
from cryolearn.engine.io.subtomograms import SubtomogramStack, SubtomogramTable, read_subtomograms, write_subtomograms

BOX, PIXEL, COUNT = 8, 9.2, 5


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, SubtomogramTable, np.ndarray]:
    generator = np.random.default_rng(3)
    volumes = generator.standard_normal((COUNT, BOX, BOX, BOX)).astype(np.float32)
    files = []
    for number, volume in enumerate(volumes):
        files.append(str(tmp_path / "volumes" / f"s{number}.mrc"))
        (tmp_path / "volumes").mkdir(exist_ok=True)
        write_map(files[-1], volume, PIXEL)
    table = SubtomogramTable(
        ids=np.array([3, 1, 40, 7, 9]), file=files, pixel_size_angst=PIXEL, box=BOX, tilt_min_deg=np.full(COUNT, -60.0),
        tilt_max_deg=np.linspace(40, 60, COUNT),
        angles_deg=generator.uniform(0, 180, (COUNT, 3)), shifts_angst=generator.normal(size=(COUNT, 3)), class_name=["a", "b", "a", "NULL", "b"],
        random_subset=np.array([1, 2, 1, 2, 1]), extra={"rlnMicrographName": np.array(["t1"] * COUNT, dtype=object)},
    )
    path = tmp_path / "set.star"
    write_subtomograms(str(path), table)
    return path, table, volumes


def test_what_is_written_is_read(made: tuple[Path, SubtomogramTable, np.ndarray]) -> None:
    path, table, volumes = made
    read = read_subtomograms(str(path))
    assert read.ids.tolist() == table.ids.tolist() and read.class_name == table.class_name and read.random_subset is not None
    assert read.random_subset.tolist() == [1, 2, 1, 2, 1] and (read.box, read.pixel_size_angst) == (BOX, PIXEL)
    np.testing.assert_allclose(read.angles_deg, table.angles_deg, atol=1e-6)
    np.testing.assert_allclose(read.shifts_angst, table.shifts_angst, atol=1e-6)
    np.testing.assert_allclose(read.tilt_deg, table.tilt_deg)
    assert read.extra["rlnMicrographName"].tolist() == ["t1"] * COUNT
    np.testing.assert_array_equal(SubtomogramStack(read).read([4, 0, 2]), volumes[[4, 0, 2]])
    np.testing.assert_array_equal(SubtomogramStack(read, invert_contrast=True).read([1]), -volumes[[1]])
    part = read.subset(np.array([False, True, False, True, False]))
    assert part.ids.tolist() == [1, 7] and part.class_name == ["b", "NULL"]
    np.testing.assert_array_equal(SubtomogramStack(part).read([1]), volumes[[3]])
    columns = read_star(str(path))["particles"]
    np.testing.assert_allclose(columns["rlnOriginZAngst"], -table.shifts_angst[:, 2], atol=1e-6)  # RELION's origins are minus the shifts
    assert read_star(str(path))["optics"]["rlnImageDimensionality"].tolist() == [3]


def change(path: Path, block: str, label: str, values: object) -> None:
    blocks = read_star(str(path))
    if values is None:
        del blocks[block][label]
    else:
        blocks[block][label] = np.asarray(values)
    write_star(str(path), blocks)


@pytest.mark.parametrize(("block", "label", "values", "words"), [
    ("particles", "rlnTomoTiltAngleMin", None, "gives no tilt range"),
    ("particles", "rlnTomoTiltAngleMax", [60, np.nan, 60, 60, 60], "no tilt range for subtomogram 1 "),
    ("particles", "rlnTomoTiltAngleMax", [60, 60, 60, -70, 60], "subtomogram 7 the tilt range"),
    ("particles", "rlnImageId", [3, 1, 40, 3, 9], "rlnImageId 3 more than once"),
    ("optics", "rlnImageDimensionality", [2], "two-dimensional"),
])
def test_bad_columns_are_refused(made: tuple[Path, SubtomogramTable, np.ndarray], block: str, label: str, values: object, words: str) -> None:
    path, *_ = made
    change(path, block, label, values)
    with pytest.raises(InputError, match=re.escape(words)):
        read_subtomograms(str(path))


def test_stacks_missing_files_mixed_sampling_and_empty_sets_are_refused(made: tuple[Path, SubtomogramTable, np.ndarray]) -> None:
    path, table, _ = made
    names = read_star(str(path))["particles"]["rlnImageName"].tolist()
    change(path, "particles", "rlnImageName", np.array(["2@" + names[0], *names[1:]], dtype=object))
    with pytest.raises(InputError, match="subtomogram 3: give one MRC file"):
        read_subtomograms(str(path))
    change(path, "particles", "rlnImageName", np.array([*names[:4], "gone.mrc"], dtype=object))
    with pytest.raises(InputError, match=r"gone\.mrc"):
        read_subtomograms(str(path))
    change(path, "particles", "rlnImageName", np.array(names, dtype=object))
    blocks = read_star(str(path))
    blocks["optics"] = {label: np.concatenate([values, values]) for label, values in blocks["optics"].items()}
    blocks["optics"]["rlnOpticsGroup"] = np.array([1, 2])
    blocks["optics"]["rlnImagePixelSize"] = np.array([PIXEL, 2 * PIXEL])
    write_star(str(path), blocks)
    assert read_subtomograms(str(path)).pixel_size_angst == PIXEL  # nobody is in the second group
    blocks["particles"]["rlnOpticsGroup"] = np.array([1, 1, 1, 2, 2])
    write_star(str(path), blocks)
    with pytest.raises(InputError, match="mixes pixel sizes"):
        read_subtomograms(str(path))
    blocks["particles"] = {label: values[:0] for label, values in blocks["particles"].items()}
    write_star(str(path), blocks)
    with pytest.raises(InputError, match="has no subtomograms"):
        read_subtomograms(str(path))
    with pytest.raises(InputError, match="empty"):
        SubtomogramStack(table.subset([]))


@pytest.mark.filterwarnings("ignore:Data array contains NaN:RuntimeWarning")  # mrcfile, of the map that this test writes
def test_bad_volumes_are_refused_by_name(made: tuple[Path, SubtomogramTable, np.ndarray]) -> None:
    path, table, volumes = made
    wrong = volumes[2].copy()
    wrong[1, 2, 3] = np.nan
    write_map(table.file[2], wrong, PIXEL)
    stack = SubtomogramStack(read_subtomograms(str(path)))
    stack.read([0, 1])
    with pytest.raises(InputError, match=r"subtomogram 40 .*s2\.mrc.* NaN"):
        stack.read([0, 2])
    write_map(table.file[2], volumes[2, 1:, 1:, 1:], PIXEL)
    with pytest.raises(InputError, match="subtomogram 40 .* 7 x 7 x 7 voxels"):
        SubtomogramStack(table)
    write_map(table.file[2], volumes[2], 2 * PIXEL)
    with pytest.raises(InputError, match="subtomogram 40 .* 18.4 Å/voxel"):
        SubtomogramStack(table)
    write_map(table.file[2], volumes[2], 1.0)  # a program that does not know the voxel size
    SubtomogramStack(table)
