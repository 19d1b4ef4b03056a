"""Three-dimensional drawings of windows that need no ChimeraX: backbone traces, Gaussians and arrows beside the surfaces of ``common``, on plain 2D axes.

Everything is turned by a rotation matrix, sorted by depth and painted from back to front; far parts are paler.
Positive z points to the viewer.
"""

import numpy as np
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import to_rgb
from scipy.ndimage import zoom

from ..common.figures.surface import pale, surface_mesh, view_of


def surfaceMesh(volume, pixelSize, level, origin=None):
    """Mesh of an isosurface, see :func:`cryolearn.common.figures.surface.surface_mesh`."""
    from skimage.measure import marching_cubes
    return surface_mesh(volume, pixelSize, level, marching_cubes, zoom, origin)


def viewOfMesh(mesh, margin):
    """Centre and half width of what shows a mesh; specks of noise far out do not count."""
    if mesh is None:
        return np.zeros(3), 100.
    corners = mesh[0].reshape(-1, 3)
    away = np.linalg.norm(corners - np.median(corners, axis=0), axis=1)
    return view_of(corners[away <= 3 * np.median(away)], margin)


def drawTrace(axes, coordinates, linked, rotation, colours=None, width=2.5):
    """Backbone as a tube-like line from blue (start) to red (end); unlinked atoms as dots."""
    from matplotlib import colormaps
    points = np.asarray(coordinates).dot(rotation.T)
    ramp = colormaps['turbo'](np.linspace(0.05, 0.95, len(points)))[:, :3] if colours is None else np.tile(to_rgb(colours), (len(points), 1))
    if not linked.any():
        order = np.argsort(points[:, 2])
        axes.scatter(points[order, 0], points[order, 1], s=45, c=pale(ramp, points[:, 2:], 0.6)[order], linewidths=0.5, edgecolors='0.3')
        return
    first = np.flatnonzero(linked)
    segments = np.stack([points[first], points[first + 1]], axis=1)
    depth = segments[:, :, 2].mean(axis=1, keepdims=True)
    order = np.argsort(depth[:, 0])
    shade = pale(ramp[first], depth, 0.65)[order]
    flat = segments[order][:, :, :2]
    edges = np.repeat(flat, 2, axis=0)
    paint = np.repeat(np.c_[shade, np.ones(len(shade))], 2, axis=0)
    paint[::2, :3] = 0.25  # each piece over its own dark edge, so that crossings show what is in front
    widths = np.tile([width + 1.2, width], len(flat))
    axes.add_collection(LineCollection(edges, colors=paint, linewidths=widths, capstyle='round'))


def drawGaussians(axes, positions, rotation, radius, colours, marked=None):
    """Gaussians as discs, painted from back to front, far ones paler.

    Parameters
    ----------
    positions : (n, 3)
    radius : (n,)
        Å.
    colours : (n, 3)
    marked : (n,) bool, optional
        Which ones get a thick blue rim.
    """
    points = np.asarray(positions).dot(rotation.T)
    order = np.argsort(points[:, 2])
    marked = np.zeros(len(points), bool) if marked is None else np.asarray(marked)
    rims = np.where(marked[:, None], np.array(to_rgb('#0033cc')), 0.35)[order]
    axes.add_collection(EllipseCollection(
        2 * radius[order], 2 * radius[order], np.zeros(len(order)), units='xy', offsets=points[order, :2], offset_transform=axes.transData,
        facecolors=pale(np.asarray(colours), points[:, 2:], 0.55)[order], edgecolors=rims, linewidths=np.where(marked, 3.0, 0.5)[order]))


def drawArrows(axes, start, vectors, rotation, colour='0.15'):
    """Displacement arrows at ``start`` (n, 3)."""
    begin, move = start.dot(rotation.T), vectors.dot(rotation.T)
    axes.quiver(begin[:, 0], begin[:, 1], move[:, 0], move[:, 1], angles='xy', scale_units='xy', scale=1, color=colour, width=0.004, headwidth=4, headlength=5,
                zorder=3)
