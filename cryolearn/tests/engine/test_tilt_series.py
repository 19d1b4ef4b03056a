"""Tilt-series particles: reading both styles, writing, half sets, and the three commands that take them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cryolearn.engine.elastic import align_command
from cryolearn.engine.elastic.config import ElasticAlignConfig
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.gaussian import heterogeneity_command
from cryolearn.engine.gaussian.config import GaussianHeterogeneityConfig
from cryolearn.engine.gaussian.linear.eigen_motions import find_eigen_motions
from cryolearn.engine.gaussian.linear.gradients import GradientSource
from cryolearn.engine.gaussian.linear.linear_motions import start_motions
from cryolearn.engine.gaussian.linear.probabilistic_pca import expectation
from cryolearn.engine.gaussian.model.fourier_particles import GaussianImages, ImageConventions, band_between, crop_images
from cryolearn.engine.gaussian.model.gain_and_noise import calibrate
from cryolearn.engine.gaussian.model.projection import Gaussians
from cryolearn.engine.gaussian.model.slices import SliceGrid
from cryolearn.engine.imaging import convert_command, reconstruct_command
from cryolearn.engine.imaging.config import ConvertParticlesConfig, ReconstructConfig
from cryolearn.engine.imaging.ctf import critical_exposure
from cryolearn.engine.imaging.defocus_hand import with_defocus_hand
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.half_set_maps import split_halves
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import angle_between_deg, euler_to_matrix
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.modes import make_modes, write_modes
from cryolearn.engine.io.star import ParticleTable, read_particles, write_particles
from cryolearn.engine.io.star_text import read_star, write_star
from cryolearn.engine.io.subtomograms import read_subtomograms
from cryolearn.engine.io.tables import read_table

from .gaussian_cases import SIGMA, hinge, weights_of
from .imaging_cases import GaussianModel, gaussian_model
from .tilt_cases import HIDDEN, TILTS_DEG, TiltCase, write_case

BOX, PIXEL, COUNT = 32, 4.0, 24
MODEL = gaussian_model(22, 6.0)


def _case(folder: Path, **changes: object) -> TiltCase:
    positions = MODEL.positions.expand(COUNT, -1, -1)
    return write_case(folder, positions, MODEL.weights, MODEL.sigma, box=BOX, pixel=PIXEL, **{"noise": 1.0, **changes})


def _read(folder: Path, name: str = "particles.star") -> ParticleTable:
    return read_particles(str(folder / name), tilt_series=True)


@pytest.mark.parametrize("style", ["relion", "warp"])
def test_each_tilt_is_seen_with_its_pose_its_defocus_and_its_dose(tmp_path: Path, style: str) -> None:
    case = _case(tmp_path, style=style)
    table = _read(tmp_path, "optimisation_set.star")
    ids, member = table.particles()
    tilts = len(TILTS_DEG)
    kept = np.delete(np.arange(COUNT * tilts), HIDDEN)
    assert ids.tolist() == list(range(1, COUNT + 1)) and len(table) == len(kept)
    assert np.array_equal(member, kept // tilts)
    pose = (case.matrix @ case.rotation[:, None]).flatten(0, 1)[kept]
    assert float(angle_between_deg(euler_to_matrix(torch.from_numpy(table.angles_deg)), pose).max()) < 1e-4
    seen = (case.matrix[:, :2] @ case.shift_angst[:, None, :, None])[..., 0].flatten(0, 1)[kept]
    assert np.abs(table.origin_angst + seen.numpy()).max() < 1e-5
    assert np.abs(table.ctf.defocus_u - case.defocus_angst.flatten()[kept].numpy()).max() < 0.01
    assert np.array_equal(table.ctf.dose, np.tile(case.dose, COUNT)[kept]) and table.warnings == []
    # RELION's stacks hold the visible tilts, those of WarpTools all
    sections = kept % tilts
    sections[: tilts - 1] = np.arange(tilts - 1) if style == "relion" else sections[: tilts - 1]
    assert np.array_equal(table.image_index, sections)


def test_a_b_factor_for_the_dose_takes_the_place_of_the_exposure_filter(tmp_path: Path) -> None:
    case = _case(tmp_path)
    blocks = read_star(str(tmp_path / "tomograms.star"))
    write_star(str(tmp_path / "tomograms.star"), {"global": {**blocks["global"], "rlnCtfBfactorPerElectronDose": np.array([4.0])}})
    table = _read(tmp_path)
    assert np.array_equal(table.tilts.dose, np.delete(np.tile(case.dose, COUNT), HIDDEN)) and not table.ctf.dose.any()
    assert np.array_equal(table.ctf.b_factor, 4.0 * table.tilts.dose)


def test_the_exposure_filter_written_out() -> None:
    """Grant & Grigorieff 2015: 0.245 k^-1.665 + 2.81; amplitudes fall to exp(-1/2) at that exposure, and never at k = 0."""
    frequency = torch.tensor([0.0, 0.05, 0.25], dtype=torch.float64)
    found = critical_exposure(frequency.square())
    assert torch.isinf(found[0])
    assert found[1:].tolist() == pytest.approx([0.245 * 0.05**-1.665 + 2.81, 0.245 * 0.25**-1.665 + 2.81])


def test_what_cannot_be_used_is_left_out_or_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _case(tmp_path, style="warp")
    path = tmp_path / "particles.star"
    for read in (read_particles, read_subtomograms):
        with pytest.raises(InputError, match="2D tilt stacks of RELION 5 or WarpTools"):
            read(str(path))
    blocks = read_star(str(tmp_path / "tomograms.star"))
    blocks["TS_1"]["rlnCtfScalefactor"][0] = 0
    write_star(str(tmp_path / "tomograms.star"), blocks)
    _read(tmp_path)
    assert f"left out: 1 not visible, {COUNT} without contrast" in capsys.readouterr().out
    blocks["TS_1"]["rlnTomoProjX"][1] = "[1,1,0,0]"
    write_star(str(tmp_path / "tomograms.star"), blocks)
    with pytest.raises(InputError, match="projection matrix of tilt 2 of 'TS_1'"):
        _read(tmp_path)
    (tmp_path / "tomograms.star").unlink()
    (tmp_path / "optimisation_set.star").unlink()
    with pytest.raises(InputError, match="no tomograms table"):
        _read(tmp_path)


@pytest.mark.parametrize("style", ["relion", "warp"])
def test_the_handedness_of_the_defocus_is_that_of_the_images(tmp_path: Path, style: str) -> None:
    """WarpTools writes -1 whatever it is: premultiplied images show it, others do not. A wrong hand of RELION's is pointed out."""
    case = _case(tmp_path, style=style, premultiplied=True)
    right = _read(tmp_path)
    assert with_defocus_hand(right).warnings == []
    blocks = read_star(str(tmp_path / "tomograms.star"))
    write_star(str(tmp_path / "tomograms.star"), {**blocks, "global": {**blocks["global"], "rlnTomoHand": -blocks["global"]["rlnTomoHand"]}})
    found = with_defocus_hand(_read(tmp_path))
    if style == "warp":
        assert found.warnings == [] and np.abs(found.ctf.defocus_u - right.ctf.defocus_u).max() < 0.01
    else:
        assert ["rlnTomoHand) of -1" in text for text in found.warnings] == [True]
    _case(tmp_path, style=style)
    write_star(str(tmp_path / "tomograms.star"), {**blocks, "global": {**blocks["global"], "rlnTomoHand": np.array([-1.0])}})
    plain = with_defocus_hand(_read(tmp_path))
    assert ["rlnTomoHand is not known" in text for text in plain.warnings] == [True] * (style == "warp")
    assert np.abs(plain.ctf.defocus_u.mean() - float(case.defocus_angst.mean())) < 500


def test_half_sets_and_subsets_are_of_particles(tmp_path: Path) -> None:
    _case(tmp_path)
    table = _read(tmp_path)
    member = table.particles()[1]
    halves = split_halves(table, np.arange(len(table)))
    assert np.array_equal(halves, 1 + member % 2)
    some = table.subset(member >= 3)
    assert some.particles()[0].tolist() == list(range(4, COUNT + 1)) and len(some.tilts.matrix) == len(some)
    assert np.array_equal(split_halves(table, np.flatnonzero(member >= 3)), halves[member >= 3])


@pytest.mark.parametrize("style", ["relion", "warp"])
def test_what_is_written_is_read_as_the_same_particles(tmp_path: Path, style: str) -> None:
    """Poses, origins, further columns and the tomograms come back, also with other poses and of a part of the particles."""
    _case(tmp_path, style=style)
    table = _read(tmp_path)
    for some in (table, table.subset(table.particles()[1] % 2 == 1)):
        write_particles(str(tmp_path / "out.star"), some)
        back = _read(tmp_path, "out.star")
        turn = angle_between_deg(*(euler_to_matrix(torch.from_numpy(one.angles_deg)) for one in (back, some)))
        assert float(turn.max()) < 1e-4 and np.abs(back.origin_angst - some.origin_angst).max() < 1e-4
        assert np.array_equal(back.particles()[0], some.particles()[0]) and np.abs(back.ctf.defocus_u - some.ctf.defocus_u).max() < 0.01
    written = read_star(str(tmp_path / "out.star"))
    assert np.array_equal(written["particles"]["rlnGroupNumber"], (written["particles"]["rlnImageId"] - 1) % 5)
    assert written["general"]["rlnTomoSubTomosAre2DStacks"][0] == 1


def test_tilt_images_go_to_other_programs_as_single_particles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each with the pose, shift and CTF of its tilt; what they cannot say, the dose, is named."""
    _case(tmp_path)
    table = _read(tmp_path)
    convert_command.run(ConvertParticlesConfig(output=str(tmp_path / "out"), particles=str(tmp_path / "particles.star")))
    assert "WARNING: tilt_images.star and particles.cs do not say what dose" in capsys.readouterr().out
    again = _read(tmp_path, "out/particles.star")
    assert np.array_equal(again.tilts.particle_ids, table.tilts.particle_ids)
    for name in ("tilt_images.star", "particles.cs"):
        images = read_particles(str(tmp_path / "out" / name))
        turn = angle_between_deg(*(euler_to_matrix(torch.from_numpy(one.angles_deg)) for one in (images, table)))
        assert images.tilts is None and float(turn.max()) < 1e-3 and np.abs(images.origin_angst - table.origin_angst).max() < 1e-3
        assert np.abs(images.ctf.defocus_u - table.ctf.defocus_u).max() < 0.01 and np.array_equal(images.image_index, table.image_index)
    images = read_particles(str(tmp_path / "out" / "tilt_images.star"))
    assert np.array_equal(images.extra["rlnTomoParticleId"], table.tilts.particle_ids)


@pytest.mark.parametrize("premultiplied", [False, True])
def test_the_map_is_the_density(tmp_path: Path, premultiplied: bool) -> None:
    _case(tmp_path, premultiplied=premultiplied, noise=0.5)
    reconstruct_command.run(ReconstructConfig(particles=str(tmp_path / "particles.star"), output=str(tmp_path), threads=1))
    with open(tmp_path / "reconstructions.json") as handle:
        (entry,) = json.load(handle)["reconstructions"]
    assert (entry["particles"], entry["particles_half1"], entry["particles_half2"]) == (COUNT, COUNT // 2, COUNT // 2)
    found = torch.from_numpy(read_map(str(tmp_path / "map.mrc")).data.copy())
    # the Gaussians' amplitude, exp(-2 pi^2 sigma^2 / d^2), is above 10 % to 17.6 Å: shell 7
    assert float(fsc(found, MODEL.volume(BOX, PIXEL), sphere_mask(BOX, 0.45 * BOX, 0.05 * BOX))[:8].min()) > 0.9


def test_a_motion_is_found_better_from_all_tilts_than_from_one(tmp_path: Path) -> None:
    """An arm that turns by 25 degrees: one latent a particle, whose order is that of the angles; the images without tilt alone show less."""
    count, pixel = 50, 6.0
    angle = torch.linspace(-25, 25, count)[torch.randperm(count, generator=torch.Generator().manual_seed(2))].numpy()
    write_case(tmp_path, hinge(torch.from_numpy(angle)), weights_of(1)[0], SIGMA, box=BOX, pixel=pixel, noise=8.0)
    mean = GaussianModel(hinge(torch.zeros(1))[0], weights_of(1)[0], SIGMA)
    write_map(str(tmp_path / "map.mrc"), mean.volume(BOX, pixel).numpy(), pixel)
    heterogeneity_command.run(GaussianHeterogeneityConfig(
        particles=str(tmp_path / "optimisation_set.star"), volume=str(tmp_path / "map.mrc"), output=str(tmp_path / "out"), method="scan", components=1, maps=0,
        halves=False, resolutions_angst=[40.0], threads=1))
    columns, _ = read_table(str(tmp_path / "out" / "conformations.npz"))
    assert columns["id"].tolist() == list(range(1, count + 1)) and columns["rotation"].shape == (count, 3, 3)
    written = read_star(str(tmp_path / "out" / "particles.star"))["particles"]
    assert np.allclose(written["cryolearnLatent1"], columns["amplitudes"][:, 0], atol=1e-5) and len(_read(tmp_path / "out")) == count * len(TILTS_DEG) - 1
    table = _read(tmp_path)
    flat = table.subset(np.abs(table.tilts.matrix[:, 2, 2]) > 0.99)
    images = _images(flat, tmp_path, pixel)
    source = GradientSource(calibrate(images, _gaussians(pixel)), _gaussians(pixel), "position", "likelihood", keep_rigid=True)
    single = find_eigen_motions(source, 1, 0).projection[:, 0]
    order = [abs(float(spearmanr(values, angle).statistic)) for values in (columns["amplitudes"][:, 0], columns["eigen_projection"][:, 0], single)]
    assert len(flat) == count and min(order[:2]) > 0.8 and order[2] < min(order[:2]) - 0.1


def _images(table: ParticleTable, folder: Path, pixel: float) -> GaussianImages:
    band = band_between(BOX, pixel, 40.0, 200.0)
    return crop_images(table, band, folder / "coefficients.npy", torch.device("cpu"), radius_angst=80.0, conventions=ImageConventions())


def _gaussians(pixel: float) -> Gaussians:
    return Gaussians(hinge(torch.zeros(1))[0], weights_of(1)[0] / pixel**2, torch.full((90,), SIGMA))


def test_the_posterior_of_a_particle_is_the_product_of_those_of_its_tilts(tmp_path: Path) -> None:
    """At one place of the lattice all are normal: precisions and precision-weighted means add, the prior counts once."""
    write_case(tmp_path, hinge(torch.linspace(-20, 20, 5)), weights_of(1)[0], SIGMA, box=BOX, pixel=6.0, noise=2.0)
    model = _gaussians(6.0)
    images = calibrate(_images(_read(tmp_path), tmp_path, 6.0), model)
    moves = torch.ones(90, dtype=torch.bool)
    motions = start_motions(model, torch.randn(2, 90, 3, generator=torch.Generator().manual_seed(1)), moves=moves)
    lattice = torch.zeros(1, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    together, alone = (expectation(some, motions, SliceGrid(images.band), *lattice, gather=False)[0] for some in (images, replace(images, particle=None)))
    prior = torch.eye(2, dtype=torch.float64)
    for number in range(5):
        rows = torch.from_numpy(np.flatnonzero(images.particle == number))
        precision = torch.linalg.inv(alone.covariance[rows])
        whole = prior + (precision - prior).sum(0)
        mean = torch.linalg.solve(whole, (precision @ alone.mean[rows][..., None]).sum(0))[:, 0]
        torch.testing.assert_close(together.covariance[rows], torch.linalg.inv(whole).expand(len(rows), 2, 2), rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(together.mean[rows], mean.expand(len(rows), 2), rtol=1e-4, atol=1e-6)


def test_elastic_alignment_gives_each_particle_one_pose_and_one_amplitude(tmp_path: Path) -> None:
    """From poses 3 degrees and 2 Å off; errors are as large as the error bars say, and the poses written are those of the table."""
    count = 4
    stretch = MODEL.positions * torch.tensor([1.0, -1.0, 0.5])
    modes = make_modes(MODEL.positions.numpy(), stretch[None].numpy(), [7], weights=MODEL.weights.numpy(), sigma_angst=np.full(len(stretch), MODEL.sigma))
    write_modes(str(tmp_path / "modes.npz"), modes)
    truth = torch.linspace(-40, 40, count)
    moved = MODEL.positions - MODEL.positions.mean(0) + truth[:, None, None] * torch.from_numpy(modes.eigenvectors[0]).float()
    case = write_case(tmp_path, moved, MODEL.weights, MODEL.sigma, box=BOX, pixel=PIXEL, noise=1.0)
    blocks = read_star(str(tmp_path / "particles.star"))
    blocks["particles"]["rlnAngleTilt"] = blocks["particles"]["rlnAngleTilt"] + 3.0
    blocks["particles"]["rlnOriginXAngst"] = blocks["particles"]["rlnOriginXAngst"] + 2.0
    write_star(str(tmp_path / "off.star"), blocks)
    align_command.run(ElasticAlignConfig(
        particles=str(tmp_path / "off.star"), modes=str(tmp_path / "modes.npz"), mode_numbers=[7], start="local", local_range_deg=10, amplitude_range=60.0,
        search_pixel_angst=5.0, candidates=2, output=str(tmp_path / "out"), threads=1))
    columns, _ = read_table(str(tmp_path / "out" / "alignment.npz"))
    assert columns["id"].tolist() == list(range(1, count + 1)) and columns["shift_angst"].shape == (count, 3)
    error = (columns["amplitudes"][:, 0] - truth.numpy()) / columns["amplitude_sigma"][:, 0]
    assert np.abs(error).max() < 4 and columns["amplitude_sigma"].max() < 10
    turned = angle_between_deg(torch.from_numpy(columns["rotation"]).double(), case.rotation)
    off = np.linalg.norm(columns["shift_angst"] - case.shift_angst.numpy(), axis=1)
    assert (turned.numpy() < 3 * columns["pose_sigma_deg"]).all() and (off < 3 * columns["shift_sigma_angst"]).all()
    assert columns["pose_sigma_deg"].max() < 3 and columns["shift_sigma_angst"].max() < 0.5
    back = _read(tmp_path / "out")
    member = back.particles()[1]
    seen = back.tilts.matrix @ columns["rotation"][member]
    assert float(angle_between_deg(euler_to_matrix(torch.from_numpy(back.angles_deg)), torch.from_numpy(seen)).max()) < 1e-2
