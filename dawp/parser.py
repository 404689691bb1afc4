"""The parser and the exit codes that all commands share."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from dawp.errors import ErrorCode, printable

OK, FAILED, BAD_INPUT, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130


SOURCE_ARGUMENT = "source_argument"
"""Name of the positional argument that stands for ``--source``."""


def print_error(prog: str, message: str, code: ErrorCode, as_json: bool) -> None:
    """Print an error to standard error and, if ``as_json``, as one JSON object to standard output.

    Args:
        prog: the command.
        message: one line.
        code: the kind of failure.
        as_json: whether the command has the flag ``--json``.
    """
    print(f"{prog}: error: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": message, "code": code}, indent=2))


class Parser(argparse.ArgumentParser):
    """A parser with one-line errors, and hints for unknown flags and arguments.

    The positional argument ``SOURCE_ARGUMENT``, if there is one, is returned as ``source``.

    Attributes:
        other_flags: flags of other tasks and the task of each, for the hint.
    """

    _as_json = False
    other_flags: Mapping[str, str] = {}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._as_json = "--json" in (sys.argv[1:] if args is None else args)
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
            if flag in self.other_flags:
                return f"there is no flag {flag} here: it belongs to {self.other_flags[flag]}"
            near = difflib.get_close_matches(flag, flags, n=1)
            return f"there is no flag {flag}" + (f": did you mean {near[0]}?" if near else "")
        hint = ": the source is one sound file, folder or list" if "--source" in flags else ""
        return f"unexpected argument {unknown}{hint}"

    def error(self, message: str) -> NoReturn:
        print_error(self.prog, printable(message), "invalid_setting", self._as_json)
        self.exit(BAD_INPUT)
