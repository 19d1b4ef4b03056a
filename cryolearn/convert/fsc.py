"""Fourier shell correlations: the engine's CSV -> Scipion's FSC objects."""

from __future__ import annotations

from typing import Any, Iterable

from pwem.objects import FSC

from ..common.fsc import read_curve


def fscOf(label: str, frequency: Any, correlation: Any) -> FSC:
    """FSC object (frequency in 1/Å) of a curve."""
    fsc = FSC()
    fsc.setData(frequency, correlation)
    fsc.setObjLabel(label)
    return fsc


def makeFsc(path: str, label: str = '') -> FSC:
    """FSC object of a curve that the engine wrote."""
    return fscOf(label, *read_curve(path))


def fillFscs(fscs: Any, made: Iterable[FSC]) -> Any:
    """A new SetOfFSCs with these curves; those that have an id keep it."""
    for fsc in made:
        fscs.append(fsc)
    return fscs
