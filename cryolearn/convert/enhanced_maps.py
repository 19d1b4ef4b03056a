"""Enhanced maps: files that the engine writes, and the correlations that tell evidence from invention."""

from __future__ import annotations

import os
from typing import Any

from ..common.fsc import read_curve
from .fsc import fscOf

ENHANCED, UNCERTAINTY, LOCAL_CORRELATION, PREDICTED_ERROR = 'enhanced.mrc', 'uncertainty.mrc', 'local_correlation.mrc', 'predicted_error.mrc'
CONFIDENCE = 'confidence.mrc'
HALVES = ['enhanced_half1.mrc', 'enhanced_half2.mrc']
FSC_TABLE = 'fsc.csv'
CURVES = (('fsc_raw', 'half maps before'), ('fsc_cross', 'enhanced half, raw other half (evidence)'), ('fsc_enhanced', 'both halves enhanced (no evidence)'))


def readEnhancedCurves(folder: str, masked: bool = True) -> Any:
    """``[(label, frequency, values)]`` of the three correlations of half maps."""
    path = os.path.join(folder, FSC_TABLE)
    return [(label, *read_curve(path, name if masked else name + '_unmasked')) for name, label in CURVES]


def makeEnhancedFscs(folder: str) -> list[Any]:
    """An FSC object of each curve, labelled by what it compares."""
    return [fscOf(*curve) for curve in readEnhancedCurves(folder)]
