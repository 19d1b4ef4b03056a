"""Particles inside a polygon drawn on the landscape (launched by the landscape viewer)."""

import pyworkflow.protocol.params as params
from pwem.objects import SetOfParticlesFlex
from pwem.protocols import BatchProtocol

from ..common.tables import read_table
from ..convert.flex import PROGRAM, appendSubset, latentLength, writeLatents
from ..engine.landscape.config import SelectLandscapeConfig
from .protocol_base import CryoLearnProtBase


class CryoLearnProtSelectLandscape(CryoLearnProtBase, BatchProtocol):
    """Makes a subset of the particles inside a polygon that was drawn on two axes of the landscape. The landscape viewer
    launches it, so that a selection by hand is a run like any other, which can be repeated.
    """

    _label = 'select from landscape'
    _possibleOutputs = {'outputParticles': SetOfParticlesFlex}

    def _defineParams(self, form):
        Config = SelectLandscapeConfig
        form.addSection(label='Input')
        form.addParam('inputParticles', params.PointerParam, pointerClass='SetOfParticlesFlex', label='Particles', important=True,
                      help='Particles with latent vectors.')
        form.addParam('table', params.FileParam, default='', allowsNull=True, label='Table',
                      help='Result table (npz) that holds the axes. Empty: amplitudes and reduced coordinates of the particles.')
        self.addEngineParams(form, Config, 'x_axis', 'y_axis', 'polygon')

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        inputs = self.engineDigest(particles=self.inputParticles.get())
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.selectStep, digest, needsGPU=False)
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def getTableFile(self):
        return (self.table.get() or '').strip() or self._getExtraPath('input_landscape.npz')

    def _config(self):
        return self.buildConfig(SelectLandscapeConfig, table=self.getTableFile(), output=self._getExtraPath())

    def convertInputStep(self, digest):
        if not (self.table.get() or '').strip():
            writeLatents(self.inputParticles.get(), self.getTableFile())
        return [self.getTableFile()]

    def selectStep(self, digest):
        self.runEngine('select-landscape', self._config())
        return [self._getExtraPath('selection.npz')]

    def createOutputStep(self, digest):
        columns, _ = read_table(self._getExtraPath('selection.npz'))
        particles = SetOfParticlesFlex.create(self._getPath(), progName=PROGRAM)
        appendSubset(self.inputParticles.get(), particles, columns['id'])
        self._defineOutputs(outputParticles=particles)
        self._defineSourceRelation(self.inputParticles, particles)
        self._setSummary('%d of %d particles are inside the polygon on %s and %s.'
                         % (particles.getSize(), self.inputParticles.get().getSize(), self.xAxis.get(), self.yAxis.get()))
        self._setMethods('%d particles were selected by hand on the conformational landscape.' % particles.getSize())
        return [particles.getFileName()]

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        particles = self.inputParticles.get()
        errors = self._validateEngine() + self._validateParticles(particles)
        if particles is None or errors:
            return errors
        if not (self.table.get() or '').strip() and latentLength(particles) == 0:
            errors.append('The particles have no latent vectors: align or predict them first.')
        numbers = self.getEngineValue(SelectLandscapeConfig, 'polygon')
        if len(numbers) < 6 or len(numbers) % 2:
            errors.append('The polygon has %d numbers: give x and y of at least three corners.' % len(numbers))
        return errors
