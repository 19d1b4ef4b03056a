"""Motions of Gaussian models: what Scipion's side needs to know of the engine's files, read with numpy alone."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from pwem.objects import NormalMode
from pyworkflow.object import Float

from ..common.atomic import open_whole
from ..common.modes import collectivity
from ..common.tables import read_table

MOTION_FILE, GAUSSIANS_FILE, EIGEN_FILE, VECTORS_FOLDER = 'motion.npz', 'gaussians.npz', 'eigen_motions.npz', 'eigen_motions'


def describeMotion(path: str) -> dict[str, Any]:
    """What a motion model says of itself.

    Returns
    -------
    dict
        ``basis``, ``latents`` (coordinates of a particle or of one of its subunits), ``fields`` (of displacements), ``gaussians``, and the
        model's own notes (``latent_names`` ...).

    Raises
    ------
    ValueError
        when the file is gone or is no motion model.
    """
    if not path or not os.path.exists(path):
        raise ValueError("The motion model '%s' is not there any more: run the Gaussian heterogeneity again." % path)
    try:
        with np.load(path, allow_pickle=False) as data:
            description = json.loads(str(data['description']))
            fields, gaussians = data['displacement'].shape[0], len(data['weights'])
            latents = {'linear': fields, 'network': data['layer0_weight'].shape[1] if 'layer0_weight' in data.files else 1}
    except (KeyError, ValueError) as error:
        raise ValueError("'%s' is not a motion model: %s." % (path, error)) from error
    return dict(description.get('meta') or {}, basis=description['basis'], latents=int(latents.get(description['basis'], 1)), fields=int(fields),
                gaussians=gaussians)


def fillMotions(motions: Any, folder: str) -> list[str]:
    """Fill a new SetOfPrincipalComponents with the eigen-motions of the engine's folder.

    Each vector is a text file with one line a Gaussian. A motion that explains no more than shuffled residuals do is there, but
    disabled.
    """
    columns, _ = read_table(os.path.join(folder, EIGEN_FILE))
    os.makedirs(os.path.join(folder, VECTORS_FOLDER), exist_ok=True)
    for row, number in enumerate(columns['id'].tolist()):
        vector = columns['vector'][row].reshape(len(columns['vector'][row]), -1)
        path = os.path.join(folder, VECTORS_FOLDER, 'vec.%d' % number)
        with open_whole(path) as handle:
            np.savetxt(handle, vector, fmt='%.8e')
        motion = NormalMode(modeFile=path, collectivity=float(collectivity(vector)), score=float(columns['explained'][row]))
        motion._explained = Float(float(columns['explained'][row]))
        motion._explainedNull = Float(float(columns['null'][row]))
        motion._stdAngst = Float(float(columns['std_angst'][row]))
        motion.setObjId(number)
        motion.setEnabled(bool(columns['significant'][row]))
        motions.append(motion)
    return [os.path.join(folder, VECTORS_FOLDER, 'vec.%d' % number) for number in columns['id'].tolist()]


def motionsFolder(motions: Any) -> str | None:
    """The engine's folder behind a set of eigen-motions (or a subset of it); None for sets of other programs."""
    first = motions.getFirstItem()
    folder = os.path.dirname(os.path.dirname(first.getModeFile() or '')) if first is not None else ''
    return folder if folder and os.path.exists(os.path.join(folder, MOTION_FILE)) else None


def gaussiansFile(structure: Any) -> Any:
    """The engine's table beside pseudo-atoms that this plugin made; None for others."""
    path = os.path.join(os.path.dirname(structure.getFileName() or ''), GAUSSIANS_FILE)
    return path if os.path.exists(path) else None
