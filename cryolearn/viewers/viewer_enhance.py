"""Viewers of enhanced maps and of the networks that enhance them."""



from ..common.figures.curves import draw_evidence, draw_fsc
from ..common.fsc import TRUTH_THRESHOLD, read_curve, resolution_of_curve
from ..convert.enhanced_maps import CONFIDENCE, ENHANCED, FSC_TABLE, LOCAL_CORRELATION, PREDICTED_ERROR, UNCERTAINTY, readEnhancedCurves
from ..protocols import CryoLearnProtMapEnhance, CryoLearnProtMapTrain
from .enhanced_window import LinkedSlicesWindow, SideBySideWindow
from .viewer_base import CryoLearnViewer, whenWritten
from .viewer_learning import CryoLearnLearningViewer
from .window import FigureWindow, addCheck, addNote

EVIDENCE_NOTE = ('Evidence is the curve of an enhanced half map with the RAW other half, where it lies above that of the half maps before. Two enhanced '
                 'halves agree on what the network puts into both, molecule or not.')


class EvidenceWindow(FigureWindow):
    """FSC of half maps before, across, and after."""

    def __init__(self, title, folder, resolutionAngst, parent=None):
        FigureWindow.__init__(self, title, parent, size=(7.6, 5.4))
        self.folder, self.resolutionAngst = folder, resolutionAngst

    def makeControls(self, frame):
        self.masked = addCheck(frame, 'Inside the molecule', self.refresh)
        addNote(frame, EVIDENCE_NOTE)

    def draw(self, figure):
        draw_evidence(figure, readEnhancedCurves(self.folder, self.masked.get()), self.resolutionAngst)


class CryoLearnEnhanceViewer(CryoLearnViewer):
    """A map before and after enhancement, its uncertainty, and what of it is real."""

    _label = 'enhanced map viewer'
    _targets = [CryoLearnProtMapEnhance]

    def _defineResults(self, form):
        self._addLine(form, 'showSlices', 'Slices before, after, uncertainty', important=True,
                      help='The same slice of each map; the cursor over one is drawn in all.')
        self._addLine(form, 'showSurfaces', 'Surfaces before and after', important=True)
        self._addLine(form, 'showFsc', 'FSC curves: what is real', important=True, help=EVIDENCE_NOTE)
        self._addFscSet(form)

    def _maps(self, **files):
        named = {'input': 'input_map.mrc', 'enhanced': ENHANCED, **files}
        return {label: self.extra(name) for label, name in named.items() if self.has(name)}

    @whenWritten(ENHANCED, 'The enhanced map')
    def _showSlices(self):
        maps = self._maps(**{'uncertainty': UNCERTAINTY, 'predicted error': PREDICTED_ERROR, 'local correlation': LOCAL_CORRELATION,
                             'confidence of the input': CONFIDENCE})
        return [LinkedSlicesWindow(self.title('Slices'), maps, self.formWindow)]

    @whenWritten(ENHANCED, 'The enhanced map')
    def _showSurfaces(self):
        return [SideBySideWindow(self.title('Surfaces'), self._maps(), self.formWindow)]

    def _showFsc(self, param=None):
        if not self.has(FSC_TABLE):
            return [self.errorMessage('There are no curves: the map was enhanced without half maps, or is not finished.', 'No half maps')]
        found = self.protocol._readEngineSummary()
        return [EvidenceWindow(self.title('FSC'), self.extra(), found['input_resolution_angst'], self.formWindow)]


class CryoLearnMapTrainViewer(CryoLearnLearningViewer):
    """Learning curves of a map network, and what it makes of molecules that it has not seen."""

    _label = 'map network viewer'
    _targets = [CryoLearnProtMapTrain]

    def _defineResults(self, form):
        CryoLearnLearningViewer._defineResults(self, form)
        self._addLine(form, 'showFsc', 'FSC with unseen molecules', important=True,
                      help='Mean FSC of degraded and of enhanced patches with the density of their molecules, of models that the network has not seen.')

    @whenWritten('validation_fsc.csv')
    def _showFsc(self):
        curves = []
        for name in ('input', 'result'):
            frequency, values = read_curve(self.extra('validation_fsc.csv'), 'fsc_' + name)
            curves.append((name, frequency, values, resolution_of_curve(frequency, values, TRUTH_THRESHOLD)))
        return self.figure('FSC', lambda figure: draw_fsc(figure, curves, (TRUTH_THRESHOLD,), 'FSC with the density of unseen molecules'))
