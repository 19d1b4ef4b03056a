"""Particles of Xmipp: metadata files (``.xmd``), which are STAR files with labels of their own, as the columns of RELION."""

from __future__ import annotations

import numpy as np

from ..exceptions import InputError
from .column_numbers import finite_numbers
from .file_lookup import find_file
from .mrc_header import read_header
from .star_text import Block, read_star

__all__ = ["xmd_blocks"]

# Xmipp and RELION have the same angles, shifts (pixels, those that bring the image to its centre) and CTF parameters
_LABELS = {
    "image": "rlnImageName", "itemId": "rlnImageId", "angleRot": "rlnAngleRot", "angleTilt": "rlnAngleTilt", "anglePsi": "rlnAnglePsi", "shiftX": "rlnOriginX",
    "shiftY": "rlnOriginY", "ctfDefocusU": "rlnDefocusU", "ctfDefocusV": "rlnDefocusV", "ctfDefocusAngle": "rlnDefocusAngle",
    "ctfVoltage": "rlnVoltage", "ctfSphericalAberration": "rlnSphericalAberration", "ctfQ0": "rlnAmplitudeContrast", "micrograph": "rlnMicrographName",
}
_PHASE_SHIFTS = ("ctfPhaseShift", "ctfVPPphaseshift")
_SAMPLING = ("samplingRate", "ctfSamplingRate")
_UNSET_VOXEL = (0.0, 1.0)  # what programs write that do not know the voxel size


def xmd_blocks(path: str, datadir: str = "") -> dict[str, Block]:
    """Particles of an Xmipp metadata file as a table of RELION 3.0 (without optics).

    The pixel size is that of ``samplingRate`` or ``ctfSamplingRate``, else of the first stack's header. Particles with ``enabled`` -1 are left out.

    Raises
    ------
    InputError
        when there are no images or no pixel size, or an image is mirrored or has a phase shift.
    """
    found = next((block for block in read_star(path).values() if "image" in block), None)
    if found is None:
        raise InputError(f"The Xmipp metadata file '{path}' has no block with a column image.")
    keep = np.asarray(found["enabled"]) != -1 if "enabled" in found else np.ones(len(found["image"]), bool)
    columns: Block = {_LABELS.get(label, label): values[keep] for label, values in found.items()}
    if not len(columns["rlnImageName"]):
        raise InputError(f"The Xmipp metadata file '{path}' has no particles that are enabled.")
    if "flip" in columns and (np.asarray(columns["flip"]) == 1).any():
        raise InputError(f"The Xmipp metadata file '{path}' has mirrored images (flip 1): write the images mirrored (xmipp_transform_geometry), with flip 0.")
    shifted = next((label for label in _PHASE_SHIFTS if label in columns and np.asarray(columns[label]).any()), None)
    if shifted is not None:
        raise InputError(f"The Xmipp metadata file '{path}' has phase shifts ({shifted}), whose unit differs between versions: export the particles as STAR.")
    names = [str(name) if "@" in str(name) else f"000001@{name}" for name in columns["rlnImageName"]]
    columns["rlnImageName"] = np.array(names, dtype=object)
    number = np.arange(1, len(names) + 1)
    pixel = next((finite_numbers(path, columns[label], label, number) for label in _SAMPLING if label in columns), None)
    if pixel is None:
        voxel = read_header(find_file(path, names[0].partition("@")[2], datadir)).voxel_angst[0]
        if any(abs(voxel - unset) < 1e-6 for unset in _UNSET_VOXEL):
            raise InputError(f"The Xmipp metadata file '{path}' has no pixel size, and its images have none in their header: add a column samplingRate in Å.")
        pixel = np.full(len(names), round(voxel, 6))
    columns["rlnImagePixelSize"] = pixel
    return {"particles": columns}
