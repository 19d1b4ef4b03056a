"""Damaged and hostile versions of a file: bytes turned over, parts cut out, numbers that no reader expects, by the kind of the file."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import random
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

WORDS = ("nan", "inf", "-inf", "0", "-1", "-0.5", "1e300", "-1e300", "1e-300", "1e12", "100000000000000000000", "7" * 400, "", "abc", "None", "[1,2]", '"', "'",
         "#", "data_x", "loop_", "_rlnNothing", "3.5", "é", "\0", "2", "9999")
VALUES = (None, True, [], {}, "", "abc", 0, -1, 0.5, 1e300, 10**20, float("nan"), float("inf"), [0] * 3, ["x"], {"box": 3}, 2, 10**9)
NUMBERS = (0.0, -1.0, 1.0, np.nan, np.inf, -np.inf, 1e300, -1e30, 1e-300, 2**31 - 1, -(2**31), 1e9, 255)
_NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")


def mutated(path: str, content: bytes, random: random.Random) -> bytes:
    """A changed version of a file's content; half of the changes know the kind of the file, which its name says."""
    if path.endswith((".gz", ".bz2")) and random.random() < 0.7:
        packing = gzip if path.endswith(".gz") else bz2
        return packing.compress(mutated(path.rpartition(".")[0], packing.decompress(content), random))
    kind = path.rpartition(".")[2]
    changes = _BY_KIND.get(kind, _TEXT)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = random.choice(changes)(content, random)
    return content


def _turn_bytes(content: bytes, random: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(random.choice((1, 2, 8, 64))):
        if found:
            found[random.randrange(len(found))] = random.randrange(256)
    return bytes(found)


def _cut(content: bytes, random: random.Random) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _take_out(content: bytes, random: random.Random) -> bytes:
    start = random.randrange(len(content) + 1)
    return content[:start] + content[start + random.choice((1, 8, 200, 5000)) :]


def _repeat(content: bytes, random: random.Random) -> bytes:
    start = random.randrange(len(content) + 1)
    return content[:start] + content[start : start + random.choice((1, 8, 200, 5000))] * random.choice((2, 3, 50)) + content[start:]


def _insert(content: bytes, random: random.Random) -> bytes:
    at = random.randrange(len(content) + 1)
    return content[:at] + random.randbytes(random.choice((1, 4, 100))) + content[at:]


def _lines(content: bytes, random: random.Random) -> bytes:
    lines = content.split(b"\n")
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    what = random.choice(("swap", "drop", "repeat", "move"))
    if what == "swap":
        lines[one], lines[other] = lines[other], lines[one]
    elif what == "drop":
        del lines[one]
    elif what == "repeat":
        lines.insert(other, lines[one])
    else:
        lines.insert(other, lines.pop(one))
    return b"\n".join(lines)


def _number(content: bytes, random: random.Random) -> bytes:
    found = list(_NUMBER.finditer(content))
    if not found:
        return content
    at = random.choice(found)
    return content[: at.start()] + random.choice(WORDS).encode() + content[at.end() :]


def _word(content: bytes, random: random.Random) -> bytes:
    found = list(re.finditer(rb"\S+", content))
    if not found:
        return content
    at = random.choice(found)
    return content[: at.start()] + random.choice(WORDS).encode() + content[at.end() :]


def _same_width(content: bytes, random: random.Random) -> bytes:
    """A number of a format in columns: the width stays."""
    found = list(_NUMBER.finditer(content))
    if not found:
        return content
    at = random.choice(found)
    word = random.choice(WORDS).encode()[: at.end() - at.start()]
    return content[: at.start()] + word.rjust(at.end() - at.start()) + content[at.end() :]


def _header_field(content: bytes, random: random.Random) -> bytes:
    """Four bytes of a binary header as another number."""
    found = bytearray(content)
    if len(found) < 1024:
        return content
    at = 4 * random.randrange(min(256, len(found) // 4)) if random.random() < 0.5 else 4 * random.randrange(56)
    number = random.choice(NUMBERS)
    whole = int(np.clip(np.nan_to_num(number, nan=0), -(2**31), 2**31 - 1))
    found[at : at + 4] = struct.pack("<f", np.float32(np.clip(number, -3e38, 3e38))) if random.random() < 0.5 else struct.pack("<i", whole)
    return bytes(found)


def _json_leaf(content: bytes, random: random.Random) -> bytes:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return content
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(min(len(node), 20)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    if not isinstance(values, (dict, list)) or not values:
        return content
    walk(values)
    node, key = random.choice(places)
    what = random.random()
    if what < 0.2:
        del node[key]
    elif what < 0.3 and isinstance(node, dict):
        node[random.choice(("zzz", "width", "box", "\0"))] = node[key]
    elif what < 0.35:
        node[key] = [node[key]]
    else:
        node[key] = random.choice(VALUES)
    return json.dumps(values).encode()


def _nest(content: bytes, random: random.Random) -> bytes:
    depth = random.choice((100, 100_000))
    return b"[" * depth + content + b"]" * depth


def _changed_array(values: np.ndarray, random: random.Random) -> np.ndarray:
    what = random.choice(("value", "value", "value", "shape", "type", "short", "empty", "all"))
    if what in ("value", "all") and values.dtype.kind in "fiu" and values.size:
        number = random.choice(NUMBERS)
        found = values.astype(np.float64) if values.dtype.kind != "f" and random.random() < 0.3 else values.copy()
        with np.errstate(all="ignore"):
            cast = np.asarray(number).astype(found.dtype)
        found.flat[slice(None) if what == "all" else random.randrange(values.size)] = cast
        return found
    if what == "shape":
        return values.reshape(-1) if values.ndim > 1 else values[:, None] if values.ndim else values.reshape(1)
    if what == "type":
        return values.astype(random.choice(("f4", "i8", "U8", "S3", "?", "c8"))) if values.dtype.kind in "fiu?" else np.zeros(values.shape)
    if what == "short" and values.ndim:
        return values[:-1] if random.random() < 0.5 else np.concatenate([values, values[:1]])
    return values[:0] if values.ndim else values


def _npz(content: bytes, random: random.Random) -> bytes:
    try:
        with np.load(io.BytesIO(content)) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception:
        return content  # damaged before
    if not arrays:
        return content
    name = random.choice(sorted(arrays))
    what = random.random()
    if what < 0.1:
        del arrays[name]
    elif what < 0.2:
        arrays[random.choice(("id", "meta", "zzz"))] = arrays.pop(name)
    elif arrays[name].dtype.kind == "U" and not arrays[name].ndim:
        arrays[name] = np.array(_json_leaf(str(arrays[name]).encode(), random).decode() if random.random() < 0.7 else random.choice(WORDS))
    else:
        with np.errstate(all="ignore"):
            arrays[name] = _changed_array(arrays[name], random)
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def _records(content: bytes, random: random.Random) -> bytes:
    """Columns of a structured array (``.cs``)."""
    try:
        rows = np.load(io.BytesIO(content))
    except Exception:
        return content  # damaged before
    columns = {name: rows[name] for name in rows.dtype.names or ()}
    if not columns:
        return content
    name = random.choice(sorted(columns))
    what = random.random()
    if what < 0.15:
        del columns[name]
    elif what < 0.3:
        columns[name] = np.zeros((len(rows), *random.choice(((), (2,), (3, 3)))), random.choice(("f4", "i8", "S4", "U3", "?", "c8")))
    else:
        with np.errstate(all="ignore"):
            made = _changed_array(columns[name], random)
        columns[name] = made if len(made.shape) and len(made) == len(rows) else columns[name]
    found = np.zeros(len(rows) if random.random() < 0.95 else 0, [(name, values.dtype, values.shape[1:]) for name, values in columns.items()])
    for name, values in columns.items():
        found[name] = values[: len(found)]
    made_file = io.BytesIO()
    np.save(made_file, found)
    return made_file.getvalue()


def _tensors(content: bytes, random: random.Random) -> bytes:
    from safetensors.numpy import load, save

    try:
        weights = load(content)
    except Exception:
        return content  # damaged before
    if not weights:
        return content
    name = random.choice(sorted(weights))
    if random.random() < 0.3:
        weights[random.choice(("zzz", sorted(weights)[0]))] = weights.pop(name)
    else:
        with np.errstate(all="ignore"):
            made = _changed_array(weights[name], random)
        weights[name] = np.ascontiguousarray(made if made.dtype.kind in "fiu?" else weights[name])
    return save(weights)


Change = Callable[[bytes, random.Random], bytes]
_BYTES: list[Change] = [_turn_bytes, _cut, _take_out, _repeat, _insert]
_TEXT: list[Change] = [*_BYTES, _lines, _lines, _number, _number, _number, _word, _word]
_HEADER: list[Change] = [*_BYTES, *[_header_field] * 6]
_BY_KIND: dict[str, list[Change]] = {
    **dict.fromkeys(("mrc", "mrcs", "map", "spi", "hed", "img"), _HEADER), "json": [*_BYTES, _nest, *[_json_leaf] * 8], "npz": [*_BYTES, *[_npz] * 7],
    "cs": [*_BYTES, *[_records] * 7], "safetensors": [*_BYTES, *[_tensors] * 5], "pdb": [*_TEXT, *[_same_width] * 5],
}
