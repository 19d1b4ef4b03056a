"""JSON as its standard has it: no NaN or infinity is written or read, and what is nested or long beyond measure is refused, not followed."""

import json
import math
import os
from typing import Any, Callable, Optional

__all__ = ["json_text", "parse_json", "read_json"]

_LARGEST_BYTES = 256 << 20
_MOST_DIGITS = 300


def json_text(values: Any, default: Optional[Callable[[Any], Any]] = None, indent: Optional[int] = None, sort_keys: bool = False) -> str:
    """Plain values as JSON; a number that is NaN or infinite, which JSON has not, is null: it is not known.

    Parameters
    ----------
    values : any
        What JSON can hold, or what ``default`` makes plain.
    default : callable, optional
        Makes other values plain.
    indent, sort_keys
        As of :func:`json.dumps`.
    """
    return json.dumps(_finite(values, default), indent=indent, sort_keys=sort_keys, allow_nan=False)


def _finite(value: Any, default: Optional[Callable[[Any], Any]]) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item, default) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item, default) for item in value]
    if value is None or isinstance(value, (str, int)) or default is None:
        return value
    return _finite(default(value), default)


def parse_json(text: str) -> Any:
    """Values of a JSON text.

    Raises
    ------
    ValueError
        when it is not JSON, holds NaN, infinity or a number that no computer holds, names one entry twice, or is nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read_json(path: str) -> Any:
    """Values of a JSON file (UTF-8).

    Raises
    ------
    OSError
        when it cannot be read.
    ValueError
        as :func:`parse_json`, and when it has more than 256 MB.
    """
    with open(path, encoding="utf-8") as handle:
        size = os.fstat(handle.fileno()).st_size
        if size > _LARGEST_BYTES:
            raise ValueError("it has %d MB" % (size >> 20))
        return parse_json(handle.read(_LARGEST_BYTES))


def _refuse_constant(name: str) -> Any:
    raise ValueError("it holds %s, which is no number of JSON" % name)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("it holds %s, which is too large a number" % text[:20])
    return value


def _int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError("it holds a number of %d digits" % len(text))
    return int(text)


def _object(pairs: Any) -> Any:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError("it has '%s' twice" % next(name for name in values if names.count(name) > 1))
    return values
