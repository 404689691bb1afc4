"""The end of a task in the process that does it."""

from __future__ import annotations

import logging
import pickle
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dawp.parallel.executor import LogMessage, Progress, Raised, Returned

REPORT_INTERVAL = 0.2  # seconds between what a process tells of its progress


class RemoteReporter:
    """The line of a job, in the process that does it.

    Args:
        say: hands on what it says.
        saved: called with the path of a file that is worth keeping.
    """

    def __init__(self, say: Callable[[Progress], Any], saved: Callable[[Path], Any] | None = None) -> None:
        self._say, self._saved = say, saved
        self._values: Mapping[str, str] = {}
        self._epochs, self._told = 0, 0.0

    def update(self, epochs: int) -> None:
        self._epochs += epochs
        now = time.monotonic()
        if now - self._told >= REPORT_INTERVAL:
            self._told = now
            self.flush()

    def skip(self, epochs: int) -> None:
        self.flush()
        self._say(Progress(epochs, self._values, skipped=True))

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> None:
        self._values = values

    def saved(self, path: Path) -> None:
        if self._saved:
            self._saved(path)

    def flush(self) -> None:
        if self._epochs:
            self._say(Progress(self._epochs, self._values))
            self._epochs = 0


class LogForwarder(logging.Handler):
    """Hands notices on."""

    def __init__(self, say: Callable[[LogMessage], Any]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(LogMessage(record.name, record.levelno, record.getMessage()))


def run_and_capture(work: Callable[..., Any], *args: Any) -> Returned | Raised:
    """What comes of a piece of work."""
    try:
        return Returned(work(*args))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - just made
        except Exception:
            return Raised(RuntimeError(repr(error)), traceback.format_exc())
        return Raised(error, traceback.format_exc())
