"""Maps scored against models, as a Scipion project: ubiquitin at 3 Å, blurred (before) and not (after)."""

import os

import mrcfile
import numpy as np
from pwem.objects import AtomStruct, SetOfFSCs, Transform, Volume
from pwem.protocols import ProtImportPdb, ProtImportVolumes

from cryolearn.convert.map_scores import halfMapFiles, readResidues, readScores, writePlacedVolume
from cryolearn.protocols import CryoLearnProtValidateMap
from cryolearn.viewers import CryoLearnValidateMapViewer

from .windows import WindowTest

from pyworkflow.object import Float  # noqa: E402

CCTBX_EMRINGER = 5.2270  # of ubiquitin at 3 Å: see tests/engine/test_map_validation_emringer.py


def makeFiles(folder):
    """Model, maps and half maps of ubiquitin, made by the engine's tests; the first voxel is at 0, 0, 0, as in maps of the EMDB. Returns the voxel size."""
    from cryolearn.engine.io.maps import write_map
    from cryolearn.engine.io.structures import write_structure
    from cryolearn.tests.engine.map_cases import blurred, polymer, sharp_map
    sharp = sharp_map('1ubi', 3.0)
    maps = dict(after=sharp, before=blurred(sharp, 200.0))
    for name, volume in list(maps.items()):
        maps.update({'%s_half%d' % (name, half): blurred(volume, 0.0, noise=0.3, seed=half) for half in (1, 2)})
    for name, volume in maps.items():
        write_map(os.path.join(folder, name + '.mrc'), volume.data, volume.pixel_size_angst)
    model = polymer('1ubi')
    write_structure(os.path.join(folder, 'model.pdb'), model, model.coordinates - np.asarray(sharp.origin_angst))
    return sharp.pixel_size_angst


class TestValidateMap(WindowTest):
    """The protocol, its outputs, its viewer, what it refuses."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = os.path.abspath(cls.proj.getTmpPath('validate'))
        os.makedirs(cls.folder)
        cls.pixel = makeFiles(cls.folder)
        cls.structure = cls.launch(ProtImportPdb, inputPdbData=ProtImportPdb.IMPORT_FROM_FILES, pdbFile=cls.file('model.pdb')).outputPdb
        cls.before, cls.after = cls.importMap('before'), cls.importMap('after')
        cls.validation = cls.launch(CryoLearnProtValidateMap, label='sharpening', inputVolume=cls.before, inputVolumeAfter=cls.after,
                                    inputStructure=cls.structure, resolutionAngst=3.0, bootstraps=200, numberOfThreads=2)

    @classmethod
    def file(cls, name):
        return os.path.join(cls.folder, name)

    @classmethod
    def importMap(cls, name):
        """As most users import: Scipion then takes the middle of the map as 0, 0, 0, where the model is not."""
        return cls.launch(ProtImportVolumes, filesPath=cls.file(name + '.mrc'), samplingRate=cls.pixel, setHalfMaps=True,
                          half1map=cls.file(name + '_half1.mrc'), half2map=cls.file(name + '_half2.mrc')).outputVolume

    def scores(self, run):
        names, rows = readScores(run._getExtraPath())
        return names, {row['score']: row for row in rows}

    # ---------------------------------------------------- scores ---------------------------------------------------
    def testScoresAreThoseOfTheMaps(self):
        names, rows = self.scores(self.validation)
        self.assertEqual(['before', 'after'], names)
        self.assertAlmostEqual(CCTBX_EMRINGER, rows['emringer']['after'], delta=1e-4)
        self.assertGreater(rows['cc_mask']['after'], 0.99)
        self.assertGreater(rows['q_score']['change_low'], 0)  # the treatment took a blur off
        self.assertGreater(rows['decoy_gap_q']['change'], 0)
        residues = readResidues(self.validation._getExtraPath())
        self.assertEqual((76, 47), (len(residues), sum(row['emringer'] for row in residues)))

    def testOutputsAreTypedAndKnowTheirSource(self):
        found = dict(self.validation.iterOutputAttributes())
        self.assertEqual({name: type(item) for name, item in found.items()}, dict(outputFSCs=SetOfFSCs, outputEmringer=Float, outputQScore=Float))
        _, rows = self.scores(self.validation)
        self.assertAlmostEqual(rows['emringer_tie_safe']['after'], self.validation.outputEmringer.get())
        self.assertAlmostEqual(rows['q_score']['after'], self.validation.outputQScore.get())
        self.assertEqual({item.getObjId() for item in self.proj.getSourceParents(self.validation.outputFSCs)},
                         {self.before.getObjId(), self.after.getObjId(), self.structure.getObjId()})
        labels = [fsc.getObjLabel() for fsc in self.validation.outputFSCs.iterItems()]
        self.assertEqual(10, len(labels))  # masked or not: two maps with the model, two pairs of half maps, one across
        self.assertIn('map and model: after, masked', labels)
        self.assertIn('half after, other half before: cross, masked', labels)

    def testSummaryIsRead(self):
        text = '\n'.join(self.validation.summary())
        for part in ('EMRinger', 'Q-score (sigma 0.4 Å): before', 'change +', '47 side chains of 76 residues', 'other half before it',
                     'taken with its first voxel at 0, 0, 0'):
            self.assertIn(part, text)
        self.assertIn('200 resamplings', self.validation.methods()[0])
        self.assertEqual(['Barad2015', 'Pintilie2020', 'Afonine2018'], self.validation._citations())

    def testWhatTheEngineIsAskedFor(self):
        """Maps and half maps with Scipion's sampling rate and origin; no half maps when the form says so."""
        run = self.newProtocol(CryoLearnProtValidateMap, inputVolume=self.before, inputVolumeAfter=self.after, inputStructure=self.structure,
                               inputMask=self.after, qSigmaAngst=0.6)
        run.setWorkingDir(self.proj.getTmpPath('asked'))
        os.makedirs(run._getExtraPath())
        files, config = run.convertInputStep(''), run._config()
        self.assertEqual([config.volume, config.half1, config.half2, config.volume_after, config.after_half1, config.after_half2, config.mask], files)
        self.assertEqual((config.q_sigma_angst, config.place, config.structure), (0.6, 'auto', self.structure.getFileName()))
        for path in files:
            with mrcfile.open(path) as mrc:
                self.assertAlmostEqual(self.pixel, float(mrc.voxel_size.x), places=4)
                np.testing.assert_allclose([float(mrc.header.origin[axis]) for axis in 'xyz'], [-side * self.pixel / 2 for side in self.before.getDim()])
        run.useHalfMaps.set(False)
        self.assertEqual(('', ''), (run._config().half1, run._config().after_half2))

    def testAMapStandsWhereItsObjectOrElseItsFileSays(self):
        with mrcfile.open(self.file('before.mrc')) as mrc, mrcfile.new(self.file('placed.mrc')) as placed:
            placed.set_data(np.array(mrc.data))
            placed.voxel_size = self.pixel
            placed.header.origin.x, placed.header.origin.y, placed.header.origin.z = 10, -20, 30.5
        volume = Volume(location=self.file('placed.mrc'))  # of another program: only the file knows the origin
        volume.setSamplingRate(self.pixel)
        self.assertEqual([10, -20, 30.5], self.placeOf(volume))
        origin = Transform()
        origin.setShifts(1, 2, 3)
        volume.setOrigin(origin)
        self.assertEqual([1, 2, 3], self.placeOf(volume))
        self.assertEqual([], halfMapFiles(volume))

    def placeOf(self, volume):
        with mrcfile.open(writePlacedVolume(volume, self.file('written.mrc'))) as mrc:
            return [float(mrc.header.origin[axis]) for axis in 'xyz']

    # --------------------------------------------------- refusals --------------------------------------------------
    def testBadInputIsRefused(self):
        def volume(name, pixel=self.pixel, halves=()):
            made = Volume(location=self.file(name))
            made.setSamplingRate(pixel)
            if halves:
                made.setHalfMaps(list(halves))
            return made
        with mrcfile.new(self.file('small.mrc')) as mrc:
            mrc.set_data(np.ones((8, 8, 8), np.float32))
        with open(self.file('text.mrc'), 'w') as handle:
            handle.write('no file of this kind\n' * 100)
        good = dict(inputVolume=volume('before.mrc'), inputStructure=self.structure)
        self.assertEqual([], self.errors((CryoLearnProtValidateMap, good)))
        for sentence, values in (
                ('differ in size', dict(good, inputVolumeAfter=volume('small.mrc'))),
                ('differ in sampling rate', dict(good, inputVolumeAfter=volume('after.mrc', 1.0))),
                ('The mask and the map differ in size', dict(good, inputMask=volume('small.mrc'))),
                ("The mask's file .*text.mrc' cannot be read as a map", dict(good, inputMask=volume('text.mrc'))),
                ("The map's file .*text.mrc' cannot be read as a map", dict(good, inputVolume=volume('text.mrc'))),
                ('The map has no sampling rate', dict(good, inputVolume=volume('before.mrc', -1.0))),
                ("The map's file .*absent.mrc' does not exist", dict(good, inputVolume=volume('absent.mrc'))),
                ("The model's file .* does not exist", dict(good, inputStructure=AtomStruct(filename=self.file('absent.pdb')))),
                ("The half map .* of the map does not exist", dict(good, inputVolume=volume('before.mrc', halves=(self.file('a.mrc'), self.file('b.mrc'))))),
                ('has 1 half maps instead of two', dict(good, inputVolume=volume('before.mrc', halves=(self.file('before_half1.mrc'),)))),
                ('Q-score sigma', dict(good, qSigmaAngst=9.0))):
            errors = self.errors((CryoLearnProtValidateMap, values))
            self.assertRegex('\n'.join(errors), sentence)
        one = self.newProtocol(CryoLearnProtValidateMap, **dict(good, inputVolumeAfter=self.after))
        self.assertIn('Only one of the maps has half maps', one.warnings()[0])

    # ---------------------------------------------------- viewer ---------------------------------------------------
    def testViewer(self):
        lines = ('showScores', 'showEmringer', 'showFsc', 'showResidues', 'showSlices')
        self.opensWindows(CryoLearnValidateMapViewer, self.validation, lines)
        viewer = self.viewer(CryoLearnValidateMapViewer, self.validation)
        self.assertEqual(['change', 'emringer', 'half_map_fsc', 'map_model_fsc', 'q_score'],
                         [os.path.splitext(os.path.basename(path))[0] for path in viewer.getFigures()])
        scores = self.window(viewer, 'showScores')
        row = next(row for row in scores.rows if row['score'] == 'q_score')
        scores.table.select([row['number']])
        scores.window.root.update()
        axes = scores.figure.axes[0]
        np.testing.assert_allclose([bar.get_height() for bar in axes.patches], [row['before'], row['after']])
        self.assertIn('): higher', axes.get_xlabel())
        residues = self.window(viewer, 'showResidues')
        for label in ('EMRinger peak (chi1, degrees)', 'Q-score'):
            residues.which.set(label)
            residues.refresh()
            self.assertIn(label, residues.figure.axes[0].get_title())
        curves = self.window(viewer, 'showFsc')
        curves.which.set('half maps')
        curves.refresh()
        self.assertEqual(6, len([line for line in curves.figure.axes[0].lines if not line.get_label().startswith('_')]))
