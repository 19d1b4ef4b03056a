"""Comparison of two sets of orientations of the same particles."""

import math

from pwem.objects import SetOfParticles

from ..convert.orientations import ERRORS_SUMMARY, ERRORS_TABLE, appendCompared, readErrorSummary, shareFiles, writeBoth
from ..engine.orientation.config import CompareOrientationsConfig as Config
from .protocol_base import CryoLearnProtBase, EngineStep


class CryoLearnProtCompareOrientations(CryoLearnProtBase):
    """Aligns one set of orientations to another of the same particles and tells the error of each particle.

    Two sets of orientations may be equally right and yet differ: by a rotation of the particle and by its handedness, which images leave free.
    That difference is found and taken off first (in closed form); errors are what remains, for symmetric particles the smallest over the
    group. The images of the two sets are joined by their names, so either may be a subset.

    The output is the second set, turned to the first, with the error of each particle in degrees.
    """

    _label = 'compare orientations'
    _possibleOutputs = {'outputParticles': SetOfParticles}
    _references = ['Banjac2021']
    _madeFrom = ('inputReference', 'inputParticles')

    # ---------------------------------------------------- form -----------------------------------------------------
    def _defineParams(self, form):
        form.addSection(label='Input')
        self.addInput(form, 'inputReference', 'SetOfParticles', 'Reference orientations',
                      'Particles with the orientations to compare with: the truth of a simulation, or the result of another program.',
                      pointerCondition='hasAlignmentProj')
        self.addInput(form, 'inputParticles', 'SetOfParticles', 'Orientations to judge',
                      'Particles with the orientations that are aligned to the reference and judged.', pointerCondition='hasAlignmentProj')
        self.addEngineParams(form, Config, 'symmetry', 'alignment')

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        return self.engineDigest(sets=[[item, item.getSamplingRate()] for item in (self.inputReference.get(), self.inputParticles.get())])

    def _config(self):
        return self.buildConfig(Config, reference=self._getExtraPath('input_reference.star'), particles=self.getParticlesFile())

    def convertInputStep(self, digest):
        return writeBoth(self.inputReference.get(), self.inputParticles.get(), self._getExtraPath())

    compareStep = EngineStep('orientation-compare', ERRORS_TABLE, ERRORS_SUMMARY, 'aligned.star')

    def _makeOutputs(self):
        yield 'outputParticles', self.newSet(SetOfParticles, lambda new: appendCompared(self.inputParticles.get(), new, self._getExtraPath(ERRORS_TABLE)))

    def _describe(self):
        found, lines = self._readEngineSummary(), []
        for row in readErrorSummary(self._getExtraPath()):
            numbers = tuple(math.degrees(row['%s_rad' % name]) for name in ('mean', 'median', 'p95'))
            lines.append('%s error: mean %%.2f, median %%.2f, 95th percentile %%.2f degrees.' % row['kind'].capitalize() % numbers)
        lines.append('%d particles are in both sets, of %d and %d; orientations at random would be %.0f degrees off.' % (
            found['particles'], self.inputReference.get().getSize(), self.inputParticles.get().getSize(), math.degrees(found['random_error_rad'])))
        if found['physical_alignment']['mirrored']:
            lines.append('The judged orientations belong to the other hand of the particle.')
        return lines, '\n'.join(['Orientations were aligned (%s, in closed form) and compared.' % self.getEngineValue(Config, 'alignment'), *lines[:1]])

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        reference, particles = self.inputReference.get(), self.inputParticles.get()
        errors = self._validateSymmetry(self.symmetry.get())
        errors += self._validateParticles(reference, alignment=True, what='reference particles')
        errors += self._validateParticles(particles, alignment=True, what='particles to judge')
        if reference is not None and particles is not None and not errors and not shareFiles(reference, particles):
            errors.append('The two sets share no image: choose orientations of the same images (the images of one set may be a part of the other\'s).')
        return errors
