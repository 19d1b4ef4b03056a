"""Wizards of Gaussian models: how many Gaussians, with a preview of the fit, and which of them are in the focus."""

import json
import os
import subprocess

import numpy as np

from ..common.figures.palette import COLOURS
from ..common.fsc import TRUTH_THRESHOLD, read_curve, resolution_of_curve, resolution_text
from ..common.limits import DEFAULT_RESOLUTION_PX, SPACING_FOR_MOTION
from ..convert.motions import gaussiansFile
from ..convert.volumes import writeVolume
from ..engine.gaussian.config import GaussianHeterogeneityConfig
from ..engine.imaging.config import VolumeToGaussiansConfig
from ..protocols import CryoLearnProtGaussianHeterogeneity, CryoLearnProtVolumeToGaussians
from ..viewers.engine_preview import callEngine, emptyFolder
from ..viewers.gaussian_scene import GaussianModel, GaussianScene
from ..viewers.slices_window import readMap
from ..viewers.window import addButton, addChoice, addEntry, addNote
from .dialogs import FigureDialog, drawImage
from .images import lowPass
from .wizard_base import DialogWizard

QUICK_ITERATIONS = 60  # of the fit, enough to judge the number


class GaussiansFit:
    """Fits of Gaussians to one map, each made by the engine when it is asked for.

    Parameters
    ----------
    folder : str
        Scratch folder.
    config : VolumeToGaussiansConfig
        With the map's file; the number is filled in.
    """

    def __init__(self, folder, config):
        self.folder, self.config = folder, config
        self.volume, self.pixelSize, _ = readMap(config.volume)

    def __call__(self, number):
        """``(Gaussians, their map, (frequency, FSC), resolution)`` of a fit with so many Gaussians; 0 takes as many as the resolution asks for."""
        self.config.number, self.config.output = int(number), emptyFolder(os.path.join(self.folder, 'fit'))
        callEngine('volume-to-gaussians', self.config)
        with open(os.path.join(self.config.output, 'summary.json'), encoding='utf-8') as handle:
            found = json.load(handle)
        curve = read_curve(os.path.join(self.config.output, 'fsc.csv'))
        return found['gaussians'], readMap(os.path.join(self.config.output, 'rendered.mrc'))[0], curve, found['resolution_angst']


class GaussiansDialog(FigureDialog):
    """Slices of the map and of its Gaussians, and the Fourier shell correlation of the two, for a number of Gaussians."""

    def __init__(self, parent, fit, number=0):
        self.fit, self.first, self.found = fit, number, None
        FigureDialog.__init__(self, parent, 'Number of Gaussians', size=(9.6, 3.7))

    def makeControls(self, frame):
        self.number = addEntry(frame, 'Number of Gaussians (0: automatic)', str(self.first), self.makeFit, width=10)
        addButton(frame, 'Fit', self.makeFit)
        for factor, label in ((0.5, 'Half as many'), (2, 'Twice as many')):
            addButton(frame, label, lambda factor=factor: self.scale(factor))
        self.plane = addChoice(frame, 'Slice', ['xy', 'xz', 'yz'], self.refresh)
        self.note = addNote(frame)
        self.makeFit()

    def scale(self, factor):
        if self.found is not None:
            self.number.set(str(max(1, int(round(factor * self.found[0])))))
            self.makeFit()

    def makeFit(self):
        if not self.number.get().strip().isdigit():
            self.note.set('Type a whole number.')
            return
        self.config(cursor='watch')
        self.update()
        try:
            self.found = self.fit(int(self.number.get()))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.note.set(str(error))
            return
        finally:
            self.config(cursor='')
        count, _, (frequency, correlation), wanted = self.found
        self.number.set(str(count))
        self.note.set('%d Gaussians agree with the map to %s (FSC %g); they are meant for %.3g Å. This fit is quick and short; the run\'s is better.'
                      % (count, resolution_text(resolution_of_curve(frequency, correlation, TRUTH_THRESHOLD)), TRUTH_THRESHOLD, wanted))
        self.refresh()

    def draw(self, figure):
        if self.found is None:
            return
        count, rendered, (frequency, values), wanted = self.found
        axis = ('xy', 'xz', 'yz').index(self.plane.get())
        left, middle, right = figure.subplots(1, 3, gridspec_kw=dict(width_ratios=(1, 1, 1.1)))
        for axes, volume, title in ((left, self.fit.volume, 'map at %.3g Å' % wanted), (middle, rendered, '%d Gaussians' % count)):
            image = np.take(volume, volume.shape[axis] // 2, axis=axis)
            drawImage(axes, lowPass(image, self.fit.pixelSize, wanted) if volume is self.fit.volume else image, self.fit.pixelSize)
            axes.set_title(title)
        right.plot(frequency, values, color=COLOURS[0])
        right.axhline(TRUTH_THRESHOLD, color='0.5', linestyle='--', linewidth=1)
        right.axvline(1 / wanted, color=COLOURS[4], linestyle='--', linewidth=1)
        right.set(xlabel='frequency (1/Å)', title='FSC of map and Gaussians', ylim=(min(0, min(values)), 1.05))
        right.grid(alpha=0.3)

    def currentValue(self):
        return int(self.number.get()) if self.number.get().strip().isdigit() else self.first


class CryoLearnGaussiansWizard(DialogWizard):
    """Number of Gaussians: a quick fit and how well it agrees with the map."""

    _parameter, _title, _wanted = 'number', 'Number of Gaussians', 'Choose the map first.'
    _targets = [(CryoLearnProtVolumeToGaussians, ['number']), (CryoLearnProtGaussianHeterogeneity, ['number'])]

    def makeDialog(self, form):
        protocol = form.protocol
        if protocol.inputVolume.get() is None:
            return None
        fit = fitOf(protocol, emptyFolder(protocol.getProject().getTmpPath('gaussians_wizard')))
        return GaussiansDialog(form.root, fit, protocol.number.get() or 0)


def fitOf(protocol, folder):
    """What fits Gaussians to a form's map at the form's resolution."""
    volume, mask = protocol.inputVolume.get(), protocol.inputMask.get()
    files = dict(output=folder, volume=writeVolume(volume, os.path.join(folder, 'map.mrc')))
    if mask is not None:
        files['mask'] = writeVolume(mask, os.path.join(folder, 'mask.mrc'))
    if isinstance(protocol, CryoLearnProtVolumeToGaussians):
        config = protocol.buildConfig(VolumeToGaussiansConfig, **files)
    else:
        rounds = protocol.getEngineValue(GaussianHeterogeneityConfig, 'resolutions_angst')
        resolution = min(rounds) if rounds else DEFAULT_RESOLUTION_PX * volume.getSamplingRate()
        config = VolumeToGaussiansConfig(spacing=SPACING_FOR_MOTION, resolution_angst=resolution, **files)
    protocol.setHardware(config)
    config.iterations = min(config.iterations, QUICK_ITERATIONS)
    return GaussiansFit(folder, config)


class FocusDialog(GaussianScene, FigureDialog):
    """Gaussians in three dimensions; the value are the numbers of those that are picked."""

    def __init__(self, parent, model, chosen=()):
        self.setUpScene(model, chosen)
        FigureDialog.__init__(self, parent, 'Gaussians in focus', size=(6.4, 6.0))

    def makeControls(self, frame):
        colours = list(self.model.values)
        self.colour = addChoice(frame, 'Colour of the Gaussians', colours, self.refresh, colours[0])
        self.makePickControls(frame)
        addNote(frame, 'Only Gaussians in the focus move. Click them, or draw around them; the numbers can be typed too, such as 1-40 52.')
        self.turnByDragging()

    def draw(self, figure):
        axes = figure.subplots()
        self.drawScene(axes, colour=(self.colour.get(), self.model.values[self.colour.get()]))
        axes.set_title('%d of %d Gaussians in focus' % (self.picked.sum(), len(self.model)))

    def currentValue(self):
        return self.focus()


class CryoLearnFocusWizard(DialogWizard):
    """Gaussians in focus, picked in three dimensions."""

    _parameter, _title = 'focusGaussians', 'Gaussians in focus'
    _wanted = 'Choose pseudo-atoms of "volume to Gaussians" or of an earlier run first.'
    _targets = [(CryoLearnProtGaussianHeterogeneity, ['focusGaussians'])]

    def makeDialog(self, form):
        structure = form.protocol.inputGaussians.get()
        path = gaussiansFile(structure) if structure is not None else None
        return None if path is None else FocusDialog(form.root, GaussianModel(os.path.dirname(path)), self.numbersOf(form))
