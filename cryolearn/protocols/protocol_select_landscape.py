"""Particles inside a polygon drawn on the landscape (launched by the landscape viewer)."""

import pyworkflow.protocol.params as params
from pwem.objects import SetOfParticlesFlex
from pwem.protocols import BatchProtocol

from ..common.tables import read_table
from ..convert.flex import PROGRAM, appendSubset
from ..convert.latents import writeLatents
from ..engine.landscape.config import SelectLandscapeConfig
from .protocol_base import EngineStep
from .protocol_elastic_base import CryoLearnProtElasticBase

SELECTION = 'selection.npz'


class CryoLearnProtSelectLandscape(CryoLearnProtElasticBase, BatchProtocol):
    """Makes a subset of the particles inside a polygon that was drawn on two axes of the landscape. The landscape viewer
    launches it, so that a selection by hand is a run like any other, which can be repeated.
    """

    _label = 'select from landscape'
    _possibleOutputs = {'outputParticles': SetOfParticlesFlex}
    _madeFrom = ('inputParticles',)

    def _defineParams(self, form):
        Config = SelectLandscapeConfig
        form.addSection(label='Input')
        self.addParticles(form, 'SetOfParticlesFlex', 'Particles with latent vectors.')
        form.addParam('table', params.FileParam, default='', allowsNull=True, label='Table',
                      help='Result table (npz) that holds the axes. Empty: amplitudes and reduced coordinates of the particles.')
        self.addEngineParams(form, Config, 'x_axis', 'y_axis', 'polygon')

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        return self.engineDigest(particles=self.inputParticles.get())

    def getTableFile(self):
        return (self.table.get() or '').strip() or self._getExtraPath('input_landscape.npz')

    def _config(self):
        return self.buildConfig(SelectLandscapeConfig, table=self.getTableFile())

    def convertInputStep(self, digest):
        if not (self.table.get() or '').strip():
            writeLatents(self.inputParticles.get(), self.getTableFile())
        return [self.getTableFile()]

    selectStep = EngineStep('select-landscape', SELECTION)

    def _makeOutputs(self):
        columns, _ = read_table(self._getExtraPath(SELECTION))
        yield 'outputParticles', self.newSet(SetOfParticlesFlex, lambda new: appendSubset(self.inputParticles.get(), new, columns['id']), progName=PROGRAM)

    def _describe(self):
        count = self.outputParticles.getSize()
        return (['%d of %d particles are inside the polygon on %s and %s.' % (count, self.inputParticles.get().getSize(), self.xAxis.get(), self.yAxis.get())],
                '%d particles were selected by hand on the conformational landscape.' % count)

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        particles, hasTable = self.inputParticles.get(), (self.table.get() or '').strip()
        errors = self._validateParticles(particles, tilts=True) if hasTable else self._validateLatents(particles)
        if particles is None or errors:
            return errors
        return self._validatePolygon(self.getEngineValue(SelectLandscapeConfig, 'polygon'))
