"""Input that cannot be used, and files that cannot be written, for both sides."""

__all__ = ["EXIT_BAD_INPUT", "EXIT_NO_RESOURCE", "InputError", "WriteError"]

EXIT_BAD_INPUT = 2
EXIT_NO_RESOURCE = 3  # the machine lacks what the run needs: a GPU, memory, room on the disk, a process that was killed


class InputError(ValueError):
    """Input that cannot be used. The message is one sentence that names the item and says what to do."""

    exit_code = EXIT_BAD_INPUT


class WriteError(OSError, InputError):
    """A file that cannot be written. The message is one sentence that names the file and says why."""
