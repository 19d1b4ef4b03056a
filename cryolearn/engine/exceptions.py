"""What the engine says when it cannot go on, and the exit code that goes with it."""

from ..common.exceptions import EXIT_BAD_INPUT, EXIT_NO_RESOURCE, InputError, WriteError

__all__ = ["EXIT_BAD_INPUT", "EXIT_CRASH", "EXIT_INTERRUPTED", "EXIT_NO_RESOURCE", "EXIT_OK", "DeviceError", "InputError", "WriteError"]

EXIT_OK = 0
EXIT_CRASH = 1
EXIT_INTERRUPTED = 130


class DeviceError(InputError):
    """A device was asked for that is not there."""

    exit_code = EXIT_NO_RESOURCE
