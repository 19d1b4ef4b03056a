"""Normal modes that another program computed."""

import os

import pyworkflow.protocol.params as params

from ..convert.modes import MODES_FILE, TABLE_FILE
from ..engine.elastic.config import ImportModesConfig as Config
from .protocol_base import EngineStep
from .protocol_modes_base import CryoLearnProtModesBase


class CryoLearnProtImportModes(CryoLearnProtModesBase):
    """Imports normal modes that another program computed: an NMD file (ProDy, NMWiz), an npz file of ProDy's saveModel, or the folder of a run
    of ContinuousFlex with files vec.7, vec.8 ...

    The structure must have exactly the atoms that the modes were computed for, in their order and position. Vectors are brought to unit norm over all
    atoms, and each mode gets a collectivity and a score, as in the protocol "normal modes". Modes are counted from 1, the six rigid ones included:
    files of ProDy, which leave these out, begin with mode 7.
    """

    _label = 'import normal modes'

    def _defineParams(self, form):
        form.addSection(label='Input')
        self.addStructure(form, 'The atoms that the modes were computed for.')
        form.addParam('modesPath', params.PathParam, label='File or folder of modes',
                      help='NMD file, npz file of ProDy, or folder with the files vec.7, vec.8 ... of ContinuousFlex (or the run that holds it).')
        self.addEngineParam(form, Config, 'mode_numbers', default='', help='Modes to take, such as 7-12. Empty: all.')
        self.addEngineParam(form, Config, 'collectivity_threshold')

    # ---------------------------------------------------- steps ----------------------------------------------------
    def _config(self):
        return self.buildConfig(Config, structure=self.inputStructure.get().getFileName(), mode_files=[self.modesPath.get()])

    importModesStep = EngineStep('import-modes', MODES_FILE, TABLE_FILE)

    def _describe(self):
        found = self._readEngineSummary()
        return (['%d modes of %d atoms from %s.' % (found['modes'], found['atoms'], self.modesPath.get()),
                 self._collective(found)],
                'Normal modes of %d atoms were imported from %s.' % (found['atoms'], os.path.basename(self.modesPath.get())))

    # ----------------------------------------------------- info ----------------------------------------------------
    def _validateInputs(self):
        errors = super()._validateInputs()
        path = self.modesPath.get() or ''
        if not os.path.exists(path):
            errors.append("The modes '%s' do not exist: give an NMD file, an npz file of ProDy, or a folder with files vec.7, vec.8 ..." % path)
        elif not os.path.isdir(path) and os.path.splitext(path)[1].lower() not in ('.nmd', '.npz'):
            errors.append("'%s' is not a file of modes: give an NMD file, an npz file of ProDy, or a folder with files vec.7, vec.8 ..." % path)
        return errors
