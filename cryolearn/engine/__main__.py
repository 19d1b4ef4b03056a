"""``python -m cryolearn.engine COMMAND --config file.json [--field value ...]``.

Exit codes: 0 done, 1 crash (with a traceback), 2 input that cannot be used, 3 the machine lacks what is needed (GPU, memory, disk), 130 interrupted.
Nothing is written before the parameters have been checked.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any

from ..common.atomic import remove_parts, write_json
from .commands import COMMANDS
from .config import check_config, load_config
from .cpu import cpu_threads, keep_freed_memory, share_cores_politely
from .digests import changed_input, forget_inputs
from .exceptions import EXIT_BAD_INPUT, EXIT_CRASH, EXIT_INTERRUPTED, EXIT_OK, InputError
from .failures import explain, make_folder, tolerate_encodings
from .launch import forget_launchers, is_first_process, launch_processes, process_rank
from .options import command_parser, list_commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    share_cores_politely()
    keep_freed_memory()
    tolerate_encodings(sys.stdout, sys.stderr)
    forget_launchers()
    words = list(sys.argv[1:] if arguments is None else arguments)
    status_file: str | None = None
    error: str | None = None
    code, is_said = EXIT_OK, False
    try:
        if not words or words[0] in ("-h", "--help"):
            print(list_commands())
            return EXIT_OK if words else EXIT_BAD_INPUT
        if words[0] == "--versions":
            print(json.dumps(_versions()))
            return EXIT_OK
        if words[0] == "--devices":
            print(json.dumps(_devices()))
            return EXIT_OK
        if words[0] not in COMMANDS:
            raise InputError(f"There is no command '{words[0]}': choose one of {', '.join(COMMANDS)}.")
        command, rest = words[0], words[1:]
        status_file = _value_of(rest, "--status")
        config, processes = _read_config(command, rest)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)
        if processes > 1:
            make_folder(config.output)
            code, error, is_said = launch_processes(processes, words, config.output)
        else:
            _run(command, config)
    except InputError as problem:
        error, code = str(problem), problem.exit_code
    except KeyboardInterrupt:
        error, code = "Interrupted. Started again with the same parameters, it goes on from the last record.", EXIT_INTERRUPTED
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else EXIT_CRASH
        error = f"The command stopped with exit code {code}." if code else None
    except Exception as crash:
        if known := explain(crash):
            error, code = known
        else:
            traceback.print_exc()
            error, code = f"{type(crash).__name__}: {crash}", EXIT_CRASH
    by_launcher = code == EXIT_INTERRUPTED and status_file is not None and os.path.isdir(status_file)  # which says why
    if error and not is_said and not by_launcher:
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
    if status_file and (error or is_first_process() or os.path.isdir(status_file)):
        _write_status(status_file, code, error)
    return code


def _read_config(command: str, words: list[str]) -> tuple[Any, int]:
    """Checked parameters of a command (file first, then options) and the number of processes asked for."""
    config_class = _load(COMMANDS[command].config)
    path = _value_of(words, "--config")
    from_file = dataclasses.asdict(load_config(config_class, path)) if path else {}
    parser = command_parser(command, config_class)
    given = parser.parse_args(words)
    options = {name: value for name, value in vars(given).items() if name in parser.field_names and value is not None}
    config = config_class(**{**from_file, **options})
    check_config(config)
    if given.processes > 1 and not COMMANDS[command].shared:
        raise InputError(f"The command {command} works in one process: leave --processes out and give it more threads.")
    return config, given.processes


def _run(command: str, config: Any) -> None:
    # PyTorch and the BLAS libraries size their thread pools when they are imported.
    os.environ.setdefault("OMP_NUM_THREADS", str(cpu_threads(config.threads)))
    run = _load(COMMANDS[command].run)
    make_folder(config.output)
    first = is_first_process()
    if first:
        remove_parts(config.output)
    forget_inputs()
    run(config)
    if first and (changed := changed_input(config.output)):
        raise InputError(f"The input '{changed}' was changed while the run read it, and the results may be of both: run again.")


def _load(place: str) -> Any:
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def _value_of(words: list[str], option: str) -> str | None:
    """Value of ``--option value`` or ``--option=value``, looked up before the words are parsed."""
    for index, word in enumerate(words):
        if word == option and index + 1 < len(words):
            return words[index + 1]
        if word.startswith(option + "="):
            return word[len(option) + 1 :]
    return None


def _write_status(path: str, code: int, error: str | None) -> None:
    """How the run ended, for whoever started it and cannot see the exit code (a queue); into a folder each of several processes writes."""
    if os.path.isdir(path):
        path = os.path.join(path, f"{process_rank()[0]}.json")
    with contextlib.suppress(OSError):
        write_json(path, {"exit_code": code, "error": error})


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    from .. import __version__

    found = {"cryolearn": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for name in ("torch", "lightning", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _devices() -> dict[str, Any]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"gpus": count, "names": [torch.cuda.get_device_name(index) for index in range(count)]}


if __name__ == "__main__":
    sys.exit(main())
