"""Progress bars."""

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

EPOCH = "epoch"
MAX_BARS = 16  # bars of single fits
WARM_UP_EPOCHS, TIMED_EPOCHS = 3, 10  # the forecast ignores the first epochs and measures the next ones


class ProgressBars:
    """Progress bars on standard error: one for all epochs, and on a terminal one for each running fit.

    Args:
        fits: number of fits.
        epochs: number of epochs per fit.
        title: title of the bar for all epochs; None for no bars. A single fit has one bar, titled with its job's name.
        forecast: log the estimated remaining time after the first epochs.
        unit: what the bars count, if it is not epochs.
    """

    def __init__(self, fits: int, epochs: int, title: str | None, forecast: bool = False, unit: str = EPOCH) -> None:
        self._is_single_fit = fits == 1
        self._total, self._epochs, self._title, self._unit = fits * epochs, epochs, title, unit
        self._show_fits = title is not None and not self._is_single_fit and sys.stderr.isatty()
        self._bar: Any = None
        self._skipped = 0
        self._fit_bars: dict[WorkItem, Any] = {}
        self._counted: dict[WorkItem, int] = {}
        self._completed = 0
        self._forecast = forecast and title is not None
        self._timing_start: tuple[float, int] | None = None  # time in seconds, completed epochs

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *_: object) -> None:
        for item in list(self._counted):
            self.end(item)
        if self._bar is not None:
            self._bar.close()

    @property
    def _total_bar(self) -> Any:
        """The bar for all epochs. It is created when the first fit starts, since the input may be rejected before."""
        if self._bar is None:
            self._bar = progress_bar(self._total, self._title, self._unit)
            self._bar.update(self._skipped)
        return self._bar

    def skip_fits(self, fits: int) -> None:
        """Count fits that do not have to run."""
        if self._bar is None:
            self._skipped += fits * self._epochs
        else:
            self._bar.update(fits * self._epochs)

    def start(self, item: WorkItem) -> None:
        """Show the bar of a work item."""
        self._counted[item] = 0
        bar = self._total_bar
        if self._is_single_fit:
            bar.set_description(item.job.name)
        elif self._show_fits and len(self._fit_bars) < MAX_BARS:
            used = {-bar.pos for bar in self._fit_bars.values()}  # tqdm stores the position negated
            position = next(position for position in range(1, MAX_BARS + 1) if position not in used)
            title = item.job.name if item.part is None else f"{item.job.name}, fit {item.part + 1}"
            self._fit_bars[item] = progress_bar(self._epochs, title, self._unit, position=position, leave=False)

    def update(self, item: WorkItem, epochs: int, values: Mapping[str, str], skipped: bool = False) -> None:
        """Count epochs of a work item.

        Args:
            item: a started work item.
            epochs: number of epochs since the last update.
            values: shown beside the bar.
            skipped: whether the epochs were skipped; they are not used for the forecast.
        """
        bar = self._total_bar if self._is_single_fit else self._fit_bars.get(item)
        if bar is not None:
            bar.set_postfix(values, refresh=False)
            if bar is not self._total_bar:
                bar.update(epochs)
        if item.part is None and item.job.parts > 1:
            return  # the epochs were counted with the parts
        self._counted[item] += epochs
        self._total_bar.update(epochs)
        if self._forecast and not skipped:
            self._log_forecast(epochs)

    def end(self, item: WorkItem, discard: bool = False) -> None:
        """Close the bar of a work item. With ``discard``, subtract its epochs because it will be repeated."""
        bar = self._fit_bars.pop(item, None)
        if bar is not None:
            bar.close()
        counted = self._counted.pop(item)
        if discard:
            self._total_bar.update(-counted)

    def _log_forecast(self, epochs: int) -> None:
        self._completed += epochs
        now = time.perf_counter()
        if self._timing_start is None:
            self._timing_start = (now, self._completed) if self._completed >= WARM_UP_EPOCHS else None
            return
        start, completed_before = self._timing_start
        timed = self._completed - completed_before
        if timed >= TIMED_EPOCHS:
            seconds = (now - start) / timed * (self._total_bar.total - self._total_bar.n)
            log.info("%s: about %s to go, less if fits stop early", self._title, format_duration(seconds))
            self._forecast = False


class LocalReporter:
    """The ``ProgressReporter`` of a job that runs in this process."""

    def __init__(self, bars: ProgressBars, item: WorkItem) -> None:
        self._bars, self._item = bars, item
        self._values: Mapping[str, str] = {}

    def update(self, epochs: int) -> None:
        self._bars.update(self._item, epochs, self._values)

    def skip(self, epochs: int) -> None:
        self._bars.update(self._item, epochs, self._values, skipped=True)

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> None:
        self._values = values

    def saved(self, path: Path) -> None:
        pass


class _Bar(tqdm):  # type: ignore[type-arg, misc, unused-ignore]
    """A progress bar that counts skipped epochs like completed ones."""

    def skip(self, epochs: int) -> None:
        self.update(epochs)


def progress_bar(epochs: int, title: str | None, unit: str = EPOCH, **options: Any) -> Any:
    """Create a progress bar on standard error.

    Args:
        epochs: total number of epochs.
        title: text beside the bar; None to hide it.
        unit: what is counted, if it is not epochs.
        options: further arguments of tqdm.
    """
    return _Bar(
        total=epochs,
        desc=title,
        unit=unit,
        disable=title is None,
        mininterval=0.1 if sys.stderr.isatty() else 10,  # fewer lines in log files
        dynamic_ncols=True,
        **options,
    )


def format_duration(seconds: float) -> str:
    """Format a duration with a precision that suits its length.

    Example:
        >>> format_duration(4000)
        '1 h 07 min'
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
