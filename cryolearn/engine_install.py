"""Build the engine's own environment: ``python -m cryolearn.engine_install FOLDER [--conda]``.

This is the recipe of ``scipion installb cryolearn``. Standard library only and clean on Python 3.8, because Scipion's
Python runs it. Run again after a failure, it goes on with the environment that is there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Dict

from . import __version__
from .constants import CONDA_PYTHON, ENGINE_MAX_PYTHON, ENGINE_MIN_PYTHON, ENGINE_MODULE, ENGINE_READY, ENGINE_REQUIREMENTS

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_PROBE = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
_SETUP = """from setuptools import find_packages, setup
setup(name="scipion-em-cryolearn", version="%s", packages=find_packages(), package_data={"": ["*"]})
"""


def main(arguments=None):
    """Build the environment in ``FOLDER/env`` and mark it as ready; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cryolearn.engine_install", description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where the environment goes; '.' is this folder")
    parser.add_argument("--conda", action="store_true", help="make it with the conda that is on the PATH")
    options = parser.parse_args(arguments)
    home = os.path.abspath(options.folder)
    environment = os.path.join(home, "env")
    python = os.path.join(environment, "bin", "python")
    os.makedirs(home, exist_ok=True)
    try:
        if not _works(python):
            _makeEnvironment(environment, options.conda)
        _call([python, "-m", "pip", "install", "-r", os.path.join(_PACKAGE, ENGINE_REQUIREMENTS)])
        _installPlugin(python)
        _call([python, "-m", ENGINE_MODULE, "--versions"], cwd=home)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        print("ERROR: the engine's environment could not be built: %s" % error, file=sys.stderr)
        return 1
    with open(os.path.join(home, ENGINE_READY), "w") as handle:
        handle.write(__version__ + "\n")
    return 0


def findPython(names=None):
    """Newest Python that the engine supports, of those on the PATH; None when there is none."""
    versions = range(ENGINE_MAX_PYTHON[1], ENGINE_MIN_PYTHON[1] - 1, -1)
    names = names or ["python3.%d" % minor for minor in versions] + ["python3", sys.executable]
    found: Dict[Any, str] = {}
    for name in names:
        path = shutil.which(name)
        version = _version(path) if path else None
        if version and ENGINE_MIN_PYTHON <= version <= ENGINE_MAX_PYTHON:
            found.setdefault(version, path)
    return found[max(found)] if found else None


def _version(python):
    """(major, minor) of an interpreter that can make virtual environments, else None."""
    try:
        text = subprocess.check_output([python, "-c", _PROBE], stderr=subprocess.DEVNULL, timeout=60)
        return tuple(int(part) for part in text.decode().strip().split("."))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _works(python):
    version = _version(python) if os.path.exists(python) else None
    return version is not None and version >= ENGINE_MIN_PYTHON


def _makeEnvironment(environment, conda):
    if conda:
        _call(["conda", "create", "--yes", "--prefix", environment, "python=" + CONDA_PYTHON, "pip"])
        return
    python = findPython()
    if python is None:
        raise RuntimeError(
            "no Python %d.%d to %d.%d with its venv module is on the PATH: install one (on Debian: 'sudo apt-get install "
            "python3.11 python3.11-venv'), or set CONDA_ACTIVATION_CMD in scipion.conf." % (ENGINE_MIN_PYTHON + ENGINE_MAX_PYTHON)
        )
    _call([python, "-m", "venv", "--clear", environment])


def _installPlugin(python):
    """Install this very plugin, without its dependencies on Scipion: its source tree, or a copy of the installed package."""
    pip = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    source = os.path.dirname(_PACKAGE)
    if os.path.exists(os.path.join(source, "setup.py")):
        _call(pip + ["--editable", source])
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(_PACKAGE, os.path.join(folder, "cryolearn"), ignore=shutil.ignore_patterns("__pycache__", "tests"))
        with open(os.path.join(folder, "setup.py"), "w") as handle:
            handle.write(_SETUP % __version__)
        _call(pip + ["--upgrade", folder])


def _call(command, cwd=None):
    print("+ " + " ".join(command), flush=True)
    subprocess.check_call(command, cwd=cwd)


if __name__ == "__main__":
    sys.exit(main())
