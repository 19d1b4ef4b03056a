"""Tilt-series particles written as RELION 5 has them: one row a particle, and an optimisation set that names the tomograms."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from .file_lookup import written_name
from .star_columns import number_columns
from .star_text import Block, write_star
from .tilt_geometry import euler_angles, euler_matrices
from .tilt_stacks import ANGLES, FRAME, OPTIMISATION_SET, ORIGIN, Tilts, particle_poses

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
        (n, 3) and (n, 2) of the images.
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
    if angles_deg is not None:
        pose, shift = particle_poses(tilts, member, euler_matrices(angles_deg), np.zeros((len(member), 2)) if origin_angst is None else -origin_angst)
        frame = number_columns(path, columns, FRAME, ids)
        if frame is not None:  # both are counted from it
            back = euler_matrices(frame).transpose(0, 2, 1)
            pose, shift = back @ pose, np.einsum("nij,nj->ni", back, shift)
        columns.update(zip(ANGLES, np.round(euler_angles(pose).T, decimals)))
        columns.update(zip(ORIGIN, 0.0 - np.round(shift.T, decimals)))
    columns.update((label, values[first]) for label, values in extra.items())
    general: Block = {**source.general, "rlnTomoSubTomosAre2DStacks": np.array([1])}
    write_star(path, {"general": general, "optics": source.optics, "particles": columns})
    named = np.array([os.path.basename(path)], dtype=object), np.array([written_name(path, source.tomograms_file)], dtype=object)
    write_star(os.path.splitext(path)[0] + "_optimisation_set.star", {"": dict(zip(OPTIMISATION_SET, named))})
