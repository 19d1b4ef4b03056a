"""Result files are written whole or not at all, by every writer of the engine."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gemmi
import mrcfile
import numpy as np
import pytest
import torch

import cryolearn
from cryolearn.engine.figures import line_plot, save_figure
from cryolearn.engine.io.atomic import new_mrc, open_whole, plain_value, whole_file, write_csv, write_json, write_npz, write_text
from cryolearn.engine.io.maps import MapSeriesWriter, write_map
from cryolearn.engine.io.models import save_model
from cryolearn.engine.io.star_text import write_star
from cryolearn.engine.io.tables import write_table

ROOT = Path(cryolearn.__file__).parent.parent


class Broken(Exception):
    """Something that goes wrong in the middle of writing."""


def failing_rows() -> object:
    yield ["a", 1]
    raise Broken


@pytest.mark.parametrize("name", ["plain.txt", "with space.txt", "-dash", "ünï çödé 粒子.star", "a%s {b} 'c' \"d\".csv", "line\nbreak", "é" * 127, "x" * 255])
def test_odd_names(tmp_path: Path, name: str) -> None:
    """Any name that the file system takes, the longest (255 bytes) among them."""
    write_text(tmp_path / name, "first")
    write_text(str(tmp_path / name), "second")
    assert (tmp_path / name).read_text() == "second"
    assert os.listdir(tmp_path) == [name]


def test_a_bare_name_is_written_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_text("bare", "x")
    assert os.listdir(tmp_path) == ["bare"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "new", "x")
        write_npz(tmp_path / "new.npz", {"a": np.zeros(2)})
        with new_mrc(tmp_path / "new.mrc") as handle:
            handle.set_data(np.zeros((2, 2, 2), np.float32))
    finally:
        os.umask(before)
    for name in ("new", "new.npz", "new.mrc"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~umask


def test_a_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    (tmp_path / "input").write_text("somebody else's")
    (tmp_path / "result").symlink_to(tmp_path / "input")
    write_text(tmp_path / "result", "ours")
    assert (tmp_path / "input").read_text() == "somebody else's" and not (tmp_path / "result").is_symlink()


def broken_text(path: Path) -> None:
    with open_whole(path) as handle:
        handle.write("half of i")
        handle.flush()
        raise Broken


def broken_named(path: Path) -> None:
    with whole_file(path) as part:
        Path(part).write_bytes(b"half of i")
        raise Broken


def broken_mrc(path: Path) -> None:
    with new_mrc(path) as handle:
        handle.set_data(np.zeros((2, 2, 2), np.float32))
        raise Broken


def broken_series(path: Path) -> None:
    with MapSeriesWriter(str(path), 2, 4, 1.0) as writer:
        writer.write(0, np.zeros((4, 4, 4)))
        raise Broken


def broken_figure(path: Path) -> None:
    figure = line_plot([0, 1], {"a": [0, 1]}, "x", "y")
    figure.savefig = lambda *args, **options: (Path(args[0]).write_bytes(b"half"), interrupted())  # type: ignore[method-assign]
    save_figure(figure, str(path))


def interrupted(*_: object) -> object:
    raise Broken


@pytest.mark.parametrize("write", [
    broken_text, broken_named, broken_mrc, broken_series, broken_figure,
    lambda path: write_csv(path, ["name", "value"], failing_rows()),
    lambda path: write_json(path, {"a": object()}, default=interrupted),
    lambda path: write_npz(path, {"a": np.zeros(1000), "b": np.array([object()])}),
    lambda path: write_map(str(path), np.zeros((4, 4)), 1.0),
    lambda path: write_table(str(path), {"id": [1], "a": [object()]}),
    lambda path: write_star(str(path), {"particles": {"a": np.array([1]), "b": np.array([[1], [2]])}}),
], ids=["text", "named", "mrc", "series", "figure", "csv", "json", "npz", "map", "table", "star"])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "result"
    path.write_text("old")
    with pytest.raises((Broken, ValueError)):
        write(path)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["result"]


def test_an_error_leaves_the_old_model(tmp_path: Path) -> None:
    save_model(str(tmp_path), {"w": torch.ones(2)}, {"kind": "old"})
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    with pytest.raises(TypeError):
        save_model(str(tmp_path), {"w": torch.zeros(2)}, {"kind": object()})
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before


def test_a_kill_leaves_the_old_file(tmp_path: Path) -> None:
    """kill -9 in the middle: the old file is as it was, and what is left beside it has a name that no reader looks for."""
    (tmp_path / "summary.json").write_text("{}")
    code = (
        "import os, signal\nfrom cryolearn.common.atomic import open_whole\n"
        f"with open_whole({str(tmp_path / 'summary.json')!r}) as handle:\n"
        "    handle.write('half'); handle.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert (tmp_path / "summary.json").read_text() == "{}"
    (left,) = (name for name in os.listdir(tmp_path) if name != "summary.json")
    assert left.startswith(".") and left.endswith(".part")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": np.arange(2), "t": torch.tensor([0.5])}, default=plain_value, sort_keys=True)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [0, 1], "b": 1, "t": [0.5]}
    write_csv(tmp_path / "a.csv", ["name", "value"], ([name, number] for number, name in enumerate(["x, y", 'say "z"'])))
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as handle:
        assert list(csv.reader(handle)) == [["name", "value"], ["x, y", "0"], ['say "z"', "1"]]
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()
    write_npz(tmp_path / "a.npz", {"a": np.arange(3), "b": 2.5})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert found["a"].tolist() == [0, 1, 2] and float(found["b"]) == 2.5
    with new_mrc(tmp_path / "a.mrc") as handle:
        handle.set_data(np.arange(8, dtype=np.float32).reshape(2, 2, 2))
        handle.voxel_size = 1.5
    with mrcfile.open(tmp_path / "a.mrc") as found:
        assert found.data.sum() == 28 and found.voxel_size.x == 1.5
    assert gemmi.read_ccp4_map(str(tmp_path / "a.mrc")).grid.nu == 2


@pytest.mark.parametrize("mode", ["a", "r+", "x", "ab", "w+"])
def test_a_file_that_is_written_whole_is_not_added_to(tmp_path: Path, mode: str) -> None:
    with pytest.raises(ValueError, match="'w' or 'wb'"), open_whole(tmp_path / "a", mode):
        pass
    assert not os.listdir(tmp_path)


# ------------------------------------------------ nothing else writes ------------------------------------------------
METHODS = {"write_text", "write_bytes", "rename", "touch", "symlink_to", "tofile", "savefig", "to_csv", "write_pdb", "write_file", "save_checkpoint"}
FUNCTIONS = {
    "os.replace", "os.rename", "os.link", "os.symlink", "os.fdopen", "shutil.move", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree",
    "np.save", "np.savez", "np.savez_compressed", "np.savetxt", "np.lib.format.open_memmap", "json.dump", "torch.save", "pickle.dump", "mrcfile.new",
    "mrcfile.new_mmap", "save_file", "prody.writePDB", "prody.saveModel", "prody.writeNMD", "tempfile.mkstemp", "tempfile.NamedTemporaryFile",
}
EXCEPTIONS = {
    # image stacks, written image by image and continued after a kill; they stand under '.part' until they are complete
    ("io/stacks.py", "open(self._part, 'r+b' if self.goes_on else 'w+b')"),
    # rows of a run's records, each marked when it is complete
    ("io/recorded_array.py", "np.lib.format.open_memmap(path, 'w+', dtype, shape)"),
    ("io/recorded_array.py", "np.lib.format.open_memmap(marks, 'w+', np.bool_, shape[:1])"),
    # distances beyond a gibibyte, in a file instead of memory; no other run reads it
    ("orientation/distance_network/distance_model.py", "np.memmap(path, np.float32, 'w+', shape=shape)"),
}


def written_by_hand(code: str) -> list[str]:
    """Calls that write, rename or copy to a file, except those on a name or handle that :mod:`cryolearn.common.atomic` gave."""
    tree, found, whole = ast.parse(code), [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name) and re.search(r"\b(whole_file|open_whole|new_mrc)\(", ast.unparse(node)):
            whole.add(node.optional_vars.id)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and "whole_file(" in ast.unparse(node.value):
            whole.add(node.targets[0].id)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) else name
        modes = [item for item in (*node.args, *(word.value for word in node.keywords if word.arg == "mode")) if not isinstance(item, ast.Name)]
        texts = {item.value for mode in modes for item in ast.walk(mode) if isinstance(item, ast.Constant) and isinstance(item.value, str)}
        to_write = any(re.fullmatch(r"[rbtU]*[wax+][rwaxbt+]*", text) for text in texts)
        by_hand = (
            (method in ("open", "memmap") and to_write) or name in FUNCTIONS or (isinstance(node.func, ast.Attribute) and method in METHODS)
            or (method == "replace" and name != "replace" and len(node.args) == 1 and not node.keywords)  # Path.replace; str.replace takes two
        )
        given = {item.id for item in ast.walk(node) if isinstance(item, ast.Name)}
        if by_hand and not given & whole:
            found.append(ast.unparse(node))
    return found


def test_nothing_is_written_by_hand() -> None:
    """All of the engine writes by one module; the exceptions are named, and each of them is still there."""
    engine = ROOT / "cryolearn" / "engine"
    found = {(str(path.relative_to(engine)), text) for path in engine.rglob("*.py") if path != engine / "io" / "atomic.py"
             for text in written_by_hand(path.read_text(encoding="utf-8"))}
    assert found == EXCEPTIONS


@pytest.mark.parametrize("code", [
    "with open(path, 'w') as handle: pass", "open(path, mode='ab')", "open(path, 'r+b')", "Path(path).open('x')", "(out / 'a').write_text('b')",
    "os.replace(part, path)", "part.replace(path)", "part.rename(path)", "np.savez(path, a=1)", "json.dump({}, handle)", "shutil.copyfile(a, b)",
    "figure.savefig(path)", "np.memmap(path, np.float32, 'w+', shape=shape)", "document.write_pdb(path)", "save_file(weights, path)",
    "with whole_file(a) as part: save_file(weights, path)",
])
def test_what_is_written_by_hand_would_be_seen(code: str) -> None:
    assert len(written_by_hand(code)) == 1


@pytest.mark.parametrize("code", [
    "open(path)", "open(path, 'rb')", "text.replace('a', 'b')", "dataclasses.replace(config, a=1)", "replace(config, a=1)",
    "np.memmap(path, kind, 'r', 0, shape)",
    "with whole_file(path) as part: save_file(weights, part)", "with open_whole(path, 'wb') as handle: np.savez(handle, a=1)", "write_text(path, 'w')",
    "open(path, encoding='utf-8')",
])
def test_what_reads_is_no_writer(code: str) -> None:
    assert not written_by_hand(code)
