"""How a protocol runs a command of the engine: its parameters, their digest, the hardware, the engine's errors."""

import json
import os
import shlex
from subprocess import CalledProcessError

import pyworkflow.utils as pwutils
from pwem.protocols import EMProtocol
from pyworkflow.exceptions import PyworkflowException
from pyworkflow.object import String
from pyworkflow.protocol.constants import VOID_GPU

from .. import Plugin
from ..engine.config import RunConfig, default_of, digest_file, digest_values, fields_of, result_fields, save_config
from .config_params import configValue, paramName


class EngineError(PyworkflowException):
    """The engine's own sentence about why it stopped; it becomes the run's error message."""


class EngineRun(EMProtocol):
    """A protocol that can run the engine with the values of its form."""

    def getEngineValue(self, ConfigClass, field):
        """Value of one of the engine's parameters: the form's, or the engine's default when the form lacks it."""
        name = paramName(field)
        attribute = getattr(self, name, None) if self.getDefinition().hasParam(name) else None
        if attribute is None or attribute.isPointer() or fields_of(ConfigClass)[field].metadata.get('path'):
            return default_of(ConfigClass, field)
        return configValue(self, ConfigClass, field)

    def buildConfig(self, ConfigClass, **values):
        """Parameters of a command from the form; ``values`` (inputs, what the form does not ask) win. Results go to the run's folder."""
        config = ConfigClass()
        values['output'] = values.get('output') or self._getExtraPath()
        fields = fields_of(ConfigClass)
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise ValueError('%s has no parameter %s.' % (ConfigClass.__name__, ', '.join(unknown)))
        hardware = fields_of(RunConfig)
        for field in fields:
            if field in values:
                setattr(config, field, values[field])
            elif field not in hardware:
                setattr(config, field, self.getEngineValue(ConfigClass, field))
        return config

    def engineDigest(self, *configs, **inputs):
        """Digest for a step's arguments: parameters and inputs that the step's result depends on.

        ``configs`` are engine parameters, of which input files inside this run's folder are left out (they are made by
        earlier steps, which have digests of their own). ``inputs`` are Scipion objects or plain values by name. Scipion
        sets count by the content of their file, so an input that was made again runs the step again.
        """
        own = os.path.abspath(self.getWorkingDir()) + os.sep
        values = {name: _identity(value) for name, value in inputs.items()}
        for index, config in enumerate(configs):
            plain, files = result_fields(config)
            given = [path for paths in files.values() for path in paths if path and not os.path.abspath(path).startswith(own)]
            values['config%d' % index] = [type(config).__name__, plain, [_identity(path) for path in given]]
        return digest_values(values)

    def getGpuList(self):
        """GPU ids of the form; none when the form says not to use GPUs, so that the queue is asked for none."""
        if not self.usesGpu():
            return []
        return [gpu for gpu in super().getGpuList() if gpu != VOID_GPU]

    def getEngineThreads(self):
        """CPU threads of each engine process."""
        if self.modeParallel() and self.hasAttribute('binThreads'):
            return max(1, self.binThreads.get())
        return max(1, self.numberOfThreads.get())

    def runEngine(self, command, config, name=None, processes=None):
        """Run a command of the engine and wait for it.

        Parameters
        ----------
        command : str
            ``elastic-align``, say; see ``python -m cryolearn.engine --help``.
        config : dataclass
            The command's parameters; hardware is filled in here.
        name : str, optional
            Stem of the parameter file ``extra/<name>.json`` (default: the command).
        processes : int, optional
            Processes that share the work (default: the form's MPI number).

        Returns
        -------
        str
            The command's output folder.

        Raises
        ------
        EngineError
            with the engine's own sentence when it refused its input or stopped.
        """
        name = name or command
        processes = processes or max(1, self.numberOfMpi.get())
        self.setHardware(config)
        configFile, statusFile = self._getExtraPath(name + '.json'), self._getExtraPath(name + '.status.json')
        pwutils.cleanPath(statusFile)
        save_config(config, configFile)
        arguments = '%s --config %s --status %s' % (command, shlex.quote(configFile), shlex.quote(statusFile))
        if processes > 1:
            arguments += ' --processes %d' % processes
        failure = None
        try:
            # The engine starts its own processes (torchrun or srun), so Scipion's mpirun stays out of it.
            self.runJob(Plugin.getEngineProgram(), arguments, env=Plugin.getEnviron(), numberOfMpi=1,
                        numberOfThreads=self.getEngineThreads())
        except CalledProcessError as error:
            failure = error
        self._raiseEngineError(command, statusFile, failure)
        return config.output

    def setHardware(self, config):
        """Threads and GPUs of this step. Ids are those the executor gave to this step's thread, when it gave any."""
        config.threads = config.threads or self.getEngineThreads()
        config.use_gpu = bool(self.usesGpu())
        if config.use_gpu:
            executor = getattr(self, '_stepsExecutor', None)
            given = [gpu for gpu in (executor.getGpuList() or [] if executor else []) if gpu != VOID_GPU]
            config.gpu_list = ' '.join(str(gpu) for gpu in given or self.getGpuList())

    @staticmethod
    def _raiseEngineError(command, statusFile, failure):
        """Through a queue the exit code is lost, so the engine's own status file decides."""
        try:
            with open(statusFile, encoding='utf-8') as handle:
                status = json.load(handle)
        except (OSError, ValueError):
            status = None
        if status is not None and status.get('exit_code') == 0 and failure is None:
            return
        if status is not None and status.get('error'):
            raise EngineError(status['error'])
        code = failure.returncode if failure is not None else None
        if code is not None and (code < 0 or code > 128):
            raise EngineError('The engine was killed (signal %d) while it ran %s: it may have run out of memory or '
                              'time. "Continue" goes on from the last record.' % (-code if code < 0 else code - 128, command))
        raise EngineError('The engine stopped while it ran %s%s: see the last lines of the run\'s log.'
                          % (command, '' if code is None else ' (exit code %d)' % code))

    def _readEngineSummary(self, folder=None):
        """The flat dictionary of key numbers that every command writes into its output folder (the run's own by default)."""
        with open(os.path.join(folder or self._getExtraPath(), 'summary.json'), encoding='utf-8') as handle:
            return json.load(handle)

    def _engineWarnings(self):
        """What the engine warned of the inputs."""
        return self._readEngineSummary().get('warnings', []) if os.path.exists(self._getExtraPath('summary.json')) else []


def _identity(value):
    """What a digest takes of an input: a file's content, a set's file and id, or the plain value."""
    if hasattr(value, 'getFileName') and hasattr(value, 'getObjId'):
        fileName = str(value.getFileName()).split(':')[0]
        content = digest_file(fileName) if fileName and os.path.isfile(fileName) else ''
        return [value.getClassName(), content or value.getObjId()]
    if isinstance(value, str) and os.path.isfile(value):
        return digest_file(value)
    if isinstance(value, (list, tuple)):
        return [_identity(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _identity(item) for key, item in sorted(value.items())}
    return value.get() if isinstance(value, String) else value
