"""What all protocols share: parameters read from the engine's dataclasses, steps, outputs and the stored summary."""

import os
from types import MethodType
from typing import Optional, Sequence

import pyworkflow.protocol.params as params
from pyworkflow.object import Pointer, PointerList, Scalar
from pyworkflow.protocol.constants import GPU_LIST, LEVEL_ADVANCED, USE_GPU

from ..convert.particles import acquisitionContradiction, writeParticles
from ..engine.config import RunConfig, default_of, help_of
from ..objects import MODEL_FOLDER
from .config_params import addConfigParam
from .engine_run import EngineRun
from .input_checks import InputChecks

NOT_READY = 'Output is not ready yet.'


class EngineStep:
    """A protocol's step that runs a command of the engine with the parameters of ``_config``.

    Scipion keeps the step's name, which is that of the attribute, with the run, and looks for ``files`` in the run's folder ``extra`` afterwards;
    what they are may depend on the run (a function of it that gives their names).
    """

    def __init__(self, command, *files, **options):
        self._command, self._files, self._options = command, files, options

    def __set_name__(self, protocol, name):
        self.__name__ = protocol._engineStep = name

    def __get__(self, protocol, kind=None):
        return self if protocol is None else MethodType(self, protocol)

    def __call__(self, protocol, digest):
        protocol.runEngine(self._command, protocol._config(), **self._options)
        names = [name for file in self._files for name in (file(protocol) if callable(file) else [file])]
        return [protocol._getExtraPath(name) for name in names]


class CryoLearnProtBase(EngineRun, InputChecks):
    """Base of the protocols that run the engine.

    A protocol defines its form with :meth:`addEngineParam`, makes the command's parameters in ``_config`` with :meth:`buildConfig`, names the
    command by an :class:`EngineStep`, and defines ``_inputDigest``, ``convertInputStep``, ``_makeOutputs`` and ``_describe``.
    """

    _label: Optional[str] = None
    _engineStep: str  # name of the step that runs the engine
    _madeFrom: Sequence[str] = ()  # inputs that the outputs are related to

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

    @staticmethod
    def addInput(form, name, pointerClass, label, help, **options):
        """Add a parameter that points to an object, which is important unless it may be left empty (``allowsNull``)."""
        options.setdefault('important', not options.get('allowsNull'))
        form.addParam(name, params.PointerParam, pointerClass=pointerClass, label=label, help=help, **options)

    @staticmethod
    def addInputs(form, name, pointerClass, label, help, **options):
        """Add a parameter that points to any number of objects."""
        form.addParam(name, params.MultiPointerParam, pointerClass=pointerClass, label=label, help=help, allowsNull=True, **options)

    # --------------------------------------------------- inputs ----------------------------------------------------
    @staticmethod
    def pointedItems(pointers):
        """Objects that a parameter of many inputs points to, those of sets one by one."""
        items = []
        for pointer in pointers:
            item = pointer.get()
            if item is not None:
                items += [member.clone() for member in item.iterItems()] if hasattr(item, 'iterItems') else [item]
        return items

    def numberedMaps(self, pointers, stem='map'):
        """``{file in extra: volume}`` of all maps that a parameter of many inputs points to."""
        return {self._getExtraPath('input_%s_%03d.mrc' % (stem, number)): item for number, item in enumerate(self.pointedItems(pointers), start=1)}

    def filesOf(self, pointers):
        """Files of all objects that a parameter of many inputs points to."""
        return [item.getFileName() for item in self.pointedItems(pointers)]

    def getParticlesFile(self):
        return self._getExtraPath('input_particles.star')

    def convertParticles(self, **options):
        """Write the input particles for the engine; returns the file."""
        writeParticles(self.inputParticles.get(), self.getParticlesFile(), self._getExtraPath(), **options)
        return self.getParticlesFile()

    def getMaskFile(self):
        return self._getExtraPath('input_mask.mrc') if self.inputMask.get() is not None else ''

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        """Convert the inputs, run the command, define the outputs. A step's argument is the digest of all that its result depends on."""
        inputs = self._inputDigest()
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        self._insertResultSteps(inputs=inputs, **self._dependencies())

    def _insertResultSteps(self, **dependencies):
        digest = self.engineDigest(self._config(), **dependencies)
        self._insertFunctionStep(self._engineStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _dependencies(self):
        """What the command's result depends on besides its parameters and the converted inputs, by name."""
        return {}

    def createOutputStep(self, digest):
        """Define the outputs one by one, with their relations, and keep what there is to say about them."""
        files = []
        for name, output in self._makeOutputs():
            self._defineOutputs(**{name: output})
            if not isinstance(output, Scalar):
                for pointer in self._sources(name):
                    self._defineSourceRelation(pointer, output)
            if hasattr(output, 'getFileName'):
                files.append(output.getFileName())
        lines, methods = self._describe()
        verdict = self._verdict()
        warnings = ['WARNING: %s' % text for text in [*self._inputWarnings(), *self._engineWarnings()] if text not in lines]
        self._setSummary(*([verdict] if verdict else []), *lines, *warnings)
        self._setMethods(methods)
        return files + self._otherFiles()

    def _imageSet(self):
        """The set whose images are the input, where there is one."""
        pointer = getattr(self, 'inputParticles', None)
        return pointer.get() if pointer is not None else None

    def _inputWarnings(self):
        """What is to be said of the particles that were converted, and that the engine does not see; the log has it too."""
        text = acquisitionContradiction(self._imageSet()) if os.path.exists(self.getParticlesFile()) else ''
        if text:
            print('WARNING: %s' % text)
        return [text] if text else []

    def _makeOutputs(self):
        """``(name, object)`` of each output, that of a training by default; what was given before is an attribute of the run already."""
        yield 'outputModel', self._possibleOutputs['outputModel'].fromFolder(self._getExtraPath(MODEL_FOLDER))

    def _otherFiles(self):
        """Files of the outputs beside those that they are named by: one that was deleted is made again by "Continue"."""
        return []

    def newSet(self, SetClass, fill, *arguments, **options):
        """A set in the run's folder, filled by ``fill(set, *arguments)``."""
        items = SetClass.create(self._getPath(), **options)
        fill(items, *arguments)
        return items

    def newClasses(self, SetClass, images, fill, *arguments):
        """Classes of a set, which is an output of this run where ``images`` is its name, filled as by :meth:`newSet`."""
        classes = SetClass.create(self._getPath())
        classes.setImages(Pointer(value=self, extended=images) if isinstance(images, str) else images)
        fill(classes, *arguments)
        return classes

    def _sources(self, name=''):
        """Pointers to the inputs that an output was made from."""
        found = []
        for source in self._madeFrom:
            pointer = getattr(self, source)
            found += [item for item in (pointer if isinstance(pointer, PointerList) else [pointer]) if item.get() is not None]
        return found

    def _describe(self):
        """``(lines of the summary, text of the methods)``, when the outputs are there."""
        raise NotImplementedError

    def _verdict(self):
        """One sentence on how far the result can be relied on, the first of the summary; '' where there is nothing to rely on."""
        return ''

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        return self._validateEngine() + self._validateInputs()

    def _validateInputs(self):
        """Sentences about inputs and parameters that cannot be used."""
        return []

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
