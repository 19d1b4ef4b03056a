"""Subtomograms as a Scipion project: imported ones that no code of ours made, through all protocols, and on to a protocol of tomo itself."""

import glob
import os
import uuid
from itertools import islice

import mrcfile
import numpy as np
from emtable import Table
from pwem.objects import SetOfFSCs, Transform
from pwem.protocols import ProtImportVolumes
from scipy.spatial.transform import Rotation
from scipy.stats import binom

from cryolearn.convert.subtomogram_classes import ClassTable
from cryolearn.common.tables import read_table
from cryolearn.engine.config import RunConfig, fields_of
from cryolearn.engine.subtomogram.config import (
    SubtomogramAverageConfig,
    SubtomogramClassifyConfig,
    SubtomogramSimulateConfig,
    SubtomogramSubdivideConfig,
    SubtomogramTrainConfig,
)
from cryolearn.objects import SubtomogramModel
from cryolearn.protocols import (
    CryoLearnProtSelectSubtomograms,
    CryoLearnProtSimulateSubtomograms,
    CryoLearnProtSubtomogramAverage,
    CryoLearnProtSubtomogramClassify,
    CryoLearnProtSubtomogramSubdivide,
    CryoLearnProtSubtomogramTrain,
)
from cryolearn.protocols.config_params import paramName
from cryolearn.viewers import (
    CryoLearnModelViewer,
    CryoLearnSubtomogramAverageViewer,
    CryoLearnSubtomogramClassifyViewer,
    CryoLearnSubtomogramSubdivideViewer,
    CryoLearnSubtomogramTrainViewer,
)
from cryolearn.viewers.landscape_window import LASSO

from pyworkflow.object import Pointer  # noqa: E402
from tomo.constants import BOTTOM_LEFT_CORNER  # noqa: E402
from tomo.objects import (  # noqa: E402
    AverageSubTomogram, SetOfAverageSubTomograms, SetOfClassesSubTomograms, SetOfSubTomograms, TomoAcquisition,
)
from tomo.protocols import ProtImportCoordinates3D, ProtImportSubTomograms, ProtImportTomograms, ProtSplitEvenOddTomoSet  # noqa: E402

import pyworkflow as pw  # noqa: E402

from .killing import KillingTest
from .subtomogram_cases import SHAPES, blobs, writeCases
from .windows import WindowTest

BOX, PIXEL, TILT = 24, 9.2, 60
OF_EACH, SIMULATED = 12, 24
GROUPS = 3
SMALLEST = 12  # groups that are averaged: at least one of the three is that large
QUICK = dict(width=8, embedding=8, epochs=20, batch=16, numberOfThreads=1)
SIMULATION = fields_of(SubtomogramTrainConfig)['source'].metadata['choices'].index('simulation')
STARTS, MTFS = (fields_of(kind)[name].metadata['choices'] for kind, name in (
    (SubtomogramAverageConfig, 'start'), (SubtomogramSimulateConfig, 'mtf')))


class TestSubtomograms(KillingTest, WindowTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cases = cls.proj.getPath('cases')
        cls.truth = writeCases(cls.cases, OF_EACH, BOX, PIXEL, halfAngle=TILT)
        cls.imported = cls.importCases('*.mrc', 'all shapes')
        cls.maps = cls.importMaps()
        cls.simulation = cls.launch(CryoLearnProtSimulateSubtomograms, inputVolumes=[cls.maps], classNames=', '.join(sorted(SHAPES)), perClass=SIMULATED,
                                    box=BOX, pixelSizeAngst=PIXEL, snr=2.0, shiftAngst=PIXEL, applyCtf=False, csMm=2.0,
                                    mtf=MTFS.index('none'), numberOfThreads=1)
        cls.train = cls.launch(CryoLearnProtSubtomogramTrain, inputSets=[cls.simulation.outputSubtomograms], **QUICK)
        cls.model = cls.train.outputModel
        cls.classify = cls.launch(CryoLearnProtSubtomogramClassify, inputSubtomograms=cls.imported, inputModel=cls.model, rejectFraction=0,
                                  leastConfidence=0.7, numberOfThreads=1)
        cls.subdivide = cls.launch(CryoLearnProtSubtomogramSubdivide, inputSubtomograms=cls.imported, inputModel=cls.model, clusters=GROUPS, numberOfThreads=1)
        cls.average = cls.launch(CryoLearnProtSubtomogramAverage, inputSubtomograms=cls.subdivide.outputClasses, eachClass=True, classes=1, smallest=SMALLEST,
                                 iterations=1, starts=1, angularStepDeg=30, finestStepDeg=8, numberOfThreads=1)

    @classmethod
    def importCases(cls, pattern, label, **values):
        options = dict(acquisitionAngleMin=-TILT, acquisitionAngleMax=TILT)
        options.update(values)
        return cls.launch(ProtImportSubTomograms, label, filesPath=cls.cases, filesPattern=pattern, samplingRate=PIXEL, **options).outputSubTomograms

    @classmethod
    def importMaps(cls):
        folder = cls.proj.getPath('maps')
        os.makedirs(folder, exist_ok=True)
        for shape, places in SHAPES.items():
            with mrcfile.new(os.path.join(folder, shape + '.mrc'), overwrite=True) as mrc:
                mrc.set_data(blobs(BOX * np.array(places), BOX, 1.3).astype(np.float32))
                mrc.voxel_size = PIXEL
        return cls.launch(ProtImportVolumes, filesPath=folder, filesPattern='*.mrc', samplingRate=PIXEL).outputVolumes

    def shapeOf(self, item):
        return self.truth[os.path.basename(item.getFileName())][0]

    def variant(self, tilt=(-TILT, TILT), pixel=PIXEL, count=None, box=BOX, change=None):
        """The imported subtomograms as they would be with other properties."""
        subtomograms = SetOfSubTomograms(filename=self.proj.getTmpPath('variant_%s.sqlite' % uuid.uuid4()))
        subtomograms.copyInfo(self.imported)
        subtomograms.setSamplingRate(None)
        for item in islice(self.imported.iterItems(), count):
            item = item.clone()
            item.setAcquisition(TomoAcquisition(angleMin=tilt[0], angleMax=tilt[1]))
            item.setSamplingRate(pixel)
            if change:
                change(item)
            subtomograms.append(item)
        subtomograms.setSamplingRate(pixel)
        subtomograms._firstDim.set((box, box, box))
        subtomograms.write()
        return subtomograms

    # -------------------------------------------------- simulate ---------------------------------------------------
    def testSimulatedSetIsWhatTomosPluginsExpect(self):
        subtomograms = self.simulation.outputSubtomograms
        self.assertSetSize(subtomograms, SIMULATED * len(SHAPES))
        self.assertTrue(subtomograms.hasAlignment3D())
        self.assertEqual((subtomograms.getSamplingRate(), subtomograms.getDim()), (PIXEL, (BOX,) * 3))
        files = set()
        for item in [subtomograms, *[item.clone() for item in subtomograms.iterItems()]]:
            acquisition = item.getAcquisition()
            self.assertIsInstance(acquisition, TomoAcquisition)
            self.assertEqual((acquisition.getAngleMin(), acquisition.getAngleMax(), acquisition.getStep()), (-TILT, TILT, 1))
            self.assertEqual((acquisition.getSphericalAberration(), acquisition.getVoltage(), acquisition.getAmplitudeContrast()), (2.0, 300, 0))
            if item is not subtomograms:
                files.add(item.getFileName())
                self.assertEqual((item.getSamplingRate(), item.getIndex(), item.getDim()), (PIXEL, 0, (BOX,) * 3))
                self.assertEqual(item._className.get(), sorted(SHAPES)[item.getClassId() - 1])
        self.assertEqual(len(files), SIMULATED * len(SHAPES))  # one MRC a particle
        self.assertIn(str(SIMULATED * len(SHAPES)), self.simulation.summary()[0])

    def testSimulatedPosesAreTrue(self):
        """tomo: subtomogram(r) = reference(M r). Any other pose (turned, moved, the inverse) makes the reference agree less with the data."""
        turns = [Rotation.from_rotvec(0.35 * axis).as_matrix() for axis in np.eye(3)]
        moves = [sign * axis for axis in np.eye(3) for sign in (-1, 1)]
        found = {}
        for item in self.simulation.outputSubtomograms.iterItems():
            data, matrix = mrcfile.read(item.getFileName()), item.getTransform().getMatrix()
            atoms = BOX * np.array(SHAPES[item._className.get()])
            atoms -= np.rint(atoms.mean(axis=0))  # a map is simulated about the voxel nearest to its centre of mass
            places = np.linalg.solve(matrix[:3, :3], (atoms - matrix[:3, 3]).T).T
            inverse = np.linalg.solve(matrix[:3, :3].T, (atoms - matrix[:3, 3]).T).T
            for name, tried in [('true', places), ('inverse', inverse), *[('turned %d' % k, places @ turn) for k, turn in enumerate(turns)],
                                *[('moved %d' % k, places + move) for k, move in enumerate(moves)]]:
                found.setdefault(name, []).append(np.corrcoef(blobs(tried, BOX, 1.3).ravel(), data.ravel())[0, 1])
        means = {name: np.mean(values) for name, values in found.items()}
        true = means.pop('true')
        self.assertGreater(true, max(means.values()), means)

    # ---------------------------------------------------- train ----------------------------------------------------
    def testNetwork(self):
        self.assertIsInstance(self.model, SubtomogramModel)
        self.assertEqual((self.model.getArchitecture(), self.model.getBox(), self.model.getSamplingRate()), ('residual3d', BOX, PIXEL))
        self.assertEqual(self.model.getClassNames(), sorted(SHAPES))
        self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(self.model)}, {self.simulation.outputSubtomograms.getObjId()})
        self.assertIn(CryoLearnModelViewer, pw.Config.getDomain().findViewers(self.model, 'tkinter'))
        self.assertIn('%d classes' % len(SHAPES), self.train.summary()[0])

    def testNetworkLearnsFromSubtomogramsThatNobodyStored(self):
        """The simulation's own parameters and seed, in the form of the training: the subtomograms are those of the run "simulate"."""
        values = dict(QUICK, epochs=2)
        run = self.launch(CryoLearnProtSubtomogramTrain, source=SIMULATION, inputVolumes=[self.maps], classNames=', '.join(sorted(SHAPES)),
                          perClass=SIMULATED, box=BOX, pixelSizeAngst=PIXEL, snr=2.0, shiftAngst=PIXEL, applyCtf=False, csMm=2.0,
                          mtf=MTFS.index('none'), **values)
        self.assertEqual(run.outputModel.getClassNames(), sorted(SHAPES))
        self.assertEqual((run.outputModel.getBox(), run.outputModel.getSamplingRate()), (BOX, PIXEL))
        self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(run.outputModel)}, {self.maps.getObjId()})
        own, stored = (read_table(item._getExtraPath('validation.npz'))[0] for item in (run, self.train))
        for name in ('id', 'true_class'):
            np.testing.assert_array_equal(own[name], stored[name])
        self.assertFalse(os.path.exists(run._getExtraPath('subtomograms')))
        self.assertIn('simulated, others in each epoch', run.summary()[0])

    def testSetsWithoutClassesAreClassesNamedAfterTheirRuns(self):
        rod, ring = self.importCases('rod*.mrc', 'a rod'), self.importCases('ring*.mrc', 'rings')
        run = self.newProtocol(CryoLearnProtSubtomogramTrain, inputSets=[rod, ring, self.simulation.outputSubtomograms])
        self.assertEqual(run.validate(), [])
        run.setWorkingDir(self.proj.getTmpPath('labelled'))
        os.makedirs(run._getExtraPath())
        run.convertInputStep('')
        self.refused(CryoLearnProtSubtomogramTrain, "runs named 'rings'", inputSets=[rod, ring, ring])
        names = [row.rlnClassName for row in Table.Reader(run.getSubtomogramsFile(), tableName='particles')]
        self.assertEqual(names[:2 * OF_EACH], ['a_rod'] * OF_EACH + ['rings'] * OF_EACH)
        self.assertEqual(set(names[2 * OF_EACH:]), set(SHAPES))

    # --------------------------------------------------- classify --------------------------------------------------
    def testEachSubtomogramIsClassified(self):
        found = dict(self.classify.iterOutputAttributes())
        self.assertEqual(type(found['outputSubtomograms']), SetOfSubTomograms)
        self.assertEqual(type(found['outputClasses']), SetOfClassesSubTomograms)
        table = ClassTable(self.classify._getExtraPath('classes.npz'))
        subtomograms, right, unknown = found['outputSubtomograms'], 0, set()
        self.assertEqual(subtomograms.getIdSet(), self.imported.getIdSet())
        for item in subtomograms.iterItems():
            self.assertEqual((item.getClassId(), item._classConfidence.get()), (table.classOf(item), table.value(item, 'confidence')))
            self.assertEqual((item.getAcquisition().getAngleMin(), item.getAcquisition().getAngleMax()), (-TILT, TILT))
            self.assertEqual(item._className.get(), table.nameOf(item.getClassId()) if item.getClassId() else 'unknown')
            unknown |= set() if item.getClassId() else {item.getObjId()}
            right += table.nameOf(table.value(item, 'best_class')) == self.shapeOf(item)
        self.assertGreater(right, binom.isf(0.01, len(table), 1 / len(SHAPES)))  # more than guesses are in one of a hundred cases
        self.assertEqual(found['outputUnknown'].getIdSet() if unknown else set(), unknown)
        members = {group.getObjLabel(): group.getIdSet() for group in found['outputClasses'].iterItems()}
        self.assertEqual(set().union(*members.values()), subtomograms.getIdSet() - unknown)
        self.assertLessEqual(set(members), set(SHAPES))
        self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(subtomograms)}, {self.imported.getObjId(), self.model.getObjId()})

    def testATomoProtocolTakesTheOutputs(self):
        for output in (self.classify.outputSubtomograms, self.average.outputSubtomograms):
            run = self.launch(ProtSplitEvenOddTomoSet, inputSet=output)
            for half, rest in ((run.outputset_even, 0), (run.outputset_odd, 1)):
                self.assertEqual(half.getIdSet(), {objId for objId in output.getIdSet() if objId % 2 == rest})
                self.assertEqual((half.getSamplingRate(), half.getAcquisition().getAngleMax()), (PIXEL, TILT))
                for item in half.iterItems():
                    self.assertEqual(item.getAcquisition().getAngleMin(), -TILT)
        self.assertTrue(run.outputset_even.hasAlignment3D())

    # -------------------------------------------------- subdivide --------------------------------------------------
    def testGroupsHoldEverySubtomogramOnce(self):
        classes = self.subdivide.outputClasses
        self.assertEqual(type(classes), SetOfClassesSubTomograms)
        members = [objId for group in classes.iterItems() for objId in group.getIdSet()]
        self.assertEqual(sorted(members), sorted(self.imported.getIdSet()))
        self.assertEqual(classes.getImages().getObjId(), self.imported.getObjId())
        for group in classes.iterItems():
            self.assertEqual((group.getSamplingRate(), group.getAlignment()), (PIXEL, self.imported.getAlignment()))
        for name in ('_cryolearnFeatures', '_cryolearnKnownFeatures'):
            columns, _ = read_table(classes.getAttributeValue(name))
            self.assertEqual(columns['features'].shape[1], QUICK['embedding'])

    # --------------------------------------------------- average ---------------------------------------------------
    def testOutputsOfTheAverages(self):
        found = dict(self.average.iterOutputAttributes())
        kinds = dict(outputSubtomograms=SetOfSubTomograms, outputClasses=SetOfClassesSubTomograms, outputAverages=SetOfAverageSubTomograms,
                     outputFSCs=SetOfFSCs)
        self.assertEqual({name: type(found[name]) for name in kinds}, kinds)
        groups = {'_'.join(group.getObjLabel().split()): group.getIdSet() for group in self.subdivide.outputClasses.iterItems()}
        large = {name for name, members in groups.items() if len(members) >= SMALLEST}
        self.assertEqual(large, {item.getObjLabel() for item in found['outputAverages'].iterItems()})
        averaged = set().union(*(groups[name] for name in large))
        self.assertEqual(found['outputSubtomograms'].getIdSet(), averaged)
        self.assertEqual(found['outputLeftOut'].getIdSet() if len(large) < len(groups) else set(), self.imported.getIdSet() - averaged)
        for item in found['outputAverages'].iterItems():
            self.assertIsInstance(item, AverageSubTomogram)
            self.assertEqual((item.getDim(), item.getSamplingRate()), ((BOX,) * 3, PIXEL))
            self.assertEqual([os.path.exists(path) for path in item.getHalfMaps().split(',')], [True, True])
        for group in found['outputClasses'].iterItems():
            self.assertTrue(group.hasAlignment3D())
            self.assertEqual(group.getRepresentative().getFileName(), found['outputAverages'][group.getObjId()].getFileName())
            self.assertEqual(len(group), len(group.getIdSet()))
        for output in found.values():
            self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(output)}, {self.subdivide.outputClasses.getObjId()})
        self.assertEqual(found['outputFSCs'].getSize(), found['outputAverages'].getSize())

    def testPosesMakeTheAverages(self):
        """The average of a class is what its subtomograms give when scipy turns them back by tomo's definition: reference(x) = subtomogram(M^-1 x)."""
        from scipy.ndimage import affine_transform
        largest = max(self.average.outputClasses.iterItems(), key=lambda group: group.getSize()).clone()
        group = self.average.outputClasses[largest.getObjId()]
        centre, total, flipped = np.full(3, BOX // 2), np.zeros((BOX,) * 3), np.zeros((BOX,) * 3)
        for item in group:
            data = mrcfile.read(item.getFileName())
            for sums, matrix in ((total, np.linalg.inv(item.getTransform().getMatrix())), (flipped, item.getTransform().getMatrix())):
                turn, move = matrix[:3, :3][::-1, ::-1], matrix[:3, 3][::-1]  # arrays are z, y, x
                sums += affine_transform(data, turn, offset=centre - turn @ centre + move, order=1)
        average = mrcfile.read(group.getRepresentative().getFileName())
        right, wrong = (np.corrcoef(sums.ravel(), average.ravel())[0, 1] for sums in (total, flipped))
        self.assertGreater(right, 0.7)
        self.assertGreater(right, wrong + 0.1)

    # -------------------------------------------------- extracted --------------------------------------------------
    def testCoordinatesOfExtractedSubtomogramsStay(self):
        extracted, positions = self.extracted()
        run = self.launch(CryoLearnProtSubtomogramSubdivide, inputSubtomograms=extracted, inputModel=self.model, clusters=2, numberOfThreads=1)
        count = 0
        for group in run.outputClasses.iterItems():
            for item in group.iterSubtomos():
                count += 1
                self.assertEqual(item.getCoordinate3D().getPosition(BOTTOM_LEFT_CORNER), positions[item.getObjId()])
                np.testing.assert_allclose(item.getTransform().getMatrix()[:3, 3], [1, 2, item.getObjId()])
            self.assertTrue(group.hasAlignment3D())
        self.assertEqual(count, len(positions))

    def extracted(self):
        """A set as an extraction protocol makes it: coordinates in imported tomograms, poses of a template matching."""
        folder = self.proj.getPath('tomograms')
        os.makedirs(folder, exist_ok=True)
        with mrcfile.new(os.path.join(folder, 'TS1.mrc'), overwrite=True) as mrc:
            mrc.set_data(np.zeros((32, 64, 64), np.float32))
        places = [(20 + 2 * number, 30, 10) for number in range(12)]
        with open(os.path.join(folder, 'TS1.txt'), 'w') as handle:
            handle.writelines('%d %d %d\n' % place for place in places)
        imports = self.launch(ProtImportTomograms, filesPath=folder, filesPattern='*.mrc', samplingRate=PIXEL / 2)
        (_, tomograms), = imports.iterOutputAttributes()
        imports = self.launch(ProtImportCoordinates3D, filesPath=folder, filesPattern='*.txt', importTomograms=tomograms)
        (name, coordinates), = imports.iterOutputAttributes()
        subtomograms = SetOfSubTomograms.create(imports._getPath())
        subtomograms.setSamplingRate(PIXEL)
        subtomograms.setCoordinates3D(Pointer(value=imports, extended=name))
        source = self.imported.iterItems()
        for coordinate in coordinates.iterCoordinates():
            item = next(source).clone()
            item.setCoordinate3D(coordinate.clone())
            item.setVolName(coordinate.getTomoId())
            item.setTransform(Transform(matrix=np.array([[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, item.getObjId()], [0, 0, 0, 1.]])))
            subtomograms.append(item)
        subtomograms.setAlignment3D()
        imports._defineOutputs(outputExtracted=subtomograms)
        positions = {item.getObjId(): item.getCoordinate3D().getPosition(BOTTOM_LEFT_CORNER) for item in subtomograms.iterSubtomos()}
        self.assertEqual(sorted(positions.values()), sorted(places))
        return subtomograms, positions

    # --------------------------------------------------- viewers ---------------------------------------------------
    def testViewersOpen(self):
        self.opensWindows(CryoLearnSubtomogramTrainViewer, self.train, ['showCurves', 'showConfusion', 'showFeatures', 'figureToShow'])
        self.opensWindows(CryoLearnSubtomogramClassifyViewer, self.classify, ['showSizes', 'showQuality', 'showFeatures', 'figureToShow'])
        self.opensWindows(CryoLearnSubtomogramSubdivideViewer, self.subdivide, ['showSizes', 'showFeatures', 'figureToShow'])
        self.opensWindows(CryoLearnSubtomogramAverageViewer, self.average, ['showGallery', 'showFsc', 'showSlices', 'showSurface', 'showSizes', 'figureToShow'])

    def testLassoMakesASubsetThatIsARun(self):
        window = self.window(self.viewer(CryoLearnSubtomogramSubdivideViewer, self.subdivide), 'showFeatures')
        table = ClassTable(self.subdivide._getExtraPath('clusters.npz'))
        x, y = table.columns['reduced'].T
        middle = np.median(x)
        window.tool.set(LASSO)
        window._newTool()
        window.setOutline([(x.min() - 1, y.min() - 1), (middle, y.min() - 1), (middle, y.max() + 1), (x.min() - 1, y.max() + 1)])
        expected = set(table.columns['id'][x < middle].tolist())
        self.assertEqual(set(window.insideOutline().tolist()), expected)
        run = self.launchedBy(window.makeSubset)
        self.assertIsInstance(run, CryoLearnProtSelectSubtomograms)
        self.assertEqual(run.outputSubtomograms.getIdSet(), expected)
        self.assertEqual(run.outputSubtomograms.getAcquisition().getAngleMax(), TILT)
        for colour in window.landscape.axes:
            window.colour.set(colour)
            window.refresh()
            window.canvas.draw()

    def testGallerySortsAndTurnsPages(self):
        window = self.window(self.viewer(CryoLearnSubtomogramAverageViewer, self.average), 'showGallery')
        sizes = sorted((group.getSize() for group in self.average.outputClasses.iterItems()), reverse=True)
        window.order.set('size')
        window._newOrder()
        self.assertEqual([-entry[2]['size'] for entry in window.shown()], sizes)
        window.level.set(3)
        window.refresh()
        window.turnPage(1)
        self.assertEqual(window.page, 0)  # there is one page

    # --------------------------------------------------- refused ---------------------------------------------------
    def refused(self, protocolClass, *words, **values):
        sentences = self.newProtocol(protocolClass, **values).validate()
        self.assertEqual(len(sentences), 1, sentences)
        for word in words:
            self.assertIn(word, sentences[0])

    def testBadInputIsRefusedByName(self):
        """Missing tilt range, mixed sampling, an empty set, another box or sampling rate than the network's."""
        def other(item):
            if item.getObjId() == 3:
                item.setSamplingRate(2.0)
        cases = ((dict(tilt=(None, None)), ['Subtomogram 1', 'no tilt range']), (dict(tilt=(60, -60)), ['Subtomogram 1', '60 to -60']),
                 (dict(change=other), ['Subtomogram 3', '2 Å/px', '9.2 Å/px']), (dict(count=0), ['empty']))
        for options, words in cases:
            bad = self.variant(**options)
            self.refused(CryoLearnProtSubtomogramClassify, *words, inputSubtomograms=bad, inputModel=self.model)
            self.refused(CryoLearnProtSubtomogramAverage, *words, inputSubtomograms=bad)
            self.refused(CryoLearnProtSubtomogramTrain, *words, inputSets=[bad])
        for protocolClass in (CryoLearnProtSubtomogramClassify, CryoLearnProtSubtomogramSubdivide):
            self.refused(protocolClass, '4.6 Å/px', '9.2 Å/px', inputSubtomograms=self.variant(pixel=4.6), inputModel=self.model, **self.few(protocolClass))
            self.refused(protocolClass, '40 px', '%d px' % BOX, inputSubtomograms=self.variant(box=40), inputModel=self.model, **self.few(protocolClass))

    @staticmethod
    def few(protocolClass):
        return dict(clusters=2) if protocolClass is CryoLearnProtSubtomogramSubdivide else {}

    def testFormsHaveAllThatTheEngineCanBeTold(self):
        """A parameter that no form shows keeps its default in Scipion, whatever the data: black density, say."""
        for protocol, config in ((CryoLearnProtSimulateSubtomograms, SubtomogramSimulateConfig), (CryoLearnProtSubtomogramTrain, SubtomogramTrainConfig),
                                 (CryoLearnProtSubtomogramClassify, SubtomogramClassifyConfig),
                                 (CryoLearnProtSubtomogramSubdivide, SubtomogramSubdivideConfig)):
            fields = [name for name, field in fields_of(config).items() if name not in [*fields_of(RunConfig), 'names'] and not field.metadata['path']]
            run = self.newProtocol(protocol)  # names of classes are one text, classNames
            self.assertEqual([name for name in fields if not run.hasAttribute(paramName(name))], [], protocol.__name__)

    def testRefused(self):
        self.refused(CryoLearnProtSubtomogramTrain, "only the class 'all shapes'", inputSets=[self.imported])
        self.refused(CryoLearnProtSubtomogramSubdivide, 'only 9 subtomograms', inputSubtomograms=self.variant(count=9), inputModel=self.model, clusters=3)
        self.refused(CryoLearnProtSubtomogramSubdivide, '100 groups', '%d subtomograms' % (3 * OF_EACH), inputSubtomograms=self.imported, inputModel=self.model)
        average = CryoLearnProtSubtomogramAverage
        self.refused(average, 'have no classes', inputSubtomograms=self.imported, eachClass=True)
        self.refused(average, 'have none', inputSubtomograms=self.imported, start=STARTS.index('alignment'))
        self.refused(average, 'none is given', inputSubtomograms=self.imported, start=STARTS.index('reference'))
        self.refused(average, '3 references for 2 classes', inputSubtomograms=self.imported, start=STARTS.index('reference'), classes=2,
                     inputReferences=[self.maps])
        self.refused(average, "symmetry 'X' is not known", inputSubtomograms=self.imported, symmetry='X')
        self.refused(average, 'only 3 subtomograms', 'at least 4', inputSubtomograms=self.variant(count=3), classes=2)
        self.refused(average, 'box of 25 px', inputSubtomograms=self.variant(box=25))
        train = CryoLearnProtSubtomogramTrain
        labelled = self.simulation.outputSubtomograms
        self.refused(train, '"Batch" is 20', 'multiple of 16', inputSets=[labelled], batch=20)
        self.refused(train, '"Width" is 9', 'multiple of 8', inputSets=[labelled], width=9)
        self.refused(train, 'no labelled subtomograms', 'simulation')
        self.refused(train, 'Neither structures nor maps', source=SIMULATION)
        self.refused(train, "'a' is given twice", source=SIMULATION, inputVolumes=[self.maps], classNames='a, b, a')
        simulate = CryoLearnProtSimulateSubtomograms
        self.refused(simulate, 'Neither structures nor maps')
        self.refused(simulate, '2 class names', '3 structures and maps', inputVolumes=[self.maps], classNames='a, b')
        self.refused(simulate, "'a' is given twice", inputVolumes=[self.maps], classNames='a, b, a')
        self.refused(simulate, 'not below the last', inputVolumes=[self.maps], tiltMinDeg=40, tiltMaxDeg=20)

    # --------------------------------------------------- killed ----------------------------------------------------
    def testKilledTrainingEndsAsIfItHadNotBeen(self):
        values = dict(QUICK, checkpointSteps=4)
        broken = self.newProtocol(CryoLearnProtSubtomogramTrain, inputSets=[self.simulation.outputSubtomograms], **values)

        def checkpoint():
            return bool(glob.glob(broken._getExtraPath('records', 'training', '*', 'step_*.ckpt')))
        self.killWhen(broken, checkpoint)
        self.assertFalse(os.path.exists(broken._getExtraPath('model', 'weights.safetensors')))
        self.resume(broken)
        weights = []
        for run in (self.train, broken):
            with open(run.outputModel.getFileName().replace('model.json', 'weights.safetensors'), 'rb') as handle:
                weights.append(handle.read())
        self.assertEqual(weights[0], weights[1])
