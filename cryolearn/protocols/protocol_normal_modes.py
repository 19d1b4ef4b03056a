"""Normal modes of an atomic or pseudo-atomic model."""

from ..convert.modes import MODES_FILE, RIGID_MODES, TABLE_FILE
from ..engine.elastic.config import NormalModesConfig
from .config_params import isChoice
from .protocol_base import EngineStep
from .protocol_modes_base import CryoLearnProtModesBase


class CryoLearnProtNormalModes(CryoLearnProtModesBase):
    """Computes the normal modes of an atomic structure or of pseudo-atoms: the directions in which an elastic network
    moves most easily. Each mode has a collectivity (the part of the atoms that it moves) and a score that is low for slow
    and collective modes. The first six modes move the structure as a rigid body and are never used.

    Amplitudes everywhere in this plugin multiply eigenvectors of unit norm over all atoms: an amplitude q moves the atoms
    by an RMSD of q / sqrt(number of atoms).
    """

    _label = 'normal modes'

    def _defineParams(self, form):
        form.addSection(label='Input')
        self.addStructure(form, 'Atomic model (PDB or mmCIF) or pseudo-atoms of a map.')
        self.addEngineParam(form, NormalModesConfig, 'selection')
        form.addSection(label='Modes')
        self.addEngineParams(form, NormalModesConfig, 'number', 'method')
        self.addEngineParam(form, NormalModesConfig, 'cutoff_mode')
        self.addEngineParam(form, NormalModesConfig, 'cutoff_angst', condition=isChoice(NormalModesConfig, 'cutoff_mode', 'absolute'))
        self.addEngineParam(form, NormalModesConfig, 'cutoff_percent', condition=isChoice(NormalModesConfig, 'cutoff_mode', 'relative'))
        self.addEngineParam(form, NormalModesConfig, 'residues_per_block', condition=isChoice(NormalModesConfig, 'method', 'rtb'))
        self.addEngineParam(form, NormalModesConfig, 'collectivity_threshold')
        form.addParallelSection(threads=2, mpi=0)

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _config(self):
        return self.buildConfig(NormalModesConfig, structure=self.inputStructure.get().getFileName())

    computeModesStep = EngineStep('normal-modes', MODES_FILE, TABLE_FILE)

    def _describe(self):
        found = self._readEngineSummary()
        how = ('rotation-translation blocks of %d residues' % self.residuesPerBlock.get() if self.getEngineValue(NormalModesConfig, 'method') == 'rtb'
               else 'a C-alpha anisotropic network extended to all atoms')
        lines = ['%d modes of %d atoms (the first %d are rigid), springs up to %g Å.' % (found['modes'], found['atoms'], RIGID_MODES, found['cutoff_angst']),
                 self._collective(found)]
        return lines, ('Normal modes of the %d atoms selected by "%s" were computed with ProDy (%s, cutoff %g Å).'
                       % (found['atoms'], self.selection.get(), how, found['cutoff_angst']))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        errors = super()._validateInputs()
        if not (self.selection.get() or '').strip():
            errors.append('The atom selection is empty: write "all" to keep every atom.')
        return errors
