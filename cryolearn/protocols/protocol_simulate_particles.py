"""Particle images with known poses, CTF and conformations."""

import pyworkflow.protocol.params as params
from pwem.objects import SetOfParticlesFlex, Transform
from pyworkflow.object import Integer

from ..convert.flex import PROGRAM, setModeNumbers
from ..convert.modes import checkModeNumbers
from ..convert.star_particles import StarParticles
from ..convert.tables import ResultTable
from ..convert.volumes import writeVolume
from ..engine.simulate.config import SimulateParticlesConfig
from .protocol_base import EngineStep
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
    _references = ['Hamitouche2021']

    def _defineParams(self, form):
        self._defineGpuParams(form)
        Config = SimulateParticlesConfig
        form.addSection(label='Input')
        form.addParam('source', params.EnumParam, choices=list(SOURCES), default=FROM_STRUCTURE,
                      display=params.EnumParam.DISPLAY_HLIST, label='Simulate from',
                      help='An atomic structure, rigid or deformed by its normal modes, or maps that are the states of the particle.')
        fromStructure, fromVolumes = ('source == %d' % kind for kind in (FROM_STRUCTURE, FROM_VOLUMES))
        self.addModes(form, 'Modes that deform the structure. The structure is the one that they were computed from.', allowsNull=True,
                      condition=fromStructure)
        self.addInput(form, 'inputStructure', 'AtomStruct', 'Structure', 'A structure that is the same in all images (without normal modes).',
                      allowsNull=True, condition=fromStructure)
        self.addInputs(form, 'inputVolumes', 'Volume,SetOfVolumes,SetOfVolumesFlex', 'Maps',
                       'Each map is a state; images are drawn from all of them equally often.', condition=fromVolumes)
        images = form.addGroup('Images')
        self.addEngineParam(images, Config, 'number', important=True)
        self.addEngineParams(images, Config, 'box', 'pixel_size_angst', 'seed')
        form.addSection(label='Conformations and poses')
        conformations = form.addGroup('Conformations', condition=fromStructure)
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
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        if self._deforms():
            return self._modesDigest()
        if self.source.get() == FROM_STRUCTURE:
            return self.engineDigest(structure=self.inputStructure.get())
        return self.engineDigest(volumes=[pointer.get() for pointer in self.inputVolumes])

    def convertInputStep(self, digest):
        if self._deforms():
            return [self.convertModes()]
        return [writeVolume(volume, path) for path, volume in self._states().items()]

    def _states(self):
        """``{file in extra: volume}`` of all maps, those of sets one by one."""
        return self.numberedMaps(self.inputVolumes, 'state')

    def _config(self):
        values = {}
        if self.source.get() == FROM_VOLUMES:
            values['volumes'] = list(self._states())
        elif self._deforms():
            values['modes'] = self.getModesFile()
            values['structure'] = self.getModesStructure()
        else:
            values['structure'] = self.inputStructure.get().getFileName()
        return self.buildConfig(SimulateParticlesConfig, **values)

    def _deforms(self):
        return self.source.get() == FROM_STRUCTURE and self.inputModes.get() is not None

    simulateStep = EngineStep('simulate-particles', 'particles.star', 'particles.mrcs', 'truth.npz')

    def _makeOutputs(self):
        star = StarParticles(self._getExtraPath('particles.star'))
        truth = ResultTable(self._getExtraPath('truth.npz'))
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
            particle.setTransform(Transform(matrix=truth.transform(particle, star.pixelSize)))  # more digits than the STAR has
            if self._deforms():
                particle.setZFlex(truth.columns['amplitudes'][truth.rowOf(particle)].tolist())
            else:
                truth.setAttributes(particle, [('_simulatedState', 'state', Integer)])
            particles.append(particle)
        yield 'outputParticles', particles

    def _sources(self, name=''):
        if self.source.get() == FROM_VOLUMES:
            return list(self.inputVolumes)
        return [self.inputModes] if self._deforms() else [self.inputStructure]

    def _describe(self):
        count, value = self.outputParticles.getSize(), lambda field: self.getEngineValue(SimulateParticlesConfig, field)
        images = '%d images of %d px at %g Å/px, SNR %g (%s), %s.' % (
            count, value('box'), value('pixel_size_angst'), value('snr'),
            'white noise after the CTF' if value('noise_model') == 'white' else 'noise before the CTF',
            'defocus %g to %g Å' % (value('defocus_min_angst'), value('defocus_max_angst')) if value('apply_ctf') else 'no CTF')
        modes = ('Modes %s, amplitudes up to %g (%s).' % (' '.join(map(str, value('mode_numbers'))), value('amplitude'), value('amplitude_law'))
                 if self._deforms() else 'No deformation.')
        return [images, modes], ('%d particle images of %d px (%g Å/px) were simulated at a signal-to-noise ratio of %g.'
                                 % (count, value('box'), value('pixel_size_angst'), value('snr')))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        errors = []
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
