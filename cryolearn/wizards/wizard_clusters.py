"""Wizard that chooses the number of clusters by the score of each."""

import os
import subprocess

import numpy as np
from pyworkflow.gui import dialog
from pyworkflow.wizard import Wizard

from ..convert.flex import latentLength, writeLatents
from ..engine.landscape.config import ClusterLandscapeConfig
from ..protocols import CryoLearnProtClusterLandscape
from ..viewers.engine_preview import callEngine, emptyFolder
from ..viewers.plots import readColumns
from .dialogs import ChoiceDialog

NOTE = ('Mean silhouette of the clusters: 1 means well apart, 0 a continuum. The highest is marked; a flat curve says that the landscape '
        'has no natural groups, and any number cuts a continuum.')


class CryoLearnClustersWizard(Wizard):
    """Number of clusters: the engine scores 2 to 12 of them for the chosen method."""

    _targets = [(CryoLearnProtClusterLandscape, ['clusters'])]

    def show(self, form, *params):
        protocol = form.protocol
        particles = protocol.inputParticles.get()
        if particles is None or not particles.getSize() or not latentLength(particles):
            dialog.showWarning('Number of clusters', 'Choose particles with latent vectors first.', form.root)
            return
        form.root.config(cursor='watch')
        form.root.update()
        try:
            numbers, scores = scoreCurve(protocol, particles, protocol.getProject().getTmpPath('clusters_wizard'))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            dialog.showError('Number of clusters', str(error), form.root)
            return
        finally:
            form.root.config(cursor='')
        best = numbers[int(np.nanargmax(scores))]
        found = ChoiceDialog(form.root, 'Number of clusters', numbers=numbers, scores=scores, first=best, xLabel='number of clusters',
                             yLabel='mean silhouette', note=NOTE)
        if found.resultYes():
            form.setVar('clusters', found.value)


def scoreCurve(protocol, particles, folder):
    """Numbers of clusters and their scores, computed by the engine in a scratch folder."""
    table = os.path.join(emptyFolder(folder), 'landscape.npz')
    writeLatents(particles, table)
    callEngine('cluster-landscape', protocol.buildConfig(ClusterLandscapeConfig, table=table, clusters=0, output=folder))
    columns = readColumns(os.path.join(folder, 'scores.csv'))
    return columns['clusters'].astype(int).tolist(), columns['silhouette'].tolist()
