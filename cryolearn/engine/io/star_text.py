"""The text of STAR files: blocks of named columns, read and written a million rows in seconds."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...common.packed_files import unpack_gzip
from ...common.star_words import star_word
from ..exceptions import InputError
from .atomic import open_whole

Block = dict[str, NDArray[Any]]
_MISSING = ["", "nan", "NaN", "-nan", "NAN", "<NA>", "None"]
_ROWS_AT_A_TIME = 100_000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_COMMENT_LINE = re.compile(rb"^[ \t]*#[^\n]*", re.MULTILINE)
_BLOCK_LINE = re.compile(rb"data_\S*[ \t\r]*(#.*)?$")
_FURTHEST_IN = 1000  # letters from the start of its line at which a block is still looked for
_MOST_BLOCKS = 20_000
_LABEL = re.compile(rb"_\S+(\s+#.*)?$")  # in a loop, where a row may start with "_" as well
_VALUE = re.compile(rb'"(?:[^"\n]|"")*"(?!\S)|\S+')  # of a row; two double quotes in a quoted one are one, as in CSV
_SINGLE_QUOTED = re.compile(rb"""(?<!\S)(?:"(?:[^"\n]|"")*"|'((?:[^'\n]|'(?=\S))*)')(?!\S)""")
_MOST_COLUMNS = 10_000


@dataclass(frozen=True)
class _Span:
    """A block's text: ``start`` is the byte behind its ``data_`` line."""

    name: str
    start: int
    stop: int


def read_star(path: str, blocks: Iterable[str] | None = None) -> dict[str, Block]:
    """Read a STAR file's blocks (``data_NAME``), each as a dict of columns.

    Labels that end in ``Name`` are text; another column is whole numbers, floats or text, as its values are.

    Parameters
    ----------
    path : str
        STAR file.
    blocks : iterable of str, optional
        Read only the blocks of these names.

    Raises
    ------
    InputError
        when the file is absent, has no block, or a row that does not fit its columns.
    """
    try:
        with open(path, "rb") as handle:
            content = handle.read()
    except OSError as error:
        raise InputError(f"The STAR file '{path}' cannot be read: {error.strerror or error}.") from error
    content = _as_lines(path, _unpacked(path, content))
    spans = _find_blocks(path, content)
    if not spans:
        raise InputError(f"'{path}' is not a STAR file: it has no line that starts with 'data_'.")
    wanted = None if blocks is None else set(blocks)
    found: dict[str, Block] = {}
    for span in spans:
        if wanted is None or span.name in wanted:
            if span.name in found:
                raise InputError(f"The STAR file '{path}' has the block data_{span.name} twice (again in line {_line(content, span.start)}): keep one.")
            found[span.name] = _parse_block(path, content, span)
    return found


def _unpacked(path: str, content: bytes) -> bytes:
    if not content.startswith(_GZIP):
        return content
    try:
        return unpack_gzip(content)
    except ValueError as error:
        raise InputError(f"The STAR file '{path}' is compressed by gzip and damaged: {error}.") from error


def _as_lines(path: str, content: bytes) -> bytes:
    """Text without a byte-order mark, its lines ended by line feeds (those of Windows, Macs and Unix may be mixed)."""
    if content.startswith(_UTF16_MARKS):
        raise InputError(f"The STAR file '{path}' is UTF-16 text: save it as UTF-8.")
    content = content.removeprefix(_BYTE_ORDER_MARK)
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in content else content


def _line(content: bytes, at: int) -> int:
    """Number of the line, from 1, that holds the byte ``at``."""
    return content.count(b"\n", 0, at) + 1


def _find_blocks(path: str, content: bytes) -> list[_Span]:
    starts = []
    for found in re.finditer(b"data_", content):
        at = found.start()
        first = content.rfind(b"\n", max(0, at - _FURTHEST_IN), at) + 1
        if at != first and (content[max(first, at - _FURTHEST_IN) : at].strip() or (not first and at > _FURTHEST_IN)):
            continue
        end = content.find(b"\n", at)
        if at == first or _BLOCK_LINE.match(content[at : end if end >= 0 else None]):
            starts.append(at)
    if len(starts) > _MOST_BLOCKS:
        raise InputError(f"The STAR file '{path}' has {len(starts)} blocks, more than any program writes.")
    spans = []
    for start, stop in zip(starts, starts[1:] + [len(content)]):
        end = content.find(b"\n", start, stop)
        end = stop if end < 0 else end
        spans.append(_Span(content[start + 5 : end].split(b"#")[0].strip().decode(errors="replace"), end, stop))
    return spans


def _parse_block(path: str, content: bytes, span: _Span) -> Block:
    pairs: dict[str, str] = {}  # of a loop, its labels
    loop = False
    at = span.start
    while at < span.stop:
        end = content.find(b"\n", at, span.stop)
        end = span.stop if end < 0 else end
        line = content[at:end].strip()
        if line.lower() == b"loop_":
            loop = True
        elif _LABEL.match(line) if loop else line.startswith(b"_"):
            words = line.decode(errors="replace").split() if loop else _words(line, comments=True)
            if words[0][1:] in pairs:
                raise InputError(
                    f"The block data_{span.name} of the STAR file '{path}' has the column {words[0][1:]} twice (again in line {_line(content, at)}): "
                    "keep the right one."
                )
            pairs[words[0][1:]] = words[1] if len(words) > 1 else ""
        elif line and not line.startswith(b"#"):
            break
        at = end + 1
    if not loop:
        return {label: _column(label, pd.Series([value])) for label, value in pairs.items()}
    table = _Loop(path, span.name, list(pairs), _line(content, at) if at < len(content) else 0)
    if not 0 < len(pairs) <= _MOST_COLUMNS:
        raise table.fault(f"its loop has {len(pairs)} labels")
    return _parse_loop(table, _without_tail(content[at : span.stop]))


def _words(line: bytes, comments: bool = False) -> list[str]:
    """Words of a line, those in quotes whole; a quote that is not closed is a letter as any other."""
    text = line.decode(errors="replace")
    try:
        return shlex.split(text, comments=comments)
    except ValueError:
        return text.split()


def _without_tail(body: bytes) -> bytes:
    """A loop's rows without the blank lines and comments that stand before the next block."""
    end = len(body.rstrip())
    while True:
        at = body.rfind(b"\n", 0, end)
        if not body[at + 1 : end].lstrip().startswith(b"#"):
            return body[:end]
        end = max(at, 0)
        while end and body[end - 1 : end].isspace():
            end -= 1


@dataclass(frozen=True)
class _Loop:
    """What a message says of a loop: its file, block and labels, and the line of its first row."""

    path: str
    name: str
    labels: list[str]
    line: int

    def fault(self, what: object) -> InputError:
        return InputError(f"The block data_{self.name} of the STAR file '{self.path}' cannot be read: {what}.")


def _without_comments(body: bytes, count: int) -> bytes:
    """Rows of ``count`` values without comments between and behind them; the lines keep their numbers."""
    if b"#" not in body:
        return body
    body = _COMMENT_LINE.sub(b"", body)
    if b" #" not in body and b"\t#" not in body:
        return body
    value = rb'(?:"(?:[^"\n]|"")*"|[^\s"]\S*)'  # values and the blanks between them share no letter: a row matches in one way
    return re.sub(rb"^([ \t]*%s(?:[ \t]+%s){%d})[ \t]+#[^\n]*" % (value, value, count - 1), rb"\1", body, flags=re.MULTILINE)


def _double_quoted(found: re.Match[bytes]) -> bytes:
    return found[0] if found[1] is None else b'"' + found[1].replace(b'"', b'""') + b'"'


def _parse_loop(loop: _Loop, body: bytes) -> Block:
    labels = loop.labels
    if not body:
        return {label: np.zeros(0, dtype=str if label.endswith("Name") else float) for label in labels}
    if b"'" in body:
        body = _SINGLE_QUOTED.sub(_double_quoted, body)
    body = _without_comments(body, len(labels))
    text_columns = {column: str for column, label in enumerate(labels) if label.endswith("Name")}
    try:
        frame = _read_rows(body, len(labels), text_columns)
    except OverflowError:  # a whole number of hundreds of digits: it is text for those who want numbers
        frame = _read_rows(body, len(labels), str)
    except (pd.errors.ParserError, ValueError) as error:
        raise loop.fault(_ragged(body, loop) or error) from error
    last = frame[len(labels) - 1]
    if (last.isna().any() or len(body.split(b"\n", 1)[0].split()) > len(labels)) and (fault := _ragged(body, loop)):
        raise loop.fault(fault)
    return {label: _column(label, frame[column]) for column, label in enumerate(labels)}


def _read_rows(body: bytes, columns: int, kinds: Any) -> pd.DataFrame:
    return pd.read_csv(
        io.BytesIO(body), sep=r"\s+", header=None, names=list(range(columns)), index_col=False, dtype=kinds, keep_default_na=False, na_values=_MISSING,
        engine="c", low_memory=False, encoding_errors="replace", float_precision="round_trip",
    )


def _ragged(body: bytes, loop: _Loop) -> str:
    """The first row that has not one value for each label, in words ('' when there is none)."""
    row = 0
    for number, line in enumerate(body.split(b"\n"), loop.line):
        found = len(_VALUE.findall(line)) if b'"' in line else len(line.split())
        row += found > 0
        if found not in (0, len(loop.labels)):
            return f"row {row} (line {number}) has {found} values for {len(loop.labels)} columns"
    return ""


def _column(label: str, values: pd.Series) -> NDArray[Any]:
    if not label.endswith("Name"):
        try:
            return np.array(pd.to_numeric(values).to_numpy())  # a copy that can be written to
        except (ValueError, TypeError, OverflowError):
            pass
    return values.fillna("").to_numpy(dtype=object)


def write_star(path: str, blocks: dict[str, Block]) -> None:
    """Write blocks of columns as a STAR file; a reader sees the old file or the whole new one.

    Floats are written with as many digits as give the same number back.
    """
    with open_whole(path) as handle:
        for name, columns in blocks.items():
            _write_block(handle, name, columns)


def _write_block(handle: IO[str], name: str, columns: Block) -> None:
    handle.write(f"\n# version 30001\n\ndata_{name}\n\nloop_\n")
    handle.writelines(f"_{label} #{number}\n" for number, label in enumerate(columns, 1))
    rows = len(next(iter(columns.values()))) if columns else 0
    for start in range(0, rows, _ROWS_AT_A_TIME):
        part = {label: _quoted(values[start : start + _ROWS_AT_A_TIME]) for label, values in columns.items()}
        pd.DataFrame(part).to_csv(handle, sep="\t", header=False, index=False, na_rep="nan", quoting=3, escapechar=None,
                                  lineterminator="\n")
    handle.write("\n")


def _quoted(values: NDArray[Any]) -> NDArray[Any]:
    """Text as words (RELION itself reads no names with blanks); numbers as they are."""
    if values.dtype.kind not in "OUS":
        return values
    return np.array([star_word(value.decode(errors="replace") if isinstance(value, bytes) else str(value)) for value in values], dtype=object)
