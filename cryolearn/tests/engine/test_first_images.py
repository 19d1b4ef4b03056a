"""What the first images say against the inputs: each fault is warned of once, with its number, and right inputs never."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.alignment.reference_check import Expected, check_images, map_of_gaussians
from cryolearn.engine.alignment.reference_fit import ReferenceMap, fit_poses, fit_profile, read_sample
from cryolearn.engine.gaussian.config import GaussianHeterogeneityConfig
from cryolearn.engine.gaussian.input_validation import read_inputs
from cryolearn.engine.imaging import reconstruct_command
from cryolearn.engine.imaging.config import ReconstructConfig
from cryolearn.engine.imaging.ctf import Ctf, ctf_2d
from cryolearn.engine.imaging.first_images import (
    ImageUse,
    box_warnings,
    brightness,
    check_contrast,
    contrast,
    header_warnings,
    map_contrast,
    mixed_contrast,
    negative_map,
    warn,
)
from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.stacks import ImageStack, write_stack
from cryolearn.engine.io.star import ParticleTable, write_particles
from cryolearn.engine.map_validation.size_and_hand import size_and_hand, size_and_hand_warnings

from .imaging_cases import GaussianModel, gaussian_model, particle_set
from .map_cases import polymer, sharp_map

BOX, PIXEL, COUNT = 40, 4.0, 200
BLACK = ImageUse(invert_contrast=True)


@pytest.fixture(scope="module")
def model() -> GaussianModel:
    """A bent chain of Gaussians: it has a hand, and no two of its sides look alike."""
    turn = torch.linspace(0, 3.5 * math.pi, 60)
    places = torch.stack((20 * torch.cos(turn), 20 * torch.sin(turn), 4.5 * turn - 25 + 3 * torch.cos(turn / 2)), 1)
    return GaussianModel(places - places.mean(0), 0.5 + torch.linspace(0, 1, 60), 5.0)


@pytest.fixture(scope="module")
def particles(model: GaussianModel, tmp_path_factory: pytest.TempPathFactory) -> ParticleTable:
    return particle_set(str(tmp_path_factory.mktemp("first")), COUNT, BOX, PIXEL, model, snr=0.1)


@pytest.fixture(scope="module")
def shell() -> GaussianModel:
    """A hollow particle of radius 45 Å."""
    ball = gaussian_model(1.0, 4.0, count=400)
    return replace(ball, positions=45 * torch.nn.functional.normalize(ball.positions, dim=-1))


@pytest.fixture(scope="module")
def shells(shell: GaussianModel, tmp_path_factory: pytest.TempPathFactory) -> ParticleTable:
    return particle_set(str(tmp_path_factory.mktemp("shells")), COUNT, BOX, PIXEL, shell, snr=0.1)


@pytest.fixture
def table(particles: ParticleTable) -> ParticleTable:
    """The particles, without warnings of other tests."""
    return replace(particles, warnings=[])


def reference(model: GaussianModel) -> ReferenceMap:
    return map_of_gaussians(model.positions, model.weights, torch.full_like(model.weights, model.sigma))


def mirrored(model: GaussianModel, axes: tuple[float, float, float]) -> GaussianModel:
    return replace(model, positions=model.positions * torch.tensor(axes))


def said_to_be(table: ParticleTable, factor: float) -> ParticleTable:
    """The same images with a wrong pixel size: the true one is ``factor`` times as large."""
    assert table.origin_angst is not None
    return replace(table, pixel_size_angst=PIXEL / factor, origin_angst=table.origin_angst / factor, optics={}, warnings=[])


def without_poses(table: ParticleTable) -> ParticleTable:
    return replace(table, angles_deg=None, origin_angst=None, warnings=[])


def changed(table: ParticleTable, folder: Path, ctf: str) -> ParticleTable:
    """Images multiplied by their CTF or by its sign, and a table that says so."""
    transfer = ctf_2d(Ctf.from_table(table.ctf), BOX, PIXEL)
    images = torch.from_numpy(ImageStack(table).read(np.arange(len(table))))
    factor = transfer if ctf == "premultiplied" else transfer.sign()
    write_stack(str(folder / "changed.mrcs"), torch.fft.irfft2(torch.fft.rfft2(images) * factor, s=(BOX, BOX)).numpy(), PIXEL)
    assert table.ctf is not None
    return replace(table, image_file=[str(folder / "changed.mrcs")], ctf=replace(table.ctf, **{ctf: np.ones(len(table), bool)}))


@pytest.mark.parametrize("kind", ["as taken", "premultiplied", "phase_flipped", "ctf ignored"])
def test_contrast_has_the_sign_of_the_particles(table: ParticleTable, tmp_path: Path, kind: str) -> None:
    """Its size does not depend on the sign, and poses are not used."""
    blind = without_poses(table)
    if kind in ("premultiplied", "phase_flipped"):
        blind = changed(blind, tmp_path, kind)
    bright = contrast(brightness(blind, ImageUse(ignore_ctf=kind == "ctf ignored")))
    assert bright > 15
    assert contrast(brightness(blind, ImageUse(ignore_ctf=kind == "ctf ignored", invert_contrast=True))) == pytest.approx(-bright, rel=1e-3)


def test_contrast_of_a_hollow_particle(shells: ParticleTable) -> None:
    """The middle of a shell is darker than its rim; it is a bright particle nevertheless."""
    fresh = replace(shells, warnings=[])
    assert contrast(brightness(fresh)) > 10 and not check_contrast(fresh)
    assert check_contrast(fresh, BLACK) and len(fresh.warnings) == 1


def test_images_of_noise_have_no_contrast(table: ParticleTable, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(COUNT, BOX, BOX)).astype(np.float32)
    write_stack(str(tmp_path / "noise.mrcs"), noise, PIXEL)
    empty = replace(table, image_file=[str(tmp_path / "noise.mrcs")])
    assert abs(contrast(brightness(empty))) < 4 and mixed_contrast(brightness(empty))[0] < 3
    assert not check_contrast(empty) and not check_contrast(empty, BLACK) and not empty.warnings


def test_dark_particles_are_warned_of_once(table: ParticleTable, capsys: pytest.CaptureFixture[str]) -> None:
    dark = replace(table, image_sign=np.full(COUNT, -1), warnings=[])
    assert check_contrast(dark) and check_contrast(dark)
    (sentence,) = dark.warnings
    assert sentence.startswith("The particles are dark on a light background") and "standard errors" in sentence
    assert capsys.readouterr().out.count("WARNING") == 1
    assert check_contrast(table, BLACK)
    assert "do not invert" in table.warnings[0]
    few = dark.subset(np.arange(10))
    assert not check_contrast(few)


@pytest.mark.parametrize("part", [0.5, 0.3])
def test_bright_and_dark_particles_in_one_set_are_warned_of(table: ParticleTable, part: float) -> None:
    """As in joined sets one of which is inverted: the mean of both tells nothing."""
    sign = np.where(np.random.default_rng(1).uniform(size=COUNT) < part, -1, 1)
    mixed = replace(table, image_sign=sign, warnings=[])
    assert not check_contrast(mixed)
    (sentence,) = mixed.warnings
    found = float(sentence.split(" %")[0].split()[-1]) / 100
    assert abs(found - (sign < 0).mean()) < 0.05 and "dark on a light background, the others are bright" in sentence


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.0, 1.12, 1.25])
def test_pixel_size_from_poses(table: ParticleTable, model: GaussianModel, factor: float) -> None:
    """The images that fit a structure best with other pixels are warned of with the right factor, the others are not."""
    wrong = said_to_be(table, factor)
    fit = fit_poses(read_sample(wrong, ImageUse(), COUNT), reference(model))
    assert fit.factor == pytest.approx(factor, rel=0.025) and not fit.mirror and fit.oriented > 2
    check_images(wrong, Expected(reference=reference(model), name="structure", posed=True), ImageUse())
    assert len(wrong.warnings) == (factor != 1)
    if factor != 1:
        assert f"{fit.factor:.2f} times the {PIXEL / factor:.3g} Å of the particles" in wrong.warnings[0]


def test_pixel_size_without_poses(shell: GaussianModel, shells: ParticleTable) -> None:
    """The mean image of a hollow particle has a rim, which tells its size."""
    for factor in (0.8, 1.0, 1.25, 2.0):
        wrong = replace(said_to_be(shells, factor), angles_deg=None)  # the centres are known
        found, sigma = fit_profile(read_sample(wrong, ImageUse(), COUNT), reference(shell))
        assert abs(math.log(found / factor)) < 0.04 and (sigma > 10) == (factor != 1)
        check_images(wrong, Expected(reference=reference(shell), name="structure"), ImageUse())
        assert len(wrong.warnings) == (factor != 1)


@pytest.mark.parametrize("axes", [(-1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, -1.0), (-1.0, -1.0, -1.0)])
def test_the_other_hand(table: ParticleTable, model: GaussianModel, axes: tuple[float, float, float]) -> None:
    check_images(table, Expected(reference=reference(mirrored(model, axes)), name="map", posed=True), ImageUse())
    (sentence,) = table.warnings
    assert sentence.startswith("At the poses given, the mirrored map fits the images better")
    fit = fit_poses(read_sample(table, ImageUse(), COUNT), reference(mirrored(model, axes)))
    assert fit.factor == 1 and fit.best_correlation > 1.1 * fit.correlation


def test_poses_of_another_frame_say_nothing_of_size_and_hand(table: ParticleTable, model: GaussianModel) -> None:
    turned = replace(model, positions=model.positions @ random_rotations(1, torch.Generator().manual_seed(1)).float()[0].T)
    for seen in (turned, mirrored(turned, (-1.0, 1.0, 1.0))):
        check_images(table, Expected(reference=reference(seen), posed=True), ImageUse())
    assert not table.warnings


def test_faults_together_are_told_apart(table: ParticleTable, model: GaussianModel) -> None:
    """Dark particles of the other hand with wrong pixels: three warnings."""
    wrong = said_to_be(table, 0.8)
    check_images(wrong, Expected(reference=reference(mirrored(model, (1.0, 1.0, -1.0))), posed=True), BLACK)
    assert [sentence[:20] for sentence in wrong.warnings] == ["The particles are da", "The images fit the r", "At the poses given, "]


def test_header_of_the_stack(table: ParticleTable, tmp_path: Path) -> None:
    images = ImageStack(table).read(np.arange(COUNT))
    for pixel, count in ((PIXEL, 0), (1.0, 0), (2 * PIXEL, 1)):
        write_stack(str(tmp_path / "stack.mrcs"), images, pixel)
        assert len(header_warnings(replace(table, image_file=[str(tmp_path / "stack.mrcs")]))) == count


def test_box(table: ParticleTable) -> None:
    """Numbers of the rule of Rosenthal & Henderson: wavelength 0.0197 Å, so that 2 µm spread detail of 4 Å by 98 Å."""
    assert table.ctf is not None
    level = replace(table, ctf=replace(table.ctf, defocus_u=np.full(COUNT, 2e4), defocus_v=np.full(COUNT, 2e4)))
    side = BOX * PIXEL
    assert not box_warnings(level, side / 2 - 1, 5.0)  # 79 Å
    (sentence,) = box_warnings(level, 50.0, 4.0)
    wanted = 2 * math.ceil((100 + 2 * 0.01968749 * 2e4 / 4) / PIXEL / 2)
    assert "by 98 Å, beyond the box of 160 Å: detail finer than 4.92 Å" in sentence and f"about {wanted} px" in sentence
    (sentence,) = box_warnings(level, 100.0)
    assert "in a box of at least 50 px" in sentence
    assert not box_warnings(replace(level, ctf=None), 0.0, 4.0)


def test_negative_maps(model: GaussianModel) -> None:
    volume = model.volume(BOX, PIXEL)
    noise = torch.randn(volume.shape, generator=torch.Generator().manual_seed(0)) * volume.std()
    assert map_contrast(volume + noise) > 1.5 and abs(map_contrast(noise)) < 0.2
    assert not negative_map(volume + noise, "map") and not negative_map(noise, "map")
    assert "is negative" in negative_map(noise - volume, "map 'a.mrc'")[0]


def test_reconstruct_writes_one_warning_into_its_summary(table: ParticleTable, tmp_path: Path) -> None:
    """Both the images and their map show dark particles: that is one fault."""
    write_particles(str(tmp_path / "particles.star"), table)
    for name, values, count in (("right", {}, 0), ("dark", {"invert_contrast": True}, 1), ("mask", {"mask_radius_angst": 90.0}, 1)):
        (tmp_path / name).mkdir()
        reconstruct_command.run(ReconstructConfig(particles=str(tmp_path / "particles.star"), output=str(tmp_path / name), threads=1, **values))
        found = json.loads((tmp_path / name / "summary.json").read_text())
        assert len(found.get("warnings", [])) == count
    write_particles(str(tmp_path / "few.star"), table.subset(np.arange(12)))  # too few images for a contrast, not for the map's
    (tmp_path / "few").mkdir()
    reconstruct_command.run(ReconstructConfig(particles=str(tmp_path / "few.star"), output=str(tmp_path / "few"), threads=1, invert_contrast=True))
    assert "is negative" in json.loads((tmp_path / "few" / "summary.json").read_text())["warnings"][0]


def test_gaussian_heterogeneity_checks_map_and_images(table: ParticleTable, model: GaussianModel, tmp_path: Path) -> None:
    write_particles(str(tmp_path / "particles.star"), table)

    def warnings(volume: torch.Tensor, **values: bool) -> list[str]:
        write_map(str(tmp_path / "map.mrc"), volume.numpy(), PIXEL)
        config = GaussianHeterogeneityConfig(particles=str(tmp_path / "particles.star"), volume=str(tmp_path / "map.mrc"), **values)
        return read_inputs(config, torch.device("cpu")).table.warnings

    volume = model.volume(BOX, PIXEL)
    assert not warnings(volume)
    assert [sentence[:22] for sentence in warnings(volume, invert_contrast=True)] == ["The particles are dark"]
    (sentence,) = warnings(mirrored(model, (1.0, 1.0, -1.0)).volume(BOX, PIXEL))
    assert "the mirrored map fits" in sentence


def test_voxel_size_of_a_map_with_a_structure() -> None:
    """A structure that was fitted, by its centre, into a map of wrong voxels."""
    volume, coordinates = sharp_map("1ubi", 2.5), polymer("1ubi").coordinates
    assert not size_and_hand_warnings(volume, coordinates, "map.mrc")
    centre = coordinates.mean(0)
    for factor in (0.96, 1.03, 1.1):
        origin = centre + (np.asarray(volume.origin_angst) - centre) / factor
        wrong = replace(volume, pixel_size_angst=volume.pixel_size_angst / factor, origin_angst=tuple(origin))
        assert size_and_hand(wrong, coordinates).factor == pytest.approx(factor, rel=0.006)
        (sentence,) = size_and_hand_warnings(wrong, coordinates, "map.mrc")
        assert "check the voxel size of the map" in sentence


@pytest.mark.parametrize(("axis", "name"), [(0, "z"), (1, "y"), (2, "x")])
def test_hand_of_a_map_with_a_structure(axis: int, name: str) -> None:
    volume = sharp_map("1ubi", 3.0)
    flipped = replace(volume, data=np.ascontiguousarray(np.flip(volume.data, axis)))
    (sentence,) = size_and_hand_warnings(flipped, polymer("1ubi").coordinates, "map.mrc")
    assert f"'map.mrc' mirrored along {name} better" in sentence


def test_a_warning_is_said_once(table: ParticleTable) -> None:
    warn(table, ["one.", "two."])
    warn(table, ["two."])
    assert table.warnings == ["one.", "two."]
