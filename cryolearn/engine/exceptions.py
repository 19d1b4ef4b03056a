"""What the engine says when it cannot go on, and the exit code that goes with it."""

import math

from ..common.exceptions import EXIT_BAD_INPUT, EXIT_NO_RESOURCE, InputError, WriteError

__all__ = [
    "EXIT_BAD_INPUT", "EXIT_CRASH", "EXIT_INTERRUPTED", "EXIT_NO_RESOURCE", "EXIT_OK", "EXTREMES", "DeviceError", "InputError", "WriteError", "require_finite",
]

EXTREMES = "look for extreme values in the images, the map and its Gaussians"
EXIT_OK = 0
EXIT_CRASH = 1
EXIT_INTERRUPTED = 130


class DeviceError(InputError):
    """A device was asked for that is not there."""

    exit_code = EXIT_NO_RESOURCE


def require_finite(value: float, what: str, remedy: str) -> float:
    """The value itself, when it is a finite number.

    Raises
    ------
    InputError
        naming ``what`` the value is, and the ``remedy``.
    """
    if not math.isfinite(value):
        raise InputError(f"{what} is not a number ({value}): {remedy}.")
    return value
