"""What the tests of viewers and wizards share: windows on a virtual screen, opened as Scipion opens them."""

from unittest import mock

import numpy as np

from .base import ProjectTest
from .screen import VirtualScreen, pressWhenOpen, settle

import pyworkflow as pw  # noqa: E402
import pyworkflow.gui.project  # noqa: E402, F401 (forms import it in a circle)
from pyworkflow.gui import Window, dialog  # noqa: E402
from pyworkflow.gui.form import FormWindow  # noqa: E402


class WindowTest(ProjectTest):
    """A test class with a project and a screen."""

    @classmethod
    def setUpClass(cls):
        cls.screen = VirtualScreen()
        super().setUpClass()
        cls.main = cls.screen.mainWindow()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.screen.stop()

    # -------------------------------------------------- viewers ---------------------------------------------------
    def viewer(self, viewerClass, run):
        """The viewer of a run, found as Scipion finds it, with its form open."""
        found = pw.Config.getDomain().findViewers(run, 'tkinter')
        self.assertIn(viewerClass, found)
        viewer = viewerClass(project=self.proj, protocol=run, parent=self.main)
        with mock.patch.object(Window, 'show', lambda window, **options: window.root.deiconify()):
            viewer.visualize(run, windows=self.main)
        settle(viewer.formWindow.root)
        self.addCleanup(viewer.formWindow.root.destroy)
        return viewer

    def window(self, viewer, param):
        """The window that a line of the form opens."""
        view, = viewer._getVisualizeDict()[param](param)
        view.build()
        view.window.root.deiconify()
        settle(view.window.root)
        self.addCleanup(view.close)
        return view

    def opensWindows(self, viewerClass, run, params):
        """Each line of a viewer's form opens a window in which something is drawn."""
        viewer = self.viewer(viewerClass, run)
        for param in params:
            with self.subTest(viewer=viewerClass.__name__, param=param):
                view = self.window(viewer, param)
                view.canvas.draw()
                colours = np.unique(np.frombuffer(view.canvas.buffer_rgba(), dtype=np.uint32))
                self.assertGreater(len(colours), 20)  # something is drawn
                self.assertIn(viewer.protocol.getRunName(), view.title)
                view.close()

    def launchedBy(self, action):
        """The run that an action of a window launches, waited for."""
        launch, launched = self.proj.launchProtocol, []

        def launchAndWait(run, **options):
            launch(run, wait=True)
            launched.append(run)
        with mock.patch.object(self.proj, 'launchProtocol', launchAndWait):
            action()
        run, = launched
        self.assertTrue(run.isFinished(), run.getErrorMessage())
        return run

    # -------------------------------------------------- wizards ---------------------------------------------------
    def form(self, protocolClass, **values):
        protocol = self.newProtocol(protocolClass, **values)
        form = FormWindow('form', protocol, None, self.main)
        form.root.deiconify()
        settle(form.root)
        self.addCleanup(form.root.destroy)
        return form

    def drive(self, form, param, act, result=dialog.RESULT_YES):
        """Press the wizard of a parameter, do something in its dialog, press a button; the form's value afterwards."""
        shown = []

        def actAndCount(opened):
            shown.append(opened.title())
            act(opened)
        errors = pressWhenOpen(form.root, dialog.Dialog, actAndCount, result)
        form.wizards[param]().show(form)
        if errors:
            raise errors[0]
        self.assertEqual(1, len(shown))
        return form.widgetDict[param].get()
