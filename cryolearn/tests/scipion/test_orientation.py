"""Orientations learned from distances, as a Scipion project: adenylate kinase that nobody aligned."""

import os
import shutil
import subprocess
import uuid

import mrcfile
import numpy as np
import prody
from pwem.objects import FSC, AtomStruct, SetOfParticles, Volume
from pwem.protocols import ProtImportPdb, ProtSubSet

from cryolearn.common.fsc import resolution_of_curve
from cryolearn.convert.particles import writeParticles
from cryolearn.convert.poses import posesFromTransforms
from cryolearn.common.tables import read_table
from cryolearn.engine.config import fields_of
from cryolearn.engine.orientation.config import CompareOrientationsConfig, DistanceTrainConfig, RecoverOrientationsConfig
from cryolearn.objects import DistanceModel
from cryolearn.protocols import (
    CryoLearnProtCompareOrientations,
    CryoLearnProtDistanceTrain,
    CryoLearnProtRecoverOrientations,
    CryoLearnProtSimulateParticles,
)
from cryolearn.viewers import (
    CryoLearnDistanceTrainViewer,
    CryoLearnModelViewer,
    CryoLearnOrientationErrorsViewer,
    CryoLearnRecoverViewer,
)

import pyworkflow as pw  # noqa: E402

from .base import structureFile
from .killing import KillingTest
from .windows import WindowTest

PARTICLES, BOX, PIXEL, SNR, DIAMETER = 150, 32, 4.0, 1.0, 80
QUICK = dict(width=32, networkSizePx=32, epochs=8, imagesPerEpoch=1024, batch=32, numberOfThreads=2)
SEARCH = dict(particleDiameterAngst=DIAMETER, restarts=8, gaugeCandidates=1000, rounds=4, numberOfThreads=2)
PAPER_RAD = 0.255  # mean error that Banjac et al. (2021) reach with noisy images of a protein that the network knows (5j0n)
CONSTANT_RAD = np.pi / 4  # mean error of the best constant answer for distances uniform between 0 and pi
SOURCES, ALIGNMENTS, STARTS, PRESETS = (fields_of(kind)[name].metadata['choices'] for kind, name in (
    (DistanceTrainConfig, 'source'), (CompareOrientationsConfig, 'alignment'), (RecoverOrientationsConfig, 'start'),
    (DistanceTrainConfig, 'preset')))


class TestOrientations(KillingTest, WindowTest):
    """The three protocols, their outputs, the viewers of their runs, what they refuse, and how they continue."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.structure = cls.importStructure()
        cls.truth = cls.launch(CryoLearnProtSimulateParticles, inputStructure=cls.structure, number=PARTICLES, box=BOX, pixelSizeAngst=PIXEL, snr=SNR,
                               seed=1).outputParticles
        cls.train = cls.launch(CryoLearnProtDistanceTrain, inputStructures=[cls.structure], inputParticles=cls.truth, **QUICK)
        cls.model = cls.train.outputModel
        cls.recovery = cls.launch(CryoLearnProtRecoverOrientations, inputParticles=cls.truth, inputModel=cls.model, **SEARCH)
        cls.recovered = cls.recovery.outputParticles
        cls.comparison = cls.launch(CryoLearnProtCompareOrientations, inputReference=cls.truth, inputParticles=cls.recovered)

    @classmethod
    def variant(cls, ids=None, pixel=PIXEL, box=BOX, ctf=True, aligned=True, folder=''):
        """The particles as they would be with other properties."""
        particles = SetOfParticles(filename=cls.proj.getTmpPath('variant_%s.sqlite' % uuid.uuid4()))
        particles.copyInfo(cls.truth)
        for item in cls.truth.iterItems():
            if ids is None or item.getObjId() in ids:
                item = item.clone()
                item.setFileName(os.path.join(folder, item.getFileName()))
                particles.append(item)
        particles._firstDim.set((box, box, 1))
        particles.setSamplingRate(pixel)
        particles.setHasCTF(ctf)
        particles.setAlignmentProj() if aligned else particles.setAlignment('None')
        particles.write()
        return particles

    # ---------------------------------------------------- train ----------------------------------------------------
    def testNetwork(self):
        self.assertIsInstance(self.model, DistanceModel)
        self.assertEqual((self.model.getPreset(), self.model.getSymmetry(), self.model.getBox(), self.model.getSamplingRate()), ('exact', 'C1', BOX, PIXEL))
        self.assertTrue(os.path.exists(os.path.join(self.model.getFolder(), 'weights.safetensors')))
        self.assertLess(self.train._readEngineSummary(self.train._getExtraPath())['distance_error_rad'], CONSTANT_RAD)
        self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(self.model)}, {self.structure.getObjId(), self.truth.getObjId()})
        self.assertIn('1 structure', self.train.summary()[0])
        self.assertIn('degrees', self.train.summary()[1])

    def testWhatTheEngineIsAskedFor(self):
        """Maps with Scipion's sampling rate, structures, aligned particles: as the form says."""
        run = self.newProtocol(CryoLearnProtDistanceTrain, inputVolumes=[self.recovery.outputVolume], inputStructures=[self.structure],
                               inputParticles=self.truth, preset=2, symmetry='C2', numberOfThreads=2)
        run.setWorkingDir(self.proj.getTmpPath('asked'))
        os.makedirs(run._getExtraPath())
        files, config = run.convertInputStep(''), run._config()
        self.assertEqual([config.volumes, config.structures, config.particles], [files[:1], [self.structure.getFileName()], files[1]])
        self.assertEqual((config.preset, config.symmetry, config.source, config.phase_flipped), ('views', 'C2', 'simulation', False))
        with mrcfile.open(files[0]) as mrc:
            self.assertAlmostEqual(float(mrc.voxel_size.x), PIXEL, places=4)
        run.source.set(SOURCES.index('particles'))
        config = run._config()
        self.assertEqual([config.volumes, config.structures, config.particles, config.source], [[], [], files[1], 'particles'])
        self.assertEqual([pointer.get().getObjId() for pointer in run._sources()], [self.truth.getObjId()])

    # --------------------------------------------------- recover ---------------------------------------------------
    def testOutputsAreTypedAndKnowTheirSource(self):
        found = dict(self.recovery.iterOutputAttributes())
        self.assertEqual({name: type(item) for name, item in found.items()}, dict(outputParticles=SetOfParticles, outputVolume=Volume, outputFSC=FSC))
        for output in found.values():
            self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(output)}, {self.truth.getObjId(), self.model.getObjId()})
        self.assertSetSize(self.recovered, PARTICLES)
        self.assertEqual((self.recovered.getSamplingRate(), self.recovered.getXDim()), (PIXEL, BOX))
        self.assertTrue(self.recovered.hasCTF() and self.recovered.hasAlignmentProj())
        self.assertIn('%d particles' % PARTICLES, ' '.join(self.recovery.summary()))
        self.assertIn(self.recovery.summary()[0].split(',')[0].split(':')[0], ('Reliable', 'Doubtful'))
        self.assertIn('Banjac2021', self.recovery.methods()[0])

    def testEachParticleHasItsPoseHalfAndConfidence(self):
        table, _ = read_table(self.recovery._getExtraPath('orientations.npz'))
        rows = {objId: row for row, objId in enumerate(table['id'].tolist())}
        halves = []
        for item in self.recovered.iterItems():
            row = rows.pop(item.getObjId())
            rotation, shift = posesFromTransforms(item.getTransform().getMatrix(), PIXEL)
            np.testing.assert_allclose(rotation, table['rotation'][row], atol=1e-5)
            np.testing.assert_allclose(shift[:2], table['shift_angst'][row], atol=1e-3)
            halves.append(item.getAttributeValue('_rlnRandomSubset'))
            self.assertAlmostEqual(item.getAttributeValue('_orientationConfidence'), table['confidence'][row], places=5)
        self.assertEqual(rows, {})
        self.assertEqual(set(halves), {1, 2})

    def testVolumeHalfMapsAndFsc(self):
        volume = self.recovery.outputVolume
        self.assertEqual((volume.getDim(), volume.getSamplingRate()), ((BOX,) * 3, PIXEL))
        self.assertEqual([os.path.exists(half) for half in volume.getHalfMaps().split(',')], [True, True])
        x, y = self.recovery.outputFSC.getData()
        self.assertAlmostEqual(float(x[0]), 1 / (BOX * PIXEL), places=6)
        self.assertIsNotNone(resolution_of_curve([float(value) for value in x], [float(value) for value in y]))

    def testRelionReconstructsTheOutput(self):
        """RELION reads the STAR of the run and that of the output set alike, and its half maps agree as ours do."""
        if shutil.which('relion_reconstruct') is None:
            self.skipTest('relion_reconstruct is not installed (apt-get install relion).')
        ours = self.proj.getTmpPath('ours.star')
        writeParticles(self.recovered, ours)
        maps = []
        for star, half in ((self.recovery._getExtraPath('particles.star'), 1), (ours, 1), (ours, 2)):
            path = self.proj.getTmpPath('relion.mrc')
            # a hundred images leave Fourier voxels nearly empty, where RELION's gridding iterations blow up the sixth decimal of an angle
            subprocess.run(['relion_reconstruct', '--i', star, '--o', path, '--ctf', '--subset', str(half), '--maxres', '12', '--skip_gridding'], check=True,
                           capture_output=True)
            maps.append(mrcfile.read(path))
        self.assertGreater(np.corrcoef(maps[1].ravel(), maps[0].ravel())[0, 1], 0.98)
        self.assertGreater(np.corrcoef(maps[1].ravel(), maps[2].ravel())[0, 1], 0.5)
        total = mrcfile.read(self.recovery.outputVolume.getFileName())
        self.assertGreater(np.corrcoef(maps[1].ravel(), total.ravel())[0, 1], 0.7)

    # --------------------------------------------------- compare ---------------------------------------------------
    def testErrorsAreThoseOfThePaperOrBetter(self):
        particles = self.comparison.outputParticles
        self.assertSetSize(particles, PARTICLES)
        errors = np.array([item.getAttributeValue('_orientationErrorDeg') for item in particles])
        self.assertLessEqual(np.radians(errors).mean(), PAPER_RAD)
        self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(particles)}, {self.truth.getObjId(), self.recovered.getObjId()})
        self.assertIn('%.2f' % errors.mean(), self.comparison.summary()[0])

    def testErrorsAreTheAnglesBetweenTheAlignedPoses(self):
        reference = {item.getObjId(): item.getTransform().getMatrix() for item in self.truth.iterItems()}
        for item in self.comparison.outputParticles.iterItems():
            turn = item.getTransform().getMatrix()[:3, :3] @ reference[item.getObjId()][:3, :3].T  # poses are inverted in Transforms
            cosine = np.clip((np.trace(turn) - 1) / 2, -1, 1)
            self.assertAlmostEqual(item.getAttributeValue('_orientationErrorDeg'), np.degrees(np.arccos(cosine)), delta=0.02)

    def testASetAgainstItselfAndAPartOfIt(self):
        (_, part), = self.launch(ProtSubSet, inputFullSet=self.truth, chooseAtRandom=True, nElements=60).iterOutputAttributes()
        run = self.launch(CryoLearnProtCompareOrientations, inputReference=part, inputParticles=self.truth, alignment=ALIGNMENTS.index('o4'))
        self.assertSetSize(run.outputParticles, PARTICLES)
        errors = {item.getObjId(): item.getAttributeValue('_orientationErrorDeg') for item in run.outputParticles}
        known = {objId for objId, error in errors.items() if error is not None}
        self.assertEqual(known, part.getIdSet())
        self.assertLess(max(errors[objId] for objId in known), 0.01)

    # --------------------------------------------------- viewers ---------------------------------------------------
    def testViewersOpen(self):
        self.opensWindows(CryoLearnDistanceTrainViewer, self.train, ['showCurves', 'showDistances', 'figureToShow'])
        self.opensWindows(CryoLearnRecoverViewer, self.recovery, ['showFsc', 'showSlices', 'showSurface', 'showViews', 'showQuality', 'showDistances',
                                                                  'figureToShow'])
        self.opensWindows(CryoLearnOrientationErrorsViewer, self.comparison, ['showErrors', 'showSphere', 'figureToShow'])
        self.assertIn(CryoLearnModelViewer, pw.Config.getDomain().findViewers(self.model, 'tkinter'))

    def testEveryColumnCanBeShown(self):
        for viewerClass, run, param in ((CryoLearnRecoverViewer, self.recovery, 'showViews'), (CryoLearnRecoverViewer, self.recovery, 'showQuality'),
                                        (CryoLearnOrientationErrorsViewer, self.comparison, 'showErrors'),
                                        (CryoLearnOrientationErrorsViewer, self.comparison, 'showSphere'),
                                        (CryoLearnDistanceTrainViewer, self.train, 'showDistances')):
            window = self.window(self.viewer(viewerClass, run), param)
            for label in window.choices:
                window.which.set(label)
                window.refresh()
                window.canvas.draw()
            window.close()

    def testMapsViewerShowsTheMapFirst(self):
        viewer = self.viewer(CryoLearnRecoverViewer, self.recovery)
        self.assertEqual(['map', 'half1', 'half2'], list(viewer.getMaps()))

    def testWizardOfTheDiameter(self):
        form = self.form(CryoLearnProtRecoverOrientations, inputParticles=self.truth)

        def act(opened):
            opened.radius.set(39)
            opened.refresh()
            self.assertEqual('diameter 78 Å of a box of %d Å' % (BOX * PIXEL), opened.figure.axes[0].get_title())
        self.assertEqual('78.0', self.drive(form, 'particleDiameterAngst', act))

    # --------------------------------------------------- refused ---------------------------------------------------
    def refused(self, protocolClass, *words, **values):
        sentences = self.newProtocol(protocolClass, **values).validate()
        self.assertEqual(len(sentences), 1, sentences)
        for word in words:
            self.assertIn(word, sentences[0])

    def testTrainRefuses(self):
        train = CryoLearnProtDistanceTrain
        self.refused(train, 'Neither maps nor structures', inputParticles=self.truth)
        self.refused(train, "symmetry 'C0' is not known", inputStructures=[self.structure], symmetry='C0')
        self.refused(train, 'Aligned particles are needed', source=SOURCES.index('particles'))
        self.refused(train, 'Batch', 'multiple of 16', inputStructures=[self.structure], batch=100)
        self.refused(train, "holds no batch", inputStructures=[self.structure], imagesPerEpoch=64, batch=128)
        self.refused(train, "'nowhere.pdb' does not exist", inputStructures=[AtomStruct(filename='nowhere.pdb')])
        self.refused(train, 'only 20 particles', 'at least 50', source=SOURCES.index('particles'), inputParticles=self.variant(range(1, 21)))
        self.refused(train, 'no 3D (projection) alignment', source=SOURCES.index('particles'), inputParticles=self.variant(aligned=False))

    def testTrainWarns(self):
        run = self.newProtocol(CryoLearnProtDistanceTrain, inputStructures=[self.structure], preset=2)
        self.assertEqual(len(run._warnings()), 3)  # a long time on the CPU, one protein for 'views', no noise

    def testRecoverRefuses(self):
        recover = CryoLearnProtRecoverOrientations
        self.refused(recover, 'only 20 particles', 'at least 50', inputParticles=self.variant(range(1, 21)), inputModel=self.model)
        self.refused(recover, 'A network is needed', inputParticles=self.truth)
        self.refused(recover, "symmetry 'X2' is not known", inputParticles=self.truth, inputModel=self.model, symmetry='X2')
        self.refused(recover, 'distances of symmetry C1', 'C4', inputParticles=self.truth, inputModel=self.model, symmetry='C4')
        self.refused(recover, '2.9', '%g Å/px' % PIXEL, inputParticles=self.variant(pixel=2.9), inputModel=self.model)
        self.refused(recover, '24 px', '%d px' % BOX, inputParticles=self.variant(box=24), inputModel=self.model)
        self.refused(recover, 'at least one matching round', inputParticles=self.truth, start=STARTS.index('random'), rounds=0)
        self.refused(recover, 'no CTF', inputParticles=self.variant(ctf=False), inputModel=self.model)

    def testCompareRefuses(self):
        compare = CryoLearnProtCompareOrientations
        self.refused(compare, 'share no image', inputReference=self.truth, inputParticles=self.variant(folder='elsewhere'))
        self.refused(compare, 'particles to judge', 'alignment', inputReference=self.truth, inputParticles=self.variant(aligned=False))
        self.refused(compare, "symmetry '' is not known", inputReference=self.truth, inputParticles=self.truth, symmetry='')

    # --------------------------------------------------- killed ----------------------------------------------------
    def testKilledRecoveryEndsAsIfItHadNotBeen(self):
        values = dict(SEARCH, inputParticles=self.truth, inputModel=self.model)
        run = self.newProtocol(CryoLearnProtRecoverOrientations, **values)

        def recorded():
            stages = [name for folder, _, names in os.walk(run._getExtraPath('records', 'recovery')) for name in names if name.endswith('.npz')]
            return bool(stages) and not os.path.exists(run._getExtraPath('orientations.npz'))
        self.killWhen(run, recorded)
        self.resume(run)
        expected, found = (read_table(item._getExtraPath('orientations.npz'))[0] for item in (self.recovery, run))
        np.testing.assert_array_equal(found['id'], expected['id'])
        # two threads' sums differ in the last bits, which moves single voxels at the edges of the masks
        np.testing.assert_allclose(found['rotation'], expected['rotation'], atol=2e-3)
        self.assertSetSize(run.outputParticles, PARTICLES)
        # another number of rounds: the particles are not converted again
        converted, found = (os.stat(run._getExtraPath(name)).st_mtime_ns for name in ('input_particles.star', 'orientations.npz'))
        run.rounds.set(0)
        self.resume(run)
        self.assertEqual(os.stat(run._getExtraPath('input_particles.star')).st_mtime_ns, converted)
        self.assertGreater(os.stat(run._getExtraPath('orientations.npz')).st_mtime_ns, found)


class TestSymmetricOrientations(KillingTest):
    """A particle with a two-fold axis: without a network, and with one that sees views together."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        atoms = prody.parsePDB(structureFile())
        first = atoms.getCoords() - atoms.getCoords().mean(axis=0) + np.array([22.0, 0.0, 0.0])
        other = atoms.copy()
        atoms.setCoords(first)
        atoms.setChids('A')
        other.setCoords(first * np.array([-1.0, -1.0, 1.0]))
        other.setChids('B')
        path = cls.proj.getTmpPath('dimer.pdb')
        prody.writePDB(path, atoms + other)
        cls.structure = cls.launch(ProtImportPdb, inputPdbData=ProtImportPdb.IMPORT_FROM_FILES, pdbFile=path).outputPdb
        cls.truth = cls.launch(CryoLearnProtSimulateParticles, inputStructure=cls.structure, number=100, box=32, pixelSizeAngst=5.0, snr=SNR,
                               seed=2).outputParticles

    def meanError(self, particles):
        run = self.launch(CryoLearnProtCompareOrientations, inputReference=self.truth, inputParticles=particles, symmetry='C2')
        return np.radians(np.mean([item.getAttributeValue('_orientationErrorDeg') for item in run.outputParticles]))

    def testFromRandomOrientations(self):
        run = self.launch(CryoLearnProtRecoverOrientations, inputParticles=self.truth, start=STARTS.index('random'), symmetry='C2',
                          particleDiameterAngst=120, rounds=3, numberOfThreads=2)
        self.assertIn('symmetry C2', ' '.join(run.summary()))
        self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(run.outputParticles)}, {self.truth.getObjId()})
        self.assertLessEqual(self.meanError(run.outputParticles), PAPER_RAD)

    def testNetworkOfViewsThatLearnedNothing(self):
        """A network that has seen a few images only: the run says what it did about it, and no particle is lost."""
        train = self.launch(CryoLearnProtDistanceTrain, inputStructures=[self.structure], inputParticles=self.truth, preset=PRESETS.index('views'),
                            networkSizePx=32, epochs=1, imagesPerEpoch=256, numberOfThreads=2)
        self.assertEqual((train.outputModel.getPreset(), train.outputModel.getSymmetry()), ('views', 'C1'))
        (_, some), = self.launch(ProtSubSet, inputFullSet=self.truth, chooseAtRandom=True, nElements=60).iterOutputAttributes()
        run = self.launch(CryoLearnProtRecoverOrientations, inputParticles=some, inputModel=train.outputModel, rounds=1, restarts=1,
                          particleDiameterAngst=120, numberOfThreads=2)
        self.assertSetSize(run.outputParticles, 60)
        self.assertTrue(any('matching from random' in line for line in run.summary()), run.summary())
