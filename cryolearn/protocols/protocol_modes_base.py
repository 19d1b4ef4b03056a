"""What the protocols that give normal modes share."""

from typing import Optional

from pwem.objects import AtomStruct, SetOfNormalModes

from ..convert.modes import fillModes, makeStructure
from .input_checks import missingFiles
from .protocol_base import CryoLearnProtBase


class CryoLearnProtModesBase(CryoLearnProtBase):
    """Base of the protocols that give the normal modes of a structure, and that structure."""

    _label: Optional[str] = None
    _possibleOutputs = {'outputModes': SetOfNormalModes, 'outputStructure': AtomStruct}
    _references = ['Hamitouche2021']
    _madeFrom = ('inputStructure',)

    def addStructure(self, form, help):
        self.addInput(form, 'inputStructure', 'AtomStruct', 'Structure', help)

    def _insertAllSteps(self):
        self._insertResultSteps()

    def _makeOutputs(self):
        structure = makeStructure(self._getExtraPath())
        structure.setPseudoAtoms(self.inputStructure.get().getPseudoAtoms())
        yield 'outputStructure', structure
        modes = self.newSet(SetOfNormalModes, fillModes, self._getExtraPath())
        modes.setPdb(self.outputStructure)
        yield 'outputModes', modes

    def _collective(self, found):
        """Line of the summary."""
        return '%d modes reach the collectivity %g.' % (found['selected'], self.collectivityThreshold.get())

    def _validateInputs(self):
        structures = [self.inputStructure.get()] if self.inputStructure.get() is not None else []
        return missingFiles(structures, "The structure's file '%s' does not exist.")
