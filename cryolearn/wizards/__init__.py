"""Wizards: small dialogs that fill a field of a form from the input's own data."""

from .wizard_clusters import CryoLearnClustersWizard
from .wizard_gaussians import CryoLearnFocusWizard, CryoLearnGaussiansWizard
from .wizard_images import CryoLearnDiameterWizard, CryoLearnMaskRadiusWizard, CryoLearnResolutionWizard
from .wizard_modes import CryoLearnModesWizard

__all__ = ['CryoLearnClustersWizard', 'CryoLearnDiameterWizard', 'CryoLearnFocusWizard', 'CryoLearnGaussiansWizard', 'CryoLearnMaskRadiusWizard',
           'CryoLearnModesWizard', 'CryoLearnResolutionWizard']
