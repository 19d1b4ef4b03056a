"""Sets that came in by Scipion's own protocols: import of a STAR file, and subsets of it."""

import os

import numpy as np
import pytest
from pwem.constants import ALIGN_PROJ
from pwem.objects import SetOfParticles
from pwem.protocols import ProtImportParticles, ProtSubSet

from cryolearn.convert.star_particles import StarParticles
from cryolearn.protocols import CryoLearnProtElasticAlign, CryoLearnProtReconstruct

from .base import BOX, MODES, PIXEL, ProjectTest, compareWithTruth, setColumns

relion31 = pytest.importorskip('relion.convert.convert31')
IMAGES, KEPT = 20, 9


class TestImportedParticles(ProjectTest):
    """A STAR file through Scipion's import; what comes out is equal, and works."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.modes = cls.makeModes()
        simulation = cls.simulate(cls.modes, IMAGES)
        cls.simulated, cls.truth = simulation.outputParticles, simulation._getExtraPath('truth.npz')
        cls.imported = cls.launch(
            ProtImportParticles, importFrom=ProtImportParticles.IMPORT_FROM_RELION,
            starFile=os.path.abspath(simulation._getExtraPath('particles.star')), voltage=300, sphericalAberration=2.7,
            amplitudeContrast=0.1, samplingRate=PIXEL, haveDataBeenPhaseFlipped=False).outputParticles
        subset = cls.launch(ProtSubSet, inputFullSet=cls.imported, chooseAtRandom=True, nElements=KEPT)
        cls.subset = next(output for _, output in subset.iterOutputAttributes())
        cls.kept = sorted(item.getObjId() for item in cls.subset)

    def testImportEqualsWhatWasSimulated(self):
        self.assertEqual((self.imported.getXDim(), self.imported.getSamplingRate(), self.imported.hasCTF()), (BOX, PIXEL, True))
        expected = {item.getObjId(): item.clone() for item in self.simulated}
        self.assertEqual(sorted(item.getObjId() for item in self.imported), sorted(expected))
        for item in self.imported:
            other = expected[item.getObjId()]
            np.testing.assert_allclose(item.getTransform().getMatrix(), other.getTransform().getMatrix(), atol=1e-6)
            np.testing.assert_allclose(item.getCTF().getDefocus(), other.getCTF().getDefocus(), atol=1e-3)
            self.assertEqual(item.getIndex(), other.getIndex())

    def testSubsetIsAlignedById(self):
        self.assertEqual(len(self.kept), KEPT)
        self.assertNotEqual(self.kept, list(range(1, KEPT + 1)))
        run = self.launch(CryoLearnProtElasticAlign, inputParticles=self.subset, inputModes=self.modes, modeNumbers=MODES, start=1)
        particles = run.outputParticles
        self.assertEqual(sorted(setColumns(particles)), self.kept)
        pose, _, _ = compareWithTruth(particles, self.truth)
        self.assertLessEqual(np.median(list(pose.values())), 6)
        # back to STAR by scipion-em-relion: the poses that the engine wrote
        theirs = self.proj.getTmpPath('theirs.star')
        relion31.Writer().writeSetOfParticles(particles, theirs)
        ours = dict(StarParticles(run._getExtraPath('particles.star')))
        for objId, row in StarParticles(theirs):
            for label in ('rlnAngleRot', 'rlnAngleTilt', 'rlnAnglePsi', 'rlnOriginXAngst', 'rlnOriginYAngst', 'rlnDefocusU', 'rlnDefocusV',
                          'rlnDefocusAngle'):
                difference = getattr(row, label) - getattr(ours[objId], label)
                self.assertLess(abs((difference + 180) % 360 - 180) if 'Ang' in label and 'Origin' not in label else abs(difference), 1e-3,
                                '%s of particle %d' % (label, objId))
        again = SetOfParticles(filename=self.proj.getTmpPath('again.sqlite'))
        relion31.Reader().readSetOfParticles(theirs, again, alignType=ALIGN_PROJ)
        self.assertEqual(sorted(item.getObjId() for item in again), self.kept)

    def testSubsetIsReconstructed(self):
        run = self.launch(CryoLearnProtReconstruct, inputSet=self.subset)
        self.assertEqual(run.outputVolume.getDim(), (BOX, BOX, BOX))
        self.assertTrue(run.outputVolume.hasHalfMaps())
