"""The order of samples and the learning rate follow from numbers alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryolearn.engine.elastic.network.labelled_particles import is_labelled, labelled_before, share_of_labels
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.training.plan import BLOCK, TrainingPlan, block_generator, shuffled


def make_plan(**changes) -> TrainingPlan:
    values = dict(digest="d", seed=3, epochs=4, images_per_epoch=640, batch=64, learning_rate=1e-3, weight_decay=0.0)
    return TrainingPlan(**{**values, **changes})


@given(step=st.integers(0, 10**6), world=st.sampled_from([1, 2, 4]))
def test_processes_share_a_step_without_gap_or_overlap(step: int, world: int) -> None:
    plan = make_plan()
    shares = [plan.blocks(step, rank, world) for rank in range(world)]
    assert sorted(block for share in shares for block in share) == plan.blocks(step)
    assert {sum(size for _, size in share) for share in shares} == {plan.batch // world}


def test_no_block_is_used_twice_and_validation_has_its_own() -> None:
    plan = make_plan()
    numbers = [number for step in range(plan.steps) for number, _ in plan.blocks(step)]
    assert len(set(numbers)) == len(numbers) == plan.steps * plan.batch // BLOCK
    assert not set(numbers) & {number for number, _ in plan.validation_blocks()}


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(InputError, match=r"24 images .* 2 processes: choose a multiple of 32"):
        make_plan(batch=24).check_processes(2)
    make_plan(batch=24).check_processes(1)
    assert sum(size for _, size in make_plan(batch=24).blocks(5)) == 24


def test_random_numbers_of_a_block_depend_on_seed_and_number_only() -> None:
    first = torch.rand(5, generator=block_generator(1, 7))
    torch.rand(100)
    assert torch.equal(first, torch.rand(5, generator=block_generator(1, 7)))
    for seed, block in ((1, 8), (2, 7), (1, -7)):
        assert not torch.equal(first, torch.rand(5, generator=block_generator(seed, block)))


def test_each_round_through_a_labelled_set_is_a_permutation_of_it() -> None:
    orders = [shuffled(1, turn, 50) for turn in range(3)]
    for order in orders:
        assert np.array_equal(np.sort(order), np.arange(50))
    assert not np.array_equal(orders[0], orders[1])


def test_cosine_rises_falls_and_ends_at_nothing() -> None:
    plan = make_plan(epochs=100)
    rates = [plan.rate(step) for step in range(plan.steps)]
    assert max(rates) == pytest.approx(1.0) and rates[0] == pytest.approx(1 / plan.warm_up_steps)
    middle = plan.warm_up_steps + (plan.steps - plan.warm_up_steps) // 2
    assert rates[middle] == pytest.approx(0.5, abs=1e-3)  # cos(pi / 2) = 0
    assert rates[-1] < 0.5 * (1 - math.cos(math.pi * 2 / plan.steps))
    assert make_plan(schedule="plateau", epochs=100).rate(500) == 1.0


def test_the_inverse_schedule_is_that_of_keras() -> None:
    """Keras' SGD: rate / (1 + decay * updates before this one), here as the optimiser gets it."""
    plan = make_plan(schedule="inverse", decay=0.25)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, plan.rate)
    steps = []
    for _ in range(5):
        before = float(weight.detach())
        weight.grad = torch.ones(1)
        optimiser.step()
        scheduler.step()
        steps.append(before - float(weight.detach()))
    np.testing.assert_allclose(steps, [1 / (1 + 0.25 * step) for step in range(5)], rtol=1e-6)


@given(share=st.floats(0.01, 1.0), blocks=st.integers(1, 500))
def test_labelled_blocks_have_their_share(share: float, blocks: int) -> None:
    count = sum(is_labelled(block, share) for block in range(blocks))
    assert count == labelled_before(blocks, share)
    assert abs(count - share * blocks) < 1


def test_a_small_labelled_set_is_not_repeated_without_end() -> None:
    assert share_of_labels(10**6, 10**6) == 0.25
    assert share_of_labels(300, 300_000) * 300_000 == pytest.approx(10 * 300)
