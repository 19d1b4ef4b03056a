"""Orientations between files, sets and plots: names that two sets share, viewing directions, cells, curves; without any run."""

import os
import tempfile
import time
import unittest

import mrcfile
import numpy as np
import pyworkflow as pw

pw.Config.setDomain('pwem')

from matplotlib.figure import Figure  # noqa: E402
from pwem.objects import Acquisition, Particle, SetOfParticles, Transform  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from cryolearn.common.figures.bars import draw_errors
from cryolearn.common.figures.orientations import distance_curve, draw_distances, draw_sphere, sphere_cells, viewing_directions
from cryolearn.convert import orientations  # noqa: E402
from cryolearn.convert.poses import posesFromTransforms, rotationFromAngles  # noqa: E402
from cryolearn.convert.star_particles import StarParticles  # noqa: E402
from cryolearn.common.tables import write_table  # noqa: E402

PIXEL = 2.


def makeStack(path):
    """A stack of ten empty images; returns its path."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.zeros((10, 8, 8), np.float32))
        mrc.set_image_stack()
    return path


class InFolder(unittest.TestCase):
    """Tests in an empty folder, as if it were a project."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)

    def makeSet(self, name, stack, ids, aligned=True):
        particles = SetOfParticles(filename=name)
        particles.setSamplingRate(PIXEL)
        particles.setAcquisition(Acquisition(voltage=300, sphericalAberration=2.7, amplitudeContrast=0.1, magnification=10000))
        if aligned:
            particles.setAlignmentProj()
        for objId in ids:
            particle = Particle()
            particle.setObjId(objId)
            particle.setLocation(objId, stack)
            particle.setTransform(Transform())
            particles.append(particle)
        particles.write()
        return particles


class TestSets(InFolder):

    def testLinksToOneFileAreOneName(self):
        """Two imports of the same files: links in two folders."""
        os.makedirs('data')
        os.makedirs('one')
        os.makedirs('two')
        makeStack('data/stack.mrcs')
        makeStack('data/other.mrcs')
        os.symlink(os.path.abspath('data/stack.mrcs'), 'one/a.mrcs')
        os.symlink(os.path.abspath('data/stack.mrcs'), 'two/b.mrcs')
        first, second = self.makeSet('1.sqlite', 'one/a.mrcs', [1, 2, 3]), self.makeSet('2.sqlite', 'two/b.mrcs', [3, 5])
        other = self.makeSet('3.sqlite', 'data/other.mrcs', [1])
        self.assertTrue(orientations.shareFiles(first, second))
        self.assertFalse(orientations.shareFiles(first, other))
        names = [[row.rlnImageName for _, row in StarParticles(path)] for path in orientations.writeBoth(first, second, '.')]
        self.assertEqual(names, [['%06d@data/stack.mrcs' % number for number in numbers] for numbers in ([1, 2, 3], [3, 5])])

    def testDifferentFilesOfOneNameStayApart(self):
        """Stacks whose path has a space get a link; two of them get two."""
        for folder in ('a b', 'c d'):
            os.makedirs(folder)
            makeStack(os.path.join(folder, 'stack.mrcs'))
        first, second = self.makeSet('1.sqlite', 'a b/stack.mrcs', [1]), self.makeSet('2.sqlite', 'c d/stack.mrcs', [1])
        names = [next(row.rlnImageName for _, row in StarParticles(path)) for path in orientations.writeBoth(first, second, '.')]
        self.assertNotEqual(*names)
        self.assertFalse(orientations.shareFiles(first, second))

    def testRecoveredPosesAreJoinedById(self):
        ids = [9, 2, 5]
        particles, output = self.makeSet('1.sqlite', makeStack('x.mrcs'), sorted(ids), aligned=False), SetOfParticles(filename='2.sqlite')
        rotations = Rotation.random(3, random_state=0).as_matrix()
        shifts = np.array([[9., -9], [2, -2], [5, -5]])
        write_table('orientations.npz', dict(id=np.array(ids), rotation=rotations, shift_angst=shifts, confidence=np.array([.9, .2, .5]),
                                            residual_rad=np.radians([9., 2, 5]), half=np.array([1, 2, 1])))
        orientations.appendRecovered(particles, output, 'orientations.npz')
        self.assertTrue(output.hasAlignmentProj())
        self.assertEqual(output.getSamplingRate(), PIXEL)
        for item in output.iterItems():
            row = ids.index(item.getObjId())
            rotation, shift = posesFromTransforms(item.getTransform().getMatrix(), PIXEL)
            np.testing.assert_allclose(rotation, rotations[row], atol=1e-6)
            np.testing.assert_allclose(shift[:2], shifts[row], atol=1e-6)
            self.assertAlmostEqual(item.getAttributeValue('_orientationResidualDeg'), item.getObjId(), places=4)
            self.assertAlmostEqual(item.getAttributeValue('_orientationConfidence'), item.getObjId() / 10)
            self.assertEqual(item.getAttributeValue('_rlnRandomSubset'), [1, 2, 1][row])
        missing = SetOfParticles(filename='3.sqlite')
        with self.assertRaisesRegex(ValueError, 'Particle 1 of the input has no row'):
            orientations.appendRecovered(self.makeSet('4.sqlite', makeStack('x.mrcs'), [1, 2]), missing, 'orientations.npz')

    def testParticlesThatTheReferenceLacksHaveNoError(self):
        particles, output = self.makeSet('1.sqlite', makeStack('x.mrcs'), [1, 2]), SetOfParticles(filename='2.sqlite')
        rotations = np.stack([np.eye(3)] * 2)
        columns = dict(id=np.array([1, 2]), rotation=rotations, shift_angst=np.zeros((2, 2)), error_rad=np.array([np.pi / 6, np.nan]))
        write_table('errors.npz', columns)
        orientations.appendCompared(particles, output, 'errors.npz')
        output.write()
        errors = [item.getAttributeValue('_orientationErrorDeg') for item in SetOfParticles(filename='2.sqlite').iterItems()]
        self.assertAlmostEqual(errors[0], 30, places=4)
        self.assertIsNone(errors[1])


class TestDrawing(unittest.TestCase):

    def testViewingDirectionsAreThoseOfTheAngles(self):
        """RELION's rot and tilt are longitude and colatitude of the view's axis; psi and mirror images leave it alone."""
        rot, tilt = np.array([30., -120, 179]), np.array([20., 90, 140])
        for psi in (0., 77):
            longitude, latitude = viewing_directions(rotationFromAngles(np.stack([rot, tilt, np.full(3, psi)], axis=1)))
            np.testing.assert_allclose(np.degrees(longitude), rot, atol=1e-6)
            np.testing.assert_allclose(np.degrees(latitude), 90 - tilt, atol=1e-6)

    def testCellsOfTheSphereHaveOneSizeAndLoseNobody(self):
        longitude, latitude = viewing_directions(Rotation.random(20000, random_state=0).as_matrix())
        rings, counts = sphere_cells(longitude, latitude)
        self.assertEqual(sum(int(ring.sum()) for ring in counts), 20000)
        areas = [2 * np.pi * (np.sin(north) - np.sin(south)) / len(ring) for (south, north), ring in zip(rings, counts)]
        inner = np.array(areas[1:-1])  # a cap has at least three cells
        self.assertLess(inner.max() / inner.min(), 1.3)
        _, means = sphere_cells(longitude, latitude, np.full(20000, 7.))
        self.assertTrue(all(np.allclose(ring.compressed(), 7) for ring in means))
        one = sphere_cells(np.array([0.1]), np.array([-1.5]))[1]
        self.assertEqual([int(ring.sum()) for ring in one if ring.count()], [1])

    def testCurveOfDistancesShowsAPlateau(self):
        known = np.linspace(0, 180, 5001)
        centres, low, middle, high = distance_curve(known, np.minimum(known, 150))
        np.testing.assert_allclose(middle, np.minimum(centres, 150), atol=0.1)
        self.assertTrue((low <= middle).all() and (middle <= high).all())
        self.assertTrue((low[centres > 155] == 150).all())

    def testNumbersInThePlots(self):
        figure = Figure()
        draw_errors(figure.subplots(), np.array([1.] * 90 + [11.] * 10), 'physical error', 'degrees')
        texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        self.assertEqual(texts, ['median 1.00° (0.0175 rad)', 'mean 2.00° (0.0349 rad)', '95th percentile 11.00° (0.1920 rad)'])
        figure = Figure()
        draw_distances(figure.subplots(), np.array([10., 20, 90]), np.array([12., 20, 90]), np.array([1., 0, 0]))
        self.assertIn('mean absolute error 2.0° (0.035 rad)', figure.axes[0].get_title())

    def testAMillionParticlesAreQuick(self):
        rng = np.random.RandomState(0)
        longitude, latitude, errors = rng.uniform(-np.pi, np.pi, 1000000), np.arcsin(rng.uniform(-1, 1, 1000000)), rng.gamma(2, 2, 1000000)
        start = time.process_time()
        for draw in (lambda figure: draw_sphere(figure, longitude, latitude, errors, 'error (degrees)'),
                     lambda figure: draw_errors(figure.subplots(), errors, unit='degrees'),
                     lambda figure: draw_distances(figure.subplots(), errors, errors + 1)):
            figure = Figure()
            draw(figure)
            figure.canvas.draw()
        self.assertLess(time.process_time() - start, 15)
