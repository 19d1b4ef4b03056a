"""Enhancement of maps: on the input's very grid, held to the data, half maps apart, nothing from nothing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft, ndimage

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.map_resampling import plan_grid, resample_sides
from cryolearn.engine.imaging.map_shells import Shells, half_fsc
from cryolearn.engine.imaging.model_map import atom_distance, box_around, model_map
from cryolearn.engine.io.map_grid import read_map_grid, same_grid, write_on_grid
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.models import save_model
from cryolearn.engine.map_enhancement.config import MapEnhanceConfig
from cryolearn.engine.map_enhancement.enhance_command import run as enhance
from cryolearn.engine.map_enhancement.inference.data_consistency import hold_to_data, local_correlation, signal_share
from cryolearn.engine.map_enhancement.inference.solvent import measure_solvent
from cryolearn.engine.map_enhancement.networks.network_residual import ResidualMapNetwork
from cryolearn.engine.map_enhancement.report.confidence_map import confidence_map, discovery_rates
from cryolearn.engine.map_enhancement.training.degradation import PaperDegradation, degrade_paper

from .map_cases import polymer

Array = NDArray[np.float32]
DESCRIPTION = {"kind": "map", "preset": "residual", "arguments": {"width": 4}, "voxel_angst": 1.0,
               "degradation": "physics", "finest_angst": 2.5, "coarsest_angst": 6.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network, which returns its input, and ubiquitin at 4 Å with two noisy half maps."""
    path = tmp_path_factory.mktemp("enhance")
    save_model(str(path / "identity"), ResidualMapNetwork(4).state_dict(), DESCRIPTION)
    density = molecule(4.0)
    random = np.random.default_rng(0)
    halves = [density + 1.5 * density.std() * band(random.standard_normal(density.shape), 2.5) for _ in range(2)]
    for name, values in (("half1", halves[0]), ("half2", halves[1]), ("map", (halves[0] + halves[1]) / 2)):
        write_map(str(path / f"{name}.mrc"), values, 1.0, (5.0, -3.0, 11.0))
    return path


def molecule(resolution: float, side: int = 52) -> Array:
    atoms = polymer("1ubi")
    return model_map(atoms, (side, side, side), 1.0, atoms.coordinates.mean(0) - side / 2, resolution)


def band(noise: NDArray[np.floating], resolution: float) -> Array:
    """Noise of variance 1 without what is finer than a resolution, voxels of 1 Å."""
    transform = fft.rfftn(noise)
    grid = np.meshgrid(*(np.fft.fftfreq(side) for side in noise.shape[:2]), np.fft.rfftfreq(noise.shape[2]), indexing="ij", sparse=True)
    transform[sum(axis**2 for axis in grid) > 1 / resolution**2] = 0
    found = fft.irfftn(transform, s=noise.shape)
    return np.asarray(found / found.std(), np.float32)


def config(folder: Path, output: Path, **changes: object) -> MapEnhanceConfig:
    os.makedirs(output, exist_ok=True)
    values = dict(volume=str(folder / "map.mrc"), model=str(folder / "identity"), resolution_angst=4.0, rotations="1", output=str(output), threads=1)
    return MapEnhanceConfig(**{**values, **changes})  # type: ignore[arg-type]


# ---------------------------------------------------------------- grids

def smooth_map(shape: tuple[int, ...], voxel: tuple[float, ...], finest: float) -> Array:
    """A random periodic map without anything finer than a resolution, that fades out before its faces."""
    transform = fft.rfftn(np.random.default_rng(3).standard_normal(shape))
    axes = [np.fft.fftfreq(side, size) for side, size in zip(shape[:2], voxel[:2])] + [np.fft.rfftfreq(shape[2], voxel[2])]
    squared = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True))
    # a Gaussian is local in both spaces: what it leaves beyond the limit is 1e-5
    density = fft.irfftn(transform * np.exp(-11.5 * squared * finest**2), s=shape)
    for axis, side in enumerate(shape):
        line = np.clip(np.minimum(np.arange(side), side - 1 - np.arange(side)) / (0.3 * side), 0, 1)
        density = density * (0.5 - 0.5 * np.cos(np.pi * line)).reshape([-1 if axis == other else 1 for other in range(3)])
    return np.asarray(density / density.std(), np.float32)


def test_a_map_comes_back_from_the_networks_grid() -> None:
    shape, voxel = (40, 45, 37), (1.31, 0.87, 1.1)
    plan = plan_grid(shape, voxel, 1.0)
    assert all(abs(size - 1) < 2e-3 for size in plan.voxel_angst) and all(side % 4 == 0 for side in plan.sides)
    data = smooth_map(shape, voxel, 3.2)
    again = plan.back(plan.forward(data, 0.0))
    assert np.abs(again - data).max() < 2e-3 * data.max()


def test_resampling_is_fourier_interpolation() -> None:
    x = np.arange(24) / 24
    wave = (np.cos(2 * np.pi * 3 * x) + np.sin(2 * np.pi * 5 * x)).astype(np.float32)
    data = np.broadcast_to(wave, (4, 6, 24)).copy()
    fine = np.arange(30) / 30
    expected = np.cos(2 * np.pi * 3 * fine) + np.sin(2 * np.pi * 5 * fine)
    assert np.abs(resample_sides(data, (4, 9, 30)) - expected).max() < 1e-5
    assert np.abs(resample_sides(resample_sides(data, (5, 4, 12)), (4, 6, 24))[0, 0] - wave).max() < 1e-5


def test_everything_comes_back_on_the_inputs_grid(tmp_path: Path, folder: Path) -> None:
    """The identity's round trip: voxels that are no cubes, axes in another order, start, ORIGIN and cell stay as they were."""
    shape, voxel = (40, 46, 36), (1.2, 0.9, 1.1)  # z, y, x
    data = smooth_map(shape, voxel, 4.0) + 3.0
    path = str(tmp_path / "odd.mrc")
    with mrcfile.new(path) as mrc:
        mrc.set_data(np.ascontiguousarray(data.transpose(1, 2, 0)))  # sections are y, rows x, columns z
        mrc.header.mapc, mrc.header.mapr, mrc.header.maps = 3, 1, 2
        mrc.header.mx, mrc.header.my, mrc.header.mz = 36, 46, 40
        mrc.header.cella = (36 * 1.1, 46 * 0.9, 40 * 1.2)
        mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart = -4, 7, 2
        mrc.header.origin = (1.5, -2.5, 3.5)
    out = tmp_path / "out"
    enhance(config(folder, out, volume=path, data_consistency=0.0, target_angst=3.0))
    before, after = read_map_grid(path), read_map_grid(str(out / "enhanced.mrc"))
    found = json.loads((out / "summary.json").read_text())
    assert before.data.shape == shape and same_grid(before, after) and before.voxel_angst == pytest.approx(voxel, rel=1e-6)
    for name in ("mapc", "mapr", "maps", "nxstart", "nystart", "nzstart", "mx", "my", "mz", "origin", "cella"):
        assert before.header.raw[name] == after.header.raw[name], name
    # the solvent's level is estimated, and its step at the map's faces rings a little
    assert np.abs(after.data - before.data).max() < 0.01 * before.data.std() + 0.2 * abs(found["solvent_level"] - 3)
    with mrcfile.open(out / "enhanced.mrc") as mrc:
        assert any("NOT for refinement or deposition" in label for label in mrc.get_labels())
    assert set(os.listdir(out)) >= {"enhanced.mrc", "uncertainty.mrc", "predicted_error.mrc", "local_correlation.mrc", "summary.json", "figures"}
    assert not (out / "records").exists()


def test_written_maps_are_read_the_same(tmp_path: Path) -> None:
    data = np.random.default_rng(1).standard_normal((6, 8, 10)).astype(np.float32)
    write_map(str(tmp_path / "a.mrc"), data, 1.3, (1, 2, 3))
    grid = read_map_grid(str(tmp_path / "a.mrc"))
    write_on_grid(str(tmp_path / "b.mrc"), grid.data * 2, grid, ["said"])
    again = read_map(str(tmp_path / "b.mrc"))
    assert np.array_equal(again.data, 2 * data) and again.origin_angst == (1, 2, 3) and again.pixel_size_angst == pytest.approx(1.3)


# ---------------------------------------------------------------- the solvent

def test_the_solvents_level_and_spread_do_not_depend_on_the_molecule() -> None:
    density = molecule(3.0, 64)
    noise = 0.2 * density.max() * band(np.random.default_rng(1).standard_normal(density.shape), 3.0)
    found = measure_solvent(density + noise + 7.0, (1.0,) * 3)
    assert found.level == pytest.approx(7.0, abs=0.1 * noise.std()) and found.spread == pytest.approx(noise.std(), rel=0.05) and found.found
    truth = ndimage.gaussian_filter(density, 2.5) > 0.15 * ndimage.gaussian_filter(density, 2.5).max()
    # what stands four spreads out of the solvent is the molecule, and only its thin fringe does not
    assert (found.inside & truth).sum() > 0.99 * found.inside.sum()
    assert density[found.inside & truth].sum() > 0.8 * density[truth].sum()
    masked = np.where(ndimage.binary_dilation(truth, iterations=4), density, 0).astype(np.float32)
    assert measure_solvent(masked, (1.0,) * 3).level == 0
    true_scale = np.sqrt(np.square(density[truth]).mean())
    for seen in (masked, density + 0.1 * noise):
        assert measure_solvent(seen, (1.0,) * 3).scale == pytest.approx(true_scale, rel=0.3)  # what training allows for
    ball = sum(axis**2 for axis in np.meshgrid(*[np.arange(64) - 32] * 3, indexing="ij", sparse=True)) < 24**2
    for empty in (noise, np.where(ball, noise, 0).astype(np.float32)):
        assert not measure_solvent(empty, (1.0,) * 3).found


@pytest.mark.parametrize("part", [0.4, 0.6])
def test_a_box_that_molecules_fill_has_a_solvent_too(part: float) -> None:
    """Crystals, filaments, tight boxes: half of the voxels and more are the molecule's, so the map's median is none of the solvent's."""
    random = np.random.default_rng(3)
    field = ndimage.gaussian_filter(random.standard_normal((64, 64, 64)), 5)
    solid = field > np.quantile(field, 1 - part)
    texture, noise = (band(random.standard_normal(solid.shape), 3.0) for _ in range(2))
    density = ndimage.gaussian_filter(solid * (1 + 0.5 * texture / texture.std()), 1.0)
    found = measure_solvent((density + 0.2 * noise / noise.std() + 7).astype(np.float32), (1.0,) * 3)
    assert found.found and found.level == pytest.approx(7.0, abs=0.15) and found.inside.mean() == pytest.approx(part, abs=0.05)
    assert found.scale == pytest.approx(np.sqrt(np.square(density[solid]).mean()), rel=0.3)


@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3])
def test_the_scale_is_that_of_training_whatever_the_noise(noise: float) -> None:
    """Patches are scaled by what lies within 2.5 Å of an atom, of which a map knows nothing; the less noise, the wider a fringe stands out of it."""
    atoms = polymer("1ubi")
    shape, origin = box_around(atoms.coordinates, 0.6, 8.0)
    density = model_map(atoms, shape, 0.6, origin, 2.0, "xray")
    seen = degrade_paper(density, 0.6, replace(PaperDegradation(), noise_sd=noise), np.random.default_rng(1))
    near = atom_distance(atoms.coordinates, shape, 0.6, origin) < 2.5
    found = measure_solvent(seen, (0.6,) * 3)
    assert found.scale == pytest.approx(np.sqrt(np.square(seen[near] - found.level).mean()), rel=0.15)


# ---------------------------------------------------------------- held to the data

def test_data_decide_where_there_is_signal_and_the_network_where_there_is_none() -> None:
    random = np.random.default_rng(2)
    seen, found = (random.standard_normal((24, 24, 24)).astype(np.float32) for _ in range(2))
    found = found + seen
    shells = Shells(seen.shape, (1.0,) * 3)
    share = np.where(np.arange(len(shells)) < 6, 1.0, 0.0)
    mixed, held = hold_to_data(seen, found, share, 1.0, shells, np.ones_like(seen))
    transforms = [fft.rfftn(item) for item in (seen, found, mixed)]
    low, high = shells.radius < 5, shells.radius > 7
    ratio = transforms[2][low] / transforms[0][low]
    assert np.abs(ratio.imag).max() < 1e-4  # phases are those that were measured
    assert np.allclose(ratio.real, shells.spread(held.factor)[low], rtol=1e-4)
    assert np.allclose(transforms[2][high], transforms[1][high], atol=1e-3)
    assert np.array_equal(hold_to_data(seen, found, share, 0.0, shells, np.ones_like(seen))[0], found)
    curve = np.array([1.0, 0.9, 0.5, 0.1, 0.6, 0.5])
    assert signal_share(curve) == pytest.approx([1, 1.8 / 1.9, 1 / 1.5, 0, 0, 0])


def test_what_an_unsure_network_weakens_is_brought_back() -> None:
    """A result blurred by B = 60 and doubled: the shells of the input's resolution are as sharp as the input's again, coarse ones stay."""
    seen = np.random.default_rng(4).standard_normal((40, 40, 40)).astype(np.float32)
    shells = Shells(seen.shape, (1.0,) * 3)
    blur = 2 * np.exp(-60 * shells.frequency**2 / 4)
    found = np.asarray(fft.irfftn(fft.rfftn(seen) * shells.spread(blur), s=seen.shape), np.float32)
    nothing = np.zeros(len(shells))
    mixed, held = hold_to_data(seen, found, nothing, 1.0, shells, np.ones_like(seen), 3.0)
    known = (shells.frequency >= 1 / 12) & (shells.frequency <= 1 / 6)
    fine = (shells.frequency > 1 / 5) & (shells.frequency < 1 / 3.2)
    assert held.factor[fine] == pytest.approx(blur[known].mean(), rel=0.03)
    ratio = np.sqrt(shells.mean(np.abs(fft.rfftn(mixed)) ** 2) / shells.mean(np.abs(fft.rfftn(seen)) ** 2))
    assert ratio[fine] == pytest.approx(held.factor[fine], rel=0.03)
    sharper = np.asarray(fft.irfftn(fft.rfftn(seen) / shells.spread(blur), s=seen.shape), np.float32)
    assert np.allclose(hold_to_data(seen, sharper, nothing, 1.0, shells, np.ones_like(seen), 3.0)[0], sharper, atol=0.05 * sharper.std())


def test_local_correlation_by_hand() -> None:
    random = np.random.default_rng(3)
    one = random.standard_normal((20, 20, 20)).astype(np.float32)
    two = np.concatenate([one[:10], -one[10:]])
    found = local_correlation(one, two, 1.5)
    assert found[:5].min() > 0.99 and found[15:].max() < -0.99
    assert np.allclose(local_correlation(one, 3 * one + 2, 1.5), 1, atol=1e-3)


def test_discovery_rates_by_hand() -> None:
    """Benjamini & Yekutieli 2001, the four smallest of eight p values: p n c / rank with c = 1 + 1/2 + ... + 1/8, made monotonic from the largest."""
    p = np.array([0.02, 0.0001, 0.03, 0.001])
    c = sum(1 / rank for rank in range(1, 9))
    expected = [min(0.02 * 8 * c / 3, 0.03 * 8 * c / 4), 0.0001 * 8 * c / 1, 0.03 * 8 * c / 4, 0.001 * 8 * c / 2]
    assert discovery_rates(p, 8) == pytest.approx(np.minimum(expected, 1))


def test_false_discoveries_are_as_rare_as_was_asked() -> None:
    """Of the voxels above 0.9, fewer than a tenth are noise, although neighbours depend on each other; nothing is found in noise alone."""
    random = np.random.default_rng(4)
    noise = 0.3 + 2.0 * band(random.standard_normal((48, 48, 48)), 4.0)
    assert confidence_map(noise, 0.3, 2.0).max() < 0.9  # the chance of any discovery in nothing is at most a tenth
    molecule_here = np.zeros(noise.shape, bool)
    molecule_here[16:32, 16:32, 16:32] = True
    found = confidence_map(noise + 8.0 * molecule_here, 0.3, 2.0)  # four standard deviations
    assert (found[~molecule_here] > 0.9).sum() < 0.1 * (found > 0.9).sum()
    assert (found[molecule_here] > 0.9).mean() > 0.5
    assert 0 <= found.min() and found.max() <= 1
    strong = confidence_map(noise + 40.0 * molecule_here, 0.3, 2.0)
    assert (strong[molecule_here] > 0.999).all()


def test_confidence_is_that_of_the_input(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """High in the molecule and not in the solvent; a masked map takes its noise from half maps, and without them has none to tell."""
    enhance(config(folder, tmp_path / "whole"))
    confidence, density = read_map(str(tmp_path / "whole" / "confidence.mrc")).data, molecule(4.0)
    inside = density > 0.3 * density.max()
    outside = ndimage.binary_dilation(density > 0.02 * density.max(), iterations=5)
    assert confidence[inside].mean() > 0.8 and (confidence[~outside] > 0.99).mean() < 0.001
    assert json.loads((tmp_path / "whole" / "summary.json").read_text())["confident_part"] > 0.1
    mask = ndimage.binary_dilation(density > 0.1 * density.max(), iterations=3)
    for name in ("map", "half1", "half2"):
        write_map(str(tmp_path / f"{name}.mrc"), read_map(str(folder / f"{name}.mrc")).data * mask, 1.0)
    masked = str(tmp_path / "map.mrc")
    halves = {name: str(tmp_path / f"{name}.mrc") for name in ("half1", "half2")}
    enhance(config(folder, tmp_path / "masked", volume=masked, **halves))
    again = read_map(str(tmp_path / "masked" / "confidence.mrc")).data
    assert again[inside].mean() > 0.7 and (again[~mask] == 0).all()
    capsys.readouterr()
    enhance(config(folder, tmp_path / "bare", volume=masked))
    assert not (tmp_path / "bare" / "confidence.mrc").exists() and "no confidence map" in capsys.readouterr().out


def test_half_maps_are_enhanced_apart(folder: Path, tmp_path: Path) -> None:
    """The second half map does not touch the first one's result, and with the identity the three curves are one."""
    first = config(folder, tmp_path / "a", half1=str(folder / "half1.mrc"), half2=str(folder / "half2.mrc"), data_consistency=0.0, scale=1.0, target_angst=2.8)
    enhance(first)
    other = read_map(str(folder / "half2.mrc"))
    write_map(str(tmp_path / "other.mrc"), other.data[::-1], 1.0, other.origin_angst)
    enhance(replace(first, half2=str(tmp_path / "other.mrc"), output=config(folder, tmp_path / "b").output))
    one, two = (read_map(str(tmp_path / name / "enhanced_half1.mrc")).data for name in "ab")
    assert np.array_equal(one, two)
    summary = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert summary["mean_fsc_raw"] == pytest.approx(summary["mean_fsc_cross"], abs=1e-3) == pytest.approx(summary["mean_fsc_enhanced"], abs=1e-3)
    assert abs(summary["evidence_gain"]) < 1e-3 and (tmp_path / "a" / "figures" / "fsc.png").exists()
    assert summary["local_correlation"] > 0.99 and not summary["disagrees"]


def test_resolution_comes_from_half_maps(folder: Path, tmp_path: Path) -> None:
    enhance(config(folder, tmp_path / "a", half1=str(folder / "half1.mrc"), half2=str(folder / "half2.mrc"), resolution_angst=0.0))
    found = json.loads((tmp_path / "a" / "summary.json").read_text())["input_resolution_angst"]
    # the molecule's density ends sharply at 4 Å; the mask around its 30 Å blurs the curve by that
    assert abs(1 / found - 1 / 4.0) < 1 / 30


# ---------------------------------------------------------------- nothing from nothing: the network that comes with the software

@pytest.fixture(scope="module")
def noise(folder: Path) -> dict[str, Array]:
    random = np.random.default_rng(5)
    halves = [band(random.standard_normal((52, 52, 52)), 3.0) for _ in range(2)]
    return {"half1": halves[0], "half2": halves[1], "map": (halves[0] + halves[1]) / 2}


def shipped(folder: Path, maps: dict[str, Array], tmp_path: Path) -> tuple[Array, Path]:
    for name, values in maps.items():
        write_map(str(tmp_path / f"{name}.mrc"), values, 1.0)
    halves = {name: str(tmp_path / f"{name}.mrc") for name in ("half1", "half2") if name in maps}
    enhance(config(folder, tmp_path / "out", volume=str(tmp_path / "map.mrc"), model="", resolution_angst=3.0, **halves))
    return read_map(str(tmp_path / "out" / "enhanced.mrc")).data, tmp_path / "out"


def test_noise_gains_nothing(folder: Path, noise: dict[str, Array], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An enhanced half map of noise agrees with the raw other one as little as chance does, and no molecule appears."""
    found, out = shipped(folder, noise, tmp_path)
    assert "nothing in the map stands out" in capsys.readouterr().out
    rows = np.genfromtxt(out / "fsc.csv", delimiter=",", names=True)
    inner = rows["resolution_angst"] > 3.0
    shells = Shells((52, 52, 52), (1.0,) * 3)
    points = np.interp(rows["frequency_inv_angst"], shells.frequency, shells.sum(np.ones(shells.radius.shape)) / 2)
    # two correlations are averaged and the result's neighbouring terms hang together: four standard errors of one
    assert (np.abs(rows["fsc_cross_unmasked"]) < 4 / np.sqrt(points))[inner].all()
    assert found.std() <= noise["map"].std()  # noise is not made stronger
    truth = molecule(3.0)
    expected = abs(np.corrcoef(noise["map"].ravel(), truth.ravel())[0, 1])
    independent = (4 / 3 * np.pi * (52 / 3.0) ** 3) / 2
    assert abs(np.corrcoef(found.ravel(), truth.ravel())[0, 1]) < expected + 4 / np.sqrt(independent)


def test_shells_of_random_phases_gain_nothing(folder: Path, tmp_path: Path) -> None:
    """Phases beyond 5 Å are drawn anew: there the result agrees with the molecule as little as the input does."""
    truth = molecule(3.0)
    shells = Shells(truth.shape, (1.0,) * 3)
    random = fft.rfftn(np.random.default_rng(6).standard_normal(truth.shape))
    transform = fft.rfftn(truth)
    mixed = np.where(shells.radius > 52 / 5.0, np.abs(transform) * random / np.abs(random), transform)
    seen = np.asarray(fft.irfftn(mixed, s=truth.shape), np.float32)
    found, _ = shipped(folder, {"map": seen}, tmp_path)
    before, after = half_fsc(shells, seen, truth), half_fsc(shells, found, truth)
    beyond = (shells.frequency > 1 / 4.5) & (shells.frequency < 1 / 3.0)
    points = shells.sum(np.ones(shells.radius.shape))[beyond].sum() / 2
    assert after[beyond].mean() < before[beyond].mean() + 4 / np.sqrt(points)
    low = (shells.frequency > 0) & (shells.frequency < 1 / 6)
    assert after[low].min() > 0.9  # and what was right stays right


# ---------------------------------------------------------------- refusals

@pytest.mark.filterwarnings("ignore:Data array contains NaN:RuntimeWarning")  # mrcfile, of the map that this test writes
def test_bad_maps_are_refused_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    def bad(message: str, **changes: object) -> None:
        with pytest.raises(InputError, match=message):
            enhance(config(folder, tmp_path / "refused", **changes))

    def write(name: str, values: NDArray[np.floating], voxel: float = 1.0) -> str:
        write_map(str(tmp_path / name), values, voxel)
        return str(tmp_path / name)

    block = np.zeros((16, 16, 16), np.float32)
    bad("is empty: all of its voxels are 0", volume=write("empty.mrc", block))
    bad("is empty: all of its voxels are 3", volume=write("constant.mrc", block + 3))
    bad("NaN or infinite", volume=write("nan.mrc", np.where(np.arange(16) == 3, np.nan, block + 1)))
    bad("no voxel size", volume=write("voxel.mrc", np.random.default_rng(0).random((16, 16, 16)), 0.0))
    bad("no map of a molecule", volume=write("flat.mrc", np.random.default_rng(0).random((2, 16, 16))))
    bad("does not exist", volume=str(tmp_path / "absent.mrc"))
    bad("Parameter volume is needed", volume="")
    bad("give both", half1=str(folder / "half1.mrc"))
    bad("needed without half maps", resolution_angst=0.0)
    bad("not on the grid", half1=write("small.mrc", np.random.default_rng(0).random((16, 16, 16))), half2=str(folder / "half2.mrc"))
    bad("2.5 to 6 Å", resolution_angst=1.5)
    bad("2.5 to 6 Å", resolution_angst=9.0)
    bad("nothing finer than 2.80 Å", target_angst=2.0)
    bad("must be one of", rotations="5")
    bad("is not a trained model", model=str(tmp_path))
    with mrcfile.open(folder / "map.mrc") as mrc:
        data = mrc.data.copy()
    with mrcfile.new(tmp_path / "skew.mrc") as mrc:
        mrc.set_data(data)
        mrc.voxel_size = 1.0
        mrc.header.cellb = (90, 90, 120)
    bad("not rectangular", volume=str(tmp_path / "skew.mrc"))
    random = np.random.default_rng(8)
    unlike = [write(f"unlike{number}.mrc", random.standard_normal((52, 52, 52))) for number in range(2)]
    bad("do not agree at all", half1=unlike[0], half2=write("minus.mrc", -read_map(unlike[0]).data), resolution_angst=0.0)
