"""Errors for invalid input, and functions that format names and values in messages."""

from __future__ import annotations

from typing import ClassVar, Literal

LONGEST_SHOWN = 1000  # characters

ErrorCode = Literal[
    "invalid_setting",
    "not_found",
    "unreadable_input",
    "invalid_list",
    "mismatched_pair",
    "unusable_recording",
    "missing_package",
    "unavailable",
    "output_exists",
    "in_use",
    "io_error",
    "out_of_memory",
    "job_failed",
    "fit_diverged",
    "damaged_results",
]
"""Kinds of failures, which docs/outputs.md explains. Unlike messages they do not change between versions."""


class BadInput(ValueError):
    """Invalid input. The message is one line with the value and the expected value.

    Args:
        message: the message.
        code: the kind of failure.
    """

    def __init__(self, message: str, *, code: ErrorCode = "invalid_setting") -> None:
        super().__init__(message)
        self.code: ErrorCode = code


class FitDiverged(ArithmeticError):
    """The loss of a fit became NaN or infinite."""

    code: ClassVar[ErrorCode] = "fit_diverged"


def with_context(failure: BadInput | FitDiverged, context: str) -> BadInput | FitDiverged:
    """Return the same failure with a message that starts with ``context``, such as the name of a recording."""
    message = f"{context}: {failure}"
    return BadInput(message, code=failure.code) if isinstance(failure, BadInput) else FitDiverged(message)


def printable(value: object) -> str:
    """Return ``value`` as one printable line: file names may contain line feeds, escape codes or undecodable bytes.

    The middle of a very long value is omitted.

    Example:
        >>> print(printable("a\\nb.wav"))
        a\\nb.wav
    """
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
    if len(text) <= LONGEST_SHOWN:
        return text
    end = (LONGEST_SHOWN - len("...")) // 2
    return f"{text[:end]}...{text[-end:]}"


def os_error_line(error: OSError) -> str:
    """Return ``error`` as one line that starts with the file, as other messages do.

    Example:
        >>> print(os_error_line(OSError(28, "No space left on device", "a.wav")))
        a.wav: No space left on device
    """
    if error.filename is None or error.strerror is None:
        return printable(error)
    return f"{printable(error.filename)}: {printable(error.strerror)}"
