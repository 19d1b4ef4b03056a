"""A virtual screen for the tests of windows."""

import os
import shutil
import subprocess
import time
import unittest


class VirtualScreen:
    """Makes an Xvfb on a free display the screen of this process; :meth:`stop` gives the screen from before back.

    One server serves the whole process and ends with its last client: Tk never closes its connection, and a server that goes
    away under it would take the process along.
    """

    _server, _display, _main = None, None, None

    def __init__(self):
        if shutil.which('Xvfb') is None:
            raise unittest.SkipTest('Xvfb is not installed (apt-get install xvfb): windows cannot be tested.')
        if VirtualScreen._server is None or VirtualScreen._server.poll() is not None:
            self._start()
        self._before = os.environ.get('DISPLAY')
        os.environ['DISPLAY'] = VirtualScreen._display

    @staticmethod
    def _start():
        reading, writing = os.pipe()
        VirtualScreen._server = subprocess.Popen(
            ['Xvfb', '-displayfd', str(writing), '-screen', '0', '1600x1100x24', '-nolisten', 'tcp', '-terminate'],
            pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(writing)
        with os.fdopen(reading) as answer:
            number = answer.readline().strip()
        if not number:
            raise unittest.SkipTest('Xvfb did not start.')
        VirtualScreen._display = ':' + number

    def mainWindow(self):
        """Scipion's window that others belong to, one for the process: pyworkflow keeps icons of the first Tk for all."""
        if VirtualScreen._main is None:
            from pyworkflow.gui import Window
            VirtualScreen._main = Window('tests')
        return VirtualScreen._main

    def stop(self):
        if self._before is None:
            os.environ.pop('DISPLAY', None)
        else:
            os.environ['DISPLAY'] = self._before


def settle(root, seconds=0.2):
    """Let Tk do what it has to."""
    end = time.time() + seconds
    while time.time() < end:
        root.update()
        time.sleep(0.01)


def pressWhenOpen(root, dialogClass, act, result):
    """When a dialog opens over ``root``: ``act(dialog)``, then press the button with this result.

    Returns a list that afterwards holds the exceptions of ``act``, which would be lost in Tk's loop.
    """
    errors = []

    def look(seen=False):
        found = [child for child in root.winfo_children() if isinstance(child, dialogClass) and child.winfo_viewable()]
        if not found or not seen:
            root.after(100, lambda: look(bool(found)))
            return
        try:
            act(found[-1])
        except Exception as error:
            errors.append(error)
            found[-1].cancel()
        else:
            found[-1]._handleResult(result)
    root.after(100, look)
    return errors


def drag(canvas, places, button=1):
    """Press the mouse at the first of ``places`` (pixels), move through them, release at the last."""
    from matplotlib.backend_bases import MouseEvent
    events = [('button_press_event', places[0]), *[('motion_notify_event', place) for place in places[1:]], ('button_release_event', places[-1])]
    for name, (x, y) in events:
        MouseEvent(name, canvas, x, y, button=button)._process()
