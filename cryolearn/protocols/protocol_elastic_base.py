"""What the protocols with particles and normal modes share."""

import os
from typing import Optional

from pwem.objects import SetOfParticlesFlex, SetOfPrincipalComponents

from ..common.flags import AlignmentFlag, flag_counts
from ..common.tables import read_table
from ..common.verdicts import alignment_verdict
from ..convert.flex import PROGRAM, appendAligned, latentLength, modeNumbers, motionFile
from ..convert.modes import checkModeNumbers, diameter, engineModes, modeFiles, structureFile
from ..convert.motions import MOTION_FILE, describeMotion, motionsFolder
from ..engine.elastic.config import ImportModesConfig
from ..engine.exceptions import InputError
from ..engine.landscape.config import TrajectoryConfig
from .protocol_base import CryoLearnProtBase


class CryoLearnProtElasticBase(CryoLearnProtBase):
    """Base of the protocols that deform a structure by its normal modes."""

    _label: Optional[str] = None

    # ---------------------------------------------------- form -----------------------------------------------------
    def addParticles(self, form, pointerClass='SetOfParticles', help='Particle images with CTF.'):
        self.addInput(form, 'inputParticles', pointerClass, 'Particles', help)

    def addModes(self, form, help='Normal modes of the structure that the images show.', **options):
        self.addInput(form, 'inputModes', 'SetOfNormalModes', 'Normal modes', help, **options)

    def _addModeNumbers(self, form):
        """The modes that amplitudes belong to, where the set of particles may say it."""
        self.addEngineParam(form, TrajectoryConfig, 'mode_numbers', condition='inputModes', default='',
                            help='Modes that the amplitudes belong to, in their order. Empty: as noted in the set of particles.')

    def _addImagesParams(self, form, Config, *names):
        """What must be said about the images beyond what their set knows."""
        images = form.addGroup('Images')
        for name in names:
            self.addEngineParam(images, Config, name)

    # ---------------------------------------------------- modes ----------------------------------------------------
    def _modesDigest(self):
        """Digest of the input modes' content."""
        modes = self.inputModes.get()
        ours = engineModes(modes)
        if ours:
            return self.engineDigest(modes=ours)
        files, structure = modeFiles(modes)
        return self.engineDigest(modes=[files[number] for number in sorted(files)], structure=structure)

    def getModesFile(self):
        """The engine's file of the input modes: that of the run that computed them, or the one imported into this run."""
        return engineModes(self.inputModes.get()) or self._getExtraPath('input_modes', 'modes.npz')

    def getModesStructure(self):
        """The structure file beside the modes."""
        return structureFile(self.getModesFile())

    def convertModes(self):
        """Make the engine's file of modes that another program computed; returns the file to use."""
        if not engineModes(self.inputModes.get()):
            files, structure = modeFiles(self.inputModes.get())
            if structure is None:
                raise InputError('The normal modes do not know their structure: compute them again.')
            numbers = sorted(files)
            self.runEngine('import-modes', ImportModesConfig(
                structure=structure, mode_files=[files[number] for number in numbers], mode_numbers=numbers,
                output=self._getExtraPath('input_modes')), processes=1)
        return self.getModesFile()

    def _validateModes(self, box=None, pixelSize=None):
        """Sentences about modes that cannot be used, or that belong to a structure larger than the images."""
        modes = self.inputModes.get()
        if modes is None:
            return []
        if modes.getSize() == 0:
            return ['The set of normal modes is empty.']
        ours = engineModes(modes)
        if not ours and modes.getPdb() is None:
            return ['The normal modes do not know their structure: compute them again.']
        if ours and box and pixelSize and diameter(ours) > box * pixelSize:
            return ['The structure of the modes is %.0f Å wide, but the images are %.0f Å (%d px of %g Å): the box or the sampling rate '
                    'is wrong.' % (diameter(ours), box * pixelSize, box, pixelSize)]
        return []

    def _validateModeNumbers(self, Config):
        if self.inputModes.get() is None:
            return []
        try:
            numbers = self.getEngineValue(Config, 'mode_numbers')
        except ValueError:
            return ['The modes "%s" are not numbers such as 7-9.' % self.modeNumbers.get()]
        return checkModeNumbers(self.inputModes.get(), numbers)

    def _modeNumbers(self, particles):
        """Modes that the particles' amplitudes belong to: those of the form, else those that the set notes."""
        return self.getEngineValue(TrajectoryConfig, 'mode_numbers') or modeNumbers(particles)

    def _validateLatents(self, particles):
        """Particles that cannot be used, or that have no latent vectors."""
        errors = self._validateParticles(particles, tilts=True)
        if particles is not None and not errors and latentLength(particles) == 0:
            return ['The particles have no latent vectors: align or predict them first.']
        return errors

    def _validateAmplitudes(self, particles):
        """Normal modes that the particles' amplitudes cannot belong to."""
        numbers, length = self._modeNumbers(particles), latentLength(particles)
        if self.inputModes.get() is None:
            return ['Give the normal modes that the amplitudes belong to: the particles bring no motion of their own.']
        if not numbers:
            return ['The set of particles does not say which modes its amplitudes belong to: fill in the modes.']
        errors = self._validateModes() or checkModeNumbers(self.inputModes.get(), numbers)
        if not errors and len(numbers) != length:
            errors.append('%d modes are given, but the particles have %d amplitudes each.' % (len(numbers), length))
        return errors

    # --------------------------------------------------- motion ---------------------------------------------------
    def getMotionFile(self, particles):
        """The motion of a Gaussian model that the particles' latent vectors belong to; '' when they are amplitudes of modes.

        The set notes it; eigen-motions given in place of normal modes say it too.
        """
        modes = self.inputModes.get()
        if modes is not None:
            folder = motionsFolder(modes) if isinstance(modes, SetOfPrincipalComponents) else None
            return os.path.join(folder, MOTION_FILE) if folder else ''
        return motionFile(particles) if particles is not None else ''

    def _motionValues(self, particles):
        """What deforms the model, as parameters of the trajectory command: a motion, or normal modes."""
        motion = self.getMotionFile(particles)
        return dict(motion=motion) if motion else dict(modes=self.getModesFile(), mode_numbers=self._modeNumbers(particles))

    def _validateMotion(self, particles):
        """A sentence about a motion that is gone or that the particles' latent vectors do not belong to."""
        try:
            latents = describeMotion(self.getMotionFile(particles))['latents']
        except ValueError as error:
            return [str(error)]
        if latentLength(particles) % latents:
            return ['The motion has %d coordinates, but the particles have %d.' % (latents, latentLength(particles))]
        return []

    # -------------------------------------------------- particles --------------------------------------------------
    def _createAligned(self, tableFile):
        """Output set of the input particles with amplitudes and poses of a result table."""
        return self.newSet(SetOfParticlesFlex, lambda new: appendAligned(self.inputParticles.get(), new, tableFile), progName=PROGRAM)

    def _alignmentVerdict(self, tableFile):
        """The verdict of a result table with flags."""
        flags = read_table(tableFile)[0].get('flags')
        if flags is None:
            return ''
        return alignment_verdict(len(flags), flag_counts(flags, AlignmentFlag), int((flags != 0).sum()))

    def _ctfValues(self):
        """What the set knows about the CTF of its images."""
        particles = self.inputParticles.get()
        return {'phase_flipped': bool(particles.isPhaseFlipped())}
