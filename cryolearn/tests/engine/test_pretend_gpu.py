"""Every command that computes on a GPU, on a pretend one (:mod:`cryolearn.tests.pretend_gpu`): no fault of devices, and the CPU's results."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.__main__ import _load, main
from cryolearn.engine.commands import COMMANDS

from ..pretend_gpu import GPU, pretend_gpu
from ..pretend_gpu_engine import run_on_pretend_gpu
from .bad_input_sets import COMMANDS as QUICK
from .bad_input_sets import make_sets, words_of
from .command_results import CASES, SIXTEEN_BITS, TRAININGS, difference, results, words_of_case

_MADE = {"elastic-align": "alignment", "gaussian-heterogeneity": "motion", "subtomogram-subdivide": "features"}  # runs of the CPU that are among the inputs


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sets(tmp_path_factory.mktemp("sets"), whole=True)


@pytest.mark.parametrize("name", CASES)
def test_a_command_gives_the_results_of_the_cpu(sets: Path, tmp_path: Path, name: str) -> None:
    tolerance = CASES[name][2]
    code, counts = run_on_pretend_gpu(words_of_case(name, tmp_path / "gpu", sets), sixteen_bits=tolerance == SIXTEEN_BITS)
    assert code == 0
    assert counts.launches
    cpu = sets / _MADE[name] if name in _MADE else tmp_path / "cpu"
    assert cpu.exists() or main(words_of_case(name, cpu, sets)) == 0
    found, expected = results(tmp_path / "gpu"), results(cpu)
    assert found.keys() == expected.keys()
    assert expected
    too_far = {place: apart for place, values in expected.items() if not (apart := difference(found[place], values)) <= tolerance}
    assert not too_far


@pytest.mark.parametrize("name", TRAININGS)
def test_a_gpu_trains_in_sixteen_bits(sets: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Autocast casts what has to stay in 32 bits, and nothing meets a number of the other kind; the losses are those of the CPU."""
    assert run_on_pretend_gpu(words_of(name, tmp_path / "gpu", QUICK[name], sets))[0] == 0
    assert "precision bf16-mixed" in capfd.readouterr().out
    found, expected = (results(folder) for folder in (tmp_path / "gpu", sets / TRAININGS[name]))
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
