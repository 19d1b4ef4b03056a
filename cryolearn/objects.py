"""Objects that pwem and tomo lack: the trained models."""

import json
import os

from pwem.objects import EMObject
from pyworkflow.object import Float, Integer, String


class TrainedModel(EMObject):
    """Base of the trained networks: a folder with ``weights.safetensors`` and ``model.json``."""

    def __init__(self, folder=None, **kwargs):
        EMObject.__init__(self, **kwargs)
        self._folder = String(folder)
        self._samplingRate = Float()
        self._box = Integer()

    @classmethod
    def fromFolder(cls, folder):
        """The model in ``folder``, described by its model.json."""
        model = cls(folder=folder)
        description = model.getDescription()
        model._samplingRate.set(description.get('pixel_size_angst'))
        model._box.set(description.get('box'))
        model._describe(description)
        return model

    def _describe(self, description):
        """Take over what a kind of model says of itself beyond pixel size and box."""

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

    def getFiles(self):
        folder = self.getFolder()
        return {os.path.join(folder, name) for name in os.listdir(folder)} if os.path.isdir(folder) else set()


class ElasticModel(TrainedModel):
    """A trained amplitude network, which knows the modes it was trained on."""

    def __init__(self, folder=None, **kwargs):
        TrainedModel.__init__(self, folder, **kwargs)
        self._architecture = String()
        self._modeNumbers = String()

    def _describe(self, description):
        self._architecture.set(str(description.get('architecture', '')))
        self._modeNumbers.set(' '.join(str(number) for number in description.get('mode_numbers', [])))

    def getModeNumbers(self):
        return [int(number) for number in (self._modeNumbers.get() or '').split()]

    def getArchitecture(self):
        return self._architecture.get()

    def __str__(self):
        return 'ElasticModel (%s, modes %s, %s px, %.2f Å/px)' % (
            self.getArchitecture(), self._modeNumbers.get(), self.getBox(), self.getSamplingRate() or 0)


class DistanceModel(TrainedModel):
    """A trained network that tells the distance between the orientations of two particle images, for one point group."""

    def __init__(self, folder=None, **kwargs):
        TrainedModel.__init__(self, folder, **kwargs)
        self._preset = String()
        self._symmetry = String()

    def _describe(self, description):
        self._preset.set(str(description.get('preset', '')))
        self._symmetry.set(str(description.get('symmetry', 'C1')))

    def getPreset(self):
        return self._preset.get()

    def getSymmetry(self):
        return self._symmetry.get()

    def __str__(self):
        return 'DistanceModel (%s, %s, %s px, %.2f Å/px)' % (self.getPreset(), self.getSymmetry(), self.getBox(), self.getSamplingRate() or 0)


class SubtomogramModel(TrainedModel):
    """A trained network that tells the class of a subtomogram."""

    def __init__(self, folder=None, **kwargs):
        TrainedModel.__init__(self, folder, **kwargs)
        self._architecture = String()
        self._classCount = Integer()

    def _describe(self, description):
        self._architecture.set(str(description.get('architecture', '')))
        self._classCount.set(len(description.get('classes', [])))

    def getArchitecture(self):
        return self._architecture.get()

    def getClassNames(self):
        """Names of the classes that it knows, number 1 first."""
        return self.getDescription().get('classes', [])

    def __str__(self):
        return 'SubtomogramModel (%s, %d classes, %s px, %.2f Å/px)' % (
            self.getArchitecture(), self._classCount.get() or 0, self.getBox(), self.getSamplingRate() or 0)


class MapModel(TrainedModel):
    """A trained network that enhances maps; its sampling rate is the voxel size that it works at, whatever the maps'."""

    def __init__(self, folder=None, **kwargs):
        TrainedModel.__init__(self, folder, **kwargs)
        self._preset = String()
        self._degradation = String()
        self._finest = Float()
        self._coarsest = Float()

    def _describe(self, description):
        self._preset.set(str(description.get('preset', '')))
        self._degradation.set(str(description.get('degradation', '')))
        self._finest.set(description.get('finest_angst'))
        self._coarsest.set(description.get('coarsest_angst'))

    def getPreset(self):
        return self._preset.get()

    def getDegradation(self):
        return self._degradation.get()

    def getResolutions(self):
        """Finest and coarsest resolution (Å) of the maps that it was trained on."""
        return self._finest.get(), self._coarsest.get()

    def __str__(self):
        return 'MapModel (%s, %s, maps of %g to %g Å, works at %.2f Å/px)' % (
            self.getPreset(), self.getDegradation(), self._finest.get() or 0, self._coarsest.get() or 0, self.getSamplingRate() or 0)
