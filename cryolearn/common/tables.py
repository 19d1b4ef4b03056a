"""Result tables: named columns joined by particle id, in one npz file that holds no pickles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Tuple, Union

import numpy as np

from .atomic import open_whole, plain_value
from .exceptions import InputError
from .packed_files import load_npz
from .strict_json import json_text, parse_json

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Columns", "join", "read_table", "write_table"]

Columns = Dict[str, "NDArray[Any]"]
_META = "meta"


def write_table(path: str, columns: Mapping[str, ArrayLike], meta: Optional[Mapping[str, Any]] = None) -> None:
    """Write a result table; a reader sees the old file or the whole new one, never a part.

    Parameters
    ----------
    path : str
        File to write (npz).
    columns : mapping of str to array
        Arrays that share their first dimension, one row an item. ``id`` (whole numbers, all different) is required.
    meta : mapping, optional
        What holds for the whole table (pixel size, mode numbers, digest); anything JSON can hold.

    Raises
    ------
    InputError
        when ``id`` is missing or repeats, a column has another number of rows, or holds Python objects.
    """
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    _check(path, arrays)
    arrays["id"] = arrays["id"].astype(np.int64)
    arrays[_META] = np.array(json_text(dict(meta or {}), plain_value, sort_keys=True))
    with open_whole(path, "wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]


def read_table(path: str) -> Tuple[Columns, Dict[str, Any]]:
    """Read a result table.

    Returns
    -------
    columns : dict of str to array
        One row an item; ``id`` is int64.
    meta : dict
        What was written with the table.

    Raises
    ------
    InputError
        when the file is absent, damaged, or no result table.
    """
    try:
        arrays = load_npz(path)
    except FileNotFoundError:
        raise InputError(f"The table '{path}' does not exist.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"The table '{path}' cannot be read as an npz file without pickles: {error}.") from error
    text = arrays.pop(_META, None)
    _check(path, arrays)
    arrays["id"] = arrays["id"].astype(np.int64)
    try:
        meta = parse_json(str(text)) if text is not None else {}
    except ValueError:
        raise InputError(f"The table '{path}' has a 'meta' entry that is not JSON.") from None
    if not isinstance(meta, dict):
        raise InputError(f"The table '{path}' has a 'meta' entry that is not a JSON object.")
    return arrays, meta


def join(left: Union[Mapping[str, ArrayLike], ArrayLike], right: Union[Mapping[str, ArrayLike], ArrayLike],
         on: str = "id", table: str = "the other table") -> NDArray[np.int64]:
    """Rows of ``right`` that belong to the rows of ``left``: ``right[on][rows] == left[on]``.

    Parameters
    ----------
    left, right : columns or array
        Two tables' columns, or the two key arrays themselves.
    on : str
        Column that names the items.
    table : str
        Name of the table on the right, for messages.

    Raises
    ------
    InputError
        when an item of ``left`` is not in ``right``, or is there twice.
    """
    wanted = np.asarray(left[on] if isinstance(left, Mapping) else left)
    offered = np.asarray(right[on] if isinstance(right, Mapping) else right)
    order = np.argsort(offered, kind="stable")
    ranked = offered[order]
    twice = np.flatnonzero(ranked[1:] == ranked[:-1])
    if len(twice):
        raise InputError(f"Item {on} {ranked[twice[0]]} is in the table more than once.")
    place = np.searchsorted(ranked, wanted)
    found = place < len(ranked)
    found[found] = ranked[place[found]] == wanted[found]
    if not found.all():
        raise InputError(f"Item {on} {wanted[~found][0]} is missing in {table} ({int((~found).sum())} missing in all).")
    return order[place].astype(np.int64)


def _check(path: str, arrays: Columns) -> None:
    if "id" not in arrays:
        raise InputError(f"The table '{path}' has no column 'id'.")
    if _META in arrays:
        raise InputError(f"The table '{path}' cannot have a column named '{_META}'.")
    ids = arrays["id"]
    if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
        raise InputError(f"The column 'id' of the table '{path}' is not a list of whole numbers.")
    for name, values in arrays.items():
        if values.dtype.hasobject:
            raise InputError(f"The column '{name}' of the table '{path}' holds Python objects.")
        if values.shape[:1] != (len(ids),):
            rows = values.shape[0] if values.ndim else "no"
            raise InputError(f"The column '{name}' of the table '{path}' has {rows} rows where 'id' has {len(ids)}.")
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        raise InputError(f"The id {unique[counts > 1][0]} is in the table '{path}' more than once.")
