"""Training of the network that tells the class of a subtomogram."""

from ..common.checks import check_multiple, check_network_box
from ..common.limits import TRAINING_BLOCK, WIDTH_STEP
from ..convert.subtomogram_classes import CLASSES_REPORT, VALIDATION_TABLE
from ..convert.subtomogram_star import checkAlike, writeLabelledSets
from ..convert.subtomograms import classNames, imagesOf
from ..convert.tables import readRows
from ..engine.subtomogram.config import SubtomogramTrainConfig as Config
from ..objects import SubtomogramModel
from .config_params import isChoice, isNotChoice
from .input_checks import sentences
from .protocol_base import EngineStep
from .protocol_subtomogram_base import CryoLearnProtSubtomogramBase
from .simulated_subtomograms import NULL_CLASS, SimulatedSubtomograms

SHOWN_CLASSES = 5  # in the summary


class CryoLearnProtSubtomogramTrain(SimulatedSubtomograms, CryoLearnProtSubtomogramBase):
    """Trains a network that tells the class of a subtomogram at any orientation, in spite of the missing wedge and of noise.

    It learns from subtomograms whose class is known: simulated ones, classes, or several sets of which each holds one class; or from structures and
    maps, of which it simulates subtomograms as it needs them, others in each epoch, without storing any. "classify subtomograms" then tells the class
    of others, and "subdivide subtomograms" groups those of structures that nobody has labelled. A killed training continues from its last checkpoint
    and ends as if it had not been killed.
    """

    _label = 'subtomogram network: train'
    _possibleOutputs = {'outputModel': SubtomogramModel}

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        residual = isChoice(Config, 'network', 'residual3d')
        given, simulated = isChoice(Config, 'source', 'subtomograms'), isChoice(Config, 'source', 'simulation')
        form.addSection(label='Input')
        self.addEngineParam(form, Config, 'source')
        self.addInputs(form, 'inputSets', 'SetOfSubTomograms,SetOfClassesSubTomograms', 'Labelled subtomograms',
                       'Subtomograms whose class is known: simulated ones, or classes. A set without classes in it is one class, '
                       'which is named after the run that made the set: give one such set for each class.', condition=given, important=True)
        self.addEngineParam(form, Config, 'invert_contrast', condition=given)
        self._addSimulatedInputs(form, Config, simulated)
        self.addEngineParams(form, Config, 'balance_classes', 'validation_fraction')
        form.addSection(label='Simulation')
        images = form.addGroup('Subtomograms', condition=simulated)
        self.addEngineParams(images, Config, 'per_class', 'new_each_epoch', 'box', 'pixel_size_angst', 'shift_angst', 'map_floor', condition=simulated)
        self._addSimulationParams(form, Config, simulated)
        microscope = form.addGroup('Microscope', condition=simulated)
        self._addMicroscopeParams(microscope, Config, simulated)
        form.addSection(label='Network')
        self.addEngineParam(form, Config, 'network')
        self.addEngineParams(form, Config, 'wedge_channel', 'width', 'embedding', 'contrastive_weight', condition=residual)
        self.addEngineParam(form, Config, 'dropout', condition=isNotChoice(Config, 'network', 'rif_svm'))
        self.addEngineParams(form, Config, 'rif_space', 'svm_penalties', condition=isChoice(Config, 'network', 'rif_svm'))
        training = form.addGroup('Training', condition=isNotChoice(Config, 'network', 'rif_svm'))
        self.addEngineParams(training, Config, 'epochs', 'batch', 'learning_rate')
        self.addEngineParam(training, Config, 'weight_decay', condition=residual)
        self.addEngineParam(training, Config, 'augment', condition=isNotChoice(Config, 'network', 'rif_svm'))
        self.addEngineParam(training, Config, 'augment_shift_px',
                            condition='%s and %s' % (isNotChoice(Config, 'network', 'rif_svm'), isNotChoice(Config, 'augment', 'no')))
        self.addEngineParams(training, Config, 'precision', 'checkpoint_steps', condition=isNotChoice(Config, 'network', 'rif_svm'))
        self.addEngineParam(form, Config, 'average_turns', condition=residual)
        self.addEngineParams(form, Config, 'cache_mib', 'seed')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        if self._simulates():
            return self._simulationDigest()
        return self.engineDigest(sets=[[item, imagesOf(item), imagesOf(item).getSamplingRate(), name, classNames(item)] for item, name in self._sets()])

    def _simulates(self):
        return self.getEngineValue(Config, 'source') == 'simulation'

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
        if not self._simulates():
            return self.buildConfig(Config, subtomograms=self.getSubtomogramsFile())
        return self.buildConfig(Config, structures=self._structures(), volumes=list(self._volumes()), names=self._names(), invert_contrast=False)

    def convertInputStep(self, digest):
        if self._simulates():
            return self._writeMaps()
        writeLabelledSets(self._sets(), self.getSubtomogramsFile())
        return [self.getSubtomogramsFile()]

    trainStep = EngineStep('subtomogram-train', *SubtomogramModel.FILES, VALIDATION_TABLE)

    def _sources(self, name=''):
        return [*self.inputStructures, *self.inputVolumes] if self._simulates() else list(self.inputSets)

    def _describe(self):
        found = self._readEngineSummary()
        rows = sorted(readRows(self._getExtraPath(CLASSES_REPORT)), key=lambda row: row['accuracy'])
        worst = ', '.join('%s %.0f %%' % (row['name'], 100 * row['accuracy']) for row in rows[:SHOWN_CLASSES])
        learned = '%d%s subtomograms' % (found['training_subtomograms'], self._simulates() * (
            ' simulated' + (', others in each epoch,' if self.newEachEpoch.get() and self.getEngineValue(Config, 'network') != 'rif_svm' else '')))
        unseen = found['validation_subtomograms'], 100 * found['validation_accuracy'], 100 * found['mean_class_accuracy'], 100 * found['chance_accuracy']
        network = self.outputModel.getArchitecture()
        return ['Network "%s" of %d classes, trained on %s.' % (network, found['classes'], learned),
                'Of %d unseen subtomograms %.1f %% are recognised (mean of the classes %.1f %%, a guess %.1f %%).' % unseen,
                'Least well: %s.' % worst, 'Its confidence is wrong by %.3f on average.' % found['calibration_error']], (
            'A network ("%s") was trained on %d %s subtomograms of %d classes [Xu2017]; it recognises %.1f %% of unseen ones.' % (
                network, found['training_subtomograms'], 'simulated' if self._simulates() else 'labelled', found['classes'], unseen[1]))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        if self._simulates():
            return self._validateSimulation() + self._validateClasses() + self._validateMultiples(self.box.get())
        sets = self._sets()
        if not len(self.inputSets):
            return ['There are no labelled subtomograms to learn from: give some, or learn from simulation.']
        if not sets:  # their runs have not made them yet
            return []
        for item, name in sets:
            wrong = self._validateSubtomograms(item)
            if wrong:
                return ['%s: %s' % (name, wrong[0])] if len(sets) > 1 else wrong
        first, firstName = sets[0]
        alike = [checkAlike(imagesOf(item), imagesOf(first).getSamplingRate(), imagesOf(first).getXDim(), "'%s'" % name, "'%s'" % firstName)
                 for item, name in sets[1:]]
        errors = [problem for problem in alike if problem]
        unlabelled = [name for item, name in sets if not classNames(item)]
        errors += ["Two sets without classes come from runs named '%s': each is a class, so give the runs different names." % name
                   for name in sorted({name for name in unlabelled if unlabelled.count(name) > 1})]
        names = {name for item, ownName in sets for name in classNames(item) or [ownName]}
        if len(names) < 2:
            errors.append("There is only the class '%s': give labelled subtomograms of at least two classes, or one set for each class." % names.pop())
        return errors + self._validateMultiples(imagesOf(first).getXDim())

    def _validateClasses(self):
        names = self._names() + self.nullClass.get() * [NULL_CLASS]
        if len(names) != 1:
            return []
        return ["There is only the class '%s': give at least two structures or maps, or one and the class of noise alone." % names[0]]

    def _validateMultiples(self, box):
        network = self.getEngineValue(Config, 'network')
        errors = sentences(check_network_box, network, box)
        errors += sentences(check_multiple, '"Width"', self.width.get(), WIDTH_STEP) if network == 'residual3d' else []
        return errors + (sentences(check_multiple, '"Batch"', self.batch.get(), TRAINING_BLOCK) if network != 'rif_svm' else [])

    def _warnings(self):
        if self.getEngineValue(Config, 'network') in ('inception3d', 'dsrf3d') and not self.usesGpu():
            return ["The paper's networks have tens of millions of weights and take long on the CPU: use a GPU, or the network residual3d."]
        return []
