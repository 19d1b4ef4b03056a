"""What is projected in a simulation: a flexible atomic model, or maps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..exceptions import InputError
from ..imaging.density_maps import read_density
from ..imaging.fourier import phase_shift, rfft2_centred
from ..imaging.gaussians import render_gaussians_2d
from ..imaging.slices import VolumeProjector
from ..io.maps import Map
from ..io.modes import Modes, make_modes, read_modes
from ..io.structures import atom_sigmas, atom_weights, read_dry_atoms, read_structure
from .config import SimulateParticlesConfig
from .resample import centred_window, fit_map

_OVERSAMPLING = 2
_CUT_SIGMAS = 5.0
_SAME_ATOM_ANGST = 0.05
_BUDGET_BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}


class Source(ABC):
    """Something that gives projections.

    Attributes
    ----------
    states, modes : int
        Number of maps (1 for an atomic model), and of modes that deform it.
    batch : int
        Images that :meth:`project` makes at a time; always this many, so that the arithmetic of an image never depends
        on how many are made.
    """

    states = 1
    modes = 0
    batch = 16

    @abstractmethod
    def project(self, rotation: Tensor, shift_angst: Tensor, amplitudes: Tensor, state: int) -> Tensor:
        """Centred half transforms (b, box, box // 2 + 1) of the projections.

        Parameters
        ----------
        rotation, shift_angst, amplitudes
            (b, 3, 3), (b, 2) in Å, (b, K).
        state
            Which map, from 1; the same for the whole batch.
        """


class AtomSource(Source):
    """Projections of atoms as Gaussians, displaced along normal modes.

    The Gaussians are drawn at half the pixel size, broadened to at least one such sample (so that nothing aliases into the
    band of the image: exp(-2 pi^2 (1 - 2 k step)) < 1e-4 at the image's Nyquist), cut to the image's band and sharpened back.

    Parameters
    ----------
    model : Modes
        Atoms with the modes that deform them.
    box, pixel_size_angst : int, float
        Images to make.
    amplitude, shift_angst : float
        Largest amplitude of a mode and largest shift along an axis; atoms are drawn in a window that holds all they reach.
    """

    def __init__(self, model: Modes, box: int, pixel_size_angst: float, device: torch.device, amplitude: float = 0.0,
                 shift_angst: float = 0.0) -> None:
        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=device)

        self.box, self.pixel_size_angst, self.modes = box, pixel_size_angst, len(model)
        self._centred, self._vectors, self._weights = tensor(model.centred), tensor(model.eigenvectors), tensor(model.weights)
        self._step = pixel_size_angst / _OVERSAMPLING
        variance = tensor(model.sigma_angst) ** 2
        broadening = max(0.0, self._step**2 - float(variance.min()))
        self._sigma = (variance + broadening).sqrt()
        ky = torch.fft.fftfreq(box, pixel_size_angst, device=device)[:, None]
        kx = torch.fft.rfftfreq(box, pixel_size_angst, device=device)
        self._sharpen = torch.exp(2 * math.pi**2 * broadening * (ky**2 + kx**2)) * self._step**2 / pixel_size_angst**2
        if box % 2 == 0:  # Nyquist has no sign, so it cannot be shifted
            self._sharpen[box // 2] = 0
            self._sharpen[:, -1] = 0
        reach = self._centred.norm(dim=1) + amplitude * self._vectors.norm(dim=2).sum(dim=0)
        window = 2 * math.ceil((float((reach + _CUT_SIGMAS * self._sigma).max()) + shift_angst) / self._step + 1)
        fine = self._window = min(window, _OVERSAMPLING * box)
        budget = _BUDGET_BYTES[device.type]
        self._atoms_at_a_time = max(1, min(len(self._weights), budget // (24 * fine)))
        # three copies of both factors while they are made, and the fine image with its transform
        self.batch = int(np.clip(budget // (24 * self._atoms_at_a_time * fine + 24 * (_OVERSAMPLING * box) ** 2), 1, 16))

    @property
    def radius_angst(self) -> float:
        """Distance of the outermost atom from the centre."""
        return float(self._centred.norm(dim=1).max())

    def project(self, rotation: Tensor, shift_angst: Tensor, amplitudes: Tensor, state: int = 1) -> Tensor:
        """Projections of the deformed atoms."""
        places = self._centred.expand(len(rotation), -1, -1)
        if self.modes:
            places = places + torch.einsum("bk,kni->bni", amplitudes, self._vectors)
        seen = (places @ rotation.transpose(1, 2))[..., :2] + shift_angst[:, None]
        fine, window = _OVERSAMPLING * self.box, self._window
        image = seen.new_zeros(len(seen), window, window)
        for start in range(0, len(self._weights), self._atoms_at_a_time):
            part = slice(start, start + self._atoms_at_a_time)
            image += render_gaussians_2d(seen[:, part], self._weights[part], self._sigma[part], window, self._step)
        transform = rfft2_centred(centred_window(image, (fine, fine)))
        low, high = (self.box + 1) // 2, self.box // 2
        return torch.cat((transform[:, :low, : high + 1], transform[:, fine - high :, : high + 1]), dim=1) * self._sharpen


class VolumeSource(Source):
    """Projections of maps by Fourier slices; as many padded transforms are kept as fit the memory budget."""

    def __init__(self, paths: list[str], box: int, pixel_size_angst: float, device: torch.device) -> None:
        self.paths, self.box, self.pixel_size_angst, self.device = paths, box, pixel_size_angst, device
        self.states = len(paths)
        self._projectors: OrderedDict[int, VolumeProjector] = OrderedDict()
        self._keep = max(1, (8 * _BUDGET_BYTES[device.type]) // (4 * (2 * box) ** 3 * 2))
        for path in paths:
            _check_cube(path, read_density(path))

    def project(self, rotation: Tensor, shift_angst: Tensor, amplitudes: Tensor, state: int = 1) -> Tensor:
        """Projections of the map of a state."""
        transform = self._projector(state).project(rotation)
        return transform * phase_shift(shift_angst / self.pixel_size_angst, self.box)

    def _projector(self, state: int) -> VolumeProjector:
        if state not in self._projectors:
            while len(self._projectors) >= self._keep:
                self._projectors.popitem(last=False)
            data = fit_map(read_density(self.paths[state - 1]), self.box, self.pixel_size_angst)
            self._projectors[state] = VolumeProjector(data.to(self.device))
        self._projectors.move_to_end(state)
        return self._projectors[state]


def open_source(config: SimulateParticlesConfig, device: torch.device) -> Source:
    """What ``config`` asks to project.

    An atomic model without modes is taken without hydrogens and water, centred on its centroid. With modes, the atoms and
    their widths are those of the modes.

    Raises
    ------
    InputError
        when both or none of model and maps are given, modes and structure do not belong together, or the model does not
        fit the box.
    """
    atomic = bool(config.structure or config.modes)
    if atomic == bool(config.volumes):
        raise InputError("Give either an atomic model (structure, modes) or volumes to project, not both and not none.")
    if not atomic:
        return VolumeSource(list(config.volumes), config.box, config.pixel_size_angst, device)
    source = AtomSource(_model(config), config.box, config.pixel_size_angst, device, config.amplitude, config.shift_angst)
    half = config.box * config.pixel_size_angst / 2
    if source.radius_angst > half:
        raise InputError(
            f"The model reaches {source.radius_angst:.0f} Å from its centre, but images of {config.box} px at "
            f"{config.pixel_size_angst:g} Å only {half:.0f} Å: choose a larger box."
        )
    return source


def _model(config: SimulateParticlesConfig) -> Modes:
    if not config.modes:
        atoms = read_dry_atoms(config.structure)
        none = np.zeros((0, len(atoms), 3))
        return make_modes(atoms.coordinates, none, [], weights=atom_weights(atoms), sigma_angst=atom_sigmas(atoms))
    modes = read_modes(config.modes).select(config.mode_numbers)
    if config.structure:
        distance, _ = cKDTree(read_structure(config.structure, quiet=True).coordinates).query(modes.coordinates)
        if distance.max() > _SAME_ATOM_ANGST:
            raise InputError(
                f"The modes '{config.modes}' do not belong to the structure '{config.structure}': an atom of theirs is "
                f"{distance.max():.2f} Å from any of its atoms."
            )
    return modes


def _check_cube(path: str, volume: Map) -> None:
    if len(set(volume.data.shape)) != 1:
        raise InputError(f"The map '{path}' has sides {volume.data.shape[::-1]}: give a map with equal sides.")
