"""The Scipion plugin: its variables, the engine's interpreter, the install recipe and its check."""

import importlib
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from typing import Any, Dict, List, Tuple

import pwem
import pyworkflow as pw
import pyworkflow.utils as pwutils
from pyworkflow import VarTypes
from pyworkflow.constants import FLEXIBILITY, SPA, TOMO

from . import __version__
from .constants import CRYOLEARN, CRYOLEARN_ENV_ACTIVATION, CRYOLEARN_HOME, ENGINE_MIN_PYTHON, ENGINE_MODULE, ENGINE_NEEDS, ENGINE_READY, ENGINE_VERSION, URL

# What Scipion's launcher sets for Scipion's own interpreter, and what would mislead another one.
_SCIPION_ONLY = ("PYTHONPATH", "PYTHONUSERBASE", "PYTHONHOME", "PYTHONSTARTUP", "LD_LIBRARY_PATH", "PYTHONNOUSERSITE")
_FAILURE_HOLDS_S = 60.0  # the GUI asks for every row of its tree
_answers: Dict[Tuple[str, str], Tuple[float, Dict[str, Any]]] = {}
_missing: Dict[str, Tuple[float, str]] = {}


class Plugin(pwem.Plugin):
    """Where the engine runs, and how it gets there."""

    # Scipion finds the logo, the templates and the plugin's name through the module of this class.
    __module__ = CRYOLEARN

    _homeVar = CRYOLEARN_HOME
    _pathVars: List[str] = []  # the engine need not live in CRYOLEARN_HOME: see validateInstallation
    _supportedVersions = [ENGINE_VERSION]
    _processingField = [SPA, TOMO, FLEXIBILITY]
    _url = URL

    @classmethod
    def _defineVariables(cls):
        cls._defineEmVar(
            CRYOLEARN_HOME,
            "%s-%s" % (CRYOLEARN, ENGINE_VERSION),
            description="Folder of the engine environment that 'scipion3 installb cryolearn' builds.",
            var_type=VarTypes.FOLDER,
        )
        cls._defineVar(
            CRYOLEARN_ENV_ACTIVATION,
            "",
            description="Shell text (POSIX sh) that activates an environment with the engine: conda, venv or "
            "'module load'. When it is set, it is used instead of CRYOLEARN_HOME.",
            var_type=VarTypes.STRING,
        )

    # ------------------------------------------------- interpreter -------------------------------------------------
    @classmethod
    def getEnginePython(cls):
        """Shell text that starts the engine's Python, or None when there is no engine here.

        First that holds: CRYOLEARN_ENV_ACTIVATION, the environment of ``installb``, Scipion's own interpreter.
        """
        activation = (cls.getVar(CRYOLEARN_ENV_ACTIVATION) or "").strip().rstrip("&; ")
        if activation:
            return "%s && python" % activation
        if os.path.exists(cls.getHome(ENGINE_READY)):
            return shlex.quote(cls.getHome("env", "bin", "python"))
        if not _missingHere():
            return shlex.quote(sys.executable)
        return None

    @classmethod
    def getEngineProgram(cls):
        """Shell text that runs the engine; the command's name and its arguments follow it."""
        python = cls.getEnginePython()
        if python is None:
            raise RuntimeError(" ".join(cls.validateInstallation()))
        return "%s -m %s" % (python, ENGINE_MODULE)

    @classmethod
    def getEnviron(cls):
        """Environment of the engine: the caller's, without what Scipion's launcher set for its own Python."""
        environ = pwutils.Environ(os.environ)
        for name in _SCIPION_ONLY:
            environ.pop(name, None)
        environ["PYTHONUNBUFFERED"] = "1"  # progress lines reach Scipion's log as they are printed
        environ["PYTHONSAFEPATH"] = "1"  # a file in the project folder is never imported instead of a package
        if not (cls.getVar(CRYOLEARN_ENV_ACTIVATION) or "").strip():
            environ["PYTHONNOUSERSITE"] = "1"  # our own environment is complete; ~/.local may hold other versions
        return environ

    @classmethod
    def getActiveVersion(cls, home=None, versions=None):
        return __version__

    # ---------------------------------------------------- checks ----------------------------------------------------
    @classmethod
    def validateInstallation(cls):
        """What to type when the engine has no interpreter. The GUI asks this for every row, so it only looks at paths."""
        if cls.getEnginePython() is not None:
            return []
        return [
            "The engine of cryolearn (PyTorch) is not installed. Type one of these:",
            "  scipion3 installb %s     (builds it in %s)" % (CRYOLEARN, cls.getHome()),
            "  %s = . /path/to/environment/bin/activate     (a line of %s; the environment has this plugin and PyTorch)"
            % (CRYOLEARN_ENV_ACTIVATION, pw.Config.SCIPION_CONFIG),
            "Scipion's own Python %d.%d cannot run it: %s." % (sys.version_info[:2] + (_missingHere(),)),
        ]

    @classmethod
    def validateEngine(cls):
        """Start the engine once and compare versions; a list of sentences. Takes a second, then it is remembered."""
        errors = cls.validateInstallation()
        if errors:
            return errors
        answer = _askEngine(cls.getEngineProgram(), "--versions")
        if "error" in answer:
            return ["The engine of cryolearn does not start with '%s': %s" % (cls.getEngineProgram(), answer["error"])]
        if answer.get("cryolearn") != __version__:
            return [
                "The engine is cryolearn %s but Scipion has %s: type 'scipion3 installb %s', or install the same "
                "version in the environment of %s." % (answer.get("cryolearn"), __version__, CRYOLEARN, CRYOLEARN_ENV_ACTIVATION)
            ]
        return []

    @classmethod
    def getGpuCount(cls):
        """Usable GPUs of this machine, as the engine's PyTorch sees them (asked once)."""
        if not any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")):
            return 0
        return int(_askEngine(cls.getEngineProgram(), "--devices").get("gpus", 0))

    # ---------------------------------------------------- install ---------------------------------------------------
    @classmethod
    def defineBinaries(cls, env):
        """The recipe of ``scipion installb cryolearn``; nothing is done or looked for while it is defined."""
        command = "%s -m cryolearn.engine_install ." % shlex.quote(sys.executable)
        conda = (pw.Config.CONDA_ACTIVATION_CMD or "").strip().rstrip("&; ")
        if conda:
            command = "%s && %s --conda" % (conda, command)
        env.addPackage(
            CRYOLEARN,
            version=ENGINE_VERSION,
            tar="void.tgz",
            commands=[(command, ENGINE_READY)],
            neededProgs=[],
            default=True,
            vars=dict(cls.getEnviron()),
        )


def _missingHere():
    """Why this interpreter cannot run the engine ('' when it can), found without importing anything; looked for again after a minute."""
    when, missing = _missing.get("here", (0.0, None))
    if missing is None or (missing and time.monotonic() - when > _FAILURE_HOLDS_S):
        missing = _lookHere()
        _missing["here"] = time.monotonic(), missing
    return missing


def _lookHere():
    if sys.version_info < ENGINE_MIN_PYTHON:
        return "it is older than %d.%d" % ENGINE_MIN_PYTHON
    importlib.invalidate_caches()  # something may have been installed since
    missing = [name for name in ENGINE_NEEDS if importlib.util.find_spec(name) is None]
    return "it has no %s" % ", ".join(missing) if missing else ""


def _askEngine(program, question):
    """The engine's JSON answer to a question about itself; key 'error' when it gives none, which is asked for again after a minute."""
    when, answer = _answers.get((program, question), (0.0, None))
    if answer is None or ("error" in answer and time.monotonic() - when > _FAILURE_HOLDS_S):
        answer = _freshAnswer(program, question)
        _answers[program, question] = time.monotonic(), answer
    return answer


def _freshAnswer(program, question):
    try:
        done = subprocess.run(
            "%s %s" % (program, question),
            shell=True,
            env=dict(Plugin.getEnviron()),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            timeout=300,
        )
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        return answer if isinstance(answer, dict) else {"error": "it answers '%s'" % answer}
    except subprocess.TimeoutExpired:
        return {"error": "no answer within 300 s"}
    except (ValueError, IndexError):
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1] if lines else "exit code %d" % done.returncode}
