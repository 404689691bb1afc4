"""Run repetitions, each into its own folder, resume interrupted runs, and write their summary."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from dawp.config import Config
from dawp.devices import memory_as_bad_input
from dawp.errors import BadInput, ErrorCode, FitDiverged, printable
from dawp.io.files import RESULT, RUN_CONFIG, changed_at, check_writable
from dawp.io.sources import Recording, sounds_at
from dawp.methods import baselines
from dawp.methods.deep_prior import checkpoints
from dawp.parallel.jobs import Job
from dawp.parallel.progress import ProgressBars
from dawp.parallel.scheduler import run_jobs
from dawp.randomness import seeded
from dawp.runs.environment import check_device, device_label
from dawp.runs.folder import (
    Plan,
    check_folder,
    clear_unfinished,
    finished,
    run_folder,
    start,
    write_summary,
)
from dawp.runs.repetition import Draw, make_problem_of, repeat

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        folder: of the run; None if no recording could be used and nothing was written.
        done: number of repetitions finished by this command.
        skipped: number of repetitions finished by an earlier command.
        failures: one line for each repetition that was refused or diverged, in this command or an earlier one.
        failure_codes: the code of each failure (``errors.ErrorCode``).
    """

    folder: Path | None
    done: int
    skipped: int
    failures: list[str]
    failure_codes: list[ErrorCode]


def run(
    config: Config, recordings: Sequence[Recording], draw: Draw, command: Sequence[str] = (), progress: bool = False
) -> Outcome:
    """Corrupt and restore recordings, each repetition into its own folder, and skip finished repetitions.

    Args:
        config: all settings.
        recordings: used in turn, in an order drawn from the seed.
        draw: called for a repetition whenever its files changed.
        command: the command line, for config.json.
        progress: show a bar on standard error.

    Raises:
        BadInput: the device is not available, or the folder cannot be written or has a run with other settings.
        KeyboardInterrupt: the summary of the finished repetitions is written. Unfinished repetitions with
            checkpoints are kept.
    """
    (outcome,) = run_all([Plan(config, recordings)], draw, command, config.task if progress else None)
    return outcome


def run_all(plans: Sequence[Plan], draw: Draw, command: Sequence[str] = (), title: str | None = None) -> list[Outcome]:
    """Run several plans at once, whose fits share the workers; see ``run``.

    Args:
        plans: with different folders. The settings of workers and the number of epochs are those of the first one.
        draw: called for a repetition whenever its files changed.
        command: the command line, for each config.json.
        title: of the progress bar; None for no bar.
    """
    runs = [_Run(plan, draw, command, alone=len(plans) == 1) for plan in plans]
    _warn_about_changes([pair for one in runs for pair in one.changed()])
    first = plans[0].config
    with ExitStack() as ending:
        for one in runs:
            ending.callback(one.end)
        bars = ending.enter_context(ProgressBars(sum(one.fits_left for one in runs), first.fit.epochs, title))

        def jobs() -> Iterator[_Repetition]:
            is_logged = False
            for one in runs:
                for job in one.jobs(bars):
                    if not is_logged:
                        counts = f"repetitions: {sum(r.count for r in runs)}, recordings: {sum(r.files for r in runs)}"
                        log.info("%s, device: %s", counts, device_label(first))
                        is_logged = True
                    yield job

        over = ending.enter_context(
            closing(run_jobs(jobs(), first.work, first.fit.device, sum(one.fits for one in runs), bars))
        )
        for job, error, refusal in over:
            job.run.add_result(job.folder, error, refusal)
    return [one.outcome for one in runs]


class _Run:
    """A run in progress.

    Raises:
        BadInput: the run cannot start, or its folder cannot be used.
    """

    def __init__(self, plan: Plan, draw: Draw, command: Sequence[str], alone: bool) -> None:
        config = plan.config
        check_device(config)
        if config.metrics.baselines:
            baselines.check_installed(config.task)
        self._plan, self._draw, self._command, self._alone = plan, draw, command, alone
        self._folder = folder = run_folder(config, plan.recordings)
        check_writable(folder)
        self._repetitions = _order(config, plan.recordings)
        check_folder(folder, config, plan.recordings)
        if config.run.save_outputs and config.run.show_every > config.fit.epochs:
            epochs = config.fit.epochs
            log.warning("no outputs will be saved: show_every is %d, epochs %d", config.run.show_every, epochs)
        names = (recording.name for recording, _ in self._repetitions)
        self._repetition_dirs = [folder / f"{index:03d}_{name}" for index, name in enumerate(names)]
        places = () if config.run.overwrite else self._repetition_dirs
        self._finished = {repetition_dir: facts for repetition_dir in places if (facts := finished(repetition_dir))}
        self._failures: list[tuple[str, ErrorCode]] = [
            (f"{repetition_dir.name}: {facts['error']}", FitDiverged.code)
            for repetition_dir, facts in self._finished.items()
            if facts["error"]
        ]
        self._done = 0
        self._reasons: dict[str, str] = {}  # for refusing a repetition, by name of its folder
        self._usable: dict[str, bool] = {}  # whether a recording can be used, by name of the folder
        self._started = self._refused = False
        self._running: set[Path] = set()
        self._lock = ExitStack()

    @property
    def count(self) -> int:
        """The number of repetitions."""
        return len(self._repetitions)

    @property
    def files(self) -> int:
        """The number of recordings."""
        return len(self._plan.recordings)

    @property
    def fits(self) -> int:
        return self.count * self._plan.config.stop.fits

    @property
    def fits_left(self) -> int:
        return (self.count - len(self._finished)) * self._plan.config.stop.fits

    @property
    def outcome(self) -> Outcome:
        folder = self._folder if self._folder.exists() else None
        lines, codes = [line for line, _ in self._failures], [code for _, code in self._failures]
        return Outcome(folder, self._done, len(self._finished), lines, codes)

    def changed(self) -> Iterator[tuple[Path, Path]]:
        """Yield each input that is newer than a finished result, with the folder of the repetition."""
        if not self._finished:
            return
        sounds: list[Path] = []  # used to corrupt
        with suppress(BadInput):  # a folder without sounds is refused where one is needed
            sounds = [path for source in self._plan.config.corruption.sources for path in sounds_at(source)]
        newest = sorted(sounds, key=changed_at)[-1:]
        for repetition_dir, (recording, _) in zip(self._repetition_dirs, self._repetitions, strict=True):
            if repetition_dir in self._finished:
                inputs = [*recording.paths, *([] if recording.corrupted else newest)]
                yield from (
                    (path, repetition_dir) for path in inputs if changed_at(path) > changed_at(repetition_dir / RESULT)
                )

    def jobs(self, bars: ProgressBars) -> Iterator[_Repetition]:
        """Yield a job for each repetition that is not finished."""
        config, fits = self._plan.config, self._plan.config.stop.fits
        for index, (repetition_dir, (recording, segment_index)) in enumerate(
            zip(self._repetition_dirs, self._repetitions, strict=True)
        ):
            if repetition_dir in self._finished:
                continue
            try:
                with memory_as_bad_input(printable(recording.path), "clip_length"):
                    problem = make_problem_of(recording, config, index, segment_index)
            except BadInput as refusal:
                self._failures.append((str(refusal), refusal.code))
                self._reasons[repetition_dir.name] = str(refusal)
                self._usable[repetition_dir.name] = False
                log.error("%s", refusal)
                bars.skip_fits(fits)
                continue
            self._usable[repetition_dir.name] = True
            if not self._started:
                try:
                    start(self._folder, self._plan, self._command, self._lock)
                except BadInput as refusal:
                    self._refused = True
                    if self._alone:
                        raise
                    self._failures.append((str(refusal), refusal.code))  # the other runs continue
                    log.error("%s", refusal)
                    bars.skip_fits(fits * sum(there not in self._finished for there in self._repetition_dirs[index:]))
                    return
                self._started = True
            if not config.run.overwrite and (facts := finished(repetition_dir)):  # by another command in the meantime
                self._finished[repetition_dir] = facts
                bars.skip_fits(fits)
                continue
            self._running.add(repetition_dir)
            clear_unfinished(repetition_dir)
            name = repetition_dir.name if self._alone else f"{self._folder.name}/{repetition_dir.name}"
            args = (problem, recording, config, index, self._draw)
            yield _Repetition(name, repetition_dir, repeat, args, fits, run=self, checkpoints=checkpoints.found)

    def add_result(self, repetition_dir: Path, error: str | None, refusal: BadInput | FitDiverged | None) -> None:
        """Record the end of a repetition: ``error`` if its fit diverged, ``refusal`` if it has no result."""
        self._done += refusal is None
        if refusal is None:
            checkpoints.clear(repetition_dir)
            self._running.discard(repetition_dir)
        if refusal:
            self._reasons[repetition_dir.name] = str(refusal)
        if error or refusal:
            message = f"{'' if self._alone else f'{self._folder.name}/'}{error or refusal}"
            self._failures.append((message, refusal.code if refusal else FitDiverged.code))
            log.error("%s", message)

    def end(self) -> None:
        """Remove unfinished repetitions without checkpoints, and write the summary."""
        for repetition_dir in self._running:
            if finished(repetition_dir):  # but its result did not arrive
                checkpoints.clear(repetition_dir)
            elif not checkpoints.found(repetition_dir):
                shutil.rmtree(repetition_dir, ignore_errors=True)
        folder = self._folder
        if folder.exists() and not self._refused:
            is_kept = self._plan.config.run.overwrite and not self._started
            write_summary(folder, {} if is_kept else self._reasons, {} if is_kept else self._usable)
        self._lock.close()
        if self._started and [path.name for path in folder.iterdir()] == [RUN_CONFIG]:  # no repetition was finished
            (folder / RUN_CONFIG).unlink()
            folder.rmdir()


@dataclass(frozen=True, eq=False)
class _Repetition(Job):
    run: _Run


def _order(config: Config, recordings: Sequence[Recording]) -> list[tuple[Recording, int]]:
    """Return the recording of each repetition, and the index of its segment."""
    order = torch.randperm(len(recordings), generator=seeded(config.fit.seed, "order")).tolist()
    count = config.run.experiment_repetition or len(recordings)
    return [(recordings[order[index % len(order)]], index // len(order)) for index in range(count)]


def _warn_about_changes(changed: Sequence[tuple[Path, Path]]) -> None:
    if changed:
        path, repetition_dir = changed[0]
        log.warning(
            "%s is newer than its results in %s%s: if the audio has changed, delete the results and run the command "
            "again",
            printable(path),
            printable(repetition_dir),
            f", and {len(changed) - 1} more" if changed[1:] else "",
        )
