"""What map networks learn from: two degradations, reproducible patches, related models apart, crystal density."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
from scipy import fft, ndimage

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.map_shells import Shells, cosine_edge, logistic_fsc
from cryolearn.engine.imaging.model_map import model_map
from cryolearn.engine.io.maps import Map, write_map
from cryolearn.engine.io.structures import read_structure, write_structure
from cryolearn.engine.map_enhancement.config import MapTrainConfig
from cryolearn.engine.map_enhancement.networks.cube_rotations import GROUPS, ROTATIONS, turn_array, turn_back
from cryolearn.engine.map_enhancement.train_command import training_setting
from cryolearn.engine.map_enhancement.training.degradation import (
    PaperDegradation,
    PhysicsDraw,
    cryo_map,
    degrade_paper,
    dilate,
    draw_physics,
    fade_carboxylates,
    target_b_factors,
)
from cryolearn.engine.map_enhancement.training.losses import dice_loss, patch_fsc, residual_losses
from cryolearn.engine.map_enhancement.training.patches import AtomSource, PatchSampler, Setting, target_resolution
from cryolearn.engine.map_enhancement.training.sequence_split import identity, related_score, sequences, split_models
from cryolearn.engine.map_enhancement.training.training_sources import crystal_density, gather_sources, write_manifest

from .map_cases import STRUCTURES, polymer

CPU = torch.device("cpu")


def file_of(name: str) -> str:
    return os.path.join(STRUCTURES, f"pdb{name}.pdb")


# ---------------------------------------------------------------- degradation

def test_the_ball_dilates_an_impulse_to_a_ball_and_the_blur_keeps_its_sum() -> None:
    density = np.zeros((25, 25, 25), np.float32)
    density[12, 12, 12] = 1
    ball = degrade_paper(density, 0.6, PaperDegradation(2, 0.0, 0.0), np.random.default_rng(0))
    z, y, x = np.indices(density.shape) - 12
    assert np.array_equal(ball > 0, z**2 + y**2 + x**2 <= 4) and (ball > 0).sum() == 33
    referee = ndimage.grey_dilation(np.random.default_rng(1).standard_normal((9, 9, 9)), footprint=ball[10:15, 10:15, 10:15] > 0, mode="nearest")
    ours = degrade_paper(np.random.default_rng(1).standard_normal((9, 9, 9)).astype(np.float32), 0.6, PaperDegradation(2, 0.0, 0.0), np.random.default_rng(0))
    assert np.allclose(ours, referee, atol=1e-6)
    blurred = degrade_paper(density, 0.6, PaperDegradation(0, 1.2, 0.0), np.random.default_rng(0))
    assert blurred.sum() == pytest.approx(1, abs=1e-3)
    assert (blurred * x**2).sum() == pytest.approx((1.2 / 0.6) ** 2, rel=0.01)  # variance of the Gaussian, voxels^2


@pytest.mark.parametrize("radius", [2.5, 4.17])
def test_a_mask_grows_to_what_is_within_the_radius(radius: float) -> None:
    """Referee: SciPy's distances."""
    atoms = np.random.default_rng(4).random((20, 22, 24)) < 0.003
    assert np.array_equal(dilate(atoms, radius), ndimage.distance_transform_edt(~atoms) <= radius)


def test_noise_of_the_paper_is_a_part_of_the_blurred_density() -> None:
    density = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal((40, 40, 40)), 2).astype(np.float32)
    clean, noisy = (degrade_paper(density, 0.6, PaperDegradation(1, 0.6, sd), np.random.default_rng(3)) for sd in (0.0, 0.1))
    # 64,000 values: the deviation's own standard error is 0.3 %
    assert (noisy - clean).std() == pytest.approx(0.1 * clean.std(), rel=0.015)


def test_half_maps_of_physics_have_the_fsc_that_was_drawn() -> None:
    """Two half maps of one molecule correlate as the logistic curve says, and it crosses 0.143 at the resolution."""
    random = np.random.default_rng(4)
    signal = random.standard_normal((48, 48, 48)).astype(np.float32)
    drawn = PhysicsDraw(4.0, 0.02, 40.0, 0.5, 100.0, 0, 0, 0, True, True, False, False, 0.0, 0.0, 5.0)
    far = np.zeros(signal.shape, np.float32)  # everything is molecule
    halves = [cryo_map(signal, far, 1.0, drawn, random) for _ in range(2)]
    shells = Shells(signal.shape, (1.0,) * 3)
    found = shells.correlation(*(fft.rfftn(half) for half in halves))
    wanted = logistic_fsc(shells.frequency, 4.0, 0.02)
    assert logistic_fsc(np.array([0.25]), 4.0, 0.02)[0] == pytest.approx(0.143)
    points = shells.sum(np.ones(shells.radius.shape)) / 2  # independent ones: a transform of real values has half
    band = slice(4, 15)
    assert (np.abs(found - wanted)[band] < 4 / np.sqrt(points[band])).all()


def test_whole_maps_have_half_the_noise_of_half_maps() -> None:
    random = np.random.default_rng(5)
    signal = np.zeros((32, 32, 32), np.float32)
    signal[16, 16, 16] = 1
    far = np.zeros(signal.shape, np.float32)
    draws = [PhysicsDraw(3.0, 0.02, 0.0, 0, 0, 0, 0, 0, half, False, False, False, 0.0, 0.0, 5.0) for half in (True, False)]
    noise = [cryo_map(signal, far, 1.0, drawn, random) - signal for drawn in draws]
    assert noise[1].var() / noise[0].var() == pytest.approx(0.5, rel=0.05)


def test_masks_and_solvent_stay_outside_the_molecule() -> None:
    random = np.random.default_rng(6)
    atoms = polymer("1ubi")
    origin = atoms.coordinates.mean(0) - 28
    signal = model_map(atoms, (56, 56, 56), 1.0, origin)
    empty = np.ones(signal.shape, bool)
    at = np.rint(atoms.coordinates - origin).astype(int)
    empty[at[:, 2], at[:, 1], at[:, 0]] = False
    distance = ndimage.distance_transform_edt(empty).astype(np.float32)
    bare, masked, lumpy = (
        cryo_map(signal, distance, 1.0, PhysicsDraw(3.0, 0.005, 0.0, 0, 0, 0, 0, 0, False, False, True, mask, solvent, 0.5 if solvent else 0.0, 4.0), random)
        for mask, solvent in ((False, 0.0), (True, 0.0), (False, 0.2))
    )
    assert (masked[distance > 8.5] == 0).all() and np.abs(bare[distance > 8.5]).max() > 0
    # lumps are 3 to 12 Å wide, and the slab 30 Å; noise of a map of 3 Å is not
    outside, smooth = distance > 6, [ndimage.gaussian_filter(found, 2) for found in (bare, lumpy)]
    assert smooth[1][outside].std() > 2 * smooth[0][outside].std()


def test_carboxylates_fade_and_disorder_stays_weaker() -> None:
    atoms = polymer("1ubi")
    faded = fade_carboxylates(atoms, 0.6)
    acid = np.isin(atoms.residue_name, ("ASP", "GLU")) & np.isin(atoms.atom_name, ("OD1", "OD2", "OE1", "OE2"))
    assert np.allclose(faded.occupancy[acid], 0.4 * atoms.occupancy[acid]) and np.array_equal(faded.occupancy[~acid], atoms.occupancy[~acid])
    b = target_b_factors(atoms)
    assert np.corrcoef(np.argsort(np.argsort(b)), np.argsort(np.argsort(atoms.b_factor)))[0, 1] > 0.9
    assert b.min() >= 5 and b.max() <= 80


def test_targets_are_bounded() -> None:
    assert target_resolution(2.0, 0.7) == 1.8  # never finer
    assert target_resolution(4.0, 1.0) == pytest.approx(2.8)
    assert target_resolution(2.5, 1.0) == pytest.approx(2.1)  # what the voxels hold
    draws = [draw_physics(np.random.default_rng(seed), 2.5, 6.0) for seed in range(200)]
    assert all(2.5 <= drawn.resolution_angst <= 6 for drawn in draws)


# ---------------------------------------------------------------- turns

def test_the_24_turns_are_a_group_of_turns() -> None:
    cube = np.arange(4**3).reshape(4, 4, 4)
    images = {turn_array(cube, turn).tobytes() for turn in ROTATIONS}
    assert len(images) == 24 and np.array_equal(turn_array(cube, ROTATIONS[0]), cube)
    for turn in ROTATIONS:
        assert np.array_equal(turn_back(turn_array(cube, turn), turn), cube)
        tensor = torch.from_numpy(cube)
        assert np.array_equal(turn_array(tensor, turn).numpy(), turn_array(cube, turn)) and torch.equal(turn_back(turn_array(tensor, turn), turn), tensor)
        # a turn keeps handedness: three marked axes keep their triple product
        marked = [np.zeros((5, 5, 5)) for _ in range(3)]
        for axis, array in enumerate(marked):
            array[tuple(4 if axis == other else 2 for other in range(3))] = 1
        ends = np.array([np.argwhere(turn_array(array, turn))[0] - 2 for array in marked])
        assert np.linalg.det(ends) > 0
    for group in GROUPS.values():  # closed: every product is in it
        members = {turn_array(cube, turn).tobytes() for turn in group}
        assert members == {turn_array(turn_array(cube, one), other).tobytes() for one in group for other in group}


# ---------------------------------------------------------------- patches

def setting(degradation: str = "physics", voxel: float = 1.0, unit: bool = False) -> Setting:
    return Setting(patch_px=32, voxel_angst=voxel, degradation=degradation, finest_angst=2.5, coarsest_angst=6.0, paper=PaperDegradation(), unit=unit)


@pytest.fixture(scope="module")
def sources() -> list[AtomSource]:
    return [AtomSource(polymer("1ubi")), AtomSource(polymer("3enl"))]


@pytest.mark.parametrize("degradation", ["physics", "paper"])
def test_patches_follow_from_seed_and_block(sources: list[AtomSource], degradation: str) -> None:
    sampler = PatchSampler(sources[:1], sources[1:], setting(degradation, 1.0 if degradation == "physics" else 0.8), 7, CPU)
    both, first, second = sampler.draw([(3, 1), (4, 1)]), sampler.draw([(3, 1)]), sampler.draw([(4, 1)])
    assert torch.equal(both.seen, torch.cat([first.seen, second.seen])) and torch.equal(both.target, torch.cat([first.target, second.target]))
    assert not torch.equal(first.seen, second.seen)
    sampler.look_ahead([(4, 1), (5, 1)])  # drawn ahead in another thread, they are the same
    assert torch.equal(sampler.draw([(4, 1)]).seen, second.seen)
    other = PatchSampler(sources[:1], sources[1:], sampler.setting, 8, CPU).draw([(3, 1)])
    assert not torch.equal(other.seen, first.seen)
    assert both.seen.shape == both.target.shape == both.weight.shape == (2, 1, 32, 32, 32)


def test_patches_lie_inside_molecules_and_inputs_look_like_their_targets(sources: list[AtomSource]) -> None:
    batch = PatchSampler(sources, sources, setting(), 1, CPU).draw([(number, 1) for number in range(12)])
    molecule = batch.target.flatten(1).square().sum(1) > 0
    assert molecule.sum() >= 10  # the others are noise without a molecule
    inside = (batch.weight == 1)[molecule]
    assert (inside.flatten(1).float().mean(1) > 0.02).all()
    # coarser than 8 Å every map shows its molecule, whatever its noise; shell 4 of 32 Å
    curve = patch_fsc(batch.seen, batch.target)[molecule]
    assert curve[:, 2:4].mean() > 0.7
    assert (batch.target_resolution < batch.resolution).all()
    rms = batch.target[molecule][inside].square().mean().sqrt()
    assert 0.7 < float(rms) < 1.3  # both are in units of the density inside


def test_x_ray_density_is_learned_in_solvent_of_all_levels_too(sources: list[AtomSource]) -> None:
    """Crystals have ripples, lumps and a level that is not known well; a network that has seen molecules in a vacuum alone answers nonsense to them."""
    batch = PatchSampler(sources, sources, setting("paper", 0.8), 1, CPU).draw([(number, 1) for number in range(24)])
    solvent = [seen[weight < 1] for seen, weight in zip(batch.seen, batch.weight)]
    levels, spreads = (np.array([float(part) for part in parts]) for parts in zip(*((one.median(), one.std()) for one in solvent)))
    assert np.median(np.abs(levels)) < 0.15 and levels.min() < -0.05 and levels.max() > 0.05
    assert spreads.min() < 0.1 and spreads.max() > 0.2  # in units of the density inside; RNase Sa and 5ORL, degraded, have 0.16
    troughs = np.array([float(target.min()) for target in batch.target])
    assert troughs.min() < -1.0 and troughs.max() > -0.6
    curve = patch_fsc(batch.seen, batch.target)
    assert float(curve[:, 3:6].mean()) > 0.6  # 8.5 to 5 Å: what is added is not the molecule, and leaves it to be seen


def test_density_of_the_preset_paper_is_between_0_and_1(sources: list[AtomSource]) -> None:
    batch = PatchSampler(sources, sources, setting("paper", 0.8, unit=True), 1, CPU).draw([(0, 2)])
    for values in (batch.seen, batch.target):
        assert float(values.min()) >= 0 and float(values.max()) <= 1


def test_side_chains_count_as_much_as_was_asked(sources: list[AtomSource]) -> None:
    plain, heavy = (PatchSampler(sources, sources, replace(setting(), side_chain_weight=weight), 1, CPU).draw([(2, 1)]) for weight in (1.0, 3.0))
    assert torch.equal(plain.seen, heavy.seen) and torch.equal(plain.target, heavy.target)
    near = heavy.weight == 3
    assert 0.01 < near.float().mean() < 0.3 and torch.equal(heavy.weight[~near], plain.weight[~near])
    assert heavy.target[near].mean() > heavy.target.mean()  # there is density where side chains are


def test_fine_shells_count_as_much_as_was_asked() -> None:
    """What is wrong beyond the input's resolution costs more with a larger weight, what is wrong before it costs less."""
    target = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    grid = torch.meshgrid(torch.fft.fftfreq(32), torch.fft.fftfreq(32), torch.fft.rfftfreq(32), indexing="ij")
    fine = sum(axis**2 for axis in grid).sqrt() > 1 / 5
    noise = torch.fft.rfftn(torch.randn(32, 32, 32, generator=torch.Generator().manual_seed(2)))
    ones = torch.ones_like(target)
    cost = {}
    for name, part in (("fine", fine), ("coarse", ~fine)):
        found = target + torch.fft.irfftn(noise * part, s=(32, 32, 32))
        cost[name] = [float(residual_losses(found, ones, target, ones, torch.tensor([5.0]), torch.tensor([3.0]), weight)[0]) for weight in (1.0, 3.0)]
    assert cost["fine"][1] > cost["fine"][0] + 0.01 and cost["coarse"][1] < cost["coarse"][0] - 0.01


def test_dice_by_hand() -> None:
    found, target = torch.tensor([[1.0, 0.5]]), torch.tensor([[1.0, 0.0]])
    assert float(dice_loss(found, target)) == pytest.approx(1 - 2 * 1.0 / (1.25 + 1.0))
    assert float(dice_loss(target, target)) == pytest.approx(0)


# ---------------------------------------------------------------- who is related

def test_relatives_never_stand_on_both_sides(tmp_path: Path) -> None:
    """Adenylate kinase of two files is one protein, however the files are called."""
    names = ["1ubi", "3enl", "1ejg", "2k39", "2gb1"]
    files = [file_of(name) for name in names if os.path.exists(file_of(name))]
    copy = str(tmp_path / "other_name.pdb")
    structure = read_structure(file_of("1ubi"))
    write_structure(copy, structure.subset(structure.residue_number <= 70))
    first, second = sequences(file_of("1ubi")), sequences(copy)
    assert identity(first[0], second[0]) == pytest.approx(1.0)
    assert related_score(first, second) < 1e-20 < related_score(first, sequences(file_of("3enl")))
    for seed in range(6):
        entries = {entry.path: entry.side for entry in split_models([*files, copy], [], 0.3, 1e-3, seed)}
        assert {entries[file_of("1ubi")], entries[copy]} in ({"training"}, {"validation"}, {"validation", "left out"}, {"left out"})
    excluded = split_models([*files, copy], [file_of("1ubi")], 0.3, 1e-3, 1)
    left_out = {entry.path: entry.reason for entry in excluded if entry.side == "left out"}
    assert file_of("1ubi") in left_out and copy in left_out and "which is excluded" in left_out[copy]
    write_manifest(tmp_path / "manifest.csv", excluded)
    rows = list(csv.DictReader((tmp_path / "manifest.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == [os.path.basename(path) for path in [*files, copy]]


# ---------------------------------------------------------------- density on grids

@pytest.fixture(scope="module")
def crystal(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Ubiquitin in a monoclinic crystal: model and map coefficients at 2 Å."""
    folder = tmp_path_factory.mktemp("crystal")
    atoms = polymer("1ubi")
    centred = atoms.with_coordinates(atoms.coordinates - atoms.coordinates.mean(0) + [18.0, 15.0, 18.0])
    model = str(folder / "crystal.pdb")
    write_structure(model, centred)
    document = gemmi.read_structure(model)
    document.cell, document.spacegroup_hm = gemmi.UnitCell(76, 50, 76, 90, 95, 90), "P 1 21 1"
    document.setup_cell_images()
    calculator = gemmi.DensityCalculatorX()
    calculator.d_min, calculator.rate = 2.0, 2.0
    calculator.set_grid_cell_and_spacegroup(document)
    calculator.set_refmac_compatible_blur(document[0])
    calculator.put_model_density_on_grid(document[0])
    factors = gemmi.transform_map_to_f_phi(calculator.grid, half_l=True).prepare_asu_data(dmin=2.0, unblur=calculator.blur)
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup, mtz.cell = document.find_spacegroup(), document.cell
    mtz.add_dataset("x")
    mtz.add_column("FWT", "F")
    mtz.add_column("PHWT", "P")
    values = np.asarray(factors.value_array)
    mtz.set_data(np.column_stack([np.asarray(factors.miller_array), np.abs(values), np.degrees(np.angle(values))]).astype(np.float32))
    path = str(folder / "crystal.mtz")
    mtz.write_to_file(path)
    return path, model


def test_crystal_density_stands_where_its_model_does(crystal: tuple[str, str]) -> None:
    path, model = crystal
    structure = read_structure(model)
    density, origin, resolution = crystal_density(path, structure, 0.6)
    assert resolution == pytest.approx(2.0, abs=0.05)
    x, y, z = (float(value) for value in origin)
    volume = Map(density, 0.6, (x, y, z))
    at = np.rint((structure.coordinates - origin) / 0.6).astype(int)
    assert volume.data[at[:, 2], at[:, 1], at[:, 0]].mean() > 1.5  # in units of the whole cell's spread
    calculated = model_map(structure, density.shape, 0.6, origin, 2.0, "xray")
    near = calculated > 0.3 * calculated.max()
    assert np.corrcoef(density[near], calculated[near])[0, 1] > 0.95


def test_coefficients_and_pairs_become_sources(crystal: tuple[str, str], tmp_path: Path) -> None:
    path, model = crystal
    pair = [str(tmp_path / f"{name}.mrc") for name in ("seen", "target")]
    density = model_map(polymer("1ubi"), (40, 40, 40), 1.2, polymer("1ubi").coordinates.mean(0) - 24)
    for name, values in zip(pair, (ndimage.gaussian_filter(density, 1), density)):
        write_map(name, values, 1.2)
    config = MapTrainConfig(
        coefficients=[path], coefficient_models=[model], structures=[file_of("3enl")], input_maps=pair[:1], target_maps=pair[1:], degradation="paper",
        patch_px=32, voxel_angst=0.8, validation_fraction=0.5,
    )
    found = gather_sources(config, 0.8)
    assert len(found.training) + len(found.validation) == 3
    patches = PatchSampler(found.training, found.validation, training_setting(config), 1, CPU)
    for number in (*range(4), -1):
        batch = patches.draw([(number, 1)])
        assert torch.isfinite(batch.seen).all() and float(patch_fsc(batch.seen, batch.target)[0, 1:5].mean()) > 0.7


@pytest.mark.filterwarnings("ignore:Data array contains NaN:RuntimeWarning")  # mrcfile, of the map that this test writes
def test_bad_training_input_is_refused_in_one_sentence(crystal: tuple[str, str], tmp_path: Path) -> None:
    def gather(**values: object) -> None:
        gather_sources(MapTrainConfig(**values), 1.0)  # type: ignore[arg-type]

    with pytest.raises(InputError, match="nothing to learn from"):
        gather()
    with pytest.raises(InputError, match="are no pairs"):
        gather(input_maps=["a.mrc"])
    with pytest.raises(InputError, match="'paper' only"):
        gather(coefficients=[crystal[0]], coefficient_models=[crystal[1]])
    with pytest.raises(InputError, match="coarser than the coarsest"):
        gather(structures=["x.pdb"], finest_angst=5.0, coarsest_angst=3.0)
    with pytest.raises(InputError, match="cannot be read as MTZ"):
        crystal_density(crystal[1], polymer("1ubi"), 1.0)
    with pytest.raises(InputError, match="None of 1 structures is left"):
        split_models([file_of("1ubi")], [file_of("1ubi")], 0.1, 1e-3, 1)
    structure = read_structure(file_of("1ubi"))
    write_structure(str(tmp_path / "tiny.pdb"), structure.subset(slice(0, 30)))
    from cryolearn.engine.map_enhancement.training.training_sources import polymer_structure

    with pytest.raises(InputError, match="nothing to learn from with fewer"):
        polymer_structure(str(tmp_path / "tiny.pdb"))
    for patch in (40, 16):
        with pytest.raises(InputError, match="multiple of 16"):
            training_setting(MapTrainConfig(patch_px=patch))


def test_filters_reach_where_they_should() -> None:
    assert cosine_edge(np.array([0.2, 0.25, 0.265, 0.28, 0.4], np.float32), 4.0).tolist() == pytest.approx([1, 1, 0.5, 0, 0], abs=1e-5)
    shells = Shells((20, 30, 24), (1.0, 1.0, 1.5))
    assert shells.frequency[1] == pytest.approx(1 / 36) and shells.frequency[-1] <= 0.5 / 1.5 + 1e-9
    assert shells.sum(np.ones(shells.radius.shape))[0] == 1
    assert math.isclose(float(shells.spread(np.arange(len(shells)))[0, 0, 1]), 1.0, rel_tol=1e-5)  # 36 Å along x is shell 1
