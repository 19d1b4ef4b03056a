"""Parameters of the commands that work on maps and images (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass

from .. import shared_parameters as shared
from ..config import RunConfig, param


@dataclass
class VolumeToGaussiansConfig(RunConfig):
    """Represent a map by Gaussians (pseudo-atoms).

    Writes ``gaussians.pdb`` and ``gaussians.cif`` (occupancy = weight relative to the mean, B factor = 8 pi^2 sigma^2, which
    the PDB format limits to 999.99 Å^2), ``gaussians.npz`` (result table), ``rendered.mrc``, ``fsc.csv``, ``summary.json`` and
    ``figures/``.
    """

    volume: str = param("", "Map (MRC).", path=True)
    mask: str = param("", "Mask (MRC); without it the map is thresholded.", path=True)
    threshold: float = param(0.0, "Density threshold; 0 finds it from the map's histogram.", label="Threshold", low=0)
    resolution_angst: float = param(0.0, "Resolution to represent; 0 takes three times the pixel size.", label="Resolution", unit="Å", low=0)
    number: int = param(0, "Number of Gaussians; 0 takes as many as the resolution asks for.", label="Number of Gaussians", low=0, high=1_000_000)
    spacing: float = param(0.6, "Distance of neighbouring Gaussians, in resolutions, when their number is not given: 0.6 represents the map, 0.73 suits Gaussians that are to "
                           "move with noisy images.", label="Spacing", low=0.3, high=3, expert=True)
    iterations: int = param(200, "Steps of the fit.", label="Steps", low=1, high=100000, expert=True)
    seed: int = shared.seed()


@dataclass
class ReconstructConfig(RunConfig):
    """Reconstruct maps with half maps and FSC from aligned particles, one for each class when classes are given.

    Writes for each class K (``class_001`` ...; ``map`` without classes) ``K.mrc``, ``K_half1.mrc``, ``K_half2.mrc``, ``K_fsc.csv``,
    and ``reconstructions.json`` and ``figures/``.
    """

    particles: str = shared.images_or_tilts(help="Aligned particles (STAR of RELION, or .cs of cryoSPARC), or tilt-series particles of RELION 5 or WarpTools (their optimisation set or STAR).")
    datadir: str = shared.datadir()
    classes: str = param("", "Result table with columns id and class (clusters.npz); without it all particles make one map.", path=True)
    use_ctf: bool = param(True, "Correct for the CTF.", label="Correct CTF?")
    phase_flipped: bool = shared.phase_flipped()
    invert_contrast: bool = shared.invert_contrast()
    padding: float = param(2.0, "Padding of the Fourier volume.", label="Padding", low=1, high=4, expert=True)
    mask: str = param("", "Mask for the FSC (MRC); without it a soft sphere.", path=True)
    mask_radius_angst: float = param(0.0, "Radius of the spherical mask; 0 takes 45 % of the box.", label="Mask radius", unit="Å", low=0)
    wiener: str = param("fsc", "Regularisation: 'fsc' by the signal-to-noise ratio of each shell from the half maps, 'constant' by a constant.",
                        label="Wiener filter", choices=("fsc", "constant"), expert=True)
    symmetry: str = shared.symmetry()
    batch: int = shared.image_batch(default=256)


@dataclass
class ConvertParticlesConfig(RunConfig):
    """Particles of RELION, cryoSPARC or Xmipp for RELION and cryoSPARC.

    Writes ``particles.star`` and ``particles.cs``, which name the original images, and ``summary.json``. Of tilt-series particles ``particles.star`` is a set
    of RELION 5; ``tilt_images.star`` and ``particles.cs`` have a single particle for each tilt image.
    """

    particles: str = shared.particles()
    datadir: str = shared.datadir()


@dataclass
class FscConfig(RunConfig):
    """Fourier shell correlation of two maps.

    Writes ``fsc.csv`` and ``figures/fsc.png`` and prints the resolution.
    """

    map1: str = param("", "First map (MRC).", path=True)
    map2: str = param("", "Second map (MRC).", path=True)
    mask: str = param("", "Mask (MRC).", path=True)
    threshold: float = param(0.143, "Where the curve's first crossing is read: 0.143 for half maps, 0.5 for a map against the truth.", low=0.01, high=0.99)
