"""The command line, generated from the commands' dataclasses."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import jsonargparse

from .commands import COMMANDS
from .config import default_of, fields_of, help_of, types_of
from .exceptions import InputError


class CommandParser(jsonargparse.ArgumentParser):
    """Parser of one command's options; what it cannot use is an :class:`InputError` with one sentence."""

    field_names: frozenset[str] = frozenset()

    def error(self, message: str, ex: Exception | None = None) -> Any:  # type: ignore[override]
        """Raise an :class:`InputError` with the message in one sentence."""
        lines = [line.strip() for line in str(message).splitlines() if line.strip()]
        raise InputError(f"{' '.join(lines).rstrip('.')}. Type '{self.prog} --help' for the parameters.")


def command_parser(command: str, config_class: type[Any]) -> CommandParser:
    """Parser with one ``--field`` for each parameter of a command, besides ``--config``, ``--status`` and ``--processes``."""
    parser = CommandParser(
        prog=f"python -m cryolearn.engine {command}",
        description=inspect.cleandoc(config_class.__doc__ or ""),
        default_env=False,
        allow_abbrev=False,
        formatter_class=_Formatter,
    )
    parser.add_argument("--config", type=str, metavar="FILE", help="JSON file of parameters; options given beside it win.")
    parser.add_argument("--status", type=str, metavar="FILE", help="Write exit code and error sentence here at the end.")
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="Processes that share the work (torchrun, or srun under SLURM)."
    )
    types = types_of(config_class)
    for name in fields_of(config_class):
        # Values are only parsed here; check_config says in one sentence what a wrong one must be.
        parser.add_argument(
            f"--{name}",
            type=str if types[name] is str else Any,
            default=None,
            metavar=_METAVARS.get(types[name], "[A,B,...]"),
            help=_help(config_class, name),
        )
    parser.field_names = frozenset(fields_of(config_class))
    return parser


def list_commands() -> str:
    """All commands with the first line of their help."""
    width = max(map(len, COMMANDS))
    lines = ["usage: python -m cryolearn.engine COMMAND --config file.json [--field value ...]", "", "commands:"]
    for name, place in COMMANDS.items():
        module, class_name = place.config.split(":")
        doc = inspect.getdoc(getattr(importlib.import_module(module), class_name)) or ""
        lines.append(f"  {name:{width}}  {doc.splitlines()[0]}")
    lines += [
        "",
        "python -m cryolearn.engine COMMAND --help    the parameters of a command with units, ranges and defaults",
        "python -m cryolearn.engine --versions        versions of the engine and its libraries, as JSON",
        "python -m cryolearn.engine --devices         the GPUs that PyTorch can use here, as JSON",
    ]
    return "\n".join(lines)


class _Formatter(jsonargparse.DefaultHelpFormatter):
    """Keeps the paragraphs of a command's description, and adds nothing to our help texts."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in text.splitlines())

    def _expand_help(self, action: Any) -> str:
        return (action.help or "").replace("%%", "%")


_METAVARS = {bool: "true|false", int: "WHOLE", float: "NUMBER", str: "TEXT"}


def _help(config_class: type[Any], name: str) -> str:
    default = default_of(config_class, name)
    choices = fields_of(config_class)[name].metadata.get("choices")
    text = help_of(config_class, name)
    if choices:
        text += f" One of: {', '.join(choices)}."
    shown = "none" if default in ("", []) else str(default).lower() if isinstance(default, bool) else default
    return f"{text} Default: {shown}.".replace("%", "%%")
