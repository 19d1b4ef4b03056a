"""What the tests of continuing share: a run's engine that is killed in the middle."""

import signal

import psutil

from ..waiting import waitUntil
from .base import ProjectTest

from pyworkflow.protocol import MODE_RESUME  # noqa: E402


class KillingTest(ProjectTest):
    """A test class with a project whose runs are killed and continued."""

    def engineOf(self, protocol):
        """The engine's process of a run."""
        for process in psutil.process_iter(['cmdline']):
            words = process.info['cmdline'] or []
            if 'cryolearn.engine' in words and any(protocol.getWorkingDir() in word for word in words):
                return process
        return None

    def killWhen(self, protocol, ready):
        """Start a run, kill -9 its engine as soon as ``ready()``; the run must say so and not be finished."""
        self.assertEqual(protocol.validate(), [])
        self.proj.launchProtocol(protocol, wait=False)
        waitUntil(ready, alive=lambda: self.loaded(protocol).isActive())
        self.engineOf(protocol).send_signal(signal.SIGKILL)
        waitUntil(lambda: self.loaded(protocol).isFailed(), pause=0.5)
        self.assertIn('killed', self.loaded(protocol).getErrorMessage())

    def loaded(self, protocol):
        self.proj._updateProtocol(protocol)
        return protocol

    def resume(self, protocol):
        protocol.runMode.set(MODE_RESUME)
        self.launchProtocol(protocol)
        self.assertTrue(protocol.isFinished())

    @staticmethod
    def log(protocol):
        with open(protocol._getLogsPath('run.stdout')) as handle:
            return handle.read()
