"""Training of the network that tells the class of a subtomogram."""

import pyworkflow.protocol.params as params

from ..convert.subtomogram_classes import CLASSES_REPORT, VALIDATION_TABLE, readRows
from ..convert.subtomogram_star import checkAlike, writeLabelledSets
from ..convert.subtomograms import classNames, imagesOf
from ..engine.subtomogram.config import SubtomogramTrainConfig as Config
from ..objects import SubtomogramModel
from .protocol_subtomogram_base import CryoLearnProtSubtomogramBase

RESIDUAL, INCEPTION, DSRF, SVM = range(4)
BOX_MULTIPLES = {RESIDUAL: 1, INCEPTION: 2, DSRF: 4, SVM: 2}
SMALLEST_BOX = 12
MODEL = 'model'
SHOWN_CLASSES = 5  # in the summary


class CryoLearnProtSubtomogramTrain(CryoLearnProtSubtomogramBase):
    """Trains a network that tells the class of a subtomogram at any orientation, in spite of the missing wedge and of noise.

    It learns from subtomograms whose class is known: simulated ones, classes, or several sets of which each holds one class. "classify
    subtomograms" then tells the class of others, and "subdivide subtomograms" groups those of structures that nobody has labelled. A killed training
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
        self.addEngineParams(form, Config, 'invert_contrast', 'balance_classes', 'validation_fraction')
        form.addSection(label='Network')
        self.addEngineParam(form, Config, 'network')
        self.addEngineParams(form, Config, 'wedge_channel', 'width', 'embedding', 'contrastive_weight', condition=residual)
        self.addEngineParam(form, Config, 'dropout', condition='network != %d' % SVM)
        self.addEngineParams(form, Config, 'rif_space', 'svm_penalties', condition='network == %d' % SVM)
        training = form.addGroup('Training', condition='network != %d' % SVM)
        self.addEngineParams(training, Config, 'epochs', 'batch', 'learning_rate')
        self.addEngineParam(training, Config, 'weight_decay', condition=residual)
        self.addEngineParam(training, Config, 'augment', condition='network != %d' % SVM)
        self.addEngineParam(training, Config, 'augment_shift_px', condition='network != %d and augment != 2' % SVM)
        self.addEngineParams(training, Config, 'precision', 'checkpoint_steps', condition='network != %d' % SVM)
        self.addEngineParam(form, Config, 'average_turns', condition=residual)
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
                run = owner if hasattr(owner, 'getRunName') else self.mapper.getParent(owner)
                found.append((pointer.get(), run.getRunName() if run is not None else pointer.get().getNameId()))
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
        rows = sorted(readRows(self._getExtraPath(CLASSES_REPORT)), key=lambda row: row['accuracy'])
        worst = ', '.join('%s %.0f %%' % (row['name'], 100 * row['accuracy']) for row in rows[:SHOWN_CLASSES])
        self._setSummary(
            'Network "%s" of %d classes, trained on %d subtomograms.' % (model.getArchitecture(), found['classes'], found['training_subtomograms']),
            'Of %d unseen subtomograms %.1f %% are recognised (mean of the classes %.1f %%, a guess %.1f %%).' % (
                found['validation_subtomograms'], 100 * found['validation_accuracy'], 100 * found['mean_class_accuracy'], 100 * found['chance_accuracy']),
            'Least well: %s.' % worst, 'Its confidence is wrong by %.3f on average.' % found['calibration_error'])
        self._setMethods('A network ("%s") was trained on %d labelled subtomograms of %d classes [Xu2017]; it recognises %.1f %% of unseen ones.' % (
            model.getArchitecture(), found['training_subtomograms'], found['classes'], 100 * found['validation_accuracy']))

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
        unlabelled = [name for item, name in sets if not classNames(item)]
        errors += ["Two sets without classes come from runs named '%s': each is a class, so give the runs different names." % name
                   for name in sorted({name for name in unlabelled if unlabelled.count(name) > 1})]
        names = {name for item, ownName in sets for name in classNames(item) or [ownName]}
        if len(names) < 2:
            errors.append("There is only the class '%s': give labelled subtomograms of at least two classes, or one set for each class." % names.pop())
        return errors + self._validateMultiples(imagesOf(first).getXDim())

    def _validateMultiples(self, box):
        network, errors = self.network.get(), []
        if box % BOX_MULTIPLES[network] or box < SMALLEST_BOX:
            errors.append("The subtomograms have a box of %d px, but the network '%s' wants a multiple of %d, %d at least."
                          % (box, self.getEngineValue(Config, 'network'), BOX_MULTIPLES[network], SMALLEST_BOX))
        values = [('Width', 8, self.width.get())] if network == RESIDUAL else []
        values += [('Batch', 16, self.batch.get())] if network != SVM else []
        return errors + ['"%s" is %d: it must be a multiple of %d.' % (name, value, step) for name, step, value in values if value % step]

    def _warnings(self):
        if self.network.get() in (INCEPTION, DSRF) and not self.usesGpu():
            return ["The paper's networks have tens of millions of weights and take long on the CPU: use a GPU, or the network residual3d."]
        return []

    def _citations(self):
        return ['Xu2017']
