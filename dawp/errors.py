"""The errors a user can meet, and how names and values are shown in them."""

from __future__ import annotations

LONGEST_SHOWN = 1000  # characters


class BadInput(ValueError):
    """Something the user gave cannot be used; the message is one line with the value and what was expected."""


class FitDiverged(ArithmeticError):
    """The loss of a fit stopped being a finite number."""


def printable(value: object) -> str:
    """``value`` as one printable line: file names may hold line feeds, escape codes or undecodable bytes.

    The middle of a very long value is left out.

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
    """``error`` as one line: the file first, like any other message, and what went wrong with it.

    Example:
        >>> print(os_error_line(OSError(28, "No space left on device", "a.wav")))
        a.wav: No space left on device
    """
    if error.filename is None or error.strerror is None:
        return printable(error)
    return f"{printable(error.filename)}: {printable(error.strerror)}"
