"""The built wheel holds what Scipion and the engine look for."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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
    for name in ("lightning", "prody", "gemmi", "jsonargparse", "safetensors", "scikit-learn"):
        assert f"\n{name}==" in lock and f"\n{name}==" in engine
    for name in ("starfile", "torch-ctf"):  # of the tests
        assert f"\n{name}==" in lock and f"\n{name}==" not in engine
    for name in ("scipion-em", "scipion-em-tomo", "scipion-em-relion"):
        assert f"\n{name}==" in lock
    assert "scipion" not in engine.split("\n", 1)[1]


MODULES = {"biopython": "Bio", "scikit-learn": "sklearn", "scikit-image": "skimage"}  # where they are not named as their packages are


def imported(folders: tuple[str, ...]) -> set[str]:
    """Names of the top-level modules that the files in these folders of the package import, at any place."""
    found: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / "cryolearn" / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.split(".")[0])
    return found


def required(extra: str) -> set[str]:
    """Packages of one of setup.py's lists."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    lists = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body
             if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.List)}
    return {re.split("[<>=]", text)[0] for text in lists[extra]}


def test_the_engine_requires_what_it_imports_and_nothing_else() -> None:
    modules = {MODULES.get(name, name) for name in required("ENGINE")}
    own = set(sys.stdlib_module_names) | {"cryolearn"}
    assert imported(("engine", "common")) - own - {"umap"} == modules  # umap-learn is offered on the command line only, where somebody has installed it


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="needs the packages of requirements.lock")
def test_the_locks_hold_what_the_lists_name_and_no_package_that_nothing_needs() -> None:
    """As the packages that are installed say of one another."""
    def key(name: str) -> str:
        return re.sub("[-_.]+", "-", name).lower()

    def closure(names: set[str]) -> set[str]:
        seen: set[str] = set()
        todo = [(key(name), "") for name in names]
        while todo:
            name, extra = todo.pop()
            if f"{name}[{extra}]" in seen:
                continue
            seen.add(f"{name}[{extra}]")
            for text in importlib.metadata.requires(name) or []:
                need = Requirement(text)
                if need.marker is None or need.marker.evaluate({"extra": extra}):
                    todo += [(key(need.name), more) for more in ("", *need.extras)]
        return {text.split("[")[0] for text in seen}

    lines = (ROOT / "cryolearn" / "engine-requirements.txt").read_text().splitlines()
    assert {key(line.split("==")[0]) for line in lines if "==" in line} == closure(required("ENGINE"))
    lock = {key(line.split("==")[0]) for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert lock >= closure(required("ENGINE")) | {key(name) for name in required("TESTS")}
    versions = {key(name): version for name, _, version in (line.partition("==") for line in lines) if version}
    for text in (line for line in (ROOT / "setup.py").read_text().splitlines() if line.startswith('    "') and ">" in line):
        need = Requirement(text.split('"')[1])
        if key(need.name) in versions:
            assert need.specifier.contains(versions[key(need.name)]), text
