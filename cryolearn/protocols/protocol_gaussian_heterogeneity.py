"""Conformation or composition of each particle by a Gaussian model of the consensus map."""

from pwem.objects import AtomStruct, SetOfFSCs, SetOfParticlesFlex, SetOfPrincipalComponents, SetOfVolumesFlex

from ..common.checks import check_components, check_gaussian_numbers, check_map_of_particles, check_resolutions, check_tilt_heterogeneity
from ..common.flags import ConformationFlag, flag_counts
from ..common.fsc import resolution_text
from ..common.tables import read_table
from ..convert.files import mapSides
from ..convert.flex import PROGRAM, STAR, appendConformations
from ..convert.gaussians import fillStates, makePseudoAtoms, readLabels, readStates
from ..convert.motions import EIGEN_FILE, GAUSSIANS_FILE, MOTION_FILE, fillMotions, gaussiansFile
from ..convert.tilt_particles import isTiltSeries, particleClasses
from ..convert.volumes import writeVolume
from ..engine.gaussian.config import GaussianHeterogeneityConfig as Config
from .config_params import isChoice, isNotChoice
from .input_checks import InputChecks, sentences
from .protocol_base import CryoLearnProtBase, EngineStep

RESULT = 'conformations.npz'
FILES = (RESULT, STAR, MOTION_FILE, EIGEN_FILE, GAUSSIANS_FILE, 'gaussians.pdb')


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
    _references = ['Chen2018']
    _madeFrom = ('inputParticles', 'inputVolume', 'inputGaussians')

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        self._defineGpuParams(form)
        form.addSection(label='Input')
        self.addInput(form, 'inputParticles', particleClasses('SetOfParticles'), 'Particles',
                      'Particles with orientations (a consensus refinement) and CTF, or tilt-series particles of scipion-em-reliontomo (2D stacks).')
        self.addInput(form, 'inputVolume', 'Volume', 'Consensus map',
                      'The map that the orientations belong to, in the box and with the pixel size of the particles.')
        self.addInput(form, 'inputGaussians', 'AtomStruct', 'Pseudo-atoms',
                      'Optional. Gaussians to start from: pseudo-atoms of "volume to Gaussians" or of an earlier run. '
                      'Without them they are made from the map.', allowsNull=True)
        self.addInput(form, 'inputMask', 'VolumeMask,Volume', 'Mask',
                      'Optional. Where the particle is in the map. Without it the map is thresholded.', allowsNull=True)
        focus = form.addGroup('Focus on a region')
        self.addInput(focus, 'inputFocus', 'VolumeMask,Volume', 'Focus mask', 'Optional. Only Gaussians inside this mask move.', allowsNull=True)
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
        self.addEngineParam(form, Config, 'report_still', condition='halves')
        self.addEngineParams(form, Config, 'seed', 'batch')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        maps = {name: [item, item.getSamplingRate()] for name, item in self._maps().items()}
        return self.engineDigest(particles=self.inputParticles.get(), sampling=self.inputParticles.get().getSamplingRate(), **maps)

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
        return self.buildConfig(Config, particles=self.getParticlesFile(), phase_flipped=bool(self.inputParticles.get().isPhaseFlipped()), **values)

    def convertInputStep(self, digest):
        return [self.convertParticles()] + [writeVolume(item, self._mapFile(name)) for name, item in self._maps().items()]

    heterogeneityStep = EngineStep('gaussian-heterogeneity', *FILES)

    def _makeOutputs(self):
        folder = self._getExtraPath()
        gaussians = makePseudoAtoms(folder)
        gaussians.setVolume(self.inputVolume.get().clone())
        yield 'outputGaussians', gaussians
        yield 'outputParticles', self.newSet(SetOfParticlesFlex, self._fillParticles, progName=PROGRAM)
        motions = self.newSet(SetOfPrincipalComponents, fillMotions, folder)
        motions.setPdb(self.outputGaussians)
        yield 'outputEigenMotions', motions
        if readStates(folder):
            fscs = SetOfFSCs.create(self._getPath())
            yield 'outputVolumes', self.newSet(SetOfVolumesFlex, fillStates, fscs, folder)
            yield 'outputFSCs', fscs

    def _fillParticles(self, particles):
        appendConformations(self.inputParticles.get(), particles, self._getExtraPath(RESULT), self._getExtraPath(MOTION_FILE),
                            readLabels(self._getExtraPath(STAR)), refined=self.refinePoses.get() > 0)

    def _otherFiles(self):
        return [motion.getModeFile() for motion in self.outputEigenMotions.iterItems()]

    def _describe(self):
        count, motions = self.outputParticles.getSize(), self.outputEigenMotions
        value = lambda field: self.getEngineValue(Config, field)
        columns, _ = read_table(self._getExtraPath(RESULT))
        significant = sum(motion.isEnabled() for motion in motions.iterItems())
        gaussians = len(read_table(self._getExtraPath(GAUSSIANS_FILE))[0]['id'])
        lines = [text for text in [self._readEngineSummary().get('free_energy')] if text]
        lines += ['%s of %d particles by %d Gaussians, method %s.' % (value('vary').capitalize(), count, gaussians, value('method')),
                 '%d of %d eigen-motions explain more than noise does.' % (significant, motions.getSize())]
        lines.append('Flagged: %(hidden)d whose view hides the motion, %(at_end)d at the end of the path, %(unlikely)d that the model does not fit, '
                     '%(unusable_image)d with an image that cannot be used.'
                     % flag_counts(columns['flags'], ConformationFlag))
        found = [entry.get('resolution_angst') for entry in readStates(self._getExtraPath())]
        if found:
            known = [item for item in found if item is not None]
            lines.append('%d maps along the path, best at %s (FSC 0.143).' % (len(found), resolution_text(min(known, default=None))))
        return lines, (
            'The %s of %d particles was found with %d Gaussians that represent the consensus map [Chen2018] (method "%s"%s).' % (
                {'both': 'conformation and composition'}.get(value('vary'), value('vary')), count, gaussians, value('method'),
                ', orientations refined in alternation' if value('refine_poses') else ''))

    def _verdict(self):
        return self._readEngineSummary().get('verdict', '')

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        particles = self.inputParticles.get()
        if particles is None or self.inputVolume.get() is None:
            return []
        errors = self._validateParticles(particles, alignment=True, ctf=not self.ignoreCtf.get(), tilts=True)
        if errors:
            return errors
        for item, what in ((self.inputVolume.get(), 'consensus map'), (self.inputMask.get(), 'mask'), (self.inputFocus.get(), 'focus mask')):
            errors += _differences(item, what, particles)
        if isTiltSeries(particles):
            errors += sentences(check_tilt_heterogeneity, self.getEngineValue(Config, 'method'), self.refinePoses.get(), self.symmetry.get())
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
        warnings = self._warnOfSlowness(self.inputParticles.get(), 100000)
        if self.inputFocus.get() is None and self.getEngineValue(Config, 'method') == 'linear' and self.keepRigid.get():
            warnings.append('With the rigid-body motion kept, errors of the orientations look like conformations.')
        return warnings


def _differences(volume, what, particles):
    """A sentence when a map cannot be compared with the particles: file, cube, box, pixel size."""
    if volume is None:
        return []
    return InputChecks._validateMap(volume, what) or sentences(
        check_map_of_particles, what, mapSides(volume), volume.getSamplingRate(), particles.getXDim(), particles.getSamplingRate())
