"""Wizard that chooses the number of clusters by the score of each."""

import os
import shlex
import shutil
import subprocess

import numpy as np
from pyworkflow.gui import dialog
from pyworkflow.wizard import Wizard

from .. import Plugin
from ..convert.flex import latentLength, writeLatents
from ..engine.config import save_config
from ..engine.landscape.config import ClusterLandscapeConfig
from ..protocols import CryoLearnProtClusterLandscape
from ..viewers.plots import readColumns
from .dialogs import ChoiceDialog

LONGEST_S = 600
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
        found = ChoiceDialog(form.root, 'Number of clusters', numbers, scores, best, 'number of clusters', 'mean silhouette', NOTE)
        if found.resultYes():
            form.setVar('clusters', found.value)


def scoreCurve(protocol, particles, folder):
    """Numbers of clusters and their scores, computed by the engine in a scratch folder."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    table, settings = os.path.join(folder, 'landscape.npz'), os.path.join(folder, 'clusters.json')
    writeLatents(particles, table)
    save_config(protocol.buildConfig(ClusterLandscapeConfig, table=table, clusters=0, output=folder), settings)
    done = subprocess.run('%s cluster-landscape --config %s' % (Plugin.getEngineProgram(), shlex.quote(settings)), shell=True,
                          env=dict(Plugin.getEnviron()), stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=LONGEST_S)
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or ['The engine stopped.'])[-1])
    columns = readColumns(os.path.join(folder, 'scores.csv'))
    return columns['clusters'].astype(int).tolist(), columns['silhouette'].tolist()
