"""STAR files of all RELION versions and of other writers: what is read alike, and what is refused by name."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pytest

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star import read_particles, write_particles
from cryolearn.engine.io.star_text import read_star
from cryolearn.engine.io.subtomograms import read_subtomograms

BOX = 8
OPTICS = """data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
group1 1 300 2.7 0.1 1.5 8

"""
LABELS = ("rlnImageName", "rlnOpticsGroup", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst",
          "rlnOriginYAngst", "rlnMicrographName")
ROWS = [f"00000{n}@stack.mrcs 1 1{n}000 1{n}500 4{n} 1{n} 2{n} 3{n} 1.5 -3 mic_{n}.mrc" for n in range(1, 5)]
PARTICLES = "data_particles\n\nloop_\n" + "".join(f"_{label} #{n}\n" for n, label in enumerate(LABELS, 1))
TEXT = "# version 30001\n\n" + OPTICS + PARTICLES + "\n".join(ROWS) + "\n"
# the same particles as RELION 3.0 has them, and as older versions
OLD_LABELS = ("rlnImageName", "rlnMagnification", "rlnDetectorPixelSize", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", *LABELS[2:8],
              "rlnOriginX", "rlnOriginY", "rlnMicrographName")
OLD_ROWS = [f"00000{n}@stack.mrcs 100000 15 300 2.7 0.1 1{n}000 1{n}500 4{n} 1{n} 2{n} 3{n} 1 -2 mic_{n}.mrc" for n in range(1, 5)]
OLD = "data_\n\nloop_\n" + "".join(f"_{label} #{n}\n" for n, label in enumerate(OLD_LABELS, 1)) + "\n".join(OLD_ROWS) + "\n"


def _file(folder, text, name="particles.star"):
    write_stack(str(folder / "stack.mrcs"), np.zeros((4, BOX, BOX)), 1.5)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def _assert_same(found):
    assert list(found.image_index) == [0, 1, 2, 3] and (found.pixel_size_angst, found.box) == (1.5, BOX)
    assert found.angles_deg.tolist() == [[10 + n, 20 + n, 30 + n] for n in range(1, 5)]
    assert found.origin_angst.tolist() == [[1.5, -3]] * 4
    ctf = found.ctf
    assert ctf.defocus_u.tolist() == [11000, 12000, 13000, 14000] and ctf.defocus_angle.tolist() == [41, 42, 43, 44]
    assert set(ctf.voltage_kv) == {300} and set(ctf.cs_mm) == {2.7} and set(ctf.amplitude_contrast) == {0.1}
    assert list(found.extra["rlnMicrographName"]) == [f"mic_{n}.mrc" for n in range(1, 5)]


SAME = {
    "as it is": TEXT,
    "byte-order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "byte-order mark before data_": b"\xef\xbb\xbf" + TEXT[TEXT.index("data_optics"):].encode(),
    "line ends of old Macs": TEXT.replace("\n", "\r"),
    "line ends of Windows": TEXT.replace("\n", "\r\n"),
    "block names with blanks before": TEXT.replace("data_", "  data_"),
    "comment behind a block name": TEXT.replace("data_particles", "data_particles  # of Refine3D"),
    "LOOP_": TEXT.replace("loop_", "LOOP_"),
    "comments between rows": TEXT.replace("\n000002@", "\n# checked by hand\n  # twice\n000002@"),
    "comments behind rows": TEXT.replace("mic_2.mrc", "mic_2.mrc   # checked by hand").replace("mic_3.mrc", "mic_3.mrc\t# 'quoted\""),
    "blank lines between rows": TEXT.replace("\n000002@", "\n\n \t\n000002@"),
    "line ends of Windows and of old Macs": TEXT[:120].replace("\n", "\r\n") + TEXT[120:200] + TEXT[200:].replace("\n", "\r"),
    "compressed": gzip.compress(TEXT.encode()),
    "names of stacks with their format": TEXT.replace("stack.mrcs", "stack.mrcs:mrcs"),
    "an optics group that nobody is in": TEXT.replace("group1 1 300 2.7 0.1 1.5 8\n", "group1 1 300 2.7 0.1 1.5 8\nempty 2 200 2.7 0.1 nan 16\n"),
    "particles named data_images": TEXT.replace("data_particles", "data_images"),
    "tables of RELION 5": "data_general\n\n_rlnTomoSubTomosAre2DStacks 0\n\n" + TEXT + "\ndata_job\n\n_rlnJobTypeLabel x\n",
    "optics with rlnPixelSize": TEXT.replace("rlnImagePixelSize", "rlnPixelSize"),
    "RELION 3.0": OLD,
    "RELION 3.0, data_images": OLD.replace("data_", "data_images"),
    "RELION 3.0, rlnPixelSize": OLD.replace("rlnDetectorPixelSize", "rlnPixelSize").replace(" 15 300", " 1.5 300"),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_the_same_particles_however_they_are_written(tmp_path, text):
    path = _file(tmp_path, text)
    found = read_particles(path)
    _assert_same(found)
    write_particles(str(tmp_path / "again.star"), found)
    optics = read_star(str(tmp_path / "again.star"))["optics"]
    assert list(optics["rlnImageSize"]) == [BOX] and list(optics["rlnImageDimensionality"]) == [2]  # RELION 3.1 refuses a table without
    _assert_same(read_particles(str(tmp_path / "again.star")))


def test_an_old_table_has_an_optics_group_for_each_acquisition(tmp_path):
    found = read_particles(_file(tmp_path, OLD.replace("15 300 2.7 0.1 12000", "15 200 2.7 0.07 12000")))
    assert found.ctf.voltage_kv.tolist() == [300, 200, 300, 300] and found.ctf.amplitude_contrast.tolist() == [0.1, 0.07, 0.1, 0.1]
    assert len(found.optics["rlnOpticsGroup"]) == 2 and found.optics_group.tolist() == [2, 1, 2, 2]


def test_names_with_hash_signs_are_no_comments(tmp_path):
    found = read_particles(_file(tmp_path, TEXT.replace("mic_2.mrc", "mic#2.mrc").replace("mic_3.mrc", '"mic #3.mrc"')))
    assert list(found.extra["rlnMicrographName"]) == ["mic_1.mrc", "mic#2.mrc", "mic #3.mrc", "mic_4.mrc"]


ROW = "000002@stack.mrcs 1 12000"
REFUSED = {
    "two columns of one name": (TEXT.replace("_rlnMicrographName #11", "_rlnDefocusU #11"), ["rlnDefocusU twice", "line 28", "data_particles"]),
    "two columns of one name in optics": (TEXT.replace("_rlnOpticsGroupName #1", "_rlnOpticsGroup #1"), ["rlnOpticsGroup twice", "data_optics"]),
    "two blocks of one name": (TEXT + "\n" + PARTICLES + ROWS[0] + "\n", ["data_particles twice", "line 34"]),
    "two optics groups of one number": (TEXT.replace("group1 1 300 2.7 0.1 1.5 8\n", "group1 1 300 2.7 0.1 1.5 8\ngroup2 1 200 2.7 0.1 1.5 8\n"),
                                        ["optics group 1 more than once"]),
    "origins that disagree": (TEXT.replace("_rlnDefocusAngle #5", "_rlnOriginX #5"), ["contradicts itself", "rlnOriginX", "particle 1 is 41 pixels", "1.5 Å"]),
    "pixel sizes that disagree": (OLD.replace("rlnOriginX", "rlnImagePixelSize").replace(" 1 -2 mic", " 2.5 -2 mic"),
                                  ["contradicts itself", "2.5 Å", "1.5 Å"]),
    "pixel size of a particle and of its group": (TEXT.replace("_rlnDefocusAngle #5", "_rlnImagePixelSize #5"), ["particle 1 is 41 Å", "1.5 Å"]),
    "too few values": (TEXT.replace("12000 ", ""), ["row 2 (line 30)", "10 values for 11 columns"]),
    "too many values": (TEXT.replace("12000 ", "12000 7 "), ["row 2 (line 30)", "12 values for 11 columns"]),
    "a decimal comma": (TEXT.replace(" 12000 ", " 12000,5 "), ["rlnDefocusU", "12000,5", "particle 2"]),
    "digits that only Python groups": (TEXT.replace(" 12000 ", " 12_000 "), ["rlnDefocusU", "12_000", "particle 2"]),
    "names of optics groups in place of numbers": (TEXT.replace("@stack.mrcs 1 ", "@stack.mrcs group1 "), ["rlnOpticsGroup", "'group1'"]),
    "damaged compressed": (gzip.compress(TEXT.encode())[:-20], ["compressed by gzip", "damaged"]),
    "particles of cisTEM": ("data_\n\nloop_\n_cisTEMPositionInStack #1\n_cisTEMAnglePsi #2\n1 20\n", ["cisTEM", "export"]),
    "an optimiser": ("data_optimiser_general\n\n_rlnExperimentalDataStarFile run_data.star\n", ["rlnExperimentalDataStarFile"]),
    "micrographs": (TEXT.replace("rlnImageName", "rlnOtherName").replace("data_particles", "data_micrographs"), ["micrographs", "extract"]),
    "UTF-16": (TEXT.encode("utf-16"), ["UTF-16", "save it as UTF-8"]),
    "no pixel size": (OLD.replace("rlnMagnification", "rlnOther"), ["no block data_optics", "rlnImagePixelSize"]),
    "no voltage": (OLD.replace("_rlnVoltage", "_rlnOther"), ["data_optics", "rlnVoltage"]),
    "subtomograms": (TEXT.replace("_rlnImageSize", "_rlnImageDimensionality").replace("1.5 8\n", "1.5 3\n"), ["subtomograms", "rlnImageDimensionality 3"]),
    "no particles": (OPTICS, ["data_particles", "rlnImageName"]),
    "two tables of particles": (OPTICS + PARTICLES.replace("data_particles", "data_a") + ROWS[0] + "\n\n" + PARTICLES.replace("data_particles", "data_b")
                                + ROWS[1] + "\n", ["data_a and data_b"]),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_contradictions_are_refused_by_name(tmp_path, text, words):
    with pytest.raises(InputError) as caught:
        read_particles(_file(tmp_path, text))
    message = str(caught.value)
    assert all(word in message for word in [*words, "particles.star"]) and message.endswith(".") and "\n" not in message


def test_particles_that_share_an_image_are_pointed_out(tmp_path, capsys):
    read_particles(_file(tmp_path, TEXT.replace("000003@", "000002@")))
    assert "WARNING: 1 of the 4 particles" in capsys.readouterr().out


def test_tilt_stacks_are_refused_as_what_they_are(tmp_path):
    text = "data_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\n" + TEXT.replace("000001@", "")
    flat = TEXT.replace("_rlnImageSize", "_rlnImageDimensionality").replace("1.5 8\n", "1.5 2\n").replace("rlnMicrographName", "rlnTomoVisibleFrames")
    for given in (text, flat):
        path = _file(tmp_path, given)
        for read in (read_particles, read_subtomograms):
            with pytest.raises(InputError, match="2D tilt stacks of RELION 5 or WarpTools"):
                read(path)


def test_stacks_are_found_from_the_folder_of_a_relion_project(tmp_path, monkeypatch):
    project, job, elsewhere = tmp_path / "project", tmp_path / "project" / "Refine3D" / "job012", tmp_path / "elsewhere"
    extracted = project / "Extract" / "job003"
    for folder in (job, elsewhere, extracted):
        folder.mkdir(parents=True)
    _file(extracted, TEXT)
    path = _file(job, TEXT.replace("@stack", "@Extract/job003/stack"))
    monkeypatch.chdir(elsewhere)
    assert read_particles(path).image_file == [str(extracted / "stack.mrcs")]


@pytest.mark.parametrize("name", ["Extract/job003/stack.mrcs", "/gone/Extract/job003/stack.mrcs", "C:\\gone\\Extract\\job003\\stack.mrcs",
                                  "Extract\\job003\\stack.mrcs"])
def test_moved_stacks_are_found_by_datadir(tmp_path, name):
    job, moved = tmp_path / "job", tmp_path / "moved"
    for folder in (job, moved):
        folder.mkdir()
    path = _file(job, TEXT.replace("@stack.mrcs", f"@{name}"))
    _file(moved, TEXT)
    with pytest.raises(InputError, match="--datadir") as caught:
        read_particles(path)
    assert name.startswith("/") or all(f"'{folder}'" in str(caught.value) for folder in (job, tmp_path, os.getcwd()))
    assert read_particles(path, datadir=str(moved)).image_file == [str(moved / "stack.mrcs")]
    (moved / "Extract" / "job003").mkdir(parents=True)
    _file(moved / "Extract" / "job003", TEXT)
    assert read_particles(path, datadir=str(moved)).image_file == [str(moved / "Extract" / "job003" / "stack.mrcs")]


def _tilted(values):
    """The particles of RELION 3.0 with a beam tilt each."""
    labels = [*OLD_LABELS, "rlnBeamTiltX", "rlnBeamTiltY"]
    rows = [f"{row} {x} {y}" for row, (x, y) in zip(OLD_ROWS, values)]
    return "data_\n\nloop_\n" + "".join(f"_{label} #{n}\n" for n, label in enumerate(labels, 1)) + "\n".join(rows) + "\n"


def test_beam_tilts_of_relion_30_become_optics_groups(tmp_path, capsys, monkeypatch):
    path = _file(tmp_path, _tilted([(0.2, 0), (-0.1, 0.3), (0.2, 0), (0, 0)]))
    found = read_particles(path)
    _assert_same(found)
    groups, rows = found.groups()
    assert groups.beam_tilt_mrad[rows].tolist() == [[0.2, 0], [-0.1, 0.3], [0.2, 0], [0, 0]] and len(groups.number) == 3
    assert not found.warnings and "not used" not in capsys.readouterr().out and "rlnBeamTiltX" not in found.extra
    write_particles(str(tmp_path / "again.star"), found)
    groups, rows = read_particles(str(tmp_path / "again.star")).groups()
    assert groups.beam_tilt_mrad[rows].tolist() == [[0.2, 0], [-0.1, 0.3], [0.2, 0], [0, 0]]
    monkeypatch.setattr("cryolearn.engine.io.star_versions._MOST_GROUPS", 2)
    with pytest.raises(InputError, match=r"3 different acquisitions .*rlnBeamTiltX"):
        read_particles(path)
