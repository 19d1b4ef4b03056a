"""Which models are of related proteins: a split by sequence, never by file.

Chains are compared by local alignment (Biopython, BLOSUM62 with gap costs 11 and 1), and two models are relatives when their best pair of chains
aligns as well as fewer than ``e_value`` pairs of unrelated chains of their lengths would by chance: ``E = K m n exp(-lambda S)`` with BLAST's
constants for these costs. This is stricter than any threshold on identity: homologues of 20 % identity are relatives too.

References
----------
Altschul & Gish, Methods Enzymol. 266 (1996) 460.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass

import gemmi
from Bio.Align import PairwiseAligner, substitution_matrices

from ...exceptions import InputError
from ...io.structures import gemmi_model, read_structure
from ...progress import Progress

__all__ = ["Entry", "identity", "related_score", "sequences", "split_models"]

_K, _LAMBDA = 0.041, 0.267
_SHORTEST = 20
_LETTERS = set("ARNDCQEGHILKMFPSTWYVX")


@dataclass(frozen=True)
class Entry:
    """A row of the manifest: a model, its side ('training', 'validation' or 'left out') and why."""

    path: str
    side: str
    reason: str = ""

    @property
    def name(self) -> str:
        """File name of the model."""
        return os.path.basename(self.path)


def sequences(path: str) -> tuple[str, ...]:
    """Different one-letter sequences of the protein chains of a model, of 20 residues and more.

    Raises
    ------
    InputError
        when the file cannot be read.
    """
    document = gemmi.Structure()
    document.add_model(gemmi_model(read_structure(path, quiet=True)))
    document.setup_entities()
    found = set()
    for chain in document[0]:
        polymer = chain.get_polymer()
        if polymer.check_polymer_type() in (gemmi.PolymerType.PeptideL, gemmi.PolymerType.PeptideD):
            text = gemmi.one_letter_code([residue.name for residue in polymer]).upper()
            if len(text) >= _SHORTEST:
                found.add("".join(letter if letter in _LETTERS else "X" for letter in text))
    return tuple(sorted(found))


def _aligner() -> PairwiseAligner:
    return PairwiseAligner(mode="local", substitution_matrix=substitution_matrices.load("BLOSUM62"), open_gap_score=-12, extend_gap_score=-1)


def related_score(first: tuple[str, ...], second: tuple[str, ...], aligner: PairwiseAligner | None = None) -> float:
    """Smallest E value of all pairs of two models' chains; infinity without protein."""
    aligner = aligner or _aligner()
    pairs = [(one, other) for one in first for other in second]
    return min((_K * len(one) * len(other) * math.exp(-_LAMBDA * aligner.score(one, other)) for one, other in pairs), default=math.inf)


def identity(first: str, second: str) -> float:
    """Part of identical residues in the best local alignment of two chains, of the shorter chain's length."""
    best = _aligner().align(first, second)[0]
    same = sum(first[a] == second[b] for (a0, a1), (b0, _) in zip(*best.aligned) for a, b in zip(range(a0, a1), range(b0, b0 + a1 - a0)))
    return same / min(len(first), len(second))


def split_models(structures: list[str], exclude: list[str], validation_fraction: float, e_value: float, seed: int) -> list[Entry]:
    """Sides of models: relatives of excluded ones are left out, and so is what is related to a model of validation but not one itself.

    Which models validate follows from a hash of seed and file name, so that a model's side does not depend on the others.

    Raises
    ------
    InputError
        when nothing is left to learn from.
    """
    aligner = _aligner()
    chains = {path: sequences(path) for path in [*structures, *exclude]}
    entries: dict[str, Entry] = {}
    progress = Progress("comparing sequences", len(structures), "models")
    kept = []
    for path in structures:
        relative = next((other for other in exclude if _related(chains[path], chains[other], aligner, e_value)), None)
        if relative is None:
            kept.append(path)
        else:
            entries[path] = Entry(path, "left out", f"relative of {os.path.basename(relative)}, which is excluded")
        progress.step()
    ranked = sorted(kept, key=lambda path: hashlib.sha256(f"{seed}/{os.path.basename(path)}".encode()).digest())
    held = set(ranked[: max(1, round(validation_fraction * len(ranked)))])
    progress = Progress("holding validation apart", len(kept), "models")
    for path in kept:
        if path in held:
            entries[path] = Entry(path, "validation")
        else:
            relative = next((other for other in sorted(held) if _related(chains[path], chains[other], aligner, e_value)), None)
            entries[path] = Entry(path, "training") if relative is None else Entry(
                path, "left out", f"relative of {os.path.basename(relative)}, which validates"
            )
        progress.step()
    if not any(entry.side == "training" for entry in entries.values()):
        raise InputError(
            f"None of {len(structures)} structures is left to learn from: they are relatives of excluded ones or of each other; give more different ones."
        )
    return [entries[path] for path in structures]


def _related(first: tuple[str, ...], second: tuple[str, ...], aligner: PairwiseAligner, e_value: float) -> bool:
    return related_score(first, second, aligner) <= e_value
