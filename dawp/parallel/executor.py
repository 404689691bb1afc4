"""The interface of executors, and the events that work items produce."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dawp.parallel.jobs import WorkItem


class Progress(NamedTuple):
    """Epochs completed or skipped since the last update, and the values to show on the progress bar."""

    epochs: int
    values: Mapping[str, str]
    skipped: bool = False


class LogMessage(NamedTuple):
    """A log record of a worker."""

    logger: str
    level: int
    text: str


class Returned(NamedTuple):
    """The return value of a job's function."""

    value: Any


class Raised(NamedTuple):
    """The exception raised by a job's function, and its formatted traceback."""

    error: Exception
    traceback: str


class ProcessDied(Exception):
    """The process of a work item ended unexpectedly. The text states the cause."""


Event = Progress | LogMessage | Returned | Raised | ProcessDied


class Executor(ABC):
    """Runs several work items in parallel."""

    @abstractmethod
    def __enter__(self) -> Any: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Stop all work items."""

    @property
    @abstractmethod
    def has_capacity(self) -> bool:
        """Whether another work item can start."""

    @abstractmethod
    def submit(self, item: WorkItem) -> None:
        """Start a work item."""

    @abstractmethod
    def events(self) -> Iterator[tuple[WorkItem, Event]]:
        """Wait for events, and yield each with its work item. May yield nothing after a timeout."""
