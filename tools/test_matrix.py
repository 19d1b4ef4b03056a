"""The tests on every supported Python that is found here: Scipion's side without PyTorch, and the engine without Scipion. All modules of the side are
imported first.

    python tools/test_matrix.py                              # all
    python tools/test_matrix.py --only scipion-3.8 engine-3.13
    python tools/test_matrix.py --slow                       # the engine's slow tests too

Each combination has an environment of its own in .cache/matrix, made once; standard library only, any Python from 3.8. An interpreter that is not found is
reported, and an error with --require. The last lines are a table; the exit status is 1 when a test or an installation failed.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".cache" / "matrix"
COMBINATIONS = ["scipion-3.8", "scipion-3.10", "scipion-3.12", "engine-3.11", "engine-3.13"]
TOOLS = ["pytest", "pytest-timeout", "hypothesis"]
REFEREES = ["starfile==0.5.13", "torch-ctf==0.6.0"]  # of the engine's tests, as in requirements.lock
SCIPION = ["scipion-em>=3.11", "scipion-em-tomo>=3.12", "setuptools<81", "wheel"]  # pyworkflow imports pkg_resources
# Tests of Scipion's side that need no engine; those that launch protocols run in "make test".
SCIPION_TESTS = ["test_poses.py", "test_orientation_files.py", "test_subtomograms_files.py", "test_viewers_drawing.py"]
PACKAGES = {
    "scipion": ["cryolearn.common", "cryolearn.convert", "cryolearn.protocols", "cryolearn.viewers", "cryolearn.wizards"],
    "engine": ["cryolearn.common", "cryolearn.engine"],
}
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    for found in pkgutil.walk_packages(importlib.import_module(name).__path__, name + "."):
        importlib.import_module(found.name)
"""


def find_python(version):
    """Interpreter of a version, with venv: on the PATH, of pyenv, or in /usr/local/bin."""
    names = ["python" + version, "/usr/local/bin/python" + version]
    names += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/%s.*/bin/python" % version), reverse=True)]
    if sys.version_info[:2] == tuple(int(part) for part in version.split(".")):
        names.insert(0, sys.executable)
    for name in names:
        path = shutil.which(name)
        code = "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != sys.argv[1])"
        if path and subprocess.run([path, "-c", code, version], capture_output=True, check=False).returncode == 0:
            return path
    return None


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SCIPION", "CRYOLEARN", "VIRTUAL"))}


def make(combination, interpreter):
    """Python of the combination's environment, which is made when its requirements have changed."""
    folder = WORK / combination
    python = folder / "bin" / "python"
    requirements = ROOT / "cryolearn" / "engine-requirements.txt"
    wanted = ["-r", str(requirements), *REFEREES] if combination.startswith("engine") else SCIPION
    text = " ".join(TOOLS + wanted) + (requirements.read_text(encoding="utf-8") if combination.startswith("engine") else "") + interpreter
    stamp = folder / ("made-" + hashlib.sha256(text.encode()).hexdigest()[:16])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not stamp.exists():
        subprocess.run([interpreter, "-m", "venv", "--clear", str(folder)], check=True, env=clean_environment())
        subprocess.run(pip + wanted + TOOLS, check=True, env=clean_environment())
        stamp.touch()
    if combination.startswith("scipion"):  # Scipion finds plugins among the installed packages
        subprocess.run(pip + ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)], check=True, env=clean_environment())
    return python


def run(combination, python, slow):
    """Exit status and summary of pytest."""
    environment = dict(clean_environment(), MPLBACKEND="Agg", PATH=str(python.parent) + os.pathsep + os.environ["PATH"])
    if combination.startswith("scipion"):
        home = WORK / (combination + "-home")
        (home / "data" / "projects").mkdir(parents=True, exist_ok=True)
        (home / "hosts.conf").write_text("[localhost]\nPARALLEL_COMMAND = mpirun -np %%(JOB_NODES)d %%(COMMAND)s\n", encoding="utf-8")
        environment.update(SCIPION_DOMAIN="pwem", SCIPION_HOME=str(home), SCIPION_USER_DATA=str(home / "data"), SCIPION_HOSTS=str(home / "hosts.conf"))
        words = [str(ROOT / "cryolearn" / "tests" / "scipion" / name) for name in SCIPION_TESTS] + ["-k", "not engine"]
    else:
        words = [str(ROOT / "cryolearn" / "tests" / "engine")] + ([] if slow else ["-m", "not slow"])
    imports = [str(python), "-c", IMPORT_ALL] + PACKAGES[combination.split("-")[0]]
    done = subprocess.run(imports, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False)
    if done.returncode:
        print(done.stdout)
        return done.returncode, "a module cannot be imported"
    words = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider"] + words
    print("+ " + " ".join(words), flush=True)
    done = subprocess.run(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False)
    if done.returncode:
        print(done.stdout)
    summaries = re.findall(r"^=* ?(\d+ (?:passed|failed|skipped|error).*?) in [\d.]+s", done.stdout, re.M)  # Scipion may print after it
    return done.returncode, summaries[-1] if summaries else "no summary"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=COMBINATIONS, default=COMBINATIONS, metavar="SIDE-VERSION", help=", ".join(COMBINATIONS))
    parser.add_argument("--slow", action="store_true", help="the engine's slow tests too")
    parser.add_argument("--require", action="store_true", help="an interpreter that is not found is an error")
    options = parser.parse_args()
    rows, failed = [], False
    for combination in options.only:
        interpreter = find_python(combination.split("-")[1])
        if interpreter is None:
            failed = failed or options.require
            rows.append((combination, "-", "interpreter not found", ""))
            continue
        start = time.time()
        try:
            status, text = run(combination, make(combination, interpreter), options.slow)
        except subprocess.CalledProcessError as error:
            status, text = 1, "not installed: " + " ".join(str(word) for word in error.cmd)[:80]
        failed = failed or status != 0
        rows.append((combination, interpreter, text, "%.0f s" % (time.time() - start)))
    print()
    for row in [("combination", "interpreter", "result", "time")] + rows:
        print("%-14s %-44s %-44s %s" % row)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
