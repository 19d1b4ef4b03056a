"""Wizard that chooses the number of clusters by the score of each."""

import os

import numpy as np

from ..convert.flex import latentLength
from ..convert.latents import writeLatents
from ..engine.landscape.config import ClusterLandscapeConfig
from ..protocols import CryoLearnProtClusterLandscape
from ..viewers.engine_preview import callEngine, emptyFolder
from ..viewers.plots import readColumns
from .dialogs import ChoiceDialog
from .wizard_base import DialogWizard

NOTE = ('Mean silhouette of the clusters: 1 means well apart, 0 a continuum. The highest is marked; a flat curve says that the landscape '
        'has no natural groups, and any number cuts a continuum.')


class CryoLearnClustersWizard(DialogWizard):
    """Number of clusters: the engine scores 2 to 12 of them for the chosen method."""

    _parameter, _title, _wanted = 'clusters', 'Number of clusters', 'Choose particles with latent vectors first.'
    _targets = [(CryoLearnProtClusterLandscape, ['clusters'])]

    def makeDialog(self, form):
        protocol = form.protocol
        particles = protocol.inputParticles.get()
        if particles is None or not particles.getSize() or not latentLength(particles):
            return None
        form.root.config(cursor='watch')
        form.root.update()
        try:
            numbers, scores = scoreCurve(protocol, particles, protocol.getProject().getTmpPath('clusters_wizard'))
        finally:
            form.root.config(cursor='')
        return ChoiceDialog(form.root, self._title, numbers=numbers, scores=scores, first=numbers[int(np.nanargmax(scores))],
                            xLabel='number of clusters', yLabel='mean silhouette', note=NOTE)


def scoreCurve(protocol, particles, folder):
    """Numbers of clusters and their scores, computed by the engine in a scratch folder."""
    table = os.path.join(emptyFolder(folder), 'landscape.npz')
    writeLatents(particles, table)
    callEngine('cluster-landscape', protocol.buildConfig(ClusterLandscapeConfig, table=table, clusters=0, output=folder))
    columns = readColumns(os.path.join(folder, 'scores.csv'))
    return columns['clusters'].astype(int).tolist(), columns['silhouette'].tolist()
