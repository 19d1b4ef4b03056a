"""Three-dimensional drawings that need no ChimeraX: shaded surfaces, backbone traces and arrows on plain 2D axes.

Everything is turned by a rotation matrix, sorted by depth and painted from back to front; far parts are paler.
Positive z points to the viewer.
"""

import numpy as np
from matplotlib.collections import EllipseCollection, LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from scipy.ndimage import zoom

LIGHT = np.array([-0.35, 0.45, 0.82])
LARGEST_BOX = 80  # maps are binned to this for drawing
FINER = 2  # small ones are interpolated


def turn(rotation, dx, dy):
    """Rotation after dragging the mouse by ``dx``, ``dy`` degrees."""
    a, b = np.radians(dx), np.radians(-dy)
    aboutY = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    aboutX = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return aboutX.dot(aboutY).dot(rotation)


def surfaceMesh(volume, pixelSize, level, origin=None):
    """Triangles of an isosurface by marching cubes.

    Parameters
    ----------
    volume : (z, y, x)
    level : float
        Density of the surface.
    origin : (3,), optional
        Position in Å of the first voxel (x, y, z); without it the box's centre is at 0.

    Returns
    -------
    (corners (t, 3, 3) in Å, outward normals (t, 3)), or None when the level is outside the map's range.
    """
    from skimage.measure import marching_cubes
    size = volume.shape[0]
    step = max(1, -(-size // LARGEST_BOX))
    if step > 1:
        volume = binned(volume, step)
    if not volume.min() < level < volume.max():
        return None
    volume, corner = _cut(volume, level)
    finer = FINER if max(volume.shape) <= LARGEST_BOX // FINER else 1
    if finer > 1:
        volume = zoom(volume, finer, order=3, grid_mode=True, mode='nearest')
    vertices, faces, normals, _ = marching_cubes(volume, level)
    # voxel centres: those of the finer grid, then of the bins, then of the map
    vertices = (vertices + 0.5) / finer - 0.5 + corner
    start = np.full(3, -(size // 2) * pixelSize) if origin is None else np.asarray(origin, float)
    corners = ((vertices[:, ::-1] + 0.5) * step - 0.5)[faces] * pixelSize + start
    smooth = normals[faces].mean(axis=1)[:, ::-1]  # of the density's gradient, so that the voxels do not show as facets
    return corners, smooth / np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)


def _cut(volume, level, margin=4):
    """The part of a map that holds what is above the level, and the index of its first voxel."""
    slices = []
    for axis in range(3):
        above = np.flatnonzero((volume > level).any(axis=tuple(other for other in range(3) if other != axis)))
        slices.append(slice(max(above[0] - margin, 0), above[-1] + margin + 1))
    return volume[tuple(slices)], np.array([part.start for part in slices])


def binned(volume, step):
    """Mean over cubes of ``step`` voxels; what does not fill a cube is cut off."""
    size = [axis // step * step for axis in volume.shape]
    cut = volume[:size[0], :size[1], :size[2]]
    shape = (size[0] // step, step, size[1] // step, step, size[2] // step, step)
    return cut.reshape(shape).mean(axis=(1, 3, 5))


def defaultLevel(volume):
    """Level that shows a particle: above the noise of the box, below its dense parts."""
    values = binned(volume, max(1, -(-volume.shape[0] // LARGEST_BOX)))
    return float(min(values.mean() + 3 * values.std(), 0.5 * (values.mean() + values.max())))


def drawSurface(axes, mesh, rotation, colour='#6baed6'):
    corners, normals = mesh
    facing = normals.dot(rotation.T)
    front = facing[:, 2] > 0
    points, facing = corners[front].dot(rotation.T), facing[front]
    order = np.argsort(points[:, :, 2].mean(axis=1))
    points, facing = points[order], facing[order]
    light = np.clip(facing.dot(LIGHT / np.linalg.norm(LIGHT)), 0, 1)[:, None]
    depth = points[:, :, 2].mean(axis=1, keepdims=True)
    shade = (0.35 + 0.65 * light) * np.array(to_rgb(colour)) + 0.25 * light ** 12
    shade = _pale(shade, depth, 0.35)
    axes.add_collection(PolyCollection(points[:, :, :2], facecolors=np.clip(shade, 0, 1), edgecolors='face', linewidths=0.3, antialiaseds=False))


def drawTrace(axes, coordinates, linked, rotation, colours=None, width=2.5):
    """Backbone as a tube-like line from blue (start) to red (end); unlinked atoms as dots."""
    from matplotlib import colormaps
    points = np.asarray(coordinates).dot(rotation.T)
    ramp = colormaps['turbo'](np.linspace(0.05, 0.95, len(points)))[:, :3] if colours is None else np.tile(to_rgb(colours), (len(points), 1))
    if not linked.any():
        order = np.argsort(points[:, 2])
        axes.scatter(points[order, 0], points[order, 1], s=45, c=_pale(ramp, points[:, 2:], 0.6)[order], linewidths=0.5, edgecolors='0.3')
        return
    first = np.flatnonzero(linked)
    segments = np.stack([points[first], points[first + 1]], axis=1)
    depth = segments[:, :, 2].mean(axis=1, keepdims=True)
    order = np.argsort(depth[:, 0])
    shade = _pale(ramp[first], depth, 0.65)[order]
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
        facecolors=_pale(np.asarray(colours), points[:, 2:], 0.55)[order], edgecolors=rims, linewidths=np.where(marked, 3.0, 0.5)[order]))


def drawArrows(axes, start, vectors, rotation, colour='0.15'):
    """Displacement arrows at ``start`` (n, 3)."""
    begin, move = start.dot(rotation.T), vectors.dot(rotation.T)
    axes.quiver(begin[:, 0], begin[:, 1], move[:, 0], move[:, 1], angles='xy', scale_units='xy', scale=1, color=colour, width=0.004, headwidth=4, headlength=5,
                zorder=3)


def viewOf(points, margin=1.1):
    """Centre and radius in Å of the view that has room for every turn of ``points`` (n, 3)."""
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    reach = float(np.linalg.norm(points - centre, axis=1).max()) * margin or 1.0
    return centre, reach


def finishAxes(axes, centre, reach, rotation):
    middle = rotation.dot(centre)
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
    axes.set_aspect('equal')
    axes.set_axis_off()
    bar = 10 ** np.floor(np.log10(reach))
    bar = max(length for length in (bar, 2 * bar, 5 * bar) if length <= 0.8 * reach or length == bar)
    x, y = middle[0] - 0.95 * reach, middle[1] - 0.95 * reach
    axes.plot([x, x + bar], [y, y], color='black', linewidth=2)
    axes.text(x + bar / 2, y + 0.02 * reach, '%g Å' % bar, ha='center', va='bottom', fontsize=9)


def _pale(colours, depth, most):
    """Far colours mixed with white."""
    spread = np.ptp(depth) or 1.0
    far = (depth.max() - depth) / spread * most
    return colours * (1 - far) + far
