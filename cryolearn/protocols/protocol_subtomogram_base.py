"""What the protocols of subtomograms share."""

import pyworkflow.protocol.params as params

from ..common.checks import check_count
from ..convert.subtomogram_star import checkAlike
from ..convert.subtomograms import checkSet, imagesOf
from .protocol_base import CryoLearnProtBase, sentences


class CryoLearnProtSubtomogramBase(CryoLearnProtBase):
    """Base of the protocols of subtomograms."""

    # ---------------------------------------------------- form -----------------------------------------------------
    @staticmethod
    def _addSubtomogramsParam(form, pointerClass='SetOfSubTomograms', **options):
        values = dict(label='Subtomograms', important=True, help='Imported or extracted subtomograms. Each, or the set, must know its tilt range.')
        values.update(options)
        form.addParam('inputSubtomograms', params.PointerParam, pointerClass=pointerClass, **values)

    def _addModelParam(self, form, **options):
        values = dict(label='Network', important=True,
                      help='Network of the protocol "subtomogram network: train", for subtomograms with this box and sampling rate.')
        values.update(options)
        form.addParam('inputModel', params.PointerParam, pointerClass='SubtomogramModel', **values)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def getSubtomogramsFile(self):
        return self._getExtraPath('input_subtomograms.star')

    def _inputDigest(self, **others):
        """Digest of the input subtomograms, of which the sampling rate and classes may have been changed without changing their file."""
        inputSet = self.inputSubtomograms.get()
        return self.engineDigest(subtomograms=inputSet, images=imagesOf(inputSet), sampling=imagesOf(inputSet).getSamplingRate(), **others)

    # ------------------------------------------------- validation --------------------------------------------------
    def _validateSubtomograms(self, inputSet, fewest=1):
        """Sentences about subtomograms that cannot be used: empty, mixed sampling rates, no tilt range, too few."""
        errors = checkSet(inputSet)
        return errors or (sentences(check_count, 'subtomograms', imagesOf(inputSet).getSize(), fewest) if inputSet is not None else [])

    def _validateModel(self, inputSet, model):
        """Sentences about a network that is gone, or that was trained for other subtomograms."""
        if model is None or inputSet is None:
            return []
        try:
            model.getDescription()
        except (OSError, ValueError):
            return ["The network's description '%s' is missing or damaged: train it again." % model.getFileName()]
        problem = checkAlike(imagesOf(inputSet), model.getSamplingRate(), model.getBox(), 'The input', 'the network')
        return [problem] if problem else []
