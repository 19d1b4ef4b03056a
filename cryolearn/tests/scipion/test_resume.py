"""Killed runs that continue, changed parameters, deleted files: what is done again and what is not."""

import glob
import os

import numpy as np

from cryolearn.common.tables import read_table
from cryolearn.protocols import CryoLearnProtClusterLandscape, CryoLearnProtElasticAlign, CryoLearnProtElasticTrain

from .base import MODES
from .killing import KillingTest

IMAGES = 10


class TestResume(KillingTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.modes = cls.makeModes()
        cls.simulation = cls.simulate(cls.modes, IMAGES)
        cls.particles = cls.simulation.outputParticles

    # --------------------------------------------------- killed ----------------------------------------------------
    def testKilledAlignmentContinues(self):
        values = dict(inputParticles=self.particles, inputModes=self.modes, modeNumbers=MODES, views=100, conformers=2, chunk=2, numberOfThreads=1)
        whole = self.launch(CryoLearnProtElasticAlign, **values)
        broken = self.newProtocol(CryoLearnProtElasticAlign, **values)

        def chunks():
            found = [os.path.join(folder, name) for folder, _, names in os.walk(broken._getExtraPath()) for name in names
                     if name.endswith('.npz') and not name.startswith('input')]
            return len(found) >= 3 and not os.path.exists(broken._getExtraPath('alignment.npz'))
        self.killWhen(broken, chunks)
        self.resume(broken)
        self.assertIn('goes on after', self.log(broken))
        expected, meta = read_table(whole._getExtraPath('alignment.npz'))
        found, metaFound = read_table(broken._getExtraPath('alignment.npz'))
        self.assertEqual(meta, metaFound)
        for name, column in expected.items():
            np.testing.assert_array_equal(found[name], column, err_msg=name)
        self.assertSetSize(broken.outputParticles, IMAGES)

    def testKilledTrainingContinues(self):
        values = dict(inputParticles=self.particles, inputModes=self.modes, modeNumbers=MODES, labels=2, width=16, epochs=6, imagesPerEpoch=128,
                      batch=16, checkpointSteps=8)
        whole = self.launch(CryoLearnProtElasticTrain, **values)
        broken = self.newProtocol(CryoLearnProtElasticTrain, **values)

        def checkpoint():
            return bool(glob.glob(broken._getExtraPath('records', 'training', '*', 'step_*.ckpt')))
        self.killWhen(broken, checkpoint)
        self.assertFalse(os.path.exists(broken._getExtraPath('model', 'weights.safetensors')))
        self.resume(broken)
        weights = []
        for run in (whole, broken):
            with open(run.outputModel.getFileName().replace('model.json', 'weights.safetensors'), 'rb') as handle:
                weights.append(handle.read())
        self.assertEqual(weights[0], weights[1])

    # --------------------------------------------------- changed ---------------------------------------------------
    def testChangedParameterAndDeletedFile(self):
        """A changed parameter runs its step and the output again, not the conversion; a deleted file its own step only."""
        run = self.launch(CryoLearnProtClusterLandscape, inputParticles=self.particles, clusters=2)
        converted = os.stat(run.getTableFile()).st_mtime_ns
        clustered = os.stat(run._getExtraPath('clusters.npz')).st_mtime_ns
        self.resume(run)
        self.assertEqual(os.stat(run._getExtraPath('clusters.npz')).st_mtime_ns, clustered)
        run.clusters.set(3)
        self.resume(run)
        self.assertEqual(os.stat(run.getTableFile()).st_mtime_ns, converted)
        self.assertSetSize(run.outputClasses, 3)
        clustered = os.stat(run._getExtraPath('clusters.npz')).st_mtime_ns
        os.remove(run.getTableFile())
        self.resume(run)
        self.assertTrue(os.path.exists(run.getTableFile()))
        self.assertEqual(os.stat(run._getExtraPath('clusters.npz')).st_mtime_ns, clustered)
        self.assertSetSize(run.outputClasses, 3)
