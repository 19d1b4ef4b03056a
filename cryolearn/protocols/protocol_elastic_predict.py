"""Prediction with a trained network."""

import pyworkflow.protocol.params as params
from pwem.objects import SetOfParticlesFlex

from ..common.limits import same_pixel_size
from ..engine.elastic.config import ElasticPredictConfig
from .protocol_elastic_base import CryoLearnProtElasticBase, addParticlesParam

RESULT = 'alignment.npz'


class CryoLearnProtElasticPredict(CryoLearnProtElasticBase):
    """Predicts pose, shift and mode amplitudes of particle images with a trained network, and refines them by a few steps of
    elastic alignment. Every particle of the input is in the output; the network's own answer is kept beside the refined one in
    alignment.npz. Particles must have the box and the sampling rate that the network was trained for.
    """

    _label = 'elastic network: predict'
    _possibleOutputs = {'outputParticles': SetOfParticlesFlex}

    def _defineParams(self, form):
        self._defineGpuParams(form)
        Config = ElasticPredictConfig
        form.addSection(label='Input')
        addParticlesParam(form)
        form.addParam('inputModel', params.PointerParam, pointerClass='ElasticModel', label='Network', important=True,
                      help='Network of the protocol "elastic network: train".')
        self._addImagesParams(form, Config, 'invert_contrast')
        refinement = form.addGroup('Refinement')
        self.addEngineParam(refinement, Config, 'refine')
        self.addEngineParam(refinement, Config, 'refine_iterations', condition='refine')
        self.addEngineParams(form, Config, 'batch', 'chunk')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        inputs = self.engineDigest(particles=self.inputParticles.get())
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs, model=self._modelFiles())
        self._insertFunctionStep(self.predictStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _modelFiles(self):
        return sorted(self.inputModel.get().getFiles())

    def _config(self):
        return self.buildConfig(ElasticPredictConfig, particles=self.getParticlesFile(), model=self.inputModel.get().getFolder(),
                                output=self._getExtraPath())

    def convertInputStep(self, digest):
        return [self.convertParticles()]

    def predictStep(self, digest):
        self.runEngine('elastic-predict', self._config())
        return [self._getExtraPath(RESULT)]

    def createOutputStep(self, digest):
        particles = self._createAligned(self._getExtraPath(RESULT))
        self._defineOutputs(outputParticles=particles)
        self._defineSourceRelation(self.inputParticles, particles)
        self._defineSourceRelation(self.inputModel, particles)
        model = self.inputModel.get()
        refined = 'refined by %d steps' % self.refineIterations.get() if self.refine.get() else 'not refined'
        self._setSummary('%d particles predicted (%s), modes %s.' % (particles.getSize(), refined, model._modeNumbers.get()))
        self._setMethods('Pose, shift and the amplitudes of normal modes %s of %d particles were predicted by the network and %s.'
                         % (model._modeNumbers.get(), particles.getSize(), refined))
        return [particles.getFileName()]

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        particles, model = self.inputParticles.get(), self.inputModel.get()
        errors = self._validateEngine()
        if particles is None or model is None:
            return errors
        try:
            description = model.getDescription()
        except (OSError, ValueError):
            return errors + ["The network's description '%s' is missing or damaged: train it again." % model.getFileName()]
        errors += self._validateParticles(particles, ctf=not description.get('ignore_ctf', False))
        if not errors and model.getBox() and particles.getXDim() != model.getBox():
            errors.append('The particles have a box of %d px, but the network was trained for %d px.' % (particles.getXDim(), model.getBox()))
        if not errors and model.getSamplingRate() and not same_pixel_size(particles.getSamplingRate(), model.getSamplingRate()):
            errors.append('The particles have %g Å/px, but the network was trained for %g Å/px.'
                          % (particles.getSamplingRate(), model.getSamplingRate()))
        return errors

    def _warnings(self):
        particles, model = self.inputParticles.get(), self.inputModel.get()
        if particles is not None and model is not None and model.getArchitecture() == 'resnet34' and not particles.hasAlignmentProj():
            return ['This network predicts amplitudes only, and the particles have no poses: their output poses will mean nothing.']
        return []

    def _citations(self):
        return ['Hamitouche2021']
