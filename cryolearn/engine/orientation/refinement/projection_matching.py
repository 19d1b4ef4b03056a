"""Projection matching of images against their own reconstruction, half sets apart.

The rounds go from global searches over grids of all poses to lattices about the present pose and end with Gauss-Newton steps. A start of small known
error is searched about from the first round on; one global search among these rounds finds images that are far off. The band grows with the
resolution that the half maps reach, and the noise is what the maps leave unexplained. After the first reference, which is common and low-passed, the two
half sets never meet: each is matched against the map of its own images only (Scheres & Chen, Nat. Methods 9 (2012) 853). Their frames are kept
together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ...alignment.back_projection import back_projected
from ...alignment.fourier_images import FourierImages
from ...alignment.grids import pose_grid, rotation_lattice, shift_grid
from ...alignment.half_set_frames import Frame, frame_between
from ...alignment.local_search import refine_continuously, search_lattice, unexplained_power
from ...alignment.posterior import PoseGrid, Poses, PoseSearch, best_poses
from ...alignment.reference import Reference
from ...imaging.reconstruction import Reconstructor
from ...io.records import Columns, RunRecord
from ...launch import is_first_process
from ...progress import Progress
from ...training.process_group import broadcast
from .half_set_references import AGREED, agreed_rings, common_reference, half_references, map_box, particle_mask, stretch
from .settings import Matched, MatchingSettings

__all__ = ["FINE_GRID_DEG", "GLOBAL_RINGS", "MOST_SHIFTS", "confidence_of", "match"]

MOST_SHIFTS = 80

_MORE_RINGS = 3  # the band reaches beyond what the half maps agree on
_FEWEST_RINGS = 6
_KEPT_POSES = 6
GLOBAL_RINGS = 16  # a grid of 7.5 degrees resolves no more of a particle that fills its box
FINE_GRID_DEG, _COARSE_GRID_DEG = 7.5, 10.0
_GLOBAL_ROUNDS = 2
_NEAR_DEG, _WIDEST_DEG, _REACH = 15.0, 20.0, 2.0  # start of known error: searches reach twice that far
_RESCUE_ROUND = 2
_OF_POSES = ("rotation", "shift", "weight")
_OF_ROUNDS = ("curve", "confidence", "log_likelihood")
_KEPT_ROUNDS = 2  # on disk


class _Rounds:
    """The state between rounds."""

    def __init__(self, images: FourierImages, poses: Poses, halves: Tensor, settings: MatchingSettings, kept: Columns | None = None) -> None:
        self.images, self.poses, self.halves = images, poses, halves
        self.diameter, self.shift_range, self.symmetry = settings.diameter_angst, settings.shift_range_angst, settings.symmetry
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.curve = torch.zeros(map_box(images) // 2 + 1)
        self.confidence = torch.zeros(len(images), device=images.device)
        self.log_likelihood = torch.zeros(len(images), device=images.device)
        self.searched = False
        self.stretch = stretch(images.band, self.diameter)
        self.agreed = 0
        if kept is not None:
            self._restore(kept)
            return
        first, agreed = common_reference(images, poses, halves, self.diameter, self.symmetry)
        self.agreed = int(broadcast(torch.tensor(agreed)))
        self._refer_to([broadcast(first)] * 2)
        self._measure_noise()  # what the start leaves unexplained: the more it is wrong, the softer the first search

    def _refer_to(self, volumes: list[Tensor]) -> None:
        self.volumes, self.references = volumes, [Reference(volume) for volume in volumes]

    def state(self) -> Columns:
        """All that the next round depends on, of which :meth:`_restore` makes the same bits."""
        tensors = {
            "volumes": torch.stack(self.volumes), "noise": self.images.noise, "generator": self.generator.get_state(), "agreed": torch.tensor(self.agreed),
            "searched": torch.tensor(self.searched), **{name: getattr(self.poses, name) for name in _OF_POSES},
            **{name: getattr(self, name) for name in _OF_ROUNDS},
        }
        return {name: values.cpu().numpy() for name, values in tensors.items()}

    def _restore(self, kept: Columns) -> None:
        tensors = {name: torch.from_numpy(values) for name, values in kept.items()}
        device = self.images.device
        self._refer_to(list(tensors["volumes"].to(device)))
        self.images = replace(self.images, noise=tensors["noise"].to(device))
        self.poses = Poses(**{name: tensors[name].to(device) for name in _OF_POSES})
        for name in _OF_ROUNDS:
            setattr(self, name, tensors[name].to(device))
        self.generator.set_state(tensors["generator"])
        self.agreed, self.searched = int(tensors["agreed"]), bool(tensors["searched"])

    def rings(self, most: int | None = None) -> int:
        """Radius of the band of the next search."""
        wanted = max(round(_FEWEST_RINGS * self.stretch), self.agreed + _MORE_RINGS)
        return min(wanted, self.images.band.radius, most or self.images.band.radius)

    def by_half(self, rings: int, crossed: bool = False) -> Iterator[tuple[Tensor, FourierImages, Reference]]:
        """Rows of each half set that this process works on, their images up to a radius of ``rings`` and its reference, or if ``crossed`` the other's."""
        band = self.images.within(rings + 0.5)
        for half, reference in zip((1, 2), self.references[::-1] if crossed else self.references, strict=True):
            own = self.images.mine
            rows = own[self.halves[own] == half]
            if len(rows):
                yield rows, band.rows(rows), reference

    def global_search(self, step_deg: float) -> None:
        """All poses of a grid, in-plane angles and shifts included."""
        # the first search tries all shifts, later ones those about what was found
        found = self._over_grid(step_deg, _KEPT_POSES, self.poses.best[1] if self.searched else None)
        self.poses, self.log_likelihood = found.poses, found.evidence
        self.searched = True

    def rescue(self, step_deg: float) -> None:
        """All poses of a grid; an image moves to what is found there where that, refined, is likelier than its present pose, refined in the same band."""
        rotation, shift = (item.clone() for item in self.poses.best)
        self.searched = False  # an image that is lost has lost its shift too
        self.global_search(step_deg)
        on_grid, moved = self.poses.best
        rings = self._global_rings()
        turns, moves = rotation_lattice(0.75 * step_deg, step_deg / 3, self.images.device), self._moves(rings)
        for rows, band, reference in self.by_half(rings):
            here = refine_continuously(band, reference, rotation[rows], shift[rows])
            near, near_shift, _ = search_lattice(band, reference, on_grid[rows], moved[rows], turns, moves)
            there = refine_continuously(band, reference, near, near_shift)
            better = there[2] > here[2]
            rotation[rows] = torch.where(better[:, None, None], there[0], here[0])
            shift[rows] = torch.where(better[:, None], there[1], here[1])
        self.poses = Poses.single(*self.images.gathered(rotation, shift))

    def judge(self, step_deg: float) -> None:
        """Confidence of the present poses: the posterior of their neighbourhood among all poses of a grid, given the last map of the other half set.

        In the map of its own half set an image finds itself again at any pose.
        """
        rotation, shift = self.poses.best
        self.confidence = self._over_grid(step_deg, 1, shift, rotation).confidence

    def _over_grid(self, step_deg: float, keep: int, about: Tensor | None, judged: Tensor | None = None) -> PoseSearch:
        """The likeliest poses of a grid, shifts counted from ``about``, how much of the posterior lies about the likeliest one, and the evidence.

        With rotations to be ``judged``, how much lies about these, given the map of the other half set.
        """
        rings = self._global_rings()
        device, count = self.images.device, len(self.images)
        grid = pose_grid(step_deg, self.symmetry, self.generator, device)
        spacing = self.images.band.length / (4 * rings)
        shifts = shift_grid(self.shift_range if about is None else min(self.shift_range, 1.5 * spacing), spacing, most=MOST_SHIFTS, device=device)
        rotation, shift = torch.zeros(count, keep, 3, 3, device=device), torch.zeros(count, keep, 2, device=device)
        weight = torch.zeros(count, keep, device=device)
        confidence, evidence = torch.zeros(count, device=device), torch.zeros(count, device=device)
        for rows, band, reference in self.by_half(rings, crossed=judged is not None):
            found = best_poses(band, reference, grid=PoseGrid(rotations=grid, shifts=shifts, group=self.symmetry), keep=keep, near_deg=2 * step_deg,
                               about=None if about is None else about[rows], centre=None if judged is None else judged[rows])
            rotation[rows], shift[rows], weight[rows] = found.poses.rotation, found.poses.shift, found.poses.weight
            confidence[rows], evidence[rows] = found.confidence, found.evidence
        rotation, shift, weight, confidence, evidence = self.images.gathered(rotation, shift, weight, confidence, evidence)
        return PoseSearch(poses=Poses(rotation=rotation, shift=shift, weight=weight), confidence=confidence, evidence=evidence)

    def _global_rings(self) -> int:
        return self.rings(round(GLOBAL_RINGS * self.stretch))

    def _moves(self, rings: int) -> Tensor:
        """Small changes of the shifts (S, 2) in a band."""
        spacing = self.images.band.length / (6 * rings)
        return shift_grid(1.5 * spacing, spacing, most=MOST_SHIFTS, device=self.images.device)

    def local_search(self, reach_deg: float, step_deg: float, continuous: bool) -> None:
        """A lattice about the best pose, or Gauss-Newton steps from it. The first search of all tries all shifts."""
        rings = self.rings()
        device = self.images.device
        rotation, shift = (item.clone() for item in self.poses.best)
        turns = rotation_lattice(reach_deg, step_deg, device)
        spacing = self.images.band.length / (4 * rings)
        moves = self._moves(rings) if self.searched else shift_grid(self.shift_range, spacing, most=MOST_SHIFTS, device=device)
        self.searched = True
        for rows, band, reference in self.by_half(rings):
            if continuous:
                rotation[rows], shift[rows], self.log_likelihood[rows] = refine_continuously(band, reference, rotation[rows], shift[rows])
            else:
                rotation[rows], shift[rows], self.log_likelihood[rows] = search_lattice(band, reference, rotation[rows], shift[rows], turns, moves)
        rotation, shift, self.log_likelihood = self.images.gathered(rotation, shift, self.log_likelihood)
        over = (shift.norm(dim=1, keepdim=True) / max(self.shift_range, 1e-3)).clamp(min=1)
        self.poses = Poses.single(rotation, shift / over)

    def back_projected(self) -> Reconstructor:
        """Sums of both halves."""
        return back_projected(self.images, self.poses, map_box(self.images), self.halves, self.symmetry)

    def _half_references(self, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        """Those of the first process: processors of other kinds may round in other ways."""
        volumes, curve = half_references(self.back_projected(), mask)
        return [broadcast(volume) for volume in volumes], broadcast(curve)

    def update(self) -> None:
        """New references of both halves in one frame, their FSC and the noise."""
        mask = particle_mask(self.images, self.diameter)
        volumes, self.curve = self._half_references(mask)
        self._refer_to(volumes)
        frame = frame_between(self.images.within(self.rings() + 0.5), self.references[0], self.references[1], self.symmetry, self.generator)
        frame = Frame(rotation=broadcast(frame.rotation), shift=broadcast(frame.shift))
        kept, self.poses = self.poses, frame.compose_rows(self.poses, torch.nonzero(self.halves == 2).flatten())
        volumes, curve = self._half_references(mask)
        if float(curve.mean()) > float(self.curve.mean()):
            self._refer_to(volumes)
            self.curve = curve
        else:
            self.poses = kept
        self.agreed = agreed_rings(self.curve, AGREED)
        self._measure_noise()

    def _measure_noise(self) -> None:
        rotation, shift = self.poses.best
        parts = [unexplained_power(self.images.rows(rows), reference, rotation[rows], shift[rows])
                 for reference, rows in ((self.references[half - 1], torch.nonzero(self.halves == half).flatten()) for half in (1, 2))]
        power = (parts[0] + parts[1]) / 2
        power = broadcast(power)
        self.images = replace(self.images, noise=power.clamp(min=1e-6 * float(power.max()) + 1e-30))


def match(
    images: FourierImages, poses: Poses, halves: Tensor, rounds: int, settings: MatchingSettings, error_deg: float = math.inf,
    record: RunRecord | None = None,
) -> Matched:
    """Refine the poses of all images by matching rounds.

    Parameters
    ----------
    images
        Transforms of the particles with their CTFs.
    poses
        First poses; their map is low-passed where its halves stop to agree, so errors of 20 degrees are no obstacle.
    halves
        (n,) 1 or 2, the half set of each image.
    rounds
        The last one ends with Gauss-Newton steps.
    settings
        Particle and search ranges.
    error_deg
        Expected error of the first poses. Below 15 degrees the rounds search about them, but for one that tries all poses, so that images that are far
        off are found again (the others keep the poses that they have); else the first two rounds (one of three) try all poses: noisy images would
        only lose by a search over all poses against a map that is not yet sharp.
    record
        Keeps the state after each of the last rounds, from which a killed run goes on.

    Notes
    -----
    A global round takes ``1.6e9 n`` multiplications at 7.5 degrees and 10 rings and one shift. Processes share the parts of the images; all must call this, and
    all get the result, which is that of one process (bit by bit on CPUs).
    """
    last = record.newest("round") if record is not None else None
    kept = last.read() if last is not None else None
    work = _Rounds(images, poses, halves, settings, kept[0] if kept else None)
    near = error_deg < _NEAR_DEG
    global_rounds = 0 if near else min(_GLOBAL_ROUNDS, max(1, rounds // 2))
    reach = min(max(_REACH * error_deg, FINE_GRID_DEG), _WIDEST_DEG) if near else FINE_GRID_DEG
    step = reach / (3 if near else 2)
    done = int(kept[1]["done"]) if kept else 0
    if kept:
        reach, step = kept[1]["reach_deg"], kept[1]["step_deg"]
    progress = Progress("Matching", rounds, "rounds", done=done, interval_s=0)
    for number in range(done, rounds):
        if number < global_rounds:
            work.global_search(_COARSE_GRID_DEG if number == 0 else FINE_GRID_DEG)
        elif near and number == _RESCUE_ROUND and rounds > _RESCUE_ROUND + 2:
            work.rescue(FINE_GRID_DEG)
        else:
            work.local_search(reach, step, continuous=step < 1.5)
            reach, step = min(reach, step * 2.4), step / 2
        if number == rounds - 1:
            work.local_search(reach, step, continuous=True)
        work.update()
        if record is not None and is_first_process():
            record.stage(f"round_{number + 1:03d}").write(work.state(), {"done": number + 1, "reach_deg": reach, "step_deg": step})
            record.stage(f"round_{number + 1 - _KEPT_ROUNDS:03d}").remove()
        progress.step(1, f"halves agree to {images.band.length / max(1, work.agreed):.1f} Å")
    work.judge(FINE_GRID_DEG)
    rotation, shift = work.poses.best
    return Matched(rotation=rotation, shift_angst=shift, confidence=work.confidence, log_likelihood=work.log_likelihood, curve=work.curve)


def confidence_of(images: FourierImages, poses: Poses, halves: Tensor, settings: MatchingSettings) -> Tensor:
    """(n,) Confidence of poses that nothing has matched, as that of `Matched`: whether images look as the map of the others says.

    Poses that are off at random by 0.25 rad on average have about .7, by 0.5 rad hardly any; errors that are alike in all images are not seen.
    """
    work = _Rounds(images, poses, halves, settings)
    work.update()
    work.judge(_COARSE_GRID_DEG)
    return work.confidence
