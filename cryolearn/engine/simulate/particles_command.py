"""Simulate particle images whose poses, shifts, CTF and conformations are known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config import check_config, digest_config
from ..device import select_device
from ..exceptions import InputError
from ..figures import image_gallery, save_figure
from ..imaging.ctf import Ctf, ctf_2d
from ..imaging.fourier import hermitian_weight, irfft2_centred
from ..imaging.poses import euler_to_matrix
from ..io.atomic import part_of
from ..io.records import RunRecord, Stage
from ..io.stacks import StackWriter, stack_bytes
from ..io.star import CtfTable, ParticleTable, write_particles
from ..io.summary import ParticlesSummary, write_summary
from ..io.tables import write_table
from ..launch import is_first_process, process_rank, say_once
from ..progress import Progress
from .config import SimulateParticlesConfig
from .laws import Draws, draw_particles, white_noise
from .sources import Source, open_source

_CHUNK = 256  # images between two records on disk
_PROBE = 16  # first images, whose mean signal variance sets the scale of all
_SHOWN = 8


def run(config: SimulateParticlesConfig) -> None:
    """Simulate particles as ``config`` says and write them to ``config.output``.

    Images are streamed to disk: besides the model, the memory is one batch of images (at most 256 MiB on the CPU, 4 GiB on
    a GPU) and 500 bytes an image for poses, CTF and truth. A killed run with the same parameters goes on from
    its last record (every 256 images), and several processes share the images.

    With noise, all images are divided by one number such that the noise has a variance near 1: each image's noise
    variance is var(signal) / SNR of that image, after the CTF.

    Raises
    ------
    InputError
        when parameters contradict each other or an input cannot be used.
    """
    check_config(config)
    _check(config)
    device = select_device(config)
    source = open_source(config, device)
    os.makedirs(os.path.join(config.output, "figures"), exist_ok=True)
    simulator = Simulator(config, source, device)
    digest = digest_config(config)
    _write_images(config, simulator, digest)
    if is_first_process():
        _write_tables(simulator, digest)


def _draw_examples(simulator: Simulator) -> float | None:
    """Write a picture of the first particles; returns their signal-to-noise ratio, None without noise."""
    config = simulator.config
    rows = np.arange(min(_SHOWN, config.number))
    clean, noisy = simulator.images(rows)
    labels = [f"image {row + 1}" for row in rows] + [""] * len(rows)
    title = f"Simulated particles: signal above, SNR {config.snr:g} below" if config.snr else "Simulated particles without noise"
    shown = np.concatenate([clean, noisy]) if config.snr else clean
    gallery = image_gallery(shown, labels[: len(shown)], len(rows), title)
    save_figure(gallery, os.path.join(config.output, "figures", "examples.png"))
    return float((clean.var(axis=(1, 2)) / (noisy - clean).var(axis=(1, 2))).mean()) if config.snr else None


def _check(config: SimulateParticlesConfig) -> None:
    if config.defocus_min_angst > config.defocus_max_angst:
        raise InputError(
            f"The smallest defocus ({config.defocus_min_angst:g} Å) is larger than the largest ({config.defocus_max_angst:g} Å)."
        )
    if not config.apply_ctf and (config.phase_flip or (config.snr and config.noise_model == "before_ctf")):
        raise InputError("Phase flipping and noise before the CTF need apply_ctf, which is off.")


class Simulator:
    """Makes the images of a simulation, any of them at any time.

    Parameters
    ----------
    config : SimulateParticlesConfig
    source : Source
        What is projected.
    device : torch.device
    """

    def __init__(self, config: SimulateParticlesConfig, source: Source, device: torch.device) -> None:
        self.config, self.source, self.device = config, source, device
        self._weight = hermitian_weight(config.box, device)
        self.scale = 1.0
        if config.snr:
            variance = self._signals(np.arange(_PROBE))[0].var(axis=(1, 2), dtype=np.float64).mean()
            if not variance > 0:
                raise InputError("The projections are empty: the model or map has no density in the box.")
            self.scale = float(1 / np.sqrt(variance / config.snr))

    def draws(self, rows: NDArray[np.int64]) -> Draws:
        """Random quantities of the particles ``rows`` (counted from 0)."""
        start = int(rows.min())
        return draw_particles(self.config, start, int(rows.max()) + 1, self.source.modes, self.source.states)[rows - start]

    def images(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Images (n, y, x) of the particles ``rows`` (counted from 0): the signal after the CTF, and with noise."""
        clean, noisy = self._signals(rows)
        return clean * self.scale, noisy * self.scale

    def _signals(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        draws = self.draws(rows)
        clean = np.empty((len(rows), self.config.box, self.config.box), np.float32)
        noisy = clean if not self.config.snr else np.empty_like(clean)
        for state in np.unique(draws.state):
            here = np.flatnonzero(draws.state == state)
            for start in range(0, len(here), self.source.batch):
                part = here[start : start + self.source.batch]
                # always a full batch, the last row repeated: an image's rounding must not depend on its company
                full = np.concatenate([part, np.repeat(part[-1:], self.source.batch - len(part))])
                signal, observed = self._batch(draws[full], rows[part], int(state))
                clean[part], noisy[part] = signal[: len(part)].cpu().numpy(), observed[: len(part)].cpu().numpy()
        return clean, noisy

    def _batch(self, draws: Draws, particles: NDArray[np.int64], state: int) -> tuple[Tensor, Tensor]:
        config, box = self.config, self.config.box

        def tensor(values: NDArray[np.float64]) -> Tensor:
            return torch.as_tensor(values, dtype=torch.float32, device=self.device)

        rotation = euler_to_matrix(torch.as_tensor(draws.angles_deg)).to(self.device, torch.float32)
        transform = self.source.project(rotation, tensor(draws.shift_angst), tensor(draws.amplitudes), state)
        transfer = torch.ones_like(transform.real)
        if config.apply_ctf:
            # phases in double precision: they reach hundreds of radians
            ctf = Ctf.from_table(_ctf_table(config, draws), dtype=torch.float64)
            transfer = ctf_2d(ctf, box, config.pixel_size_angst).to(self.device, torch.float32)
            transform = transform * transfer
        flip = torch.sign(transfer) if config.phase_flip else None
        signal = irfft2_centred(transform if flip is None else transform * flip, box)
        if not config.snr:
            return signal, signal
        noise = torch.as_tensor(white_noise(config.seed, particles, box), device=self.device)
        noise = torch.nn.functional.pad(noise, (0, 0, 0, 0, 0, len(signal) - len(noise)))
        variance = signal.var(dim=(1, 2), correction=0) / config.snr
        if config.noise_model == "before_ctf" or flip is not None:
            spectrum = torch.fft.rfft2(noise)
            if config.noise_model == "before_ctf":
                spectrum = spectrum * transfer
                variance = variance / ((transfer**2 * self._weight).sum(dim=(1, 2)) / box**2)
            noise = torch.fft.irfft2(spectrum if flip is None else spectrum * flip, s=(box, box))
        return signal, signal + noise * variance.sqrt()[:, None, None]


def _write_images(config: SimulateParticlesConfig, simulator: Simulator, digest: str) -> None:
    """Write the images; of several processes each writes every n-th record's into the same stack, and the first one gives it its name."""
    rank, world, _ = process_rank()
    stack = os.path.join(config.output, "particles.mrcs")
    run_record = RunRecord(config.output, "simulation", digest)
    if rank == 0:
        run_record.remove_others()  # the stack of all runs has the same name
    whole = run_record.stage("progress")
    done = _done(whole)
    if done == config.number and os.path.exists(stack):
        say_once(f"Simulate: all {config.number} images are there already")
        return
    record = whole
    if world > 1:
        _prepare(config, run_record, stack)
        record = _progress(run_record, rank)
        done = _done(record)
    elif os.path.exists(stack):
        os.remove(stack)
    mine = _starts(config.number, rank)
    with StackWriter(stack, config.number, config.box, config.pixel_size_angst, resume=done > 0 or world > 1) as writer:
        if done and not writer.goes_on:
            print(f"The record '{stack}.part' is not whole and is made anew.", flush=True)
            done = 0
        progress = Progress("Simulate", _images(config.number, rank), done=done)
        for start in mine[-(-done // _CHUNK) :]:
            stop = min(start + _CHUNK, config.number)
            for first in range(start, stop, simulator.source.batch):
                rows = np.arange(first, min(first + simulator.source.batch, stop))
                writer.write(first, simulator.images(rows)[1])
                progress.step(len(rows))
            writer.flush()
            done += stop - start
            record.write({}, {"done": done})
        if rank:
            writer.abandon()
            return
        number = {_progress(run_record, other).path: _images(config.number, other) for other in range(1, world)}
        run_record.wait_for(list(number), lambda path: _done(Stage(path)) == number[path])
    if world > 1:
        whole.write({}, {"done": config.number})


def _prepare(config: SimulateParticlesConfig, run_record: RunRecord, stack: str) -> None:
    """Have the first process make the stack that all of them write into, unless that of a killed run is there; the others wait for it."""
    rank, world, _ = process_rank()
    made, part = run_record.stage(f"stack_of_{world}"), Path(part_of(stack))

    def is_whole(path: Path) -> bool:
        return path.exists() and (path != part or path.stat().st_size == stack_bytes(config.number, config.box))

    if rank:
        run_record.wait_for([made.path, part], is_whole)
        return
    if made.exists() and is_whole(part):
        return
    for stage in (made, *(_progress(run_record, other) for other in range(world))):
        stage.remove()
    for old in (stack, str(part)):
        if os.path.exists(old):
            os.remove(old)
    StackWriter(stack, config.number, config.box, config.pixel_size_angst).abandon()
    made.write({})


def _starts(number: int, rank: int) -> list[int]:
    """First image of each record that falls to a process."""
    return list(range(0, number, _CHUNK))[rank :: process_rank()[1]]


def _images(number: int, rank: int) -> int:
    """How many images fall to a process."""
    return sum(min(_CHUNK, number - start) for start in _starts(number, rank))


def _progress(run_record: RunRecord, rank: int) -> Stage:
    return run_record.stage(f"progress_{rank + 1}_of_{process_rank()[1]}")


def _done(stage: Stage) -> int:
    """How many of its images a process has recorded."""
    found = stage.read()
    return int(found[1]["done"]) if found else 0


def _write_tables(simulator: Simulator, digest: str) -> None:
    config, source = simulator.config, simulator.source
    draws = draw_particles(config, 0, config.number, source.modes, source.states)
    rows = np.arange(config.number)
    table = ParticleTable(
        ids=rows + 1, image_file=[os.path.abspath(os.path.join(config.output, "particles.mrcs"))],
        file_index=np.zeros(config.number, np.int64), image_index=rows, pixel_size_angst=config.pixel_size_angst, box=config.box,
        angles_deg=draws.angles_deg, origin_angst=-draws.shift_angst,
        ctf=_ctf_table(config, draws) if config.apply_ctf else None, random_subset=1 + rows % 2,
    )
    write_particles(os.path.join(config.output, "particles.star"), table)
    numbers = list(config.mode_numbers) if source.modes else []
    write_table(
        os.path.join(config.output, "truth.npz"),
        {
            "id": table.ids, "amplitudes": draws.amplitudes, "rotation": euler_to_matrix(torch.as_tensor(draws.angles_deg)).numpy(),
            "shift_angst": draws.shift_angst, "state": draws.state, "curve": draws.curve,
        },
        {"mode_numbers": numbers, "pixel_size_angst": config.pixel_size_angst, "box": config.box, "digest": digest, "snr": config.snr},
    )
    write_summary(config.output, ParticlesSummary(
        images=config.number, box=config.box, pixel_size_angst=config.pixel_size_angst, states=source.states, modes=source.modes, snr_asked=config.snr,
        snr_measured=_draw_examples(simulator), digest=digest,
    ))


def _ctf_table(config: SimulateParticlesConfig, draws: Draws) -> CtfTable:
    def filled(value: float) -> NDArray[np.float64]:
        return np.full(len(draws.state), value)

    return CtfTable(
        defocus_u=draws.defocus_u_angst, defocus_v=draws.defocus_v_angst, defocus_angle=draws.defocus_angle_deg,
        phase_shift=filled(0.0), voltage_kv=filled(config.voltage_kv), cs_mm=filled(config.cs_mm),
        amplitude_contrast=filled(config.amplitude_contrast),
    )
