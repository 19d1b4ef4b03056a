"""Readers on damaged and hostile files: each reads or refuses, in the project's own words and in time. benchmarks/silence_fuzz.py does the same for minutes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .reader_cases import READERS, make_case, try_mutation

MUTATIONS = 60


@pytest.fixture(scope="module", params=sorted(READERS))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("case")
    make_case(request.param, folder)
    return request.param, folder


@settings(max_examples=MUTATIONS, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**31 - 1))
def test_damaged_files_are_read_or_refused(case: tuple[str, Path], seed: int) -> None:
    name, folder = case
    try_mutation(name, folder, seed)
