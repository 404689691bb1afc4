"""Errors for invalid input, and functions that format names and values in messages."""

from __future__ import annotations

LONGEST_SHOWN = 1000  # characters


class BadInput(ValueError):
    """Invalid input. The message is one line with the value and the expected value."""


class FitDiverged(ArithmeticError):
    """The loss of a fit became NaN or infinite."""


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
