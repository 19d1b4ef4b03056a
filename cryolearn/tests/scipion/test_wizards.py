"""Every wizard, driven under a virtual screen on the forms that offer it."""

import numpy as np

from .base import BOX, PIXEL
from .windows import WindowTest

from pyworkflow.gui import dialog  # noqa: E402

from cryolearn.protocols import (  # noqa: E402
    CryoLearnProtClusterLandscape,
    CryoLearnProtElasticAlign,
    CryoLearnProtElasticTrain,
    CryoLearnProtReconstruct,
    CryoLearnProtSimulateParticles,
    CryoLearnProtTrajectory,
    CryoLearnProtVolumeToGaussians,
)
from cryolearn.protocols.config_params import rangeText  # noqa: E402
from cryolearn.wizards.images import lowPass, previewOf  # noqa: E402


class TestWizards(WindowTest):

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.modes = cls.makeModes()
        cls.particles = cls.simulate(cls.modes, 40, snr=1.0).outputParticles
        cls.volume = cls.launch(CryoLearnProtTrajectory, inputSet=cls.particles, inputModes=cls.modes, frames=2)

    # --------------------------------------------------- modes ------------------------------------------------
    def testModesAreChosenFromTheTable(self):
        for protocolClass, values in ((CryoLearnProtElasticAlign, dict(inputParticles=self.particles)),
                                      (CryoLearnProtElasticTrain, dict(inputParticles=self.particles)),
                                      (CryoLearnProtSimulateParticles, {}),
                                      (CryoLearnProtTrajectory, dict(inputSet=self.particles)),
                                      (CryoLearnProtClusterLandscape, dict(inputParticles=self.particles))):
            with self.subTest(protocol=protocolClass.__name__):
                form = self.form(protocolClass, inputModes=self.modes, **values)
                self.assertEqual('7-9 12', self.drive(form, 'modeNumbers', lambda opened: opened.table.select([7, 8, 9, 12])))

    def testTableShowsCollectivityAndSorts(self):
        collectivity = {mode.getObjId(): mode.getCollectivity() for mode in self.modes.iterItems()}
        form = self.form(CryoLearnProtElasticAlign, inputParticles=self.particles, inputModes=self.modes, modeNumbers='10 11')

        def act(opened):
            tree = opened.table.tree
            self.assertEqual([10, 11], opened.table.selected())  # those of the form
            opened.table.sort('collectivity')
            order = [int(item) for item in tree.get_children()]
            self.assertEqual(sorted(order, key=lambda mode: -collectivity[mode]), order)
            self.assertNotIn(6, order)  # rigid modes are not offered
            self.assertEqual('%.3g' % collectivity[8], tree.set('8', 'collectivity'))
            opened.table.select([8])
        self.assertEqual('8', self.drive(form, 'modeNumbers', act))

    def testCancelLeavesTheForm(self):
        form = self.form(CryoLearnProtElasticAlign, inputParticles=self.particles, inputModes=self.modes, modeNumbers='10 11')
        value = self.drive(form, 'modeNumbers', lambda opened: opened.table.select([7]), dialog.RESULT_CANCEL)
        self.assertEqual('10 11', value)

    def testWithoutModesTheWizardAsksForThem(self):
        form = self.form(CryoLearnProtElasticAlign)
        self.drive(form, 'modeNumbers', lambda opened: None, dialog.RESULT_CLOSE)
        self.assertEqual('7 8 9', form.widgetDict['modeNumbers'].get())

    def testRangesAreWrittenShort(self):
        self.assertEqual('7-9 12', rangeText([12, 9, 7, 8]))
        self.assertEqual('7 8 10', rangeText([7, 8, 10]))

    # --------------------------------------------------- images -----------------------------------------------
    def testMaskRadiusOverTheInputsImages(self):
        form = self.form(CryoLearnProtReconstruct, inputSet=self.particles)

        def act(opened):
            self.assertEqual('mean of 40 particles', opened.which.get())
            self.assertEqual(BOX * PIXEL / 2, opened.half)
            opened.which.set('particle 3')
            opened.radius.set(70)
            opened.refresh()
            circle = opened.figure.axes[0].patches[0]
            self.assertEqual(70, circle.get_radius())
            self.assertEqual([-128, 128, -128, 128], list(opened.figure.axes[0].images[0].get_extent()))  # Å, like the circle
        self.assertEqual('70.0', str(self.drive(form, 'maskRadiusAngst', act)))

    def testResolutionByTheFilteredImage(self):
        form = self.form(CryoLearnProtElasticAlign, inputParticles=self.particles, inputModes=self.modes)

        def act(opened):
            self.assertEqual(2 * PIXEL, opened.resolution.get())  # Nyquist, when the form says 0
            opened.resolution.set(16)
            opened.refresh()
            self.assertEqual(['mean of 40 particles as it is', 'low-pass filtered at 16.0 Å'],
                             [axes.get_title() for axes in opened.figure.axes])
        self.assertEqual('16.0', str(self.drive(form, 'resolutionAngst', act)))

    def testResolutionOfAMap(self):
        form = self.form(CryoLearnProtVolumeToGaussians)
        form.protocol.inputVolume.set(self.volume)
        form.protocol.inputVolume.setExtended('outputVolumes.1')
        self.assertEqual('20.0', str(self.drive(form, 'resolutionAngst', lambda opened: opened.resolution.set(20))))

    def testLowPassKeepsWhatIsCoarserOnly(self):
        x = np.arange(64) * 2.0
        coarse, fine = np.sin(2 * np.pi * x / 32), np.sin(2 * np.pi * x / 8)
        image = np.tile(coarse + fine, (64, 1))
        np.testing.assert_allclose(lowPass(image, 2.0, 16.0), np.tile(coarse, (64, 1)), atol=1e-6)

    def testPreviewOfAMapShowsItsCentralSlices(self):
        preview = previewOf(self.volume.outputVolumes.getFirstItem())
        self.assertEqual((BOX, BOX), preview.image(0).shape)
        self.assertEqual(PIXEL, preview.pixelSize)
        self.assertGreater(preview.image(3).sum(), preview.image(0).sum())  # the sum holds every slice
        self.assertIsNone(previewOf(None))

    # -------------------------------------------------- clusters ----------------------------------------------
    def testNumberOfClustersByItsScore(self):
        form = self.form(CryoLearnProtClusterLandscape, inputParticles=self.particles)

        def act(opened):
            self.assertEqual(list(range(2, 13)), opened.numbers)
            self.assertTrue(all(-1 <= score <= 1 for score in opened.scores))
            self.assertEqual(opened.numbers[int(np.argmax(opened.scores))], int(opened.chosen.get()))
            opened.chosen.set('5')
        self.assertEqual('5', str(self.drive(form, 'clusters', act)))
