"""One small valid input of each reader, and what is done with it: reading, and what follows at once."""

from __future__ import annotations

import bz2
import dataclasses
import gzip
import random
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryolearn.engine.commands import COMMANDS
from cryolearn.engine.config import check_config, digest_file, load_config, save_config
from cryolearn.engine.elastic.network.architectures import build_network as elastic_network
from cryolearn.engine.elastic.network.trained_model import ElasticModel
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.config import ReconstructConfig
from cryolearn.engine.io.map_grid import read_map_grid
from cryolearn.engine.io.maps import Map, read_map, read_mask, write_map
from cryolearn.engine.io.mode_formats import write_mode_texts, write_nmd
from cryolearn.engine.io.mode_readers import read_foreign_modes
from cryolearn.engine.io.models import save_model
from cryolearn.engine.io.modes import make_modes, read_modes, write_modes
from cryolearn.engine.io.motions import MotionModel, read_motion, write_motion
from cryolearn.engine.io.stacks import ImageStack, write_stack
from cryolearn.engine.io.star import CtfTable, ParticleTable, read_particles, write_particles
from cryolearn.engine.io.structures import Structure, read_structure, write_structures
from cryolearn.engine.io.subtomograms import SubtomogramStack, SubtomogramTable, read_subtomograms, write_subtomograms
from cryolearn.engine.io.tables import read_table, write_table
from cryolearn.engine.map_enhancement.networks.by_name import TrainedMapNetwork
from cryolearn.engine.map_enhancement.networks.by_name import build_network as map_network
from cryolearn.engine.orientation.distance_network.distance_model import DistanceModel
from cryolearn.engine.orientation.distance_network.networks import build_network as distance_network
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel
from cryolearn.engine.subtomogram.networks.by_name import build_network as subtomogram_network
from cryolearn.engine.subtomogram.networks.trained_model import SubtomogramModel

from .mutations import mutated
from .test_io_cryosparc import _rows, _save
from .test_io_foreign_images import _imagic_stack, _spider_stack
from .tilt_cases import write_case

BOX, PIXEL, COUNT = 10, 1.5, 6
CPU = torch.device("cpu")
LONGEST_S = 10.0


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader: ``make`` writes a valid input into a folder, ``files`` of which are damaged, and ``read`` reads it."""

    files: tuple[str, ...]
    make: Callable[[Path], Any]
    read: Callable[[Path], Any]


def _rng() -> np.random.Generator:
    return np.random.default_rng(4)


def _finite(found: Any, name: str) -> None:
    """What was read holds no NaN and nothing infinite."""
    if isinstance(found, np.ndarray) and found.dtype.kind == "f":
        assert np.isfinite(found).all(), f"{name} is not finite"
    elif dataclasses.is_dataclass(found):
        for field in dataclasses.fields(found):
            if field.name not in ("limit", "extra", "cryosparc", "optics", "source", "eigenvalues", "collectivity", "score", "header"):
                _finite(getattr(found, field.name), f"{name}.{field.name}")


def _particles(folder: Path) -> ParticleTable:
    rng = _rng()
    write_stack(str(folder / "stack.mrcs"), rng.normal(size=(COUNT, BOX, BOX)), PIXEL)
    said = {"defocus_u": 15000.0, "defocus_v": 14500.0, "defocus_angle": 20.0, "phase_shift": 0.0, "voltage_kv": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1,
            "b_factor": 10.0, "scale": 0.9}
    table = ParticleTable(
        ids=np.arange(1, COUNT + 1), pixel_size_angst=PIXEL, box=BOX, image_file=[str(folder / "stack.mrcs")], file_index=np.zeros(COUNT, np.int64),
        image_index=np.arange(COUNT), angles_deg=rng.uniform(0, 180, (COUNT, 3)), origin_angst=rng.normal(size=(COUNT, 2)),
        random_subset=1 + np.arange(COUNT) % 2, ctf=CtfTable(**{name: np.full(COUNT, value) for name, value in said.items()}),
        extra={"rlnMicrographName": np.array(["a b", "c", "d#", "e", "f", "g"], dtype=object), "rlnCtfBfactor": np.full(COUNT, 10.0),
               "rlnCtfScalefactor": np.full(COUNT, 0.9)},
    )
    write_particles(str(folder / "particles.star"), table)
    return table


def _read_particles(path: Path, tilt_series: bool = False) -> None:
    table = read_particles(str(path), tilt_series=tilt_series)
    _finite(table, "particles")
    groups, _ = table.groups()
    _finite(groups, "optics")
    stack = ImageStack(table)
    _finite(stack.read(np.flatnonzero(stack.boxes == stack.boxes[0])[:3]), "images")
    write_particles(str(path.with_name("written.star")), table)


def _relion30(folder: Path) -> None:
    write_stack(str(folder / "stack.mrcs"), _rng().normal(size=(COUNT, BOX, BOX)), PIXEL)
    labels = ("rlnImageName", "rlnMagnification", "rlnDetectorPixelSize", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnDefocusU",
              "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginX", "rlnOriginY", "rlnBeamTiltX", "rlnBeamTiltY")
    rows = "".join(f"{n + 1:06d}@stack.mrcs 10000 1.5 300 2.7 .1 12000 10 20 30 1 2 .1 .2\n" for n in range(COUNT))
    (folder / "old.star").write_text("data_\n\nloop_\n" + "".join(f"_{label} #{n}\n" for n, label in enumerate(labels, 1)) + rows)


def _cryosparc(folder: Path) -> None:
    (folder / "J3" / "extract").mkdir(parents=True, exist_ok=True)
    write_stack(str(folder / "J3" / "extract" / "stack.mrc"), _rng().normal(size=(COUNT, 8, 8)), PIXEL)
    _save(folder / "particles.cs", _rows())


def _xmipp(folder: Path) -> None:
    write_stack(str(folder / "stack.mrcs"), _rng().normal(size=(COUNT, BOX, BOX)), PIXEL)
    rows = "".join(f"{n + 1}@stack.mrcs {n + 1} 1 10 20 30 1 2 12000 12500 45 300 2.7 .1 1.5\n" for n in range(COUNT))
    labels = ("image", "itemId", "enabled", "angleRot", "angleTilt", "anglePsi", "shiftX", "shiftY", "ctfDefocusU", "ctfDefocusV", "ctfDefocusAngle",
              "ctfVoltage", "ctfSphericalAberration", "ctfQ0", "samplingRate")
    (folder / "a.xmd").write_text("# XMIPP_STAR_1 *\ndata_noname\nloop_\n" + "".join(f" _{label}\n" for label in labels) + rows)


def _foreign(folder: Path, stack: str) -> None:
    rows = "\n".join(f"00000{n}@{stack} 1 0 0 0" for n in (3, 1))
    (folder / "a.star").write_text("data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnImagePixelSize\n1 1.5\n\ndata_particles\n\nloop_\n_rlnImageName\n"
                                   f"_rlnOpticsGroup\n_rlnAngleRot\n_rlnAngleTilt\n_rlnAnglePsi\n{rows}\n")


def _spider(folder: Path) -> None:
    _spider_stack(folder / "s.spi")
    _foreign(folder, "s.spi")


def _imagic(folder: Path) -> None:
    _imagic_stack(folder / "s")
    _foreign(folder, "s.img")


def _tilts(folder: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    write_case(folder, torch.randn(2, 5, 3, generator=generator) * 10, torch.ones(5), 4.0, box=16, pixel=4.0, noise=1.0)


def _subtomograms(folder: Path) -> None:
    rng = _rng()
    files = [str(folder / f"{n}.mrc") for n in range(3)]
    for path in files:
        write_map(path, rng.normal(size=(8, 8, 8)), 10.0)
    write_subtomograms(str(folder / "subtomograms.star"), SubtomogramTable(
        ids=np.arange(1, 4), pixel_size_angst=10.0, box=8, file=files, tilt_min_deg=np.full(3, -60.0), tilt_max_deg=np.full(3, 60.0),
        angles_deg=rng.uniform(0, 180, (3, 3)), shifts_angst=rng.normal(size=(3, 3)), class_name=["a", "b c", "a"],
    ))


def _read_subtomograms(folder: Path) -> None:
    table = read_subtomograms(str(folder / "subtomograms.star"))
    _finite(table, "subtomograms")
    _finite(SubtomogramStack(table).read([0]), "volume")
    write_subtomograms(str(folder / "written.star"), table)


def _maps(folder: Path) -> None:
    write_map(str(folder / "map.mrc"), _rng().uniform(0, 1, (8, 8, 8)), 2.0, (1.0, 2.0, 3.0))
    content = (folder / "map.mrc").read_bytes()
    (folder / "map.map.gz").write_bytes(gzip.compress(content))
    (folder / "map.mrc.bz2").write_bytes(bz2.compress(content))


def _read_maps(folder: Path) -> None:
    for name in ("map.mrc", "map.map.gz", "map.mrc.bz2"):
        for read in (read_map, read_map_grid, lambda path: Map(read_mask(path, (8, 8, 8), 2.0), 2.0)):
            try:
                _finite(read(str(folder / name)), name)
            except InputError:
                continue


def _structure() -> Structure:
    rng = _rng()
    count = 24
    return Structure(
        coordinates=np.cumsum(rng.uniform(0.9, 1.5, (count, 3)), 0), element=np.array(["C", "N", "O"] * 8), atomic_number=np.array([6, 7, 8] * 8),
        b_factor=np.full(count, 20.0), occupancy=np.ones(count), atom_name=np.array(["CA", "N", "O"] * 8), residue_number=np.arange(count) // 3 + 1,
        residue_name=np.full(count, "ALA"), chain=np.full(count, "A"), insertion_code=np.full(count, ""), hetero=np.zeros(count, bool),
    )


def _structures(folder: Path) -> None:
    for name in ("a.pdb", "a.cif"):
        write_structures(str(folder / name), [_structure()])
    (folder / "b.pdb.gz").write_bytes(gzip.compress((folder / "a.pdb").read_bytes()))


def _read_structures(folder: Path) -> None:
    for name in ("a.pdb", "a.cif", "b.pdb.gz"):
        try:
            _finite(read_structure(str(folder / name), quiet=True), name)
        except InputError:
            continue


def _modes(folder: Path) -> None:
    structure, rng = _structure(), _rng()
    modes = make_modes(structure.coordinates, rng.normal(size=(3, len(structure), 3)), [7, 8, 9], eigenvalues=[1.0, 2.0, 3.0])
    write_modes(str(folder / "modes.npz"), modes)
    write_nmd(str(folder / "a.nmd"), modes, structure)
    write_mode_texts(str(folder / "texts"), modes)
    np.savez(folder / "prody.npz", _array=modes.eigenvectors.reshape(3, -1).T, _eigvals=modes.eigenvalues, type=np.array("ANM"))


def _read_modes(folder: Path) -> None:
    places = _structure().coordinates
    sources: list[Callable[[], Any]] = [
        lambda: read_modes(str(folder / "modes.npz")),
        *(lambda name=name: read_foreign_modes([str(folder / name)], [], places) for name in ("a.nmd", "prody.npz", "texts")),
    ]
    for read in sources:
        try:
            _finite(read(), "modes")
        except InputError:
            continue


def _tables(folder: Path) -> None:
    rng = _rng()
    write_table(str(folder / "table.npz"), {"id": np.arange(1, 6), "amplitudes": rng.normal(size=(5, 2)), "flags": np.zeros(5, np.int64)},
                {"mode_numbers": [7, 8]})
    write_motion(str(folder / "motion.npz"), MotionModel(
        positions_angst=rng.normal(size=(4, 3)), weights=np.ones(4), sigma_angst=np.ones(4), displacement=rng.normal(size=(2, 4, 3)),
        weight_change=np.zeros((2, 4)), basis="network", layers=[(np.ones((3, 2)), np.zeros(3)), (np.ones((2, 3)), np.zeros(2))],
        meta={"box": 8, "pixel_size_angst": 2.0},
    ))


def _read_tables(folder: Path) -> None:
    try:
        read_table(str(folder / "table.npz"))
    except InputError:
        pass
    model = read_motion(str(folder / "motion.npz"))
    _finite(np.asarray(model.conformation(np.zeros((1, model.latent_dim)))[0]), "conformation")


def _configs(folder: Path) -> None:
    save_config(ReconstructConfig(output=str(folder)), str(folder / "config.json"))
    for name, place in COMMANDS.items():
        module, class_name = place.config.split(":")
        config_class = getattr(__import__(module, fromlist=[class_name]), class_name)
        made = {field.name: 1 if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING else None
                for field in dataclasses.fields(config_class)}
        if not any(made.values()):
            save_config(config_class(), str(folder / f"{name}.json"))


def _read_configs(folder: Path) -> None:
    for name, place in COMMANDS.items():
        module, class_name = place.config.split(":")
        if (folder / f"{name}.json").exists():
            try:
                check_config(load_config(getattr(__import__(module, fromlist=[class_name]), class_name), str(folder / f"{name}.json")))
            except InputError:
                continue


_INPUT = {"box": 32, "pixel_size_angst": 4.0, "size": 16, "signal_power": [1.0] * 9, "noise_power": [2.0] * 9, "scale": 1.0, "centre_radius_angst": 30.0}


def _elastic_model(folder: Path) -> None:
    arguments = {"modes": 2, "amplitude_unit": 10.0, "pixel_angst": 8.0, "radius_angst": 50.0, "centre_radius_angst": 30.0, "width": 16}
    _modes(folder)
    save_model(str(folder), elastic_network("multi", arguments).state_dict(), {
        "architecture": "multi", "arguments": arguments, "input": _INPUT, "mode_numbers": [7, 8], "pixel_size_angst": 4.0, "box": 32, "amplitude_range": 20.0,
        "shift_range_angst": 5.0, "hypotheses": 4, "digest": "0", "reference": digest_file(str(folder / "modes.npz")),
    })


def _read_elastic_model(folder: Path) -> None:
    model = ElasticModel.load(str(folder), CPU)
    model.modes()
    with torch.no_grad():
        found = model.network(model.scheme.from_images(torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(1)), None), 2)
    assert all(bool(values.isfinite().all()) for values in vars(found).values() if isinstance(values, torch.Tensor)), "answer is not finite"


def _distance_model(folder: Path) -> None:
    arguments = {"size": 16, "radius_px": 6.0, "width": 8}
    knots = {"similarity": [1.0, 0.5, 0.0], "distance_rad": [0.0, 1.0, 3.0], "variance_rad2": [0.1, 0.1, 0.2],
             "mean_spread": 0.1, "constant": 1.0, "slope": 0.1}
    save_model(str(folder), distance_network("exact", SimilarityKernel("C1"), arguments).state_dict(), {
        "kind": "distance", "preset": "exact", "arguments": arguments, "symmetry": "C1", "input": _INPUT, "pixel_size_angst": 4.0, "box": 32, "snr": 0.1,
        "radius_angst": 30.0, "shift_range_angst": 5.0, "digest": "0", "views": 16, "calibration": knots,
    })


def _read_distance_model(folder: Path) -> None:
    model = DistanceModel.load(str(folder), CPU)
    found, weight = model.calibration.apply(torch.tensor([0.3, 2.0]), torch.tensor([0.1, 0.1]))
    assert bool((found.isfinite() & weight.isfinite()).all()), "distance is not finite"


def _subtomogram_model(folder: Path) -> None:
    arguments = {"classes": 2, "box": 16, "channels": 2, "width": 8, "embedding": 4, "dropout": 0.1}
    state = {f"network.{name}": values for name, values in subtomogram_network("residual3d", arguments).state_dict().items()}
    width = state["network.last.weight"].shape[1]
    state |= {"known.centres": torch.randn(2, width), "known.whitening": torch.eye(width)}
    save_model(str(folder), state, {
        "kind": "subtomogram", "architecture": "residual3d", "arguments": arguments, "classes": ["a", "b"], "box": 16, "pixel_size_angst": 10.0,
        "wedge_channel": True, "average_turns": False, "digest": "0", "tilt_range_deg": [-60.0, 60.0], "temperature": 1.0, "novelty_discriminants": 1,
        "novelty_quantiles": [float(n) for n in range(101)],
    })


def _read_subtomogram_model(folder: Path) -> None:
    model = SubtomogramModel.load(str(folder), CPU)
    found = model.look(_rng().normal(size=(1, 16, 16, 16)).astype(np.float32), np.array([[-60.0, 60.0]]))
    answer = model.answer(found["logits"], found["class_distance"])
    assert all(np.isfinite(values).all() for values in answer.values()) and np.isfinite(model.novelty_limit(0.05)), "answer is not finite"


def _map_model(folder: Path) -> None:
    save_model(str(folder), map_network("residual", {"width": 4}).state_dict(), {
        "kind": "map", "preset": "residual", "arguments": {"width": 4}, "degradation": "physics", "voxel_angst": 1.0, "pixel_size_angst": 1.0, "box": 48,
        "finest_angst": 2.5, "coarsest_angst": 6.0, "digest": "0",
    })


_MODEL = ("model.json", "model.json", "weights.safetensors")
READERS: dict[str, Reader] = {
    "STAR": Reader(("particles.star",), _particles, lambda folder: _read_particles(folder / "particles.star")),
    "STAR of RELION 3.0": Reader(("old.star",), _relion30, lambda folder: _read_particles(folder / "old.star")),
    "cryoSPARC": Reader(("particles.cs",), _cryosparc, lambda folder: _read_particles(folder / "particles.cs")),
    "Xmipp": Reader(("a.xmd",), _xmipp, lambda folder: _read_particles(folder / "a.xmd")),
    "MRC stacks": Reader(("stack.mrcs",), _particles, lambda folder: _read_particles(folder / "particles.star")),
    "SPIDER": Reader(("s.spi",), _spider, lambda folder: _read_particles(folder / "a.star")),
    "IMAGIC": Reader(("s.hed", "s.img"), _imagic, lambda folder: _read_particles(folder / "a.star")),
    "tilt series": Reader(("particles.star", "tomograms.star", "optimisation_set.star"), _tilts,
                          lambda folder: _read_particles(folder / "optimisation_set.star", True)),
    "subtomograms": Reader(("subtomograms.star", "0.mrc"), _subtomograms, _read_subtomograms),
    "maps": Reader(("map.mrc", "map.map.gz", "map.mrc.bz2"), _maps, _read_maps),
    "structures": Reader(("a.pdb", "a.pdb", "a.cif", "a.cif", "b.pdb.gz"), _structures, _read_structures),
    "modes": Reader(("modes.npz", "prody.npz", "a.nmd", "texts/vec.8"), _modes, _read_modes),
    "tables": Reader(("table.npz", "motion.npz"), _tables, _read_tables),
    "parameters": Reader(tuple(f"{name}.json" for name in COMMANDS), _configs, _read_configs),
    "elastic networks": Reader(_MODEL, _elastic_model, _read_elastic_model),
    "distance networks": Reader(_MODEL, _distance_model, _read_distance_model),
    "subtomogram networks": Reader(_MODEL, _subtomogram_model, _read_subtomogram_model),
    "map networks": Reader(_MODEL, _map_model, lambda folder: TrainedMapNetwork.load(str(folder), CPU)),
}


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    def stop(signum: int, frame: Any) -> None:
        raise TimeoutError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def make_case(name: str, folder: Path) -> None:
    """A valid input of a reader, which it reads, in ``folder/valid``."""
    valid = folder / "valid"
    valid.mkdir(parents=True)
    READERS[name].make(valid)
    READERS[name].read(valid)


def try_mutation(name: str, folder: Path, seed: int) -> bool:
    """Read a damaged copy of what :func:`make_case` made; whether it was refused.

    Raises
    ------
    AssertionError
        when it is read as NaN.
    Exception
        whatever the reader raises but the project's own error for inputs, and TimeoutError when it takes longer than ten seconds.
    """
    reader, rng, valid, place = READERS[name], random.Random(seed), folder / "valid", folder / "damaged"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(valid, place, copy_function=_link)
    chosen = rng.choice([file for file in reader.files if (valid / file).exists()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = mutated(chosen, (valid / chosen).read_bytes(), rng)
        (place / chosen).unlink()
        (place / chosen).write_bytes(content)
        try:
            with _within(LONGEST_S):
                reader.read(place)
        except InputError:
            return True
    return False


def _link(source: str, target: str) -> None:
    Path(target).symlink_to(Path(source).resolve())


def fuzz(name: str, folder: Path, *, seconds: float, first_seed: int = 0) -> tuple[int, list[str]]:
    """Damaged inputs of a reader for some time: how many were read, and what went wrong, with the seeds."""
    make_case(name, folder)
    end, seed, wrong = time.monotonic() + seconds, first_seed, []
    while time.monotonic() < end:
        try:
            try_mutation(name, folder, seed)
        except Exception as error:
            wrong.append(f"seed {seed}: {type(error).__name__}: {error}")
        seed += 1
    return seed - first_seed, wrong
