"""What the entries of a model's ``model.json`` are and the ranges that they lie in, each said once: names carry their units and mean the same in all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..exceptions import InputError

__all__ = ["check_entries", "require_agreement"]


class _Entry(NamedTuple):
    """Type of a value, or of each value of a list, and its range."""

    kind: type
    low: float = 0.0
    high: float = 0.0
    is_list: bool = False


_LARGEST = 1e12  # of numbers that only say how a model was made
_LENGTH = _Entry(float, 1e-3, 1e6)  # Å
_PIXEL = _Entry(float, 0.05, 1000)
_POWER = _Entry(float, 0, 1e12, True)
_ENTRIES: Mapping[str, _Entry] = {
    "architecture": _Entry(str), "preset": _Entry(str), "symmetry": _Entry(str), "digest": _Entry(str), "reference": _Entry(str), "degradation": _Entry(str),
    "space": _Entry(str), "arguments": _Entry(dict), "input": _Entry(dict), "calibration": _Entry(dict),
    "wedge_channel": _Entry(bool), "average_turns": _Entry(bool), "phase_flipped": _Entry(bool), "ignore_ctf": _Entry(bool),
    "pixel_size_angst": _PIXEL, "voxel_angst": _PIXEL, "pixel_angst": _PIXEL, "finest_angst": _PIXEL, "coarsest_angst": _PIXEL,
    "box": _Entry(int, 2, 16384), "size": _Entry(int, 2, 16384), "radius_px": _Entry(float, 1, 16384),
    "radius_angst": _LENGTH, "centre_radius_angst": _LENGTH, "amplitude_range": _LENGTH, "amplitude_unit": _LENGTH, "shift_range_angst": _Entry(float, 0, 1e5),
    "modes": _Entry(int, 1, 10_000), "mode_numbers": _Entry(int, 7, 1e6, True), "hypotheses": _Entry(int, 1, 10_000), "views": _Entry(int, 1, 4096),
    "width": _Entry(int, 1, 4096), "turns": _Entry(int, 1, 360), "depth": _Entry(int, 0, 64), "taps": _Entry(int, 1, 64), "embedding": _Entry(int, 1, 4096),
    "channels": _Entry(int, 1, 2), "vectors": _Entry(int, 0, 1e7), "features": _Entry(int, 0, 1e5), "dropout": _Entry(float, 0, 0.999),
    "signal_power": _POWER, "noise_power": _POWER, "scale": _Entry(float, 1e-12, 1e12), "temperature": _Entry(float, 1e-4, 1e4),
    "novelty_quantiles": _Entry(float, 0, 1e9, True), "novelty_discriminants": _Entry(int, 0, 1e5), "tilt_range_deg": _Entry(float, -90, 90, True),
    "similarity": _Entry(float, -1e3, 1e3, True), "distance_rad": _Entry(float, 0, 4, True), "variance_rad2": _Entry(float, 1e-12, 1e3, True),
    "mean_spread": _Entry(float, 1e-12, 1e9), "constant": _Entry(float, 0, 1e6), "slope": _Entry(float, 0, 1e6),
}
_KINDS = {str: "text", dict: "a JSON object", bool: "true or false", int: "an integer", float: "a number"}


def check_entries(folder: str, values: Mapping[str, Any], place: str = "") -> None:
    """Refuse an entry that is not what it must be, or out of its range, however deep it lies.

    Parameters
    ----------
    folder : str
        Folder of the model, for messages.
    values : mapping
        Content of its ``model.json``, or a part of it.
    place : str
        Where that part is: "input." say.

    Raises
    ------
    InputError
        naming the entry, its value and what is needed.
    """
    for name, value in values.items():
        entry = _ENTRIES.get(name)
        if entry is not None and (isinstance(value, dict) != (entry.kind is dict) or isinstance(value, list) != entry.is_list):
            raise _fault(folder, place + name, value, entry)
        if isinstance(value, dict):
            check_entries(folder, value, f"{place}{name}.")
        else:
            for item in value if isinstance(value, list) else [value]:
                _check(folder, place + name, item, entry)


def _check(folder: str, name: str, value: Any, entry: _Entry | None) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if entry is None:
        if number and not abs(value) <= _LARGEST:
            raise InputError(f"The trained model '{folder}' cannot be used: {name} in its model.json is {value:g}.")
        return
    if entry.kind in (int, float):
        fits = number and entry.low <= value <= entry.high and (entry.kind is float or value == int(value))
    else:
        fits = isinstance(value, entry.kind)
    if not fits:
        raise _fault(folder, name, value, entry)


def _fault(folder: str, name: str, value: Any, entry: _Entry) -> InputError:
    span = f" from {entry.low:g} to {entry.high:g}" if entry.kind in (int, float) else ""
    needed = ("a list of values, each " if entry.is_list else "") + _KINDS[entry.kind] + span
    shown = repr(value) if len(repr(value)) < 40 else repr(value)[:40] + "..."
    return InputError(f"The trained model '{folder}' cannot be used: {name} in its model.json is {shown}, but {needed} belongs there.")


def require_agreement(folder: str, lengths: Mapping[str, Sequence[Any] | int]) -> None:
    """Refuse a model two entries of which have lengths that do not belong together.

    Parameters
    ----------
    folder : str
        Folder of the model, for messages.
    lengths : mapping
        Entries, and lists, or numbers that say how long these are.

    Raises
    ------
    InputError
        naming both.
    """
    counts = {name: found if isinstance(found, int) else len(found) for name, found in lengths.items()}
    (first, count), *others = counts.items()
    for name, other in others:
        if other != count:
            raise InputError(f"The trained model '{folder}' cannot be used: {name} in its model.json stands for {other} values, but {first} for {count}.")
