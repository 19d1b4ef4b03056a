"""What is random about a simulated particle: pose, shift, defocus, conformation and noise.

Particle i of a seed is the same whatever the number of particles and the order in which they are made: the numbers of a
block of particles come from a generator of (seed, block), the noise of a particle from one of (seed, particle).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InputError
from .config import SimulateParticlesConfig

_BLOCK = 1024
_SLOTS = 16  # uniform numbers a particle for all but its amplitudes; those come behind, so that modes move nothing else
_PARAMETERS, _NOISE = 1, 2  # streams of a seed


@dataclass
class Draws:
    """Random quantities of n particles.

    Attributes
    ----------
    amplitudes : (n, K)
    curve : (n,)
        The parameter r of the amplitude law 'curve', 0 to 1.
    angles_deg : (n, 3)
        rot, tilt, psi.
    shift_angst : (n, 2)
        x, y by which the picture is moved.
    state : (n,) int
        Which of the maps, from 1; 1 for an atomic model.
    defocus_u_angst, defocus_v_angst, defocus_angle_deg : (n,)
    """

    amplitudes: NDArray[np.float64]
    curve: NDArray[np.float64]
    angles_deg: NDArray[np.float64]
    shift_angst: NDArray[np.float64]
    state: NDArray[np.int64]
    defocus_u_angst: NDArray[np.float64]
    defocus_v_angst: NDArray[np.float64]
    defocus_angle_deg: NDArray[np.float64]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Draws:
        return Draws(*(getattr(self, item.name)[rows] for item in fields(self)))


def draw_particles(config: SimulateParticlesConfig, start: int, stop: int, modes: int, states: int) -> Draws:
    """Random quantities of the particles ``start`` to ``stop`` (counted from 0) by the laws that ``config`` names.

    Parameters
    ----------
    config
        Laws and their parameters, and the seed.
    start, stop
        First particle, and the one after the last.
    modes, states : int
        Number of modes that deform the model (0: none) and of states (maps).
    """
    blocks = [
        _draw_block(config, block, modes, states)[max(start - block * _BLOCK, 0) : stop - block * _BLOCK]
        for block in range(start // _BLOCK, -(-stop // _BLOCK))
    ]
    return Draws(*(np.concatenate([getattr(block, item.name) for block in blocks]) for item in fields(Draws)))


def _draw_block(config: SimulateParticlesConfig, block: int, modes: int, states: int) -> Draws:
    seed = np.random.SeedSequence(config.seed, spawn_key=(_PARAMETERS, block))
    uniform = np.random.default_rng(seed).random((_BLOCK, _SLOTS))
    rot, tilt, psi, x, y, state, defocus, astigmatism, axis, curve = uniform[:, :10].T
    if config.angle_law == "so3":
        tilt_deg = np.rad2deg(np.arccos(1 - 2 * tilt))
    else:
        tilt_deg = 180 * tilt
    mean = config.defocus_min_angst + defocus * (config.defocus_max_angst - config.defocus_min_angst)
    half = astigmatism * config.astigmatism_angst / 2
    return Draws(
        amplitudes=_amplitudes(config, seed.spawn(1)[0], curve, modes),
        curve=curve,
        angles_deg=np.stack((360 * rot - 180, tilt_deg, (360 * psi - 180) * config.in_plane), axis=1),
        shift_angst=config.shift_angst * (2 * np.stack((x, y), axis=1) - 1),
        state=1 + np.floor(state * states).astype(np.int64),
        defocus_u_angst=mean + half, defocus_v_angst=mean - half, defocus_angle_deg=180 * axis,
    )


def _amplitudes(config: SimulateParticlesConfig, seed: np.random.SeedSequence, curve: NDArray[np.float64],
                modes: int) -> NDArray[np.float64]:
    if modes == 0:
        return np.zeros((len(curve), 0))
    if config.amplitude_law == "curve":
        if modes != 3:
            raise InputError(f"The amplitude law 'curve' needs three modes, but mode_numbers names {modes}.")
        angle = np.pi * curve
        return config.amplitude * np.stack((-curve, np.sin(angle), np.cos(angle)), axis=1)
    return config.amplitude * (2 * np.random.default_rng(seed).random((len(curve), modes)) - 1)


def white_noise(seed: int, particles: NDArray[np.int64], box: int) -> NDArray[np.float32]:
    """Normal noise (n, box, box) of variance 1, one generator a particle (counted from 0)."""
    noise = np.empty((len(particles), box, box), np.float32)
    for row, particle in enumerate(particles):
        stream = np.random.SeedSequence(seed, spawn_key=(_NOISE, int(particle)))
        np.random.default_rng(stream).standard_normal(dtype=np.float32, out=noise[row])
    return noise
