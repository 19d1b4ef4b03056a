"""The scores themselves: equal to cctbx, on real X-ray and cryo-EM maps, not gamed by a binarised map, nothing in noise; how long they take.

Needs maps/, structures/ and xray/ of the folder of the data.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import gemmi
import numpy as np
import prody
from _results import parser, record
from _run import engine
from _superres import METHOD, Case, ScoredCase, score_case, write_case_table
from _superres_data import add_data_option

from cryolearn.engine.imaging.model_map import box_around, heavy_atoms, model_map, polymer_atoms
from cryolearn.engine.io.maps import Map, read_map, write_map
from cryolearn.engine.io.side_chains import find_side_chains
from cryolearn.engine.io.structures import Structure, read_structure, write_structure
from cryolearn.engine.map_enhancement.training.training_sources import crystal_density
from cryolearn.engine.map_validation.emringer import CEILING, bootstrap_scores, emringer
from cryolearn.engine.map_validation.map_model_agreement import correlations

# cctbx-base 2025.11: mmtbx.programs.emringer on these maps (tests/engine/test_map_validation_referee.py is how)
GOLDEN = {
    "3enl": {1.5: 7.9294, 2.0: 7.4535, 3.0: 6.1358, 4.0: 4.5786, 5.0: 1.9317},
    "1ubi": {1.5: 6.7178, 2.0: 7.9176, 3.0: 5.2270, 4.0: 4.6352, 5.0: 2.6835},
}
REAL = {  # map, model, resolution of the CC's, EMRinger and CC_mask of cctbx
    "EMD-3488 with 5NI1": ("emd_3488.mrc.gz", "5ni1_updated.cif.gz", 3.2, 4.1553, 0.8727),
    "EMD-20026 (crop) with 3AJO": ("emd20026_prot.mrc.gz", "3ajo_fitted_refined.pdb.gz", 1.8, 7.2370, 0.8207),
}
XRAY = {"RNase Sa, 1.85 Å": ("rnasa-1.8-all_refmac1.mtz", "rnase_tutorial-modern.pdb.gz", 8.17), "5ORL, 1.69 Å": ("5orl_phases.mtz", "5orl.pdb.gz", 8.33)}
NOISE_MAPS = {"laptop": 20, "paper": 200}


def simulated(name: str, resolution: float) -> tuple[Map, Structure]:
    structure = read_structure(str(Path(prody.__file__).parent / "tests" / "datafiles" / f"pdb{name}.pdb"), first_conformer=True)
    structure = structure.subset(polymer_atoms(structure))
    return map_of(structure, resolution, resolution / 4, 8.0), structure


def map_of(structure: Structure, resolution: float, pixel: float, pad: float) -> Map:
    shape, origin = box_around(structure.coordinates, pixel, pad)
    x, y, z = (float(value) for value in origin)
    return Map(model_map(structure, shape, pixel, origin, resolution), pixel, (x, y, z))


def golden(scale: str) -> None:
    for name, values in GOLDEN.items():
        apart = []
        for resolution, expected in values.items():
            volume, structure = simulated(name, resolution)
            apart.append(abs(emringer(volume, find_side_chains(structure)).score - expected))
        told = f"largest difference {max(apart):.5f}"
        record(
            METHOD,
            "EMRinger equals cctbx's",
            condition=f"{name.upper()}, simulated at 1.5 to 5 Å",
            target="to 4 decimals",
            measured=told,
            holds=max(apart) < 5e-5,
            scale=scale,
        )


def trap(scale: str) -> None:
    """A map of zeros and ones, at the level that cctbx's votes like best."""
    honest, structure = simulated("3enl", 2.0)
    chains = find_side_chains(structure)
    mean, spread = float(honest.data.mean()), float(honest.data.std())
    binary = {level: (honest.data > mean + level * spread).astype(np.float32) for level in np.arange(1, 8.1, 0.5)}
    made = {level: Map(data, honest.pixel_size_angst, honest.origin_angst) for level, data in binary.items()}
    classic = {level: emringer(volume, chains).score for level, volume in made.items()}
    best = max(classic, key=lambda level: classic[level])
    true = emringer(honest, chains, 2, tie_safe=True).score
    safe = max(emringer(volume, chains, 2, tie_safe=True).score for volume in made.values())
    record(METHOD, "a binarised map is not called better", condition="3ENL at 2 Å, thresholds of 1 to 8 SD, one vote a residue", target="below the honest map",
           measured=f"{safe:.2f} at most, honest {true:.2f}; cctbx's votes: {classic[best]:.2f} at {best:g} SD, honest {emringer(honest, chains).score:.2f}, "
           f"ceiling {CEILING:.2f}", holds=safe < true, scale=scale)


def real_maps(data: Path, scale: str) -> list[ScoredCase]:
    scored = []
    for name, (map_file, model_file, resolution, ringer, mask) in REAL.items():
        volume = read_map(str(data / "maps" / map_file))
        structure = read_structure(str(data / "maps" / model_file), first_conformer=True)
        structure = structure.subset(heavy_atoms(structure))
        found = emringer(volume, find_side_chains(structure)).score
        record(
            METHOD,
            "EMRinger equals cctbx's",
            condition=name,
            target=f"{ringer:.4f}, to 4 decimals",
            measured=f"{found:.4f}",
            holds=abs(found - ringer) < 6e-5,
            scale=scale,
        )
        agreement = correlations(volume, structure, resolution)
        record(
            METHOD,
            "CC_mask equals cctbx's",
            condition=name,
            target=f"{mask:.4f}, to 0.001",
            measured=f"{agreement.mask:.4f}",
            holds=abs(agreement.mask - mask) < 1e-3,
            scale=scale,
        )
        scored.append(score_case(Case(name, {"map": volume}, structure), resolution))
    return scored


def reference_density(coefficients: Path, model: Path) -> Map:
    """Density on the grid of the reference values: FWT and PHWT on gemmi's default grid (3 samples to the resolution), then trilinearly on voxels of 0.5 Å.

    The first voxel lies 8 Å before the lowest atom of the file, waters and all: where a grid starts moves the score of a hundred side chains by some tenths.
    """
    grid = gemmi.read_mtz_file(str(coefficients)).transform_f_phi_to_map("FWT", "PHWT", sample_rate=3)
    structure = gemmi.read_structure(str(model))
    structure.remove_hydrogens()
    atoms = np.array([atom.atom.pos.tolist() for atom in structure[0].all()])
    origin = atoms.min(0) - 8
    density = np.zeros(np.ceil((atoms.max(0) + 8 - origin) / 0.5).astype(int), np.float32)
    grid.interpolate_values(density, gemmi.Transform(gemmi.Mat33((np.eye(3) * 0.5).tolist()), gemmi.Vec3(*origin)), order=1)
    x, y, z = (float(value) for value in origin)
    return Map(np.ascontiguousarray(density.T), 0.5, (x, y, z))


def xray_maps(data: Path, scale: str) -> list[ScoredCase]:
    scored = []
    for name, (mtz, model_file, expected) in XRAY.items():
        coefficients, model = data / "xray" / mtz, data / "xray" / model_file
        structure = read_structure(str(model), first_conformer=True)
        structure = structure.subset(polymer_atoms(structure))
        density, origin, resolution = crystal_density(str(coefficients), structure, 0.5)
        x, y, z = (float(value) for value in origin)
        case = score_case(Case(name, {"map": Map(density, 0.5, (x, y, z))}, structure), resolution)
        found = emringer(reference_density(coefficients, model), find_side_chains(structure)).score
        spread = float(bootstrap_scores([case.scores["map"].classic_votes], 1000)[:, 0].std())
        told = (f"{found:.2f}; interpolated by cubics on another grid {case.value('map', 'emringer'):.2f} (SD {spread:.2f}), "
                f"one vote a residue {case.value('map', 'emringer_tie_safe'):.2f} (ceiling of the model {case.ceiling:.2f})")
        record(
            METHOD,
            "EMRinger of an X-ray map",
            condition=f"{name}, 0.5 Å grid",
            target=f"{expected:g}, to 0.05",
            measured=told,
            holds=abs(found - expected) < 0.05,
            scale=scale,
        )
        scored.append(case)
    return scored


def noise(scale: str) -> None:
    """White noise low-passed like a map, at the places of a model: what the largest of twenty thresholds finds in nothing."""
    honest, structure = simulated("3enl", 3.0)
    chains, random, found = find_side_chains(structure), np.random.default_rng(0), []
    frequency = np.meshgrid(*(np.fft.fftfreq(side, honest.pixel_size_angst) for side in honest.data.shape), indexing="ij", sparse=True)
    keep = sum(axis**2 for axis in frequency) <= 1 / 3.0**2
    for _ in range(NOISE_MAPS[scale]):
        data = np.fft.ifftn(np.fft.fftn(random.normal(size=honest.data.shape)) * keep).real.astype(np.float32)
        found.append(emringer(Map(data, honest.pixel_size_angst, honest.origin_angst), chains, 2, tie_safe=True).score)
    true = emringer(honest, chains, 2, tie_safe=True).score
    limit = 10 * 2 / np.sqrt(len(chains))  # two standard deviations of z, divided by sqrt(N) as the score is
    record(
        METHOD,
        "noise has no EMRinger score",
        condition=f"{len(found)} maps of noise to 3 Å, places of 3ENL, one vote a residue",
        target=f"mean below {limit:.2f} (z = 2)",
        measured=f"{np.mean(found):.2f} +- {np.std(found):.2f}; the map of the model has {true:.2f}",
        holds=float(np.mean(found)) < limit,
        scale=scale,
    )


def speed(data: Path, work: Path, scale: str) -> None:
    """The whole command on a real map of 100^3 and on a simulated one near 256^3."""
    work.mkdir(parents=True, exist_ok=True)
    small, model = work / "emd_3488.mrc", work / "5ni1.cif"
    for path, source in ((small, data / "maps" / "emd_3488.mrc.gz"), (model, data / "maps" / "5ni1_updated.cif.gz")):
        path.write_bytes(gzip.decompress(source.read_bytes()))
    jobs = [("EMD-3488 with 5NI1", small, model)]
    structure = read_structure(str(data / "structures" / "5a1a.cif.gz"), first_conformer=True)
    structure = structure.subset(polymer_atoms(structure))
    volume = map_of(structure, 3.0, 0.8, 20.0)
    write_map(str(work / "5a1a.mrc"), volume.data, volume.pixel_size_angst, volume.origin_angst)
    write_structure(str(work / "5a1a.cif"), structure)
    jobs.append(("5A1A simulated at 3 Å", work / "5a1a.mrc", work / "5a1a.cif"))
    for name, map_file, model_file in jobs:
        shape = read_map(str(map_file)).data.shape
        usage = engine("validate-map", work / f"out-{map_file.stem}", volume=map_file, structure=model_file, threads=1)
        sides = " x ".join(str(side) for side in shape[::-1])
        record(
            METHOD,
            "validate-map: time and memory",
            condition=f"{name}, {sides} voxels, {len(read_structure(str(model_file)))} atoms, one core",
            target="memory below 4 GB",
            measured=f"{usage.cpu_seconds:.0f} s of processor, {usage.memory_mib / 1024:.1f} GB",
            holds=usage.memory_mib < 4096,
            scale=scale,
        )


def main() -> None:
    made = parser(__doc__ or "")
    add_data_option(made)
    options = made.parse_args()
    golden(options.scale)
    trap(options.scale)
    noise(options.scale)
    cases = real_maps(options.data, options.scale) + xray_maps(options.data, options.scale)
    write_case_table(Path(__file__).parent / "results" / "superres_scores.csv", [case.summary() for case in cases])
    speed(options.data, options.work / "superres-scores", options.scale)


if __name__ == "__main__":
    main()
