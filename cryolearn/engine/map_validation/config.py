"""Parameters of the command on map validation (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass

from .. import shared_parameters as shared
from ..config import RunConfig, param


@dataclass
class ValidateMapConfig(RunConfig):
    """Score a map, or a map before and after a treatment, against an atomic model.

    Writes ``scores.csv`` (every score of each map, with bootstrap intervals and paired differences), ``residues.csv`` and ``residues.npz`` (result
    table, one row a residue), ``fsc.csv``, ``emringer.csv`` (the curves), ``summary.json`` and ``figures/``.
    """

    volume: str = param("", "Map (MRC); of two maps the one before.", path=True)
    volume_after: str = param("", "The same map after a treatment (sharpened, enhanced), on the same grid; without it one map is scored.", path=True)
    structure: str = param("", "Atomic model (PDB or mmCIF).", path=True)
    place: str = param("auto", "Where the map stands for the model: 'header' as its header says (ORIGIN, else nstart); 'zero' with the first voxel at 0, 0, 0, as models "
                       "of EMDB maps expect; 'centre' with its middle voxel there; 'auto' takes the first of these at which the model lies in density, and says so.",
                       label="Place of the map", choices=("auto", "header", "zero", "centre"))
    half1: str = param("", "First half map of the map.", path=True)
    half2: str = param("", "Second half map of the map.", path=True)
    after_half1: str = param("", "First half map after the treatment, which must not have seen the second one.", path=True)
    after_half2: str = param("", "Second half map after the treatment.", path=True)
    mask: str = param("", "Mask for the Fourier shell correlations (MRC); without it 3 Å around the model with a soft edge of 5 Å.", path=True)
    resolution_angst: float = param(0.0, "Resolution at which the model's map is cut for the correlations CC; 0 takes that of the half maps (FSC 0.143), or else "
                                    "where the first map's FSC with the model falls below 0.5.", label="Resolution", unit="Å", low=0, high=30)
    q_sigma_angst: float = param(0.4, "Width of the Q-score's reference Gaussian: 0.4 as in EMDB's validation reports now, 0.6 as in the paper of 2020. Values of one are "
                                 "not comparable with those of the other.", label="Q-score sigma", unit="Å", low=0.2, high=1.5)
    decoys: bool = param(True, "Also score wrong models (shifted by 1.5 Å, rotamers flipped): a real improvement widens the gap to them.", label="Score decoys?")
    bootstraps: int = param(1000, "Resamplings of the residues for intervals and paired differences.", label="Bootstrap draws", low=100, high=100000, expert=True)
    seed: int = shared.seed(help="Seed of the resamplings.")
