"""What the engine says when it cannot go on, and the exit code that goes with it."""

EXIT_OK = 0
EXIT_CRASH = 1
EXIT_BAD_INPUT = 2
EXIT_NO_DEVICE = 3
EXIT_INTERRUPTED = 130


class InputError(ValueError):
    """Input that cannot be used. The message is one sentence that names the item and says what to do."""

    exit_code = EXIT_BAD_INPUT


class DeviceError(InputError):
    """A device was asked for that is not there."""

    exit_code = EXIT_NO_DEVICE
