"""Parameters of the orientation commands (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from .. import shared_parameters as shared
from ..config import RunConfig, param


@dataclass
class DistanceTrainConfig(RunConfig):
    """Train a network that tells the distance between the orientations of two projections.

    Writes ``model/`` (``weights.safetensors``, ``model.json``), ``validation.npz`` (true and learned distances of pairs), ``learning.csv``,
    ``summary.json``, ``checkpoints/`` and ``figures/``.
    """

    volumes: List[str] = param([], "Maps to project (MRC); all must have positive density.", path=True)
    structures: List[str] = param([], "Atomic models to project (PDB or mmCIF).", path=True)
    particles: str = param("", "Particles (STAR). Learning from 'simulation': particles like those that will be recovered, aligned or not, whose box, pixel size, "
                           "CTF and noise shape the simulation. Learning from 'particles': aligned particles.", path=True)
    datadir: str = shared.datadir()
    source: str = param("simulation", "'simulation': images drawn anew from maps and models in every step; 'particles': aligned particle images.",
                        label="Learn from", choices=("simulation", "particles"))
    preset: str = param("exact", "'exact': features whose inner product is the orientations' own (default); 'paper': the network, read-out and loss of Banjac et al. "
                        "2021; 'views': sets of views seen together, for proteins that the network was not trained on.",
                        label="Network", choices=("exact", "paper", "views"))
    symmetry: str = shared.symmetry(help="Point group of the particle (Cn, Dn, T, O, I): the distance is then the smallest one over the group.")
    network_pixel_angst: float = param(0.0, "Pixel size to which images are cropped in Fourier space for the network; 0 lets the network's side decide.",
                                       label="Network pixel size", unit="Å", low=0, high=50, expert=True)
    network_size_px: int = param(64, "Side of the network's input; the preset 'paper' wants at least 128.", label="Network input side", unit="pixels", low=32, high=512,
                                 expert=True)
    width: int = param(64, "Channels of the first stage of the presets 'exact' and 'views' (a multiple of 8).", label="Width", low=8, high=512, expert=True)
    views: int = param(32, "Views that the preset 'views' sees together (a multiple of 16).", label="Views together", low=16, high=64, expert=True)
    box_px: int = param(0, "Side of the simulated images when no particles are given; 0 takes the largest map's, or what holds the largest model.",
                        label="Box", unit="pixels", low=0, high=2048)
    pixel_size_angst: float = param(0.0, "Pixel size of the simulated images when no particles are given; 0 takes the first map's (3 Å for atomic models).",
                                    label="Pixel size", unit="Å", low=0, high=20)
    snr: float = param(0.0, "Signal-to-noise ratio of simulated images, over the whole image; 0 measures it on the particles, and makes images without noise when no "
                       "particles are given.", label="SNR", low=0, high=1000)
    snr_factor: float = param(1.5, "The SNR of each image is drawn between the one above divided and multiplied by this.", label="SNR spread", low=1, high=100, expert=True)
    shift_range_angst: float = param(6.0, "Shifts of simulated images are uniform between minus and plus this.", label="Shift range", unit="Å", low=0, high=100)
    defocus_low_angst: float = param(0.0, "Smallest defocus of simulated images when no particles are given; 0 simulates no CTF.", label="Smallest defocus", unit="Å",
                                     low=0, high=100000, expert=True)
    defocus_high_angst: float = param(0.0, "Largest defocus of simulated images when no particles are given.", label="Largest defocus", unit="Å", low=0, high=100000,
                                      expert=True)
    epochs: int = shared.epochs()
    images_per_epoch: int = param(20000, "Images of an epoch.", label="Images per epoch", low=16)
    batch: int = param(64, "Images of one optimiser step, over all processes (a multiple of 16).", label="Batch", low=16, high=65536)
    learning_rate: float = shared.learning_rate(help="Largest learning rate; 0 takes the network's own: 0.002, and 0.001 for 'paper'.")
    weight_decay: float = shared.weight_decay()
    validation_fraction: float = shared.validation_fraction(help="Part of the aligned particles that is kept for validation.")
    phase_flipped: bool = shared.phase_flipped(help="The particles are phase flipped already.")
    ignore_ctf: bool = shared.ignore_ctf(help="The particles carry no CTF.")
    invert_contrast: bool = shared.invert_contrast()
    precision: str = shared.precision()
    checkpoint_steps: int = shared.checkpoint_steps()
    seed: int = shared.seed()


@dataclass
class RecoverOrientationsConfig(RunConfig):
    """Find the orientations of particle images without any reference, from the distances that a network tells between them.

    Writes ``orientations.npz`` (result table, every input id is in it), ``particles.star``, ``map.mrc``, ``half1.mrc``, ``half2.mrc``, ``fsc.csv``,
    ``distances.npz``, ``summary.json`` and ``figures/``.
    """

    particles: str = shared.particles()
    datadir: str = shared.datadir()
    model: str = param("", "Folder of the trained distance network.", path=True)
    start: str = param("network", "'network' starts from the learned distances; 'random' starts from random orientations and needs no network: what matching alone "
                       "can do, to compare with.", label="Start", choices=("network", "random"), expert=True)
    symmetry: str = param("", "Point group of the particle; empty takes the network's.", label="Symmetry")
    landmarks: int = param(1000, "Images to which the distances of all others are used; with fewer images than this all pairs are.", label="Landmarks",
                           low=50, high=20000, expert=True)
    restarts: int = param(25, "Starts of the recovery from distances; the one that fits best is kept.", label="Restarts", low=1, high=1000, expert=True)
    gauge_candidates: int = param(3000, "Detector-side rotations tried to find the one that makes common lines agree.", label="Detector-side rotations", low=100,
                                  high=100000, expert=True)
    rounds: int = param(6, "Rounds of projection matching against the images' own reconstruction, half sets apart; 0 reconstructs from the learned distances alone.",
                        label="Matching rounds", low=0, high=50)
    second_start: bool = param(True, "When learned distances turn out wrong (a network that does not know such a particle), match from random orientations too, and keep "
                               "the orientations whose half maps agree better.", label="Second start from random orientations?", expert=True)
    matching_resolution_angst: float = param(0.0, "Finest resolution of projection matching; 0 takes three pixels.", label="Matching resolution", unit="Å", low=0, high=100)
    shift_range_angst: float = param(12.0, "Largest shift that matching tries.", label="Shift range", unit="Å", low=0, high=200)
    particle_diameter_angst: float = param(0.0, "Diameter of the particle, for the mask; 0 takes 80 % of the box.", label="Particle diameter", unit="Å", low=0, high=5000)
    phase_flipped: bool = shared.phase_flipped()
    ignore_ctf: bool = shared.ignore_ctf()
    invert_contrast: bool = shared.invert_contrast()
    batch: int = shared.image_batch(default=256)
    chunk: int = shared.image_chunk(default=1024)
    seed: int = shared.seed()


@dataclass
class CompareOrientationsConfig(RunConfig):
    """Align one set of orientations to another of the same particles and tell the errors.

    Writes ``errors.npz`` (result table), ``errors.csv`` (mean, median, 95th percentile of each kind of error), ``aligned.star``, ``summary.json`` and ``figures/``.
    """

    reference: str = param("", "Particles (STAR) with the orientations to compare with.", path=True)
    particles: str = shared.particles(help="Particles (STAR) with the orientations to judge; joined with the reference by image name.")
    datadir: str = shared.datadir()
    symmetry: str = shared.symmetry(help="Point group of the particle: errors are the smallest over the group.")
    alignment: str = param("physical", "What may be aligned: 'physical' what images leave free (a rotation of the particle and its handedness), 'o4' all that "
                           "distances leave free (also a rotation on the detector's side and transposition).", label="Alignment", choices=("physical", "o4"))
