"""Parameters of the simulation commands (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from ..config import RunConfig, param


@dataclass
class SimulateParticlesConfig(RunConfig):
    """Simulate particle images with known poses, shifts, CTF and conformations.

    Writes ``particles.star`` (with the true poses and CTF), ``particles.mrcs``, ``truth.npz`` (result table, one row an image:
    amplitudes, rotation, shift_angst, state, and the parameter of the curve), ``summary.json`` and ``figures/``.
    With modes, their atoms are projected, else the atoms of the structure without hydrogens and water.
    """

    structure: str = param("", "Atomic model (PDB or mmCIF) to project; give this or volumes.", path=True)
    modes: str = param("", "Normal modes (modes.npz of the normal-modes command) that deform the model.", path=True)
    volumes: List[str] = param([], "Maps to project instead of an atomic model; several maps are several states.", path=True)
    number: int = param(1000, "Number of images.", label="Number of images", low=1, high=100_000_000)
    box: int = param(128, "Side of the images.", label="Box size", unit="px", low=16, high=2048)
    pixel_size_angst: float = param(2.0, "Pixel size.", label="Pixel size", unit="Å", low=0.1, high=50)
    mode_numbers: List[int] = param([7, 8, 9], "Modes that deform the model, counted from 1 (1-6 are rigid).", label="Modes")
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
    seed: int = param(1, "Seed of all random draws; image i of a seed is the same whatever the number of images.", label="Random seed")
