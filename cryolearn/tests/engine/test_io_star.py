"""Particle STAR files: round trips, refusals, and a million particles."""

from __future__ import annotations

import shutil
import subprocess
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.stacks import StackWriter, write_stack
from cryolearn.engine.io.star import CtfTable, ParticleTable, read_particles, write_particles
from cryolearn.engine.io.star_text import read_star, write_star

BOX, PIXEL = 8, 1.5


def _table(folder, count=6, **changes):
    rng = np.random.default_rng(3)
    path = str(folder / "stack.mrcs")
    write_stack(path, rng.normal(size=(count, BOX, BOX)), PIXEL)
    values = dict(
        ids=np.arange(count) * 7 + 3, image_file=[path], file_index=np.zeros(count, int), image_index=np.arange(count),
        pixel_size_angst=PIXEL, box=BOX, angles_deg=rng.uniform(-180, 180, (count, 3)), origin_angst=rng.uniform(-9, 9, (count, 2)),
        ctf=CtfTable(
            defocus_u=rng.uniform(5e3, 2e4, count), defocus_v=rng.uniform(5e3, 2e4, count), defocus_angle=rng.uniform(0, 180, count),
            phase_shift=np.zeros(count), voltage_kv=np.full(count, 300.0), cs_mm=np.full(count, 2.7),
            amplitude_contrast=np.full(count, 0.07),
        ),
        random_subset=np.arange(count) % 2 + 1,
        extra={
            "rlnMicrographName": np.array([f"mic{i}.mrc" for i in range(count)], dtype=object),
            "rlnGroupNumber": np.arange(count), "rlnLogLikeliContribution": rng.normal(size=count) * 1e5,
        },
    )
    return ParticleTable(**{**values, **changes})


def _written(folder, **changes):
    path = str(folder / "particles.star")
    write_particles(path, _table(folder, **changes))
    return path


def _replaced(path, old, new, count=1):
    with open(path) as handle:
        text = handle.read()
    assert old in text
    with open(path, "w") as handle:
        handle.write(text.replace(old, new, count))
    return path


def test_what_is_written_is_read_back(tmp_path):
    table = _table(tmp_path)
    path = str(tmp_path / "particles.star")
    write_particles(path, table)
    back = read_particles(path)
    assert np.array_equal(back.ids, table.ids)
    assert back.image_file == table.image_file and np.array_equal(back.image_index, table.image_index)
    assert (back.pixel_size_angst, back.box) == (PIXEL, BOX)
    # six decimals are written
    assert np.abs(back.angles_deg - table.angles_deg).max() <= 5.1e-7
    assert np.abs(back.origin_angst - table.origin_angst).max() <= 5.1e-7
    for name, values in vars(table.ctf).items():
        assert getattr(back.ctf, name) is None if values is None else np.abs(getattr(back.ctf, name) - values).max() <= 5.1e-7
    assert np.array_equal(back.random_subset, table.random_subset)
    for label, values in table.extra.items():
        assert np.array_equal(back.extra[label], values), label


def test_a_second_round_trip_changes_nothing(tmp_path):
    first, second = _written(tmp_path), str(tmp_path / "again.star")
    write_particles(second, read_particles(first))
    with open(first) as one, open(second) as two:
        assert one.read() == two.read()


def test_a_star_as_relion_writes_it(tmp_path):
    write_stack(str(tmp_path / "a.mrcs"), np.zeros((3, BOX, BOX)), PIXEL)
    path = tmp_path / "relion.star"
    path.write_text(
        "\n# version 30001 / CCPEM_pipeliner\n\ndata_optics\n\nloop_ \n_rlnOpticsGroupName #1 \n_rlnOpticsGroup #2 \n"
        "_rlnVoltage #3 \n_rlnSphericalAberration #4 \n_rlnAmplitudeContrast #5 \n_rlnImagePixelSize #6 \n_rlnImageSize #7 \n"
        "opticsGroup1            2   300.000000     2.700000     0.100000     1.500000            8 \n"
        "opticsGroup2            1   200.000000     2.000000     0.070000     1.500000            8 \n \n\n"
        "# version 30001\n\ndata_particles\n\nloop_ \n_rlnImageName #1 \n_rlnOpticsGroup #2 \n_rlnDefocusU #3 \n_rlnDefocusV #4 \n"
        "_rlnDefocusAngle #5 \n_rlnAngleRot #6 \n_rlnAngleTilt #7 \n_rlnAnglePsi #8 \n_rlnOriginXAngst #9 \n_rlnOriginYAngst #10 \n"
        "000003@a.mrcs            1 10000.000000  9000.000000    30.000000    10.0 20.0 30.0 1.5 -3.0 \n"
        "000001@a.mrcs            2 12000.000000 11000.000000    40.000000    40.0 50.0 60.0 0.0 0.25 \n \n"
    )
    table = read_particles(str(path))
    assert list(table.ids) == [1, 2] and list(table.image_index) == [2, 0]
    assert list(table.ctf.voltage_kv) == [200, 300] and list(table.ctf.cs_mm) == [2.0, 2.7]
    assert list(table.ctf.amplitude_contrast) == [0.07, 0.1] and list(table.ctf.phase_shift) == [0, 0]
    assert table.angles_deg.tolist() == [[10, 20, 30], [40, 50, 60]] and table.origin_angst.tolist() == [[1.5, -3], [0, 0.25]]


def test_the_starfile_package_reads_the_same(tmp_path):
    starfile = pytest.importorskip("starfile")
    path = _written(tmp_path)
    theirs, ours = starfile.read(path), read_star(path)
    for block in ("optics", "particles"):
        assert list(theirs[block].columns) == list(ours[block])
        for label, values in ours[block].items():
            found = theirs[block][label].to_numpy()
            assert np.array_equal(found, values) if values.dtype == object else np.allclose(found, values, rtol=1e-12, atol=0), label
    starfile.write(theirs, tmp_path / "theirs.star")
    again = read_particles(str(tmp_path / "theirs.star"))
    assert np.abs(again.angles_deg - read_particles(path).angles_deg).max() < 1e-6


@pytest.mark.skipif(shutil.which("relion_star_printtable") is None, reason="RELION is not installed")
def test_relion_reads_the_same(tmp_path):
    table = read_particles(_written(tmp_path))
    command = ["relion_star_printtable", "particles.star", "data_particles", "rlnImageName", "rlnAngleTilt", "rlnDefocusV", "rlnMicrographName"]
    rows = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split("\n")
    rows = [row.split() for row in rows if row.strip()]
    assert len(rows) == len(table)
    for row, (name, tilt, defocus, micrograph) in enumerate(rows):
        assert name == f"{row + 1:06d}@stack.mrcs" and micrograph == f"mic{row}.mrc"
        assert float(tilt) == pytest.approx(table.angles_deg[row, 1], abs=1e-5)
        assert float(defocus) == pytest.approx(table.ctf.defocus_v[row], rel=1e-6)


def test_subset_keeps_ids_and_every_column(tmp_path):
    table = _table(tmp_path)
    part = table.subset([4, 1])
    assert list(part.ids) == [31, 10] and list(part.extra["rlnMicrographName"]) == ["mic4.mrc", "mic1.mrc"]
    assert np.array_equal(part.angles_deg, table.angles_deg[[4, 1]]) and np.array_equal(part.ctf.defocus_u, table.ctf.defocus_u[[4, 1]])
    assert list(table.subset(table.ids > 20).ids) == [24, 31, 38]
    moved = part.with_poses(np.ones((2, 3)), np.zeros((2, 2)))
    assert moved.angles_deg.tolist() == [[1, 1, 1]] * 2 and np.array_equal(moved.ids, part.ids)
    with pytest.raises(ValueError):
        part.with_poses(np.ones((3, 3)), np.zeros((3, 2)))


def test_images_beside_the_star_come_before_those_of_the_project(tmp_path, monkeypatch):
    beside, project = tmp_path / "beside", tmp_path / "project"
    for folder in (beside, project):
        folder.mkdir()
    path = _written(beside)
    monkeypatch.chdir(project)
    assert read_particles(path).image_file == [str(beside / "stack.mrcs")]
    write_stack(str(project / "stack.mrcs"), np.zeros((6, BOX, BOX)), PIXEL)
    assert read_particles(path).image_file == [str(beside / "stack.mrcs")]
    (beside / "stack.mrcs").unlink()
    assert read_particles(path).image_file == [str(project / "stack.mrcs")]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("000002@stack.mrcs", "000007@stack.mrcs", ["image 7", "stack.mrcs", "particle 10", "6 images"]),
        ("000002@stack.mrcs", "000000@stack.mrcs", ["000000@stack.mrcs", "particle 10"]),
        ("000002@stack.mrcs", "stack.mrcs", ["'stack.mrcs'", "particle 10"]),
        ("000002@stack.mrcs", "000002@absent.mrcs", ["absent.mrcs", "particles.star"]),
        ("data_optics", "data_other", ["data_optics"]),
        ("rlnImagePixelSize", "rlnOther", ["rlnImagePixelSize"]),
        ("_rlnImageName", "_rlnImageOtherName", ["rlnImageName"]),
        ("_rlnAngleTilt ", "_rlnAngleOther ", ["rlnAngleTilt"]),
        ("\t10\t", "\t17\t", ["17", "more than once"]),
        ("mic1.mrc", "", ["row 2", "columns"]),
    ],
)
def test_faults_are_refused_by_name(tmp_path, old, new, words):
    path = _replaced(_written(tmp_path), old, new)
    with pytest.raises(InputError) as caught:
        read_particles(path)
    message = str(caught.value)
    assert all(word in message for word in words) and message.endswith(".") and "\n" not in message


def test_a_pose_that_is_no_number_is_refused(tmp_path):
    angles = np.zeros((6, 3))
    angles[4, 1] = np.nan
    path = _written(tmp_path, angles_deg=angles)
    with pytest.raises(InputError, match=r"rlnAngleTilt of particle 31"):
        read_particles(path)


def test_mixed_pixel_and_box_sizes_are_those_of_most_particles(tmp_path):
    path = _written(tmp_path, optics_group=np.array([1, 1, 2, 2, 2, 2]))
    for label, found in (("rlnImagePixelSize", (2 * PIXEL, BOX)), ("rlnImageSize", (2 * PIXEL, 2 * BOX))):
        blocks = read_star(path)
        blocks["optics"][label][1] *= 2
        write_star(path, blocks)
        table = read_particles(path, check_images=False)
        assert (table.pixel_size_angst, table.box) == found
    with pytest.raises(InputError, match=f"are {BOX} x {BOX} px, but the STAR file says {2 * BOX} x {2 * BOX} px"):
        read_particles(path)
    assert np.array_equal(table.groups()[1], [0, 0, 1, 1, 1, 1])


def test_an_optics_group_that_is_not_described_is_refused(tmp_path):
    path = _written(tmp_path)
    blocks = read_star(path)
    blocks["particles"]["rlnOpticsGroup"][3] = 4
    write_star(path, blocks)
    with pytest.raises(InputError, match="particle 24 in optics group 4"):
        read_particles(path)


def test_absent_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.star"):
        read_particles(str(tmp_path / "nothing.star"))
    (tmp_path / "text.star").write_text("hello\n")
    with pytest.raises(InputError, match="not a STAR file"):
        read_particles(str(tmp_path / "text.star"))


_TEXT = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S"), exclude_characters="\"'#"), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5),
    texts=st.lists(_TEXT | st.just("two words"), min_size=5, max_size=5),
    whole=st.lists(st.integers(-(2**62), 2**62), min_size=5, max_size=5),
)
def test_any_value_survives_a_block(tmp_path, numbers, texts, whole):
    count = len(numbers)
    block = {
        "rlnSomeName": np.array(texts[:count], dtype=object), "rlnReal": np.array(numbers), "rlnWhole": np.array(whole[:count]),
    }
    path = str(tmp_path / "any.star")
    write_star(path, {"things": block})
    back = read_star(path)["things"]
    assert list(back["rlnSomeName"]) == [text if text not in ("nan", "NaN", "None") else "" for text in texts[:count]]
    assert np.array_equal(np.asarray(back["rlnReal"], float), block["rlnReal"]) and np.array_equal(back["rlnWhole"], block["rlnWhole"])


def test_a_million_particles_open_in_seconds(tmp_path):
    count, stacks = 1_000_000, 500
    for number in range(stacks):
        StackWriter(str(tmp_path / f"stack{number}.mrcs"), count // stacks, 2, PIXEL).close()
    path = tmp_path / "million.star"
    names = ("rlnImageName", "rlnImageId", "rlnOpticsGroup", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnAngleRot",
             "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst")
    rest = "1\t10123.456789\t9876.543210\t45.125000\t-12.345678\t87.654321\t123.456789\t-1.234567\t2.345678\n"
    with open(path, "w") as handle:
        handle.write("data_optics\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n_rlnImageSize\n_rlnVoltage\n_rlnSphericalAberration\n"
                     "_rlnAmplitudeContrast\n1 1.5 2 300 2.7 0.1\n\ndata_particles\nloop_\n")
        handle.writelines(f"_{name}\n" for name in names)
        for number in range(stacks):
            first = number * (count // stacks)
            handle.write("".join(f"{i + 1:06d}@stack{number}.mrcs\t{first + i + 1}\t{rest}" for i in range(count // stacks)))
    start = time.process_time()
    table = read_particles(str(path))
    seconds = time.process_time() - start
    assert len(table) == count and table.ids[-1] == count and table.file_index[-1] == stacks - 1
    assert table.angles_deg[123456].tolist() == [-12.345678, 87.654321, 123.456789]
    assert seconds < 15
