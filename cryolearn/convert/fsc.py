"""Fourier shell correlations: the engine's CSV -> Scipion's FSC objects."""

from pwem.objects import FSC

from ..common.fsc import read_curve


def makeFsc(path: str, label: str = '') -> FSC:
    """FSC object (frequency in 1/Å) of a curve that the engine wrote."""
    frequency, correlation = read_curve(path)
    fsc = FSC()
    fsc.setData(frequency, correlation)
    fsc.setObjLabel(label)
    return fsc
