"""Viewer of normal modes."""

import numpy as np
from pwem.objects import SetOfNormalModes

from ..common.figures.bars import draw_collectivity
from ..convert.modes import engineModes
from ..protocols import CryoLearnProtImportModes, CryoLearnProtNormalModes
from .modes_window import ModesWindow, modeRows
from .viewer_base import CryoLearnViewer, ObjectViewer


class CryoLearnModesViewer(CryoLearnViewer):
    """Normal modes with their collectivity, and how each one moves the structure."""

    _label = 'normal modes viewer'
    _targets = [CryoLearnProtNormalModes, CryoLearnProtImportModes]

    def _defineResults(self, form):
        self._addLine(form, 'showModes', 'Modes: table and motion', important=True,
                      help='Collectivity is the part of the atoms that a mode moves; the score is low for slow and collective modes. '
                           'Select a mode to see its motion as arrows or animated.')
        self._addLine(form, 'showCollectivity', 'Collectivity of the modes')

    def _showModes(self, param=None):
        modes = getattr(self.protocol, 'outputModes', None)
        if modes is None:
            return self._notReady('The set of modes')
        return [ModesWindow(modeRows(modes), engineModes(modes), self.title('Normal modes'), self.formWindow)]

    def _showCollectivity(self, param=None):
        modes = getattr(self.protocol, 'outputModes', None)
        if modes is None:
            return self._notReady('The set of modes')
        rows = modeRows(modes)
        return self.figure('Collectivity', lambda figure: drawCollectivity(figure, rows))


def drawCollectivity(figure, rows):
    rows = [row for row in rows if row['mode'] > 6]
    columns = {name: np.array([row[name] for row in rows]) for name in ('mode', 'collectivity', 'selected')}
    draw_collectivity(figure, columns['mode'], columns['collectivity'], selected=columns['selected'])
    return columns['collectivity']


class CryoLearnSetOfModesViewer(ObjectViewer):
    """Opens a set of normal modes that this plugin made."""

    _targets = [SetOfNormalModes]
    _name = 'normal modes (cryolearn)'

    @classmethod
    def can_handle_this_instance(cls, instance):
        return instance.getSize() > 0 and engineModes(instance) is not None

    def _visualize(self, obj, **kwargs):
        return [ModesWindow(modeRows(obj), engineModes(obj), 'Normal modes - %s' % obj.getNameId(), self.formWindow)]
