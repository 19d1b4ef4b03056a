"""What the pages name exists: tests, pictures, links, commands with their options, protocols."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import cryolearn
from cryolearn.engine.commands import COMMANDS
from cryolearn.engine.config import fields_of

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.rst", ROOT / "CONTRIBUTING.rst", *sorted((ROOT / "docs").glob("*.rst"))]
LARGEST_PICTURE = 200_000  # bytes
ALWAYS = {"config", "status", "processes", "help"}

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="needs the source tree")


def _found(pattern: str) -> list[tuple[Path, tuple[str, ...]]]:
    """Every match of a pattern with two groups or more, with its page."""
    return [(page, match) for page in PAGES for match in re.findall(pattern, page.read_text(encoding="utf-8"), re.M)]


def test_every_test_that_holds_a_sentence_exists() -> None:
    named = _found(r"``((?:scipion/)?test_\w+\.py)::(\w+)``")
    assert len(named) > 50
    for page, (file, name) in named:
        path = ROOT / "cryolearn" / "tests" / (file if "/" in file else f"engine/{file}")
        assert path.exists(), f"{page.name} names {file}"
        assert re.search(rf"def {name}\(", path.read_text(encoding="utf-8")), f"{page.name} names {file}::{name}"


def test_pictures_and_linked_pages_exist() -> None:
    pictures = _found(r"\.\. (image|figure):: (\S+)")
    assert pictures
    for page, (_, name) in pictures:
        assert (page.parent / name).exists(), f"{page.name} shows {name}"
    for page, (_, name) in _found(r"(<)((?:docs/|\.\./)?\w+\.rst)>`_"):
        assert (page.parent / name).exists(), f"{page.name} links {name}"
    shown = {(page.parent / name).resolve() for page, (_, name) in pictures}
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture in shown, f"no page shows {picture.name}"
        assert picture.stat().st_size < LARGEST_PICTURE, f"{picture.name} is too large"


def test_command_lines_have_the_options_that_the_commands_have() -> None:
    lines = _found(r"cryolearn\.engine ([a-z]+-?[a-z-]*)((?: .*?\\\n)* [^\n`]*)")
    assert {command for _, (command, _) in lines} > {"normal-modes", "elastic-align", "reconstruct"}
    for page, (command, words) in lines:
        assert command in COMMANDS, f"{page.name} names the command {command}"
        module, name = COMMANDS[command].config.split(":")
        known = set(fields_of(getattr(importlib.import_module(module), name))) | ALWAYS
        for option in re.findall(r"--(\w+)", words):
            assert option in known, f"{page.name}: {command} has no option --{option}"


def test_the_readme_lists_every_protocol() -> None:
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "cryolearn" / "protocols").glob("protocol_*.py"))
    labels = [label for source in sources for label in re.findall(r"^    _label = '(.+)'", source, re.M)]
    assert len(labels) >= 10
    for label in labels:
        assert re.search(rf"^{re.escape(label)} ", readme, re.M | re.I), f"README.rst does not list '{label}'"


def _map_of_the_code() -> dict[str, str]:
    """Paths and texts of the map in docs/developing.rst; depth is two spaces a level."""
    text = (ROOT / "docs" / "developing.rst").read_text(encoding="utf-8").split("Map of the code\n====")[1].split("::\n\n")[1]
    parents: list[str] = []
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"    ( *)(\S+)(?: {2,}(\S.*))?", line)
        if line and not match:
            break
        if match:
            depth = len(match[1]) // 2
            parents = [*parents[:depth], match[2].rstrip("/")]
            found["/".join(parents)] = match[3] or ""
    return found


def test_the_map_of_the_code_is_that_of_the_tree() -> None:
    named = _map_of_the_code()
    packages = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "cryolearn").rglob("__init__.py")}
    assert len(named) > 40
    assert not packages - set(named), f"docs/developing.rst does not name {sorted(packages - set(named))}"
    for path, text in named.items():
        assert (ROOT / path).exists(), f"docs/developing.rst names {path}"
        assert text or path in {"cryolearn", "cryolearn/tests"}, f"docs/developing.rst says nothing of {path}"


def test_commands_that_processes_share_are_all_named() -> None:
    cell = (ROOT / "docs" / "engine.rst").read_text(encoding="utf-8").split("``--processes N``")[1].split("``srun``")[0]
    assert set(re.findall(r"``([a-z-]+)``", cell)) == {name for name, command in COMMANDS.items() if command.shared}


def test_the_five_papers_are_cited_everywhere() -> None:
    references = re.findall(r"@\w+\{(\w+),\n *title *= \{(.+)\},\n", (ROOT / "cryolearn" / "bibtex.py").read_text(encoding="utf-8"))
    titles = {key: re.sub(r"[{}]", "", title) for key, title in references}
    readme = " ".join((ROOT / "README.rst").read_text(encoding="utf-8").split("Papers to cite")[1].split())
    assert len(cryolearn._references) == 5
    for key in cryolearn._references:
        assert titles[key] in readme, f"README.rst does not cite {key}"


def test_the_newest_entry_of_the_changes_is_this_version() -> None:
    entries = re.findall(r"^V(\d+\.\d+\.\d+) \((unreleased|\d{4}-\d\d-\d\d)\)\n-+$", (ROOT / "CHANGES.txt").read_text(encoding="utf-8"), re.M)
    assert entries[0][0] == cryolearn.__version__
    versions = [tuple(int(part) for part in version.split(".")) for version, _ in entries]
    assert versions == sorted(versions, reverse=True)
    assert all(date != "unreleased" for _, date in entries[1:])


def test_the_walk_names_modules_that_exist() -> None:
    text = (ROOT / "docs" / "developing.rst").read_text(encoding="utf-8").split("Walk of a particle\n====")[1].split("Two sides, two environments\n====")[0]
    named = re.findall(r"[a-z_]+(?:/[a-z_]+)+\.py", text)
    assert text.count("::\n") == 4 and len(named) > 35
    for path in named:
        assert (ROOT / "cryolearn" / path).is_file(), f"docs/developing.rst names {path}"
