"""The resumable commands with small inputs, which the benchmark of killed runs starts: some ten seconds each on two cores."""

from __future__ import annotations

from pathlib import Path

import prody
from _run import engine

from cryolearn.engine.imaging.model_map import model_map
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.structures import read_structure

MODES = [7, 8]
BOX, PIXEL = 48, 4.0
SUBTOMOGRAM_BOX, VOXEL = 24, 8.0
MAP_BOX, MAP_VOXEL = 72, 1.5

Options = dict[str, object]


def options_of(command: str, work: Path) -> Options:
    """Options of a command, whose inputs are made in the folder of work unless they are there."""
    return {
        "simulate-particles": lambda: {**_particles(work), "number": 6000},
        "subtomogram-simulate": lambda: {**_subtomograms(), "per_class": 700},
        "elastic-align": lambda: {
            "particles": particles(work), "modes": modes(work), "mode_numbers": MODES, "views": 200, "conformers": 4, "chunk": 8, "batch": 8},
        "elastic-train": lambda: _elastic_network(work, 6),
        "elastic-predict": lambda: {"particles": particles(work), "model": elastic_model(work), "chunk": 8, "batch": 8},
        "distance-train": lambda: {
            "volumes": [density(work, 2 * PIXEL)], "box_px": 32, "pixel_size_angst": 2 * PIXEL, "network_size_px": 32, "width": 16, "epochs": 4,
            "images_per_epoch": 2048, "checkpoint_steps": 10},
        "orientation-recover": lambda: {"particles": particles(work), "start": "random", "restarts": 3, "rounds": 5, "batch": 32},
        "gaussian-heterogeneity": lambda: {"particles": particles(work), "volume": consensus(work), "rounds": 8, "maps": 3},
        "subtomogram-train": lambda: {"subtomograms": subtomograms(work), "width": 8, "epochs": 6, "batch": 32, "checkpoint_steps": 2},
        "subtomogram-classify": lambda: {"subtomograms": subtomograms(work), "model": subtomogram_model(work), "chunk": 16, "batch": 8},
        "subtomogram-subdivide": lambda: {"subtomograms": subtomograms(work), "model": subtomogram_model(work), "clusters": 4, "chunk": 16, "batch": 8},
        "subtomogram-average": lambda: {"subtomograms": subtomograms(work), "classes": 2, "iterations": 4, "angular_step_deg": 30, "batch": 16},
        "map-train": lambda: {"structures": structures(), "patch_px": 32, "width": 8, "epochs": 3, "patches_per_epoch": 48, "checkpoint_steps": 2},
        "map-enhance": lambda: {"volume": density(work, 4.0, MAP_BOX, MAP_VOXEL), "resolution_angst": 4.0, "rotations": "1", "tile_px": 64},
    }[command]()


COMMANDS = (
    "simulate-particles", "subtomogram-simulate", "elastic-align", "elastic-train", "elastic-predict", "distance-train", "orientation-recover",
    "gaussian-heterogeneity", "subtomogram-train", "subtomogram-classify", "subtomogram-subdivide", "subtomogram-average", "map-train", "map-enhance",
)


def structures() -> list[str]:
    """Structures that come with ProDy: adenylate kinase and enolase."""
    folder = Path(prody.__file__).parent / "tests" / "datafiles"
    return [str(folder / name) for name in ("4akeA_alg_fixed.pdb", "pdb3enl.pdb")]


def made(work: Path, name: str, command: str, result: str, options: Options) -> str:
    """A file of the output of a command, which runs unless it is there."""
    if not (work / name / result).exists():
        engine(command, work / name, **options)
    return str(work / name / result)


def modes(work: Path) -> str:
    """Normal modes of adenylate kinase."""
    return made(work, "modes", "normal-modes", "modes.npz", {"structure": structures()[0], "number": 12})


def _particles(work: Path) -> Options:
    return {
        "structure": str(Path(modes(work)).with_name("structure.pdb")), "modes": modes(work), "mode_numbers": MODES, "box": BOX, "pixel_size_angst": PIXEL,
        "snr": 1.0, "amplitude": 200.0, "shift_angst": 6.0}


def particles(work: Path) -> str:
    """96 particles with true poses."""
    return made(work, "particles", "simulate-particles", "particles.star", {**_particles(work), "number": 96})


def consensus(work: Path) -> str:
    """Map of the particles at their true poses."""
    return made(work, "consensus", "reconstruct", "map.mrc", {"particles": particles(work)})


def _elastic_network(work: Path, epochs: int) -> Options:
    return {
        "particles": particles(work), "modes": modes(work), "mode_numbers": MODES, "labels": "simulation", "width": 16, "epochs": epochs,
        "images_per_epoch": 512, "batch": 64, "checkpoint_steps": 4, "precision": "32"}


def elastic_model(work: Path) -> str:
    """Folder of a small elastic network."""
    return str(Path(made(work, "elastic", "elastic-train", "model/model.json", _elastic_network(work, 1))).parent)


def density(work: Path, resolution_angst: float, box: int = BOX, pixel: float = PIXEL) -> str:
    """Map of adenylate kinase."""
    path = work / f"density_{box}_{pixel:g}.mrc"
    if not path.exists():
        atoms = read_structure(structures()[0])
        origin = atoms.coordinates.mean(0) - box // 2 * pixel
        write_map(str(path), model_map(atoms, (box, box, box), pixel, origin, resolution_angst), pixel, origin)
    return str(path)


def _subtomograms() -> Options:
    return {"structures": structures(), "box": SUBTOMOGRAM_BOX, "pixel_size_angst": VOXEL, "snr": 0.5, "null_class": True, "shift_angst": 8.0}


def subtomograms(work: Path) -> str:
    """Labelled subtomograms of the structures and of noise."""
    return made(work, "subtomograms", "subtomogram-simulate", "subtomograms.star", {**_subtomograms(), "per_class": 40})


def subtomogram_model(work: Path) -> str:
    """Folder of a small network for subtomograms."""
    return str(Path(made(work, "classifier", "subtomogram-train", "model/model.json", {
        "subtomograms": subtomograms(work), "width": 8, "epochs": 1, "batch": 32})).parent)
