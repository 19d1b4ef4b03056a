"""Image stacks: modes, byte orders, refusals and flat memory."""

from __future__ import annotations

import os

import mrcfile
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.mrc_header import read_header
from cryolearn.engine.io.stacks import ImageStack, StackWriter, write_stack
from cryolearn.engine.io.star import ParticleTable

BOX, PIXEL = 6, 2.0
DTYPES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}


def _table(paths, counts, box=BOX, ids=None):
    file_index = np.repeat(np.arange(len(paths)), counts)
    image_index = np.concatenate([np.arange(count) for count in counts])
    return ParticleTable(
        ids=np.arange(1, len(file_index) + 1) if ids is None else np.asarray(ids), image_file=[str(path) for path in paths],
        file_index=file_index, image_index=image_index, pixel_size_angst=PIXEL, box=box,
    )


def _mrc(path, data):
    with mrcfile.new(str(path), overwrite=True) as handle:
        handle.set_data(data)
        handle.set_image_stack()
        handle.voxel_size = PIXEL
    return path


@pytest.mark.parametrize("mode", sorted(DTYPES))
def test_every_mode_is_read_as_mrcfile_wrote_it(tmp_path, mode):
    rng = np.random.default_rng(mode)
    data = rng.integers(-100, 100, (5, BOX, BOX)) if mode != 6 else rng.integers(0, 60000, (5, BOX, BOX))
    path = _mrc(tmp_path / "a.mrcs", data.astype(DTYPES[mode]))
    assert int(read_header(str(path)).raw["mode"]) == mode
    images = ImageStack(_table([path], [5])).read([3, 0, 3])
    assert images.dtype == np.float32 and np.array_equal(images, data[[3, 0, 3]].astype(np.float32))


def test_big_endian_and_extended_headers_are_read(tmp_path):
    data = np.random.default_rng(1).normal(size=(3, BOX, BOX)).astype(np.float32)
    path = _mrc(tmp_path / "a.mrcs", data)
    with mrcfile.open(path, "r+") as handle:
        handle.set_extended_header(np.frombuffer(b"x" * 160, "V160"))
    assert np.array_equal(ImageStack(_table([path], [3])).read([0, 1, 2]), data)
    swapped = tmp_path / "big.mrcs"
    header = read_header(str(path)).raw.copy()
    header["nsymbt"] = 0
    big = header.astype(header.dtype.newbyteorder(">"))
    big["machst"] = [0x11, 0x11, 0, 0]
    swapped.write_bytes(big.tobytes() + data.astype(">f4").tobytes())
    assert np.array_equal(ImageStack(_table([swapped], [3])).read([2, 1]), data[[2, 1]])


def test_old_imod_bytes_are_unsigned(tmp_path):
    path = _mrc(tmp_path / "a.mrcs", np.full((1, BOX, BOX), -56, np.int8))  # 200 as an unsigned byte
    content = bytearray(path.read_bytes())
    content[152:156] = np.array(1146047817, "<i4").tobytes()
    path.write_bytes(content)
    assert (ImageStack(_table([path], [1])).read([0]) == 200).all()


@pytest.mark.parametrize(("low", "high", "value"), [(0, 255, 200), (3, 200, 200), (-128, 127, -56), (0, 100, -56), (0, -1, -56), (0, 1e6, -56)])
def test_bytes_are_unsigned_where_the_header_gives_a_largest_value_that_only_those_have(tmp_path, low, high, value):
    path = _mrc(tmp_path / "a.mrcs", np.full((1, BOX, BOX), -56, np.int8))
    content = bytearray(path.read_bytes())
    content[76:84] = np.array([low, high], "<f4").tobytes()
    path.write_bytes(content)
    assert (ImageStack(_table([path], [1])).read([0]) == value).all()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 11), min_size=1, max_size=20))
def test_any_rows_of_several_stacks_in_any_order(tmp_path, rows):
    counts = (5, 4, 3)
    stacks = [np.random.default_rng(i).normal(size=(count, BOX, BOX)).astype(np.float32) for i, count in enumerate(counts)]
    paths = [tmp_path / f"{i}.mrcs" for i in range(3)]
    for path, data in zip(paths, stacks):
        write_stack(str(path), data, PIXEL)
    assert np.array_equal(ImageStack(_table(paths, counts)).read(rows), np.concatenate(stacks)[rows])


def test_the_writer_makes_a_valid_file_of_pieces(tmp_path):
    data = np.random.default_rng(2).normal(size=(7, BOX, BOX)).astype(np.float32)
    path = tmp_path / "a.mrcs"
    with StackWriter(str(path), 7, BOX, PIXEL) as writer:
        for start in (4, 0, 2, 6):
            writer.write(start, data[start : start + 2])
        assert not path.exists()
    with open(os.devnull, "w") as nowhere:
        assert mrcfile.validate(str(path), print_file=nowhere)
    with mrcfile.open(path) as handle:
        assert np.array_equal(handle.data, data) and handle.is_image_stack()
        assert handle.voxel_size.x == pytest.approx(PIXEL)


def test_a_stopped_writer_leaves_no_stack_and_goes_on(tmp_path):
    data = np.random.default_rng(2).normal(size=(4, BOX, BOX)).astype(np.float32)
    path = tmp_path / "a.mrcs"
    with pytest.raises(RuntimeError), StackWriter(str(path), 4, BOX, PIXEL) as writer:
        writer.write(0, data[:2])
        raise RuntimeError
    assert not path.exists()
    with StackWriter(str(path), 4, BOX, PIXEL, resume=True) as writer:
        writer.write(2, data[2:])
    assert np.array_equal(mrcfile.read(path), data)
    with pytest.raises(ValueError), StackWriter(str(path), 4, BOX, PIXEL) as writer:
        writer.write(3, data[:2])


def test_a_truncated_stack_is_refused_by_name(tmp_path):
    path = tmp_path / "short.mrcs"
    write_stack(str(path), np.zeros((4, BOX, BOX)), PIXEL)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"short\.mrcs' is truncated: its header promises 4 sections"):
        ImageStack(_table([path], [4]))
    path.write_bytes(b"MRC?")
    with pytest.raises(InputError, match=r"short\.mrcs' is truncated"):
        ImageStack(_table([path], [4]))


@pytest.mark.parametrize("change", [os.remove, lambda path: os.truncate(path, 2000), lambda path: os.truncate(path, 0)])
def test_a_stack_that_goes_away_while_it_is_read_is_named(tmp_path, change):
    path = tmp_path / "gone.mrcs"
    write_stack(str(path), np.ones((40, BOX, BOX)), PIXEL)
    stack = ImageStack(_table([path], [40]))
    stack.read([1])
    change(path)
    with pytest.raises(InputError, match=r"gone\.mrcs' was removed or cut short while it was read"):
        stack.read([2])


@pytest.mark.parametrize(("field", "value"), [("nz", 3), ("mode", 12), ("nx", 5), ("nsymbt", 1)])
def test_a_header_that_lies_is_refused_by_name(tmp_path, field, value):
    path = tmp_path / "liar.mrcs"
    write_stack(str(path), np.zeros((4, BOX, BOX)), PIXEL)
    header = read_header(str(path)).raw.copy()
    header[field] = value
    path.write_bytes(header.tobytes() + path.read_bytes()[1024:])
    with pytest.raises(InputError, match=r"liar\.mrcs"):
        ImageStack(_table([path], [4]))


@pytest.mark.parametrize("mode", [3, 4, 5, 101])
def test_other_modes_are_refused(tmp_path, mode):
    path = tmp_path / "odd.mrcs"
    write_stack(str(path), np.zeros((1, BOX, BOX)), PIXEL)
    header = read_header(str(path)).raw.copy()
    header["mode"] = mode
    path.write_bytes(header.tobytes() + path.read_bytes()[1024:])
    with pytest.raises(InputError, match=rf"odd\.mrcs' .*mode {mode}"):
        read_header(str(path))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_with_nan_is_refused_by_id(tmp_path, value):
    data = np.zeros((4, BOX, BOX), np.float32)
    data[2, 1, 3] = value
    path = tmp_path / "a.mrcs"
    write_stack(str(path), data, PIXEL)
    stack = ImageStack(_table([path], [4], ids=[5, 6, 70, 8]))
    assert stack.read([0, 1, 3]).shape == (3, BOX, BOX)
    with pytest.raises(InputError, match=r"000003@.*a\.mrcs of particle 70"):
        stack.read([0, 2])


@pytest.mark.parametrize(("value", "refused"), [(1e17, False), (3e38, True)])
def test_values_whose_squares_single_precision_does_not_hold_are_refused(tmp_path, value, refused):
    path = tmp_path / "a.mrcs"
    write_stack(str(path), np.full((1, BOX, BOX), value, np.float32), PIXEL)
    images = ImageStack(_table([path], [1]))
    if refused:
        with pytest.raises(InputError, match="beyond 1e19"):
            images.read([0])
    else:
        assert np.isfinite(images.read([0])).all()


def test_another_box_is_refused(tmp_path):
    path = tmp_path / "a.mrcs"
    write_stack(str(path), np.zeros((2, 4, 4)), PIXEL)
    with pytest.raises(InputError, match=r"a\.mrcs' are 4 x 4 px, but the STAR file says 6 x 6"):
        ImageStack(_table([path], [2]))


def test_memory_stays_flat_while_images_stream(tmp_path):
    """Of 256 MiB of images, read twice in batches of 4 MiB, no more than a few batches may stay in memory."""
    psutil = pytest.importorskip("psutil")
    box, count, batch = 128, 4096, 64
    path = str(tmp_path / "large.mrcs")
    images = np.random.default_rng(0).normal(size=(batch, box, box)).astype(np.float32)
    with StackWriter(path, count, box, PIXEL) as writer:
        for start in range(0, count, batch):
            writer.write(start, images)
    stack = ImageStack(_table([path], [count], box=box))
    process = psutil.Process()
    stack.read(np.arange(batch))
    before = process.memory_info().rss
    peak = 0
    for _ in range(2):
        for start in range(0, count, batch):
            stack.read(np.arange(start, start + batch))
            peak = max(peak, process.memory_info().rss - before)
    assert peak < 32 << 20
