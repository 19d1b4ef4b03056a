"""The rounds of alignment, classification and averaging of one set of subtomograms, streamed and recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...alignment.fourier_band import FourierBand
from ...alignment.fourier_images import wedged_volumes
from ...alignment.reference import Reference, rotated_coverage
from ...imaging.fourier import filter_shells, fourier_resize, rfftn_centred
from ...imaging.poses import euler_to_matrix
from ...io.records import RunRecord
from ...io.subtomograms import SubtomogramStack, SubtomogramTable
from ...progress import Progress
from ..usable_subtomograms import UsableSubtomograms
from .aligner import Aligner, Plan
from .averages import Averages
from .averaging_state import Settings, State
from .half_set_alignment import halves_agreement, into_frame, kept_shells, match_classes
from .initial_maps import STEPS, first_maps

__all__ = ["Rounds", "start_shells"]

_START_SHELLS = 6  # of a box that is 1.25 times the particle's diameter
_START_MOST = 1500  # subtomograms of a half set that are held in memory for the random starts, in the band only
_MORE_SHELLS = 1.0  # looked at beyond the shell where the halves lose each other


def start_shells(box: int, particle_px: float) -> int:
    """Shells of the box in which random starts find their maps, for a particle of that radius in voxels."""
    stretch = max(1.0, box / (2.5 * particle_px))
    return max(3, min(round(_START_SHELLS * stretch), box // 2 - 3))


class Rounds:
    """Aligns, classifies and averages the subtomograms of a table.

    Parameters
    ----------
    table, half
        The subtomograms and the half set (n,), 1 or 2, of each.
    settings
        What to do.
    record
        Keeps the state after each round; a run that was killed goes on from the last one.
    device
        Where the work is done.

    Memory: a batch of subtomograms, what :class:`Aligner` says twice (once a half set), and what :class:`Averages` says;
    88 + 4 K bytes a subtomogram for its pose; during the random starts 8 P bytes for each of at most 1,500 subtomograms a half set. It does not grow with
    the number of subtomograms otherwise.
    """

    def __init__(
        self, table: SubtomogramTable, half: NDArray[np.int64], settings: Settings, record: RunRecord, device: torch.device, name: str = "",
    ) -> None:
        self.table, self.settings, self.record, self.device, self.name = table, settings, record, device, name
        self.stack = UsableSubtomograms(SubtomogramStack(table, check=False))
        self.half = torch.from_numpy(half)
        self.tilt = torch.from_numpy(table.tilt_deg)
        self.box = table.box
        self.mask = settings.mask.to(device)
        self.power = torch.zeros(0)

    def run(self) -> tuple[State, Averages]:
        """All rounds, and the averages of the subtomograms at their last poses in one frame."""
        self.power = self._power()
        state = self._resume()
        if state is None:
            state = self._start()
            state.save(self.record)
        while state.done < self.settings.iterations:
            state = self._round(state)
            state.save(self.record)
        averages = self._average(state.number, state.rotation, state.shift_px, "Averages")
        return state, averages

    def _resume(self) -> State | None:
        state = State.load(self.record, self.device)
        if state is not None:
            print(f"{self._what('Rounds')}: goes on after round {state.done}", flush=True)
        return state

    def _what(self, text: str) -> str:
        return f"{self.name}: {text}" if self.name else text

    # ------------------------------------------------------ reading -------------------------------------------------------
    def _batches(self, rows: NDArray[np.int64] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows (b,) and standardised subtomograms (b, n, n, n)."""
        every = np.arange(len(self.table)) if rows is None else rows
        for start in range(0, len(every), self.settings.batch):
            part = every[start : start + self.settings.batch]
            volumes = torch.from_numpy(self.stack.read(part)).to(self.device)
            deviation = volumes.std((1, 2, 3), correction=0)
            if self.settings.invert:
                deviation = -deviation
            yield torch.from_numpy(part), (volumes - volumes.mean((1, 2, 3), keepdim=True)) / deviation[:, None, None, None]

    def _power(self) -> Tensor:
        """Mean power (2, shells) of the measured frequencies of each half set's subtomograms, by which they are whitened."""
        recorded = self.record.stage("power")
        if found := recorded.read():
            return torch.from_numpy(found[0]["power"]).to(self.device)
        band = FourierBand.up_to(self.box, self.box / 2, 3, device=self.device)
        total = torch.zeros(2, self.box // 2 + 1, dtype=torch.float64, device=self.device)
        amount = torch.zeros_like(total)
        shell = band.ring.clamp(max=total.shape[1] - 1)
        progress = Progress(self._what("Spectrum"), len(self.table), "subtomograms")
        for rows, volumes in self._batches():
            some = wedged_volumes(band.gather(rfftn_centred(volumes, 3)), self.tilt[rows].to(self.device), band, self.settings.edge_px)
            coverage, group = some.tilt_ranges()
            measured = coverage[group]
            own = torch.nn.functional.one_hot(self.half[rows] - 1, 2).T.to(measured)
            total.index_add_(1, shell, (own @ (some.data.abs().square() * measured)).double())
            amount.index_add_(1, shell, (own @ measured).double())
            progress.step(len(rows))
        power = (total / amount.clamp(min=1e-9)).float()
        power = power.clamp(min=1e-6 * float(power.max()))
        recorded.write({"power": power.cpu().numpy()})
        return power

    # ------------------------------------------------------- start --------------------------------------------------------
    def _start(self) -> State:
        count, classes, device = len(self.table), self.settings.classes, self.device
        shells = self.box // 2 + 1
        generator = torch.Generator().manual_seed(self.settings.seed)
        identity = torch.eye(3).expand(count, 3, 3).clone()
        state = State(
            done=0,
            maps=torch.zeros(2, classes, *[self.box] * 3, device=device),
            coverage=torch.ones(2, classes, self.box, self.box, self.box // 2 + 1, device=device),
            filters=torch.zeros(classes, shells, device=device),
            present=torch.ones(2, classes, dtype=torch.bool),
            number=torch.randint(classes, (count,), generator=generator),
            rotation=identity,
            shift_px=torch.zeros(count, 3),
            score=torch.full((count, classes), float("nan")),
            curves=torch.zeros(classes, shells),
            evidence=torch.zeros(2, self.settings.starts),
        )
        if self.settings.start == "random":
            return self._random_start(state)
        edge = torch.arange(shells, device=device) <= self.settings.initial_px
        low_pass = edge.float().expand(classes, shells).clone()
        if self.settings.start == "reference":
            assert self.settings.references is not None
            maps = self.settings.references.to(device)
            maps = maps.expand(classes, *maps.shape[1:]) if len(maps) == 1 else maps
            state.maps[:] = filter_shells(maps, low_pass[0]) * self.mask
            state.filters = low_pass
            return state
        assert self.table.angles_deg is not None
        state.rotation = euler_to_matrix(torch.from_numpy(self.table.angles_deg)).float()
        if self.table.shifts_angst is not None:
            state.shift_px = torch.from_numpy(self.table.shifts_angst / self.table.pixel_size_angst).float()
        averages = self._average(state.number, state.rotation, state.shift_px, "Averages of the input's alignment")
        maps = averages.maps(self.settings.floor)
        state.present = (averages.count > 0).cpu()
        state.curves = halves_agreement(maps, averages.count, self.mask).cpu()
        state.filters = torch.stack([kept_shells(curve) for curve in state.curves.to(device)]) * low_pass
        self._references(state, maps)
        state.coverage = averages.coverage(self.settings.floor)
        return state

    def _random_start(self, state: State) -> State:
        """First maps of each half set from its own subtomograms alone."""
        settings, plan = self.settings, self.settings.plan
        shells = start_shells(self.box, plan.particle_px)
        band = FourierBand.up_to(self.box, shells + 0.5, 3, device=self.device)
        steps = Progress(self._what("Random starts"), 2 * settings.starts * STEPS, "steps")
        for half in (1, 2):
            rows = np.flatnonzero(self.half.numpy() == half)
            if len(rows) > _START_MOST:
                rows = np.sort(np.random.default_rng(settings.seed + half).choice(rows, _START_MOST, replace=False))
            data = torch.cat([band.gather(rfftn_centred(volumes, 3)) for _, volumes in self._batches(rows)])
            particles = wedged_volumes(data, self.tilt[rows].to(self.device), band, settings.edge_px)
            maps, evidence = first_maps(
                particles,
                settings.classes,
                mask_radius_px=plan.particle_px,
                shift_range_px=plan.shift_px,
                starts=settings.starts,
                seed=settings.seed + 104729 * half,
                group=plan.group,
                report=steps.step,
            )
            state.maps[half - 1] = torch.stack([fourier_resize(item, self.box, 3) for item in maps]) * self.mask
            state.evidence[half - 1] = evidence
        state.filters[:] = (torch.arange(self.box // 2 + 1, device=self.device) <= shells).float()
        return state

    # ------------------------------------------------------ rounds -------------------------------------------------------
    def _round(self, state: State) -> State:
        """Align, classify and average all subtomograms once, each against the maps of its own half set."""
        settings, device = self.settings, self.device
        first = state.done == 0
        plan = replace(settings.plan, fine_px=self._fine_px(state), seed=settings.seed + 15485863 * (state.done + 1))
        band = FourierBand.up_to(self.box, plan.fine_px, 3, device=device)
        aligners = [
            Aligner([Reference(one, known) if bool(there) else None for one, known, there in zip(*of_half)], band, power[1] / power[band.ring], plan)
            for power, *of_half in zip(self.power, state.maps, state.coverage, state.present)
        ]
        # classes that start from one map start apart at random
        at_random = first and settings.start == "reference" and settings.references is not None and len(settings.references) < settings.classes
        averages = Averages(self.box, settings.classes, device, settings.edge_px)
        moved = replace(state, number=state.number.clone(), rotation=state.rotation.clone(), shift_px=state.shift_px.clone(), score=state.score.clone())
        progress = Progress(self._what(f"Round {state.done + 1} of {settings.iterations}"), len(self.table), "subtomograms")
        for rows, volumes in self._batches():
            for half in (1, 2):
                mine = torch.nonzero(self.half[rows] == half).flatten()
                if not len(mine):
                    continue
                at, own = rows[mine], volumes[mine.to(device)]
                particles = wedged_volumes(band.gather(rfftn_centred(own, 3)), self.tilt[at].to(device), band, settings.edge_px)
                found = aligners[half - 1].align(particles, state.rotation[at].to(device), state.shift_px[at].to(device))
                number = state.number[at].to(device) if at_random else found.number
                averages.add(
                    own,
                    self.tilt[at].to(device),
                    rotation=found.rotation,
                    shift_px=found.shift_px,
                    number=number,
                    half=self.half[at].to(device),
                    group=plan.group,
                )
                moved.number[at], moved.rotation[at] = number.cpu(), found.rotation.cpu()
                moved.shift_px[at], moved.score[at] = found.shift_px.cpu(), found.score.cpu()
            progress.step(len(rows))
        return self._joined(moved, averages, plan)

    def _fine_px(self, state: State) -> float:
        """Radius of the band that the maps deserve: just beyond the last shell that any of them keeps."""
        kept = torch.nonzero(state.filters.amax(0) > 0).flatten()
        return min(float(kept[-1]) + _MORE_SHELLS, self.box / 2 - 1)

    def _joined(self, state: State, averages: Averages, plan: Plan) -> State:
        """The next state: the second half set in the first's frame, the curves of agreement, and new references."""
        maps, coverage = averages.maps(self.settings.floor), averages.coverage(self.settings.floor)
        counts = averages.count
        # a pose has no meaning in another half set's frame until the maps have been laid on each other
        frames = match_classes(maps * self.mask, counts, state.filters, replace(plan, local=False))
        partner = torch.from_numpy(frames.partner)
        order = torch.argsort(partner).to(counts.device)
        maps[1] = into_frame(maps[1], frames)
        counts = torch.stack((counts[0], counts[1][order]))
        second = torch.nonzero(self.half == 2).flatten()
        state.number[second], state.rotation[second], state.shift_px[second] = frames.compose(
            state.number[second], state.rotation[second], state.shift_px[second],
        )
        state.score[second] = state.score[second][:, torch.argsort(partner)]
        state.present = (counts > 0).cpu()
        curves = halves_agreement(maps, counts, self.mask)
        state.curves = curves.cpu()
        state.filters = torch.stack([kept_shells(curve) for curve in curves])
        state.coverage[0] = coverage[0]
        for own, one in enumerate(frames.partner.tolist()):
            state.coverage[1, one] = rotated_coverage(coverage[1, own], frames.frame.rotation[own])
        self._references(state, maps)
        state.done += 1
        return state

    def _references(self, state: State, maps: Tensor) -> None:
        for number in range(self.settings.classes):
            state.maps[:, number] = filter_shells(maps[:, number], state.filters[number]) * self.mask

    def _average(self, number: Tensor, rotation: Tensor, shift_px: Tensor, what: str) -> Averages:
        """Averages of all subtomograms at given poses."""
        averages = Averages(self.box, self.settings.classes, self.device, self.settings.edge_px)
        progress = Progress(self._what(what), len(self.table), "subtomograms")
        for rows, volumes in self._batches():
            to = self.device
            averages.add(
                volumes,
                self.tilt[rows].to(to),
                rotation=rotation[rows].to(to),
                shift_px=shift_px[rows].to(to),
                number=number[rows].to(to),
                half=self.half[rows].to(to),
                group=self.settings.plan.group,
            )
            progress.step(len(rows))
        return averages
