"""A SLURM of its own for a test: Debian's ``slurm-wlm`` and ``munge`` on this machine, configured in a temporary folder."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from unittest import mock

from cryolearn.tests.waiting import waitUntil

DAEMONS = ('munged', 'slurmctld', 'slurmd')
CLIENTS = ('sbatch', 'srun', 'squeue', 'scancel', 'sinfo')
SYSTEM_PATH = os.pathsep.join(('/usr/sbin', '/usr/local/sbin', '/sbin'))

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd_%n.log
FirstJobId={firstJob}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=2
MailProg=/bin/true
"""


def whyNot():
    """Why no SLURM can be started here; '' when one can."""
    missing = [name for name in DAEMONS + CLIENTS if _program(name) is None]
    if missing:
        return 'SLURM is not installed here (no %s): apt-get install slurm-wlm munge' % missing[0]
    return '' if os.getuid() == 0 else "SLURM's daemons need root here"


def _program(name):
    return shutil.which(name) or shutil.which(name, path=SYSTEM_PATH)


class SlurmCluster:
    """Nodes of SLURM on this machine, each with a daemon of its own.

    ``with SlurmCluster(['gpu', 'cpu']):`` starts them, sets SLURM_CONF for this process and its children, and stops
    everything at the end.
    """

    def __init__(self, partitions, nodes=1, cpus=4):
        self.partitions, self.nodes, self.cpus = partitions, nodes, cpus
        self._daemons = []
        self._environment = None

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix='slurm')  # /tmp keeps munge's socket name short enough
        os.chmod(self.folder, 0o755)  # munge's clients must reach its socket
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        self._startMunge()
        names = ['node%d' % (index + 1) for index in range(self.nodes)]
        host = socket.gethostname().split('.')[0]
        ports = _freePorts(self.nodes + 1)
        lines = [CONFIGURATION.format(host=host, folder=self.folder, port=ports[0], firstJob=ports[0])]
        for name, port in zip(names, ports[1:]):
            lines.append('NodeName=%s NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=%d RealMemory=65536'
                         % (name, host, port, self.cpus))
        for partition in self.partitions:
            lines.append('PartitionName=%s Nodes=ALL MaxTime=INFINITE State=UP Default=%s'
                         % (partition, 'YES' if partition == self.partitions[0] else 'NO'))
        os.makedirs(os.path.join(self.folder, 'state'))
        path = os.path.join(self.folder, 'slurm.conf')
        with open(path, 'w') as handle:
            handle.write('\n'.join(lines) + '\n')
        self._environment = mock.patch.dict(os.environ, SLURM_CONF=path)
        self._environment.start()
        self._daemon('slurmctld', '-D')
        for name in names:
            self._daemon('slurmd', '-D', '-N', name)
        self._wait(lambda: self._output('sinfo', '--noheader', '--format=%D %t', '--partition=' + self.partitions[0]).strip()
                   == '%d idle' % self.nodes, 'SLURM')

    def _startMunge(self):
        key = os.path.join(self.folder, 'munge.key')
        with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), 'wb') as handle:
            handle.write(os.urandom(128))
        munge = os.path.join(self.folder, 'munge.')
        self._daemon('munged', '--foreground', '--socket=%ssocket' % munge, '--key-file=' + key,
                     '--pid-file=%spid' % munge, '--seed-file=%sseed' % munge)
        self._wait(lambda: os.path.exists(munge + 'socket'), 'munge')

    def _daemon(self, name, *options):
        with open(os.path.join(self.folder, 'daemons.log'), 'a') as log:
            self._daemons.append(subprocess.Popen([_program(name), *options], stdout=log, stderr=log, start_new_session=True,
                                                  preexec_fn=_endWithParent))

    def _wait(self, ready, what):
        try:
            waitUntil(ready, alive=lambda: all(daemon.poll() is None for daemon in self._daemons), pause=0.1)
        except AssertionError as error:
            raise RuntimeError('%s did not start:\n%s' % (what, self.logs())) from error

    @staticmethod
    def _output(*command):
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True).stdout

    def logs(self):
        """What the daemons said."""
        text = []
        for name in sorted(os.listdir(self.folder)):
            if name.endswith('.log'):
                with open(os.path.join(self.folder, name), errors='replace') as handle:
                    text.append('%s:\n%s' % (name, handle.read()[-2000:]))
        return '\n'.join(text)

    def jobs(self):
        """Ids of the jobs that wait or run."""
        return self._output('squeue', '--noheader', '--format=%i').split()

    def kill(self, jobId):
        """``kill -9`` to every process of a job, the batch script's among them."""
        subprocess.run(['scancel', '--full', '--signal=KILL', str(jobId)], check=True)

    def __exit__(self, *_):
        if self._environment is not None:  # before that, SLURM's commands would speak to another cluster
            self._cancelAll()
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            if daemon.poll() is None:
                daemon.kill()
                daemon.wait()
        if self._environment is not None:
            self._environment.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _cancelAll(self):
        for jobId in self.jobs():
            self.kill(jobId)
        deadline = time.monotonic() + 10
        while self.jobs() and time.monotonic() < deadline:
            time.sleep(0.1)


def _endWithParent():
    """Have the kernel end this daemon when the test's process dies, even by kill -9."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _freePorts(number):
    sockets = [socket.socket() for _ in range(number)]
    for item in sockets:
        item.bind(('127.0.0.1', 0))
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports
