"""Training of the network that enhances maps."""

from ..common.checks import check_epoch, check_multiple, check_resolution_range
from ..convert.files import mapSides
from ..convert.volumes import writeVolume
from ..engine.map_enhancement.config import MapTrainConfig as Config
from ..objects import MapModel
from .config_params import isChoice, isNotChoice
from .input_checks import missingFiles, sentences
from .protocol_base import CryoLearnProtBase, EngineStep

MANIFEST = 'manifest.csv'


class CryoLearnProtMapTrain(CryoLearnProtBase):
    """Trains a network that enhances maps: it sees density as cryo-EM maps show it, and learns the density of the molecules behind.

    It learns from atomic models, whose maps it degrades anew in every step (spread of B factors, coloured noise of half maps, solvent, detergent,
    masks; or dilation, blur and noise as in the paper), or from pairs of maps that you have. Give many different proteins. Models that are related
    to one that validates, or to one of the structures that you will test on, are left out: the manifest says which and why.

    "enhance map" works without any training of yours, with a network that comes with the software. A killed training continues from its last
    checkpoint and ends as if it had not been killed.
    """

    _label = 'map network: train'
    _possibleOutputs = {'outputModel': MapModel}
    _references = ['Mullick2022']
    _madeFrom = ('inputStructures', 'inputMaps', 'targetMaps')

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self.addInputs(form, 'inputStructures', 'AtomStruct,SetOfAtomStructs', 'Structures', 'Atomic models with B factors, of many different proteins.',
                       important=True)
        self.addInputs(form, 'excludedStructures', 'AtomStruct,SetOfAtomStructs', 'Structures to test on',
                       'Relatives of these, by sequence, are not learned from.')
        self.addInputs(form, 'inputMaps', 'Volume,SetOfVolumes', 'Maps to learn from',
                       'Optional: maps as they are, in pairs with the next line, on the same grid.')
        self.addInputs(form, 'targetMaps', 'Volume,SetOfVolumes', 'What they should become', 'In the same order as the maps above.')
        data = form.addGroup('Degradation')
        self.addEngineParam(data, Config, 'degradation')
        self.addEngineParams(data, Config, 'finest_angst', 'coarsest_angst', condition=isChoice(Config, 'degradation', 'physics'))
        self.addEngineParams(data, Config, 'ball_radius_px', 'blur_angst', 'noise_sd', condition=isChoice(Config, 'degradation', 'paper'))
        self.addEngineParam(data, Config, 'voxel_angst')

        form.addSection(label='Network')
        self.addEngineParams(form, Config, 'preset', 'patch_px', 'width')
        training = form.addGroup('Training')
        self.addEngineParams(training, Config, 'epochs', 'patches_per_epoch', 'batch', 'learning_rate')
        self.addEngineParam(training, Config, 'weight_decay', condition=isNotChoice(Config, 'preset', 'paper'))
        self.addEngineParam(training, Config, 'side_chain_weight',
                            condition='%s and %s' % (isNotChoice(Config, 'preset', 'paper'), isChoice(Config, 'degradation', 'physics')))
        self.addEngineParam(training, Config, 'fine_weight', condition=isNotChoice(Config, 'preset', 'paper'))
        self.addEngineParams(training, Config, 'validation_fraction', 'validation_patches', 'e_value', 'precision', 'checkpoint_steps', 'seed')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        return self.engineDigest(maps=[[volume, volume.getSamplingRate()] for volume in self._maps().values()])

    def _maps(self):
        """``{file in extra: volume}`` of the maps to learn from, and of what they should become."""
        return {**self.numberedMaps(self.inputMaps), **self.numberedMaps(self.targetMaps, 'target')}

    def _config(self):
        return self.buildConfig(
            Config, structures=self.filesOf(self.inputStructures), exclude=self.filesOf(self.excludedStructures),
            input_maps=list(self.numberedMaps(self.inputMaps)), target_maps=list(self.numberedMaps(self.targetMaps, 'target')))

    def convertInputStep(self, digest):
        return [writeVolume(volume, path) for path, volume in self._maps().items()]

    trainStep = EngineStep('map-train', *MapModel.FILES, MANIFEST)

    def _describe(self):
        found, model = self._readEngineSummary(), self.outputModel
        learned = 'Network "%s", degradation "%s", trained on %d molecules, validated on %d others' % (
            model.getPreset(), model.getDegradation(), found['training_models'], found['validation_models'])
        error = ('Unseen molecules: mean error of the density %.3f (of the degraded maps %.3f), mean FSC with the molecule %.3f (%.3f).'
                 % (found['val_error'], found['val_input_error'], found['mean_fsc_of_result'], found['mean_fsc_of_input']))
        return [learned + '.', error], '%s, none of them related by sequence (E value %g).' % (learned, self.getEngineValue(Config, 'e_value'))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        errors = []
        structures, maps, targets = self.filesOf(self.inputStructures), self.pointedItems(self.inputMaps), self.pointedItems(self.targetMaps)
        if not structures and not maps:
            errors.append('Neither structures nor pairs of maps are given: the network needs at least two different molecules.')
        if len(maps) != len(targets):
            errors.append('There are %d maps to learn from and %d maps that they should become: give one for each.' % (len(maps), len(targets)))
        errors += missingFiles(structures + self.filesOf(self.excludedStructures), "The structure '%s' does not exist.")
        for first, second in zip(maps, targets):
            unread = self._validateMap(first, "map '%s'" % first.getFileName()) + self._validateMap(second, "map '%s'" % second.getFileName())
            errors += unread
            if not unread and mapSides(first) != mapSides(second):
                errors.append("The maps '%s' and '%s' are not on the same grid." % (first.getFileName(), second.getFileName()))
        errors += sentences(check_resolution_range, self.finestAngst.get(), self.coarsestAngst.get())
        errors += sentences(check_multiple, '"Patch"', self.patchPx.get(), 16)
        return errors + sentences(check_epoch, 'patches', self.patchesPerEpoch.get(), self.batch.get())

    def _warnings(self):
        warnings, count = [], len(self.filesOf(self.inputStructures))
        if 0 < count < 20 and not self.pointedItems(self.inputMaps):
            warnings.append('%d structure(s) are few: a network for any protein needs hundreds of different ones.' % count)
        if not self.usesGpu() and self.epochs.get() * self.patchesPerEpoch.get() > (2000 if self.getEngineValue(Config, 'preset') == 'paper' else 20000):
            warnings.append('%d patches will be learned on the CPU, which takes hours: use a GPU or fewer of them.'
                            % (self.epochs.get() * self.patchesPerEpoch.get()))
        return warnings
