"""Every command that computes on a GPU, on a pretend one (:mod:`cryolearn.tests.pretend_gpu`): no fault of devices, and the CPU's results."""

from __future__ import annotations

import csv
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from cryolearn.engine.__main__ import _load, main
from cryolearn.engine.commands import COMMANDS

from ..pretend_gpu import GPU, pretend_gpu
from ..pretend_gpu_engine import run_on_pretend_gpu
from .bad_input_sets import COMMANDS as QUICK
from .bad_input_sets import Options, make_sets, words_of

# Largest difference from the CPU's result, in parts of the largest number of a map, table or column. The pretend GPU computes each operation as the CPU does,
# so only those paths differ that are others on a GPU.
EXACT = 1e-6
SIXTEEN_BITS = 0.03  # a GPU trains and classifies in bfloat16, whose numbers have 8 bits: 2^-9 each

_OTHERS = ("simulate-particles", "subtomogram-simulate", "volume-to-gaussians", "elastic-align", "elastic-predict", "gaussian-heterogeneity", "fsc",
           "reconstruct", "orientation-recover", "subtomogram-average")
_TRAININGS = {"elastic-train": "elastic", "distance-train": "distance", "subtomogram-train": "subtomogram", "map-train": "maps"}

# Name of a case: (command, changes of its quick options, largest difference). An option that is None is left out.
CASES: dict[str, tuple[str, Options, float]] = {
    **{name: (name, {}, EXACT) for name in _OTHERS}, **{name: (name, {"precision": "32"}, EXACT) for name in _TRAININGS},
    **{name: (name, {}, SIXTEEN_BITS) for name in ("subtomogram-classify", "subtomogram-subdivide")},
    "map-enhance": ("map-enhance", {"half1": None, "half2": None, "tile_px": 208}, EXACT),  # one tile
}
_MADE = {"elastic-align": "alignment", "gaussian-heterogeneity": "motion", "subtomogram-subdivide": "features"}  # runs of the CPU that are among the inputs


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(tmp_path_factory.mktemp("sets"), whole=True)


@pytest.mark.parametrize("name", CASES)
def test_a_command_gives_the_results_of_the_cpu(sets: Path, tmp_path: Path, name: str) -> None:
    command, changes, tolerance = CASES[name]
    options = {option: value for option, value in {**QUICK[command], **changes}.items() if value is not None}
    code, counts = run_on_pretend_gpu(words_of(command, tmp_path / "gpu", options, sets))
    assert code == 0
    assert counts.launches
    cpu = sets / _MADE[name] if name in _MADE else tmp_path / "cpu"
    assert cpu.exists() or main(words_of(command, cpu, options, sets)) == 0
    found, expected = results(tmp_path / "gpu"), results(cpu)
    assert found.keys() == expected.keys()
    assert expected
    too_far = {place: apart for place, values in expected.items() if not (apart := difference(found[place], values)) <= tolerance}
    assert not too_far


@pytest.mark.parametrize("name", _TRAININGS)
def test_a_gpu_trains_in_sixteen_bits(sets: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Autocast casts what has to stay in 32 bits, and nothing meets a number of the other kind; the losses are those of the CPU."""
    assert run_on_pretend_gpu(words_of(name, tmp_path / "gpu", QUICK[name], sets))[0] == 0
    assert "precision bf16-mixed" in capfd.readouterr().out
    found, expected = (results(folder) for folder in (tmp_path / "gpu", sets / _TRAININGS[name]))
    for loss in ("learning.csv: train_loss", "learning.csv: val_loss"):
        assert difference(found[loss], expected[loss]) <= SIXTEEN_BITS


def test_every_command_that_takes_a_gpu_is_a_case() -> None:
    taking = {name for name, command in COMMANDS.items() if "select_device" in inspect.getsource(inspect.getmodule(_load(command.run)))}
    assert {command for command, _, _ in CASES.values()} == taking


FAULTS: dict[str, tuple[Callable[[], object], str]] = {
    "two devices": (lambda: torch.ones(3, device=GPU) + torch.ones(3), "Expected all tensors to be on the same device"),
    "rows of the host in index_add": (
        lambda: torch.zeros(3, device=GPU).index_add_(0, torch.tensor([1]), torch.ones(1, device=GPU)), "Expected all tensors to be on the same device"),
    "a sum kept on the host": (lambda: torch.zeros(()).add_(torch.ones((), device=GPU)), "Expected all tensors to be on the same device"),
    "the host's tensor indexed by the GPU's": (lambda: torch.arange(3)[torch.tensor([1], device=GPU)], "indices should be either on cpu"),
    "a generator of the CPU": (lambda: torch.rand(3, generator=torch.Generator(), device=GPU), "'pgpu' device type for generator but found 'cpu'"),
    "a generator of the CPU, in place": (lambda: torch.zeros(3, device=GPU).normal_(generator=torch.Generator()), "device type for generator"),
    "a generator of the GPU": (lambda: torch.rand(3, generator=torch.Generator(GPU)), "'cpu' device type for generator but found 'pgpu'"),
    "numpy()": (lambda: torch.ones(3, device=GPU).numpy(), "can't convert pgpu:0 device type tensor to numpy"),
    "np.asarray": (lambda: np.asarray(torch.ones(3, device=GPU)), "can't convert pgpu:0 device type tensor to numpy"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_devices_fails_as_on_a_gpu(name: str) -> None:
    fault, said = FAULTS[name]
    with pretend_gpu(), pytest.raises((RuntimeError, TypeError), match=re.escape(said)):
        fault()


def test_launches_and_waits_are_counted() -> None:
    with pretend_gpu() as counts:
        values = torch.arange(6.0).to(GPU).view(2, 3)  # a copy, a view
        total = (torch.fft.rfft(values.T).abs() + 1).sum()  # a view, four launches
        values.index_add_(0, torch.tensor([1], device=GPU), total.expand(1, 3))  # a copy, a view, a launch
        values[values > 2] = 0  # a comparison, the number, and a filling that needs no list of places
    assert sum(counts.launches.values()) == 10
    assert not counts.waits
    with pretend_gpu() as counts:
        assert float(total) > 1
        assert bool(total > 1)
        assert len(values[values > 0]) == len(values.nonzero())
        assert values.cpu().shape == (2, 3)
    assert counts.waits == {"_local_scalar_dense": 2, "indexing by a mask": 1, "nonzero": 1, "copy to the host": 1}


def test_autocast_multiplies_in_sixteen_bits_and_sums_in_32() -> None:
    with pretend_gpu():
        layer = torch.nn.Linear(3, 2).to(GPU)
        with torch.autocast(GPU.type, torch.bfloat16):
            product = layer(torch.ones(4, 3, device=GPU))
            assert (product.dtype, product.softmax(1).dtype) == (torch.bfloat16, torch.float32)
        product.float().sum().backward()
        assert layer.weight.grad.dtype == torch.float32


def results(folder: Path) -> dict[str, np.ndarray]:
    """Arrays, maps, numbers of tables and weights that a run left in its folder."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(item for pattern in ("*", "model/*") for item in folder.glob(pattern)):
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                found |= {f"{path.name}: {name}": arrays[name] for name in arrays.files if arrays[name].dtype.kind in "fiubc"}
        elif path.suffix in (".mrc", ".mrcs"):
            with mrcfile.open(path, permissive=True) as handle:
                found[path.name] = np.array(handle.data)
        elif path.suffix == ".safetensors":
            found |= {f"{path.name}: {name}": values for name, values in load_file(path).items()}
        elif path.suffix == ".star":
            found[path.name] = np.array([float(word) for word in re.findall(r"(?<!\S)-?\d+\.\d+(?!\S)", path.read_text())])
        elif path.suffix == ".csv":
            with open(path, newline="", encoding="utf-8") as handle:
                rows = list(csv.DictReader(handle))
            found |= {f"{path.name}: {name}": np.array([_number(row[name]) for row in rows]) for name in rows[0] if "seconds" not in name}
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference in parts of the largest expected number; infinite where shapes or NaN differ."""
    if found.shape != expected.shape or not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("inf")
    known = np.isfinite(expected)
    if not np.array_equal(found[~known], expected[~known], equal_nan=True):
        return float("inf")
    apart = np.abs(found[known] * 1.0 - expected[known] * 1.0).max(initial=0)
    return float(apart / max(np.abs(expected[known] * 1.0).max(initial=0), 1e-30)) if apart else 0.0
