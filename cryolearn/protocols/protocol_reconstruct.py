"""Maps from aligned particles, with half maps and FSC."""

import json
from typing import Dict

from pwem.objects import SetOfClasses, SetOfFSCs, SetOfVolumesFlex, Volume, VolumeFlex

from ..common.fsc import HALF_MAP_THRESHOLD, read_curve, resolution_of_curve, resolution_text
from ..common.verdicts import maps_verdict
from ..convert.classes import meanLatents, particlesOf, writeClasses
from ..convert.files import mapSides
from ..convert.flex import PROGRAM
from ..convert.fsc import fillFscs, makeFsc
from ..convert.particles import writeParticles
from ..convert.tilt_particles import particleClasses
from ..convert.volumes import makeVolume, writeVolume
from ..engine.imaging.config import ReconstructConfig
from .protocol_base import CryoLearnProtBase, EngineStep


class CryoLearnProtReconstruct(CryoLearnProtBase):
    """Reconstructs a map from aligned particles by CTF-weighted Fourier insertion, with half maps and the Fourier shell
    correlation between them. Of a set of classes each class is reconstructed.

    The halves are those of rlnRandomSubset when the particles have it, else they are drawn.
    """

    _label = 'reconstruct'
    _possibleOutputs = {'outputVolume': Volume, 'outputVolumes': SetOfVolumesFlex, 'outputFSCs': SetOfFSCs}
    _madeFrom = ('inputSet',)

    def _defineParams(self, form):
        self._defineGpuParams(form)
        Config = ReconstructConfig
        form.addSection(label='Input')
        self.addInput(form, 'inputSet', particleClasses('SetOfParticles', 'SetOfClassesFlex', 'SetOfClasses3D'), 'Particles or classes',
                      'Aligned particles (one map), or classes of them (one map each). Tilt-series particles of scipion-em-reliontomo '
                      '(2D stacks) are taken too.')
        self.addEngineParams(form, Config, 'use_ctf', 'invert_contrast', 'symmetry')
        self.addEngineParams(form, Config, 'padding', 'wiener', 'batch')
        form.addSection(label='FSC')
        self.addInput(form, 'inputMask', 'VolumeMask,Volume', 'Mask',
                      'Mask for the Fourier shell correlation. Without it a soft sphere is used.', allowsNull=True)
        self.addEngineParam(form, Config, 'mask_radius_angst', condition='not inputMask')
        form.addParallelSection(threads=4, mpi=1)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _inputDigest(self):
        return self.engineDigest(inputSet=self.inputSet.get(), mask=self.inputMask.get())

    def _hasClasses(self):
        return isinstance(self.inputSet.get(), SetOfClasses)

    def _particles(self):
        return self.inputSet.get().getImages() if self._hasClasses() else self.inputSet.get()

    def _imageSet(self):
        return self._particles()

    def getClassesFile(self):
        return self._getExtraPath('input_classes.npz') if self._hasClasses() else ''

    def _config(self):
        return self.buildConfig(
            ReconstructConfig, particles=self.getParticlesFile(), classes=self.getClassesFile(), mask=self.getMaskFile(),
            phase_flipped=bool(self._particles().isPhaseFlipped()))

    def convertInputStep(self, digest):
        members: Dict[int, int] = {}
        items = particlesOf(self.inputSet.get(), members) if self._hasClasses() else None
        writeParticles(self._particles(), self.getParticlesFile(), self._getExtraPath(), items=items)
        if self._hasClasses():
            writeClasses(members, self.getClassesFile())
        if self.getMaskFile():
            writeVolume(self.inputMask.get(), self.getMaskFile())
        return [name for name in (self.getParticlesFile(), self.getClassesFile(), self.getMaskFile()) if name]

    reconstructStep = EngineStep('reconstruct', 'reconstructions.json')

    def _names(self):
        """``[(class, stem of its files)]`` of the maps that were made, class 1 for all particles together."""
        return [(int(entry['name'].rsplit('_', 1)[1]) if self._hasClasses() else 1, entry['name'])
                for entry in self._report()['reconstructions']]

    def _report(self):
        with open(self._getExtraPath('reconstructions.json')) as handle:
            return json.load(handle)

    def _makeVolume(self, stem, volumeClass=Volume, **kwargs):
        halves = [self._getExtraPath('%s_half%d.mrc' % (stem, half)) for half in (1, 2)]
        return makeVolume(self._getExtraPath(stem + '.mrc'), halves, volumeClass, **kwargs)

    def _makeOutputs(self):
        yield ('outputVolumes', self._makeVolumes()) if self._hasClasses() else ('outputVolume', self._makeVolume('map'))
        yield 'outputFSCs', self.newSet(SetOfFSCs, fillFscs, map(self._makeFsc, self._names()))

    def _otherFiles(self):
        return [self._getExtraPath(stem + ending) for _, stem in self._names() for ending in ('.mrc', '_half1.mrc', '_half2.mrc')]

    def _makeFsc(self, named):
        number, stem = named
        fsc = makeFsc(self._getExtraPath(stem + '_fsc.csv'), stem)
        fsc.setObjId(number)
        return fsc

    def _makeVolumes(self):
        means = meanLatents(self.inputSet.get())
        volumes = SetOfVolumesFlex.create(self._getPath())
        volumes.getFlexInfo().setProgName(PROGRAM)
        volumes.setSamplingRate(self._particles().getSamplingRate())
        for number, stem in self._names():
            volume = self._makeVolume(stem, VolumeFlex, progName=PROGRAM)
            volume.setObjId(number)
            volume.setClassId(number)
            volume.setZFlex(means.get(number, []))
            volumes.append(volume)
        return volumes

    def _describe(self):
        lines = []
        for _, stem in self._names():
            lines.append('%s: %s (FSC %g of half maps)' % (stem, resolution_text(self._resolution(stem)), HALF_MAP_THRESHOLD))
        for stem, count in self._report()['left_out'].items():
            lines.append('%s: left out, %d particle(s) make no two half maps.' % (stem, count))
        return lines, ('%d map(s) were reconstructed by CTF-weighted Fourier insertion; resolution is where the Fourier shell '
                       'correlation of the half maps first crosses %g.' % (len(self._names()), HALF_MAP_THRESHOLD))

    def _verdict(self):
        return maps_verdict([self._resolution(stem) for _, stem in self._names()])

    def _resolution(self, stem):
        return resolution_of_curve(*read_curve(self._getExtraPath(stem + '_fsc.csv')), threshold=HALF_MAP_THRESHOLD)

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        if self.inputSet.get() is None:
            return []
        particles = self._particles()
        if self._hasClasses() and self.inputSet.get().getSize() == 0:
            return ['The set of classes is empty.']
        errors = self._validateParticles(particles, alignment=True, ctf=self.useCtf.get(), tilts=True)
        mask = self.inputMask.get()
        errors += self._validateMap(mask, 'mask')
        if mask is not None and not errors and mapSides(mask)[0] != particles.getXDim():
            errors.append('The mask has a box of %d px, but the particles have %d px.' % (mapSides(mask)[0], particles.getXDim()))
        return errors

    def _warnings(self):
        if self.inputSet.get() is not None and not self.useCtf.get() and not self._particles().hasCTF():
            return ['The particles have no CTF: the map will not be corrected.']
        return []
