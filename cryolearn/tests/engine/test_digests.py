"""What a continued run takes for the same inputs: content, size and time of each input file, of every command."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cryolearn.engine import digests
from cryolearn.engine.config import digest_config
from cryolearn.engine.digests import changed_input, digest_images, digest_input, forget_inputs
from cryolearn.engine.gaussian.config import GaussianHeterogeneityConfig


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A file of 1 MiB, several times as large as the blocks that are looked at."""
    path = tmp_path / "run" / "stack.mrcs"
    path.parent.mkdir()
    path.write_bytes(bytes(range(256)) * 4096)
    return path


def write_at(path: Path, place: int, seconds_later: int = 0) -> None:
    before = path.stat().st_mtime
    with open(path, "r+b") as handle:
        handle.seek(place)
        handle.write(b"other")
    os.utime(path, (before + seconds_later,) * 2)


@pytest.mark.parametrize("change", [
    lambda path: write_at(path, 0), lambda path: write_at(path, (1 << 20) - 5), lambda path: write_at(path, 2 * ((1 << 20) - (64 << 10)) // 5 + 100),
    lambda path: write_at(path, 70_000, seconds_later=2),  # between the blocks: the time says so
    lambda path: os.truncate(path, (1 << 20) - 1),
], ids=["first", "last", "middle", "between", "shorter"])
def test_a_changed_stack_is_seen(stack: Path, change: Callable[[Path], None]) -> None:
    before = digest_images([str(stack)])
    assert digest_images([str(stack)]) == before
    change(stack)
    assert digest_images([str(stack)]) != before


def test_what_is_moved_or_copied_with_its_times_goes_on(stack: Path) -> None:
    before = digest_images([str(stack)]), digest_input(str(stack))
    moved = stack.parent.rename(stack.parent.parent / "elsewhere") / stack.name
    assert (digest_images([str(moved)]), digest_input(str(moved))) == before
    shutil.copy2(moved, moved.with_name("copy.mrcs"))
    assert digest_images([str(moved.with_name("copy.mrcs"))]) == before[0]
    os.utime(moved, (1, 1))
    assert digest_input(str(moved)) == before[1]  # named by a parameter: its content counts, whatever its time
    assert digest_images([str(moved)]) != before[0]


def test_every_file_of_a_set_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_SAMPLED_FILES", 3)
    paths = [tmp_path / f"{number}.mrc" for number in range(10)]
    for path in paths:
        path.write_bytes(b"abc")
        os.utime(path, (100, 100))
    names, seen = [str(path) for path in paths], set()
    seen.add(digest_images(names))
    for path in paths:
        os.utime(path, (101, 101))
        seen.add(digest_images(names))
        os.utime(path, (100, 100))
    assert len(seen) == 11
    assert digest_images(names[:9]) not in seen


@pytest.mark.parametrize("files", [1, 150, 400, 1200])
def test_what_is_read_of_many_stacks_is_bounded_and_holds_their_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    paths = [str(tmp_path / f"{number}.mrc") for number in range(files)]
    for path in paths:
        Path(path).touch()
        os.truncate(path, 1 << 20)  # sparse
    read: dict[str, list[int]] = {}

    class Counted:
        def __init__(self, path: str) -> None:
            self.places = read.setdefault(path, [])

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def seek(self, place: int) -> None:
            self.places.append(place)

        def read(self, size: int) -> bytes:
            return b"x" * size

    monkeypatch.setattr(digests, "open", lambda path, *_, **__: Counted(path), raising=False)
    digest_images(paths)
    assert sum(map(len, read.values())) <= 1002
    assert all({0, (1 << 20) - (64 << 10)} <= set(places) for places in read.values())
    assert {paths[0], paths[-1]} <= set(read) and len(read) >= min(files, 400)
    assert len(read[paths[0]]) == {1: 6, 150: 6, 400: 2, 1200: 2}[files]


@pytest.mark.parametrize(("name", "beside"), [("modes.npz", "structure.pdb"), ("a.cs", "a_passthrough_b.cs"), ("a.hed", "a.img"), ("a.img", "a.hed")])
def test_files_that_are_read_from_beside_one_count(tmp_path: Path, name: str, beside: str) -> None:
    (tmp_path / name).write_text("named")
    alone = digest_input(str(tmp_path / name))
    (tmp_path / beside).write_text("one")
    both = digest_input(str(tmp_path / name))
    (tmp_path / beside).write_text("two")
    assert len({alone, both, digest_input(str(tmp_path / name))}) == 3


def test_digests_of_runs_cover_the_images(stack: Path) -> None:
    config = GaussianHeterogeneityConfig(particles=str(stack))
    before = digest_config(config, (str(stack),))
    write_at(stack, 70_000, seconds_later=2)
    assert digest_config(config, (str(stack),)) != before


def test_a_file_that_changes_during_a_run_is_named(stack: Path) -> None:
    forget_inputs()
    digest_images([str(stack)])
    assert not changed_input("out")
    write_at(stack, 70_000, seconds_later=1)
    assert changed_input("out") == str(stack)
    assert not changed_input(str(stack.parent))  # a file that the run itself has written
    stack.unlink()
    assert changed_input("out") == str(stack)
    forget_inputs()
    assert not changed_input("out")
