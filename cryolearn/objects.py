"""Objects that pwem and tomo lack: the trained models."""

import json
import os
from typing import Any, Callable, Dict, Tuple

from pwem.objects import EMObject
from pyworkflow.object import Float, Integer, String

MODEL_FOLDER = 'model'  # of a run's results


def _text(key, default=''):
    """Function that gives a text of model.json."""
    return lambda about: str(about.get(key, default))


class TrainedModel(EMObject):
    """Base of the trained networks: a folder with ``weights.safetensors`` and ``model.json``."""

    FILES = tuple(os.path.join(MODEL_FOLDER, name) for name in ('weights.safetensors', 'model.json'))  # of a run's results
    # Attributes that a kind of model takes over from model.json: name, type, and the value in the description.
    KNOWN: Tuple[Tuple[str, type, Callable[[Dict[str, Any]], Any]], ...] = ()

    def __init__(self, folder=None, **kwargs):
        EMObject.__init__(self, **kwargs)
        self._folder = String(folder)
        self._samplingRate = Float()
        self._box = Integer()
        for name, kind, _ in self.KNOWN:
            setattr(self, name, kind())

    @classmethod
    def fromFolder(cls, folder):
        """The model in ``folder``, described by its model.json."""
        model = cls(folder=folder)
        description = model.getDescription()
        model._samplingRate.set(description.get('pixel_size_angst'))
        model._box.set(description.get('box'))
        for name, _, valueIn in cls.KNOWN:
            getattr(model, name).set(valueIn(description))
        return model

    def getFolder(self):
        return self._folder.get()

    def getFileName(self):
        """model.json, which says all about the model."""
        return os.path.join(self.getFolder(), 'model.json')

    def getDescription(self):
        """Content of model.json as a dictionary."""
        with open(self.getFileName(), encoding='utf-8') as handle:
            return json.load(handle)

    def getSamplingRate(self):
        return self._samplingRate.get()

    def getBox(self):
        return self._box.get()

    def getArchitecture(self):
        return self.getAttributeValue('_architecture')

    def getPreset(self):
        return self.getAttributeValue('_preset')

    def getFiles(self):
        folder = self.getFolder()
        return {os.path.join(folder, name) for name in os.listdir(folder)} if os.path.isdir(folder) else set()


class ElasticModel(TrainedModel):
    """A trained amplitude network, which knows the modes it was trained on."""

    KNOWN = (('_architecture', String, _text('architecture')),
             ('_modeNumbers', String, lambda about: ' '.join(str(number) for number in about.get('mode_numbers', []))))

    def getModeNumbers(self):
        return [int(number) for number in (self._modeNumbers.get() or '').split()]

    def __str__(self):
        return 'ElasticModel (%s, modes %s, %s px, %.2f Å/px)' % (
            self.getArchitecture(), self._modeNumbers.get(), self.getBox(), self.getSamplingRate() or 0)


class DistanceModel(TrainedModel):
    """A trained network that tells the distance between the orientations of two particle images, for one point group."""

    KNOWN = (('_preset', String, _text('preset')), ('_symmetry', String, _text('symmetry', 'C1')))

    def getSymmetry(self):
        return self._symmetry.get()

    def __str__(self):
        return 'DistanceModel (%s, %s, %s px, %.2f Å/px)' % (self.getPreset(), self.getSymmetry(), self.getBox(), self.getSamplingRate() or 0)


class SubtomogramModel(TrainedModel):
    """A trained network that tells the class of a subtomogram."""

    KNOWN = (('_architecture', String, _text('architecture')), ('_classCount', Integer, lambda about: len(about.get('classes', []))))

    def getClassNames(self):
        """Names of the classes that it knows, number 1 first."""
        return self.getDescription().get('classes', [])

    def __str__(self):
        return 'SubtomogramModel (%s, %d classes, %s px, %.2f Å/px)' % (
            self.getArchitecture(), self._classCount.get() or 0, self.getBox(), self.getSamplingRate() or 0)


class MapModel(TrainedModel):
    """A trained network that enhances maps; its sampling rate is the voxel size that it works at, whatever the maps'."""

    KNOWN = (('_preset', String, _text('preset')), ('_degradation', String, _text('degradation')),
             ('_finest', Float, lambda about: about.get('finest_angst')), ('_coarsest', Float, lambda about: about.get('coarsest_angst')))

    def getDegradation(self):
        return self._degradation.get()

    def getResolutions(self):
        """Finest and coarsest resolution (Å) of the maps that it was trained on."""
        return self._finest.get(), self._coarsest.get()

    def __str__(self):
        return 'MapModel (%s, %s, maps of %g to %g Å, works at %.2f Å/px)' % (
            self.getPreset(), self.getDegradation(), self._finest.get() or 0, self._coarsest.get() or 0, self.getSamplingRate() or 0)
