"""Checks of inputs that several protocols make: each gives sentences about what cannot be used, none when all is well."""

import os
import re
from typing import List

from pwem.protocols import EMProtocol

from .. import Plugin
from ..common.checks import check_count
from ..common.limits import FEWEST_IMAGES, same_pixel_size
from ..convert.files import fileOf, isThere, mapSides
from ..convert.tilt_particles import isTiltSeries, tiltErrors
from ..engine.exceptions import InputError

_SYMMETRY = re.compile(r'[CD][1-9]\d{0,2}|T|O|I[12]?', re.IGNORECASE)


def sentences(check, *values):
    """What a check of ``common/checks.py`` refuses: a list of one sentence, or of none."""
    try:
        check(*values)
    except InputError as error:
        return [str(error)]
    return []


def _hasMicroscope(particles):
    """Does the set or its first particle say all of the microscope that a CTF needs?"""
    acquisitions = [item.getAcquisition() for item in (particles, particles.getFirstItem())]
    return any(acquisition is not None and acquisition.getVoltage() and None not in (acquisition.getSphericalAberration(), acquisition.getAmplitudeContrast())
               for acquisition in acquisitions)


def hasSamplingRate(item):
    """Does a set or volume have a sampling rate that a pixel can have?"""
    return (item.getSamplingRate() or 0) > 0


class InputChecks(EMProtocol):
    """A protocol's checks of its engine and of its inputs."""

    def _validateEngine(self):
        """Is there an engine, of this version, with the GPUs that the form asks for? A list of sentences."""
        errors = Plugin.validateEngine()
        if errors or not self.usesGpu() or self.useQueue():  # a queue's nodes have other GPUs than this machine
            return errors
        asked, found = self.getGpuList(), Plugin.getGpuCount()
        missing = [gpu for gpu in asked if gpu >= found]
        if missing:
            errors = ['GPU %s was asked for, but the engine sees %d usable GPU(s) on this machine: choose another, or '
                      '"Use GPU: no" to run on the CPU.' % (missing[0], found)]
        return errors

    @staticmethod
    def _validateParticles(particles, alignment=False, ctf=False, what='input particles', tilts=False):
        """A set of particles: empty, without poses, without CTF or acquisition, without sampling rate, or tilt series where they are not taken."""
        errors: List[str] = []
        if particles is None:
            return errors
        if particles.getSize() == 0:
            errors.append('The %s are an empty set.' % what)
        if not hasSamplingRate(particles):
            errors.append('The %s have no sampling rate.' % what)
        if isTiltSeries(particles):
            return errors or (tiltErrors(particles, alignment) if tilts else [
                'The %s are tilt series, which this protocol does not take: reconstruct, elastic alignment and Gaussian heterogeneity do.' % what])
        if alignment and not particles.hasAlignmentProj():
            errors.append('The %s have no 3D (projection) alignment: align them first.' % what)
        if ctf and not particles.hasCTF():
            errors.append('The %s have no CTF: estimate it, or choose to ignore the CTF.' % what)
        elif ctf and particles.getSize() and not _hasMicroscope(particles):
            errors.append('The %s have no acquisition (voltage, spherical aberration, amplitude contrast), without which their CTF is not known: '
                          'assign it to them.' % what)
        return errors

    @staticmethod
    def _validateModels(volumes, structures):
        """Maps and files of structures to project."""
        errors = []
        for volume in volumes:
            if not isThere(volume):
                errors.append("The map '%s' does not exist." % volume.getFileName())
            elif not hasSamplingRate(volume):
                errors.append("The map '%s' has no sampling rate." % volume.getFileName())
        return errors + missingFiles(structures, "The structure '%s' does not exist.")

    @staticmethod
    def _validateMap(volume, what='map'):
        """A sentence about a map, or a mask, that cannot be read or has no sampling rate; no volume is none."""
        if volume is None:
            return []
        if not isThere(volume):
            return ["The %s's file '%s' does not exist." % (what, volume.getFileName())]
        if mapSides(volume) is None:
            return ["The %s's file '%s' cannot be read as a map: it is damaged, or of another kind." % (what, volume.getFileName())]
        return [] if hasSamplingRate(volume) else ['The %s has no sampling rate.' % what]

    @staticmethod
    def _validateNumber(particles, fewest=FEWEST_IMAGES):
        """A set that has too few particles to say anything."""
        return sentences(check_count, 'particles', particles.getSize(), fewest) if particles is not None else []

    @staticmethod
    def _validateSymmetry(group, optional=False):
        """A point group that nobody knows."""
        if _SYMMETRY.fullmatch((group or '').strip()) or (optional and not (group or '').strip()):
            return []
        return ["The symmetry '%s' is not known: give Cn, Dn, T, O, I, I1 or I2." % (group or '')]

    @staticmethod
    def _validateDescription(model):
        """A trained network whose description is gone."""
        try:
            model.getDescription()
        except (OSError, ValueError):
            return ["The network's description '%s' is missing or damaged: train it again." % model.getFileName()]
        return []

    @staticmethod
    def _validatePixelOfNetwork(particles, model):
        """Particles with another pixel size than those that a network was trained for."""
        if not model.getSamplingRate() or same_pixel_size(particles.getSamplingRate(), model.getSamplingRate()):
            return []
        return ['The particles have %g Å/px, but the network was trained for %g Å/px.' % (particles.getSamplingRate(), model.getSamplingRate())]

    @staticmethod
    def _validatePolygon(numbers):
        """An outline drawn by hand that has no area."""
        if len(numbers) >= 6 and len(numbers) % 2 == 0:
            return []
        return ['The polygon has %d numbers: give x and y of at least three corners.' % len(numbers)]

    def _warnOfSlowness(self, items, most, what='particles', how='long'):
        """More items than a CPU can do in a reasonable time."""
        if items is None or self.usesGpu() or items.getSize() <= most:
            return []
        return ['%d %s take %s on the CPU: use a GPU.' % (items.getSize(), what, how)]


def missingFiles(items, sentence):
    """``sentence`` with the name of each of the files, or objects with a file, that does not exist."""
    names = [item if isinstance(item, str) else fileOf(item) for item in items]
    return [sentence % name for name in names if not os.path.exists(name)]
