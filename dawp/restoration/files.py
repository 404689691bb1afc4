"""Restore recordings from files, each into one file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from dawp.config import Config
from dawp.devices import memory_as_bad_input
from dawp.errors import BadInput, FitDiverged, printable
from dawp.io.files import changed_at, check_writable
from dawp.io.reader import Reader
from dawp.io.sources import Recording
from dawp.methods.base import DEEP_PRIOR, check_method
from dawp.parallel.progress import ProgressBars
from dawp.parallel.scheduler import run_jobs
from dawp.restoration.blocks import split_blocks
from dawp.restoration.chain import Chain
from dawp.restoration.channels import ChannelJob, progress_bars
from dawp.restoration.file_restoration import FileRestoration
from dawp.restoration.targets import Target, common_folder, plan_targets
from dawp.runs.environment import check_device
from dawp.runs.experiment import Outcome

log = logging.getLogger(__name__)

Failure = BadInput | FitDiverged


def run(
    config: Config, recordings: Sequence[Recording], command: Sequence[str] = (), progress: bool = False
) -> Outcome:
    """Restore recordings, each into one file, and skip those whose output exists.

    Args:
        config: all settings.
        recordings: the corrupted recordings.
        command: the command line, for the records.
        progress: show a progress bar on standard error.

    Returns:
        The counts of restored and skipped recordings, and a line for each that failed.

    Raises:
        BadInput: the device is not available, or an output cannot be written.
        KeyboardInterrupt: finished blocks stay in the cache.
    """
    return restore_all([(target, config) for target in plan_targets(config, recordings)], command, progress)


def restore_all(
    plans: Sequence[tuple[Target, Config]],
    command: Sequence[str] = (),
    progress: bool = False,
    errors: dict[Path, Failure] | None = None,
) -> Outcome:
    """Restore recordings with settings of their own; see ``run``.

    Args:
        plans: each recording and its settings. The settings of workers and the device are those of the first one.
        command: the command line, for the records.
        progress: show a progress bar on standard error.
        errors: receives why a recording could not be restored, by its output.
    """
    check_device(plans[0][1])
    for config in {id(config): config for _, config in plans}.values():
        for stage in config.stages:
            check_method(stage.task, stage.restoration.method, stage)
            stage.corruption.check_files()
    targets = [target for target, _ in plans]
    outputs = [path for target in targets for path in (target.output, target.removed) if path]
    for folder in dict.fromkeys(path.parent for path in outputs):
        check_writable(folder)
    title = f"{len(targets)} recordings" if len(targets) > 1 else printable(targets[0].path.name)
    outcome = Outcome(common_folder(targets), 0, 0, [], [])
    chains = [Chain(target, config) for target, config in plans]
    for number in range(max(len(chain) for chain in chains)):
        stages = [part for chain in chains if (part := chain.stage(number))]
        if stages:
            batch = _restore_stage(stages, command, title if progress else None)
            outcome.failures.extend(map(str, batch.errors.values()))
            outcome.failure_codes.extend(failure.code for failure in batch.errors.values())
            outcome = replace(outcome, done=outcome.done + batch.done, skipped=outcome.skipped + batch.skipped)
            if errors is not None:
                errors |= batch.errors
    return outcome


def _restore_stage(
    stages: Sequence[tuple[Target, Config]], command: Sequence[str], title: str | None
) -> BatchRestoration:
    """Run a stage of all recordings."""
    config = stages[0][1]
    shown = next((other for _, other in stages if other.restoration.method == DEEP_PRIOR), config)
    with (
        BatchRestoration(stages, command) as batch,
        progress_bars(batch.fits, shown, title) as bars,
        closing(run_jobs(batch.jobs(bars), config.work, config.fit.device, batch.fits, bars)) as results,
    ):
        for job, result, failure in results:
            batch.add_result(job, result, failure)
    return batch


class BatchRestoration:
    """The restoration of all recordings of a command: opened in order, each written when all its blocks are done.

    Attributes:
        fits: number of fits of all recordings.
        done: number of recordings restored.
        skipped: number of recordings whose output exists.
        errors: why a recording could not be restored, by its output.
    """

    def __init__(self, plans: Sequence[tuple[Target, Config]], command: Sequence[str]) -> None:
        self._plans, self._command = plans, command
        self._fits = [_count_fits(target.path, config) for target, config in plans]
        self.fits = sum(self._fits)
        self.done = self.skipped = 0
        self.errors: dict[Path, Failure] = {}
        self._open: list[FileRestoration] = []
        self._owners: dict[ChannelJob, FileRestoration] = {}

    def __enter__(self) -> BatchRestoration:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open:
            file.resources.close()

    def jobs(self, bars: ProgressBars) -> Iterator[ChannelJob]:
        """Yield the jobs of one recording after the other; report and skip bad recordings."""
        for number, ((target, config), fits) in enumerate(zip(self._plans, self._fits, strict=True), start=1):
            position = f"{number} of {len(self._plans)}: " if len(self._plans) > 1 else ""
            file = self._open_target(target, config, position)
            if file is None:
                bars.skip_fits(fits)
                continue
            self._open.append(file)
            try:
                for job in file.jobs(bars):
                    self._owners[job] = file
                    yield job
            except BadInput as refusal:
                self._fail(target, refusal)
                file.failed = True
            self._close_if_over(file)

    def add_result(self, job: ChannelJob, result: tuple[Tensor, int], failure: BadInput | FitDiverged | None) -> None:
        """Pass the result of a job to its recording, and write the recording if it was the last one."""
        file = self._owners.pop(job)
        if failure is not None and not file.failed:
            self._fail(file.target, failure)
        file.add_result(job, result, failure)
        self._close_if_over(file)

    def _open_target(self, target: Target, config: Config, position: str) -> FileRestoration | None:
        """Start a recording; None if its output exists or it cannot be restored."""
        if target.output.exists() and not config.run.overwrite:
            older = ", older than its recording" if changed_at(target.path) > changed_at(target.output) else ""
            log.info("%s: already exists%s (use --overwrite to recompute it)", printable(target.output), older)
            if target.removed and not target.removed.exists():
                log.warning("%s: is not written, because the output already exists", printable(target.removed))
            self.skipped += 1
            return None
        try:
            with memory_as_bad_input(printable(target.path), "block"):
                return FileRestoration(target, config, self._command, position)
        except BadInput as refusal:
            self._fail(target, refusal)
            return None

    def _close_if_over(self, file: FileRestoration) -> None:
        """Write a recording if all its blocks are done, and close it if none of its jobs is running or waiting."""
        if file not in self._open or file.running or not (file.all_submitted or file.failed):
            return
        self._open.remove(file)
        with file.resources:
            try:
                if not file.failed:
                    file.finish()
                    self.done += not file.target.is_intermediate
            except BadInput as refusal:
                self._fail(file.target, refusal)

    def _fail(self, target: Target, failure: Failure) -> None:
        self.errors.setdefault(target.final, failure)
        log.error("%s", failure)


def _count_fits(path: Path, config: Config) -> int:
    """Return the maximum number of fits of a recording; 0 if it cannot be used."""
    try:
        with Reader(path) as file:
            blocks = split_blocks(file.stated_frames, file.rate, config)
            return len(blocks) * file.channels * config.stop.fits
    except BadInput:
        return 0
