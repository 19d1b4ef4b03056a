"""The paper's two proteins, proteins to learn from, and particle sets with a known truth for the benchmarks of the orientation method.

5j0n is the authors' own density; 5a1a is made of its atoms at 3 Å as theirs was, and turned so that its two-fold axes lie on x, y and z.
White noise of variance 16 in the paper is an SNR of 0.065 over images of 116 px; the same noise binned to half the side is four times less.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import gemmi
import numpy as np
import torch
from _gaussian_data import density, find_structure, heavy_atoms, superpose
from _run import short_digest
from numpy.typing import NDArray
from torch import Tensor

from cryolearn.engine.imaging.ctf import Ctf
from cryolearn.engine.imaging.poses import matrix_to_euler, random_rotations
from cryolearn.engine.imaging.slices import VolumeProjector
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.stacks import StackWriter
from cryolearn.engine.io.star import CtfTable, ParticleTable, write_particles
from cryolearn.engine.io.structures import Structure, atom_weights, read_structure
from cryolearn.engine.io.tables import read_table, write_table
from cryolearn.engine.map_enhancement.training.sequence_split import related_score
from cryolearn.engine.simulate.resample import centred_window, fit_map

Array = NDArray[np.float64]
METHOD = "orientation"
SPLIT = {"train": 2512, "validation": 838, "test": 1650}  # images of the paper
PAPER_BOX, PAPER_NOISE, PAPER_SNR = 116, 16.0, 0.065
_SIDE_ANGST = {"5j0n": 116 * 11 / 3, "5a1a": 275.0}  # of the paper's images
_GROUP = {"5j0n": "C1", "5a1a": "D2"}
_MOLMAP = 0.225  # standard deviation over resolution of Chimera's molmap, by which the paper made its densities
_BATCH = 128


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """``--data DIR``: folder with maps/5j0n.mrc.gz, structures/5a1a.cif.gz and models/."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CRYOLEARN_DATA", beside)),
                        help="folder with maps, structures and models (default: CRYOLEARN_DATA)")


# ---------------------------------------------------------------- densities

@dataclass
class Specimen:
    """A density on disk, a cube with positive values."""

    name: str
    group: str
    path: Path
    box: int
    pixel: float

    def volume(self) -> Tensor:
        return torch.from_numpy(read_map(str(self.path)).data)

    def binned(self, box: int) -> Specimen:
        """The same field of view in a smaller box."""
        if box == self.box:
            return self
        pixel = self.box * self.pixel / box
        path = self.path.with_name(f"{self.name}-{box}.mrc")
        if not path.exists():
            write_map(str(path), fit_map(read_map(str(self.path)), box, pixel).numpy(), pixel)
        return Specimen(self.name, self.group, path, box, pixel)


def paper_specimen(options: argparse.Namespace, name: str, box: int = PAPER_BOX) -> Specimen:
    """5j0n or 5a1a as the paper images them: 116 px, 425 and 275 Å a side; or binned."""
    work = options.work / METHOD / "maps"
    work.mkdir(parents=True, exist_ok=True)
    pixel = _SIDE_ANGST[name] / PAPER_BOX
    path = work / f"{name}.mrc"
    if not path.exists():
        volume = _authors_density(options.data, pixel) if name == "5j0n" else _tetramer_density(options.data, options.work, pixel)
        write_map(str(path), volume.numpy(), pixel)
    return Specimen(name, _GROUP[name], path, PAPER_BOX, pixel).binned(box)


def _authors_density(data: Path, pixel: float) -> Tensor:
    found = data / "maps" / "5j0n.mrc.gz"
    if not found.exists():
        sys.exit(f"ERROR: '{found}' is not there: name the folder of the data with --data.")
    return centred_window(torch.from_numpy(read_map(str(found)).data), (PAPER_BOX,) * 3)


def _tetramer_density(data: Path, work: Path, pixel: float) -> Tensor:
    structure = find_structure(data, "5a1a", work / METHOD / "structures")
    placed = along_two_folds(structure)
    sigma = np.full(len(structure), _MOLMAP * 3.0)
    return density(placed, atom_weights(structure), sigma, PAPER_BOX, pixel, torch.device("cpu"))


def along_two_folds(structure: Structure) -> Array:
    """Coordinates (N, 3) of a tetramer of chains A to D whose three two-fold axes are brought onto x, y and z."""
    def calpha(chain: str) -> dict[int, Array]:
        used = (structure.chain == chain) & (structure.atom_name == "CA")
        return dict(zip(structure.residue_number[used].tolist(), structure.coordinates[used]))

    first, axes = calpha("A"), []
    for other in "BCD":
        second = calpha(other)
        common = sorted(first.keys() & second.keys())
        turn, _ = superpose(np.array([first[n] for n in common]), np.array([second[n] for n in common]))
        values, vectors = np.linalg.eigh((turn + turn.T) / 2)
        axes.append(vectors[:, values.argmax()])
    u, _, vt = np.linalg.svd(np.array(axes))  # the nearest orthogonal axes
    frame = u @ vt
    frame[2] *= np.sign(np.linalg.det(frame))
    centre = np.mean([np.mean(list(calpha(chain).values()), axis=0) for chain in "ABCD"], axis=0)
    return np.asarray((structure.coordinates - centre) @ frame.T)


def protein_specimen(options: argparse.Namespace, path: Path, box: int, pixel: float) -> Specimen:
    """Any atomic model as a density of atoms a quarter of two pixels wide (molmap at two pixels)."""
    work = options.work / METHOD / "maps"
    work.mkdir(parents=True, exist_ok=True)
    name = path.name.split(".")[0]
    place = work / f"{name}-{box}-{pixel:.3f}.mrc"
    if not place.exists():
        structure = heavy_atoms(read_structure(str(path)))
        centred = structure.coordinates - structure.coordinates.mean(axis=0)
        sigma = np.full(len(structure), _MOLMAP * 2 * pixel)
        write_map(str(place), density(centred, atom_weights(structure), sigma, box, pixel, torch.device("cpu")).numpy(), pixel)
    return Specimen(name, "C1", place, box, pixel)


# ---------------------------------------------------------------- which proteins are another protein

def sequences(path: Path) -> list[str]:
    """Different one-letter sequences of the protein chains of a model, of 50 residues and more."""
    document = gemmi.read_structure(str(path))
    document.setup_entities()
    found = set()
    for chain in document[0]:
        polymer = chain.get_polymer()
        if polymer.check_polymer_type() in (gemmi.PolymerType.PeptideL, gemmi.PolymerType.PeptideD):
            text = gemmi.one_letter_code([residue.name for residue in polymer]).upper()
            if len(text) >= 50:
                found.add(text)
    return sorted(found)


smallest_e_value = related_score  # of all pairs of two models' chains; the rule by which the map networks split their models


# ---------------------------------------------------------------- particle sets

@dataclass
class Imaging:
    """How particles are seen. ``noise`` is the variance of the paper's white noise at 116 px (16 there is an SNR of 0.065); 0 adds none.

    ``shift`` is the limit of the triangular distribution of shifts in pixels of the paper's 116.
    """

    noise: float = 0.0
    shift: float = 0.0
    ctf: bool = False
    seed: int = 7

    def snr(self, box: int) -> float:
        """SNR over the whole image of this box; 0 without noise."""
        return PAPER_SNR * PAPER_NOISE / self.noise * (PAPER_BOX / box) ** 2 if self.noise else 0.0


@dataclass
class ParticleSet:
    """Files of a set; ``particles.star`` holds no orientations, ``truth.star`` does."""

    folder: Path
    specimen: Specimen
    imaging: Imaging
    rotation: Array
    shift_angst: Array

    @property
    def particles(self) -> Path:
        return self.folder / "particles.star"

    @property
    def truth(self) -> Path:
        return self.folder / "truth.star"

    @property
    def ids(self) -> NDArray[np.int64]:
        return np.arange(1, len(self.rotation) + 1)

    @property
    def stack(self) -> Path:
        return self.folder / "particles.mrcs"


def make_set(options: argparse.Namespace, specimen: Specimen, number: int, imaging: Imaging, purpose: str = "test") -> ParticleSet:
    """Make and write a set, orientations uniform on SO(3); one of the same settings is used again."""
    key = {"specimen": specimen.name, "box": specimen.box, "pixel": specimen.pixel, "number": number, "purpose": purpose, **asdict(imaging)}
    folder = options.work / METHOD / "sets" / f"{specimen.name}-{specimen.box}-{purpose}-{short_digest(key)}"
    if (folder / "truth.npz").exists():
        columns, _ = read_table(str(folder / "truth.npz"))
        return ParticleSet(folder, specimen, imaging, columns["rotation"], columns["shift_angst"])
    folder.mkdir(parents=True, exist_ok=True)
    seeds = np.random.SeedSequence([imaging.seed, sum(purpose.encode())]).spawn(3)
    draw = np.random.default_rng(seeds[0])
    rotation = random_rotations(number, torch.Generator().manual_seed(int(seeds[1].generate_state(1)[0])), torch.float64)
    limit = imaging.shift * _SIDE_ANGST.get(specimen.name, specimen.box * specimen.pixel) / PAPER_BOX
    shift = limit * (draw.random((number, 2)) + draw.random((number, 2)) - 1)
    table = _ctf_table(draw, number) if imaging.ctf else None
    _write_images(folder / "particles.mrcs", specimen, rotation=rotation, shift=shift, table=table, imaging=imaging, draw=np.random.default_rng(seeds[2]))
    rows = np.arange(number)
    particles = ParticleTable(ids=rows + 1, image_file=[str(folder / "particles.mrcs")], file_index=np.zeros(number, np.int64), image_index=rows,
                              pixel_size_angst=specimen.pixel, box=specimen.box, ctf=table)
    write_particles(str(folder / "particles.star"), particles)
    write_particles(str(folder / "truth.star"), particles.with_poses(matrix_to_euler(rotation).numpy(), -shift))
    write_table(str(folder / "truth.npz"), {"id": rows + 1, "rotation": rotation.numpy(), "shift_angst": shift}, key)
    return ParticleSet(folder, specimen, imaging, rotation.numpy(), shift)


def _ctf_table(draw: np.random.Generator, number: int) -> CtfTable:
    defocus = draw.uniform(10000, 25000, number)
    return CtfTable(
        defocus,
        defocus,
        defocus_angle=np.zeros(number),
        phase_shift=np.zeros(number),
        voltage_kv=np.full(number, 300.0),
        cs_mm=np.full(number, 2.7),
        amplitude_contrast=np.full(number, 0.1),
    )


def _write_images(path: Path, specimen: Specimen, rotation: Tensor, shift: Array, table: CtfTable | None, imaging: Imaging,
                  draw: np.random.Generator) -> None:
    """Signal with a variance of 1 on average when there is no noise, and noise with a variance of 1 when there is some."""
    projector = VolumeProjector(specimen.volume())

    def signal(rows: NDArray[np.int64]) -> Tensor:
        ctf = None if table is None else Ctf.from_table(table, rows, dtype=torch.float64)
        move = torch.as_tensor(shift[rows] / specimen.pixel, dtype=torch.float32)
        return projector.project_real(rotation[rows].float(), move, ctf, specimen.pixel).float()

    number, snr = len(rotation), imaging.snr(specimen.box)
    variance = float(signal(np.arange(min(number, 256))).var(dim=(1, 2)).mean())
    scale = (variance / (snr or 1.0)) ** -0.5
    with StackWriter(str(path), number, specimen.box, specimen.pixel) as writer:
        for start in range(0, number, _BATCH):
            rows = np.arange(start, min(start + _BATCH, number))
            images = signal(rows).numpy() * scale
            if snr:
                images = images + draw.standard_normal(images.shape, dtype=np.float32)
            writer.write(start, images)
