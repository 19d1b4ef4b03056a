"""Maps enhanced by networks, as a Scipion project: ubiquitin with half maps, a network that was trained a little, the one that comes with the software."""

import os

import mrcfile
import numpy as np
from pwem.objects import SetOfFSCs, Volume
from pwem.protocols import ProtImportPdb, ProtImportVolumes

from cryolearn.convert.enhanced_maps import readEnhancedCurves
from cryolearn.convert.map_scores import halfMapFiles
from cryolearn.objects import MapModel
from cryolearn.protocols import CryoLearnProtMapEnhance, CryoLearnProtMapTrain, CryoLearnProtValidateMap
from cryolearn.viewers import CryoLearnEnhanceViewer, CryoLearnMapTrainViewer, CryoLearnModelViewer

from .base import structureFile
from .test_validate_map import makeFiles
from .windows import WindowTest

QUICK = dict(patchPx=32, width=4, epochs=2, patchesPerEpoch=8, batch=4, validationPatches=2, validationFraction=0.5, numberOfThreads=2)


class TestEnhanceMap(WindowTest):
    """The two protocols, their outputs, the viewers of their runs, what they refuse."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = os.path.abspath(cls.proj.getTmpPath('enhance'))
        os.makedirs(cls.folder)
        cls.pixel = makeFiles(cls.folder)
        cls.ubiquitin = cls.importModel(os.path.join(cls.folder, 'model.pdb'))
        cls.kinase = cls.importModel(structureFile())
        cls.volume = cls.importMap('before')
        cls.train = cls.launch(CryoLearnProtMapTrain, inputStructures=[cls.ubiquitin, cls.kinase], **QUICK)
        cls.run_ = cls.launch(CryoLearnProtMapEnhance, label='ubiquitin', inputVolume=cls.volume, inputModel=cls.train.outputModel, resolutionAngst=3.0,
                              rotations=1, numberOfThreads=2)

    @classmethod
    def importModel(cls, path):
        return cls.launch(ProtImportPdb, inputPdbData=ProtImportPdb.IMPORT_FROM_FILES, pdbFile=path).outputPdb

    @classmethod
    def importMap(cls, name, halves=True):
        files = {'half%dmap' % number: os.path.join(cls.folder, '%s_half%d.mrc' % (name, number)) for number in (1, 2)} if halves else {}
        files['filesPath'] = os.path.join(cls.folder, name + '.mrc')
        return cls.launch(ProtImportVolumes, samplingRate=cls.pixel, setHalfMaps=halves, **files).outputVolume

    # ---------------------------------------------------- train ----------------------------------------------------
    def testNetwork(self):
        model = self.train.outputModel
        self.assertIsInstance(model, MapModel)
        self.assertEqual((model.getPreset(), model.getDegradation(), model.getSamplingRate(), model.getResolutions()), ('residual', 'physics', 1.0, (2.5, 6.0)))
        self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(model)}, {self.ubiquitin.getObjId(), self.kinase.getObjId()})
        self.assertIn('trained on 1 molecules, validated on 1 others', self.train.summary()[0])
        self.assertEqual(['Mullick2022'], self.train._citations())
        with open(self.train._getExtraPath('manifest.csv')) as handle:
            self.assertEqual(3, len(handle.readlines()))

    # --------------------------------------------------- enhance ---------------------------------------------------
    def testOutputsAreTypedOnTheInputsGridAndKnowTheirSource(self):
        found = dict(self.run_.iterOutputAttributes())
        self.assertEqual({name: type(item) for name, item in found.items()},
                         dict(outputVolume=Volume, outputUncertainty=Volume, outputConfidence=Volume, outputFSCs=SetOfFSCs))
        for output in found.values():
            self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(output)},
                             {self.volume.getObjId(), self.train.outputModel.getObjId()})
        output = found['outputVolume']
        self.assertEqual((self.volume.getDim(), self.volume.getSamplingRate()), (output.getDim(), output.getSamplingRate()))
        self.assertEqual(2, len(halfMapFiles(output)))
        with mrcfile.open(self.run_._getExtraPath('input_map.mrc')) as before, mrcfile.open(output.getFileName()) as after:
            self.assertTrue(any('NOT for refinement or deposition' in label for label in after.get_labels()))
            self.assertEqual(before.header.origin.tolist(), after.header.origin.tolist())
            self.assertGreater(np.corrcoef(before.data.ravel(), after.data.ravel())[0, 1], 0.5)
        with mrcfile.open(found['outputUncertainty'].getFileName()) as spread:
            self.assertGreaterEqual(float(spread.data.min()), 0)
            self.assertGreater(float(spread.data.max()), 0)
        with mrcfile.open(found['outputConfidence'].getFileName()) as confidence:
            self.assertTrue(0 <= float(confidence.data.min()) < float(confidence.data.max()) <= 1)
        self.assertTrue(any('stand out of the input' in line for line in self.run_.summary()))

    def testCorrelationsOfHalfMaps(self):
        labels = [fsc.getObjLabel() for fsc in self.run_.outputFSCs.iterItems()]
        self.assertEqual(labels, [label for label, _, _ in readEnhancedCurves(self.run_._getExtraPath())])
        self.assertIn('evidence', labels[1])
        self.assertIn('do not deposit', self.run_.summary()[-1])
        self.assertTrue(any('half map that was not seen' in line for line in self.run_.summary()))

    def testTheEnhancedMapCanBeScored(self):
        """Its half maps travel with it, and the correlation with the other raw half is what counts."""
        run = self.launch(CryoLearnProtValidateMap, inputVolume=self.volume, inputVolumeAfter=self.run_.outputVolume, inputStructure=self.ubiquitin,
                          resolutionAngst=3.0, bootstraps=100, decoys=False, numberOfThreads=2)
        labels = [fsc.getObjLabel() for fsc in run.outputFSCs.iterItems()]
        self.assertTrue(any(label.startswith('half after, other half before') for label in labels))

    def testTheNetworkOfTheSoftware(self):
        """Without half maps and without a network of one's own: works right after installation, and says what is missing."""
        volume = self.importMap('after', halves=False)
        protocol = self.newProtocol(CryoLearnProtMapEnhance, inputVolume=volume, resolutionAngst=3.0, rotations=0, numberOfThreads=2)
        self.assertEqual([], protocol.validate())
        self.assertIn('half maps', protocol.warnings()[0])
        self.launchProtocol(protocol)
        self.assertFalse(hasattr(protocol, 'outputFSCs'))
        self.assertIn('comes with the software', ' '.join(protocol.summary()))

    # ---------------------------------------------------- refused --------------------------------------------------
    def testBadInputIsRefused(self):
        bare = self.importMap('before', halves=False)
        cases = {
            'give its resolution': (CryoLearnProtMapEnhance, dict(inputVolume=bare)),
            'trained on maps of 2.5 to 6': (CryoLearnProtMapEnhance, dict(inputVolume=bare, inputModel=self.train.outputModel, resolutionAngst=9.0)),
            'Neither structures nor pairs': (CryoLearnProtMapTrain, {}),
            'give one for each': (CryoLearnProtMapTrain, dict(inputMaps=[self.volume])),
            'multiple of 16': (CryoLearnProtMapTrain, dict(inputStructures=[self.kinase], patchPx=40)),
            'coarser than the coarsest': (CryoLearnProtMapTrain, dict(inputStructures=[self.kinase], finestAngst=7.0)),
        }
        for sentence, case in cases.items():
            with self.subTest(sentence):
                self.assertTrue(any(sentence in error for error in self.errors(case)), self.errors(case))

    def testTheEnginesWordIsTheRunsError(self):
        empty = os.path.join(self.folder, 'empty.mrc')
        with mrcfile.new(empty, overwrite=True) as mrc:
            mrc.set_data(np.full((32, 32, 32), 2, np.float32))
            mrc.voxel_size = 1.0
        volume = self.launch(ProtImportVolumes, filesPath=empty, samplingRate=1.0).outputVolume
        run = self.newProtocol(CryoLearnProtMapEnhance, inputVolume=volume, inputModel=self.train.outputModel, resolutionAngst=3.0)
        try:
            self.launchProtocol(run)
        except Exception:
            pass
        self.assertIn('is empty: all of its voxels are 2', run.getErrorMessage())

    # ---------------------------------------------------- viewers --------------------------------------------------
    def testViewers(self):
        self.opensWindows(CryoLearnEnhanceViewer, self.run_, ['showSlices', 'showSurfaces', 'showFsc', 'figureToShow'])
        self.opensWindows(CryoLearnMapTrainViewer, self.train, ['showCurves', 'showFsc', 'figureToShow'])
        self.assertIn(CryoLearnModelViewer.__name__, [found.__name__ for found in self.viewersOf(self.train.outputModel)])

    def viewersOf(self, item):
        import pyworkflow as pw
        return pw.Config.getDomain().findViewers(item, 'tkinter')

    def testOneCursorForAllSlices(self):
        """The place under the cursor is marked in all slices with each map's value there; a click moves the other slices to it."""
        from .screen import drag
        view = self.window(self.viewer(CryoLearnEnhanceViewer, self.run_), 'showSlices')
        view.canvas.draw()
        axes = view.panels['enhanced']
        x, y = 20 * self.pixel + 0.1, 30 * self.pixel + 0.1
        at = axes.transData.transform((x, y))
        drag(view.canvas, [at, at])
        place = [view.place[0], 30, 20]
        self.assertEqual(place, view.place)
        for vertical, horizontal in view.lines:
            self.assertAlmostEqual(x, vertical.get_xdata()[0], delta=0.5 * self.pixel)
            self.assertAlmostEqual(y, horizontal.get_ydata()[0], delta=0.5 * self.pixel)
        for label in ('input', 'enhanced'):
            self.assertIn('%s: %.4g' % (label, view.maps[label][0][tuple(place)]), view.values.get())

    def testSurfacesTurnTogether(self):
        from .screen import drag
        view = self.window(self.viewer(CryoLearnEnhanceViewer, self.run_), 'showSurfaces')
        view.canvas.draw()
        first = [np.array(axes.collections[0].get_paths()[0].vertices) for axes in view.figure.axes]
        middle = view.figure.axes[0].transAxes.transform((0.5, 0.5))
        drag(view.canvas, [middle, middle + 60])
        self.assertFalse(np.allclose(view.rotation, np.eye(3)))
        self.assertEqual(2, len(view.figure.axes))
        for axes, before in zip(view.figure.axes, first):
            self.assertNotEqual(before.tolist(), np.array(axes.collections[0].get_paths()[0].vertices).tolist())
