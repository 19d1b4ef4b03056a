"""Text as one word of a STAR file: in quotes where it would be read as several words, a comment, a label or the start of a block."""

from __future__ import annotations

import re

__all__ = ["star_word"]

_CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]+")  # line breaks and tabs among them, which no word of a line can hold
_MEANS_MORE = re.compile(r"[#;_$]|(data|save)_|(loop|stop|global)_$", re.IGNORECASE)  # at the start of a word


def star_word(text: str) -> str:
    """The word that is read as ``text``.

    Empty text is written as ``None``, as RELION reads it. Line breaks, tabs and other control characters become blanks. Text in quotes holds a double quote
    as two, as CSV has it.

    Parameters
    ----------
    text : str
        Any text.
    """
    text = _CONTROL.sub(" ", text)
    if not text:
        return "None"
    if _MEANS_MORE.match(text) or any(letter.isspace() or letter in "'\"" for letter in text):
        return '"' + text.replace('"', '""') + '"'
    return text
