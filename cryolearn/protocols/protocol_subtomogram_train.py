"""Training of the network that tells the class of a subtomogram."""

import pyworkflow.protocol.params as params

from ..convert.subtomogram_classes import CLASSES_REPORT, VALIDATION_TABLE, readRows
from ..convert.subtomogram_star import checkAlike, writeLabelledSets
from ..convert.subtomograms import classNames, imagesOf
from ..engine.subtomogram.config import SubtomogramTrainConfig as Config
from ..objects import SubtomogramModel
from .protocol_subtomogram_base import CryoLearnProtSubtomogramBase

RESIDUAL, INCEPTION, DSRF, SVM = range(4)
MODEL = 'model'
SHOWN_CLASSES = 12  # in the summary


class CryoLearnProtSubtomogramTrain(CryoLearnProtSubtomogramBase):
    """Trains a network that tells the class of a subtomogram at any orientation, in spite of the missing wedge and of noise.

    It learns from subtomograms whose class is known: simulated ones, classes, or several sets of which each holds one class. "subtomogram network:
    classify" then tells the class of others, and "subdivide subtomograms" groups those of structures that nobody has labelled. A killed training
    continues from its last checkpoint and ends as if it had not been killed.
    """

    _label = 'subtomogram network: train'
    _possibleOutputs = {'outputModel': SubtomogramModel}

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        residual = 'network == %d' % RESIDUAL
        form.addSection(label='Input')
        form.addParam('inputSets', params.MultiPointerParam, pointerClass='SetOfSubTomograms,SetOfClassesSubTomograms', label='Labelled subtomograms',
                      important=True, help='Subtomograms whose class is known: simulated ones, or classes. A set without classes in it is one class, '
                                           'which is named after the run that made the set: give one such set for each class.')
        self.addEngineParams(form, Config, 'balance_classes', 'validation_fraction')
        form.addSection(label='Network')
        self.addEngineParam(form, Config, 'network')
        self.addEngineParams(form, Config, 'wedge_channel', 'width', 'embedding', 'contrastive_weight', condition=residual)
        self.addEngineParam(form, Config, 'dropout', condition='network != %d' % SVM)
        self.addEngineParam(form, Config, 'svm_penalties', condition='network == %d' % SVM)
        training = form.addGroup('Training', condition='network != %d' % SVM)
        self.addEngineParams(training, Config, 'epochs', 'batch', 'learning_rate')
        self.addEngineParam(training, Config, 'weight_decay', condition=residual)
        self.addEngineParam(training, Config, 'augment', condition='network != %d' % SVM)
        self.addEngineParam(training, Config, 'augment_shift_px', condition='network != %d and augment != 2' % SVM)
        self.addEngineParams(training, Config, 'precision', 'checkpoint_steps', condition='network != %d' % SVM)
        self.addEngineParams(form, Config, 'cache_mib', 'seed')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        sets = [[item, imagesOf(item), imagesOf(item).getSamplingRate(), name, classNames(item)] for item, name in self._sets()]
        inputs = self.engineDigest(sets=sets)
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.trainStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _sets(self):
        """``[(set, name of its class when it has no classes of its own)]``: the name of the run that made it."""
        found = []
        for pointer in self.inputSets:
            if pointer.get() is not None:
                owner = pointer.getObjValue()
                name = owner.getRunName() if hasattr(owner, 'getRunName') else pointer.get().getObjLabel() or pointer.get().getNameId()
                found.append((pointer.get(), name))
        return found

    def _config(self):
        return self.buildConfig(Config, subtomograms=self.getSubtomogramsFile(), output=self._getExtraPath())

    def convertInputStep(self, digest):
        writeLabelledSets(self._sets(), self.getSubtomogramsFile())
        return [self.getSubtomogramsFile()]

    def trainStep(self, digest):
        self.runEngine('subtomogram-train', self._config())
        return [self._getExtraPath(MODEL, name) for name in ('weights.safetensors', 'model.json')] + [self._getExtraPath(VALIDATION_TABLE)]

    def createOutputStep(self, digest):
        model = SubtomogramModel.fromFolder(self._getExtraPath(MODEL))
        self._defineOutputs(outputModel=model)
        for pointer in self.inputSets:
            self._defineSourceRelation(pointer, model)
        self._describe(model)

    def _describe(self, model):
        found = self._readEngineSummary(self._getExtraPath())
        rows = readRows(self._getExtraPath(CLASSES_REPORT))
        self._setSummary('Network "%s" of %d classes.' % (model.getArchitecture(), len(rows)), *[str(item) for item in found.items()])
        self._setMethods('A network ("%s") was trained on %d labelled subtomograms of %d classes [Xu2017].' % (model.getArchitecture(), 0, len(rows)))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        errors, sets = self._validateEngine(), self._sets()
        if not sets:
            return errors
        for item, name in sets:
            wrong = self._validateSubtomograms(item)
            if wrong:
                return [*errors, *(['%s: %s' % (name, wrong[0])] if len(sets) > 1 else wrong)]
        first, firstName = sets[0]
        alike = [checkAlike(imagesOf(item), imagesOf(first).getSamplingRate(), imagesOf(first).getXDim(), "'%s'" % name, "'%s'" % firstName)
                 for item, name in sets[1:]]
        errors += [problem for problem in alike if problem]
        names = {name for item, ownName in sets for name in classNames(item) or [ownName]}
        if len(names) < 2:
            errors.append("There is only the class '%s': give labelled subtomograms of at least two classes, or one set for each class." % names.pop())
        return errors

    def _warnings(self):
        if self.network.get() in (INCEPTION, DSRF) and not self.usesGpu():
            return ["The paper's networks have tens of millions of weights and take long on the CPU: use a GPU, or the network residual3d."]
        return []

    def _citations(self):
        return ['Xu2017']
