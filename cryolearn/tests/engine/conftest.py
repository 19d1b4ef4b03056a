"""The engine's tests run in an interpreter that cannot import Scipion, and in which warnings are errors."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

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


_every_picture = False


def _kind(figure: Figure) -> tuple[object, ...]:
    """What pictures of one kind have in common: their texts without numbers, and how much is drawn in each part."""
    parts = [(re.sub(r"[-\d.]+", "#", f"{axes.get_title()}|{axes.get_xlabel()}|{axes.get_ylabel()}"), axes.get_xscale(), axes.get_yscale(),
              len(axes.get_children()), axes.get_legend() is None) for axes in figure.axes]
    return (tuple(figure.get_size_inches()), *parts)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Tests cut no power: files need not be on the disk, which takes milliseconds for each of thousands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def each_kind_of_picture_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A picture of a kind that this process has drawn already is that one again: half a second of the processor for each of a thousand."""
    folder, drawn = tmp_path_factory.mktemp("pictures"), dict[tuple[object, ...], Path]()
    draw = Figure.savefig

    def savefig(figure: Figure, path: Any, **options: Any) -> None:
        kind = (*_kind(figure), *sorted(options.items()))
        if kind not in drawn or _every_picture:
            draw(figure, path, **options)
            drawn[kind] = Path(shutil.copy(path, folder / f"{len(drawn)}.png"))
        else:
            shutil.copy(drawn[kind], path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", savefig)
        yield


@pytest.fixture
def every_picture() -> Iterator[None]:
    """For tests of pictures: all are drawn."""
    global _every_picture
    _every_picture = True
    yield
    _every_picture = False


@pytest.fixture(autouse=True)
def no_scipion(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``import pyworkflow`` (pwem, tomo ...) raises ImportError during each engine test, and a file left open is told by the test that opened it."""
    for name in [*SCIPION, *(module for module in sys.modules if module.split(".")[0] in SCIPION)]:
        monkeypatch.setitem(sys.modules, name, None)
    yield
    gc.collect()
