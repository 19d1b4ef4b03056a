"""Normal modes of another program become a set of Scipion."""

import os

import numpy as np

from cryolearn.convert.modes import engineModes
from cryolearn.protocols import CryoLearnProtImportModes, CryoLearnProtNormalModes

from .base import ATOMS, ProjectTest


class TestImportModes(ProjectTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.computed = cls.launch(CryoLearnProtNormalModes, inputStructure=cls.importStructure(), number=9)

    def imported(self, path, **values):
        return self.launch(CryoLearnProtImportModes, inputStructure=self.computed.outputStructure, modesPath=self.computed._getExtraPath(path), **values)

    def vectors(self, modes):
        with np.load(engineModes(modes)) as data:
            return dict(zip(data['mode_numbers'].tolist(), data['eigenvectors']))

    def testEachKindOfFile(self):
        expected = self.vectors(self.computed.outputModes)
        for path, values, numbers in (('modes.nmd', {}, [7, 8, 9]), ('modes', {}, list(range(1, 10))), ('', dict(modeNumbers='7 9'), [7, 9])):
            run = self.imported(path, **values)
            self.assertEqual([mode.getObjId() for mode in run.outputModes], numbers)
            self.assertEqual([mode.getObjId() for mode in run.outputModes if mode.isEnabled()],
                             [mode.getObjId() for mode in self.computed.outputModes if mode.isEnabled() and mode.getObjId() in numbers])
            found = self.vectors(run.outputModes)
            for number in numbers:
                self.assertEqual(found[number].shape, (ATOMS, 3))
                self.assertAlmostEqual(float((found[number] * expected[number]).sum()), 1, places=5)
            self.assertTrue(all(os.path.exists(mode.getModeFile()) for mode in run.outputModes))

    def testRefused(self):
        for path, words in (('absent.nmd', 'do not exist'), ('modes.csv', 'is not a file of modes')):
            protocol = self.newProtocol(CryoLearnProtImportModes, inputStructure=self.computed.outputStructure,
                                        modesPath=self.computed._getExtraPath(path))
            self.assertIn(words, ' '.join(protocol.validate()))
