"""Runs of protocols in the tests start warm: forked from a server that has imported Scipion and PyTorch, which take seconds to import.

A run and its engine are still two processes apart from the test, and go through the functions that ``pw_protocol_run.py`` and
``python -m cryolearn.engine`` call. Runs that nobody waits for, runs in a queue, engines of several processes and whatever has another environment start as
they do for users; with ``CRYOLEARN_TESTS_COLD=1`` all do.
"""

import importlib
import os
import shlex
import subprocess
import sys
from unittest import mock

from pyworkflow.utils import process

from ..forks import SERVER, preload

RUNNER = 'pw_protocol_run.py'
launch = importlib.import_module('pyworkflow.protocol.launch')  # `pyworkflow.protocol` has a function of that name
preload('cryolearn.tests.scipion.warm_modules')
_startTheRun = launch._run
_environment = {}  # that of the server


def warmRuns():
    """Patch of Scipion's launcher, to be started and stopped."""
    return mock.patch.object(launch, '_run', _run)


def _settings():
    return {name: value for name, value in os.environ.items() if name.startswith(('SCIPION', 'CRYOLEARN', 'EM_ROOT', 'OMP_'))}


def _run(command, wait, *streams):
    words = shlex.split(command)
    if not wait or os.environ.get('CRYOLEARN_TESTS_COLD') or os.path.basename(words[1]) != RUNNER:
        return _startTheRun(command, wait, *streams)
    if not _environment:
        _environment.update(_settings())
    if _settings() != _environment:
        return _startTheRun(command, wait, *streams)
    run = SERVER.Process(target=_runProtocol, args=(words[2:], os.getcwd(), dict(os.environ)))
    run.start()
    run.join()
    return run.pid


def _runProtocol(words, folder, environ):
    """What ``pw_protocol_run.py`` does with its five arguments."""
    from pyworkflow.protocol import runProtocolMain
    from pyworkflow.utils import LoggingConfigurator
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    project, database, number, stdout, stderr = words
    LoggingConfigurator.setUpProtocolRunLogging(stdout, stderr)
    with mock.patch.object(process, 'check_call', _check_call):
        runProtocolMain(project, database, int(number))


def _check_call(command, stdout=None, stderr=None, env=None, **options):
    """``subprocess.check_call``, with an engine of one process forked from this one."""
    words = shlex.split(command)
    if words[:3] != [sys.executable, '-m', 'cryolearn.engine'] or '--processes' in words:
        return subprocess.check_call(command, stdout=stdout, stderr=stderr, env=env, **options)
    stdout.flush()
    stderr.flush()
    child = os.fork()
    if not child:
        _engine(words[3:], stdout.fileno(), stderr.fileno(), env)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise subprocess.CalledProcessError(code, command)
    return 0


def _engine(words, stdout, stderr, env):
    """What ``python -m cryolearn.engine`` does; it never returns."""
    code = 1
    try:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        sys.stdout, sys.stderr = open(1, 'w', closefd=False), open(2, 'w', closefd=False, buffering=1)
        os.environ.clear()
        os.environ.update(env)
        from cryolearn.engine.__main__ import main
        code = main(words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
