"""Runs submitted to SLURM through Scipion's queue, with the example hosts.conf as it is shipped.

A SLURM of one node is started for the purpose. A run that is killed in the queue and continued, and one whose work is
shared by srun's processes, give what an unbroken run of one process gives.
"""

import csv
import os
import time
import unittest
from unittest import mock

import numpy as np
import pyworkflow as pw

os.environ.setdefault('SCIPION_DOMAIN', 'pwem')
if pw.Config.SCIPION_DOMAIN != 'pwem':
    pw.Config.setDomain('pwem')

from pyworkflow.protocol import MODE_RESUME, HostConfig

import cryolearn
from cryolearn.common.tables import read_table
from cryolearn.protocols import CryoLearnProtElasticAlign, CryoLearnProtElasticTrain
from cryolearn.tests.slurm_cluster import SlurmCluster, whyNot

from .base import MODES, ProjectTest
from cryolearn.tests.waiting import waitUntil

HOSTS = os.path.join(os.path.dirname(cryolearn.__file__), 'templates', 'hosts.slurm.conf')
IMAGES = 24


@unittest.skipIf(whyNot(), whyNot())
class TestSlurm(ProjectTest):

    @classmethod
    def setUpClass(cls):
        queues = HostConfig.load(HOSTS)['localhost'].getQueueSystem().getQueues()
        cls.cluster = SlurmCluster(list(queues))
        cls.cluster.__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)
        # in the environment for the jobs, in Config for this process
        for patch in (mock.patch.dict(os.environ, SCIPION_HOSTS=HOSTS), mock.patch.object(pw.Config, 'SCIPION_HOSTS', HOSTS)):
            patch.start()
            cls.addClassCleanup(patch.stop)
        super().setUpClass()
        cls.modes = cls.makeModes()
        cls.particles = cls.simulate(cls.modes, IMAGES).outputParticles

    # --------------------------------------------------- runs ---------------------------------------------------
    def alignment(self, **values):
        return self.newProtocol(CryoLearnProtElasticAlign, inputParticles=self.particles, inputModes=self.modes, modeNumbers='7 8',
                                views=100, conformers=2, chunk=4, numberOfThreads=1, **values)

    def training(self, **values):
        return self.newProtocol(CryoLearnProtElasticTrain, inputParticles=self.particles, inputModes=self.modes, modeNumbers=MODES,
                                labels=0, width=16, epochs=8, imagesPerEpoch=128, batch=32, numberOfThreads=1, **values)

    def submit(self, protocol, resume=False, queue='cpu', **options):
        """Send a run to the queue; returns its job's number."""
        protocol._useQueue.set(True)
        protocol.setQueueParams([queue, dict(dict(JOB_TIME='12:00:00', JOB_MEMORY='1G', NODES='1', QUEUE_FOR_JOBS='N'), **options)])
        if resume:
            protocol.runMode.set(MODE_RESUME)
        self.assertEqual([], protocol.validate())
        self.proj.launchProtocol(protocol)
        return protocol.getJobIds()[0] if len(protocol.getJobIds()) else None

    def waitFor(self, protocol, until=None):
        """Wait until a run has ended (or ``until`` holds), as Scipion's window does.

        Scipion reads a run's state first and asks the queue then, so that a job which ends in between counts as lost, and it may take a state for the newest
        that was written while it read. Here the state is read again once the job has gone, before the queue is asked.
        """
        seenGone = set()

        def askQueue(run):
            jobs = frozenset(map(str, run.getJobIds()))
            if jobs & set(self.cluster.jobs()):
                return True
            if jobs in seenGone:
                return ask(run)
            seenGone.add(jobs)
            run.lastUpdateTimeStamp.set(None)
            return True

        def ended():
            self.proj._updateProtocol(protocol)
            return not protocol.isActive() or (until and until())
        ask = self.proj.checkJobId
        with mock.patch.object(self.proj, 'checkJobId', askQueue):
            waitUntil(ended, pause=0.1)

    def assertFinished(self, protocol):
        self.assertTrue(protocol.isFinished(), '%s\n%s\n%s' % (
            protocol.getErrorMessage(), '\n'.join(protocol.getLogsLastLines(30)), self.cluster.logs()))

    def breakAndContinue(self, protocol, breakIt, record):
        """Break a run's job off once the file ``record()`` is there, then use Scipion's Continue."""
        job = self.submit(protocol)
        self.waitFor(protocol, until=record)
        self.assertTrue(protocol.isActive(), 'over before it could be broken off: %s' % protocol.getErrorMessage())
        self.assertIn(str(job), self.cluster.jobs())
        breakIt(protocol)
        self.waitFor(protocol)
        self.assertFalse(protocol.isFinished())
        self.assertFalse(list(protocol.iterOutputAttributes()))
        while self.cluster.jobs():
            time.sleep(0.1)
        self.submit(protocol, resume=True)
        self.waitFor(protocol)
        self.assertFinished(protocol)

    def kill(self, protocol):
        """kill -9 to all processes of the job; Scipion finds out by itself."""
        job = protocol.getJobIds()[0]
        self.cluster.kill(job)
        self.waitFor(protocol)
        self.assertTrue(protocol.isFailed())
        self.assertIn(str(job), protocol.getErrorMessage())

    def logOf(self, protocol):
        with open(protocol.getStdoutLog()) as handle:
            return handle.read()

    # --------------------------------------------------- tests --------------------------------------------------
    def testAlignment(self):
        here = self.alignment()
        self.launchProtocol(here)
        whole = read_table(here._getExtraPath('alignment.npz'))[0]

        shared = self.alignment(numberOfMpi=2)
        self.submit(shared)
        self.waitFor(shared)
        self.assertFinished(shared)
        with open(shared._getLogsPath('%s.queue.out' % shared.strId())) as handle:
            self.assertIn('Job %s on node1' % shared.getJobIds()[0], handle.read())
        self.assertSame(whole, shared)

        stopped = self.alignment()  # by the Stop button, which uses CANCEL_COMMAND
        self.breakAndContinue(stopped, self.proj.stopProtocol, lambda: _found(stopped._getExtraPath('records'), 'chunk_'))
        self.assertIn('elastic alignment: goes on after', self.logOf(stopped))
        self.assertSame(whole, stopped)
        self.assertEqual([item.getObjId() for item in here.outputParticles], [item.getObjId() for item in stopped.outputParticles])

    def testTraining(self):
        whole = self.training()
        self.launchProtocol(whole)
        killed = self.training()  # 32 steps, of which 16 are done when it is killed
        self.breakAndContinue(killed, self.kill, lambda: _found(killed._getExtraPath('records'), 'step_00000016'))
        self.assertIn('training: goes on after', self.logOf(killed))
        for name in ('weights.safetensors', 'model.json'):
            with open(whole._getExtraPath('model', name), 'rb') as first, open(killed._getExtraPath('model', name), 'rb') as second:
                self.assertEqual(first.read(), second.read(), name)
        self.assertEqual(self.curve(whole), self.curve(killed))
        model, other = whole.outputModel, killed.outputModel
        self.assertEqual((model.getBox(), model.getModeNumbers()), (other.getBox(), other.getModeNumbers()))

    @staticmethod
    def curve(protocol):
        """The learning curve but for its seconds."""
        with open(protocol._getExtraPath('learning.csv')) as handle:
            return [{name: value for name, value in row.items() if name != 'seconds'} for row in csv.DictReader(handle)]

    def testEachStepAJob(self):
        """Scipion stays outside and submits the computation only."""
        run = self.alignment()
        self.assertIsNone(self.submit(run, QUEUE_FOR_JOBS='Y'))
        self.waitFor(run)
        self.assertFinished(run)
        jobs = [name for name in os.listdir(run._getLogsPath()) if name.endswith('.queue.out')]
        self.assertEqual(1, len(jobs))
        with open(run._getLogsPath(jobs[0])) as handle:
            self.assertIn('elastic alignment: %d/%d' % (IMAGES, IMAGES), handle.read())
        self.assertSetSize(run.outputParticles, IMAGES)

    def testARefusedSubmissionIsAnError(self):
        run = self.alignment()
        self.submit(run, queue='nowhere')
        self.assertTrue(run.isFailed())
        self.assertIn('problem submitting', run.getErrorMessage())

    def assertSame(self, columns, protocol):
        found = read_table(protocol._getExtraPath('alignment.npz'))[0]
        self.assertEqual(set(columns), set(found))
        for name in columns:
            np.testing.assert_array_equal(columns[name], found[name], name)
        self.assertSetSize(protocol.outputParticles, IMAGES)


def _found(folder, prefix):
    return any(name.startswith(prefix) for _, _, names in os.walk(folder) for name in names)
