"""What the protocols share that simulate subtomograms: to write them, or to learn from them as they are drawn."""

import os
from typing import List, Optional

import pyworkflow.protocol.params as params

from ..convert.files import fileOf
from ..convert.volumes import writeVolume
from .protocol_base import CryoLearnProtBase

NULL_CLASS = 'NULL'


def both(*conditions):
    """A form's condition that holds when all hold; None and '' always do."""
    return ' and '.join('(%s)' % condition for condition in conditions if condition) or None


class SimulatedSubtomograms(CryoLearnProtBase):
    """Structures and maps, each a class, and the microscope that they are seen through: parameters, files, checks."""

    _label: Optional[str] = None

    # ---------------------------------------------------- form -----------------------------------------------------
    def _addSimulatedInputs(self, form, Config, condition=None):
        self.addInputs(form, 'inputStructures', 'AtomStruct,SetOfAtomStructs', 'Structures', 'Atomic models, each a class.', important=True,
                       condition=condition)
        self.addInputs(form, 'inputVolumes', 'Volume,SetOfVolumes', 'Maps',
                       'Maps, each a class, beside or instead of structures. Density must be positive (white).', important=True, condition=condition)
        form.addParam('classNames', params.StringParam, default='', label='Class names', condition=condition,
                      help='Names of the classes, separated by commas: structures first, then maps. Empty: the names of the files.')
        self.addEngineParam(form, Config, 'null_class', condition=condition)

    def _addSimulationParams(self, form, Config, condition=None):
        tilts = form.addGroup('Tilt range', condition=condition)
        self.addEngineParams(tilts, Config, 'tilt_min_deg', 'tilt_max_deg', 'tilt_step_deg', 'tilt_spread_deg', condition=condition)
        noise = form.addGroup('Noise', condition=condition)
        self.addEngineParams(noise, Config, 'snr', 'route', 'noise_scale', 'noise_before_ctf', 'noise_colour', condition=condition)

    def _addMicroscopeParams(self, form, Config, condition=None):
        self.addEngineParam(form, Config, 'apply_ctf', condition=condition)
        self.addEngineParams(form, Config, 'defocus_angst', 'defocus_spread_angst', 'voltage_kv', 'cs_mm', 'amplitude_contrast',
                             condition=both(condition, 'applyCtf'))
        self.addEngineParams(form, Config, 'mtf', 'b_factor_angst2', condition=condition)

    # ---------------------------------------------------- files ----------------------------------------------------
    def _volumes(self):
        """``{file in extra: volume}`` of all maps, those of sets one by one."""
        return self.numberedMaps(self.inputVolumes)

    def _structures(self):
        """Files of all atomic models."""
        return self.filesOf(self.inputStructures)

    def _names(self):
        """Names of the classes as the form gives them, else those of the files, told apart by a number where they are the same."""
        given = [name.strip() for name in (self.classNames.get() or '').split(',') if name.strip()]
        if given:
            return given
        files = self._structures() + [fileOf(volume) for volume in self._volumes().values()]
        names: List[str] = []
        for name in ('_'.join(os.path.splitext(os.path.basename(file))[0].split()) for file in files):
            names.append(name if name not in names else '%s_%d' % (name, len(names) + 1))
        return names

    def _simulationDigest(self):
        """Digest of the maps and models that subtomograms are simulated of."""
        return self.engineDigest(volumes=[[volume, volume.getSamplingRate()] for volume in self._volumes().values()], structures=self._structures())

    def _writeMaps(self):
        return [writeVolume(volume, path) for path, volume in self._volumes().items()]

    # ------------------------------------------------- validation --------------------------------------------------
    def _validateSimulation(self):
        """Sentences about inputs and parameters that cannot be simulated."""
        errors, volumes, structures = [], list(self._volumes().values()), self._structures()
        if not volumes and not structures:
            errors.append('Neither structures nor maps are given: each is a class, so give at least one.')
        errors += self._validateModels(volumes, structures)
        names = self._names()
        if len(names) != len(volumes) + len(structures):
            errors.append('%d class names are given for %d structures and maps.' % (len(names), len(volumes) + len(structures)))
        errors += ["The class name '%s' is given twice." % name for name in sorted({name for name in names if names.count(name) > 1})]
        errors += ["The class name '%s' has white space: write an underscore instead." % name for name in names if len(name.split()) > 1]
        if self.nullClass.get() and NULL_CLASS in names:
            errors.append("'%s' is the name of the class of noise alone: give the class another name." % NULL_CLASS)
        if self.tiltMinDeg.get() >= self.tiltMaxDeg.get():
            errors.append('The first tilt (%g) is not below the last (%g).' % (self.tiltMinDeg.get(), self.tiltMaxDeg.get()))
        return errors
