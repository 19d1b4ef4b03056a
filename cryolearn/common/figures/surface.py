"""Surfaces of maps on plain two-dimensional axes: turned by a rotation, sorted by depth and painted from back to front, far parts paler.

Positive z points to the viewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, List, Optional, Tuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["SIDE_VIEW", "binned", "default_level", "draw_surface", "finish_axes", "pale", "surface_mesh", "turn", "view_of"]

_LIGHT = np.array([-0.35, 0.45, 0.82])
_LARGEST_BOX = 80  # maps are binned to this for drawing
_FINER = 2  # small ones are interpolated
_MARGIN = 4  # voxels about what is above the level


def turn(rotation: NDArray[np.float64], dx: float, dy: float) -> NDArray[np.float64]:
    """Rotation (3, 3) after dragging the mouse by ``dx``, ``dy`` degrees."""
    a, b = np.radians(dx), np.radians(-dy)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return np.asarray(about_x.dot(about_y).dot(rotation))


SIDE_VIEW = turn(np.eye(3), 30, 20)


def surface_mesh(
    volume: ArrayLike, pixel_size_angst: float, level: float, marching_cubes: Callable[..., Any], zoom: Callable[..., Any],
    origin: Optional[ArrayLike] = None,
) -> Optional[Tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Triangles of an isosurface.

    Parameters
    ----------
    volume
        (z, y, x).
    level
        Density of the surface.
    marching_cubes, zoom
        Those of scikit-image (``skimage.measure``) and SciPy (``scipy.ndimage``), which this package does without.
    origin
        Position in Å of the first voxel (x, y, z); without it the box's centre is at 0.

    Returns
    -------
    (corners (t, 3, 3) in Å, outward normals (t, 3)), or None when the level is outside the map's range.
    """
    density = np.asarray(volume)
    size = density.shape[0]
    step = max(1, -(-size // _LARGEST_BOX))
    if step > 1:
        density = binned(density, step)
    if not density.min() < level < density.max():
        return None
    density, corner = _cut(density, level)
    finer = _FINER if max(density.shape) <= _LARGEST_BOX // _FINER else 1
    if finer > 1:
        density = zoom(density, finer, order=3, grid_mode=True, mode="nearest")
    vertices, faces, normals, _ = marching_cubes(density, level)
    # voxel centres: those of the finer grid, then of the bins, then of the map
    vertices = (vertices + 0.5) / finer - 0.5 + corner
    start = np.full(3, -(size // 2) * pixel_size_angst) if origin is None else np.asarray(origin, float)
    corners = ((vertices[:, ::-1] + 0.5) * step - 0.5)[faces] * pixel_size_angst + start
    smooth = normals[faces].mean(axis=1)[:, ::-1]  # of the density's gradient, so that the voxels do not show as facets
    return corners, smooth / np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-12)


def _cut(volume: NDArray[Any], level: float) -> Tuple[NDArray[Any], NDArray[np.int64]]:
    """The part of a map that holds what is above the level, and the index of its first voxel."""
    slices: List[slice] = []
    for axis in range(3):
        above = np.flatnonzero((volume > level).any(axis=tuple(other for other in range(3) if other != axis)))
        slices.append(slice(max(int(above[0]) - _MARGIN, 0), int(above[-1]) + _MARGIN + 1))
    return volume[tuple(slices)], np.array([part.start for part in slices])


def binned(volume: ArrayLike, step: int) -> NDArray[Any]:
    """Mean over cubes of ``step`` voxels; what does not fill a cube is cut off."""
    density = np.asarray(volume)
    z, y, x = (side // step for side in density.shape)
    cut = density[: z * step, : y * step, : x * step]
    return np.asarray(cut.reshape(z, step, y, step, x, step).mean(axis=(1, 3, 5)))


def default_level(volume: ArrayLike) -> float:
    """Level that shows a particle: above the noise of the box, below its dense parts."""
    values = binned(volume, max(1, -(-np.shape(volume)[0] // _LARGEST_BOX)))
    return float(min(values.mean() + 3 * values.std(), 0.5 * (values.mean() + values.max())))


def draw_surface(axes: Any, mesh: Tuple[NDArray[np.float64], NDArray[np.float64]], rotation: NDArray[np.float64], colour: str = "#6baed6") -> None:
    """Paint a mesh of :func:`surface_mesh`, seen after a rotation (3, 3)."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb

    corners, normals = mesh
    facing = normals.dot(rotation.T)
    front = facing[:, 2] > 0
    points, facing = corners[front].dot(rotation.T), facing[front]
    order = np.argsort(points[:, :, 2].mean(axis=1))
    points, facing = points[order], facing[order]
    light = np.clip(facing.dot(_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)[:, None]
    shade = (0.35 + 0.65 * light) * np.array(to_rgb(colour)) + 0.25 * light**12
    shade = pale(shade, points[:, :, 2].mean(axis=1, keepdims=True), 0.35)
    axes.add_collection(PolyCollection(points[:, :, :2], facecolors=np.clip(shade, 0, 1), edgecolors="face", linewidths=0.3, antialiaseds=False,
                                       rasterized=True))


def pale(colours: NDArray[np.float64], depth: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """Colours (n, 3) mixed with white, up to ``most`` of it, the farther they lie (depth (n, 1))."""
    far = (depth.max() - depth) / (float(depth.max() - depth.min()) or 1.0) * most
    return np.asarray(colours * (1 - far) + far)


def view_of(points: NDArray[np.float64], margin: float = 1.1) -> Tuple[NDArray[np.float64], float]:
    """Centre and radius in Å of the view that has room for every turn of ``points`` (n, 3)."""
    centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
    reach = float(np.linalg.norm(points - centre, axis=1).max()) * margin or 1.0
    return centre, reach


def finish_axes(axes: Any, centre: NDArray[np.float64], reach: float, rotation: NDArray[np.float64]) -> None:
    """Equal scales about a view, no axes, and a bar of a round length."""
    middle = rotation.dot(centre)
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
    axes.set_aspect("equal")
    axes.set_axis_off()
    bar = 10 ** np.floor(np.log10(reach))
    bar = max(length for length in (bar, 2 * bar, 5 * bar) if length <= 0.8 * reach or length == bar)
    x, y = middle[0] - 0.95 * reach, middle[1] - 0.95 * reach
    axes.plot([x, x + bar], [y, y], color="black", linewidth=2)
    axes.text(x + bar / 2, y + 0.02 * reach, "%g Å" % bar, ha="center", va="bottom", fontsize=9)
