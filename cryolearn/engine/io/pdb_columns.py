"""The columns of a PDB file as gemmi reads them: lines in order, residue numbers beyond 9999, residue names of four letters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..exceptions import InputError
from .polymer_elements import polymer_element

__all__ = ["NumberedPdb", "number_lines"]

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LARGEST = 9999  # decimal residue number of four columns
_FOUR_LETTERS = ("TIP3", "TIP4", "TIP5", "SPCE", "POPC", "POPE", "POPG", "POPS", "DPPC", "DOPC", "DOPE", "DMPC", "CHL1")  # of CHARMM's files
_DECIMALS = 3  # of coordinates
_UNREAD = ("ANISOU", "SIGATM", "SIGUIJ", "CONECT")  # records that point to serial numbers, which are replaced


@dataclass
class NumberedPdb:
    """A PDB file whose serial numbers are the places of its atoms.

    Attributes
    ----------
    text : str
        Lines for gemmi: serial numbers 1, 2, 3 ... and residue numbers in hybrid-36.
    atoms : int
        ATOM and HETATM lines of the first model.
    after_end : int
        ATOM and HETATM lines behind END, where readers stop.
    blank_occupancies : int
        Atoms of the first model without a number as occupancy, which is taken as 1.
    no_b_factors : int
        Atoms of the first model whose B factor is no number (asterisks, nan), which is taken as 0.
    residue_names : dict of int to str
        Names of four letters, by serial number.
    """

    text: str
    atoms: int = 0
    after_end: int = 0
    blank_occupancies: int = 0
    no_b_factors: int = 0
    residue_names: dict[int, str] = field(default_factory=dict)


def number_lines(path: str, lines: Iterable[str]) -> NumberedPdb:
    """Number the atoms of a PDB file and bring what programs write beyond its columns to hybrid-36.

    Residue numbers above 9999 are read in hybrid-36 (A000), in hexadecimal (2710 after 9999: CHARMM, VMD) and in five columns.

    Parameters
    ----------
    path : str
        Name of the file, for messages.
    lines : iterable of str
        Its lines.

    Raises
    ------
    InputError
        naming the line whose coordinates are no numbers.
    """
    kept: list[str] = []
    found = NumberedPdb("")
    residues = _ResidueNumbers()
    serial, first_model, ended = 0, True, False
    for row, line in enumerate(lines, 1):
        record = line[:6].upper()
        if not record.startswith(("ATOM", "HETATM")):
            first_model &= not (record == "ENDMDL" and serial > 0)
            ended |= record.strip() == "END"
            if not ended and not record.startswith(_UNREAD):
                kept.append(line)
            continue
        if ended:
            found.after_end += 1
            continue
        line = line.ljust(66)
        try:
            [float(line[start : start + 8]) for start in (30, 38, 46)]
        except ValueError:
            raise InputError(f"Line {row} of the structure '{path}' has no numbers as coordinates: '{line[30:54]}' ({line[:27].strip()}).") from None
        if any(len(line[start : start + 8].split(".")[-1]) < _DECIMALS for start in (30, 38, 46) if " " not in line[start : start + 8]) and not (
            _is_number(line[54:60]) or not line[54:60].strip()
        ):
            raise InputError(f"Line {row} of the structure '{path}' has numbers beyond the columns of the PDB format: '{line[30:66]}'; give mmCIF.")
        serial += 1
        found.atoms += first_model
        if not _is_number(line[54:60]):
            found.blank_occupancies += first_model
            line = line[:54] + "  1.00" + line[60:]
        if not _is_number(line[60:66]):
            found.no_b_factors += first_model and bool(line[60:66].strip())
            line = line[:60] + "  0.00" + line[66:]
        name, chain = line[17:21], line[21]
        if " " not in name and (chain == " " or name in _FOUR_LETTERS):
            found.residue_names[serial] = name  # else the fourth letter is the first of a chain name of two
            line = line[:20] + " " + line[21:]
        if not line[76:78].strip():
            line = f"{line[:76]:76}{polymer_element(line[12:16], line[17:20]):>2}{line[78:]}"
        line = line[:22] + residues.columns(line[22:27], line[20:22] + line[72:76]) + line[27:]
        kept.append(f"{line[:6]}{hybrid36(serial, 5)}{line[11:]}")
    found.text = "\n".join(kept) + "\n"
    return found


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


class _ResidueNumbers:
    """Residue numbers of successive lines; hexadecimal ones begin behind 9999 and end with the chain."""

    def __init__(self) -> None:
        self._last: tuple[str, str] = ("", "")
        self._hexadecimal = False

    def columns(self, text: str, chain: str) -> str:
        """Residue number in hybrid-36 and insertion code (five characters) of columns 23 to 27."""
        number = text[:4].strip()
        if chain != self._last[1]:
            self._hexadecimal = False
        elif number != self._last[0]:
            self._hexadecimal = self._hexadecimal or (self._last[0] == str(_LARGEST) and number == f"{_LARGEST + 1:x}")
        self._last = number, chain
        if text.isdigit():  # five columns
            return hybrid36(int(text), 4) + " "
        if self._hexadecimal or (number[:1].isdigit() and number.isalnum() and not number.isdigit()):
            try:
                value = int(number, 16)
            except ValueError:
                return text
            if value > _LARGEST:
                return hybrid36(value, 4) + text[4]
            self._hexadecimal = False
        return text


def hybrid36(number: int, width: int) -> str:
    """Number in ``width`` columns: decimal, then with a capital letter in front (Grosse-Kunstleve's hybrid-36)."""
    if number < 10**width:
        return f"{number:{width}d}"
    rest, text = number - 10**width + 10 * 36 ** (width - 1), ""
    while rest:
        rest, digit = divmod(rest, 36)
        text = _DIGITS[digit] + text
    return text
