"""Gaussian heterogeneity as a Scipion project: simulated adenylate kinase, and everything that goes on from its outputs."""

import os
import shutil
import subprocess
from unittest import mock

import mrcfile
import numpy as np
import pytest
from pwem.objects import (
    AtomStruct,
    SetOfAtomStructFlex,
    SetOfClassesFlex,
    SetOfFSCs,
    SetOfParticlesFlex,
    SetOfPrincipalComponents,
    SetOfVolumesFlex,
)
from pwem.protocols import ProtImportParticles, ProtImportVolumes, ProtSubSet
from pyworkflow.gui import dialog
from scipy.stats import spearmanr

from cryolearn.convert.flex import latentLength, latentNames, motionFile
from cryolearn.convert.motions import collectivity, describeMotion, gaussiansFile, motionsFolder
from cryolearn.convert.particles import writeParticles
from cryolearn.common.tables import read_table
from cryolearn.convert.tables import rowsById
from cryolearn.engine.config import fields_of
from cryolearn.engine.gaussian.config import GaussianHeterogeneityConfig as Config
from cryolearn.engine.io.motions import read_motion
from cryolearn.engine.io.star import read_particles, write_particles
from cryolearn.protocols import (
    CryoLearnProtClusterLandscape,
    CryoLearnProtGaussianHeterogeneity,
    CryoLearnProtReconstruct,
    CryoLearnProtTrajectory,
)
from cryolearn.viewers import CryoLearnGaussianViewer, CryoLearnSetOfMotionsViewer, CryoLearnTrajectoryViewer
from cryolearn.viewers.backbone import readModels
from cryolearn.viewers.gaussian_scene import LASSO, PICK
from cryolearn.viewers.gaussian_window import GaussianPathWindow

from .base import setColumns
from .killing import KillingTest
from .screen import settle
from .windows import WindowTest

pytest.importorskip('relion.convert.convert31')  # scipion-em-relion imports the particles

PARTICLES, MODE, STATES = 200, '7', 3
BOX, PIXEL = 48, 5.0
SETTINGS = dict(resolutionsAngst='20', components=3, maps=STATES, rounds=4, states=11, halves=False, numberOfThreads=2)
# target of the curved path for the slides' experiment (docs/gaussian.rst) at an SNR of 1 in the band, which is 0.083 over all pixels
SPEARMAN, SNR = 0.97, 0.5
METHODS, VARIES = (fields_of(Config)[name].metadata['choices'] for name in ('method', 'vary'))


class GaussianProject(KillingTest, WindowTest):
    """A project with particles that bend along one mode, imported from a STAR with columns of other programs."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.modes = cls.makeModes()
        cls.simulation = cls.simulate(cls.modes, PARTICLES, modeNumbers=MODE, snr=SNR, box=BOX, pixelSizeAngst=PIXEL)
        cls.imported = cls.importStar(addColumns(cls.simulation._getExtraPath('particles.star')))
        cls.consensus = cls.launch(CryoLearnProtReconstruct, inputSet=cls.imported).outputVolume
        cls.gaussian = cls.launch(CryoLearnProtGaussianHeterogeneity, inputParticles=cls.imported, inputVolume=cls.consensus, **SETTINGS)
        cls.particles = cls.gaussian.outputParticles

    @classmethod
    def importStar(cls, star):
        return cls.launch(
            ProtImportParticles, importFrom=ProtImportParticles.IMPORT_FROM_RELION, starFile=os.path.abspath(star), voltage=300,
            sphericalAberration=2.7, amplitudeContrast=0.1, samplingRate=PIXEL, haveDataBeenPhaseFlipped=False).outputParticles


def addColumns(star):
    """The STAR with columns that this plugin does not use."""
    table = read_particles(star)
    count = np.arange(len(table))
    table.extra.update(rlnGroupNumber=1 + count % 7, rlnGroupName=np.array(['group_%d' % (number % 7) for number in count]))
    table.random_subset = 1 + count // 2 % 2
    path = star.replace('particles.star', 'foreign.star')
    write_particles(path, table)
    return path


class TestGaussianHeterogeneity(GaussianProject):
    """The protocol, its outputs, and the protocols that go on from them."""

    # --------------------------------------------------- outputs ---------------------------------------------------
    def testOutputsAreTypedAndKnowTheirSource(self):
        kinds = dict(outputParticles=SetOfParticlesFlex, outputEigenMotions=SetOfPrincipalComponents, outputVolumes=SetOfVolumesFlex,
                     outputFSCs=SetOfFSCs, outputGaussians=AtomStruct)
        found = dict(self.gaussian.iterOutputAttributes())
        self.assertEqual({name: type(item) for name, item in found.items()}, kinds)
        for output in found.values():
            parents = {parent.getObjId() for parent in self.proj.getSourceParents(output)}
            self.assertLessEqual({self.imported.getObjId(), self.consensus.getObjId()}, parents)
        self.assertEqual([self.particles.getSamplingRate(), self.particles.getXDim()], [PIXEL, BOX])
        self.assertTrue(self.particles.hasCTF() and self.particles.hasAlignmentProj())
        self.assertIn('was not tested: the half sets were not compared', self.gaussian.summary()[0])
        self.assertIn('%d particles' % PARTICLES, ' '.join(self.gaussian.summary()))
        self.assertIn('Gaussians', self.gaussian.methods()[0])

    def testPlacesFollowTheTruth(self):
        truth, _ = read_table(self.simulation._getExtraPath('truth.npz'))
        rows = rowsById(truth['id'])
        found = setColumns(self.particles)
        self.assertEqual(sorted(found), sorted(rows))
        true = np.array([truth['amplitudes'][rows[objId], 0] for objId in found])
        place = np.array([latents[0] for latents, _, _ in found.values()])
        self.assertGreaterEqual(abs(spearmanr(place, true)[0]), SPEARMAN)
        self.assertLessEqual(np.abs(place).max(), 1)
        errors = [item.getAttributeValue('_cryolearnLatentError1') for item in self.particles]
        self.assertTrue(all(0 <= error < 1 for error in errors))

    def testPosesAndColumnsOfTheInputStay(self):
        given = {item.getObjId(): item.clone() for item in self.imported.iterItems()}
        for item in self.particles.iterItems():
            before = given.pop(item.getObjId())
            np.testing.assert_array_equal(item.getTransform().getMatrix(), before.getTransform().getMatrix())
            self.assertEqual(item.getLocation(), before.getLocation())
            for name in ('_rlnGroupNumber', '_rlnGroupName', '_rlnRandomSubset'):
                self.assertIsNotNone(item.getAttributeValue(name))
                self.assertEqual(item.getAttributeValue(name), before.getAttributeValue(name))
            self.assertIn(item.getAttributeValue('_cryolearnClass'), range(1, 1000))
            self.assertGreaterEqual(1, item.getAttributeValue('_cryolearnWeight'))
        self.assertEqual(given, {})

    def testStarHasAllColumnsAndRelionTakesIt(self):
        star = self.gaussian._getExtraPath('particles.star')
        names, values = starColumns(star)
        before, _ = starColumns(self.gaussian.getParticlesFile())
        self.assertLessEqual(set(before), set(names))
        self.assertLessEqual({'rlnGroupNumber', 'rlnGroupName', 'cryolearnLatent1', 'cryolearnLatentError1', 'cryolearnWeight',
                              'cryolearnClass'}, set(names))
        found = setColumns(self.particles)
        for row in values:
            row = dict(zip(names, row))
            self.assertAlmostEqual(float(row['cryolearnLatent1']), found[int(row['rlnImageId'])][0][0], places=4)
        if shutil.which('relion_reconstruct') is None:
            self.skipTest('relion_reconstruct is not installed (apt-get install relion).')
        ours = self.proj.getTmpPath('ours.star')  # and the STAR of the output set
        writeParticles(self.particles, ours)
        maps = []
        for name in (star, ours, self.gaussian.getParticlesFile()):
            path = self.proj.getTmpPath('relion.mrc')
            subprocess.run(['relion_reconstruct', '--i', name, '--o', path, '--ctf'], check=True, capture_output=True)
            with mrcfile.open(path) as mrc:
                maps.append(np.array(mrc.data))
        np.testing.assert_array_equal(maps[0], maps[2])  # RELION reads the same images, poses and CTF in all
        np.testing.assert_allclose(maps[1], maps[2], atol=1e-4 * maps[2].max())

    def testEigenMotions(self):
        motions = self.gaussian.outputEigenMotions
        columns, _ = read_table(self.gaussian._getExtraPath('eigen_motions.npz'))
        self.assertSetSize(motions, SETTINGS['components'])
        for row, motion in enumerate(motions.iterItems()):
            vector = np.loadtxt(motion.getModeFile())
            np.testing.assert_allclose(vector, columns['vector'][row], atol=1e-7)
            self.assertAlmostEqual(np.linalg.norm(vector), 1, places=4)
            self.assertEqual(motion.isEnabled(), bool(columns['significant'][row]))
            self.assertAlmostEqual(motion.getAttributeValue('_explained'), columns['explained'][row], places=6)
        self.assertTrue(motions.getFirstItem().isEnabled())  # there is a motion
        self.assertEqual(os.path.abspath(motions.getPdb().getFileName()), os.path.abspath(self.gaussian.outputGaussians.getFileName()))
        self.assertEqual(motionsFolder(motions), self.gaussian._getExtraPath())

    def testCollectivityOfKnownVectors(self):
        self.assertAlmostEqual(collectivity(np.ones((50, 3))), 1)
        single = np.zeros((50, 3))
        single[7] = 3
        self.assertAlmostEqual(collectivity(single), 1 / 50)
        single[9] = 3
        self.assertAlmostEqual(collectivity(single), 2 / 50)

    def testMapsAlongThePath(self):
        volumes = [volume.clone() for volume in self.gaussian.outputVolumes.iterItems()]
        self.assertEqual(len(volumes), STATES)
        places = []
        for volume, fsc in zip(volumes, self.gaussian.outputFSCs.iterItems()):
            self.assertEqual((volume.getDim(), volume.getSamplingRate()), ((BOX,) * 3, PIXEL))
            self.assertEqual([os.path.exists(half) for half in volume.getHalfMaps().split(',')], [True, True])
            places.append(float(volume._zFlex[0]))
            x, y = fsc.getData()
            self.assertEqual(len(x), BOX // 2)
            self.assertAlmostEqual(float(x[0]), 1 / (BOX * PIXEL), places=6)
        self.assertEqual(places, sorted(places))
        self.assertGreater(places[-1] - places[0], 0.5)

    # ------------------------------------------------- what goes on ------------------------------------------------
    def testClassesTrajectoryAndMaps(self):
        clusters = self.launch(CryoLearnProtClusterLandscape, inputParticles=self.particles, clusters=2, dimensions=1)
        self.assertIsInstance(clusters.outputClasses, SetOfClassesFlex)
        self.assertEqual(motionFile(clusters.outputParticles), motionFile(self.particles))
        found = setColumns(self.particles)
        means = {item.getObjId(): np.mean([found[particle.getObjId()][0] for particle in item], axis=0) for item in clusters.outputClasses}
        self.assertModels(clusters.outputStructures, means)

        run = self.launch(CryoLearnProtTrajectory, inputSet=clusters.outputClasses, path=2, frames=3, inputVolume=self.consensus)
        ends = [means[number] for number in sorted(means)]
        self.assertModels(run.outputStructures, {1: ends[0], 2: (ends[0] + ends[1]) / 2, 3: ends[1]})
        self.assertSetSize(run.outputVolumes, 3)
        volume = run.outputVolumes.getFirstItem()
        self.assertEqual((volume.getDim(), volume.getSamplingRate()), ((BOX,) * 3, PIXEL))
        self.assertIn(self.particles.getObjId(), {item.getObjId() for item in self.ancestors(run.outputVolumes)})
        consensus, *frames = (mrcfile.read(item.getFileName().replace(':mrc', '')) for item in (self.consensus, *run.outputVolumes.iterItems()))
        for frame in frames:  # the change of a motion, not a map of its own
            self.assertGreater(np.corrcoef(frame.ravel(), consensus.ravel())[0, 1], 0.9)

        maps = self.launch(CryoLearnProtReconstruct, inputSet=clusters.outputClasses)
        self.assertSetSize(maps.outputVolumes, 2)
        for volume in maps.outputVolumes:
            np.testing.assert_allclose(volume.getZFlex(), means[volume.getObjId()], rtol=1e-5)

    def ancestors(self, item):
        parents = list(self.proj.getSourceParents(item))
        return parents + [older for parent in parents for older in self.proj.getSourceParents(parent)]

    def assertModels(self, structures, latents):
        """Each structure is the engine's motion model at the latents of its id."""
        self.assertIsInstance(structures, SetOfAtomStructFlex)
        motion = read_motion(motionFile(self.particles))
        table, _ = read_table(gaussiansFile(self.gaussian.outputGaussians))
        corner = (table['position_angst'] - motion.positions_angst).mean(axis=0)  # of the box's centre in the map's frame
        np.testing.assert_allclose(table['position_angst'] - motion.positions_angst, corner[None].repeat(len(motion), 0), atol=1e-3)
        self.assertEqual(sorted(latents), [item.getObjId() for item in structures])
        for item in structures:
            np.testing.assert_allclose(item.getZFlex(), latents[item.getObjId()], rtol=1e-4, atol=1e-4)
            model, = readModels(item.getFileName())[0]
            np.testing.assert_allclose(model, motion.conformation(latents[item.getObjId()])[0] + corner, atol=5e-3)

    def testTrajectoryWithEigenMotionsInPlaceOfTheSetsMotion(self):
        """A set that lost its motion, as a copy by another plugin would: the eigen-motions say it."""
        run = self.newProtocol(CryoLearnProtTrajectory, inputSet=self.particles, inputModes=self.gaussian.outputEigenMotions)
        self.assertEqual(os.path.abspath(run.getMotionFile(None)), os.path.abspath(motionFile(self.particles)))
        self.assertEqual(run.validate(), [])

    def testSubsetsOfScipionKeepTheMotion(self):
        subset = self.someOf(self.particles, 30)
        self.assertEqual(motionFile(subset), motionFile(self.particles))
        found, all_ = setColumns(subset), setColumns(self.particles)
        self.assertEqual({objId: latents[0] for objId, (latents, _, _) in found.items()}, {objId: all_[objId][0][0] for objId in found})
        self.assertEqual(self.errors((CryoLearnProtTrajectory, dict(inputSet=subset))), [])

    # ---------------------------------------------------- focus ----------------------------------------------------
    def testFocusOnPickedGaussians(self):
        count = describeMotion(motionFile(self.particles))['gaussians']
        half = count // 2
        run = self.launch(CryoLearnProtGaussianHeterogeneity, inputParticles=self.imported, inputVolume=self.consensus,
                          inputGaussians=self.gaussian.outputGaussians, focusGaussians='1-%d' % half, **dict(SETTINGS, maps=0, rounds=2))
        table, _ = read_table(gaussiansFile(run.outputGaussians))
        np.testing.assert_array_equal(table['moves'], np.arange(1, count + 1) <= half)
        motion = read_motion(motionFile(run.outputParticles))
        moved = np.linalg.norm(motion.conformation([[-1.], [1.]])[0] - motion.positions_angst, axis=-1).max(axis=0)
        self.assertGreater(moved[:half].max(), 0.5)
        self.assertLess(moved[half:].max(), 1e-6)
        self.assertFalse(hasattr(run, 'outputVolumes'))

    # ---------------------------------------------- symmetry, methods ----------------------------------------------
    def testSymmetryGivesEverySubunitALatent(self):
        twofold = self.launch(CryoLearnProtReconstruct, inputSet=self.imported, symmetry='C2').outputVolume
        symmetric = dict(SETTINGS, symmetry='C2', maps=0, rounds=2)
        refused = self.newProtocol(CryoLearnProtGaussianHeterogeneity, inputParticles=self.imported, inputVolume=twofold, **symmetric)
        self.proj.launchProtocol(refused, wait=True)
        self.assertIn('give a focus', refused.getErrorMessage())
        run = self.launch(CryoLearnProtGaussianHeterogeneity, inputParticles=self.imported, inputVolume=twofold,
                          inputGaussians=self.gaussian.outputGaussians, focusGaussians='1-15', **symmetric)
        self.assertSetSize(run.outputParticles, PARTICLES)
        self.assertEqual(latentLength(run.outputParticles), 2)
        self.assertEqual(latentNames(motionFile(run.outputParticles), 2), ['latent 1, subunit 1', 'latent 1, subunit 2'])
        self.assertTrue(os.path.exists(run._getExtraPath('subunits.csv')))
        classes = self.launch(CryoLearnProtClusterLandscape, inputParticles=run.outputParticles, clusters=2).outputClasses
        self.assertEqual(sum(len(item) for item in classes.iterItems()), PARTICLES)

    def testAutoencoderAndBothKindsOfChange(self):
        run = self.launch(CryoLearnProtGaussianHeterogeneity, inputParticles=self.imported, inputVolume=self.consensus, method=METHODS.index('autoencoder'),
                          vary=VARIES.index('both'), **dict(SETTINGS, maps=0, rounds=2, components=2))
        self.assertSetSize(run.outputParticles, PARTICLES)
        about = describeMotion(motionFile(run.outputParticles))
        self.assertEqual(latentLength(run.outputParticles), about['latents'])
        self.assertIn('autoencoder', ' '.join(run.summary() + run.methods()))

    # --------------------------------------------------- resume ----------------------------------------------------
    def testKilledRunContinues(self):
        broken = self.newProtocol(CryoLearnProtGaussianHeterogeneity, inputParticles=self.imported, inputVolume=self.consensus, **SETTINGS)

        def recorded():
            stages = [name for folder, _, names in os.walk(broken._getExtraPath('records')) for name in names if name.startswith('curve_')]
            return bool(stages) and not os.path.exists(broken._getExtraPath('conformations.npz'))
        self.killWhen(broken, recorded)
        self.resume(broken)
        expected, _ = read_table(self.gaussian._getExtraPath('conformations.npz'))
        found, _ = read_table(broken._getExtraPath('conformations.npz'))
        np.testing.assert_array_equal(found['id'], expected['id'])
        np.testing.assert_allclose(found['amplitudes'], expected['amplitudes'], atol=1e-6)
        self.assertSetSize(broken.outputParticles, PARTICLES)
        # once more after a file of the output was deleted: only the output is made again
        kept = {name: os.stat(broken._getExtraPath(name)).st_mtime_ns for name in ('input_particles.star', 'conformations.npz')}
        vector = broken.outputEigenMotions.getFirstItem().getModeFile()
        os.remove(vector)
        self.resume(broken)
        self.assertTrue(os.path.exists(vector))
        self.assertEqual({name: os.stat(broken._getExtraPath(name)).st_mtime_ns for name in kept}, kept)

    # --------------------------------------------------- viewers ---------------------------------------------------
    def testEveryLineOfTheFormOpensAWindow(self):
        self.opensWindows(CryoLearnGaussianViewer, self.gaussian, [
            'showMotions', 'showExplained', 'showPath', 'showLandscape', 'showFreeEnergy', 'showFsc', 'showSlices', 'showSurface', 'figureToShow'])

    def testMotionsWindowMovesTheGaussians(self):
        window = self.window(self.viewer(CryoLearnGaussianViewer, self.gaussian), 'showMotions')
        columns, _ = read_table(self.gaussian._getExtraPath('eigen_motions.npz'))
        window.table.select([2])
        window.amplitude.set(1.5)
        window.refresh()
        length = 1.5 * columns['std_angst'][1] * np.linalg.norm(columns['vector'][1], axis=1)
        title = window.figure.axes[0].get_title()
        self.assertTrue(title.startswith('eigen-motion 2: %.1f %% of the variance' % (100 * columns['explained'][1])), title)
        self.assertIn('by %.1f Å RMS, at most %.1f Å' % (np.sqrt((length ** 2).mean()), length.max()), title)
        window._step = 6  # a quarter of the period: displaced by the whole amplitude
        window.refresh()
        drawn = np.concatenate([item.get_offsets() for item in window.figure.axes[0].collections if hasattr(item, '_widths')])
        table, _ = read_table(gaussiansFile(self.gaussian.outputGaussians))
        expected = (table['position_angst'] + 1.5 * columns['std_angst'][1] * columns['vector'][1])[:, :2]
        np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(expected, axis=0), atol=1e-3)
        self.assertIn(CryoLearnSetOfMotionsViewer, self.gaussianViewersOf(self.gaussian.outputEigenMotions))
        view, = CryoLearnSetOfMotionsViewer(project=self.proj, protocol=None, parent=self.main)._visualize(self.gaussian.outputEigenMotions)
        self.assertEqual(len(view.model), len(table['id']))

    @staticmethod
    def gaussianViewersOf(item):
        from pyworkflow import Config
        return Config.getDomain().findViewers(item, 'tkinter')

    def testGaussiansArePickedForANewRun(self):
        window = self.window(self.viewer(CryoLearnGaussianViewer, self.gaussian), 'showMotions')
        positions = window.model.positions
        window.tool.set(PICK)
        front = int(np.argmax(positions[:, 2]))
        window.pickAt(*positions[front, :2])
        self.assertEqual(window.focus(), [front + 1])
        window.pickAt(*positions[front, :2])
        self.assertEqual(window.focus(), [])  # a second click releases it
        window.reach.set(25)
        window.pickAt(*positions[front, :2])
        near = np.flatnonzero(np.linalg.norm(positions - positions[front], axis=1) <= 25) + 1
        self.assertEqual(window.focus(), near.tolist())
        window.invertFocus()
        self.assertEqual(set(window.focus()), set(window.model.numbers.tolist()) - set(near.tolist()))
        window.clearFocus()
        window.tool.set(LASSO)
        window.refresh()
        middle = np.median(positions[:, 0])
        window.pickInside([(middle, -999), (999, -999), (999, 999), (middle, 999)])
        right = (np.flatnonzero(positions[:, 0] > middle) + 1).tolist()
        self.assertEqual(window.focus(), right)
        window.newRun()
        run = self.proj.getProtocol(max(run.getObjId() for run in self.proj.getRuns(refresh=True)))
        self.assertIsInstance(run, CryoLearnProtGaussianHeterogeneity)
        self.assertEqual(run.getEngineValue(Config, 'focus_gaussians'), right)
        self.assertEqual(run.inputGaussians.get().getObjId(), self.gaussian.outputGaussians.getObjId())
        self.assertTrue(run.isSaved())
        self.assertEqual(run.validate(), [])
        self.assertEqual(run.resolutionsAngst.get(), SETTINGS['resolutionsAngst'])  # the rest as it was
        window.focusText.set('1-3 5')
        window.readFocus()
        self.assertEqual(window.focus(), [1, 2, 3, 5])

    def testLandscapeHasErrorBarsAndConformations(self):
        window = self.window(self.viewer(CryoLearnGaussianViewer, self.gaussian), 'showLandscape')
        self.assertNotEqual(window.xAxis.get(), window.yAxis.get())
        window.showErrors.set(True)
        window.refresh()
        window.canvas.draw()
        window.points = [(-0.5, 0.), (0.5, 0.)]
        shown = []
        with mock.patch.object(GaussianPathWindow, 'show', lambda view: shown.append(view)):
            window.showPath()
        conformations = shown[0].conformations
        motion = read_motion(motionFile(self.particles))
        moved = motion.conformation([[-0.5], [0.5]])[0]
        np.testing.assert_allclose(conformations[-1] - conformations[0], moved[1] - moved[0], atol=5e-3)
        run = self.launchedBy(window.runPath)
        self.assertSetSize(run.outputStructures, 10)
        view = self.window(self.viewer(CryoLearnTrajectoryViewer, run), 'showConformations')
        self.assertEqual(view.conformations.shape, (10, len(motion), 3))
        view.canvas.draw()
        settle(view.window.root)

    # --------------------------------------------------- wizards ---------------------------------------------------
    def testNumberOfGaussiansWithAPreviewOfTheFit(self):
        form = self.form(CryoLearnProtGaussianHeterogeneity, inputParticles=self.imported, inputVolume=self.consensus, resolutionsAngst='20')
        seen = []

        def act(opened):
            seen.append(opened.found[0])
            opened.scale(2)
            seen.append(opened.found[0])
            self.assertIn('%d Gaussians agree with the map to' % seen[1], opened.note.get())
            self.assertEqual(['map at 20 Å', '%d Gaussians' % seen[1], 'FSC of map and Gaussians'], [axes.get_title() for axes in opened.figure.axes])
        value = self.drive(form, 'number', act)
        self.assertEqual(int(value), seen[1])
        self.assertEqual(seen[1], 2 * seen[0])

    def testFocusFromTheWizard(self):
        form = self.form(CryoLearnProtGaussianHeterogeneity, inputParticles=self.imported, inputVolume=self.consensus,
                         inputGaussians=self.gaussian.outputGaussians, focusGaussians='1-3')

        def act(opened):
            self.assertEqual([1, 2, 3], opened.focus())
            opened.focusText.set('2-4 7')
            opened.readFocus()
            self.assertEqual('4 of %d Gaussians in focus' % len(opened.model), opened.figure.axes[0].get_title())
        self.assertEqual('2-4 7', self.drive(form, 'focusGaussians', act))
        self.assertEqual('2-4 7', self.drive(form, 'focusGaussians', lambda opened: opened.clearFocus(), dialog.RESULT_CANCEL))

    # --------------------------------------------------- refusals --------------------------------------------------
    def testBadInputIsRefusedInOneSentence(self):
        particles, volume = self.imported, self.consensus
        other, finer = self.importVolume(cut=8), self.importVolume(sampling=4.9)
        unaligned = self.launch(ProtImportParticles, filesPath=os.path.abspath(self.simulation._getExtraPath('particles.mrcs')),
                                samplingRate=PIXEL, voltage=300, sphericalAberration=2.7, amplitudeContrast=0.1).outputParticles
        noTable = AtomStruct(filename=self.modes.getPdb().getFileName())
        cases = [
            ('no 3D (projection) alignment', dict(inputParticles=unaligned, inputVolume=volume, ignoreCtf=True)),
            ('box of 32 px, but the particles have a box of 48', dict(inputParticles=particles, inputVolume=other)),
            ('pixel size of 4.9 Å, but the particles have 5', dict(inputParticles=particles, inputVolume=finer)),
            ('but there are only 6 particles', dict(inputParticles=self.someOf(particles, 6), inputVolume=volume, components=6)),
            ('finer than the pixels', dict(inputParticles=particles, inputVolume=volume, resolutionsAngst='20 5')),
            ('become finer', dict(inputParticles=particles, inputVolume=volume, resolutionsAngst='20 24')),
            ('numbered from 1 to', dict(inputParticles=particles, inputVolume=volume, inputGaussians=self.gaussian.outputGaussians,
                                        focusGaussians='1-9999')),
            ('must be between 2 and 200', dict(inputParticles=particles, inputVolume=volume, states=1)),
        ]
        for words, values in cases:
            with self.subTest(words):
                sentences = self.errors((CryoLearnProtGaussianHeterogeneity, values))
                self.assertEqual(len(sentences), 1, sentences)
                self.assertIn(words, sentences[0])
        run = self.newProtocol(CryoLearnProtGaussianHeterogeneity, inputParticles=particles, inputVolume=volume)
        run.inputGaussians.set(noTable)
        self.assertIn('no table of Gaussians', ' '.join(run._validate()))
        sentences = self.errors((CryoLearnProtTrajectory, dict(inputSet=self.simulation.outputParticles)))
        self.assertEqual(len(sentences), 1, sentences)
        self.assertIn('Give the normal modes', sentences[0])
        sentences = self.errors((CryoLearnProtTrajectory, dict(inputSet=self.particles, inputVolume=other)))
        self.assertIn('give the map that the motion was found with', sentences[0])

    def testBadInputThatOnlyTheEngineSees(self):
        """More Gaussians than voxels, an empty focus, poses that are all alike: the run's error is the engine's sentence."""
        table = read_particles(self.simulation._getExtraPath('particles.star'))
        star = self.simulation._getExtraPath('alike.star')
        write_particles(star, table.subset(np.arange(8)).with_poses(np.array([[10., 20., 30.]] * 8), np.zeros((8, 2))))
        alike = self.importStar(star)
        empty = self.importVolume(corner=True)
        cases = [('Gaussians are more than the', dict(inputParticles=self.imported, inputVolume=self.consensus, number=100000)),
                 ('holds no Gaussian', dict(inputParticles=self.imported, inputVolume=self.consensus, inputFocus=empty,
                                              inputGaussians=self.gaussian.outputGaussians)),
                 ('same viewing direction', dict(inputParticles=alike, inputVolume=self.consensus))]
        for words, values in cases:
            with self.subTest(words):
                run = self.newProtocol(CryoLearnProtGaussianHeterogeneity, components=2, **values)
                self.assertEqual(run.validate(), [])
                self.proj.launchProtocol(run, wait=True)
                self.assertTrue(run.isFailed())
                self.assertIn(words, run.getErrorMessage())
                self.assertNotIn('Traceback', run.getErrorMessage())
                self.assertNotIn('\n', run.getErrorMessage().strip())

    @classmethod
    def someOf(cls, particles, number):
        """A part of a set, made by Scipion's own protocol."""
        (_, output), = cls.launch(ProtSubSet, inputFullSet=particles, chooseAtRandom=True, nElements=number).iterOutputAttributes()
        return output

    @classmethod
    def importVolume(cls, sampling=PIXEL, corner=False, cut=0):
        """The consensus map with another pixel size, zero but for a corner of the box, or without ``cut`` voxels at each side."""
        path = os.path.abspath(cls.proj.getTmpPath('volume_%g_%d_%d.mrc' % (sampling, corner, cut)))
        with mrcfile.open(cls.consensus.getFileName()) as mrc:
            data = np.array(mrc.data)[cut:BOX - cut, cut:BOX - cut, cut:BOX - cut]
        with mrcfile.new(path, overwrite=True) as mrc:
            mrc.set_data(data if not corner else np.pad(np.ones((1, 1, 1), data.dtype), [(0, side - 1) for side in data.shape]))
            mrc.voxel_size = sampling
        return cls.launch(ProtImportVolumes, filesPath=path, samplingRate=sampling).outputVolume


def starColumns(path):
    """Names and rows of the particles in a STAR, by text alone."""
    names, rows, inside = [], [], False
    with open(path) as handle:
        for line in handle:
            if line.startswith('data_'):
                inside = line.strip() == 'data_particles'
            elif inside and line.startswith('_'):
                names.append(line.split()[0][1:])
            elif inside and names and line.split() and not line.startswith(('#', 'loop_')):
                rows.append(line.split())
    return names, rows
