"""The parser and the exit codes that all commands share."""

from __future__ import annotations

import argparse
import difflib
import shlex
from typing import Any, NoReturn

from dawp.errors import printable

OK, FAILED, BAD_INPUT, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with a hint for a flag or an argument that it does not know."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        given, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._hint(unknown[0], given))
        return given, unknown

    def _hint(self, unknown: str, given: argparse.Namespace) -> str:
        flags = self._option_string_actions
        if unknown.startswith("-"):
            flag = unknown.split("=", 1)[0]
            near = difflib.get_close_matches(flag, flags, n=1)
            return f"there is no flag {flag}" + (f": did you mean {near[0]}?" if near else "")
        message = f"unexpected argument {unknown}"
        if "--source" not in flags:
            return message
        if "source" in given:
            return f"{message}: --source takes one sound file, folder or list"
        return f"{message}: did you mean --source {shlex.quote(unknown)}?"

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {printable(message)}\n")
