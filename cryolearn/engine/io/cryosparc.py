"""Particles of cryoSPARC: ``.cs`` files (NumPy arrays with named columns, never unpickled) as the columns of a STAR file, and back.

A pose ``alignments3D/pose`` is the rotation vector of the transposed matrix ``A`` of :mod:`..imaging.poses`, so that the matrix of the vector has the intrinsic
ZYZ angles rot, tilt, psi; ``alignments3D/shift`` are RELION's origins in pixels (as pyem's csparc2star takes both).
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ...common.packed_files import load_npy
from ..exceptions import InputError
from ..launch import say_once
from .atomic import open_whole
from .file_lookup import written_name
from .star_text import Block

if TYPE_CHECKING:
    from .star import ParticleTable

__all__ = ["CS_COLUMN", "SIGN_LABEL", "cs_blocks", "unused_columns", "write_cs"]

CS_COLUMN = "cryosparc"  # the file's own rows, which travel with the particles and are written back
SIGN_LABEL = "cryolearnImageSign"  # -1 where the image is dark on light; RELION has no label for it
_POSE, _SHIFT, _SPLIT = "alignments3D/pose", "alignments3D/shift", "alignments3D/split"
_CTF = {
    "rlnDefocusU": "ctf/df1_A", "rlnDefocusV": "ctf/df2_A", "rlnDefocusAngle": "ctf/df_angle_rad", "rlnPhaseShift": "ctf/phase_shift_rad",
    "rlnVoltage": "ctf/accel_kv", "rlnSphericalAberration": "ctf/cs_mm", "rlnAmplitudeContrast": "ctf/amp_contrast",
}
_RADIANS = ("rlnDefocusAngle", "rlnPhaseShift")
# Neither signs and axes of the aberrations nor the direction of the magnification are documented: pyem, which takes tilt and magnification, calls it untested,
# and a coma of the wrong sign does more harm than none.
_UNUSED = {"ctf/shift_A": 0.0, "ctf/tilt_A": 0.0, "ctf/trefoil_A": 0.0, "ctf/tetra_A": 0.0, "ctf/anisomag": 0.0, "ctf/bfactor": 0.0, "ctf/scale": 1.0}
_PATH = "blob/path"
_SHAPES: dict[str, tuple[int, ...]] = {  # of what is read, of each particle
    **dict.fromkeys(("uid", _PATH, "blob/idx", "blob/psize_A", "blob/sign", "ctf/exp_group_id", "ctf/bfactor", "ctf/scale", _SPLIT), ()),
    **dict.fromkeys(("alignments3D/psize_A", *_CTF.values()), ()), **dict.fromkeys(("blob/shape", _SHIFT, "ctf/shift_A", "ctf/tilt_A", "ctf/trefoil_A"), (2,)),
    _POSE: (3,), "ctf/tetra_A": (4,), "ctf/anisomag": (4,),
}
_POSITIVE = np.uint64((1 << 63) - 1)


def cs_blocks(path: str) -> dict[str, Block]:
    """Optics and particles of a ``.cs`` file as RELION's columns; its rows are in the column :data:`CS_COLUMN` of the particles.

    Columns that the file lacks are taken from the passthrough files of the same job beside it, joined by ``uid``.

    Raises
    ------
    InputError
        when the file is absent, would have to be unpickled, or lacks a column that everything needs.
    """
    rows, unfit = _with_passthrough(path, _load(path))
    _refuse_repeated(path, rows)
    needed = ["blob/path", "blob/idx", "blob/psize_A", "blob/shape"]
    for name in needed + ([*_CTF.values()][4:] if "ctf/df1_A" in _names(rows) else []):
        if name not in _names(rows):
            absent = f"The file '{path}' has no column {name}, and no passthrough file of its job (*_passthrough_*.cs) beside it has: copy it there."
            raise InputError(unfit or absent)
    _point_to_alignments(path, rows)
    shape = rows["blob/shape"]
    if (shape != shape[0, 0]).any():
        raise InputError(f"The file '{path}' has images of {shape[0, 1]} x {shape[0, 0]} px and others: all must be square and of one size.")
    values: dict[str, NDArray[Any]] = {"rlnImagePixelSize": np.round(rows["blob/psize_A"].astype(np.float64), 6)}
    ctf = {label: rows[name].astype(np.float64) for label, name in _CTF.items() if name in _names(rows)}
    for label in _RADIANS:
        if label in ctf:
            ctf[label] = np.rad2deg(ctf[label])
    values.update((label, np.round(ctf.pop(label), 6)) for label in list(_CTF)[4:] if label in ctf)
    group = rows["ctf/exp_group_id"] if "ctf/exp_group_id" in _names(rows) else np.zeros(len(rows))
    distinct, at = np.unique(np.stack([group.astype(np.float64), *values.values()]), axis=1, return_inverse=True)
    number = np.arange(1, distinct.shape[1] + 1)
    optics: Block = {"rlnOpticsGroupName": np.array([f"opticsGroup{one}" for one in number], dtype=object), "rlnOpticsGroup": number}
    optics.update(zip(values, distinct[1:]))
    optics["rlnImageSize"] = np.full(len(number), int(shape[0, 0]))
    files = [name.decode(errors="replace").lstrip(">") for name in rows["blob/path"].tolist()]
    columns: Block = {
        "rlnImageName": np.array([f"{index + 1:06d}@{name}" for index, name in zip(rows["blob/idx"].tolist(), files)], dtype=object),
        "rlnImageId": (rows["uid"] & _POSITIVE).astype(np.int64), "rlnOpticsGroup": number[at.ravel()], **ctf, **_alignment(rows), CS_COLUMN: rows,
    }
    if "blob/sign" in _names(rows) and (rows["blob/sign"] < 0).any():
        columns[SIGN_LABEL] = np.where(rows["blob/sign"] < 0, -1, 1)
    if SIGN_LABEL in columns:
        say_once(f"'{path}' says that its images are dark on light (blob/sign -1): their contrast is inverted as they are read.")
    return {"optics": optics, "particles": columns}


def write_cs(path: str, table: ParticleTable) -> None:
    """Write particles as a ``.cs`` file that names the original images.

    Columns of the ``.cs`` file that the particles came from are written back as they were, but for poses and half sets that are new.
    """
    if table.cryosparc is None:
        records = _records({**_image_columns(path, table), **_alignment_columns(table)})
    elif _has_changed(table, table.cryosparc):
        records = _records({**_columns(table.cryosparc), **_alignment_columns(table)})
    else:
        records = table.cryosparc
    with open_whole(path, "wb") as handle:
        np.save(handle, records, allow_pickle=False)


def _load(path: str) -> NDArray[Any]:
    if path.endswith(".csg"):
        raise InputError(f"'{path}' only says which files a job wrote: give the .cs file beside it.")
    try:
        rows = load_npy(path)
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as a .cs file of cryoSPARC (a NumPy array without pickles): {error}.") from error
    if rows.ndim != 1 or "uid" not in (rows.dtype.names or ()):
        raise InputError(f"'{path}' is not a .cs file of cryoSPARC: it has no rows with a column uid.")
    if not len(rows):
        raise InputError(f"The file '{path}' has no particles.")
    for name, shape in _SHAPES.items():
        kinds = {_PATH: "S", "uid": "iu", "blob/idx": "iu"}.get(name, "iuf")
        if name in _names(rows) and (rows[name].shape[1:] != shape or rows[name].dtype.kind not in kinds):
            each = "text" if name == _PATH else f"{shape[0]} numbers" if shape else "a whole number" if kinds == "iu" else "a number"
            raise InputError(f"The column {name} of the file '{path}' does not hold {each} for each particle.")
    return rows


def _names(rows: NDArray[Any]) -> tuple[str, ...]:
    return rows.dtype.names or ()


def _refuse_repeated(path: str, rows: NDArray[Any]) -> None:
    """Refuse a particle that comes twice."""
    uid, count = np.unique(rows["uid"], return_counts=True)
    if (count > 1).any():
        raise InputError(
            f"The file '{path}' has the uid {uid[count > 1][0]} more than once ({int((count - 1).sum())} rows of {len(rows)} are copies): remove them, as "
            "after symmetry expansion by giving each copy a uid of its own."
        )


def _point_to_alignments(path: str, rows: NDArray[Any]) -> None:
    """Say which alignments a file has that are no poses of a refinement."""
    others = sorted({name.split("/")[0] for name in _names(rows) if name.startswith("alignments") and name.split("/")[0] != "alignments3D"})
    if _POSE not in _names(rows) and others:
        say_once(f"WARNING: '{path}' has no {_POSE}, but {', '.join(others)}, which are not used: give the particles of a refinement for their poses.")


def _with_passthrough(path: str, rows: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Rows with the columns that passthrough files of the same job, whose names begin alike, add; and what is wrong with one that does not fit."""
    unfit = ""
    folder, own = os.path.split(path)
    for name in sorted(os.listdir(folder or ".")):
        job, is_passthrough, _ = name.partition("passthrough")
        if not is_passthrough or not name.endswith(".cs") or name == own or job.rstrip("_") not in own:
            continue
        more = _load(os.path.join(folder, name))
        order = np.argsort(more["uid"])
        at = order[np.minimum(np.searchsorted(more["uid"][order], rows["uid"]), len(more) - 1)]
        absent = int((more["uid"][at] != rows["uid"]).sum())
        if not absent:
            rows = _records({**{column: more[column][at] for column in _names(more)}, **_columns(rows)})
            continue
        beside = os.path.join(folder, name)
        unfit = f"The passthrough file '{beside}' lacks {absent} of the {len(rows)} particles of '{path}' (by uid): give that of the same job."
    return rows, unfit


def _columns(rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {name: rows[name] for name in _names(rows)}


def _records(columns: dict[str, NDArray[Any]]) -> NDArray[Any]:
    first = next(iter(columns.values()))
    records = np.empty(len(first), [(name, values.dtype, values.shape[1:]) for name, values in columns.items()])
    for name, values in columns.items():
        records[name] = values
    return records


def _alignment(rows: NDArray[Any]) -> Block:
    """Poses, origins and half sets as RELION's columns."""
    columns: Block = {}
    if _POSE in _names(rows):
        with warnings.catch_warnings():  # at the poles rot is 0, and psi says all
            warnings.filterwarnings("ignore", "Gimbal lock", UserWarning)
            angles = Rotation.from_rotvec(rows[_POSE].astype(np.float64)).as_euler("ZYZ", degrees=True)
        columns.update(zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), angles.T))
    if _SHIFT in _names(rows):
        pixel = rows["alignments3D/psize_A" if "alignments3D/psize_A" in _names(rows) else "blob/psize_A"].astype(np.float64)
        columns.update(zip(("rlnOriginXAngst", "rlnOriginYAngst"), rows[_SHIFT].astype(np.float64).T * pixel))
    if _SPLIT in _names(rows):
        columns["rlnRandomSubset"] = rows[_SPLIT].astype(np.int64) + 1
    return columns


def _has_changed(table: ParticleTable, rows: NDArray[Any]) -> bool:
    """Whether poses or half sets differ from those of the rows that the particles came from."""
    came, now = _alignment(rows), Block()
    if table.angles_deg is not None:
        now.update(zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), np.asarray(table.angles_deg).T))
    if table.origin_angst is not None:
        now.update(zip(("rlnOriginXAngst", "rlnOriginYAngst"), np.asarray(table.origin_angst).T))
    if table.random_subset is not None:
        now["rlnRandomSubset"] = table.random_subset
    return any(label not in came or not np.array_equal(came[label], values) for label, values in now.items())


def _alignment_columns(table: ParticleTable) -> dict[str, NDArray[Any]]:
    count, pixel = len(table), table.pixel_size_angst
    columns: dict[str, NDArray[Any]] = {}
    if table.angles_deg is not None:
        columns[_POSE] = Rotation.from_euler("ZYZ", np.asarray(table.angles_deg), degrees=True).as_rotvec().astype(np.float32)
        origin = np.zeros((count, 2)) if table.origin_angst is None else np.asarray(table.origin_angst)
        columns[_SHIFT] = (origin / pixel).astype(np.float32)
        columns["alignments3D/psize_A"] = np.full(count, pixel, np.float32)
    if table.random_subset is not None:
        columns[_SPLIT] = np.maximum(np.asarray(table.random_subset) - 1, 0).astype(np.uint32)
    return columns


def _image_columns(path: str, table: ParticleTable) -> dict[str, NDArray[Any]]:
    """Columns of particles that did not come from cryoSPARC."""
    count = len(table)
    names = np.array([written_name(path, name).encode() for name in table.image_file])
    columns: dict[str, NDArray[Any]] = {
        "uid": np.asarray(table.ids).astype(np.uint64), "blob/path": names[table.file_index], "blob/idx": np.asarray(table.image_index).astype(np.uint32),
        "blob/shape": np.full((count, 2), table.box, np.uint32), "blob/psize_A": np.full(count, table.pixel_size_angst, np.float32),
        "blob/sign": (np.ones(count) if table.image_sign is None else table.image_sign).astype(np.float32),
    }
    if table.ctf is not None:
        ctf = table.ctf
        given = (ctf.defocus_u, ctf.defocus_v, np.deg2rad(ctf.defocus_angle), np.deg2rad(ctf.phase_shift), ctf.voltage_kv, ctf.cs_mm, ctf.amplitude_contrast)
        columns["ctf/type"] = np.full(count, b"imported")
        columns["ctf/exp_group_id"] = np.asarray(table.optics_group).astype(np.uint32)
        columns.update((name, np.asarray(values, np.float32)) for name, values in zip(_CTF.values(), given))
        columns["ctf/scale"], columns["ctf/bfactor"] = np.ones(count, np.float32), np.zeros(count, np.float32)
    return columns


def unused_columns(rows: NDArray[Any]) -> list[str]:
    """Columns that change the CTF (aberrations, magnification, B factor, scale) and hold more than their neutral values."""
    return [name for name, neutral in _UNUSED.items() if name in _names(rows) and (np.abs(rows[name] - neutral) > 0).any()]
