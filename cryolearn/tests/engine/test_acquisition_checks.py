"""Numbers in other units than a particle file needs, and grey scales that nobody brought to one: refused, or named in one warning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging import reconstruct_command
from cryolearn.engine.imaging.config import ReconstructConfig
from cryolearn.engine.imaging.image_scales import ImageScales
from cryolearn.engine.io.maps import read_mask, write_map
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star import CtfTable, ParticleTable, read_particles, write_particles

BOX, PIXEL, COUNT = 16, 3.0, 20


def _particles(folder: Path, images: np.ndarray | None = None, origin: np.ndarray | None = None, **ctf: float) -> str:
    """A set of noise images whose CTF has these values."""
    rng = np.random.default_rng(3)
    write_stack(str(folder / "stack.mrcs"), rng.normal(size=(COUNT, BOX, BOX)) if images is None else images, PIXEL)
    said = {"defocus_u": 15000.0, "defocus_v": 14500.0, "defocus_angle": 20.0, "phase_shift": 0.0, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}
    table = ParticleTable(
        ids=np.arange(1, COUNT + 1), pixel_size_angst=PIXEL, box=BOX, image_file=[str(folder / "stack.mrcs")], file_index=np.zeros(COUNT, np.int64),
        image_index=np.arange(COUNT), angles_deg=rng.uniform(0, 180, (COUNT, 3)), origin_angst=np.zeros((COUNT, 2)) if origin is None else origin,
        ctf=CtfTable(**{name: np.full(COUNT, value) for name, value in {**said, **ctf}.items()}),
    )
    write_particles(str(folder / "particles.star"), table)
    return str(folder / "particles.star")


@pytest.mark.parametrize(("name", "value", "words"), [
    ("voltage_kv", 300000, "rlnVoltage 300000 .*in kV"), ("voltage_kv", 0.3, "rlnVoltage 0.3 .*in kV"), ("voltage_kv", 0, "rlnVoltage 0 .*in kV"),
    ("cs_mm", 2700, "rlnSphericalAberration 2700 .*in mm"), ("amplitude_contrast", 10, "rlnAmplitudeContrast 10 .*as a fraction"),
])
def test_what_no_microscope_has_is_refused(tmp_path: Path, name: str, value: float, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_particles(_particles(tmp_path, **{name: value}))


@pytest.mark.parametrize(("scale", "words"), [(-1, "overfocus"), (0.1, "close to focus"), (1e-4, "close to focus"), (100, "148 µm")])
def test_a_doubtful_defocus_is_pointed_out_once(tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: float, words: str) -> None:
    found = read_particles(_particles(tmp_path, defocus_u=15000 * scale, defocus_v=14500 * scale))
    assert [words in text for text in found.warnings] == [True]
    assert capsys.readouterr().out.count("WARNING") == 1


def test_phase_shifts_in_rad_are_pointed_out(tmp_path: Path) -> None:
    (text,) = read_particles(_particles(tmp_path, phase_shift=1.57)).warnings
    assert "1.57 degrees" in text and "not in rad" in text


@pytest.mark.parametrize("values", [{}, {"defocus_u": 500.0, "defocus_v": 400.0, "phase_shift": 90.0}, {"defocus_u": 0.0, "defocus_v": 0.0}, {"cs_mm": -0.01},
                                    {"amplitude_contrast": 1.0, "cs_mm": 0.0}, {"voltage_kv": 100.0, "defocus_u": 100_000.0, "defocus_v": 90_000.0}])
def test_what_microscopes_have_is_not(tmp_path: Path, values: dict[str, float]) -> None:
    assert read_particles(_particles(tmp_path, **values)).warnings == []


@pytest.mark.parametrize(("low", "high", "words"), [(-128, -127, "from -128 to -127"), (0, 8, "from 0 to 8"), (0, 0, "is empty")])
def test_masks_that_are_none_are_refused(tmp_path: Path, low: float, high: float, words: str) -> None:
    mask = np.full((BOX,) * 3, low, np.float32)
    mask[4:-4, 4:-4, 4:-4] = high
    write_map(str(tmp_path / "mask.mrc"), mask, PIXEL)
    with pytest.raises(InputError, match=words):
        reconstruct_command.run(ReconstructConfig(particles=_particles(tmp_path), mask=str(tmp_path / "mask.mrc"), output=str(tmp_path), threads=1))


def test_masks_of_another_pixel_size_are_refused(tmp_path: Path) -> None:
    """Unless the header says 1 Å, as that of a program which knows none."""
    for voxel, refused in ((PIXEL * 1.02, True), (1.0, False), (PIXEL, False)):
        write_map(str(tmp_path / "mask.mrc"), np.ones((BOX,) * 3, np.float32), voxel)
        if refused:
            with pytest.raises(InputError, match=f"has voxels of {voxel:.4g} Å, the maps of the particles of {PIXEL:.4g} Å"):
                read_mask(str(tmp_path / "mask.mrc"), (BOX,) * 3, PIXEL, "maps of the particles")
        else:
            assert read_mask(str(tmp_path / "mask.mrc"), (BOX,) * 3, PIXEL).all()
    with pytest.raises(InputError, match="has 12 x 12 x 12 voxels, the map 16 x 12 x 12"):
        write_map(str(tmp_path / "mask.mrc"), np.ones((12,) * 3, np.float32), PIXEL)
        read_mask(str(tmp_path / "mask.mrc"), (12, 12, 16), PIXEL)


def test_particles_centred_outside_their_image_are_counted(tmp_path: Path) -> None:
    origin = np.zeros((COUNT, 2))
    origin[:3, 1] = -25.0, 23.9, 80.0  # half a box is 24 Å
    (text,) = read_particles(_particles(tmp_path, origin=origin)).warnings
    assert "2 of the 20 particles" in text and "up to 80 Å" in text


def _warnings(folder: Path, images: np.ndarray) -> list[str]:
    reconstruct_command.run(ReconstructConfig(particles=_particles(folder, images), output=str(folder), threads=1))
    return json.loads((folder / "summary.json").read_text()).get("warnings", [])


def _noise() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(COUNT, BOX, BOX))


def test_normalised_images_raise_no_warning(tmp_path: Path) -> None:
    assert _warnings(tmp_path, _noise()) == []


def test_hot_pixels_constant_images_and_an_offset_are_named_in_the_summary(tmp_path: Path) -> None:
    images = _noise() + 50
    images[4, 8, 8] = 1e6
    images[7] = 3
    constant, scale, offset, box = _warnings(tmp_path, images)
    assert "1 of the 20 images are constant (first: particle 8)" in constant
    assert "1 of the 20 images" in scale and "particle 5: " in scale and "hot pixels" in scale
    assert "The background of the images is not 0" in offset
    assert "beyond the box" in box  # the half maps of the usable images agree, by their offset


@pytest.mark.parametrize(("factor", "odd"), [(3.0, 0), (0.4, 0), (15.0, 1), (0.05, 1)])
def test_another_grey_scale_is_told_from_ten_times_on(tmp_path: Path, factor: float, odd: int) -> None:
    images = _noise()
    images[2] *= factor
    scales = ImageScales(read_particles(_particles(tmp_path)))
    scales.add(np.arange(COUNT), images)
    assert len(scales.warnings()) == odd


def test_a_set_of_constant_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="All images are constant"):
        _warnings(tmp_path, np.zeros((COUNT, BOX, BOX)))
    assert not (tmp_path / "map.mrc").exists()
