"""Flags of result tables: the bits that tables hold already, and their counts."""

from __future__ import annotations

import numpy as np

from cryolearn.common.flags import AlignmentFlag, ConformationFlag, flag_counts


def test_bits_are_those_of_the_tables_and_guides() -> None:
    assert [(flag.name, flag.value) for flag in AlignmentFlag] == [
        ("AMBIGUOUS", 1), ("AMPLITUDE_AT_BOUND", 2), ("LOW_CORRELATION", 4), ("NOT_CONVERGED", 8), ("UNUSABLE_IMAGE", 16)]
    assert [(flag.name, flag.value) for flag in ConformationFlag] == [("HIDDEN", 1), ("AT_END", 2), ("UNLIKELY", 4), ("UNUSABLE_IMAGE", 8)]


def test_counts_of_every_flag() -> None:
    flags = np.array([0, 1, 3, 8, 12, 15], np.int32)
    assert flag_counts(flags, AlignmentFlag) == {"ambiguous": 3, "amplitude_at_bound": 2, "low_correlation": 2, "not_converged": 3, "unusable_image": 0}
    assert (flags & AlignmentFlag.AMBIGUOUS).dtype == (flags & ~AlignmentFlag.NOT_CONVERGED).dtype == np.int32
    assert (flags & ~AlignmentFlag.NOT_CONVERGED).tolist() == [0, 1, 3, 0, 4, 7]
