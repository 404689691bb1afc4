"""The worker's side: run a job's function, and send its progress, log records and result to the parent process."""

from __future__ import annotations

import logging
import pickle
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dawp.parallel.executor import LogMessage, Progress, Raised, Returned

REPORT_INTERVAL = 0.2  # seconds between progress updates


class RemoteReporter:
    """The ``ProgressReporter`` of a job that runs in another process.

    Args:
        send: sends an event to the parent process.
        saved: called with the path of a file that must be kept.
    """

    def __init__(self, send: Callable[[Progress], Any], saved: Callable[[Path], Any] | None = None) -> None:
        self._send, self._saved = send, saved
        self._values: Mapping[str, str] = {}
        self._epochs, self._last_sent = 0, 0.0

    def update(self, epochs: int) -> None:
        self._epochs += epochs
        now = time.monotonic()
        if now - self._last_sent >= REPORT_INTERVAL:
            self._last_sent = now
            self.flush()

    def skip(self, epochs: int) -> None:
        self.flush()
        self._send(Progress(epochs, self._values, skipped=True))

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> None:
        self._values = values

    def saved(self, path: Path) -> None:
        if self._saved:
            self._saved(path)

    def flush(self) -> None:
        """Send the epochs that were not sent yet."""
        if self._epochs:
            self._send(Progress(self._epochs, self._values))
            self._epochs = 0


class LogForwarder(logging.Handler):
    """Sends log records to the parent process.

    Args:
        send: sends an event to the parent process.
    """

    def __init__(self, send: Callable[[LogMessage], Any]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(LogMessage(record.name, record.levelno, record.getMessage()))


def forward_logs(send: Callable[[LogMessage], Any], level: int) -> None:
    """Replace the log handlers of the package by a ``LogForwarder``."""
    logger = logging.getLogger("dawp")
    logger.handlers[:], logger.propagate = [LogForwarder(send)], False
    logger.setLevel(level)


def run_and_capture(function: Callable[..., Any], *args: Any) -> Returned | Raised:
    """Call a function and return its value or its exception. An exception that cannot be pickled is replaced."""
    try:
        return Returned(function(*args))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled on this line
        except Exception:
            return Raised(RuntimeError(repr(error)), traceback.format_exc())
        return Raised(error, traceback.format_exc())
