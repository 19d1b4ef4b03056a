"""The engine's tests run in an interpreter that cannot import Scipion, and in which warnings are errors."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCIPION = ("pyworkflow", "pwem", "tomo", "relion", "xmippLib", "emtable")

# Warnings are errors, those of exceptions that nothing can catch (a file that is never closed) too. Left alone is only what other packages cause.
WARNINGS = (
    "error",
    "ignore:unclosed file .*substitution_matrices:ResourceWarning",  # Biopython opens its matrices and leaves them open, on import and on use
    "ignore:Keyword argument 'eigvals' is deprecated:DeprecationWarning",  # ProDy calls SciPy so
    "ignore:Keyword argument 'turbo' is deprecated:DeprecationWarning",
    r"ignore:.torch\.jit\.script. is deprecated:DeprecationWarning",  # PyTorch's own forward derivatives call it
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the filters of the tests of this folder; what a test sets itself comes after them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(*WARNINGS), append=False)


def pytest_collection_finish() -> None:
    """What was imported stays out of later collections, which take milliseconds then."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_scipion(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``import pyworkflow`` (pwem, tomo ...) raises ImportError during each engine test, and a file left open is told by the test that opened it."""
    for name in [*SCIPION, *(module for module in sys.modules if module.split(".")[0] in SCIPION)]:
        monkeypatch.setitem(sys.modules, name, None)
    yield
    gc.collect()
