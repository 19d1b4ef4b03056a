"""Objects that pwem and tomo lack: the trained models."""

import json
import os

from pwem.objects import EMObject
from pyworkflow.object import Float, Integer, String


class ElasticModel(EMObject):
    """A trained amplitude network: a folder with ``weights.safetensors``, ``model.json``, and the modes it was trained on."""

    def __init__(self, folder=None, **kwargs):
        EMObject.__init__(self, **kwargs)
        self._folder = String(folder)
        self._architecture = String()
        self._modeNumbers = String()
        self._samplingRate = Float()
        self._box = Integer()

    @classmethod
    def fromFolder(cls, folder):
        """The model in ``folder``, described by its model.json."""
        model = cls(folder=folder)
        description = model.getDescription()
        model._architecture.set(str(description.get('architecture', '')))
        model._modeNumbers.set(' '.join(str(number) for number in description.get('mode_numbers', [])))
        model._samplingRate.set(description.get('pixel_size_angst'))
        model._box.set(description.get('box'))
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

    def getModeNumbers(self):
        return [int(number) for number in (self._modeNumbers.get() or '').split()]

    def getSamplingRate(self):
        return self._samplingRate.get()

    def getBox(self):
        return self._box.get()

    def getArchitecture(self):
        return self._architecture.get()

    def getFiles(self):
        folder = self.getFolder()
        return {os.path.join(folder, name) for name in os.listdir(folder)} if os.path.isdir(folder) else set()

    def __str__(self):
        return 'ElasticModel (%s, modes %s, %s px, %.2f Å/px)' % (
            self.getArchitecture(), self._modeNumbers.get(), self.getBox(), self.getSamplingRate() or 0)
