"""Short calls of the engine from a window: a preview that is no run."""

import os
import shlex
import shutil
import subprocess

from .. import Plugin
from ..engine.config import save_config

LONGEST_S = 600


def emptyFolder(folder):
    """An empty scratch folder."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def callEngine(command, config):
    """Run a command of the engine; its output folder must be there.

    Raises
    ------
    ValueError
        with the engine's own sentence when it stopped.
    """
    settings = os.path.join(config.output, command + '.json')
    save_config(config, settings)
    done = subprocess.run('%s %s --config %s' % (Plugin.getEngineProgram(), command, shlex.quote(settings)), shell=True,
                          env=dict(Plugin.getEnviron()), stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=LONGEST_S)
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or ['The engine stopped.'])[-1])
