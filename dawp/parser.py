"""The parser and the exit codes that all commands share."""

from __future__ import annotations

import argparse
import difflib
from typing import Any, NoReturn

from dawp.errors import printable

OK, FAILED, BAD_INPUT, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130


SOURCE_ARGUMENT = "source_argument"
"""Name of the positional argument that stands for ``--source``."""


class Parser(argparse.ArgumentParser):
    """A parser with one-line errors, and hints for unknown flags and arguments.

    The positional argument ``SOURCE_ARGUMENT``, if there is one, is returned as ``source``.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._hint(unknown[0]))
        if SOURCE_ARGUMENT in given:
            source = getattr(given, SOURCE_ARGUMENT)
            if "source" in given:
                self.error(self._hint(source))
            delattr(given, SOURCE_ARGUMENT)
            given.source = source
        return given, unknown

    def _hint(self, unknown: str) -> str:
        flags = self._option_string_actions
        if unknown.startswith("-"):
            flag = unknown.split("=", 1)[0]
            near = difflib.get_close_matches(flag, flags, n=1)
            return f"there is no flag {flag}" + (f": did you mean {near[0]}?" if near else "")
        hint = ": the source is one sound file, folder or list" if "--source" in flags else ""
        return f"unexpected argument {unknown}{hint}"

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {printable(message)}\n")
