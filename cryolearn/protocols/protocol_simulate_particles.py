"""Particle images with known poses, CTF and conformations."""

import pyworkflow.protocol.params as params
from pwem.objects import SetOfParticlesFlex, Transform
from pyworkflow.object import Integer

from ..common.tables import read_table
from ..convert.flex import PROGRAM, setModeNumbers
from ..convert.modes import checkModeNumbers
from ..convert.poses import transformsFromPoses
from ..convert.star_particles import StarParticles
from ..convert.tables import rowsById
from ..convert.volumes import writeVolume
from ..engine.simulate.config import SimulateParticlesConfig
from .protocol_elastic_base import CryoLearnProtElasticBase

SOURCES = ('Atomic structure', 'Maps')  # of the form alone; the engine tells them by what is given
FROM_STRUCTURE, FROM_VOLUMES = map(SOURCES.index, SOURCES)


class CryoLearnProtSimulateParticles(CryoLearnProtElasticBase):
    """Simulates particle images from an atomic structure, which normal modes may deform differently in each image, or from
    one or more maps (states). Orientation, shift, CTF and amplitudes of each image are known: they are in the output set,
    and in truth.npz in the run's folder. Noise is stated as a signal-to-noise ratio over the whole image.
    """

    _label = 'simulate particles'
    _possibleOutputs = {'outputParticles': SetOfParticlesFlex}

    def _defineParams(self, form):
        self._defineGpuParams(form)
        Config = SimulateParticlesConfig
        form.addSection(label='Input')
        form.addParam('source', params.EnumParam, choices=list(SOURCES), default=FROM_STRUCTURE,
                      display=params.EnumParam.DISPLAY_HLIST, label='Simulate from',
                      help='An atomic structure, rigid or deformed by its normal modes, or maps that are the states of the particle.')
        form.addParam('inputModes', params.PointerParam, pointerClass='SetOfNormalModes', allowsNull=True,
                      condition='source == %d' % FROM_STRUCTURE, label='Normal modes',
                      help='Modes that deform the structure. The structure is the one that they were computed from.')
        form.addParam('inputStructure', params.PointerParam, pointerClass='AtomStruct', allowsNull=True,
                      condition='source == %d' % FROM_STRUCTURE, label='Structure',
                      help='A structure that is the same in all images (without normal modes).')
        form.addParam('inputVolumes', params.MultiPointerParam, pointerClass='Volume,SetOfVolumes,SetOfVolumesFlex', allowsNull=True,
                      condition='source == %d' % FROM_VOLUMES, label='Maps',
                      help='Each map is a state; images are drawn from all of them equally often.')
        images = form.addGroup('Images')
        self.addEngineParam(images, Config, 'number', important=True)
        self.addEngineParams(images, Config, 'box', 'pixel_size_angst', 'seed')
        form.addSection(label='Conformations and poses')
        conformations = form.addGroup('Conformations', condition='source == %d' % FROM_STRUCTURE)
        self.addEngineParams(conformations, Config, 'mode_numbers', 'amplitude_law', 'amplitude')
        poses = form.addGroup('Poses')
        self.addEngineParams(poses, Config, 'angle_law', 'in_plane', 'shift_angst')
        form.addSection(label='CTF and noise')
        noise = form.addGroup('Noise')
        self.addEngineParams(noise, Config, 'snr', 'noise_model')
        ctf = form.addGroup('CTF')
        self.addEngineParam(ctf, Config, 'apply_ctf')
        self.addEngineParams(ctf, Config, 'phase_flip', 'defocus_min_angst', 'defocus_max_angst', 'astigmatism_angst', 'voltage_kv',
                             'cs_mm', 'amplitude_contrast', condition='applyCtf')
        form.addParallelSection(threads=4, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _insertAllSteps(self):
        inputs = self._inputDigest()
        self._insertFunctionStep(self.convertInputStep, inputs, needsGPU=False)
        digest = self.engineDigest(self._config(), inputs=inputs)
        self._insertFunctionStep(self.simulateStep, digest, needsGPU=bool(self.usesGpu()))
        self._insertFunctionStep(self.createOutputStep, digest, needsGPU=False)

    def _inputDigest(self):
        if self._deforms():
            return self._modesDigest()
        if self.source.get() == FROM_STRUCTURE:
            return self.engineDigest(structure=self.inputStructure.get())
        return self.engineDigest(volumes=[pointer.get() for pointer in self.inputVolumes])

    def convertInputStep(self, digest):
        if self._deforms():
            return [self.convertModes()]
        return [writeVolume(volume, path) for path, volume in self._states()]

    def _states(self):
        """``[(file in extra, volume)]`` of all maps, those of sets one by one."""
        return [(self._getExtraPath('input_state_%03d.mrc' % number), volume)
                for number, volume in enumerate(self.pointedItems(self.inputVolumes), start=1)]

    def _config(self):
        values = {'output': self._getExtraPath()}
        if self.source.get() == FROM_VOLUMES:
            values['volumes'] = [path for path, _ in self._states()]
        elif self._deforms():
            values['modes'] = self.getModesFile()
            values['structure'] = self.getModesStructure()
        else:
            values['structure'] = self.inputStructure.get().getFileName()
        return self.buildConfig(SimulateParticlesConfig, **values)

    def _deforms(self):
        return self.source.get() == FROM_STRUCTURE and self.inputModes.get() is not None

    def simulateStep(self, digest):
        self.runEngine('simulate-particles', self._config())
        return [self._getExtraPath(name) for name in ('particles.star', 'particles.mrcs', 'truth.npz')]

    def createOutputStep(self, digest):
        star = StarParticles(self._getExtraPath('particles.star'))
        truth, _ = read_table(self._getExtraPath('truth.npz'))
        rows = rowsById(truth['id'])
        transforms = transformsFromPoses(truth['rotation'], truth['shift_angst'], star.pixelSize)
        particles = SetOfParticlesFlex.create(self._getPath(), progName=PROGRAM)
        star.setProperties(particles, phaseFlipped=self.applyCtf.get() and self.phaseFlip.get())
        particles.setHasCTF(self.applyCtf.get() and star.hasCtf)
        particles.setAlignmentProj()
        if self._deforms():
            setModeNumbers(particles, self.getEngineValue(SimulateParticlesConfig, 'mode_numbers'))
        for objId, row in star:
            particle = particles.ITEM_TYPE(progName=PROGRAM)
            star.fill(particle, row)
            particle.setObjId(objId)
            at = rows[objId]
            particle.setTransform(Transform(matrix=transforms[at]))  # more digits than the STAR has
            if self._deforms():
                particle.setZFlex(truth['amplitudes'][at].tolist())
            elif 'state' in truth:
                particle._simulatedState = Integer(int(truth['state'][at]))
            particles.append(particle)
        self._defineOutputs(outputParticles=particles)
        for pointer in self._sources():
            self._defineSourceRelation(pointer, particles)
        self._describe(particles)
        return [particles.getFileName()]

    def _sources(self):
        if self.source.get() == FROM_VOLUMES:
            return list(self.inputVolumes)
        return [self.inputModes] if self._deforms() else [self.inputStructure]

    def _describe(self, particles):
        value = lambda field: self.getEngineValue(SimulateParticlesConfig, field)
        self._setSummary(
            '%d images of %d px at %g Å/px, SNR %g (%s), %s.' % (
                particles.getSize(), value('box'), value('pixel_size_angst'), value('snr'),
                'white noise after the CTF' if value('noise_model') == 'white' else 'noise before the CTF',
                'defocus %g to %g Å' % (value('defocus_min_angst'), value('defocus_max_angst')) if value('apply_ctf') else 'no CTF'),
            'Modes %s, amplitudes up to %g (%s).' % (' '.join(map(str, value('mode_numbers'))), value('amplitude'), value('amplitude_law'))
            if self._deforms() else 'No deformation.')
        self._setMethods('%d particle images of %d px (%g Å/px) were simulated at a signal-to-noise ratio of %g.'
                         % (particles.getSize(), value('box'), value('pixel_size_angst'), value('snr')))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validate(self):
        errors = self._validateEngine()
        if self.source.get() == FROM_VOLUMES:
            if not [pointer for pointer in self.inputVolumes if pointer.get() is not None]:
                errors.append('No map is given: choose at least one volume.')
        elif self._deforms():
            errors += self._validateModes(self.box.get(), self.pixelSizeAngst.get())
            numbers = self.getEngineValue(SimulateParticlesConfig, 'mode_numbers')
            errors += checkModeNumbers(self.inputModes.get(), numbers)
            if self.getEngineValue(SimulateParticlesConfig, 'amplitude_law') == 'curve' and len(numbers) != 3:
                errors.append("The amplitude law 'curve' needs three modes, but %d are chosen." % len(numbers))
        elif self.inputStructure.get() is None:
            errors.append('Give normal modes or a structure to simulate from.')
        if self.applyCtf.get() and self.defocusMinAngst.get() > self.defocusMaxAngst.get():
            errors.append('The smallest defocus (%g Å) is above the largest (%g Å).' % (self.defocusMinAngst.get(), self.defocusMaxAngst.get()))
        return errors

    def _warnings(self):
        if self.pixelSizeAngst.get() and self.pixelSizeAngst.get() < 0.7:
            return ['Atoms are Gaussians of their scattering between 20 and 3 Å: details finer than 2 Å are not meaningful.']
        return []

    def _citations(self):
        return ['Hamitouche2021']
