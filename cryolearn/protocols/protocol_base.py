"""What all protocols share: parameters read from the engine's dataclasses, and running the engine."""

import json
import os
import re
import shlex
from subprocess import CalledProcessError
from typing import List, Optional

import pyworkflow.protocol.params as params
import pyworkflow.utils as pwutils
from pwem.protocols import EMProtocol
from pyworkflow.exceptions import PyworkflowException
from pyworkflow.object import String
from pyworkflow.protocol.constants import GPU_LIST, LEVEL_ADVANCED, USE_GPU, VOID_GPU

from .. import Plugin
from ..common.checks import check_count
from ..common.limits import FEWEST_IMAGES
from ..engine.config import RunConfig, default_of, digest_file, digest_values, fields_of, help_of, save_config
from ..engine.exceptions import InputError
from .config_params import addConfigParam, configValue, paramName

NOT_READY = 'Output is not ready yet.'
_SYMMETRY = re.compile(r'[CD][1-9]\d{0,2}|T|O|I[12]?', re.IGNORECASE)


class EngineError(PyworkflowException):
    """The engine's own sentence about why it stopped; it becomes the run's error message."""


def sentences(check, *values):
    """What a check of ``common/checks.py`` refuses: a list of one sentence, or of none."""
    try:
        check(*values)
    except InputError as error:
        return [str(error)]
    return []


class CryoLearnProtBase(EMProtocol):
    """Base of the protocols that run the engine.

    A protocol defines its form with :meth:`addEngineParam`, makes the command's parameters with :meth:`buildConfig`,
    gives :meth:`engineDigest` of them to its steps, and calls :meth:`runEngine` in a step.
    """

    _label: Optional[str] = None

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineGpuParams(self, form):
        """The hidden parameters behind the form's GPU line. Call it for every protocol that can use a GPU."""
        form.addHidden(USE_GPU, params.BooleanParam, default=default_of(RunConfig, 'use_gpu'),
                       label='Use GPU for execution?',
                       help='Choose "yes" to compute on GPUs and "no" to compute on the CPU only.')
        form.addHidden(GPU_LIST, params.StringParam, default=default_of(RunConfig, 'gpu_list'),
                       label='Choose GPU IDs', expertLevel=LEVEL_ADVANCED,
                       help=help_of(RunConfig, 'gpu_list'))

    def addEngineParam(self, form, ConfigClass, field, **options):
        """Add the form's parameter of one field: default, label, help and range come from the engine's dataclass.

        ``pixel_size_angst`` is called ``pixelSizeAngst`` in the form; ``options`` (condition, label ...) win.
        """
        addConfigParam(form, ConfigClass, field, **options)

    def addEngineParams(self, form, ConfigClass, *fields, **options):
        """Several parameters of one command, in order."""
        for field in fields:
            addConfigParam(form, ConfigClass, field, **options)

    # --------------------------------------------------- config ----------------------------------------------------
    def getEngineValue(self, ConfigClass, field):
        """Value of one of the engine's parameters: the form's, or the engine's default when the form lacks it."""
        name = paramName(field)
        attribute = getattr(self, name, None) if self.getDefinition().hasParam(name) else None
        if attribute is None or attribute.isPointer() or fields_of(ConfigClass)[field].metadata.get('path'):
            return default_of(ConfigClass, field)
        return configValue(self, ConfigClass, field)

    def buildConfig(self, ConfigClass, **values):
        """Parameters of a command from the form; ``values`` (inputs, output folder, what the form does not ask) win."""
        config = ConfigClass()
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
        config.use_gpu = bool(self.usesGpu())
        config.gpu_list = ' '.join(str(gpu) for gpu in self.getGpuList()) or config.gpu_list
        return config

    @staticmethod
    def pointedItems(pointers):
        """Objects that a parameter of many inputs points to, those of sets one by one."""
        items = []
        for pointer in pointers:
            item = pointer.get()
            if item is not None:
                items += [member.clone() for member in item.iterItems()] if hasattr(item, 'iterItems') else [item]
        return items

    def engineDigest(self, *configs, **inputs):
        """Digest for a step's arguments: parameters and inputs that the step's result depends on.

        ``configs`` are engine parameters, of which input files inside this run's folder are left out (they are made by
        earlier steps, which have digests of their own). ``inputs`` are Scipion objects or plain values by name. Scipion
        sets count by the content of their file, so an input that was made again runs the step again.
        """
        own = os.path.abspath(self.getWorkingDir())
        values = {name: _identity(value) for name, value in inputs.items()}
        for index, config in enumerate(configs):
            files, plain = [], {}
            for name, field in fields_of(type(config)).items():
                value = getattr(config, name)
                if not field.metadata.get('affects_result', True):
                    continue
                if field.metadata.get('path'):
                    paths = value if isinstance(value, (list, tuple)) else [value]
                    files += [path for path in paths if path and not os.path.abspath(path).startswith(own + os.sep)]
                else:
                    plain[name] = value
            values['config%d' % index] = [type(config).__name__, plain, [_identity(path) for path in files]]
        return digest_values(values)

    # --------------------------------------------------- running ---------------------------------------------------
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
        self._setHardware(config)
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

    def _setHardware(self, config):
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

    # ------------------------------------------------- validation --------------------------------------------------
    def _validate(self):
        return self._validateEngine()

    def _validateEngine(self):
        """Is there an engine, of this version, with the GPUs that the form asks for? A list of sentences."""
        errors = Plugin.validateEngine()
        if errors or not self.usesGpu() or self.useQueue():  # a queue's nodes have other GPUs than this machine
            return errors
        asked, found = self.getGpuList(), Plugin.getGpuCount()
        missing = [gpu for gpu in asked if gpu >= found]
        if missing:
            errors = ['GPU %s was asked for, but the engine sees %d usable GPU(s) on this machine: choose another, or '
                      '"Use GPU: no" to run on the CPU.' % (missing[0], found)]
        return errors

    @staticmethod
    def _validateParticles(particles, alignment=False, ctf=False, what='input particles'):
        """Sentences about a set of particles that cannot be used: empty, without poses, without CTF, without sampling rate."""
        errors: List[str] = []
        if particles is None:
            return errors
        if particles.getSize() == 0:
            errors.append('The %s are an empty set.' % what)
        if not particles.getSamplingRate():
            errors.append('The %s have no sampling rate.' % what)
        if alignment and not particles.hasAlignmentProj():
            errors.append('The %s have no 3D (projection) alignment: align them first.' % what)
        if ctf and not particles.hasCTF():
            errors.append('The %s have no CTF: estimate it, or choose to ignore the CTF.' % what)
        return errors

    @staticmethod
    def _validateModels(volumes, structures):
        """Sentences about maps and files of structures to project that cannot be used."""
        errors = []
        for volume in volumes:
            name = volume.getFileName()
            if not os.path.exists(str(name).split(':')[0]):
                errors.append("The map '%s' does not exist." % name)
            elif not volume.getSamplingRate():
                errors.append("The map '%s' has no sampling rate." % name)
        return errors + ["The structure '%s' does not exist." % name for name in structures if not os.path.exists(name)]

    @staticmethod
    def _validateNumber(particles, fewest=FEWEST_IMAGES):
        """A sentence about a set that has too few particles to say anything."""
        return sentences(check_count, 'particles', particles.getSize(), fewest) if particles is not None else []

    @staticmethod
    def _validateSymmetry(group, optional=False):
        """A sentence about a point group that nobody knows."""
        if _SYMMETRY.fullmatch((group or '').strip()) or (optional and not (group or '').strip()):
            return []
        return ["The symmetry '%s' is not known: give Cn, Dn, T, O, I, I1 or I2." % (group or '')]

    # --------------------------------------------------- summary ---------------------------------------------------
    def _setSummary(self, *lines):
        """Keep the summary's text with the run, so that showing it never walks a big set."""
        self.summaryVar.set('\n'.join(lines))
        self._store(self.summaryVar)

    def _setMethods(self, *lines):
        """Keep the text for a paper's methods section with the run."""
        self.methodsVar.set('\n'.join(lines))
        self._store(self.methodsVar)

    def _summary(self):
        text = self.summaryVar.get()
        return text.split('\n') if text else [NOT_READY]

    def _methods(self):
        text = self.methodsVar.get()
        return text.split('\n') if text else []

    def _readEngineSummary(self, folder):
        """The flat dictionary of key numbers that every command writes."""
        with open(os.path.join(folder, 'summary.json'), encoding='utf-8') as handle:
            return json.load(handle)


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
