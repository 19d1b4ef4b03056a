"""Every viewer, opened on real runs under a virtual screen; numbers in what they do."""

import os

import numpy as np

from .base import PIXEL, setColumns
from .screen import drag, settle
from .windows import WindowTest

from pyworkflow.object import Pointer  # noqa: E402

import pyworkflow as pw  # noqa: E402
from cryolearn.common.tables import read_table  # noqa: E402
from cryolearn.protocols import (  # noqa: E402
    CryoLearnProtClusterLandscape,
    CryoLearnProtElasticTrain,
    CryoLearnProtReconstruct,
    CryoLearnProtSelectLandscape,
    CryoLearnProtTrajectory,
)
from cryolearn.viewers import (  # noqa: E402
    CryoLearnLandscapeViewer,
    CryoLearnLearningViewer,
    CryoLearnMapsViewer,
    CryoLearnModesViewer,
    CryoLearnParticlesFlexViewer,
    CryoLearnSetOfModesViewer,
    CryoLearnTrajectoryViewer,
)
from cryolearn.viewers.landscape_data import findModes, landscapeOfRun  # noqa: E402
from cryolearn.viewers.landscape_window import LASSO, PATH  # noqa: E402
from cryolearn.viewers.viewer_landscape import conformationsAlong  # noqa: E402

PARTICLES, CLASSES, FRAMES = 60, 2, 3


class TestViewers(WindowTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.modes = cls.makeModes()
        cls.simulation = cls.simulate(cls.modes, PARTICLES, snr=1.0)
        particles = cls.simulation.outputParticles
        cls.clusters = cls.launch(CryoLearnProtClusterLandscape, inputParticles=particles, inputModes=cls.modes, clusters=CLASSES)
        cls.trajectory = cls.launch(CryoLearnProtTrajectory, inputSet=particles, inputModes=cls.modes, frames=FRAMES)
        cls.maps = cls.launch(CryoLearnProtReconstruct, inputSet=cls.clusters.outputClasses)

    def testEveryLineOfEveryFormOpensAWindow(self):
        lines = {
            (CryoLearnLandscapeViewer, self.clusters): ['showLandscape', 'figureToShow'],
            (CryoLearnLandscapeViewer, self.simulation): ['showLandscape', 'figureToShow'],
            (CryoLearnTrajectoryViewer, self.trajectory): ['showConformations', 'showLandscape', 'figureToShow'],
            (CryoLearnMapsViewer, self.maps): ['showFsc', 'showSlices', 'showSurface', 'figureToShow'],
            (CryoLearnModesViewer, self.proj.getProtocol(self.modes.getObjParentId())): ['showModes', 'showCollectivity', 'figureToShow'],
        }
        for (viewerClass, run), params in lines.items():
            self.opensWindows(viewerClass, run, params)

    # ------------------------------------------------- landscape ----------------------------------------------
    def landscapeWindow(self, run=None):
        return self.window(self.viewer(CryoLearnLandscapeViewer, run or self.clusters), 'showLandscape')

    def testLassoMakesASubsetThatIsARun(self):
        window = self.landscapeWindow()
        window.xAxis.set('amplitude of mode 7')
        window.yAxis.set('amplitude of mode 8')
        window._newAxes()
        window.tool.set(LASSO)
        window._newTool()
        window.setOutline([(0, -1000), (1000, -1000), (1000, 1000), (0, 1000)])
        expected = {objId for objId, (amplitudes, _, _) in setColumns(self.simulation.outputParticles).items() if amplitudes[0] > 0}
        self.assertEqual(expected, set(window.insideOutline().tolist()))
        run = self.launchedBy(window.makeSubset)
        self.assertIsInstance(run, CryoLearnProtSelectLandscape)
        self.assertEqual(expected, run.outputParticles.getIdSet())
        self.assertIn(CryoLearnLandscapeViewer, pw.Config.getDomain().findViewers(run, 'tkinter'))

    def testMouseDrawsOutlineAndPath(self):
        window = self.landscapeWindow(self.simulation)
        window.tool.set(LASSO)
        window._newTool()
        window.canvas.draw()
        corners = [(-50., -50.), (120., -60.), (100., 90.), (-40., 110.)]
        for _ in range(2):  # a second outline replaces the first
            places = window.axes.transData.transform(corners)
            drag(window.canvas, places)
            window.canvas.draw()
        np.testing.assert_allclose(window.corners[:4], corners, atol=1e-6)
        self.assertIn('%d of %d' % (len(window.insideOutline()), PARTICLES), window.note.get())
        window.tool.set(PATH)
        window._newTool()
        window.canvas.draw()
        for place in window.axes.transData.transform([(0., 10.), (30., 40.)]):
            drag(window.canvas, [place])
        np.testing.assert_allclose(window.points, [(0., 10.), (30., 40.)], atol=1e-6)

    def testMouseTurnsTheScene(self):
        window = self.window(self.viewer(CryoLearnTrajectoryViewer, self.trajectory), 'showConformations')
        window.canvas.draw()
        drag(window.canvas, [(300, 300), (350, 300), (400, 300)])
        expected = np.radians(0.4 * 100)  # 0.4 degrees a pixel about the vertical
        np.testing.assert_allclose(window.rotation[:, 2], [np.sin(expected), 0, np.cos(expected)], atol=1e-9)

    def testPathBecomesConformationsAndATrajectory(self):
        window = self.landscapeWindow(self.simulation)
        window.xAxis.set('amplitude of mode 7')
        window.yAxis.set('amplitude of mode 9')
        window._newAxes()
        window.tool.set(PATH)
        window._newTool()
        window.addPoint(-100., 0.)
        window.addPoint(50., 20.)
        vectors = window.pathVectors()
        np.testing.assert_allclose(vectors[:, [0, 2]], [[-100, 0], [50, 20]])
        run = self.launchedBy(window.runPath)
        frames, _ = read_table(run._getExtraPath('trajectory.npz'))
        np.testing.assert_allclose(frames['vectors'][[0, -1]], vectors, rtol=1e-4)

    def testConformationsFollowTheModes(self):
        modes = findModes(self.clusters)
        from cryolearn.convert.modes import engineModes
        path = engineModes(modes)
        traces, linked, vectors = conformationsAlong([[0, 0, 0], [150., 0, 0]], path, [7, 8, 9], 4)
        np.testing.assert_allclose(vectors[:, 0], [0, 50, 100, 150])
        with np.load(path) as data:
            mode = data['eigenvectors'][list(data['mode_numbers']).index(7)]
        moved = np.linalg.norm(traces[3] - traces[0], axis=1)
        self.assertEqual((4, 214, 3), traces.shape)  # C-alpha atoms of adenylate kinase
        self.assertEqual(213, linked.sum())
        self.assertLessEqual(moved.max(), 150 * np.linalg.norm(mode, axis=1).max() + 1e-6)
        self.assertGreater(moved.max(), 1)

    def testColoursAxesAndPointsOfChoice(self):
        window = self.landscapeWindow()
        for colour in ['none', *window.landscape.axes]:
            window.colour.set(colour)
            window.refresh()
            window.canvas.draw()
        self.assertIn('class', window.landscape.axes)
        window.colour.set('class')
        window.refresh()
        counts = [int(text.get_text().split('(')[1].rstrip(')')) for text in window.axes.get_legend().get_texts()]
        self.assertEqual(PARTICLES, sum(counts))

    def testASetOpensTheLandscapeOfItsRun(self):
        for output in (self.simulation.outputParticles, self.clusters.outputClasses):
            self.assertIn(CryoLearnParticlesFlexViewer, pw.Config.getDomain().findViewers(output, 'tkinter'))
            viewer = CryoLearnParticlesFlexViewer(project=self.proj, protocol=None, parent=self.main)
            view, = viewer._visualize(output)
            self.assertEqual(PARTICLES, len(view.landscape))

    def testASubsetShowsItsOwnParticles(self):
        from cryolearn.viewers.landscape_data import landscapeOfSet
        run = self.launch(CryoLearnProtSelectLandscape, inputParticles=self.simulation.outputParticles, xAxis='amplitudes:0',
                          yAxis='amplitudes:1', polygon='0 -1000 1000 -1000 1000 1000 0 1000')
        with_table = landscapeOfSet(run.outputParticles, self.simulation, self.proj.getTmpPath())
        without = landscapeOfSet(run.outputParticles, None, self.proj.getTmpPath())
        for landscape in (with_table, without):
            self.assertEqual(run.outputParticles.getIdSet(), set(landscape.columns['id'].tolist()))
            self.assertGreater(landscape.columns['amplitudes'][:, 0].min(), 0)

    # ------------------------------------------------- the others ---------------------------------------------
    def testTrajectoryWindowPlaysAndShowsMaps(self):
        window = self.window(self.viewer(CryoLearnTrajectoryViewer, self.trajectory), 'showConformations')
        self.assertEqual((FRAMES, 214, 3), window.conformations.shape)
        window.showMap.set(True)
        window.position.set(2)
        window.refresh()
        self.assertTrue(window.figure.axes[0].get_title().startswith('frame 2 of %d' % FRAMES))
        corners, _ = window._mesh(1)
        # the surface of a map lies over its model
        self.assertLess(np.abs(corners.reshape(-1, 3).mean(axis=0) - window.conformations[1].mean(axis=0)).max(), 2 * PIXEL)
        seen = []
        window.position.trace_add('write', lambda *args: seen.append(int(window.position.get())))
        window.togglePlay()
        settle(window.window.root, 1.0)
        window.togglePlay()
        self.assertEqual([3, 2, 1][:len(seen)], seen[:3])  # to the end and back
        self.assertGreater(len(seen), 0)

    def testMapsViewerKnowsItsMaps(self):
        viewer = self.viewer(CryoLearnMapsViewer, self.maps)
        self.assertEqual(['class 001', 'class 002', 'class 001 half1', 'class 001 half2', 'class 002 half1', 'class 002 half2'],
                         list(viewer.getMaps()))

    def testModesWindowTellsTheRmsd(self):
        window = self.window(self.viewer(CryoLearnModesViewer, self.proj.getProtocol(self.modes.getObjParentId())), 'showModes')
        window.table.select([8])
        window.amplitude.set(200)
        window.refresh()
        self.assertEqual('mode 8, amplitude 200: RMSD 4.9 Å', window.figure.axes[0].get_title())  # 200 / sqrt(1656) = 4.9147
        self.assertEqual(list(range(7, 13)), [row['mode'] for row in window.table.rows])
        self.assertIn(CryoLearnSetOfModesViewer, pw.Config.getDomain().findViewers(self.modes, 'tkinter'))

    def testLearningCurvesOfARunningTraining(self):
        run = self.newProtocol(CryoLearnProtElasticTrain)
        run.setProject(self.proj)
        run.setWorkingDir(self.proj.getTmpPath('training'))
        os.makedirs(run._getExtraPath(), exist_ok=True)
        with open(run._getExtraPath('learning.csv'), 'w') as handle:
            handle.write('epoch,train_loss,learning_rate\n1,2.0,0.001\n')
        view = self.window(self.viewer(CryoLearnLearningViewer, run), 'showCurves')
        with open(run._getExtraPath('learning.csv'), 'a') as handle:
            handle.write('2,1.0,0.001\n')
        view.refresh()
        self.assertEqual([2.0, 1.0], view.figure.axes[0].lines[0].get_ydata().tolist())

    def testRunsWithoutResultsSaySo(self):
        run = self.newProtocol(CryoLearnProtTrajectory)
        run.setProject(self.proj)
        run.setWorkingDir(self.proj.getTmpPath('nothing'))
        viewer = self.viewer(CryoLearnTrajectoryViewer, run)
        view, = viewer._showConformations()
        self.assertIn('not there yet', view.getMessage())
        self.assertIsNone(landscapeOfRun(run))

    def testPointerOfALandscapeIsTheOutput(self):
        from cryolearn.viewers.viewer_landscape import particlesOf
        pointer = particlesOf(self.clusters)
        self.assertIsInstance(pointer, Pointer)
        self.assertEqual(self.clusters.outputParticles.getObjId(), pointer.get().getObjId())
