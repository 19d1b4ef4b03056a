"""Parameters of the simulation commands (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from .. import shared_parameters as shared
from ..config import RunConfig, param


@dataclass
class SimulateParticlesConfig(RunConfig):
    """Simulate particle images with known poses, shifts, CTF and conformations.

    Writes ``particles.star`` (with the true poses and CTF), ``particles.mrcs``, ``truth.npz`` (result table, one row an image:
    amplitudes, rotation, shift_angst, state, and the parameter of the curve), ``summary.json`` and ``figures/``.
    With modes, their atoms are projected, else the atoms of the structure without hydrogens and water.
    """

    structure: str = param("", "Atomic model (PDB or mmCIF) to project; give this or volumes.", path=True)
    modes: str = shared.modes(help="Normal modes (modes.npz of the normal-modes command) that deform the model.")
    volumes: List[str] = param([], "Maps to project instead of an atomic model; several maps are several states.", path=True)
    number: int = param(1000, "Number of images.", label="Number of images", low=1, high=100_000_000)
    box: int = param(128, "Side of the images.", label="Box size", unit="px", low=16, high=2048)
    pixel_size_angst: float = param(2.0, "Pixel size.", label="Pixel size", unit="Å", low=0.1, high=50)
    mode_numbers: List[int] = shared.mode_numbers(help="Modes that deform the model, counted from 1 (1-6 are rigid).")
    amplitude_law: str = param(
        "cube", "How amplitudes are drawn: 'cube' uniform and independent for each mode; 'curve' the law of Hamitouche & Jonic 2021 "
        "(q7 = -A r, q8 = A sin(pi r), q9 = A cos(pi r), r uniform in 0..1; needs three modes).",
        label="Amplitude law", choices=("cube", "curve"),
    )
    amplitude: float = param(200.0, "Largest amplitude A of a mode, for unit-norm eigenvectors over all atoms "
                             "(RMSD = amplitude / sqrt(number of atoms)).", label="Largest amplitude", low=0)
    angle_law: str = param("so3", "How orientations are drawn: 'so3' uniform over all rotations; 'euler' uniform Euler angles, "
                           "which crowds the poles.", label="Orientations", choices=("so3", "euler"))
    in_plane: bool = param(True, "Draw the in-plane rotation too; otherwise it is zero.", label="Random in-plane rotation?")
    shift_angst: float = param(10.0, "Shifts are uniform between minus and plus this, in x and in y.", label="Largest shift", unit="Å", low=0)
    snr: float = param(0.1, "var(signal) / var(noise) of each image, both over the whole image and after the CTF; 0 adds no noise.",
                       label="SNR", low=0)
    noise_model: str = param("white", "'white' noise after the CTF, or 'before_ctf' noise that goes through the CTF too "
                             "(Hamitouche & Jonic 2021).", label="Noise", choices=("white", "before_ctf"))
    apply_ctf: bool = param(True, "Apply the contrast transfer function.", label="Apply CTF?")
    phase_flip: bool = param(False, "Flip the phases of the finished images, as some import pipelines do.", label="Phase flipped?")
    defocus_min_angst: float = param(5000.0, "Smallest defocus.", label="Smallest defocus", unit="Å", low=0)
    defocus_max_angst: float = param(15000.0, "Largest defocus.", label="Largest defocus", unit="Å", low=0)
    astigmatism_angst: float = param(300.0, "Largest defocusU - defocusV.", label="Largest astigmatism", unit="Å", low=0)
    voltage_kv: float = param(300.0, "Acceleration voltage.", label="Voltage", unit="kV", low=50, high=1000)
    cs_mm: float = param(2.7, "Spherical aberration.", label="Spherical aberration", unit="mm", low=0)
    amplitude_contrast: float = param(0.1, "Amplitude contrast.", label="Amplitude contrast", low=0, high=1)
    seed: int = param(1, "Seed of all random draws; image i of a seed is the same whatever the number of images.", low=0, high=2e9, label="Random seed")


@dataclass
class SubtomogramSimulation:
    """What simulated subtomograms are of and what they go through: of the command that writes them, and of training that draws them as it needs them."""

    structures: List[str] = param([], "Atomic models (PDB or mmCIF), each a class; without hydrogens and water.", path=True)
    volumes: List[str] = param([], "Maps (MRC), each a class; density white.", path=True)
    names: List[str] = param([], "Names of the classes: structures first, then maps; empty takes the names of the files.", label="Class names")
    null_class: bool = param(False, "Add a class 'NULL' of noise alone, with the mean variance of the noise of the others.", label="Class of noise alone?")
    per_class: int = param(1000, "Subtomograms of each class.", label="Subtomograms per class", low=1, high=10_000_000)
    box: int = param(40, "Side of the subtomograms.", label="Box size", unit="voxels", low=16, high=256)
    pixel_size_angst: float = param(9.2, "Voxel size.", label="Voxel size", unit="Å", low=0.5, high=100)
    map_floor: float = param(0.02, "Density of maps below this part of their maximum is set to zero, so that their background makes no picture of its own.",
                             label="Background of maps", low=0, high=0.9, expert=True)
    tilt_min_deg: float = param(-60.0, "First tilt.", label="First tilt", unit="degrees", low=-90, high=89)
    tilt_max_deg: float = param(60.0, "Last tilt.", label="Last tilt", unit="degrees", low=-89, high=90)
    tilt_step_deg: float = param(1.0, "Step between tilts.", label="Tilt step", unit="degrees", low=0.1, high=20)
    tilt_spread_deg: float = param(0.0, "Each subtomogram's tilt range is narrowed at both ends by up to this, as in sets from many tilt series.", label="Spread of tilt ranges",
                                   unit="degrees", low=0, high=60, expert=True)
    snr: float = param(0.1, "var(signal) / var(noise) of the reconstructions, both over the whole box; 0 adds no noise.", label="SNR", low=0, high=1e6)
    route: str = param("shaped", "'shaped': noise is shaped in 3D as reconstruction from tilts shapes it (quick); 'tilts': every tilt is projected, noise is added and the tilts "
                       "are put back by direct Fourier inversion.", label="Route", choices=("shaped", "tilts"))
    noise_before_ctf: float = param(0.5, "Part of the noise's variance that goes through the CTF (structural noise); the rest is the detector's.", label="Noise before the CTF",
                                    low=0, high=1, expert=True)
    noise_colour: str = param("inversion", "Power of the noise in the reconstruction: 'inversion' as direct Fourier inversion of white images leaves it, which grows with the distance of "
                              "the slices from one another; 'flat' equal at all measured frequencies; 'pink' falling with one over the frequency.",
                              label="Noise colour", choices=("inversion", "flat", "pink"), expert=True)
    noise_scale: str = param("particle", "What the SNR refers to: 'particle' the variance of each subtomogram's own signal; 'set' the mean of all classes, so that all have noise of "
                             "the same strength and large particles stand out more.", label="Noise scale", choices=("particle", "set"), expert=True)
    shift_angst: float = param(18.4, "Shifts are uniform between minus and plus this, along x, y and z (the default is two voxels).", label="Largest shift", unit="Å", low=0)
    defocus_angst: float = param(50000.0, "Defocus (positive is underfocus).", label="Defocus", unit="Å", low=0, high=200000)
    defocus_spread_angst: float = param(0.0, "Each subtomogram's defocus differs by up to this.", label="Spread of defocus", unit="Å", low=0, high=100000, expert=True)
    voltage_kv: float = param(300.0, "Acceleration voltage.", label="Voltage", unit="kV", low=50, high=1000)
    cs_mm: float = param(2.0, "Spherical aberration.", label="Spherical aberration", unit="mm", low=0, high=20)
    amplitude_contrast: float = param(0.0, "Amplitude contrast (0 in the paper's simulation, so that the zero frequency is lost).", label="Amplitude contrast", low=0, high=1)
    apply_ctf: bool = param(True, "Apply the contrast transfer function, uncorrected.", label="Apply CTF?", expert=True)
    mtf: str = param("sinc", "Detector's transfer of signal and noise: 'sinc' sin(pi w / 2) / (pi w / 2), w the part of Nyquist; 'none'.", label="Detector MTF",
                     choices=("sinc", "none"), expert=True)
    b_factor_angst2: float = param(0.0, "Envelope exp(-B k^2 / 4) of all that passes the microscope.", label="Envelope B factor", unit="Å²", low=0, high=100000, expert=True)


@dataclass
class SubtomogramSimulateConfig(SubtomogramSimulation, RunConfig):
    """Simulate subtomograms with known class, pose and signal-to-noise ratio.

    Each structure and each map is a class. The density is turned and moved at random, seen through the microscope and the missing wedge, and noise is added.
    Writes ``subtomograms.star`` (true classes, poses, tilt ranges), ``subtomograms/`` (one MRC each), ``truth.npz`` (result table: class, rotation, shift_angst,
    tilt_deg, signal_variance, noise_variance; ``class_names`` in its notes, number 1 first), ``summary.json`` and ``figures/``.
    """

    batch: int = shared.subtomogram_batch(default=32)
    seed: int = param(1, "Seed; subtomogram i of a seed is the same whatever else is made.", low=0, high=2e9, label="Random seed")
