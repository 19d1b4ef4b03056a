"""Numbers that nothing can have, and files that hold more than they can: refused in one sentence that names item, place and range."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cryolearn.common.atomic import write_json
from cryolearn.common.packed_files import load_npz, unpack_gzip
from cryolearn.common.strict_json import parse_json, read_json
from cryolearn.engine.config import check_config
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.map_grid import read_map_grid
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.models import save_model
from cryolearn.engine.io.stacks import ImageStack, write_stack
from cryolearn.engine.io.star import read_particles
from cryolearn.engine.io.star_text import read_star, write_star
from cryolearn.engine.io.structures import read_structure
from cryolearn.engine.io.tables import read_table, write_table
from cryolearn.engine.landscape.config import ClusterLandscapeConfig
from cryolearn.engine.simulate.config import SimulateParticlesConfig

from .reader_cases import READERS, make_case

OPTICS = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnImagePixelSize", "rlnImageSize")


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("star")
    make_case("STAR", folder)
    return folder / "valid"


@pytest.mark.parametrize(("label", "value", "words"), [
    ("rlnVoltage", 0, "kV (10 to 3000)"), ("rlnVoltage", -300, "kV (10 to 3000)"), ("rlnAmplitudeContrast", 1.5, "fraction (0 to 1)"),
    ("rlnAmplitudeContrast", -0.1, "fraction (0 to 1)"), ("rlnImagePixelSize", 0, "Å (0.05 to 1000)"), ("rlnImagePixelSize", -1.5, "Å (0.05 to 1000)"),
    ("rlnImagePixelSize", 1e9, "Å (0.05 to 1000)"), ("rlnImageSize", 64.5, "px (2 to 16384)"), ("rlnImageSize", 1, "px (2 to 16384)"),
    ("rlnSphericalAberration", np.inf, "no number"), ("rlnOriginXAngst", 1e6, "Å (-100000 to 100000)"), ("rlnOriginYAngst", np.nan, "no number"),
    ("rlnAngleTilt", 1e300, "degrees (-3600 to 3600)"), ("rlnAngleRot", np.inf, "no number"), ("rlnDefocusU", 1e12, "Å (-1e+07 to 1e+07)"),
    ("rlnCtfBfactor", 1e4, "Å^2 (-1000 to 5000)"), ("rlnCtfBfactor", -1e4, "Å^2 (-1000 to 5000)"), ("rlnCtfScalefactor", -0.5, "factor (0 to 100)"),
    ("rlnRandomSubset", 3, "1 or 2"), ("rlnImageId", 1e25, "18 digits"),
])
def test_numbers_that_no_particle_file_can_hold(valid: Path, tmp_path: Path, label: str, value: float, words: str) -> None:
    shutil.copy(valid / "stack.mrcs", tmp_path)
    blocks = read_star(str(valid / "particles.star"))
    column = blocks["optics" if label in OPTICS else "particles"][label] = blocks["optics" if label in OPTICS else "particles"][label].astype(float)
    column[-1] = value
    write_star(str(tmp_path / "particles.star"), blocks)
    with pytest.raises(InputError, match=re.escape(words)) as refusal:
        read_particles(str(tmp_path / "particles.star"))
    assert label in str(refusal.value) and "particles.star" in str(refusal.value)


def test_an_image_number_of_twenty_digits(valid: Path, tmp_path: Path) -> None:
    text = (valid / "particles.star").read_text()
    (tmp_path / "particles.star").write_text(text.replace("000003@", "100000000000000000000@"))
    with pytest.raises(InputError, match="particle 3, which is not of the form"):
        read_particles(str(tmp_path / "particles.star"))


@pytest.mark.parametrize(("config", "words"), [
    (ClusterLandscapeConfig(seed=-1), "seed is -1.*between 0 and 2e\\+09"), (ClusterLandscapeConfig(seed=2**80), "seed is 1.2.*between 0 and 2e\\+09"),
    (ClusterLandscapeConfig(clusters=10**400), "clusters is a whole number of about 400 digits"), (SimulateParticlesConfig(snr=float("inf")), "snr is inf"),
    (SimulateParticlesConfig(box=10**12), "box is 1e\\+12"), (SimulateParticlesConfig(output="a\0b"), "output .* no file name can have"),
])
def test_parameters_that_no_command_can_have(config: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"Parameter {words}"):
        check_config(config)


@pytest.mark.parametrize("text", ["[" * 100_000, "[NaN]", "[1e999]", "[" + "7" * 400 + "]", '{"a": 1, "a": 2}', "[-Infinity]", ""])
def test_what_is_no_json_is_not_read(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        parse_json(text)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError):
        read_json(str(tmp_path / "a.json"))


def test_json_that_is_written_is_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": [float("inf"), 1.5, {"c": np.float64("nan")}], "d": np.array([np.nan, 2.0])}, lambda v: v.tolist())
    assert read_json(str(tmp_path / "a.json")) == {"a": None, "b": [None, 1.5, {"c": None}], "d": [None, 2.0]}
    write_table(str(tmp_path / "a.npz"), {"id": np.arange(3)}, {"resolution": float("nan")})
    assert read_table(str(tmp_path / "a.npz"))[1] == {"resolution": None}


def test_files_that_would_fill_the_memory_are_not_unpacked(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**14,)})
    with zipfile.ZipFile(tmp_path / "promise.npz", "w") as archive:
        archive.writestr("id.npy", header.getvalue())
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("id.npy", "w") as part:
        for _ in range(300):
            part.write(bytes(1 << 20))
    for name, words in (("promise", "more than the file holds"), ("bomb", "would unpack to 300 MB")):
        with pytest.raises(ValueError, match=words):
            load_npz(str(tmp_path / f"{name}.npz"))
        with pytest.raises(InputError, match=words):
            read_table(str(tmp_path / f"{name}.npz"))
    piece = gzip.compress(bytes(1 << 20))
    for name, read in (("a.star", read_star), ("a.pdb", read_structure)):
        (tmp_path / name).write_bytes(piece * 300)
        with pytest.raises(InputError, match="would unpack to"):
            read(str(tmp_path / name))
    assert unpack_gzip(piece) == bytes(1 << 20)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "touched",))

    np.savez(tmp_path / "a.npz", id=np.arange(2), bad=np.array([Hostile(), 1], dtype=object))
    np.save(tmp_path / "a.cs", np.array([Hostile()], dtype=object))
    for read in (lambda: read_table(str(tmp_path / "a.npz")), lambda: read_particles(str(tmp_path / "a.cs.npy"))):
        with pytest.raises(InputError):
            read()
    (tmp_path / "a.cs.npy").rename(tmp_path / "a.cs")
    with pytest.raises(InputError, match="Python objects"):
        read_particles(str(tmp_path / "a.cs"))
    assert not (tmp_path / "touched").exists()


TEXTS = ["a b", "#x", "it's", 'a"b', 'a"b c"', '"q"', "'s'", "data_x", "loop_", "_l", ";x", "a #b", "é", 'x # "y"', '"a""b"', "'a b'", "x 'y' z", '"', "'"]


def test_text_is_quoted_in_star(tmp_path: Path) -> None:
    """A group name can neither add rows, nor blocks, nor columns."""
    hostile = ["x\ndata_optics", "x\n1 2 3\n", "t\tb", "\r\n#"]
    path = str(tmp_path / "a.star")
    values = np.array([*TEXTS, *hostile], dtype=object)
    write_star(path, {"x": {"n": np.arange(len(values)), "aName": values, "text": values}, "y": {"text": values}})
    found = read_star(path)
    assert list(found) == ["x", "y"]
    for column in (found["x"]["aName"], found["x"]["text"], found["y"]["text"]):
        assert list(column) == [*TEXTS, "x data_optics", "x 1 2 3 ", "t b", " #"]


def test_a_loop_of_a_hundred_thousand_columns_is_refused_at_once(tmp_path: Path) -> None:
    labels = "".join(f"_l{n} #{n}\n" for n in range(100_000))
    (tmp_path / "a.star").write_text(f"data_x\n\nloop_\n{labels}{'1 ' * 100_000}\n")
    start = time.process_time()
    with pytest.raises(InputError, match="100000 labels"):
        read_star(str(tmp_path / "a.star"))
    assert time.process_time() - start < 10


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # mrcfile warns as it writes them
@pytest.mark.parametrize(("value", "voxel", "words"), [
    (1e30, 2.0, "beyond 1e19"), (np.nan, 2.0, "NaN"), (1.0, 1e6, r"pixel size of 1e\+06 Å"), (1.0, 0.01, "0.01 Å"),
])
def test_maps_of_impossible_values_or_voxels(tmp_path: Path, value: float, voxel: float, words: str) -> None:
    data = np.ones((8, 8, 8), np.float32)
    data[1, 2, 3] = value
    write_map(str(tmp_path / "a.mrc"), data, voxel)
    for read in (read_map, read_map_grid):
        with pytest.raises(InputError, match=words):
            read(str(tmp_path / "a.mrc"))


def test_images_of_impossible_values(valid: Path, tmp_path: Path) -> None:
    shutil.copy(valid / "particles.star", tmp_path)
    images = np.random.default_rng(1).normal(size=(6, 10, 10))
    images[4, 0, 0] = 1e30
    write_stack(str(tmp_path / "stack.mrcs"), images, 1.5)
    stack = ImageStack(read_particles(str(tmp_path / "particles.star")))
    assert len(stack.read([0, 1, 2, 3, 5])) == 5
    with pytest.raises(InputError, match="particle 5 holds NaN or infinite values, or some beyond 1e19"):
        stack.read(np.arange(6))


# --- trained networks

OF_ALL: list[tuple[str, Any]] = [
    ("pixel_size_angst", float("nan")), ("pixel_size_angst", 0), ("pixel_size_angst", "3 Å"), ("pixel_size_angst", [3]), ("box", 0.5), ("box", 10**9),
    ("arguments", {}), ("arguments", {"zzz": 1}), ("arguments", 3), ("digest", 5),
]
OF_ONE = {
    "elastic networks": [
        ("architecture", "foo"), ("input.noise_power", [float("nan")] * 9), ("input.noise_power", [1.0]), ("input.size", 10**7), ("input.box", 64),
        ("arguments.amplitude_unit", 1e300), ("arguments.width", 10**9), ("arguments.modes", 3), ("mode_numbers", [7]), ("hypotheses", None),
        ("amplitude_range", None), ("input.scale", 0),
    ],
    "distance networks": [("preset", "foo"), ("symmetry", "Q5"), ("arguments.width", 16), ("calibration.similarity", [0.0, 1.0]), ("input.size", 10**7)],
    "subtomogram networks": [
        ("architecture", "foo"), ("arguments.box", 24), ("arguments.classes", 3), ("classes", ["a"]), ("temperature", 0), ("novelty_quantiles", [1.0]),
        ("wedge_channel", False),
    ],
    "map networks": [("preset", "foo"), ("voxel_angst", -1), ("voxel_angst", 1e-3), ("arguments.width", 10**9), ("finest_angst", 7.0)],
}


@pytest.fixture(scope="module", params=sorted(OF_ONE))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("model")
    make_case(request.param, folder)
    return request.param, folder / "valid"


def _refused(name: str, folder: Path) -> str:
    with pytest.raises(InputError) as refusal:
        READERS[name].read(folder)
    text = str(refusal.value)
    assert "\n" not in text and str(folder) in text
    return text


def test_tampered_descriptions_are_refused(model: tuple[str, Path], tmp_path: Path) -> None:
    name, source = model
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    for place, value in OF_ALL + OF_ONE[name]:
        described = node = json.loads((source / "model.json").read_text())
        *parts, last = place.split(".")
        for part in parts:
            node = node[part]
        node[last] = value
        (tmp_path / "model.json").write_text(json.dumps(described))
        _refused(name, tmp_path)
    (tmp_path / "model.json").write_text("[" * 100_000)
    assert "nested too deep" in _refused(name, tmp_path)


def test_foreign_weights_are_refused(model: tuple[str, Path], tmp_path: Path) -> None:
    name, source = model
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    weights = load_file(str(source / "weights.safetensors"))
    first = max(weights, key=lambda tensor: weights[tensor].ndim)
    for change in (
        {first: torch.full_like(weights[first], float("nan"))}, {first: weights[first] * 1e30 + 1e30}, {first: weights[first][:-1].clone()},
        {"zzz": torch.zeros(3)}, {first: None},
    ):
        save_file({tensor: values for tensor, values in {**weights, **change}.items() if values is not None}, str(tmp_path / "weights.safetensors"))
        _refused(name, tmp_path)
    (tmp_path / "weights.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    _refused(name, tmp_path)


def test_models_of_other_methods_are_refused(model: tuple[str, Path]) -> None:
    name, source = model
    for other in OF_ONE:
        if other != name:
            _refused(other, source)


def test_a_training_that_diverged_writes_no_model(tmp_path: Path) -> None:
    for state, described in (({"a": torch.tensor([np.nan])}, {}), ({"a": torch.ones(2)}, {"temperature": float("nan")})):
        with pytest.raises(InputError, match="lower learning rate"):
            save_model(str(tmp_path / "model"), state, described)
    assert not (tmp_path / "model").exists()
