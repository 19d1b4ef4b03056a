"""Fourier slices and their insertion: this software's against torch-projectors 0.13.1, in turns in one run.

The wheel of torch-projectors 0.13.1 does not load with newer versions of PyTorch (undefined symbols of the old C++ ABI). It runs in an environment of its
own: a Python 3.11 with ``torch==2.6.0``, ``torch-projectors==0.13.1`` and ``numpy<2``, named by ``--peer-python``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _results import parser, record
from _scale_projectors_peer import clock

from cryolearn.engine.imaging.fourier_volume import slice_channels, slice_points
from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.imaging.reconstruction import Reconstructor
from cryolearn.engine.imaging.slices import VolumeProjector

TURNS = 7
WORST = 1.25  # a peer that is faster than by this much is worth taking


def main() -> None:
    parse = parser(__doc__ or "")
    parse.add_argument("--peer-python", default=sys.executable, help="interpreter that can import torch_projectors")
    parse.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parse.parse_args()
    boxes, count = ((64, 128), 256) if options.scale == "laptop" else ((128, 256), 1024)
    for box in boxes:
        for threads in (1, 2) if options.device == "cpu" else (1,):
            compare(options, box, count, threads)


def compare(options: Any, box: int, count: int, threads: int) -> None:
    """Rows of one box and number of threads."""
    torch.set_num_threads(threads)
    device = torch.device(options.device)
    folder = (options.work / "projectors" / str(box)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    volume, rotations = blobs(box), random_rotations(count, torch.Generator().manual_seed(1)).float()
    projector = VolumeProjector(volume.to(device), 2.0)
    transforms = projector.project(rotations.to(device)).cpu()
    power = torch.rand(transforms.shape, generator=torch.Generator().manual_seed(2))
    channels, side = slice_channels(volume, 2.0)
    np.save(folder / "volume.npy", fftw(torch.complex(channels[0], channels[1]), side).numpy())
    np.save(folder / "rotations.npy", rotations.transpose(1, 2).contiguous().numpy())  # their samples lie at R k, these at R^T k
    np.save(folder / "transforms.npy", transforms.numpy())
    np.save(folder / "power.npy", power.numpy())
    index, *frequencies = slice_points(box, device)
    values, weights, placed = transforms.flatten(1)[:, index.cpu()].to(device), power.flatten(1)[:, index.cpu()].to(device), rotations.to(device)
    made: dict[str, torch.Tensor] = {}

    def project() -> None:
        made["project"] = projector.project(placed)

    def insert() -> None:
        reconstructor = Reconstructor(box, 1.0, padding=1.0, device=device)
        reconstructor.insert_samples(values, weights, placed, tuple(frequencies))
        made["insert"] = reconstructor.numerator[0]

    ours: dict[str, Callable[[], None]] = {"project": project, "insert": insert}
    peer = subprocess.Popen([options.peer_python, str(Path(__file__).with_name("_scale_projectors_peer.py")), str(folder), str(threads), str(device)],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert peer.stdin and peer.stdout
    version = peer.stdout.readline().split()[-1]
    for word, call in ours.items():
        times = np.empty((TURNS, 2))
        for turn in range(-1, TURNS):  # the first one warms both up
            start = clock(device)
            call()
            seconds = clock(device) - start
            print(word, file=peer.stdin, flush=True)
            times[turn] = seconds, float(peer.stdout.readline())
        own, other = times.min(axis=0)
        record(
            "scale", f"torch-projectors: {word} {count} images",
            f"{box} px, {threads} thread(s), {device.type}; torch-projectors 0.13.1 with PyTorch {version}",
            f"at most {WORST:g} times its time", f"{count / own:.0f} images/s against {count / other:.0f} ({own / other:.2f} of its time); "
            f"agreement {agreement(word, made[word].cpu(), np.load(folder / f'peer_{word}.npy'), box):.5f}",
            bool(own < WORST * other), options.scale,
        )
    peer.stdin.close()
    peer.wait()


def blobs(box: int) -> torch.Tensor:
    """A map of some Gaussians (box, box, box)."""
    axis = torch.arange(box) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    made = torch.zeros(box, box, box)
    for centre in (torch.rand(12, 3, generator=torch.Generator().manual_seed(3)) - 0.5) * box / 2:
        made += torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2) / (2 * (box / 20) ** 2))
    return made


def fftw(transform: torch.Tensor, side: int) -> torch.Tensor:
    """A half transform of this software, with kz and ky from -side // 2 to side // 2, as (side, side, side // 2 + 1) in FFTW's order."""
    return torch.fft.ifftshift(transform[:side, :side], dim=(0, 1))


def agreement(word: str, ours: torch.Tensor, theirs: np.ndarray, box: int) -> float:
    """Correlation of both results over the frequencies below Nyquist."""
    if word == "insert":
        ours = fftw(ours, box)
    a, b = ours.numpy(), theirs
    return float(np.real(np.vdot(a, b)) / np.sqrt(np.vdot(a, a).real * np.vdot(b, b).real))


if __name__ == "__main__":
    main()
