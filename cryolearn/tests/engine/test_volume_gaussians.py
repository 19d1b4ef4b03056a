"""Maps as Gaussians: the splat against the dense sum, its gradients, and fits of known and of real densities."""

from __future__ import annotations

import json
import os

import gemmi
import numpy as np
import prody
import pytest
import torch

from cryolearn.common.limits import SPACING_FOR_MOTION
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging import volume_gaussians, volume_to_gaussians_command
from cryolearn.engine.imaging.config import VolumeToGaussiansConfig
from cryolearn.engine.imaging.fsc import frc
from cryolearn.engine.imaging.gaussian_splat import splat_gaussians
from cryolearn.engine.imaging.gaussians import render_gaussians_2d, render_gaussians_3d
from cryolearn.engine.imaging.poses import view_grid
from cryolearn.engine.imaging.slices import VolumeProjector
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.structures import atom_sigmas, atom_weights, read_structure
from cryolearn.engine.io.tables import read_table

DATA = os.path.join(os.path.dirname(prody.__file__), "tests", "datafiles")


def _gaussians(count=7, seed=0, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    values = rng.uniform(4, 12, (count, 3)), rng.uniform(0.5, 2, count), rng.uniform(0.7, 1.2, count)
    return tuple(torch.as_tensor(value, dtype=dtype) for value in values)


def test_the_splat_is_the_sum_of_gaussians():
    places, weights, sigma = _gaussians()
    exact = render_gaussians_3d(places - 16 // 2, weights, sigma, 16, 1.0)
    # cut at five widths or more, where a Gaussian is below 4e-6 of its height
    assert (splat_gaussians(places, weights, sigma, (16, 16, 16), 6) - exact).abs().max() < 1e-5 * exact.max()


def test_the_splat_takes_any_box_and_gaussians_beyond_it():
    places, weights, sigma = _gaussians()
    cube = splat_gaussians(places, weights, sigma, (20, 20, 20), 5)
    assert torch.allclose(splat_gaussians(places, weights, sigma, (9, 20, 11), 5), cube[:9, :, :11])
    far = torch.tensor([[-50.0, 3.0, 3.0], [60.0, 3.0, 3.0]], dtype=torch.float64)
    assert splat_gaussians(far, weights[:2], sigma[:2], (8, 8, 8), 4).abs().max() < 1e-12


def test_memory_chunks_do_not_matter(monkeypatch):
    places, weights, sigma = _gaussians(30)
    whole = splat_gaussians(places, weights, sigma, (16, 16, 16), 4)
    monkeypatch.setattr("cryolearn.engine.imaging.gaussian_splat._CHUNK_BYTES", 4 * 16 * 9**3)
    assert torch.allclose(splat_gaussians(places, weights, sigma, (16, 16, 16), 4), whole)


def test_gradients_are_those_of_finite_differences():
    places, weights, sigma = (value.requires_grad_() for value in _gaussians(3))
    assert torch.autograd.gradcheck(lambda *values: splat_gaussians(*values, (16, 16, 16), 8), (places, weights, sigma), atol=1e-7)


def test_a_known_density_is_found_again():
    """Three Gaussians far apart, of the width that the resolution asks for: places within 0.1 px, weights and widths within 5 %."""
    box, pixel, resolution = 24, 2.0, 8.0
    places = torch.tensor([[-13.0, -6.0, 4.0], [12.0, -8.0, -9.0], [2.0, 13.0, 8.0]])
    weights, sigma = torch.tensor([2.0, 3.0, 4.0]), torch.tensor([1.8, 2.0, 2.2])
    target = render_gaussians_3d(places, weights, sigma, box, pixel)
    model = volume_gaussians.fit_gaussians(target, pixel, resolution / 2, number=3, iterations=300)
    expected = places + box // 2 * pixel
    nearest = torch.cdist(expected, model.positions_angst)
    assert nearest.min(dim=1).values.max() < 0.1 * pixel
    order = nearest.argmin(dim=1)
    assert sorted(order.tolist()) == [0, 1, 2]
    assert torch.allclose(model.weights[order], weights, rtol=0.05) and torch.allclose(model.sigma_angst[order], sigma, rtol=0.05)


def _density(name, pixel, cube=False):
    """Density (z, y, x) of a structure of ProDy's package by gemmi at 6 Å, where it starts, and the places of its atoms."""
    structure = gemmi.read_structure(os.path.join(DATA, name))
    structure.remove_hydrogens()
    structure.remove_waters()
    places = np.array([cra.atom.pos.tolist() for cra in structure[0].all()])
    low = places.min(axis=0) - 12
    sides = np.ceil((np.ptp(places, axis=0) + 24) / pixel).astype(int)
    if cube:
        sides = np.full(3, sides.max() + sides.max() % 2)
    for cra in structure[0].all():
        cra.atom.pos = gemmi.Position(*(np.array(cra.atom.pos.tolist()) - low))
        cra.atom.b_iso = 8 * np.pi**2 * (0.225 * 6) ** 2
    grid = gemmi.DensityCalculatorE()
    grid.grid.set_unit_cell(gemmi.UnitCell(*(sides * pixel), 90, 90, 90))
    grid.grid.set_size(*(int(side) for side in sides))
    grid.add_model_density_to_grid(structure[0])
    return np.array(grid.grid).transpose(2, 1, 0), low, places


@pytest.fixture(scope="module")
def kinase_map(tmp_path_factory):
    """Density of adenylate kinase (4AKE, chain A) in a box that is not a cube, placed away from zero."""
    density, low, places = _density("4akeA_alg_fixed.pdb", 2.5)
    path = str(tmp_path_factory.mktemp("map") / "kinase.mrc")
    write_map(path, density, 2.5, low)
    return path, places


def test_a_protein_map_becomes_gaussians(kinase_map, tmp_path):
    path, atoms = kinase_map
    out = str(tmp_path / "out")
    volume_to_gaussians_command.run(VolumeToGaussiansConfig(volume=path, resolution_angst=8.0, output=out, iterations=60, threads=1))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    # the resolution that was asked for is reached (FSC 0.5 against the map is the threshold for map against truth)
    assert summary["fsc_05_angst"] <= 8.0 and summary["correlation"] > 0.95
    assert 0.95 < summary["frc_mean"] <= 1  # the score at which EMAN2 stops its own fit
    source, rendered = read_map(path), read_map(os.path.join(out, "rendered.mrc"))
    assert rendered.data.shape == source.data.shape and rendered.origin_angst == source.origin_angst
    model = read_structure(os.path.join(out, "gaussians.pdb"))
    assert len(model) == summary["gaussians"] and len(model) < len(atoms)
    # Gaussians lie in the protein: an atom within their own spacing of 0.6 resolutions, all of them around the same centre
    distance = np.linalg.norm(model.coordinates[:, None] - atoms[None], axis=2).min(axis=1)
    assert np.quantile(distance, 0.95) < 0.6 * 8
    assert np.abs(np.average(model.coordinates, axis=0, weights=model.occupancy) - atoms.mean(axis=0)).max() < 1.0
    columns, meta = read_table(os.path.join(out, "gaussians.npz"))
    assert meta["pixel_size_angst"] == 2.5
    # what the PDB says (two decimals) is what the table says
    assert np.abs(atom_sigmas(model) - columns["sigma_angst"]).max() < 0.01
    assert np.abs(atom_weights(model) - columns["weight"] / columns["weight"].mean()).max() < 0.0051
    assert np.abs(model.coordinates - columns["position_angst"]).max() < 5.1e-4
    # rendering the table gives the rendered map
    places = torch.as_tensor((columns["position_angst"] - np.array(source.origin_angst)) / 2.5).float()
    weights, sigma = (torch.as_tensor(columns[name]).float() for name in ("weight", "sigma_angst"))
    again = splat_gaussians(places, weights, sigma / 2.5, source.data.shape).numpy() / 2.5**3
    assert np.abs(again - rendered.data).max() < 1e-3 * rendered.data.max()
    for name in ("fsc.csv", "figures/fsc.png", "figures/slices.png", "gaussians.cif"):
        assert os.path.getsize(os.path.join(out, name)) > 100


def test_more_gaussians_describe_a_map_better(kinase_map):
    volume = volume_to_gaussians_command._cube(read_map(kinase_map[0]).data)
    errors = []
    for number in (20, 80, 320):
        model = volume_gaussians.fit_gaussians(volume, 2.5, 7.5, number, iterations=20)
        assert len(model) == number
        errors.append(float((model.render(volume.shape, 2.5) - volume).square().sum() / volume.square().sum()))
    assert errors[0] > errors[1] > errors[2]


def test_neighbours_in_the_list_are_neighbours_in_space(kinase_map):
    """Blocks of ten successive Gaussians are compact: their radius of gyration is below half of that of ten at random."""
    volume = volume_to_gaussians_command._cube(read_map(kinase_map[0]).data)
    model = volume_to_gaussians_command._ordered(volume_gaussians.fit_gaussians(volume, 2.5, 7.5, 300, iterations=1))
    places = model.positions_angst.numpy()

    def gyration(rows):
        return np.mean([places[part].std(axis=0).max() for part in rows])

    shuffled = np.random.default_rng(0).permutation(300).reshape(30, 10)
    assert gyration(np.arange(300).reshape(30, 10)) < 0.5 * gyration(shuffled)


def test_what_cannot_be_represented_is_refused(kinase_map, tmp_path):
    path, out = kinase_map[0], str(tmp_path / "out")
    empty, mask = str(tmp_path / "empty.mrc"), str(tmp_path / "mask.mrc")
    write_map(empty, -np.ones((16, 16, 16)), 2.0)
    write_map(mask, np.ones((4, 4, 4)), 2.5)
    for changes, words in (
        (dict(volume=path, threshold=1e9), "threshold"), (dict(volume=path, mask=mask), "mask"),
        (dict(volume=path, resolution_angst=1.0), "finer than twice the pixel size"), (dict(volume=empty), "no "),
    ):
        with pytest.raises(InputError, match=words):
            volume_to_gaussians_command.run(VolumeToGaussiansConfig(output=out, iterations=1, threads=1, **changes))


def test_a_dense_fit_reaches_the_methods_figure():
    """Mean FRC of 200 projections of .999 (the method's page) on a map of 1AKE at 8 Å; a model with fewer Gaussians has less."""
    volume = torch.from_numpy(_density("pdb1ake.pdb", 2.0, cube=True)[0].copy())
    found = [volume_gaussians.mean_projection_frc(volume_gaussians.fit_gaussians(volume, 2.0, 8.0, spacing=spacing), volume, 2.0, 8.0)
             for spacing in (0.3, SPACING_FOR_MOTION)]
    assert found[0] >= 0.999 > found[1] > 0.98


def test_the_score_of_projections_is_that_of_images_made_otherwise(kinase_map):
    """mean_projection_frc, which takes slices, against the separable projections of the same Gaussians and sums of voxels along z."""
    volume = torch.from_numpy(_density("4akeA_alg_fixed.pdb", 2.5, cube=True)[0].copy())
    box, pixel, resolution = len(volume), 2.5, 10.0
    model = volume_gaussians.fit_gaussians(volume, pixel, resolution, 60, iterations=20)
    score = volume_gaussians.mean_projection_frc(model, volume, pixel, resolution, views=1)
    rotation = view_grid(1)
    centred = (model.positions_angst - box // 2 * pixel) @ rotation[0].T
    ours = render_gaussians_2d(centred[None], model.weights, model.sigma_angst, box, pixel)
    theirs = VolumeProjector(volume).project_real(rotation)
    curve = frc(ours, theirs)[0, 1 : round(box * pixel / resolution) + 1]
    assert float(curve.mean()) == pytest.approx(score, abs=0.005)


def test_spacing_sets_the_number_and_the_seed_the_start(kinase_map):
    volume = volume_to_gaussians_command._cube(read_map(kinase_map[0]).data)

    def fitted(**options):
        return volume_gaussians.fit_gaussians(volume, 2.5, 9.0, iterations=5, **options)

    dense, sparse = fitted(spacing=0.6), fitted(spacing=0.73)
    assert len(dense) / len(sparse) == pytest.approx((0.73 / 0.6) ** 3, rel=0.05)
    assert torch.equal(dense.positions_angst, fitted(spacing=0.6, seed=1).positions_angst)
    assert not torch.equal(dense.positions_angst, fitted(spacing=0.6, seed=2).positions_angst)


def test_more_gaussians_than_voxels_are_refused(kinase_map, tmp_path):
    """They used to be clipped to the number of voxels without a word."""
    settings = dict(volume=kinase_map[0], resolution_angst=20.0, iterations=1, threads=1, output=str(tmp_path / "out"))
    with pytest.raises(InputError, match=r"^5000 Gaussians are more than the \d+ voxels .* above the threshold at 20 Å: ask for fewer, or for a finer"):
        volume_to_gaussians_command.run(VolumeToGaussiansConfig(number=5000, **settings))
    assert not (tmp_path / "out" / "gaussians.npz").exists()
