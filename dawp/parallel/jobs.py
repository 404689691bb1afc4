"""Jobs: work that a process does in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dawp.errors import BadInput, FitDiverged


class ProgressReporter(Protocol):
    """What a job says while it works; to the fits in it a progress bar."""

    def update(self, epochs: int) -> Any: ...

    def skip(self, epochs: int) -> Any:
        """Epochs that need not be done, or were done before."""

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> Any: ...

    def saved(self, path: Path) -> None:
        """A file in the job's folder is new and worth keeping, whatever becomes of the job."""


def no_checkpoints(folder: Path, part: int | None) -> Sequence[Path]:
    return ()


@dataclass(frozen=True, eq=False)
class Job:
    """Work for a process.

    Attributes:
        name: for messages and its bar.
        folder: where it works: it is there, and holds what an earlier try has left. None if it writes nothing.
        work: called as ``work(folder, line, part, *args)``, returns the job's value; a function of a module, so that
            another process can import it.
        args: whatever can be pickled.
        checkpoints: called as ``checkpoints(folder, part)``, returns the files in ``folder`` from which a part, or the
            whole job, resumes.
        parts: that can be done ahead, at the same time: ``work`` is called with each ``part`` from 0, and then with
            None to do what is left and finish. With one part it is called with None alone.
    """

    name: str
    folder: Path | None
    work: Callable[..., Any]
    args: tuple[Any, ...]
    parts: int
    checkpoints: Callable[[Path, int | None], Sequence[Path]] = field(default=no_checkpoints, kw_only=True)


class JobResult(NamedTuple):
    """A job that is over: its value, or why it has none."""

    job: Any
    value: Any
    error: BadInput | FitDiverged | None


class WorkItem(NamedTuple):
    """A part of a job, and how often it was tried before."""

    job: Job
    part: int | None
    failed_attempts: int = 0
