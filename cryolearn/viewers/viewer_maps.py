"""Viewer of maps: slices, surfaces, Fourier shell correlations."""

import glob
import os
from functools import partial

import numpy as np

from ..common.figures.curves import draw_fsc
from ..common.fsc import HALF_MAP_THRESHOLD, TRUTH_THRESHOLD, curve_names, read_curve, resolution_of_curve
from ..protocols import CryoLearnProtReconstruct, CryoLearnProtVolumeToGaussians
from .backbone import readModels
from .scene_window import SceneWindow
from .slices_window import SlicesWindow, readMap
from .viewer_base import CryoLearnViewer


class CryoLearnMapsViewer(CryoLearnViewer):
    """Maps of a reconstruction or of a Gaussian model, and how far they can be trusted."""

    _label = 'maps viewer'
    _targets = [CryoLearnProtReconstruct, CryoLearnProtVolumeToGaussians]

    def _defineResults(self, form):
        self._addLine(form, 'showFsc', 'FSC curves, all in one plot', important=True,
                      help='Resolution is read where a curve first falls below the threshold, never beyond its end.')
        self._addFscSet(form)
        self._addLine(form, 'showSlices', 'Slices')
        self._addLine(form, 'showSurface', 'Surface',
                      help='Isosurface that can be turned and whose level can be changed; needs no ChimeraX.')

    def mapsFolder(self):
        """Where the run keeps its maps and their curves."""
        return self.extra()

    def nameOf(self, label):
        """What a map or curve is called, by the name of its file."""
        return label

    # --------------------------------------------------- FSC --------------------------------------------------
    def _showFsc(self, param=None):
        truth = isinstance(self.protocol, CryoLearnProtVolumeToGaussians)
        threshold = TRUTH_THRESHOLD if truth else HALF_MAP_THRESHOLD
        curves = [(self.nameOf(label), *curve) for label, *curve in fscCurves(self.mapsFolder(), threshold)]
        if not curves:
            return self._notReady('The FSC')
        title = 'FSC of Gaussians and map' if truth else 'FSC of half maps'
        thresholds = (threshold,) if truth else (HALF_MAP_THRESHOLD, TRUTH_THRESHOLD)
        return self.figure('FSC', lambda figure: draw_fsc(figure, curves, thresholds, title))

    # --------------------------------------------------- maps -------------------------------------------------
    def getMaps(self):
        """``{label: path}`` of the run's maps, half maps last."""
        found = sorted(glob.glob(os.path.join(self.mapsFolder(), '*.mrc')), key=lambda path: (isHalf(path), path))
        return {self.nameOf(os.path.splitext(os.path.basename(path))[0].replace('_', ' ')): path for path in found if not path.endswith('_mask.mrc')}

    def _showSlices(self, param=None):
        maps = self.getMaps()
        return [SlicesWindow(self.title('Slices'), maps, self.formWindow)] if maps else self._notReady('The map')

    def _showSurface(self, param=None):
        maps = {label: path for label, path in self.getMaps().items() if not isHalf(path) and 'input' not in label}
        if not maps:
            return self._notReady('The map')
        readers = [partial(readMap, path) for path in maps.values()]
        traces = linked = None
        model = os.path.join(self.mapsFolder(), 'gaussians.pdb')
        if os.path.exists(model):
            models, backbone = readModels(model)
            traces, linked = np.stack([models[0][backbone.rows]] * len(maps)), backbone.linked
        return [SceneWindow(self.title('Surface'), self.formWindow, traces, linked, readers, list(maps), startWithMap=True)]


def isHalf(path):
    """Is it a half map, by its name?"""
    return 'half' in os.path.basename(path)


def fscCurves(folder, threshold):
    """``[(label, frequency, values, resolution)]`` of every curve of a run's ``*fsc.csv`` files."""
    curves = []
    for path in sorted(glob.glob(os.path.join(folder, '*fsc.csv'))):
        stem = os.path.basename(path)[:-len('fsc.csv')].rstrip('_').replace('_', ' ')
        names = curve_names(path)
        for name in names:
            frequency, values = read_curve(path, name)
            kind = name.replace('fsc', '').strip('_').replace('_', ' ')
            label = ', '.join(part for part in (stem, kind) if part) or ('masked' if len(names) > 1 else 'FSC')
            curves.append((label, frequency, values, resolution_of_curve(frequency, values, threshold)))
    return curves
