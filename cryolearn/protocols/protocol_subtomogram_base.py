"""What the protocols of subtomograms share."""

from tomo.objects import SetOfSubTomograms

from ..common.checks import check_count
from ..convert.subtomogram_sets import appendSubtomograms
from ..convert.subtomogram_star import checkAlike, writeSubtomograms
from ..convert.subtomograms import checkSet, classNames, imagesOf
from .input_checks import sentences
from .protocol_base import CryoLearnProtBase


class CryoLearnProtSubtomogramBase(CryoLearnProtBase):
    """Base of the protocols of subtomograms."""

    _references = ['Xu2017']

    # ---------------------------------------------------- form -----------------------------------------------------
    def _addSubtomogramsParam(self, form, pointerClass='SetOfSubTomograms',
                              help='Imported or extracted subtomograms. Each, or the set, must know its tilt range.'):
        self.addInput(form, 'inputSubtomograms', pointerClass, 'Subtomograms', help)

    def _addModelParam(self, form, more=''):
        self.addInput(form, 'inputModel', 'SubtomogramModel', 'Network',
                      'Network of the protocol "subtomogram network: train", for subtomograms with this box and sampling rate.' + more)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def getSubtomogramsFile(self):
        return self._getExtraPath('input_subtomograms.star')

    def _inputDigest(self):
        return self._subtomogramsDigest()

    def _subtomogramsDigest(self, **others):
        """Digest of the input subtomograms, of which the sampling rate and classes may have been changed without changing their file."""
        inputSet = self.inputSubtomograms.get()
        return self.engineDigest(subtomograms=inputSet, images=imagesOf(inputSet), sampling=imagesOf(inputSet).getSamplingRate(), **others)

    def convertInputStep(self, digest):
        inputSet = self.inputSubtomograms.get()
        writeSubtomograms(inputSet, self.getSubtomogramsFile(), poses=False, classes=bool(classNames(inputSet)))
        return [self.getSubtomogramsFile()]

    def _makeSubset(self, ids, suffix=''):
        """Set of those of the input subtomograms that have these ids."""
        return self.newSet(SetOfSubTomograms, lambda new: appendSubtomograms(imagesOf(self.inputSubtomograms.get()), new, keep=ids), suffix=suffix)

    # ------------------------------------------------- validation --------------------------------------------------
    def _validateSubtomograms(self, inputSet, fewest=1):
        """Sentences about subtomograms that cannot be used: empty, mixed sampling rates, no tilt range, too few."""
        errors = checkSet(inputSet)
        return errors or (sentences(check_count, 'subtomograms', imagesOf(inputSet).getSize(), fewest) if inputSet is not None else [])

    def _validateModel(self, inputSet, model):
        """Sentences about a network that is gone, or that was trained for other subtomograms."""
        if model is None or inputSet is None:
            return []
        if self._validateDescription(model):
            return self._validateDescription(model)
        problem = checkAlike(imagesOf(inputSet), model.getSamplingRate(), model.getBox(), 'The input', 'the network')
        return [problem] if problem else []
