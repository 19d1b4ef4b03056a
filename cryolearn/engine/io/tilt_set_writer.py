"""Tilt-series particles written as RELION 5 has them: one row a particle, and an optimisation set that names the tomograms."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from .file_lookup import written_name
from .star_columns import number_columns
from .star_text import Block, write_star
from .tilt_geometry import euler_angles, euler_matrices
from .tilt_stacks import ANGLES, FRAME, OPTIMISATION_SET, ORIGIN, Tilts

__all__ = ["write_tilt_set"]


def write_tilt_set(
    path: str, tilts: Tilts, angles_deg: NDArray[np.float64] | None, origin_angst: NDArray[np.float64] | None, extra: Block, decimals: int,
) -> None:
    """Write the particles that the images show, with their present poses, and ``NAME_optimisation_set.star`` beside them.

    Parameters
    ----------
    path
        STAR file.
    tilts
        Those of the images.
    angles_deg, origin_angst
        (n, 3) and (n, 2) of the images; a particle's pose is that of its first image, its origin the one that its images' origins fit best.
    extra
        (n,) further columns of the images, of which a particle takes its first image's.
    decimals
        Of poses.
    """
    source = tilts.source
    ids, first, member = np.unique(tilts.particle_ids, return_index=True, return_inverse=True)
    order = np.argsort(source.ids)
    row = order[np.searchsorted(source.ids[order], ids)]
    columns = {label: column[row] for label, column in source.columns.items()}
    columns["rlnImageName"] = np.array([written_name(path, source.image_file[one]) for one in row], dtype=object)
    columns["rlnImageId"] = ids
    turned_by = number_columns(path, columns, FRAME, ids)
    frame = np.broadcast_to(np.eye(3), (len(ids), 3, 3)) if turned_by is None else euler_matrices(turned_by)
    turned = tilts.matrix @ frame[member]
    if angles_deg is not None:
        pose = euler_matrices(angles_deg[first])
        columns.update(zip(ANGLES, np.round(euler_angles(turned[first].transpose(0, 2, 1) @ pose).T, decimals)))
    if origin_angst is not None:
        seen = turned[:, :2]
        normal, right = np.zeros((len(ids), 3, 3)), np.zeros((len(ids), 3))
        np.add.at(normal, member, seen.transpose(0, 2, 1) @ seen)
        np.add.at(right, member, np.einsum("nij,ni->nj", seen, origin_angst))
        columns.update(zip(ORIGIN, np.round((np.linalg.pinv(normal, hermitian=True, rcond=1e-6) @ right[..., None])[..., 0].T, decimals)))
    columns.update((label, values[first]) for label, values in extra.items())
    general: Block = {**source.general, "rlnTomoSubTomosAre2DStacks": np.array([1])}
    write_star(path, {"general": general, "optics": source.optics, "particles": columns})
    named = np.array([os.path.basename(path)], dtype=object), np.array([written_name(path, source.tomograms_file)], dtype=object)
    write_star(os.path.splitext(path)[0] + "_optimisation_set.star", {"": dict(zip(OPTIMISATION_SET, named))})
