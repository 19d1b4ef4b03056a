"""Particles that this package did not make, through Scipion's own import, with RELION as the referee of every set.

ProDy deforms 4AKE, gemmi makes the density, relion_project projects with shifts and astigmatic CTF, white noise.
The STAR comes in by Scipion's import protocol (scipion-em-relion); the sets go out by scipion-em-relion.
"""

import os
import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from pwem.protocols import ProtImportParticles

from cryolearn.convert.modes import engineModes
from cryolearn.protocols import CryoLearnProtElasticAlign, CryoLearnProtReconstruct

from .base import ATOMS, MODES, ProjectTest, setColumns

relion31 = pytest.importorskip('relion.convert.convert31')
NEEDED = [program for program in ('relion_project', 'relion_reconstruct') if shutil.which(program) is None]
IMAGES, BOX, PIXEL = 100, 64, 4.0
SNR = 0.4  # of images of 2 Å pixels and SNR 0.1, binned by two
BENCHMARKS = Path(__file__).resolve().parents[3] / 'benchmarks'


@pytest.mark.relion
@pytest.mark.slow
@pytest.mark.skipif(not BENCHMARKS.exists(), reason='benchmarks are not part of the wheel')
@pytest.mark.skipif(bool(NEEDED), reason='not installed: %s (apt-get install relion)' % ', '.join(NEEDED))
class TestForeignParticles(ProjectTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(BENCHMARKS))
            from _foreign_particles import make_particles
        cls.modes = cls.makeModes()
        with np.load(engineModes(cls.modes)) as data:
            vectors = data['eigenvectors'][6:9]
        folder = cls.proj.getPath('foreign')
        cls.truth = make_particles(folder, cls.modes.getPdb().getFileName(), vectors, IMAGES, 200.0, box=BOX, pixel_size_angst=PIXEL, snr=SNR,
                                   mean_map=True)
        cls.imported = cls.launch(
            ProtImportParticles, importFrom=ProtImportParticles.IMPORT_FROM_RELION, starFile=os.path.join(folder, 'particles.star'),
            voltage=300, sphericalAberration=2.7, amplitudeContrast=0.1, samplingRate=PIXEL, haveDataBeenPhaseFlipped=False).outputParticles
        cls.aligned = cls.launch(CryoLearnProtElasticAlign, inputParticles=cls.imported, inputModes=cls.modes, modeNumbers=MODES)

    def testAlignmentIsSolvedBlindly(self):
        """At least 95 % are solved (docs/elastic.rst), over all images: pose within 6 degrees, the Crowther angle d / D of 75 Å at the 8 Å that the search
        resolves; conformer within 0.6 Å, twice the mean error of HEMNMA's own alignment in the paper (0.28 Å: Hamitouche & Jonic 2021, Table II)."""
        from scipy.spatial.transform import Rotation
        found = setColumns(self.aligned.outputParticles)
        self.assertEqual(sorted(found), list(range(1, IMAGES + 1)))
        solved = 0
        for row, objId in enumerate(self.truth['id']):
            amplitudes, rotation, shift = found[int(objId)]
            rot, tilt, psi, x, y = self.truth['poses'][row]
            true = Rotation.from_euler('ZYZ', [rot, tilt, psi], degrees=True).as_matrix().T
            angle = np.degrees(Rotation.from_matrix(rotation @ true.T).magnitude())
            rmsd = np.linalg.norm(amplitudes - self.truth['amplitudes'][row]) / np.sqrt(ATOMS)
            solved += angle <= 6 and rmsd <= 0.6
            if angle <= 6:
                self.assertLess(np.abs(np.array([-x, -y]) - shift).max(), 2 * PIXEL)
        self.assertGreaterEqual(solved, 0.95 * IMAGES)

    def testRelionReconstructsOurSets(self):
        """relion_reconstruct on the STAR that scipion-em-relion writes of each set agrees with our own map of it."""
        truth = readMap(self.proj.getPath('foreign', 'mean.mrc'))
        for name, particles in (('imported', self.imported), ('aligned', self.aligned.outputParticles)):
            ours = self.launch(CryoLearnProtReconstruct, inputSet=particles)
            folder = self.proj.getPath('referee_%s' % name)
            os.makedirs(folder)
            star, volume = os.path.join(folder, 'particles.star'), os.path.join(folder, 'relion.mrc')
            relion31.Writer(outputDir=folder, useBaseName=False).writeSetOfParticles(particles, star)
            subprocess.run(['relion_reconstruct', '--i', star, '--o', volume, '--ctf', '--angpix', str(PIXEL)], check=True,
                           capture_output=True)
            one, other = (curve(readMap(path), truth) for path in (ours.outputVolume.getFileName(), volume))
            # n random slices miss exp(-n / 2 k) of the points of shell k: less than 1 % up to k = n / 10
            sampled = range(1, IMAGES // 10 + 1)
            self.assertLess(max(abs(one[shell] - other[shell]) for shell in sampled), 0.02)
            mutual = curve(readMap(ours.outputVolume.getFileName()), readMap(volume))
            self.assertGreater(min(mutual[shell] for shell in sampled), 0.95)
            # beyond, points that no slice or only noise reaches are weighted differently: ours is no worse to Nyquist / 1.2
            for shell in range(1, int(BOX / 2 / 1.2) + 1):
                if other[shell] > 0.143:
                    self.assertGreater(one[shell], other[shell] - 0.02)


def readMap(path):
    with mrcfile.open(path, permissive=True) as mrc:
        return np.array(mrc.data, dtype=float)


def curve(first, second):
    """Fourier shell correlation by numpy alone, inside a soft-less sphere."""
    n = len(first)
    grid = np.indices(first.shape) - n // 2
    inside = np.sqrt((grid ** 2).sum(axis=0)) < 0.45 * n
    a, b = (np.fft.rfftn(item * inside) for item in (first, second))
    line, half = np.fft.fftfreq(n) * n, np.fft.rfftfreq(n) * n
    shell = np.sqrt(line[:, None, None] ** 2 + line[None, :, None] ** 2 + half ** 2).round().astype(int).ravel()
    weight = np.where((half == 0) | (half == n // 2), 1, 2) * np.ones_like(a, dtype=float)

    def total(values):
        return np.bincount(shell, (values * weight).ravel())[:n // 2 + 1]

    return total((a * b.conj()).real) / np.sqrt(total(abs(a) ** 2) * total(abs(b) ** 2))
