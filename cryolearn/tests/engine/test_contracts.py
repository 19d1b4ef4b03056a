"""The arrows between the rooms, and the two sides that do not meet inside one interpreter."""

from __future__ import annotations

import ast
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cryolearn.engine
from cryolearn.tests.engine.conftest import SCIPION

PACKAGE = Path(cryolearn.__file__).parent
ROOT = PACKAGE.parent
SHARED = [
    "cryolearn",
    "cryolearn.engine",
    "cryolearn.engine.config",
    "cryolearn.engine.exceptions",
    "cryolearn.engine.commands",
    "cryolearn.engine.shared_parameters",
    *sorted(f"cryolearn.engine.{path.parent.name}" for path in PACKAGE.glob("engine/*/__init__.py")),
    *sorted(f"cryolearn.engine.{path.parent.name}.config" for path in PACKAGE.glob("engine/*/config.py")),
]
COMMON = ["cryolearn.common", *sorted(f"cryolearn.common.{path.stem}" for path in PACKAGE.glob("common/[!_]*.py"))]
ENGINE = sorted(module.name for module in pkgutil.walk_packages(cryolearn.engine.__path__, "cryolearn.engine."))

# Raises on imports that `allowed(name)` does not allow; runs before anything else in a fresh interpreter.
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if not allowed(name.split(".")[0]):
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, isolated from the environment's variables, with the repository importable."""
    start = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    return subprocess.run([sys.executable, "-I", "-c", start + code, *arguments], capture_output=True, text=True, check=False, cwd="/")


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="the contracts stand in the source tree's pyproject.toml")
def test_import_arrows() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_contracts_can_break(tmp_path: Path) -> None:
    """A forbidden arrow is seen: the same contracts over a copy in which the engine imports Scipion and a method another."""
    shutil.copytree(PACKAGE, tmp_path / "cryolearn", ignore=shutil.ignore_patterns("__pycache__", "tests"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "cryolearn/engine/imaging/wrong.py").write_text("import pwem\nfrom cryolearn.engine.elastic import config\n")
    (tmp_path / "cryolearn/convert/wrong.py").write_text("import torch\nfrom cryolearn.engine import device\n")
    (tmp_path / "cryolearn/common/wrong.py").write_text("import scipy\nfrom cryolearn.engine import config\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode != 0
    for arrow in (
        "engine.imaging.wrong -> pwem",
        "imaging.wrong -> cryolearn.engine.elastic.config",
        "convert.wrong -> torch",
        "convert.wrong -> cryolearn.engine.device",
        "common.wrong -> scipy",
        "common.wrong -> cryolearn.engine.config",
    ):
        assert arrow in done.stdout, done.stdout


@pytest.mark.parametrize("module", SHARED)
def test_what_both_sides_read_needs_the_standard_library_only(module: str) -> None:
    code = "allowed = lambda name: name in sys.stdlib_module_names or name == 'cryolearn'" + BLOCKER + f"import {module}"
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", COMMON)
def test_what_both_sides_share_needs_numpy_and_matplotlib_only(module: str) -> None:
    """Beside them their own dependencies load; neither PyTorch, Scipion nor SciPy may."""
    barred = (*SCIPION, "torch", "lightning", "scipy", "pandas", "sklearn", "skimage", "mrcfile", "gemmi", "prody", "tkinter")
    done = python(f"allowed = lambda name: name not in {barred!r}" + BLOCKER + f"import {module}")
    assert done.returncode == 0, done.stderr
    syntax = PACKAGE.joinpath(*module.split(".")[1:])
    source = (syntax / "__init__.py" if syntax.is_dir() else syntax.with_suffix(".py")).read_text()
    ast.parse(source, feature_version=(3, 8))


def test_importing_the_package_loads_neither_scipion_nor_torch() -> None:
    done = python("import cryolearn; print(sorted({name.split('.')[0] for name in sys.modules}))")
    assert done.returncode == 0, done.stderr
    for name in ("pyworkflow", "pwem", "torch", "numpy"):
        assert f"'{name}'" not in done.stdout


def test_the_engine_imports_and_runs_without_scipion() -> None:
    """All modules of the engine load where Scipion cannot be imported, and the blocker really blocks."""
    code = (
        f"allowed = lambda name: name not in {SCIPION!r}"
        + BLOCKER
        + "import importlib\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
        + f"assert not set({SCIPION!r}) & set(sys.modules)\n"
        + "from cryolearn.engine.__main__ import main\nassert main(['--help']) == 0\n"
        + "try:\n    import pwem\nexcept ImportError:\n    print('blocked')\n"
    )
    done = python(code, *ENGINE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("blocked")


def test_the_engines_tests_cannot_import_scipion() -> None:
    """What conftest.py does holds here too, even where other tests have loaded Scipion into this interpreter."""
    for name in ("pyworkflow", "pwem", "tomo"):
        with pytest.raises(ImportError):
            __import__(name)


def test_no_test_of_the_engine_names_scipion_in_its_imports() -> None:
    for path in (PACKAGE / "tests" / "engine").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & set(SCIPION), path
