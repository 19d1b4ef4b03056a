"""Parameters of the engine's commands: defaults, ranges, units and help text, each written once.

Standard library only and clean on Python 3.8, because Scipion's forms read these classes too.
A command's parameters are one dataclass whose fields are made by :func:`param`.

Digests and resume
------------------
The digest of a run is taken of everything that its result depends on: the parameters with ``affects_result=True`` and the
content of its input files (fields with ``path=True``), never the place of the output, the device, or the number of threads.
A command that can go on after a kill keeps its digest beside its records (checkpoints, finished chunks): the same digest
goes on from them, another digest starts afresh, so that a changed parameter never meets old results.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Type, TypedDict, TypeVar, get_args, get_origin, get_type_hints

from ..common.atomic import write_json
from .exceptions import InputError

if TYPE_CHECKING:
    from typing import Unpack

C = TypeVar("C")

_WHOLE_FILE_BYTES = 8 << 20  # larger files are digested by size and by their two ends


class ParamNotes(TypedDict, total=False):
    """What a field made by :func:`param` says besides its default and help.

    ``low`` and ``high`` are inclusive. ``path`` marks an input file, whose content belongs to the digest.
    ``affects_result=False`` marks what changes speed or place only (device, threads, output folder).
    """

    label: str
    unit: str
    low: Optional[float]
    high: Optional[float]
    choices: Optional[Tuple[str, ...]]
    expert: bool
    path: bool
    affects_result: bool


_UNSAID: Dict[str, Any] = dict(label="", unit="", low=None, high=None, choices=None, expert=False, path=False, affects_result=True)


def param(default: Any = dataclasses.MISSING, help: str = "", **notes: Unpack[ParamNotes]) -> Any:
    """A field of a command's dataclass.

    Raises
    ------
    TypeError
        when a note is not one of :class:`ParamNotes`.
    """
    unknown = set(notes) - set(_UNSAID)
    if unknown:
        raise TypeError("param() has no note '%s'" % sorted(unknown)[0])
    metadata = dict(_UNSAID, help=help, **notes)
    if isinstance(default, (list, dict)):
        frozen = default
        return dataclasses.field(default_factory=lambda: type(frozen)(frozen), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass
class RunConfig:
    """What every command takes: where results go and which hardware does the work."""

    output: str = param("out", "Folder for the results; it is made when absent.", affects_result=False)
    use_gpu: bool = param(False, "Compute on GPUs. Without it everything runs on the CPU.", label="Use GPU?", affects_result=False)
    gpu_list: str = param(
        "0", "Indices of the GPUs to use, separated by spaces, counted within CUDA_VISIBLE_DEVICES when that is set.",
        label="GPU IDs", affects_result=False,
    )
    threads: int = param(0, "CPU threads of each process; 0 takes all that the process may use.", low=0, affects_result=False)


def fields_of(config_class: Type[Any]) -> Dict[str, dataclasses.Field[Any]]:
    """Fields of a command's dataclass by name; ``field.metadata`` holds help, unit, range and choices."""
    return {f.name: f for f in dataclasses.fields(config_class)}


def default_of(config_class: Type[Any], name: str) -> Any:
    """Default of one parameter (a fresh copy when it is a list)."""
    field = fields_of(config_class)[name]
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def help_of(config_class: Type[Any], name: str) -> str:
    """Help text of one parameter with its unit and allowed range."""
    meta = fields_of(config_class)[name].metadata
    low, high, unit = meta.get("low"), meta.get("high"), meta.get("unit")
    notes = []
    if unit:
        notes.append("in %s" % unit)
    if low is not None and high is not None:
        notes.append("%g to %g" % (low, high))
    elif low is not None:
        notes.append("at least %g" % low)
    elif high is not None:
        notes.append("at most %g" % high)
    return meta.get("help", "") + (" (%s)" % ", ".join(notes) if notes else "")


def types_of(config_class: Type[Any]) -> Dict[str, Any]:
    """Type of each parameter by name: bool, int, float, str or a List of these."""
    return get_type_hints(config_class)


def check_config(config: Any) -> None:
    """Refuse a parameter of the wrong type or out of its range, and a named input file that is absent.

    A whole number given for a ``float`` parameter is made one.

    Raises
    ------
    InputError
        naming the parameter, its value and what is allowed.
    """
    types = types_of(type(config))
    for name, field in fields_of(type(config)).items():
        value, meta = getattr(config, name), field.metadata
        if value is dataclasses.MISSING:
            raise InputError("Parameter %s is missing: give it a value." % name)
        value = _typed(name, value, types[name])
        setattr(config, name, value)
        numbers = value if isinstance(value, (list, tuple)) else [value]
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                continue
            low, high = meta.get("low"), meta.get("high")
            if not math.isfinite(number) or (low is not None and number < low) or (high is not None and number > high):
                raise InputError(
                    "Parameter %s is %g, but it must be %s." % (name, number, _range_text(low, high))
                )
        choices = meta.get("choices")
        if choices and value not in choices:
            raise InputError("Parameter %s is '%s', but it must be one of: %s." % (name, value, ", ".join(choices)))
        if meta.get("path"):
            for item in value if isinstance(value, (list, tuple)) else [value]:
                if item and not os.path.exists(item):
                    raise InputError("Parameter %s names '%s', which does not exist." % (name, item))


def require(config: Any, *names: str) -> None:
    """Refuse parameters that a command cannot do without.

    Raises
    ------
    InputError
        naming the first parameter that is empty and what it is.
    """
    for name in names:
        if not getattr(config, name):
            raise InputError("Parameter %s is needed: %s" % (name, help_of(type(config), name)))


_TYPE_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _typed(name: str, value: Any, kind: Any) -> Any:
    """``value`` when it is of ``kind``; InputError otherwise."""
    if get_origin(kind) is list:
        if not isinstance(value, (list, tuple)):
            raise InputError("Parameter %s is %s, but it must be a list." % (name, json.dumps(value, default=str)))
        return [_typed(name, item, get_args(kind)[0]) for item in value]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind in _TYPE_NAMES and (not isinstance(value, kind) or (kind is not bool and isinstance(value, bool))):
        raise InputError(
            "Parameter %s is %s, but it must be %s." % (name, json.dumps(value, default=str), _TYPE_NAMES[kind])
        )
    return value


def _range_text(low: Optional[float], high: Optional[float]) -> str:
    if low is not None and high is not None:
        return "between %g and %g" % (low, high)
    return "at least %g" % low if low is not None else "at most %g" % high if high is not None else "a number"


def result_fields(config: Any) -> Tuple[Dict[str, Any], Dict[str, List[str]]]:
    """What the result of a command depends on, of its parameters: ``(plain values, paths of input files)``, each by name."""
    plain: Dict[str, Any] = {}
    files: Dict[str, List[str]] = {}
    for name, field in fields_of(type(config)).items():
        if not field.metadata.get("affects_result", True):
            continue
        value = getattr(config, name)
        if field.metadata.get("path"):
            files[name] = list(value) if isinstance(value, (list, tuple)) else [value]
        else:
            plain[name] = value
    return plain, files


def digest_config(config: Any, extra_files: Tuple[str, ...] = ()) -> str:
    """Digest (16 hex digits) of all that the result of a command depends on: parameters and content of input files."""
    plain, files = result_fields(config)
    paths = [*extra_files, *(path for found in files.values() for path in found if path)]
    counts = {name: len(found) for name, found in files.items()}
    return digest_values({"command": type(config).__name__, **plain, **counts, "files": [digest_file(path) for path in paths]})


def digest_values(values: Any) -> str:
    """Digest (16 hex digits) of plain values: dictionaries, lists, text, numbers."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest_file(path: str) -> str:
    """Digest of a file's content, or of all files in a folder (a model).

    Of a file beyond 8 MiB its size and its first and last 4 MiB are taken.
    """
    if os.path.isdir(path):
        names = sorted(os.path.join(folder, name) for folder, _, files in os.walk(path) for name in files)
        return digest_values([[os.path.relpath(name, path), digest_file(name)] for name in names])
    size = os.path.getsize(path)
    sha = hashlib.sha256(str(size).encode())
    half = _WHOLE_FILE_BYTES // 2
    with open(path, "rb") as handle:
        if size <= _WHOLE_FILE_BYTES:
            sha.update(handle.read())
        else:
            sha.update(handle.read(half))
            handle.seek(size - half)
            sha.update(handle.read(half))
    return sha.hexdigest()[:16]


def load_config(config_class: Type[C], path: str) -> C:
    """Read a command's parameters from JSON.

    Raises
    ------
    InputError
        when the file is not JSON or names a parameter that the command does not have.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            values = json.load(handle)
    except FileNotFoundError as error:
        raise InputError("The parameter file '%s' does not exist." % path) from error
    except (OSError, ValueError) as error:
        raise InputError("The parameter file '%s' cannot be read as JSON: %s." % (path, error)) from error
    if not isinstance(values, dict):
        raise InputError("The parameter file '%s' must hold one JSON object of parameters and values." % path)
    unknown = sorted(set(values) - set(fields_of(config_class)))
    if unknown:
        raise InputError("The parameter file '%s' has no such parameter: %s." % (path, ", ".join(unknown)))
    return config_class(**values)


def save_config(config: Any, path: str) -> None:
    """Write a command's parameters as JSON, readable by ``--config``."""
    write_json(path, dataclasses.asdict(config), sort_keys=True)
