"""Viewer of conformational landscapes."""

import numpy as np
from pwem.objects import SetOfClasses, SetOfClassesFlex, SetOfParticlesFlex
from pyworkflow.object import Pointer

from ..common.choices import choice_index
from ..convert.flex import PROGRAM, latentColumns
from ..engine.landscape.config import TrajectoryConfig
from ..protocols import (
    CryoLearnProtClusterLandscape,
    CryoLearnProtElasticAlign,
    CryoLearnProtElasticPredict,
    CryoLearnProtSelectLandscape,
    CryoLearnProtSimulateParticles,
    CryoLearnProtTrajectory,
)
from .gaussian_window import openGaussianPath
from .landscape_data import findModes, findMotion, landscapeOfRun, landscapeOfSet, modesFile, traceOfModes
from .landscape_window import LandscapeWindow
from .scene_window import SceneWindow
from .viewer_base import CryoLearnViewer, ObjectViewer

SHOWN_FRAMES = 20  # conformations shown at once along a drawn path


def openLandscape(landscape, particles, protocol, project, parent, title):
    """The window of a landscape, with the actions that its run allows.

    Parameters
    ----------
    particles : Pointer
        The set of particles that a subset or a trajectory is made from.
    protocol : Protocol
        The run that the landscape comes from: its inputs lead to the normal modes.
    """
    usable = particles is not None and particles.get() is not None
    motion, latents = findMotion(protocol, particles.get() if usable else None)
    modes = findModes(protocol) if motion is None else None
    path = modesFile(modes, protocol)
    numbers = [int(number) for number in landscape.meta.get('mode_numbers') or []]
    vectors = landscape.columns.get('amplitudes')
    known = latents if motion else len(numbers) if path else 0
    deformable = known > 0 and vectors is not None and vectors.ndim == 2 and known == vectors.shape[1]

    def select(xAxis, yAxis, corners):
        try:
            run = launchSelection(project, particles, landscape, xAxis, yAxis, corners)
        except ValueError as error:
            return str(error)
        return 'Run "%s" was launched; its output is the subset.' % run.getRunName()

    def show(points):
        if motion:
            openGaussianPath(motion, landscape.tableWith(['amplitudes']), folder=project.getTmpPath('path'), parent=parent,
                             title='Conformations along the path', path='points' if len(points) > 1 else 'frames', points=points).show()
        else:
            showConformations(points, path, numbers, parent)

    def runTrajectory(points):
        run = launchTrajectory(project, particles, modes, numbers, points)
        return 'Run "%s" was launched.' % run.getRunName()

    return LandscapeWindow(landscape, title, parent, onSelect=select if usable else None, onShow=show if deformable else None,
                           onPath=runTrajectory if usable and deformable else None)


def launchRun(project, protocolClass, label, **values):
    """Launch a run; ``values`` are those of its form, pointers to inputs among them, and numbers as an array. Returns the run."""
    run = project.newProtocol(protocolClass)
    run.setObjLabel(label)
    for name, value in values.items():
        param = getattr(run, name)
        if isinstance(value, Pointer):
            param.copy(value)
        else:
            param.set(' '.join('%.6g' % number for number in value.ravel()) if isinstance(value, np.ndarray) else value)
    project.launchProtocol(run)
    return run


def launchSelection(project, particles, landscape, xAxis, yAxis, corners):
    """Launch the batch protocol that makes a subset of the particles inside a polygon; returns the run.

    Raises
    ------
    ValueError
        when the two axes stand in different tables, so that a run could not read them again.
    """
    names = {axis.partition(':')[0] for axis in (xAxis, yAxis)}
    table = '' if names <= latentColumns(particles.get()) else landscape.tableWith(names)
    return launchRun(project, CryoLearnProtSelectLandscape, 'selected on the landscape', inputParticles=particles, table=table,
                     xAxis=xAxis, yAxis=yAxis, polygon=np.asarray(corners))


def launchTrajectory(project, particles, modes, numbers, points, frames=10):
    """Launch a trajectory through the given latent vectors; without modes the particles bring their motion along."""
    return launchRun(project, CryoLearnProtTrajectory, 'trajectory along a drawn path', inputSet=particles, inputModes=modes,
                     modeNumbers=' '.join(str(number) for number in numbers), path=choice_index(TrajectoryConfig, 'path', 'points'),
                     points=np.asarray(points), frames=frames)


def conformationsAlong(points, modesPath, numbers, frames=SHOWN_FRAMES):
    """Backbone traces ``(f, n, 3)`` at equal steps along latent vectors ``(m, k)``, linearly along the modes, and their links."""
    trace, linked, vectors, _ = traceOfModes(modesPath)
    points = np.atleast_2d(points)
    if len(points) > 1:
        position = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
        wanted = np.linspace(0, position[-1], frames)
        points = np.stack([np.interp(wanted, position, column) for column in points.T], axis=1)
    moves = np.stack([vectors[number] for number in numbers])
    return trace + np.einsum('fk,knd->fnd', points, moves), linked, points


def showConformations(points, modesPath, numbers, parent):
    """Show the conformations along a drawn path at once, without a run."""
    conformations, linked, vectors = conformationsAlong(points, modesPath, numbers)
    names = [', '.join('mode %d: %.0f' % pair for pair in zip(numbers, vector)) for vector in vectors]
    SceneWindow('Conformations along the path', parent, conformations, linked, names=names).show()


class CryoLearnLandscapeViewer(CryoLearnViewer):
    """Landscape of a run: density and points on any two axes, subsets by lasso, conformations along a drawn path."""

    _label = 'landscape viewer'
    _targets = [CryoLearnProtElasticAlign, CryoLearnProtElasticPredict, CryoLearnProtClusterLandscape, CryoLearnProtSelectLandscape,
                CryoLearnProtSimulateParticles]

    def _defineResults(self, form):
        self._addLine(form, 'showLandscape', 'Conformational landscape', important=True,
                      help='Density and points on two axes of your choice, coloured by any column. With the lasso a subset is made (a run '
                           'of its own, which can be repeated); a path of clicked points becomes conformations.')
        self._addTable(form, 'Output as a table')

    def tableOf(self):
        return 'outputClasses' if hasattr(self.protocol, 'outputClasses') else 'outputParticles'

    def _showLandscape(self, param=None):
        landscape = landscapeOfRun(self.protocol)
        if landscape is None:
            return self._notReady('The landscape')
        return [openLandscape(landscape, self.getParticles(), self.protocol, self.getProject(), self.formWindow, self.title('Landscape'))]

    def getParticles(self):
        """Pointer to the particles that a subset or a trajectory is made from; None where there are none."""
        return particlesOf(self.protocol)


class CryoLearnParticlesFlexViewer(ObjectViewer):
    """Opens the landscape of a set of particles, or of classes of them, that this plugin made."""

    _targets = [SetOfParticlesFlex, SetOfClassesFlex]
    _name = 'conformational landscape (cryolearn)'

    @classmethod
    def can_handle_this_instance(cls, instance):
        particles = _particlesIn(instance)
        return hasattr(particles, 'getFlexInfo') and particles.getFlexInfo().getProgName() == PROGRAM

    def _visualize(self, obj, **kwargs):
        project, protocol = self.getProject(), self.runOf(obj)
        particles = _particlesIn(obj)
        landscape = landscapeOfSet(particles, protocol, project.getTmpPath())
        return [openLandscape(landscape, Pointer(value=particles), protocol, project, self.formWindow, 'Landscape - %s' % obj.getNameId())]


def _particlesIn(item):
    return item.getImages() if isinstance(item, SetOfClasses) else item


def particlesOf(protocol):
    """Pointer to the particles of a run's landscape: its output, or else its input."""
    for name in ('outputParticles', 'inputParticles'):
        if getattr(protocol, name, None) is not None:
            return Pointer(value=protocol, extended=name) if name.startswith('output') else getattr(protocol, name)
    return None
