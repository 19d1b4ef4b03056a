"""Particles of cryoSPARC: conventions, passthrough files, and the way there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from cryolearn.engine.__main__ import main
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.poses import euler_to_matrix
from cryolearn.engine.io.cryosparc import write_cs
from cryolearn.engine.io.stacks import ImageStack, write_stack
from cryolearn.engine.io.star import read_particles, write_particles
from cryolearn.engine.io.star_text import read_star, write_star

BOX, PIXEL, COUNT = 8, 1.5, 6


def _rows(**changes):
    rng = np.random.default_rng(5)
    columns = {
        "uid": rng.integers(1, 2**64, COUNT, dtype=np.uint64),
        "blob/path": np.full(COUNT, b">J3/extract/stack.mrc"), "blob/idx": np.arange(COUNT, dtype="u4")[::-1],
        "blob/shape": np.full((COUNT, 2), BOX, "u4"), "blob/psize_A": np.full(COUNT, PIXEL, "f4"), "blob/sign": np.ones(COUNT, "f4"),
        "ctf/accel_kv": np.array([300, 300, 300, 200, 200, 200], "f4"), "ctf/cs_mm": np.full(COUNT, 2.7, "f4"), "ctf/amp_contrast": np.full(COUNT, 0.1, "f4"),
        "ctf/df1_A": rng.uniform(8e3, 2e4, COUNT).astype("f4"), "ctf/df2_A": rng.uniform(8e3, 2e4, COUNT).astype("f4"),
        "ctf/df_angle_rad": rng.uniform(0, 3, COUNT).astype("f4"), "ctf/phase_shift_rad": np.full(COUNT, 0.25, "f4"),
        "ctf/exp_group_id": np.array([7, 7, 7, 9, 9, 9], "u4"), "ctf/tilt_A": np.zeros((COUNT, 2), "f4"), "ctf/scale": np.ones(COUNT, "f4"),
        "alignments3D/pose": rng.normal(size=(COUNT, 3)).astype("f4"), "alignments3D/shift": rng.normal(size=(COUNT, 2)).astype("f4"),
        "alignments3D/psize_A": np.full(COUNT, 2 * PIXEL, "f4"), "alignments3D/split": np.array([0, 1, 0, 1, 0, 1], "u4"),
        "alignments3D/class": np.arange(COUNT, dtype="u4"), "location/micrograph_path": np.full(COUNT, b"J1/mic.mrc"),
    }
    return {**columns, **changes}


def _save(path, columns):
    records = np.empty(COUNT, [(name, values.dtype, values.shape[1:]) for name, values in columns.items()])
    for name, values in columns.items():
        records[name] = values
    with open(path, "wb") as handle:
        np.save(handle, records)
    return records


@pytest.fixture
def job(tmp_path):
    """Folder of a job in a project that has the stack."""
    for name in ("J3/extract", "J9"):
        (tmp_path / name).mkdir(parents=True)
    write_stack(str(tmp_path / "J3" / "extract" / "stack.mrc"), np.arange(COUNT * BOX * BOX).reshape(COUNT, BOX, BOX), PIXEL)
    return tmp_path / "J9"


def test_what_is_read(job):
    columns = _rows()
    _save(job / "J9_particles.cs", columns)
    found = read_particles(str(job / "J9_particles.cs"))
    assert (len(found), found.box, found.pixel_size_angst) == (COUNT, BOX, PIXEL)
    assert list(found.image_index) == [5, 4, 3, 2, 1, 0] and found.image_file == [str(job.parent / "J3" / "extract" / "stack.mrc")]
    assert found.ctf.defocus_u == pytest.approx(columns["ctf/df1_A"]) and found.ctf.defocus_v == pytest.approx(columns["ctf/df2_A"])
    assert found.ctf.defocus_angle == pytest.approx(np.degrees(columns["ctf/df_angle_rad"])) and found.ctf.phase_shift == pytest.approx(np.degrees(0.25))
    assert list(found.ctf.voltage_kv) == [300, 300, 300, 200, 200, 200] and found.ctf.cs_mm == pytest.approx(2.7)
    assert list(found.optics_group) == [1, 1, 1, 2, 2, 2] and list(found.random_subset) == [1, 2, 1, 2, 1, 2]
    assert found.origin_angst == pytest.approx(2 * PIXEL * columns["alignments3D/shift"], rel=1e-6)  # in pixels of the alignment
    assert len(set(found.ids)) == COUNT and (found.ids > 0).all()


def test_a_pose_is_the_rotation_vector_of_the_transposed_matrix(job):
    """As pyem and cryoDRGN read it: RELION's matrix is exp(-[r]x); about z it is rot + psi, about y the tilt."""
    poses = np.array([[0, 0, 0.3], [0, 0.4, 0], [0.5, 0, 0], [0, 0, 0], [1, -2, 0.5], [0, np.pi, 0]], "f4")
    _save(job / "J9_particles.cs", _rows(**{"alignments3D/pose": poses}))
    angles = read_particles(str(job / "J9_particles.cs")).angles_deg
    assert angles[0, 1] == pytest.approx(0) and angles[0, 0] + angles[0, 2] == pytest.approx(np.degrees(0.3), rel=1e-6)
    assert angles[1] == pytest.approx([0, np.degrees(0.4), 0], abs=1e-5)
    for (x, y, z), found in zip(poses.astype(float), euler_to_matrix(torch.from_numpy(angles)).numpy()):
        assert found == pytest.approx(expm(-np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])), abs=1e-6)


def test_there_and_back_without_loss(job):
    records = _save(job / "J9_particles.cs", _rows(**{"ctf/tilt_A": np.full((COUNT, 2), 0.5, "f4")}))
    table = read_particles(str(job / "J9_particles.cs"))
    write_particles(str(job / "particles.star"), table)
    back = np.load(job / "particles.cs", allow_pickle=False)
    assert back.dtype == records.dtype and back.tobytes() == records.tobytes()
    star = read_particles(str(job / "particles.star"))
    assert star.angles_deg == pytest.approx(table.angles_deg, abs=1e-6) and star.origin_angst == pytest.approx(table.origin_angst, abs=1e-6)
    assert star.image_file == table.image_file and np.array_equal(star.ids, table.ids)
    part = table.subset([4, 1])
    write_particles(str(job / "part.star"), part)
    assert np.load(job / "part.cs", allow_pickle=False).tobytes() == records[[4, 1]].tobytes()


def test_new_poses_replace_the_old_ones_and_nothing_else(job):
    records = _save(job / "J9_particles.cs", _rows())
    rng = np.random.default_rng(8)
    angles, origin = rng.uniform(5, 170, (COUNT, 3)), rng.normal(size=(COUNT, 2))
    write_particles(str(job / "new.star"), read_particles(str(job / "J9_particles.cs")).with_poses(angles, origin))
    found = read_particles(str(job / "new.cs"))
    assert found.angles_deg == pytest.approx(angles, abs=1e-4) and found.origin_angst == pytest.approx(origin, abs=1e-5)
    back = np.load(job / "new.cs", allow_pickle=False)
    changed = ("alignments3D/pose", "alignments3D/shift", "alignments3D/psize_A")
    assert all(np.array_equal(back[name], records[name]) for name in records.dtype.names if name not in changed)


def test_passthrough_files_of_the_job_are_joined_by_uid(job):
    columns = _rows()
    rest = ("blob/path", "blob/idx", "blob/shape", "blob/psize_A", "ctf/df1_A", "location/micrograph_path")
    _save(job / "J9_012_particles.cs", {name: values for name, values in columns.items() if name not in rest})
    with pytest.raises(InputError, match=r"J9_012_particles\.cs' has no column blob/path.*passthrough"):
        read_particles(str(job / "J9_012_particles.cs"))
    order = np.array([3, 0, 5, 1, 2, 4])
    _save(job / "J9_passthrough_particles.cs", {name: columns[name][order] for name in ("uid", *rest)})
    _save(job / "J8_passthrough_particles.cs", {"uid": columns["uid"], "blob/path": np.full(COUNT, b"other.mrc")})
    found = read_particles(str(job / "J9_012_particles.cs"))
    assert list(found.image_index) == [5, 4, 3, 2, 1, 0] and found.ctf.defocus_u == pytest.approx(columns["ctf/df1_A"])


def test_a_passthrough_file_that_lacks_particles_is_named(job):
    columns = _rows()
    _save(job / "J9_particles.cs", {name: values for name, values in columns.items() if not name.startswith("blob/")})
    columns["uid"] = np.concatenate([columns["uid"][:4], np.array([5, 6], np.uint64)])
    _save(job / "J9_passthrough_particles.cs", columns)
    with pytest.raises(InputError, match=r"J9_passthrough_particles\.cs' lacks 2 of the 6 particles"):
        read_particles(str(job / "J9_particles.cs"))


def test_a_uid_that_comes_twice_is_refused(job):
    columns = _rows()
    columns["uid"][3] = columns["uid"][1]
    _save(job / "J9_particles.cs", columns)
    with pytest.raises(InputError, match=rf"uid {columns['uid'][1]} more than once .1 rows of 6"):
        read_particles(str(job / "J9_particles.cs"))


@pytest.mark.parametrize("kind", ["alignments2D", "alignments_class_0", "alignments3D_multi"])
def test_alignments_that_are_no_poses_are_named(job, capsys, kind):
    _save(job / "J9_particles.cs", {name.replace("alignments3D", kind): values for name, values in _rows().items()})
    assert read_particles(str(job / "J9_particles.cs")).angles_deg is None
    assert f"no alignments3D/pose, but {kind}" in capsys.readouterr().out


def test_images_dark_on_light_are_inverted(job, capsys):
    sign = np.array([1, -1, 1, -1, 1, 1], "f4")
    _save(job / "J9_particles.cs", _rows(**{"blob/sign": sign}))
    table = read_particles(str(job / "J9_particles.cs"))
    assert "dark on light" in capsys.readouterr().out
    plain = np.arange(COUNT * BOX * BOX).reshape(COUNT, BOX, BOX)[::-1]
    assert np.array_equal(ImageStack(table).read([1, 2, 3]), plain[1:4] * sign[1:4, None, None])
    write_particles(str(job / "particles.star"), table)
    assert np.array_equal(ImageStack(read_particles(str(job / "particles.star"))).read([3, 0]), plain[[3, 0]] * sign[[3, 0], None, None])


def test_what_is_not_used_is_named(job, capsys):
    _save(job / "J9_particles.cs", _rows(**{"ctf/tilt_A": np.full((COUNT, 2), 0.5, "f4"), "ctf/scale": np.full(COUNT, 0.9, "f4")}))
    table = read_particles(str(job / "J9_particles.cs"))
    assert "not used" in (said := capsys.readouterr().out) and "ctf/tilt_A, ctf/scale" in said
    assert len(table.warnings) == 1 and table.warnings[0] in said and table.subset([0]).warnings == table.warnings  # for the summary


def test_particles_of_a_star_as_cs(job, tmp_path):
    """A .cs made from a STAR gives the same particles."""
    _save(job / "J9_particles.cs", _rows())
    write_particles(str(tmp_path / "a.star"), read_particles(str(job / "J9_particles.cs")))
    table = read_particles(str(tmp_path / "a.star"))
    write_cs(str(tmp_path / "b.cs"), table)
    back = read_particles(str(tmp_path / "b.cs"))
    assert np.array_equal(back.ids, table.ids) and back.image_file == table.image_file and np.array_equal(back.image_index, table.image_index)
    assert back.angles_deg == pytest.approx(table.angles_deg, abs=2e-4) and back.origin_angst == pytest.approx(table.origin_angst, abs=1e-5)
    assert np.array_equal(back.random_subset, table.random_subset) and list(back.ctf.voltage_kv) == list(table.ctf.voltage_kv)
    for name, values in vars(table.ctf).items():
        found = getattr(back.ctf, name)
        assert (found is None and values is None) or found == pytest.approx(values, rel=1e-6), name


def test_the_command_writes_both(job, tmp_path, capsys):
    records = _save(job / "J9_particles.cs", _rows())
    output = tmp_path / "out"
    assert main(["convert-particles", "--particles", str(job / "J9_particles.cs"), "--output", str(output)]) == 0
    assert np.load(output / "particles.cs", allow_pickle=False).tobytes() == records.tobytes()
    blocks = read_star(str(output / "particles.star"))
    blocks["optics"]["rlnBeamTiltX"] = np.array([0.5, 0.5])
    write_star(str(tmp_path / "tilted.star"), blocks)
    assert main(["convert-particles", "--particles", str(tmp_path / "tilted.star"), "--output", str(output)]) == 0
    assert "rlnBeamTiltX" in capsys.readouterr().out
    found, back = read_particles(str(tmp_path / "tilted.star")), read_particles(str(output / "particles.cs"))
    assert np.array_equal(found.ids, back.ids) and found.image_file == back.image_file and back.angles_deg == pytest.approx(found.angles_deg, abs=2e-4)


def test_what_cannot_be_used_is_refused(job):
    path = job / "J9_particles.cs"
    _save(path, _rows(**{"blob/shape": np.tile(np.array([8, 9], "u4"), (COUNT, 1))}))
    with pytest.raises(InputError, match="9 x 8 px"):
        read_particles(str(path))
    with open(path, "wb") as handle:
        np.save(handle, np.array([{"uid": 1}], dtype=object))
    with pytest.raises(InputError, match="without pickles"):
        read_particles(str(path))
    (job / "J9_particles.csg").write_text("created: now\n")
    with pytest.raises(InputError, match=r"give the \.cs file"):
        read_particles(str(job / "J9_particles.csg"))
    with pytest.raises(InputError, match="absent"):
        read_particles(str(job / "absent.cs"))
