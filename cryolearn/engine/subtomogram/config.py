"""Parameters of the commands for subtomograms (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from ..config import RunConfig, param


@dataclass
class SubtomogramAverageConfig(RunConfig):
    """Align, classify and average subtomograms under the missing wedge, without a reference.

    The two half sets never meet before the end: each has its own first maps, and only the curve of their agreement (FSC) is shared.
    Writes for each class K (``class_001`` ..., the largest first) ``K.mrc``, ``K_half1.mrc``, ``K_half2.mrc`` and ``K_fsc.csv``; ``subtomograms.star``
    with class, pose, shift and half set of each subtomogram; ``averages.npz`` (columns id, class, score, half), ``classes.csv``, ``summary.json`` and ``figures/``.
    """

    subtomograms: str = param("", "Subtomograms with their tilt range (STAR).", path=True)
    classes: int = param(3, "Number of classes.", label="Number of classes", low=1, high=100)
    each_class: bool = param(False, "Average each class of the input apart (rlnClassName), each into as many classes as asked for.", label="Each input class apart?")
    smallest: int = param(10, "Input classes with fewer subtomograms than this are left out, and named.", label="Smallest input class", low=4, expert=True)
    iterations: int = param(5, "Iterations of alignment, classification and averaging.", label="Iterations", low=1, high=100)
    start: str = param(
        "random", "First maps: 'random' finds them at low resolution, 'alignment' averages the subtomograms as they are aligned in the input, 'reference' takes maps.",
        label="Start from", choices=("random", "alignment", "reference"),
    )
    starts: int = param(2, "Random starts of each half set; the likeliest is kept.", label="Random starts", low=1, high=100, expert=True)
    references: List[str] = param([], "Reference maps (MRC), one for each class, or one for all, whose classes then start apart at random.", label="References", path=True)
    initial_resolution_angst: float = param(0.0, "Low-pass filter of references and of the input's average; 0 takes a sixth of the box.", label="Initial resolution", unit="Å", low=0)
    mask: str = param("", "Mask around the particle (MRC); without it a soft sphere.", path=True)
    mask_radius_angst: float = param(0.0, "Radius of the spherical mask, and of the particle; 0 takes 40 % of the box.", label="Mask radius", unit="Å", low=0)
    shift_range_angst: float = param(0.0, "How far particles may lie from the centre of their subtomogram; 0 takes 10 % of the box.", label="Shift range", unit="Å", low=0)
    angular_step_deg: float = param(15.0, "Step of the search over all rotations; the best are refined from there.", label="Angular step", unit="degrees", low=4, high=45, expert=True)
    local_search: bool = param(False, "Search only around the poses of the input (start: alignment) instead of over all rotations.", label="Local search only?", expert=True)
    finest_step_deg: float = param(1.0, "Last step of the refinement of rotations.", label="Finest step", unit="degrees", low=0.1, high=10, expert=True)
    symmetry: str = param("C1", "Point group: Cn, Dn, T, O or I.", label="Symmetry")
    wedge_edge_px: float = param(0.0, "Soft edge of the missing wedge beyond the last tilts; 0 where the subtomograms end sharply.", label="Edge of the wedge", unit="Fourier pixels", low=0, high=5, expert=True)
    coverage_floor: float = param(0.05, "Where fewer than this part of a class's subtomograms have measured, the average fades instead of being blown up.", label="Floor on coverage", low=0.001, high=0.5, expert=True)
    invert_contrast: bool = param(False, "Particles are black on white.", label="Invert contrast?")
    features: str = param("", "Features of the subtomograms from subtomogram-subdivide (npz with columns id and features), for the distances to the training classes.", path=True)
    known_features: str = param("", "Features of labelled training subtomograms (npz with columns id, features and class) that the distances are counted from.", path=True)
    batch: int = param(64, "Subtomograms in memory at a time.", label="Batch", low=1, high=4096, affects_result=False, expert=True)
    seed: int = param(1, "Seed.", expert=True)
