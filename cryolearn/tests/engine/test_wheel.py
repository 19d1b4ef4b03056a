"""The built wheel holds what Scipion and the engine look for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs the source tree")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of the source tree (building leaves files beside the sources)."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "pyproject.toml", "README.rst", "LICENSE", "CHANGES.txt", "MANIFEST.in", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "cryolearn", folder / "cryolearn", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "dist"), "."],
        cwd=folder,
        check=True,
    )
    (path,) = (folder / "dist").glob("*.whl")
    return zipfile.ZipFile(path)


def test_every_data_file_of_the_package_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    kinds = (".png", ".conf", ".template", ".safetensors", ".json")
    sources = [p for p in (ROOT / "cryolearn").rglob("*") if p.suffix in kinds or p.name.endswith("requirements.txt")]
    assert {p.name for p in sources} >= {"protocols.conf", "cryolearn_logo.png", "engine-requirements.txt", "weights.safetensors", "model.json"}
    assert any(p.suffix == ".template" for p in sources)
    missing = [str(p.relative_to(ROOT)) for p in sources if str(p.relative_to(ROOT)) not in names]
    assert not missing


def test_every_module_is_in_the_wheel_and_nothing_else_is(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "cryolearn").rglob("*.py")}
    assert not modules - names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"cryolearn"}
    assert any(name.endswith("LICENSE") for name in names)


def test_the_entry_point_is_scipions(wheel: zipfile.ZipFile) -> None:
    text = wheel.read(next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))).decode()
    parser = ConfigParser()
    parser.read_string(text)
    assert dict(parser["pyworkflow.plugin"]) == {"cryolearn": "cryolearn"}


def test_metadata_scipions_side_needs_no_torch_and_python_38_is_enough(wheel: zipfile.ZipFile) -> None:
    metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("METADATA"))).decode()
    needs = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
    plain = [line for line in needs if "extra ==" not in line]
    assert {line.split()[1].split(">")[0] for line in plain} == {"scipion-em", "scipion-em-tomo", "numpy", "mrcfile"}
    assert any("torch>" in line and "engine" in line for line in needs)
    assert "Requires-Python: >=3.8" in metadata


def test_the_locks_hold_exact_versions_and_torch_of_the_two_commands() -> None:
    for path in (ROOT / "requirements.lock", ROOT / "cryolearn" / "engine-requirements.txt"):
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        assert all("==" in line and "+" not in line for line in lines), path
        assert "torch==2.13.0" in lines
    lock = (ROOT / "requirements.lock").read_text().lower()
    engine = (ROOT / "cryolearn" / "engine-requirements.txt").read_text().lower()
    for name in ("lightning", "prody", "gemmi", "jsonargparse", "safetensors", "starfile", "scikit-learn"):
        assert f"\n{name}==" in lock and f"\n{name}==" in engine
    for name in ("scipion-em", "scipion-em-tomo", "scipion-em-relion"):
        assert f"\n{name}==" in lock
    assert "scipion" not in engine.split("\n", 1)[1]
