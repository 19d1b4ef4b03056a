"""Conformation or composition of each particle by a Gaussian model of the consensus map."""

import os

import pyworkflow.protocol.params as params
from pwem.objects import AtomStruct, SetOfFSCs, SetOfParticlesFlex, SetOfPrincipalComponents, SetOfVolumesFlex

from ..common.checks import check_components, check_gaussian_numbers, check_map_of_particles, check_resolutions
from ..common.flags import ConformationFlag, flag_counts
from ..common.fsc import resolution_text
from ..common.tables import read_table
from ..convert.flex import PROGRAM, appendConformations
from ..convert.gaussians import fillStates, makePseudoAtoms, readLabels, readStates
from ..convert.motions import EIGEN_FILE, GAUSSIANS_FILE, MOTION_FILE, fillMotions, gaussiansFile
from ..convert.particles import writeParticles
from ..convert.volumes import writeVolume
from ..engine.gaussian.config import GaussianHeterogeneityConfig as Config
from .config_params import isChoice, isNotChoice
from .protocol_base import CryoLearnProtBase, sentences

RESULT, STAR = 'conformations.npz', 'particles.star'


class CryoLearnProtGaussianHeterogeneity(CryoLearnProtBase):
    """Finds where each particle stands on the motions of the molecule, or which parts it has, without an atomic model.

    The consensus map becomes a few hundred Gaussians. How each particle image would have them move is its gradient; the principal
    components of all gradients are the eigen-motions. Each particle's place is then found along one curved path (the default),
    several straight motions, or as Chen (2018) did. The particles need orientations, which can be refined in alternation.

    Each particle gets its place with an error bar; maps with half maps and their Fourier shell correlation are reconstructed along
    the path. "cluster landscape", "trajectory" and "reconstruct" go on from the particles. A killed run continues after its last record.
    """

    _label = 'Gaussian heterogeneity'
    _possibleOutputs = {'outputParticles': SetOfParticlesFlex, 'outputEigenMotions': SetOfPrincipalComponents,
                        'outputVolumes': SetOfVolumesFlex, 'outputFSCs': SetOfFSCs, 'outputGaussians': AtomStruct}

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        form.addParam('inputParticles', params.PointerParam, pointerClass='SetOfParticles', label='Particles', important=True,
                      help='Particles with orientations (a consensus refinement) and CTF.')
        form.addParam('inputVolume', params.PointerParam, pointerClass='Volume', label='Consensus map', important=True,
                      help='The map that the orientations belong to, in the box and with the pixel size of the particles.')
        form.addParam('inputGaussians', params.PointerParam, pointerClass='AtomStruct', allowsNull=True, label='Pseudo-atoms',
                      help='Optional. Gaussians to start from: pseudo-atoms of "volume to Gaussians" or of an earlier run. '
                           'Without them they are made from the map.')
        form.addParam('inputMask', params.PointerParam, pointerClass='VolumeMask,Volume', allowsNull=True, label='Mask',
                      help='Optional. Where the particle is in the map. Without it the map is thresholded.')
        focus = form.addGroup('Focus on a region')
        focus.addParam('inputFocus', params.PointerParam, pointerClass='VolumeMask,Volume', allowsNull=True, label='Focus mask',
                       help='Optional. Only Gaussians inside this mask move.')
        self.addEngineParam(focus, Config, 'focus_gaussians', condition='inputGaussians and not inputFocus',
                            help='Numbers (from 1) of the pseudo-atoms that may move, such as "1-40 52", instead of a focus mask. The wizard, '
                                 "and the viewer of an earlier run, pick them in three dimensions. Empty: all may move.")
        images = form.addGroup('Images')
        self.addEngineParams(images, Config, 'ignore_ctf', 'invert_contrast')

        form.addSection(label='Motion')
        self.addEngineParams(form, Config, 'vary', 'method')
        path = form.addGroup('Path', condition=isChoice(Config, 'method', 'curve'))
        self.addEngineParams(path, Config, 'path', 'states')
        self.addEngineParam(path, Config, 'degree', condition=isNotChoice(Config, 'path', 'states'))
        self.addEngineParam(form, Config, 'components')
        self.addEngineParam(form, Config, 'anchors',
                            condition='%s and %s' % (isChoice(Config, 'method', 'curve', 'linear', 'autoencoder'), isNotChoice(Config, 'vary', 'composition')))
        self.addEngineParams(form, Config, 'rounds', 'score', 'null_runs', 'keep_rigid')
        gaussians = form.addGroup('Gaussians')
        self.addEngineParams(gaussians, Config, 'resolutions_angst', 'number', 'coarse_angst')

        form.addSection(label='Poses, symmetry, maps')
        poses = form.addGroup('Orientations')
        self.addEngineParam(poses, Config, 'refine_poses')
        self.addEngineParams(poses, Config, 'pose_range_deg', 'pose_range_angst', condition='refinePoses > 0')
        self.addEngineParam(form, Config, 'symmetry')
        self.addEngineParams(form, Config, 'maps', 'halves')
        self.addEngineParams(form, Config, 'seed', 'batch')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        maps = {name: [item, item.getSamplingRate()] for name, item in self._maps().items()}
        inputs = self.engineDigest(particles=self.inputParticles.get(), sampling=self.inputParticles.get().getSamplingRate(), **maps)
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.heterogeneityStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def getParticlesFile(self):
        return self._getExtraPath('input_particles.star')

    def _maps(self):
        """``{engine's name: object}`` of the map and the masks that are given."""
        given = dict(volume=self.inputVolume.get(), mask=self.inputMask.get(), focus=self.inputFocus.get())
        return {name: item for name, item in given.items() if item is not None}

    def _mapFile(self, name):
        return self._getExtraPath('input_%s.mrc' % name)

    def _config(self):
        values = {name: self._mapFile(name) for name in self._maps()}
        if self.inputGaussians.get() is not None:
            values['gaussians'] = gaussiansFile(self.inputGaussians.get())
        if self.inputGaussians.get() is None or self.inputFocus.get() is not None:
            values['focus_gaussians'] = []  # the form does not show them
        return self.buildConfig(Config, particles=self.getParticlesFile(), phase_flipped=bool(self.inputParticles.get().isPhaseFlipped()),
                                output=self._getExtraPath(), **values)

    def convertInputStep(self, digest):
        writeParticles(self.inputParticles.get(), self.getParticlesFile(), self._getExtraPath())
        return [self.getParticlesFile()] + [writeVolume(item, self._mapFile(name)) for name, item in self._maps().items()]

    def heterogeneityStep(self, digest):
        self.runEngine('gaussian-heterogeneity', self._config())
        return [self._getExtraPath(name) for name in (RESULT, STAR, MOTION_FILE, EIGEN_FILE, GAUSSIANS_FILE, 'gaussians.pdb')]

    # --------------------------------------------------- output ----------------------------------------------------
    def createOutputStep(self, digest):
        folder = self._getExtraPath()
        gaussians = makePseudoAtoms(folder)
        gaussians.setVolume(self.inputVolume.get().clone())
        self._defineOutputs(outputGaussians=gaussians)

        particles = SetOfParticlesFlex.create(self._getPath(), progName=PROGRAM)
        appendConformations(self.inputParticles.get(), particles, self._getExtraPath(RESULT), self._getExtraPath(MOTION_FILE),
                            readLabels(self._getExtraPath(STAR)), refined=self.refinePoses.get() > 0)
        motions = SetOfPrincipalComponents.create(self._getPath())
        vectors = fillMotions(motions, folder)
        motions.setPdb(self.outputGaussians)
        outputs = dict(outputParticles=particles, outputEigenMotions=motions)
        if readStates(folder):
            outputs['outputVolumes'] = SetOfVolumesFlex.create(self._getPath())
            outputs['outputFSCs'] = SetOfFSCs.create(self._getPath())
            fillStates(outputs['outputVolumes'], outputs['outputFSCs'], folder)
        self._defineOutputs(**outputs)
        for output in [self.outputGaussians, *outputs.values()]:
            for pointer in (self.inputParticles, self.inputVolume):
                self._defineSourceRelation(pointer, output)
            if self.inputGaussians.get() is not None:
                self._defineSourceRelation(self.inputGaussians, output)
        self._describe(particles.getSize(), motions)
        return vectors + [output.getFileName() for output in outputs.values()]

    def _describe(self, count, motions):
        value = lambda field: self.getEngineValue(Config, field)
        columns, _ = read_table(self._getExtraPath(RESULT))
        significant = sum(motion.isEnabled() for motion in motions.iterItems())
        gaussians = len(read_table(self._getExtraPath(GAUSSIANS_FILE))[0]['id'])
        lines = ['%s of %d particles by %d Gaussians, method %s.' % (value('vary').capitalize(), count, gaussians, value('method')),
                 '%d of %d eigen-motions explain more than noise does.' % (significant, motions.getSize())]
        lines.append('Flagged: %(hidden)d whose view hides the motion, %(at_end)d at the end of the path, %(unlikely)d that the model does not fit.'
                     % flag_counts(columns['flags'], ConformationFlag))
        found = [entry.get('resolution_angst') for entry in readStates(self._getExtraPath())]
        if found:
            known = [item for item in found if item is not None]
            lines.append('%d maps along the path, best at %s (FSC 0.143).' % (len(found), resolution_text(min(known, default=None))))
        self._setSummary(*lines)
        self._setMethods(
            'The %s of %d particles was found with %d Gaussians that represent the consensus map [Chen2018] (method "%s"%s).' % (
                {'both': 'conformation and composition'}.get(value('vary'), value('vary')), count, gaussians, value('method'),
                ', orientations refined in alternation' if value('refine_poses') else ''))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        particles = self.inputParticles.get()
        errors = self._validateEngine()
        if particles is None or self.inputVolume.get() is None:
            return errors
        errors += self._validateParticles(particles, alignment=True, ctf=not self.ignoreCtf.get())
        if errors:
            return errors
        for item, what in ((self.inputVolume.get(), 'consensus map'), (self.inputMask.get(), 'mask'), (self.inputFocus.get(), 'focus mask')):
            errors += _differences(item, what, particles)
        errors += self._validateGaussians()
        errors += sentences(check_components, self.components.get(), particles.getSize())
        return errors + sentences(check_resolutions, self.getEngineValue(Config, 'resolutions_angst'), particles.getSamplingRate())

    def _validateGaussians(self):
        structure = self.inputGaussians.get()
        if structure is None:
            return []
        table = gaussiansFile(structure)
        if table is None:
            return ["The pseudo-atoms in '%s' have no table of Gaussians beside them: make them with \"volume to Gaussians\"."
                    % structure.getFileName()]
        try:
            numbers = self.getEngineValue(Config, 'focus_gaussians')
        except ValueError:
            return ['The Gaussians in focus "%s" are not numbers such as 1-40.' % self.focusGaussians.get()]
        count = len(read_table(table)[0]['id'])
        return sentences(check_gaussian_numbers, numbers, count) if self.inputFocus.get() is None else []

    def _warnings(self):
        warnings = []
        particles = self.inputParticles.get()
        if particles is not None and not self.usesGpu() and particles.getSize() > 100000:
            warnings.append('%d particles take long on the CPU: use a GPU.' % particles.getSize())
        if self.inputFocus.get() is None and self.getEngineValue(Config, 'method') == 'linear' and self.keepRigid.get():
            warnings.append('With the rigid-body motion kept, errors of the orientations look like conformations.')
        return warnings

    def _citations(self):
        return ['Chen2018']


def _differences(volume, what, particles):
    """A sentence when a map cannot be compared with the particles: file, cube, box, pixel size."""
    if volume is None:
        return []
    dim = volume.getDim()
    if dim is None or not os.path.exists(str(volume.getFileName()).split(':')[0]):
        return ["The file '%s' of the %s does not exist." % (volume.getFileName(), what)]
    return sentences(check_map_of_particles, what, dim, volume.getSamplingRate() or 0, particles.getXDim(), particles.getSamplingRate())
