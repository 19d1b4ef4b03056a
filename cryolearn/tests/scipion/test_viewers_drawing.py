"""What the viewers compute before they draw, against geometry by hand."""

import os
import tempfile
import unittest

import numpy as np
import pyworkflow as pw

pw.Config.setDomain('pwem')

from matplotlib.figure import Figure  # noqa: E402

from cryolearn.common.figures.surface import turn
from cryolearn.common.figures.curves import draw_fsc, draw_learning  # noqa: E402
from cryolearn.common.figures.landscape import draw_density, draw_points  # noqa: E402
from cryolearn.common.figures.palette import MAX_POINTS  # noqa: E402
from cryolearn.common.tables import write_table  # noqa: E402
from cryolearn.viewers import plots, scene  # noqa: E402
from cryolearn.viewers.backbone import readModels  # noqa: E402
from cryolearn.viewers.landscape_data import Landscape, readLandscape  # noqa: E402
from cryolearn.viewers.viewer_maps import fscCurves  # noqa: E402


class TestSurface(unittest.TestCase):
    """A Gaussian blob's isosurface is a sphere."""

    def mesh(self, box, pixel, sigma, centre, origin=None):
        start = np.full(3, -(box // 2) * pixel) if origin is None else np.asarray(origin)
        axes = [start[axis] + pixel * np.arange(box) - centre[axis] for axis in range(3)]
        squared = axes[2][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[0][None, None] ** 2
        return scene.surfaceMesh(np.exp(-squared / (2 * sigma ** 2)), pixel, np.exp(-0.5), origin)

    def check(self, mesh, centre, radius, tolerance):
        corners, normals = mesh
        outward = corners - np.asarray(centre)
        distance = np.linalg.norm(outward, axis=2)
        self.assertLess(np.abs(distance - radius).max(), tolerance)
        middle = outward.mean(axis=1) / np.linalg.norm(outward.mean(axis=1), axis=1, keepdims=True)
        self.assertGreater((middle * normals).sum(axis=1).min(), 0.95)  # normals point out
        area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
        self.assertAlmostEqual(area / (4 * np.pi * radius ** 2), 1, delta=0.03)

    def testSphereOfASmallMap(self):
        self.check(self.mesh(40, 2., 16., (3., -5., 8.)), (3., -5., 8.), 16., 0.3)

    def testSphereOfABinnedMapWithAnOrigin(self):
        self.check(self.mesh(160, 1., 30., (90., 80., 60.), (10., 5., -15.)), (90., 80., 60.), 30., 0.5)

    def testLevelOutsideTheMapGivesNothing(self):
        self.assertIsNone(scene.surfaceMesh(np.zeros((8, 8, 8)), 1., 1.))

    def testTurnIsARotation(self):
        rotation = turn(np.eye(3), 30, -50)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        self.assertGreater(turn(np.eye(3), 10, 0).dot([0, 0, 1])[0], 0)  # dragged to the right, the front goes right
        self.assertGreater(turn(np.eye(3), 0, 10).dot([0, 0, 1])[1], 0)  # dragged up, the front goes up


class TestBackbone(unittest.TestCase):

    LINE = 'ATOM  %5d %4s ALA %s%4d    %8.3f%8.3f%8.3f  1.00  0.00           C\n'

    def write(self, folder, atoms, models=1):
        path = os.path.join(folder, 'x.pdb')
        with open(path, 'w') as handle:
            for model in range(models):
                handle.write('MODEL     %4d\n' % (model + 1))
                for number, (name, chain, x) in enumerate(atoms):
                    handle.write(self.LINE % (number + 1, name, chain, number, x + model, 0, 0))
                handle.write('ENDMDL\n')
        return path

    def testTraceOfTwoChainsAndModels(self):
        with tempfile.TemporaryDirectory() as folder:
            atoms = [(' N  ', 'A', 0), (' CA ', 'A', 1), (' CA ', 'A', 4.8), (' CA ', 'A', 20), (' CA ', 'B', 22)]
            models, backbone = readModels(self.write(folder, atoms, 2))
        self.assertEqual([5, 5], [len(model) for model in models])
        self.assertEqual([1, 2, 3, 4], backbone.rows.tolist())
        self.assertEqual([True, False, False], backbone.linked.tolist())  # a gap, then another chain
        self.assertEqual(2.0, models[1][1, 0])

    def testMmcifWithChainNamesOfSeveralLetters(self):
        """What the engine writes where PDB cannot hold the model: quoted names, chains AA0 and AB0, two models."""
        columns = ('group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_seq_id pdbx_PDB_ins_code Cartn_x Cartn_y Cartn_z '
                   'occupancy B_iso_or_equiv auth_seq_id auth_asym_id pdbx_PDB_model_num').split()
        atoms = [('CA', 'C', 'AA0'), ('CA', 'C', 'AA0'), ('"O5\'"', 'O', 'AA0'), ('CA', 'C', 'AB0'), ('CA', 'CA', 'AB0')]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'trajectory.cif')
            with open(path, 'w') as handle:
                handle.write('data_trajectory\nloop_\n%s\n' % '\n'.join('_atom_site.' + name for name in columns))
                for model in (1, 2):
                    for row, (name, element, chain) in enumerate(atoms, 1):
                        handle.write('ATOM %d %s %s . ALA %sx %d ? %.3f 0 %d 1 20 %d %s %d\n' % (
                            row, element, name, chain, row, 3.8 * row, model, row, chain, model))
                handle.write('\n')
            models, backbone = readModels(path)
        self.assertEqual([5, 5], [len(model) for model in models])
        self.assertEqual([0, 1, 3], backbone.rows.tolist())  # neither oxygen nor calcium
        self.assertEqual([True, False], backbone.linked.tolist())
        self.assertEqual(2.0, models[1][0, 2])

    def testPseudoAtomsAreAllShownAndNotJoined(self):
        with tempfile.TemporaryDirectory() as folder:
            path = self.write(folder, [(' CA ', 'A', 0), (' CA ', 'A', 3), (' CA ', 'A', 6)])
            with open(path) as handle:
                text = handle.read()
            with open(path, 'w') as handle:
                handle.write(text.replace('           C\n', '           X\n'))  # of no element
            _, backbone = readModels(path)
        self.assertEqual([0, 1, 2], backbone.rows.tolist())
        self.assertFalse(backbone.linked.any())


class TestLandscapeData(unittest.TestCase):

    def testTablesAreJoinedById(self):
        with tempfile.TemporaryDirectory() as folder:
            first, second = os.path.join(folder, 'a.npz'), os.path.join(folder, 'b.npz')
            write_table(first, {'id': np.array([5, 2, 9]), 'amplitudes': np.array([[50., 1], [20, 2], [90, 3]])}, {'mode_numbers': [7, 12]})
            write_table(second, {'id': np.array([9, 5, 2]), 'class': np.array([3, 1, 2]), 'reduced': np.array([[9., 0], [5, 1], [2, 2]])})
            landscape = readLandscape(first, second, os.path.join(folder, 'absent.npz'))
            self.assertEqual([1, 2, 3], landscape.columns['class'].tolist())
            self.assertEqual([5., 2., 9.], landscape.values('reduced axis 1').tolist())
            self.assertEqual([1., 2., 3.], landscape.values('amplitude of mode 12').tolist())
            self.assertEqual(second, landscape.tableWith(['class', 'reduced']))
            with self.assertRaisesRegex(ValueError, 'amplitudes and class are not in one table'):
                landscape.tableWith(['class', 'amplitudes'])

    def testAClickIsLiftedToTheMeanOfItsNeighbours(self):
        x, y = np.meshgrid(np.arange(40.), np.arange(40.))
        vectors = np.stack([x.ravel(), y.ravel(), 2 * x.ravel() + 3 * y.ravel()], axis=1)
        landscape = Landscape({'id': np.arange(1600), 'amplitudes': vectors}, {'mode_numbers': [7, 8, 9]})
        lifted = landscape.liftPoints('amplitude of mode 7', 'amplitude of mode 8', [(20.25, 10.5)])
        np.testing.assert_allclose(lifted[0, :2], [20.25, 10.5])
        self.assertAlmostEqual(2 * 20.25 + 3 * 10.5, lifted[0, 2], delta=2.5)  # half a step of the grid in each direction

    def testConstantColumnsAreNoAxes(self):
        landscape = Landscape({'id': np.arange(3), 'state': np.zeros(3), 'margin': np.arange(3.), 'rotation': np.zeros((3, 3, 3))}, {})
        self.assertEqual({'margin to the runner-up': 'margin'}, landscape.axes)


class TestPlots(unittest.TestCase):

    def testAMillionPointsAreQuick(self):
        import time
        x, y = np.random.RandomState(0).normal(size=(2, 1000000))
        figure = Figure()
        axes = figure.subplots()
        start = time.process_time()
        draw_density(axes, x, y)
        drawn = draw_points(figure, axes, x, y, x, 'x')
        figure.canvas.draw()
        self.assertLess(time.process_time() - start, 5)
        self.assertEqual(MAX_POINTS, len(drawn))

    def testResolutionsOfAllCurvesStandInTheLegend(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, crossing in (('class_001', 10), ('class_002', 20)):
                with open(os.path.join(folder, name + '_fsc.csv'), 'w') as handle:
                    handle.write('shell,frequency_inv_angst,resolution_angst,fsc,fsc_unmasked\n')
                    for shell in range(1, 33):
                        value = 1.0 if shell <= crossing else 0.0
                        handle.write('%d,%.8f,%.4f,%g,%g\n' % (shell, shell / 128., 128. / shell, value, 1.0))
            curves = fscCurves(folder, 0.143)
        self.assertEqual(['class 001', 'class 001, unmasked', 'class 002', 'class 002, unmasked'], [curve[0] for curve in curves])
        for curve, crossing in ((curves[0], 10), (curves[2], 20)):
            self.assertAlmostEqual(128. / (crossing + 0.857), curve[3], places=3)
        self.assertEqual(4.0, curves[1][3])  # never crosses: Nyquist
        figure = Figure()
        draw_fsc(figure, curves)
        texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        self.assertEqual('class 001: %.2f Å' % (128. / 10.857), texts[0])

    def testLearningCurvesReadGapsAndPanels(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'learning.csv')
            with open(path, 'w') as handle:
                handle.write('epoch,train_loss,validation_loss,learning_rate\n1,2.0,,0.001\n2,1.0,1.5,0.001\n')
            columns = plots.readColumns(path)
        self.assertTrue(np.isnan(columns['validation_loss'][0]))
        figure = Figure()
        draw_learning(figure, columns)
        self.assertEqual(['Loss', 'Learning rate'], [axes.get_ylabel() for axes in figure.axes])
