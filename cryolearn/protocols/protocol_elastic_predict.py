"""Prediction with a trained network."""

from pwem.objects import SetOfParticlesFlex

from ..engine.elastic.config import ElasticPredictConfig
from .protocol_base import EngineStep
from .protocol_elastic_base import CryoLearnProtElasticBase

RESULT = 'alignment.npz'


class CryoLearnProtElasticPredict(CryoLearnProtElasticBase):
    """Predicts pose, shift and mode amplitudes of particle images with a trained network, and refines them by a few steps of
    elastic alignment. Every particle of the input is in the output; the network's own answer is kept beside the refined one in
    alignment.npz. Particles must have the box and the sampling rate that the network was trained for.
    """

    _label = 'elastic network: predict'
    _possibleOutputs = {'outputParticles': SetOfParticlesFlex}
    _references = ['Hamitouche2021']
    _madeFrom = ('inputParticles', 'inputModel')

    def _defineParams(self, form):
        self._defineGpuParams(form)
        Config = ElasticPredictConfig
        form.addSection(label='Input')
        self.addParticles(form)
        self.addInput(form, 'inputModel', 'ElasticModel', 'Network', 'Network of the protocol "elastic network: train".')
        self._addImagesParams(form, Config, 'invert_contrast')
        refinement = form.addGroup('Refinement')
        self.addEngineParam(refinement, Config, 'refine')
        self.addEngineParam(refinement, Config, 'refine_iterations', condition='refine')
        self.addEngineParams(form, Config, 'batch', 'chunk')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        return self.engineDigest(particles=self.inputParticles.get())

    def _dependencies(self):
        return {'model': sorted(self.inputModel.get().getFiles())}

    def _config(self):
        return self.buildConfig(ElasticPredictConfig, particles=self.getParticlesFile(), model=self.inputModel.get().getFolder())

    def convertInputStep(self, digest):
        return [self.convertParticles()]

    predictStep = EngineStep('elastic-predict', RESULT)

    def _makeOutputs(self):
        yield 'outputParticles', self._createAligned(self._getExtraPath(RESULT))

    def _describe(self):
        count, modes = self.outputParticles.getSize(), self.inputModel.get()._modeNumbers.get()
        refined = 'refined by %d steps' % self.refineIterations.get() if self.refine.get() else 'not refined'
        return (['%d particles predicted (%s), modes %s.' % (count, refined, modes)],
                'Pose, shift and the amplitudes of normal modes %s of %d particles were predicted by the network and %s.' % (modes, count, refined))

    def _verdict(self):
        return self._alignmentVerdict(self._getExtraPath(RESULT))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        particles, model = self.inputParticles.get(), self.inputModel.get()
        if particles is None or model is None:
            return []
        errors = self._validateDescription(model)
        if not errors:
            errors = self._validateParticles(particles, ctf=not model.getDescription().get('ignore_ctf', False))
        if errors:
            return errors
        if model.getBox() and particles.getXDim() != model.getBox():
            errors.append('The particles have a box of %d px, but the network was trained for %d px.' % (particles.getXDim(), model.getBox()))
        return errors + self._validatePixelOfNetwork(particles, model)

    def _warnings(self):
        particles, model = self.inputParticles.get(), self.inputModel.get()
        if particles is not None and model is not None and model.getArchitecture() == 'resnet34' and not particles.hasAlignmentProj():
            return ['This network predicts amplitudes only, and the particles have no poses: their output poses will mean nothing.']
        return []
