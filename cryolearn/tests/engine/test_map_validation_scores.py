"""Q-score, correlations and FSC of map and model: analytic answers, a plain twin, cctbx's values; decoys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.model_map import mask_around, model_map, molecule_mask
from cryolearn.engine.io.maps import Map
from cryolearn.engine.io.side_chains import SideChains, find_residues, find_side_chains
from cryolearn.engine.map_validation.decoys import flip_rotamers, shifted_chains
from cryolearn.engine.map_validation.density_sampling import trilinear
from cryolearn.engine.map_validation.emringer import emringer
from cryolearn.engine.map_validation.map_model_agreement import box_fsc, correlations, model_mask, resolution_of
from cryolearn.engine.map_validation.q_score import RADII_ANGST, mean_by_residue, q_scores, sphere_points

from .map_cases import jittered, polymer, sharp_map

# cctbx-base 2025.11 on jittered("1ubi") in sharp_map("1ubi", 3.0), by test_map_validation_referee.py
CCTBX = {"cc_box": 0.94959, "cc_mask": 0.92100, "cc_volume": 0.91945, "cc_peaks": 0.92044}
CCTBX_EMRINGER = 3.27497


def _gaussian_map(centre: tuple[float, float, float], sigma: float, side: int = 61, pixel: float = 0.1) -> Map:
    axis = (np.arange(side) - side // 2) * pixel
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    origin = tuple(float(value - side // 2 * pixel) for value in centre)
    return Map(np.exp(-(x**2 + y**2 + z**2) / (2 * sigma**2)).astype(np.float32), pixel, (origin[0], origin[1], origin[2]))


def test_q_of_a_gaussian_is_the_correlation_of_two_gaussians() -> None:
    """A lone atom whose density is the reference scores 1; another width scores what the two curves over the shells correlate."""
    centre = (5.0, -3.0, 12.0)
    for sigma in (0.4, 0.6, 1.0):
        volume = _gaussian_map(centre, sigma)
        for reference in (0.4, 0.6):
            curves = [np.exp(-0.5 * (RADII_ANGST / width) ** 2) for width in (sigma, reference)]
            expected = np.corrcoef(curves)[0, 1]
            found = q_scores([volume], [centre], reference)[0, 0]
            assert found == pytest.approx(expected, abs=2e-3)  # trilinear samples of a 0.1 Å grid
    assert q_scores([_gaussian_map(centre, 0.4)], [centre, (90.0, 0.0, 0.0)])[0, 1] != q_scores([volume], [centre])[0, 0]
    assert np.isnan(q_scores([volume], [centre, (90.0, 0.0, 0.0)])[0, 1])


def test_q_does_not_see_scale_and_offset() -> None:
    volume, atoms = sharp_map("1ubi", 2.0), polymer("1ubi").coordinates[:80]
    other = Map(volume.data * 7 - 3, volume.pixel_size_angst, volume.origin_angst)
    first, second = q_scores([volume, other], atoms)
    assert second == pytest.approx(first, abs=1e-4)
    negative = Map(-volume.data, volume.pixel_size_angst, volume.origin_angst)
    assert q_scores([negative], atoms)[0] == pytest.approx(-first, abs=1e-6)


def test_q_equals_a_plain_loop_over_atoms_and_shells() -> None:
    structure, volume = polymer("1ubi"), sharp_map("1ubi", 2.0)
    atoms, chosen = structure.coordinates, [0, 57, 300, 411, 590]
    expected = []
    for row in chosen:
        others = np.delete(atoms, row, axis=0)
        values, reference = [np.repeat(trilinear(volume, atoms[row]), 8)], [np.ones(8)]
        for radius in RADII_ANGST[1:]:
            for attempt in range(50):
                points = atoms[row] + radius * sphere_points(8 + 2 * attempt)
                own = points[cdist(points, others).min(1) >= 0.9 * radius]
                if len(own) >= 8:
                    values.append(trilinear(volume, own))
                    reference.append(np.full(len(own), np.exp(-0.5 * (radius / 0.4) ** 2)))
                    break
        expected.append(np.corrcoef(np.concatenate(values), np.concatenate(reference))[0, 1])
    assert q_scores([volume], atoms, rows=chosen)[0] == pytest.approx(expected, abs=1e-6)


def test_sphere_points_spread_over_the_sphere() -> None:
    for count in (8, 20, 106):
        points = sphere_points(count)
        assert np.linalg.norm(points, axis=1) == pytest.approx(np.ones(count))
        directions = np.random.default_rng(0).normal(size=(2000, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        # a square patch a point has sides of sqrt(4 pi / n), so no direction is further than that from a point
        assert cdist(directions, points).min(1).max() < np.sqrt(4 * np.pi / count)


def test_residue_means_leave_out_what_is_unknown() -> None:
    means = mean_by_residue(np.array([1.0, 3.0, np.nan, np.nan, 5.0]), np.array([0, 0, 0, 1, 2]), 3)
    assert means[[0, 2]] == pytest.approx([2.0, 5.0]) and np.isnan(means[1])


def test_a_model_agrees_with_its_own_map() -> None:
    structure, volume = polymer("1ubi"), sharp_map("1ubi", 3.0)
    found = correlations(volume, structure, 3.0)
    assert [found.box, found.mask, found.volume, found.peaks] == pytest.approx([1.0] * 4, abs=1e-5)
    z, y, x = volume.data.shape
    own = model_map(structure, (z, y, x), volume.pixel_size_angst, volume.origin_angst)
    curve = box_fsc(volume.data, own, model_mask(structure, volume))
    # 1 up to the cut at 3 Å, where the mask smears the edge over its own width
    side = max(volume.data.shape)
    kept = int(side * volume.pixel_size_angst / 3.4)
    assert curve[1:kept].min() > 0.99
    found_at = resolution_of(curve, 0.5, volume)
    assert found_at is not None and found_at == pytest.approx(3.0, abs=0.2)


def test_correlations_equal_those_of_cctbx() -> None:
    found = correlations(sharp_map("1ubi", 3.0), jittered("1ubi"), 3.0)
    mine = {"cc_box": found.box, "cc_mask": found.mask, "cc_volume": found.volume, "cc_peaks": found.peaks}
    assert mine == pytest.approx(CCTBX, abs=0.001)  # gemmi's density against cctbx's direct summation
    assert emringer(sharp_map("1ubi", 3.0), find_side_chains(jittered("1ubi"))).score == pytest.approx(CCTBX_EMRINGER, abs=5e-5)


def test_model_map_does_not_depend_on_where_the_grid_stands() -> None:
    """Shifting grid and model by whole voxels shifts nothing else; a point atom's map integrates to its scattering at zero angle."""
    structure, volume = polymer("1ubi"), sharp_map("1ubi", 3.0)
    step = np.array([3, -2, 5]) * volume.pixel_size_angst
    shape = (volume.data.shape[0], volume.data.shape[1], volume.data.shape[2])
    moved = model_map(structure.with_coordinates(structure.coordinates + step), shape, volume.pixel_size_angst, volume.origin_angst + step, 3.0)
    assert moved == pytest.approx(volume.data, abs=1e-4 * float(volume.data.max()))


def test_masks_follow_the_atoms() -> None:
    structure, volume = polymer("1ubi"), sharp_map("1ubi", 3.0)
    z, y, x = np.nonzero(mask_around(structure, volume, 3.0))
    places = np.stack((x, y, z), 1) * volume.pixel_size_angst + np.asarray(volume.origin_angst)
    assert cdist(places, structure.coordinates).min(1).max() <= 3.0
    inside = molecule_mask(structure, volume)
    assert inside.sum() * volume.pixel_size_angst**3 == pytest.approx(8564 * 1.21, rel=0.15)  # 8.6 kDa at 1.21 Å^3 a dalton (Tsai 1999)


def test_fsc_of_a_box_that_is_no_cube() -> None:
    """Padding the shorter sides of masked maps with zeros changes nothing but where the shells are sampled."""
    random = np.random.default_rng(0)
    first, second = (random.normal(size=(16, 16, 16)).astype(np.float32) for _ in range(2))
    mask = np.zeros((16, 16, 16), np.float32)
    mask[:10, 2:14, 1:15] = 1
    padded = box_fsc(first[:10, :14], second[:10, :14], mask[:10, :14])
    assert padded == pytest.approx(fsc(torch.from_numpy(first), torch.from_numpy(second), torch.from_numpy(mask)), abs=1e-5)
    assert box_fsc(first + 50, second + 20) == pytest.approx(box_fsc(first, second), abs=1e-3)


@pytest.mark.parametrize("angle", [120.0, -120.0])
def test_flipped_rotamers_turn_about_ca_cb(angle: float) -> None:
    structure = polymer("1ubi")
    residues = find_residues(structure)
    chains = find_side_chains(structure, residues)
    flipped, rows = flip_rotamers(structure, residues, chains, angle)
    turned = find_side_chains(flipped, residues)
    assert (turned.chi1_deg() - chains.chi1_deg() - angle + 180) % 360 - 180 == pytest.approx(np.zeros(len(chains)), abs=1e-6)
    still = np.setdiff1d(np.arange(len(structure)), rows)
    assert np.array_equal(flipped.coordinates[still], structure.coordinates[still])
    for residue in range(len(residues)):  # each residue's side chain moves as one body
        own = rows[residues.of_atom[rows] == residue]
        assert cdist(flipped.coordinates[own], flipped.coordinates[own]) == pytest.approx(cdist(structure.coordinates[own], structure.coordinates[own]))
    assert set(structure.atom_name[rows]).isdisjoint({"N", "CA", "C", "O", "CB"})


def test_wrong_models_score_less() -> None:
    structure, volume = polymer("1ubi"), sharp_map("1ubi", 3.0)
    residues = find_residues(structure)
    chains = find_side_chains(structure, residues)
    flipped, rows = flip_rotamers(structure, residues, chains, 120.0)
    right, wrong = (q_scores([volume], atoms.coordinates, rows=rows)[0].mean() for atoms in (structure, flipped))
    assert right > wrong + 0.3
    assert len(shifted_chains(chains)) == 6
    for moved in shifted_chains(chains, 2.0):
        assert isinstance(moved, SideChains) and np.linalg.norm(moved.atoms - chains.atoms, axis=-1) == pytest.approx(np.full((len(chains), 4), 2.0))
