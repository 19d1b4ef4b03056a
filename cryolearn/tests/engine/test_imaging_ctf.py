"""CTF: the formula written out in 64 bits, torch-ctf as an independent program, symmetries, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch_ctf import calculate_ctf_2d

from cryolearn.engine.imaging.ctf import Ctf, Microscope, apply_ctf, ctf_2d, electron_wavelength_angst
from cryolearn.engine.io.star import CtfTable

from .imaging_cases import DEVICES

CASES = [
    dict(defocus_u_angst=15000, voltage_kv=300, cs_mm=2.7, amplitude_contrast=0.1),
    dict(defocus_u_angst=22000, defocus_v_angst=18000, defocus_angle_deg=35, voltage_kv=200, cs_mm=2.0, amplitude_contrast=0.07),
    dict(defocus_u_angst=5000, defocus_v_angst=4200, defocus_angle_deg=120, voltage_kv=100, cs_mm=0.01, amplitude_contrast=0.1, phase_shift_deg=90),
    dict(defocus_u_angst=-3000, voltage_kv=300, cs_mm=2.7, amplitude_contrast=0.0),
]


def constant(values: dict[str, float]) -> Ctf:
    """One image's CTF in double precision."""
    shared = {name: values[name] for name in ("voltage_kv", "cs_mm", "amplitude_contrast")}
    own = {name: value for name, value in values.items() if name not in shared}
    return Ctf.constant(1, microscope=Microscope(**shared), dtype=torch.float64, **own)


@pytest.mark.parametrize("volts, picometres", [(100, 3.701), (200, 2.508), (300, 1.969)])
def test_wavelength(volts: float, picometres: float) -> None:
    """Relativistic wavelengths as tabulated, e.g. in Reimer & Kohl, Transmission Electron Microscopy."""
    assert float(electron_wavelength_angst(torch.tensor(float(volts)))) * 100 == pytest.approx(picometres, abs=5e-4)


def test_values_written_out() -> None:
    """Each half-grid point against the formula, point by point, with Python's own floats."""
    box, pixel = 16, 1.7
    values = CASES[1]
    found = ctf_2d(constant(values), box, pixel)[0]
    wavelength = float(electron_wavelength_angst(torch.tensor(200.0, dtype=torch.float64)))
    for row, column in [(0, 0), (0, 5), (3, 0), (13, 2), (15, 7), (8, 8)]:
        ky, kx = (row if row < box / 2 else row - box) / (box * pixel), column / (box * pixel)
        theta, k2 = math.atan2(ky, kx), kx * kx + ky * ky
        defocus = 20000 + 2000 * math.cos(2 * (theta - math.radians(35)))
        phase = math.pi * wavelength * defocus * k2 - math.pi / 2 * 2e7 * wavelength**3 * k2 * k2
        assert float(found[row, column]) == pytest.approx(math.sin(phase + math.asin(0.07)), abs=1e-10)


@pytest.mark.parametrize("values", CASES)
def test_against_torch_ctf(values: dict[str, float]) -> None:
    box, pixel = 64, 2.0
    u, v = values["defocus_u_angst"], values.get("defocus_v_angst", values["defocus_u_angst"])
    other = calculate_ctf_2d(
        (u + v) / 2e4, (u - v) / 2e4, values.get("defocus_angle_deg", 0.0), values["voltage_kv"], values["cs_mm"],
        values["amplitude_contrast"], values.get("phase_shift_deg", 0.0), pixel, (box, box), rfft=True, fftshift=False,
    )
    ours = ctf_2d(constant(values), box, pixel)[0]
    assert float((ours - other).abs().max()) < 2e-3  # it works in 32 bits and with slightly other constants


@pytest.mark.parametrize("device", DEVICES)
def test_single_precision(device: str) -> None:
    ctf = Ctf.constant(2, 30000, 28000, 20, device=device)
    assert ctf_2d(ctf, 128, 2.0).device.type == device
    exact = ctf_2d(ctf.to("cpu", torch.float64), 128, 2.0)
    assert float((ctf_2d(ctf, 128, 2.0).cpu() - exact).abs().max()) < 3e-4  # phases reach 1e3 rad x 2^-24 x a few


def test_origin_phase_flip_and_phase_plate() -> None:
    ctf = Ctf.constant(1, 12000, microscope=Microscope(amplitude_contrast=0.1), dtype=torch.float64)
    values = ctf_2d(ctf, 32, 2.0)
    assert float(values[0, 0, 0]) == pytest.approx(0.1)
    assert torch.equal(ctf_2d(ctf, 32, 2.0, phase_flipped=True), values.abs())
    plate = Ctf.constant(1, 0, phase_shift_deg=90, microscope=Microscope(cs_mm=0, amplitude_contrast=0), dtype=torch.float64)
    assert torch.allclose(ctf_2d(plate, 32, 2.0), torch.ones(1, 32, 17, dtype=torch.float64))


def test_gradient_flows_to_the_defocus() -> None:
    ctf = Ctf.constant(1, 12000, 11000, 30, dtype=torch.float64)
    tensors = [ctf.defocus_u_angst, ctf.defocus_v_angst, ctf.defocus_angle_deg]
    for tensor in tensors:
        tensor.requires_grad_()

    def value(u: torch.Tensor, v: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
        return ctf_2d(Ctf(u, v, angle, ctf.voltage_kv, ctf.cs_mm, ctf.amplitude_contrast, ctf.phase_shift_deg), 8, 3.0)

    assert torch.autograd.gradcheck(value, tensors, eps=1e-3, atol=1e-6)


def test_from_table_and_rows() -> None:
    count = 5
    table = CtfTable(*(np.arange(count, dtype=float) + 10 * k for k in range(7)))
    ctf = Ctf.from_table(table, [3, 1])
    assert ctf.defocus_u_angst.tolist() == [3, 1]
    assert ctf.defocus_v_angst.tolist() == [13, 11]
    assert ctf.defocus_angle_deg.tolist() == [23, 21]
    assert ctf.phase_shift_deg.tolist() == [33, 31]
    assert ctf.voltage_kv.tolist() == [43, 41]
    assert len(ctf) == 2 and ctf[1:].cs_mm.tolist() == [51]


def test_apply_is_linear_and_diagonal() -> None:
    """A cosine comes back as the same cosine times the CTF at its frequency."""
    box, pixel, frequency = 32, 2.0, 5
    wave = torch.cos(2 * math.pi * frequency * torch.arange(box, dtype=torch.float64) / box).expand(1, box, box)
    ctf = Ctf.constant(1, 9000, 8000, 15, dtype=torch.float64)
    expected = wave * ctf_2d(ctf, box, pixel)[0, 0, frequency]
    assert torch.allclose(apply_ctf(wave, ctf, pixel), expected, atol=1e-12)
