"""Wizards that preview a mask radius or a resolution on the input's own image."""

from typing import Any, Dict

from ..protocols import CryoLearnProtElasticAlign, CryoLearnProtReconstruct, CryoLearnProtRecoverOrientations, CryoLearnProtVolumeToGaussians
from .dialogs import DiameterDialog, RadiusDialog, ResolutionDialog
from .images import previewOf
from .wizard_base import DialogWizard


class _ImageWizard(DialogWizard):
    """``_inputs``: protocol class -> name of the parameter that holds the images."""

    _title, _wanted = 'No image', 'Choose the input first: the preview shows its images.'
    _inputs: Dict[type, str] = {}
    _dialog: Any = None

    def makeDialog(self, form):
        protocol = form.protocol
        pointer = getattr(protocol, next(name for kind, name in self._inputs.items() if isinstance(protocol, kind)))
        preview = previewOf(pointer.get())
        return None if preview is None else self._dialog(form.root, preview, float(getattr(protocol, self._parameter).get() or 0))


class CryoLearnMaskRadiusWizard(_ImageWizard):
    """Radius of the spherical mask, as a circle over particles."""

    _inputs = {CryoLearnProtReconstruct: 'inputSet'}
    _parameter = 'maskRadiusAngst'
    _dialog = RadiusDialog
    _targets = [(kind, ['maskRadiusAngst']) for kind in _inputs]


class CryoLearnDiameterWizard(_ImageWizard):
    """Diameter of the particle, as a circle over particles."""

    _inputs = {CryoLearnProtRecoverOrientations: 'inputParticles'}
    _parameter = 'particleDiameterAngst'
    _dialog = DiameterDialog
    _targets = [(kind, ['particleDiameterAngst']) for kind in _inputs]


class CryoLearnResolutionWizard(_ImageWizard):
    """Resolution limit, by the low-pass filtered image."""

    _inputs = {CryoLearnProtElasticAlign: 'inputParticles', CryoLearnProtVolumeToGaussians: 'inputVolume'}
    _parameter = 'resolutionAngst'
    _dialog = ResolutionDialog
    _targets = [(kind, ['resolutionAngst']) for kind in _inputs]
