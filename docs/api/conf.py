"""Sphinx: the API reference of the engine, from its docstrings. Built by "make docs"; the guides are the .rst files one folder up."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import cryolearn  # noqa: E402

project = "cryolearn engine"
author = "the cryolearn developers"
release = version = cryolearn.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.apidoc", "sphinx.ext.mathjax", "numpydoc"]
apidoc_modules = [{
    "path": str(ROOT / "cryolearn"), "destination": "modules", "separate_modules": True, "module_first": True,
    "exclude_patterns": [str(path) for path in (ROOT / "cryolearn").iterdir() if path.name not in ("engine", "__init__.py")],
    "automodule_options": {"members", "show-inheritance"},
}]
autodoc_typehints = "none"  # they stand in the signatures
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
suppress_warnings = ["ref.python"]  # a name that several modules have
html_theme = "alabaster"
html_theme_options = {"page_width": "1100px", "fixed_sidebar": True}


def escape_bars(app, what, name, obj, options, lines):
    """``|x|`` is an absolute value here, not one of reStructuredText's substitutions."""
    for number, line in enumerate(lines):
        parts = line.split("``")
        lines[number] = "``".join(part if index % 2 else part.replace("|", r"\|") for index, part in enumerate(parts))


def only_ours(app, what, name, obj, skip, options):
    """No classes of other packages that a module imports."""
    return True if not getattr(obj, "__module__", "cryolearn").startswith("cryolearn") else None


def setup(app):
    app.connect("autodoc-process-docstring", escape_bars, priority=900)
    app.connect("autodoc-skip-member", only_ours)
