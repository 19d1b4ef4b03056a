"""Simulated subtomograms: two routes that agree, an SNR that pairs of copies confirm, and items that depend on the seed and their number only."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.ctf import electron_wavelength_angst
from cryolearn.engine.imaging.fourier import radial_average, rfftn_centred
from cryolearn.engine.imaging.missing_wedge import wedge_mask
from cryolearn.engine.imaging.poses import euler_to_matrix
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.subtomograms import SubtomogramStack, read_subtomograms
from cryolearn.engine.io.tables import read_table
from cryolearn.engine.simulate import subtomograms_command as subtomograms
from cryolearn.engine.simulate.config import SubtomogramSimulateConfig
from cryolearn.engine.simulate.densities import density_of_map, density_of_structure
from cryolearn.engine.simulate.subtomogram_simulator import SubtomogramSimulator
from cryolearn.engine.simulate.subtomograms_command import SimulatedSubtomograms, run
from cryolearn.tests.engine.subtomogram_cases import blob_maps

BOX = 24
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SubtomogramSimulateConfig:
    maps = blob_maps(tmp_path_factory.mktemp("maps"), 3)
    return SubtomogramSimulateConfig(volumes=maps, per_class=8, box=BOX, pixel_size_angst=10.0, tilt_step_deg=2.0, snr=0.1, shift_angst=15.0)


def changed(config: SubtomogramSimulateConfig, **values: object) -> SubtomogramSimulator:
    return SubtomogramSimulator(dataclasses.replace(config, **values), CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize("colour", ["inversion", "flat"])
def test_the_two_routes_agree(config: SubtomogramSimulateConfig, colour: str) -> None:
    shaped, tilts = (changed(config, route=route, noise_colour=colour).make(np.arange(24)) for route in ("shaped", "tilts"))
    for one, other in zip(shaped.clean, tilts.clean):
        assert float(torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1]) > 0.946  # interpolation of the tilts takes the rest
    ratio = shaped.signal_variance / tilts.signal_variance
    assert float((ratio - 1).abs().max()) < 0.05
    spectra = []
    for made in (shaped, tilts):
        noise = (made.noisy - made.clean) / made.noise_variance.sqrt()[:, None, None, None]
        assert abs(float(noise.var()) - 1) < 0.03  # 24 x 24^3 values: 0.3 % of scatter
        spectra.append(radial_average(torch.fft.rfftn(noise, dim=(1, 2, 3)).abs().square().mean(0), BOX, 3)[1:])
    # shell 1 has 18 points x 24 volumes
    assert float((spectra[0] / spectra[1])[1:].log().abs().max()) < 0.25
    assert float((spectra[0] / spectra[1]).log().abs().mean()) < 0.1


@pytest.mark.parametrize("route", ["shaped", "tilts"])
@pytest.mark.parametrize(("snr", "scale"), [(0.5, "particle"), (0.1, "particle"), (0.1, "set")])
def test_pairs_of_copies_confirm_the_snr(config: SubtomogramSimulateConfig, route: str, snr: float, scale: str) -> None:
    """Two copies with independent noise correlate by SNR / (1 + SNR) (Frank & Al-Ali, Nature 256 (1975) 376)."""
    simulator = changed(config, route=route, snr=snr, noise_scale=scale)
    rows = np.arange(24)
    first, second = simulator.make(rows), simulator.make(rows, copy=1)
    assert torch.equal(first.clean, second.clean)
    centred = [made.noisy - made.noisy.mean((1, 2, 3), keepdim=True) for made in (first, second)]
    correlation = (centred[0] * centred[1]).mean((1, 2, 3)).mean() / torch.stack([values.square().mean() for values in centred]).mean()
    found = float(correlation / (1 - correlation))
    assert found == pytest.approx(snr, rel=0.06)
    if scale == "set":
        assert float(first.noise_variance.std()) == 0


def test_an_item_depends_on_the_seed_and_its_number_only(config: SubtomogramSimulateConfig) -> None:
    simulator = changed(config, tilt_spread_deg=10.0, defocus_spread_angst=3000.0)
    all_of_them = simulator.make(np.arange(12)).noisy
    again = changed(config, tilt_spread_deg=10.0, defocus_spread_angst=3000.0, per_class=99).make(np.array([11, 3])).noisy
    torch.testing.assert_close(again, all_of_them[[11, 3]], rtol=1e-4, atol=1e-4)
    assert float((changed(config, seed=2).make(np.array([3])).noisy - all_of_them[3]).abs().max()) > 0.1
    items = SimulatedSubtomograms(simulator)
    volumes, classes = next(iter(DataLoader(items, batch_size=6)))
    assert len(items) == 24 and classes.tolist() == [0, 1, 2, 0, 1, 2]
    torch.testing.assert_close(volumes, all_of_them[:6], rtol=1e-4, atol=1e-4)
    tilts = simulator.tilt_range(simulator.draws(np.arange(24)))
    assert (tilts[:, 0] >= -60).all() and (tilts[:, 0] <= -50).all() and len(np.unique(tilts[:, 1])) > 2


def test_a_density_is_where_its_pose_says(tmp_path: Path) -> None:
    """Two blobs, whose places after a rotation and a shift are known: ``A x + shift``."""
    places = np.array([[40.0, 0.0, 0.0], [0.0, -60.0, 20.0]])
    weights = np.array([1.0, 2.0])
    centre = np.average(places, axis=0, weights=weights)
    side, pixel = 32, 10.0
    axis = (np.arange(side) - side // 2) * pixel
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    data = sum(w * np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2) / (2 * 14.0**2)) for w, p in zip(weights, places))
    write_map(str(tmp_path / "two.mrc"), data, pixel)
    density = density_of_map(str(tmp_path / "two.mrc"), pixel, 0.0, CPU)
    rotation, shift = euler_to_matrix(torch.tensor([[30.0, 70.0, -50.0]], dtype=torch.float64)), torch.tensor([[7.0, -12.0, 20.0]], dtype=torch.float64)
    k = torch.tensor([[0.004, 0, 0], [0, 0.005, 0], [0, 0, 0.006], [0.003, -0.004, 0.002]], dtype=torch.float64)
    found = density.transform(k.float(), rotation.float(), shift.float())[0]
    # the centre of mass is rounded to a voxel of the map
    centre = np.round(centre / pixel) * pixel
    moved = torch.as_tensor(places - centre) @ rotation[0].T + shift[0]
    expected = (torch.as_tensor(weights) * torch.exp(-2j * np.pi * (k @ moved.T))).sum(1) * torch.exp(-2 * np.pi**2 * 14.0**2 * k.square().sum(1))
    scale = (found[0] / expected[0]).real
    torch.testing.assert_close(found.to(torch.complex128) / scale, expected, rtol=0.02, atol=0.02)


def test_atoms_and_their_map_give_the_same(tmp_path: Path) -> None:
    """The transform of an atom is its Gaussian's, though it was drawn on a coarse grid."""
    lines = [f"ATOM  {n:5d}  C   ALA A{n:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 20.00           C" for n, (x, y, z) in
             enumerate([(0, 0, 0), (12.3, -4.1, 7.7), (-3.2, 9.9, -14.5)], 1)]
    (tmp_path / "atoms.pdb").write_text("\n".join(lines) + "\nEND\n")
    density = density_of_structure(str(tmp_path / "atoms.pdb"), 9.2, CPU)
    places = torch.tensor([[0, 0, 0], [12.3, -4.1, 7.7], [-3.2, 9.9, -14.5]], dtype=torch.float64)
    places -= places.mean(0)
    k = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    k = k / k.norm(dim=1, keepdim=True) * torch.linspace(0.005, 0.05, 50, dtype=torch.float64)[:, None]
    found = density.transform(k.float(), torch.eye(3)[None], torch.zeros(1, 3))[0].to(torch.complex128)
    sigma2 = 20 / (8 * np.pi**2) + 0.35  # of carbon, about: it hardly matters here
    expected = torch.exp(-2j * np.pi * (k @ places.T)).sum(1) * torch.exp(-2 * np.pi**2 * sigma2 * k.square().sum(1))
    found, expected = found / found[0].abs(), expected / expected[0].abs()
    assert float((found - expected).abs().max()) < 0.02


def test_ctf_zero_and_wedge_are_where_they_belong(config: SubtomogramSimulateConfig) -> None:
    """Nothing at the frequency 1 / sqrt(wavelength x defocus), and nothing in the missing wedge."""
    made = changed(config, snr=0.0, box=48, tilt_step_deg=1.0, shift_angst=0.0).make(np.arange(6))
    power = rfftn_centred(made.clean, 3).abs().square().mean(0)
    inside = wedge_mask(48, -60, 60)
    wide = wedge_mask(48, -60, 60, edge_px=2.0)
    assert float(power[wide == 0].sum() / power.sum()) < 2e-3
    curve = radial_average(power * inside, 48, 3) / radial_average(inside, 48, 3)
    wavelength = float(electron_wavelength_angst(torch.tensor(300.0)))
    zero = 48 * 10.0 / np.sqrt(wavelength * 50000)
    assert zero * 31.37 == pytest.approx(480, rel=2e-3)  # 3.137 nm in the paper
    assert curve[round(zero)] < 0.05 * curve[round(zero / 2)]
    flat = changed(config, snr=0.0, box=48, apply_ctf=False, mtf="none").make(np.arange(6)).clean
    assert float(flat.mean()) > 0 and float(made.clean.mean().abs()) < 1e-3 * float(made.clean.std())


def test_the_command_writes_what_it_says_and_goes_on(config: SubtomogramSimulateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subtomograms, "_CHUNK", 5)  # runs go on from records only, so that the company in a batch, and its rounding, are the same
    small = dataclasses.replace(config, per_class=3, null_class=True, output=str(tmp_path), noise_scale="particle")
    run(small)
    table = read_subtomograms(str(tmp_path / "subtomograms.star"))
    truth, meta = read_table(str(tmp_path / "truth.npz"))
    assert len(table) == 12 and meta["class_names"] == ["blob0", "blob1", "blob2", "NULL"]
    assert table.class_name == [meta["class_names"][number - 1] for number in truth["class"]]
    simulator = SubtomogramSimulator(small, CPU)
    volumes = SubtomogramStack(table).read(np.arange(12))
    np.testing.assert_allclose(volumes, simulator.make(np.arange(12)).noisy.numpy(), rtol=1e-4, atol=1e-4)
    assert table.angles_deg is not None and table.shifts_angst is not None
    np.testing.assert_allclose(euler_to_matrix(torch.from_numpy(table.angles_deg)).numpy(), truth["rotation"], atol=1e-6)
    np.testing.assert_allclose(table.shifts_angst, truth["shift_angst"], atol=1e-6)
    null = truth["class"] == 4
    assert (truth["signal_variance"][null] == 0).all()
    noise = volumes[null].var(axis=(1, 2, 3))
    assert noise.mean() == pytest.approx(truth["noise_variance"][null][0], rel=0.05)
    (marks,) = tmp_path.glob("records/simulation/*/variances_finished.npy")
    finished = np.load(marks, mmap_mode="r+")
    assert finished.all()
    finished[5:] = False
    finished.flush()
    before = Path(table.file[2]).stat().st_mtime_ns
    Path(table.file[9]).unlink()
    run(small)
    assert Path(table.file[2]).stat().st_mtime_ns == before and Path(table.file[9]).exists()  # the first five were done
    np.testing.assert_array_equal(SubtomogramStack(table.subset([9])).read([0])[0], volumes[9])


def test_two_processes_write_the_volumes_of_one(config: SubtomogramSimulateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit; the second process ends first here, and writes no table."""
    monkeypatch.setattr(subtomograms, "_CHUNK", 4)
    one, two = (dataclasses.replace(config, per_class=3, output=str(tmp_path / name)) for name in ("one", "two"))
    run(one)
    for rank in (1, 0):
        assert not (tmp_path / "two" / "truth.npz").exists()
        monkeypatch.setattr(subtomograms, "process_rank", lambda rank=rank: (rank, 2, rank))
        run(two)
    truths = [read_table(str(tmp_path / name / "truth.npz"))[0] for name in ("one", "two")]
    for name in truths[0]:
        np.testing.assert_array_equal(truths[0][name], truths[1][name])
    volumes = [SubtomogramStack(read_subtomograms(str(tmp_path / name / "subtomograms.star"))).read(np.arange(9)) for name in ("one", "two")]
    np.testing.assert_array_equal(*volumes)


def test_volumes_that_a_power_cut_took_are_made_anew(
    config: SubtomogramSimulateConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(subtomograms, "_CHUNK", 3)
    small = dataclasses.replace(config, per_class=3, output=str(tmp_path))
    run(small)
    table = read_subtomograms(str(tmp_path / "subtomograms.star"))
    volumes, before = SubtomogramStack(table).read(np.arange(9)), Path(table.file[3]).stat().st_mtime_ns
    os.truncate(table.file[1], 0)
    os.truncate(table.file[7], 2000)
    (variances,) = tmp_path.glob("records/simulation/*/variances.npy")
    capsys.readouterr()
    run(small)
    said = capsys.readouterr().out
    assert said.count("is not whole: it and those of its record are made anew") == 2
    assert Path(table.file[3]).stat().st_mtime_ns == before
    os.truncate(variances, 0)
    run(small)
    assert f"'{variances}' cannot be read and is made anew" in capsys.readouterr().out
    np.testing.assert_array_equal(SubtomogramStack(table).read(np.arange(9)), volumes)


@pytest.mark.parametrize(("values", "words"), [
    ({"volumes": []}, "nothing to simulate"),
    ({"box": 25}, "must be even"),
    ({"names": ["a"]}, "1 names were given for 3"),
    ({"names": ["a", "b", "a"]}, "'a'"),
    ({"tilt_spread_deg": 60.0}, "too narrow"),
    ({"box": 16, "pixel_size_angst": 5.0}, "choose a larger box"),
    ({"snr": 0.0, "null_class": True}, "needs noise"),
])
def test_what_makes_no_sense_is_refused(config: SubtomogramSimulateConfig, values: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        changed(config, **values)
