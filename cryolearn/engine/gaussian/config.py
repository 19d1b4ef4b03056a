"""Parameters of the Gaussian-model commands (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from .. import shared_parameters as shared
from ..config import RunConfig, param


@dataclass
class GaussianHeterogeneityConfig(RunConfig):
    """Conformation or composition of each particle by a Gaussian model of the consensus map (after Chen 2018).

    Writes ``motion.npz`` (the model and how it moves), ``conformations.npz`` (result table), ``eigen_motions.npz``, ``gaussians.npz``,
    ``landscape.csv``, ``particles.star``, ``maps/`` and ``figures/``.
    """

    particles: str = shared.images_or_tilts(help="Particles with poses (STAR of RELION, or .cs of cryoSPARC), or tilt-series particles of RELION 5 or WarpTools (their optimisation set or STAR).")
    datadir: str = shared.datadir()
    volume: str = param("", "Consensus map of the particles' box and pixel size.", path=True)
    gaussians: str = param("", "Gaussians to start from (gaussians.npz of volume-to-gaussians); without it they are made from the map.", path=True)
    mask: str = param("", "Mask of the particle in the map; without it one is made from the map.", path=True)
    focus: str = param("", "Mask of the region to study: only Gaussians inside move. Without it all may.", path=True)
    focus_gaussians: List[int] = param([], "Numbers (from 1) of the Gaussians that may move, instead of a focus mask.", label="Gaussians in focus")
    ignore_ctf: bool = param(False, "Take the images as if there were no CTF.", label="Ignore the CTF?")
    phase_flipped: bool = param(False, "The images are phase flipped already.", label="Phase flipped?")
    invert_contrast: bool = param(False, "Turn the contrast of the images (particles must be white).", label="Invert contrast?")
    vary: str = param("conformation", "What differs between particles: 'conformation' moves Gaussians, 'composition' changes their amplitudes, "
                      "'both' does both on one path.", label="What varies", choices=("conformation", "composition", "both"))
    method: str = param(
        "curve", "'curve': one curved trajectory by expectation-maximisation; 'linear': several linear motions (probabilistic PCA), for small motions; "
        "'scan': best place on the first eigen-motion; 'slides': one gradient step along it, as Chen 2018; 'autoencoder': a network, kept only when it explains "
        "held-out particles better than the curve.", label="Method", choices=("curve", "linear", "scan", "slides", "autoencoder"))
    resolutions_angst: List[float] = param([], "Resolutions of the rounds, from coarse to fine; each round starts from the one before. Empty takes one round at six pixels.",
                                           label="Resolutions", unit="Å")
    number: int = param(0, "Gaussians of the last round; 0 takes one for each cube of 0.73 resolutions.", label="Number of Gaussians", low=0, high=100_000)
    path: str = param("open", "'open': from one end to another; 'closed': a circle; 'states': separate states without order.", label="Path",
                      choices=("open", "closed", "states"))
    states: int = param(21, "Places along the path at which each particle is compared (or number of separate states).", label="Places along the path", low=2, high=200)
    degree: int = param(3, "Bends of the path: degree of the polynomials, or number of harmonics of a closed path.", label="Degree", low=1, high=20)
    anchors: int = param(32, "Points whose displacements carry the Gaussians with them; 0 lets each Gaussian move on its own.", label="Anchors", low=0, high=10_000, expert=True)
    components: int = param(4, "Eigen-motions that are reported, and latents of the methods 'linear' and 'autoencoder'.", label="Components", low=1, high=50)
    rounds: int = param(12, "Rounds of expectation-maximisation at each resolution.", label="Rounds", low=1, high=500, expert=True)
    keep_rigid: bool = param(True, "Keep rigid-body motion of the whole particle in the eigen-motions, which shows most when the poses are good. Without it "
                             "pose errors do not look like conformations; rounds of pose refinement always leave it out.",
                             label="Keep rigid motion?", expert=True)
    score: str = param("likelihood", "Score of gradients and scans: 'likelihood', rings weighted by CTF and noise, or 'frc', mean Fourier ring correlation, as Chen 2018 "
                       "(the method 'slides' always takes it).", label="Score", choices=("likelihood", "frc"), expert=True)
    coarse_angst: float = param(200.0, "Coarsest detail that is compared.", label="Coarsest detail", unit="Å", low=20, expert=True)
    null_runs: int = param(1, "Times that shuffled residuals are analysed, to tell eigen-motions from noise.", label="Null runs", low=1, high=100, expert=True)
    refine_poses: int = param(0, "Rounds in which orientations and shifts are refined in alternation with the conformations.", label="Pose rounds", low=0, high=20)
    pose_range_deg: float = param(6.0, "Largest change of an orientation in one pose round.", label="Largest rotation", unit="°", low=0.1, high=30)
    pose_range_angst: float = param(6.0, "Largest change of a shift in one pose round.", label="Largest shift", unit="Å", low=0.1, high=100)
    symmetry: str = param("C1", "Point group of the consensus map. Each particle is then taken once for each of its subunits, the focus says where the first one is, "
                          "and each subunit has a conformation of its own.", label="Symmetry")
    halves: bool = param(True, "Repeat on each half set alone and report how well the two agree.", label="Check with half sets?")
    report_still: bool = param(False, "Report path, free energy and maps also where held-out particles show no motion.", label="Report a path without motion?",
                               expert=True)
    maps: int = param(5, "Maps reconstructed along the path; 0 makes none.", label="Maps along the path", low=0, high=200)
    seed: int = param(1, "Seed.", low=0, high=2e9, expert=True)
    batch: int = param(500, "Particles at a time; it changes memory and speed, not the result.", label="Batch size", low=1, high=100_000, expert=True,
                       affects_result=False)
