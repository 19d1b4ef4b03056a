"""Parameters of the elastic commands (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from .. import shared_parameters as shared
from ..config import RunConfig, param


@dataclass
class NormalModesConfig(RunConfig):
    """Normal modes of an atomic model or of a Gaussian (pseudo-atom) model.

    Writes ``modes.npz``, ``structure.pdb`` (mmCIF where PDB cannot hold it), ``modes/vec.K`` (three columns an atom), ``modes.csv``, ``modes.nmd`` and ``figures/``.
    """

    structure: str = param("", "Atomic model or pseudo-atoms (PDB or mmCIF).", path=True)
    selection: str = param("not hydrogen and not water", "Atoms to keep, in ProDy's selection language.", label="Atom selection")
    method: str = param("rtb", "'rtb': elastic network over all atoms with rotation-translation blocks; "
                        "'anm_ca': C-alpha network extended to all atoms.", label="Method", choices=("rtb", "anm_ca"))
    cutoff_mode: str = param("absolute", "'absolute' cutoff in Å, or 'relative': the distance below which the given percentage of pairs of nearest neighbours lie.",
                             label="Cutoff", choices=("absolute", "relative"))
    cutoff_angst: float = param(8.0, "Atoms closer than this are joined by a spring (15 Å is usual for C-alpha models).",
                                label="Cutoff distance", unit="Å", low=4, high=100)
    cutoff_percent: float = param(95.0, "Percentage used by the relative cutoff.", label="Cutoff percentage", unit="%", low=1, high=100, expert=True)
    residues_per_block: int = param(10, "Residues of a rigid block.", label="Residues in a block", low=1, high=500, expert=True)
    number: int = param(20, "Number of modes to compute, the six rigid ones included.", label="Number of modes", low=7, high=1000)
    collectivity_threshold: float = param(0.15, "Modes below this collectivity are kept in the set but marked as not selected.",
                                          label="Collectivity threshold", low=0, high=1)


@dataclass
class ElasticAlignConfig(RunConfig):
    """Find pose, shift and mode amplitudes of each particle image, without any prior pose by default.

    Writes ``alignment.npz`` (result table, every input id is in it), ``particles.star`` and ``figures/``.
    """

    particles: str = shared.images_or_tilts()
    datadir: str = shared.datadir()
    modes: str = shared.modes()
    mode_numbers: List[int] = shared.mode_numbers(help="Modes to use, counted from 1 (1-6 are rigid and refused).")
    start: str = param("blind", "'blind' searches all poses and ignores those of the input; 'local' refines the input's poses.",
                       label="Start", choices=("blind", "local"))
    local_range_deg: float = param(15.0, "Half width of the search around the input's poses.", label="Local search range", unit="degrees", low=0.5, high=90)
    amplitude_range: float = param(250.0, "Largest amplitude that the global search tries, either sign.", label="Amplitude range", low=1)
    shift_range_angst: float = param(12.0, "Largest shift that the global search tries.", label="Shift range", unit="Å", low=0)
    views: int = param(400, "Viewing directions of the global search.", label="Viewing directions", low=50, high=20000, expert=True)
    conformers: int = param(3, "Amplitudes tried per mode in the global search (all combinations).", label="Amplitudes per mode", low=1, high=9, expert=True)
    search_pixel_angst: float = param(4.0, "Pixel size of the global search.", label="Search pixel size", unit="Å", low=1, high=20, expert=True)
    candidates: int = param(8, "Candidates kept for refinement.", label="Candidates", low=1, high=64, expert=True)
    resolution_angst: float = param(0.0, "Finest resolution used; 0 takes twice the pixel size.", label="Resolution limit", unit="Å", low=0)
    atom_sigma_angst: float = param(0.0, "Width (standard deviation) of an atom's Gaussian; 0 takes it from element and B factor.",
                                    label="Atom width", unit="Å", low=0, high=20, expert=True)
    prior_sigma: float = param(0.0, "Standard deviation of a Gaussian prior on the amplitudes; 0 is no prior.", label="Amplitude prior", low=0, expert=True)
    phase_flipped: bool = shared.phase_flipped()
    ignore_ctf: bool = shared.ignore_ctf()
    invert_contrast: bool = shared.invert_contrast()
    batch: int = shared.image_batch()
    chunk: int = shared.image_chunk()


@dataclass
class ElasticTrainConfig(RunConfig):
    """Train a network that predicts pose, shift and mode amplitudes of a particle image.

    Writes ``model/`` (``weights.safetensors``, ``model.json``), ``learning.csv``, ``checkpoints/`` and ``figures/``.
    """

    modes: str = shared.modes()
    mode_numbers: List[int] = shared.mode_numbers(help="Modes to predict.")
    particles: str = param("", "Aligned particles (STAR): their box, pixel size, CTF and noise shape the simulation, and their labels are learned "
                           "when the source of labels says so.", path=True)
    datadir: str = shared.datadir()
    alignment: str = param("", "Result table (alignment.npz) with amplitudes of these particles.", path=True)
    labels: str = param("both", "What the network learns from: 'simulation' images drawn anew from the modes, 'particles' the aligned particles "
                        "(the paper's way), or 'both'.", label="Learn from", choices=("simulation", "particles", "both"))
    architecture: str = param("multi", "'multi': pose hypotheses with a probability each, shift, amplitudes with uncertainty; 'resnet34': the network of "
                              "Hamitouche & Jonic 2021, amplitudes only.", label="Network", choices=("multi", "resnet34"))
    hypotheses: int = param(8, "Pose hypotheses of the 'multi' network that prediction refines.", label="Pose hypotheses", low=1, high=32, expert=True)
    width: int = param(128, "Channels of the 'multi' network (a multiple of 8).", label="Width", low=16, high=1024, expert=True)
    network_pixel_angst: float = param(0.0, "Pixel size to which images are cropped in Fourier space for the network; 0 takes a twelfth of the "
                                       "particle's radius for 'multi' and the input's own for 'resnet34'.",
                                       label="Network pixel size", unit="Å", low=0, high=50, expert=True)
    amplitude_range: float = param(250.0, "Amplitudes of simulated images are uniform between minus and plus this.", label="Amplitude range", low=0)
    shift_range_angst: float = param(12.0, "Shifts of simulated images are uniform between minus and plus this.", label="Shift range", unit="Å", low=0)
    epochs: int = shared.epochs()
    images_per_epoch: int = param(20000, "Simulated images of an epoch.", label="Images per epoch", low=16)
    batch: int = shared.training_batch()
    learning_rate: float = shared.learning_rate(help="Largest learning rate; 0 takes the network's own: 0.002 for 'multi', 0.0001 for 'resnet34'.")
    weight_decay: float = shared.weight_decay(help="Weight decay.")
    validation_fraction: float = shared.validation_fraction(help="Part of the labelled particles that is kept for validation.")
    phase_flipped: bool = shared.phase_flipped()
    ignore_ctf: bool = shared.ignore_ctf()
    invert_contrast: bool = shared.invert_contrast()
    precision: str = shared.precision()
    checkpoint_steps: int = shared.checkpoint_steps()
    seed: int = shared.seed()


@dataclass
class ElasticPredictConfig(RunConfig):
    """Predict pose, shift and mode amplitudes of particle images with a trained network, and refine them.

    Writes ``alignment.npz`` (like elastic-align, with the network's own answer in ``network_*`` columns), ``particles.star`` and ``figures/``.
    """

    particles: str = shared.particles()
    datadir: str = shared.datadir()
    model: str = param("", "Folder of the trained model.", path=True)
    refine: bool = param(True, "Refine the network's answer by steps of the elastic alignment.", label="Refine?")
    refine_iterations: int = param(8, "Refinement steps.", label="Refinement steps", low=1, high=50)
    invert_contrast: bool = shared.invert_contrast()
    batch: int = shared.image_batch()
    chunk: int = shared.image_chunk(help="Images between two records on disk.")


@dataclass
class ElasticErrorsConfig(RunConfig):
    """Compare amplitudes, poses and shifts with the truth of a simulation.

    Writes ``errors.csv`` (one row a quantity: mean, median, 95th percentile, failures) and ``figures/``, and prints the table.
    """

    alignment: str = param("", "Result table to judge (alignment.npz).", path=True)
    truth: str = param("", "Truth of the simulation (truth.npz).", path=True)
    modes: str = shared.modes()
    solved_deg: float = param(6.0, "An image counts as solved below this pose error ...", unit="degrees", low=0)
    solved_rmsd_angst: float = param(0.6, "... and below this RMSD of the conformer.", unit="Å", low=0)


@dataclass
class ImportModesConfig(RunConfig):
    """Make ``modes.npz``, ``structure.pdb``, ``modes/vec.K``, ``modes.csv`` and ``modes.nmd`` from normal modes of another program.

    Weights and widths of the atoms are those of the structure, as in the command normal-modes.
    """

    structure: str = param("", "Structure that the modes belong to (PDB or mmCIF).", path=True)
    mode_files: List[str] = param([], "One NMD file (ProDy, NMWiz), one npz of ProDy's saveModel, one folder of ContinuousFlex with files vec.K, or a text "
                                  "file for each mode, three columns and one row an atom.", path=True)
    mode_numbers: List[int] = param([], "Numbers of the modes in text files, counted from 1, the six rigid ones included; of other files the modes to take, "
                                    "all when empty.", label="Mode numbers")
    collectivity_threshold: float = param(0.15, "Modes below this collectivity are kept in the set but marked as not selected.",
                                          label="Collectivity threshold", low=0, high=1)
