"""Images of SPIDER, Xmipp and IMAGIC, compressed files, and formats that are refused by name."""

from __future__ import annotations

import bz2
import gzip

import numpy as np
import pytest

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.map_grid import read_map_grid
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.mrc_header import read_header
from cryolearn.engine.io.stacks import ImageStack, write_stack
from cryolearn.engine.io.star import read_particles
from cryolearn.engine.io.subtomograms import SubtomogramStack, read_subtomograms

BOX, PIXEL = 10, 1.5
IMAGES = np.random.default_rng(2).normal(size=(4, BOX, BOX)).astype("f4")
VOLUME = np.random.default_rng(3).normal(size=(BOX, BOX, BOX)).astype("f4")


def _spider_header(shape, kind, order, stack=0, count=0, scale=PIXEL):
    """As the SPIDER manual has it: words counted from 1; the header fills whole records of a row each, 1024 bytes at least."""
    slices, rows, columns = shape
    record = 4 * columns
    labels = -(-1024 // record)
    words = np.zeros(labels * columns, order + "f4")
    for at, value in {1: slices, 2: rows, 5: kind, 12: columns, 13: labels, 22: labels * record, 23: record, 24: stack, 26: count, 38: scale}.items():
        words[at - 1] = value
    return words.tobytes()


def _spider_stack(path, order="<"):
    flat = (1, BOX, BOX)
    parts = [_spider_header(flat, 1, order, stack=2, count=len(IMAGES))]
    for image in IMAGES:
        parts += [_spider_header(flat, 1, order), image.astype(order + "f4").tobytes()]
    path.write_bytes(b"".join(parts))


def _imagic_stack(stem, order="<", kind=b"REAL"):
    records = []
    for number in range(len(IMAGES)):
        words = np.zeros(256, order + "i4")
        words[0], words[1], words[12], words[13] = number + 1, len(IMAGES) - 1 - number, BOX, BOX
        record = bytearray(words.tobytes())
        record[56:60] = kind
        records.append(bytes(record))
    stem.with_suffix(".hed").write_bytes(b"".join(records))
    stem.with_suffix(".img").write_bytes(IMAGES.astype(order + "f4").tobytes())


def _star(folder, stack):
    rows = "\n".join(f"00000{n}@{stack} 1 0 0 0" for n in (3, 1))
    (folder / "a.star").write_text("data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n1 1.5\n\ndata_particles\n\nloop_\n_rlnImageName\n"
                                   f"_rlnOpticsGroup\n_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n{rows}\n")
    return read_particles(str(folder / "a.star"))


@pytest.mark.parametrize("order", "<>")
def test_a_spider_stack(tmp_path, order):
    _spider_stack(tmp_path / "s.stk", order)
    table = _star(tmp_path, "s.stk")
    assert table.box == BOX and np.array_equal(ImageStack(table).read([0, 1]), IMAGES[[2, 0]])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("ending", [".hed", ".img"])
def test_an_imagic_stack(tmp_path, order, ending):
    _imagic_stack(tmp_path / "s", order)
    assert np.array_equal(ImageStack(_star(tmp_path, "s" + ending)).read([0, 1]), IMAGES[[2, 0]])


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", ["map.vol", "map.spi", "map.vol.gz"])
def test_a_spider_volume(tmp_path, order, name):
    content = _spider_header(VOLUME.shape, 3, order) + VOLUME.astype(order + "f4").tobytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    found = read_map(str(tmp_path / name))
    assert np.array_equal(found.data, VOLUME) and found.pixel_size_angst == pytest.approx(PIXEL) and found.origin_angst == (0, 0, 0)


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed_maps_are_read_and_stacks_are_refused(tmp_path, ending, pack):
    write_map(str(tmp_path / "map.mrc"), VOLUME, PIXEL)
    packed = tmp_path / ("map.mrc" + ending)
    packed.write_bytes(pack((tmp_path / "map.mrc").read_bytes()))
    for found in (read_map(str(packed)), read_map_grid(str(packed))):
        assert np.array_equal(found.data, VOLUME)
    packed.write_bytes(packed.read_bytes()[:1600])
    with pytest.raises(InputError, match=r"map\.mrc"):
        read_map(str(packed))
    write_stack(str(tmp_path / "s.mrcs"), IMAGES, PIXEL)
    (tmp_path / ("s.mrcs" + ending)).write_bytes(pack((tmp_path / "s.mrcs").read_bytes()))
    with pytest.raises(InputError, match="compressed.*unpack it"):
        ImageStack(_star(tmp_path, "s.mrcs" + ending))


@pytest.mark.parametrize(("name", "words"), [("a.hdf", "HDF5"), ("a.tif", "TIFF"), ("a.mrc.zst", "zstd"), ("a.em", "EM file"), ("a.hed", "must both be there")])
def test_other_formats_are_refused_by_name(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"\x89HDF" + bytes(4096))
    with pytest.raises(InputError, match=words):
        read_header(str(tmp_path / name))


def test_truncated_and_foreign_numbers_are_refused(tmp_path):
    _spider_stack(tmp_path / "s.stk")
    (tmp_path / "s.stk").write_bytes((tmp_path / "s.stk").read_bytes()[:-5])
    with pytest.raises(InputError, match="truncated: its header promises 4 sections of 10 x 10"):
        read_header(str(tmp_path / "s.stk"))
    _imagic_stack(tmp_path / "i", kind=b"COMP")
    with pytest.raises(InputError, match="COMP"):
        read_header(str(tmp_path / "i.hed"))


XMD = """# XMIPP_STAR_1 *
#
data_noname
loop_
 _itemId
 _enabled
 _image
 _angleRot
 _angleTilt
 _anglePsi
 _shiftX
 _shiftY
 _ctfVoltage
 _ctfDefocusU
 _ctfDefocusV
 _ctfDefocusAngle
 _ctfSphericalAberration
 _ctfQ0
 _flip
 _samplingRate
 7 1 000002@s.stk 10 20 30 1 -2 300 15000 14000 40 2.7 0.1 0 1.5
 8 -1 000003@s.stk 10 20 30 1 -2 300 15000 14000 40 2.7 0.1 0 1.5
 9 1 000001@s.stk 11 21 31 0 0 300 16000 15000 41 2.7 0.1 0 1.5
"""


def test_particles_of_xmipp(tmp_path):
    _spider_stack(tmp_path / "s.stk")
    path = tmp_path / "images.xmd"
    path.write_text(XMD)
    found = read_particles(str(path))
    assert list(found.ids) == [7, 9] and found.pixel_size_angst == 1.5 and found.origin_angst.tolist() == [[1.5, -3], [0, 0]]
    assert found.angles_deg.tolist() == [[10, 20, 30], [11, 21, 31]] and found.ctf.defocus_angle.tolist() == [40, 41] and found.ctf.cs_mm.tolist() == [2.7, 2.7]
    assert np.array_equal(ImageStack(found).read([0, 1]), IMAGES[[1, 0]])
    path.write_text(XMD.replace("0.1 0 1.5", "0.1 1 1.5"))
    with pytest.raises(InputError, match="mirrored"):
        read_particles(str(path))
    path.write_text(XMD.replace("samplingRate", "other"))
    assert read_particles(str(path)).pixel_size_angst == 1.5  # of the stack's header
    path.write_text(XMD.replace("_flip", "_ctfPhaseShift").replace("0.1 0 1.5", "0.1 1.5 1.5"))
    with pytest.raises(InputError, match="phase shifts"):
        read_particles(str(path))


def _subtomograms(folder, name="s.mrc", optics="", particle="", value="", tail=""):
    write_map(str(folder / "s.mrc"), VOLUME, PIXEL)
    path = folder / "t.star"
    path.write_text(
        f"data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n{optics}1 1.5{tail}\n\ndata_particles\n\nloop_\n_rlnImageName\n_rlnOpticsGroup\n"
        f"_rlnTomoTiltAngleMin\n_rlnTomoTiltAngleMax\n{particle}{name} 1 -60 60{value}\n")
    return read_subtomograms(str(path))


def test_a_volume_named_as_the_first_of_its_file(tmp_path):
    assert np.array_equal(SubtomogramStack(_subtomograms(tmp_path, name="000001@s.mrc")).read([0])[0], VOLUME)
    with pytest.raises(InputError, match="000002@s.mrc"):
        _subtomograms(tmp_path, name="000002@s.mrc")


def test_pseudo_subtomograms_are_refused_as_what_they_are(tmp_path, capsys):
    with pytest.raises(InputError, match=r"pseudo-subtomograms of RELION 4 or 5 \(rlnCtfDataAreCtfPremultiplied is 1\)"):
        _subtomograms(tmp_path, optics="_rlnCtfDataAreCtfPremultiplied\n", tail=" 1")
    with pytest.raises(InputError, match=r"rlnTomoSubtomogramTilt is not 0"):
        _subtomograms(tmp_path, particle="_rlnTomoSubtomogramTilt\n", value=" 12.5")
    assert len(_subtomograms(tmp_path, particle="_rlnTomoSubtomogramTilt\n", value=" 0")) == 1
    assert len(_subtomograms(tmp_path, particle="_rlnCtfImage\n", value=" ctf.mrc")) == 1
    assert "rlnCtfImage" in capsys.readouterr().out
