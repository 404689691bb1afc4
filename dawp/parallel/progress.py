"""Progress bars of jobs."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dawp.parallel.jobs import WorkItem

log = logging.getLogger(__name__)

MAX_BARS = 16  # of single fits
WARM_UP_EPOCHS, TIMED_EPOCHS = 3, 10  # epochs before the time that all will take is told, and epochs that tell it


class ProgressBars:
    """The progress bars on standard error: one for all epochs, and one for each fit that is going on.

    Args:
        fits: to do.
        epochs: of each.
        title: of the bar for all; None for no bars. A single fit has one bar with its own title.
        forecast: also tell, after the first epochs, how long all will take.
    """

    def __init__(self, fits: int, epochs: int, title: str | None, forecast: bool = False) -> None:
        self._alone = fits == 1
        self._total, self._epochs, self._title = fits * epochs, epochs, title
        self._single = title is not None and not self._alone and sys.stderr.isatty()
        self._bar: Any = None
        self._passed_over = 0
        self._fits: dict[WorkItem, Any] = {}
        self._counted: dict[WorkItem, int] = {}
        self._done = 0
        self._forecast = forecast and title is not None
        self._began: tuple[float, int] | None = None

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *_: object) -> None:
        for task in list(self._counted):
            self.end(task)
        if self._bar is not None:
            self._bar.close()

    @property
    def _all(self) -> Any:
        """The bar for all epochs, shown when the first fit begins: what comes before may refuse the command."""
        if self._bar is None:
            self._bar = progress_bar(self._total, self._title)
            self._bar.update(self._passed_over)
        return self._bar

    def skip_fits(self, fits: int) -> None:
        """Count fits that need not be done."""
        if self._bar is None:
            self._passed_over += fits * self._epochs
        else:
            self._bar.update(fits * self._epochs)

    def start(self, task: WorkItem) -> None:
        self._counted[task] = 0
        shown = self._all
        if self._alone:
            shown.set_description(task.job.name)
        elif self._single and len(self._fits) < MAX_BARS:
            taken = {bar.pos for bar in self._fits.values()}
            place = next(place for place in range(1, MAX_BARS + 1) if -place not in taken)
            title = task.job.name if task.part is None else f"{task.job.name}, fit {task.part + 1}"
            self._fits[task] = progress_bar(self._epochs, title, position=place, leave=False)

    def update(self, task: WorkItem, epochs: int, values: Mapping[str, str], skipped: bool = False) -> None:
        bar = self._all if self._alone else self._fits.get(task)
        if bar is not None:
            bar.set_postfix(values, refresh=False)
            if bar is not self._all:
                bar.update(epochs)
        if task.part is None and task.job.parts > 1:
            return  # what was done ahead has been counted
        self._counted[task] += epochs
        self._all.update(epochs)
        if self._forecast and not skipped:
            self._log_forecast(epochs)

    def end(self, task: WorkItem, discard: bool = False) -> None:
        """A task is over; ``discard`` if it has to be done again."""
        bar = self._fits.pop(task, None)
        if bar is not None:
            bar.close()
        counted = self._counted.pop(task)
        if discard:
            self._all.update(-counted)

    def _log_forecast(self, epochs: int) -> None:
        self._done += epochs
        now = time.perf_counter()
        if self._began is None:
            self._began = (now, self._done) if self._done >= WARM_UP_EPOCHS else None
        elif self._done - self._began[1] >= TIMED_EPOCHS:
            seconds = (now - self._began[0]) / (self._done - self._began[1]) * (self._all.total - self._all.n)
            log.info("%s: about %s to go, less where fits stop early", self._title, format_duration(seconds))
            self._forecast = False


class _Bar(tqdm):  # type: ignore[type-arg, misc, unused-ignore]
    """A bar to which an epoch is an epoch, done or skipped."""

    def skip(self, epochs: int) -> None:
        self.update(epochs)


def progress_bar(epochs: int, title: str | None, **how: Any) -> Any:
    """A progress bar on standard error; without a title none is shown."""
    return _Bar(
        total=epochs,
        desc=title,
        unit="epoch",
        disable=title is None,
        mininterval=0.1 if sys.stderr.isatty() else 10,  # a log file is not to fill up with bars
        dynamic_ncols=True,
        **how,
    )


class LocalReporter:
    """The line of a job that is done in this process."""

    def __init__(self, bars: ProgressBars, task: WorkItem) -> None:
        self._bars, self._task = bars, task
        self._values: Mapping[str, str] = {}

    def update(self, epochs: int) -> None:
        self._bars.update(self._task, epochs, self._values)

    def skip(self, epochs: int) -> None:
        self._bars.update(self._task, epochs, self._values, skipped=True)

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> None:
        self._values = values

    def saved(self, path: Path) -> None:
        pass


def format_duration(seconds: float) -> str:
    """A time to wait, to two digits.

    Example:
        >>> format_duration(4000)
        '1 h 07 min'
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
