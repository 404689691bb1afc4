"""What does tasks, and what it reports of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from dawp.parallel.jobs import WorkItem


class Progress(NamedTuple):
    """Epochs done or skipped since the last time, and what the bar shows beside them."""

    epochs: int
    values: Mapping[str, str]
    skipped: bool = False


class LogMessage(NamedTuple):
    """A notice."""

    logger: str
    level: int
    text: str


class Returned(NamedTuple):
    """The value of ``work``."""

    value: Any


class Raised(NamedTuple):
    """What ``work`` raised, and where."""

    error: Exception
    where: str


class ProcessDied(Exception):
    """The process of a task is gone; the text says how."""


Event = Progress | LogMessage | Returned | Raised | ProcessDied


class Executor(ABC):
    """Somebody who does tasks, several at the same time."""

    @abstractmethod
    def __enter__(self) -> Any: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Stop whatever is going on."""

    @property
    @abstractmethod
    def has_capacity(self) -> bool:
        """Whether one more task can be begun."""

    @abstractmethod
    def submit(self, task: WorkItem) -> None: ...

    @abstractmethod
    def events(self) -> Iterator[tuple[WorkItem, Event]]:
        """What the tasks that are going on have said since; waits for something."""
