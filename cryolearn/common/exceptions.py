"""Input that cannot be used, for both sides."""

__all__ = ["EXIT_BAD_INPUT", "InputError"]

EXIT_BAD_INPUT = 2


class InputError(ValueError):
    """Input that cannot be used. The message is one sentence that names the item and says what to do."""

    exit_code = EXIT_BAD_INPUT
