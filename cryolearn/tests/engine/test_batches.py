"""How many are worked on together: sizes by device, halves after memory ran out, and one copy to the host."""

from __future__ import annotations

import pytest
import torch

from cryolearn.engine import batches
from cryolearn.engine.batches import BatchPlan, print_plans, to_host
from cryolearn.engine.elastic.alignment.global_search import first_distinct
from cryolearn.engine.elastic.alignment.tilt_particles import TiltGroups


def test_memory_that_runs_out_halves_the_batch_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    plan, sizes = BatchPlan("images", 8, 1 << 20), []

    def work(part: slice) -> list[int]:
        sizes.append(part.stop - part.start)
        if sizes[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return list(range(part.start, part.stop))

    assert [number for part in plan.run(9, work) for number in part] == list(range(9))
    assert sizes == [8, 4, 2, 2, 2, 2, 1] and plan.at_once == 2
    assert "not enough memory: from now on 2 images at a time (2 MiB)" in capsys.readouterr().out


def test_memory_that_does_not_suffice_for_one_and_other_errors_are_raised() -> None:
    for error in (MemoryError(), ValueError("wrong"), RuntimeError("shapes differ")):
        def work(_: slice, error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)):
            BatchPlan("images", 4, 1).run(4, work)


def test_a_batch_fills_two_fifths_of_a_gpu_and_the_cpu_keeps_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(batches, "free_bytes", lambda device: 10 << 30)
    many = BatchPlan.fitting("images", 1 << 20, torch.device("cuda", 0), on_cpu=4)
    assert many.at_once == 4096 and many.run(5000, lambda part: part.stop - part.start, each=2) == [2048, 2048, 904]
    assert BatchPlan.fitting("images", 1 << 20, torch.device("cpu"), on_cpu=4).at_once == 4
    print_plans([many])
    assert capsys.readouterr().out == "at once: 4096 images at a time (4096 MiB)\n"


def test_one_copy_to_the_host_keeps_shapes_and_types(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"turn": torch.randn(3, 2, 2), "flags": torch.tensor([0, 5, 9]), "sure": torch.tensor([True, False, True])}
    plain = to_host(columns)

    class Elsewhere(torch.Tensor):
        device = torch.device("cuda", 0)

    packed = to_host({name: values.as_subclass(Elsewhere) for name, values in columns.items()})
    for name, values in plain.items():
        assert packed[name].dtype == values.dtype and (packed[name] == values).all() and packed[name].shape == values.shape


def test_the_first_that_differ_come_first_and_the_next_best_fill_up() -> None:
    """Against the rule one by one, of several images at once."""
    made = torch.Generator().manual_seed(1)
    same = torch.rand(6, 12, 12, generator=made) < 0.35
    same |= same.transpose(1, 2) | torch.eye(12, dtype=torch.bool)
    for image, found in zip(same, first_distinct(same, 7)):
        taken: list[int] = []
        for entry in range(12):
            if not any(image[entry, other] for other in taken):
                taken.append(entry)
        taken += [entry for entry in range(12) if entry not in taken]
        assert found.tolist() == taken[:7]


def test_thinned_series_keep_both_ends_of_each_particle() -> None:
    member = torch.repeat_interleave(torch.arange(3), torch.tensor([2, 9, 5]))
    groups = TiltGroups(matrix=torch.eye(3).repeat(16, 1, 1) * torch.arange(16)[:, None, None], member=member, count=3)
    rows, fewer = groups.thinned(3)
    assert rows.tolist() == [0, 1, 2, 6, 10, 11, 13, 15] and fewer.member.tolist() == [0, 0, 1, 1, 1, 2, 2, 2]
    assert torch.equal(fewer.matrix, groups.matrix[rows])
