"""Jobs: units of work that may run in another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dawp.errors import BadInput, FitDiverged


class ProgressReporter(Protocol):
    """Reports the progress of a job. It has the interface of a progress bar."""

    def update(self, epochs: int) -> Any:
        """Report ``epochs`` more completed epochs."""

    def skip(self, epochs: int) -> Any:
        """Report ``epochs`` epochs that are not needed or were completed before."""

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> Any:
        """Set the values shown beside the bar."""

    def saved(self, path: Path) -> None:
        """Report a new file in the job's folder that must be kept if the process dies."""


def no_checkpoints(folder: Path, part: int | None) -> Sequence[Path]:
    """Return no files: the job does not resume."""
    return ()


@dataclass(frozen=True, eq=False)
class Job:
    """A unit of work.

    Attributes:
        name: shown in messages and on the progress bar.
        folder: existing folder that the job writes to. It may contain the files of an earlier attempt. None if the
            job writes no files.
        function: called as ``function(folder, reporter, part, *args)``; returns the value of the job. It must be
            importable, that is, defined at the top level of a module.
        args: picklable arguments.
        parts: number of parts that can run in parallel. If there are several, ``function`` is called with each
            ``part`` from 0, then with ``part=None`` to finish the job. Otherwise it is called with None only.
        checkpoints: called as ``checkpoints(folder, part)``; returns the files in ``folder`` from which a part, or the
            whole job if ``part`` is None, resumes.
    """

    name: str
    folder: Path | None
    function: Callable[..., Any]
    args: tuple[Any, ...]
    parts: int
    checkpoints: Callable[[Path, int | None], Sequence[Path]] = field(default=no_checkpoints, kw_only=True)


class JobResult(NamedTuple):
    """The value of a finished job, or the error that ended it."""

    job: Any
    value: Any
    error: BadInput | FitDiverged | None


class WorkItem(NamedTuple):
    """One part of a job, or its final step if ``part`` is None."""

    job: Job
    part: int | None
    failed_attempts: int = 0
