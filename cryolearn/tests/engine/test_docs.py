"""What the pages name exists: tests, pictures, links, commands with their options, protocols."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from cryolearn.engine.commands import COMMANDS
from cryolearn.engine.config import fields_of

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.rst", *sorted((ROOT / "docs").glob("*.rst"))]
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
    for page, (_, name) in _found(r"(<)((?:docs/)?\w+\.rst)>`_"):
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
