"""Restore recordings from files, each from beginning to end into one file."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from torch import Tensor

from dawp.config import NOT_OF_THE_NUMBERS, Config
from dawp.devices import memory_as_bad_input
from dawp.errors import BadInput, ErrorCode, FitDiverged, printable
from dawp.io.files import atomic_write, changed_at, check_writable, write_json
from dawp.io.formats import Form, form_of, write
from dawp.io.metadata.files import read_metadata
from dawp.io.reader import Reader
from dawp.io.sources import Recording
from dawp.methods.base import check_method
from dawp.parallel.progress import ProgressBars, format_duration
from dawp.parallel.scheduler import run_jobs
from dawp.restoration.block_cache import open_cache
from dawp.restoration.blocks import Block, overlap_add, plan_blocks, scan, split_blocks
from dawp.restoration.channels import ChannelJob, PendingBlock, channel_jobs
from dawp.restoration.context import is_intact, noise_profile, read_block
from dawp.restoration.removed import Removed, difference, measure
from dawp.restoration.targets import Target, plan_targets
from dawp.runs.environment import check_device, device_label, environment
from dawp.runs.experiment import Outcome
from dawp.tasks.base import get_task

log = logging.getLogger(__name__)

OUTPUT_SETTINGS = (
    "source",
    "overwrite",
    "restore",
    "output",
    "output_format",
    "subtype",
    "clip_mode",
    "save_removed",
    *NOT_OF_THE_NUMBERS,
)
"""Settings that the restored samples do not depend on."""

HASH_CHUNK = 1 << 20  # bytes


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
    check_device(config)
    check_method(config.task, config.restoration.method)
    config.corruption.check_files()
    targets = plan_targets(config, recordings)
    outputs = [path for target in targets for path in (target.output, target.removed) if path]
    for folder in dict.fromkeys(path.parent for path in outputs):
        check_writable(folder)
    title = f"{len(targets)} recordings" if len(targets) > 1 else printable(targets[0].path.name)
    with (
        BatchRestoration(targets, config, command) as batch,
        ProgressBars(batch.fits, config.fit.epochs, title if progress else None, forecast=True) as bars,
        closing(run_jobs(batch.jobs(bars), config.work, config.fit.device, batch.fits, bars)) as results,
    ):
        for job, result, failure in results:
            batch.add_result(job, result, failure)
    folder = (
        targets[0].output
        if len(targets) == 1
        else Path(os.path.commonpath([target.output.parent for target in targets]))
    )
    return Outcome(folder, batch.done, batch.skipped, batch.failures, batch.failure_codes)


class FileRestoration:
    """The restoration of one recording. Its output stays locked until ``resources`` is closed.

    Attributes:
        resources: the open recording and the lock.
        running: the jobs that have not finished.
        all_submitted: there are no further jobs.
        failed: one of the jobs has failed.

    Raises:
        BadInput: the recording cannot be restored, or not into this output.
    """

    def __init__(self, target: Target, config: Config, command: Sequence[str], position: str) -> None:
        self._began = time.perf_counter()
        self._target, self._config = target, config
        self.running: set[ChannelJob] = set()
        self.all_submitted = self.failed = False
        self._pending: dict[int, PendingBlock] = {}
        self._epochs: dict[int, list[int]] = {}
        with ExitStack() as resources:
            self._read(resources.enter_context(Reader(target.path)))
            self._settings = {name: value for name, value in config.effective().items() if name not in OUTPUT_SETTINGS}
            self._environment = environment(config, command)
            self._sha256 = _sha256(target.path)
            length = self._sound.frames / self._sound.rate
            facts = f"{length:.1f} s of audio, blocks: {len(self._blocks)}, device: {device_label(config)}"
            log.info("%s%s: %s", position, self._sound.name, facts)
            self._intact = is_intact(self._sound, config, self._blocks)
            if self._intact:
                self._epochs = {index: [0] * len(self._sound.power) for index in range(len(self._blocks))}
            target.output.parent.mkdir(parents=True, exist_ok=True)
            identity = {
                "settings": self._settings,
                "recording": self._sha256,
                "torch": self._environment["versions"]["torch"],
                **self._operators(),
            }
            self._cache = resources.enter_context(open_cache(target.output, identity))
            # Another command may have finished it before the lock was acquired.
            if target.output.exists() and not config.run.overwrite:
                raise BadInput(
                    f"{printable(target.output)}: already exists, from another command (use --overwrite to replace it)",
                    code="output_exists",
                )
            self.resources = resources.pop_all()

    def _read(self, file: Reader) -> None:
        """Scan the recording, choose the formats of the outputs and plan the blocks."""
        target, config = self._target, self._config
        sound = self._sound = scan(file, target.path, config.corruption.missing is not None)
        self._source_form, self._metadata = Form(file.format, file.subtype), read_metadata(target.path)
        size = sound.rate, len(sound.power), sound.frames
        self._form = form_of(target.output, self._source_form, config.restoration.subtype, *size)
        self._removed_form = target.removed and form_of(target.removed, self._source_form, None, *size)
        self._blocks = plan_blocks(sound, config)
        self._profile = noise_profile(sound, config)

    def _operators(self) -> dict[str, list[str]]:
        """Return the digest of the operator of each channel, for the identity of the cache; empty without operators."""
        corruption, channels = self._config.corruption, len(self._sound.power)
        indices = [corruption.operator_index(channel, channels) for channel in range(channels)]
        operators = [corruption.operator(self._sound.rate, index) for index in indices]
        digests = [operator.digest() for operator in operators if operator is not None]
        return {"operators": digests} if digests else {}

    def jobs(self, bars: ProgressBars) -> Iterator[ChannelJob]:
        """Yield a job for each channel of each block that is not in the cache; stop early if one of them fails."""
        channels, fits = len(self._sound.power), self._config.stop.fits
        if self._intact:
            bars.skip_fits(fits * channels * len(self._blocks))
        for index, block in enumerate([] if self._intact else self._blocks):
            if self.failed:
                bars.skip_fits(fits * channels * (len(self._blocks) - index))
                return
            cached = self._cache.get(index, block, channels)
            if cached is not None:
                self._epochs[index] = cached.epochs
                bars.skip_fits(fits * channels)
                continue
            with memory_as_bad_input(self._sound.block_label(block), "block"):
                samples, context = read_block(self._sound, self._config, block)
                pending = PendingBlock(samples, context, self._config, self._profile, self._sound.rate)
            self._pending[index] = pending
            bars.skip_fits(fits * (channels - len(pending.to_fit)))
            self._store_if_done(index)
            jobs = channel_jobs(self._sound, block, pending, self._config, index, self._cache)
            while not self.failed and (job := next(jobs, None)):
                self.running.add(job)
                yield job
        self.all_submitted = True

    def add_result(self, job: ChannelJob, result: tuple[Tensor, int], failure: BadInput | FitDiverged | None) -> None:
        """Store the result of a job, or note its failure."""
        self.running.discard(job)
        if failure is None:
            self._pending[job.block_index].add_result(job.channel, result)
            self._store_if_done(job.block_index)
        else:
            self.failed = True
        if job.folder and not isinstance(failure, BadInput):  # for example, a fit can resume after it ran out of memory
            shutil.rmtree(job.folder, ignore_errors=True)

    def _store_if_done(self, index: int) -> None:
        """Move a block from memory to the cache once all its channels are done."""
        if self._pending[index].is_done:
            label = self._sound.block_label(self._blocks[index])
            restored = self._pending.pop(index).join_channels(label, self._sound.power)
            self._cache.put(index, restored)
            self._epochs[index] = restored.epochs

    def finish(self) -> None:
        """Write the output and its record, and delete the cache."""
        removed = self._measure_removed()
        gain = self._write_output()
        seconds = time.perf_counter() - self._began
        write_json(self._target.record, self._record(removed, gain, seconds))
        self._cache.remove()
        log.info("%s: done in %s", printable(self._target.output), format_duration(seconds))

    def _samples(self) -> Iterator[Tensor]:
        """Yield consecutive parts ``[channels, n]`` of the restored waveform."""

        def restored(index: int, block: Block) -> Tensor:
            if self._intact:
                return self._sound.read(*block)
            return self._cache.samples(index, block, len(self._sound.power))

        return overlap_add((block, restored(index, block)) for index, block in enumerate(self._blocks))

    def _write_output(self) -> float:
        """Write the output, as a copy of an intact recording in the same format, and return the gain applied."""
        target = self._target
        if self._intact and self._form == self._source_form:
            with atomic_write(target.output) as temporary:
                shutil.copyfile(target.path, temporary)
            return 1.0
        clip_mode = self._config.restoration.clip_mode
        return write(target.output, self._samples, self._sound.rate, self._form, clip_mode, self._metadata)

    def _record(self, removed: Removed | None, gain: float, seconds: float) -> dict[str, Any]:
        """Return the content of the record."""
        return {
            "recording": str(self._target.path),
            "sha256": self._sha256,
            "sample_rate": self._sound.rate,
            "channels": len(self._sound.power),
            "samples": self._sound.frames,
            "format": self._form.format,
            "subtype": self._form.subtype,
            "clip_mode": self._config.restoration.clip_mode,
            "gain": gain,
            "unchanged": self._intact,
            "removed": removed.to_dict() if removed else None,
            "blocks": [
                {"start": block.start, "stop": block.stop, "epochs": self._epochs[index]}
                for index, block in enumerate(self._blocks)
            ],
            "seconds": seconds,
            **self._environment,
            "settings": self._settings,
        }

    def _measure_removed(self) -> Removed | None:
        """Write the removed signal if a file is named for it, and log its level; None where gaps were filled."""
        target, sound = self._target, self._sound

        def removed_samples() -> Iterator[Tensor]:
            return (part for _, part in difference(self._samples(), sound.read))

        if target.removed and self._removed_form:
            target.removed.parent.mkdir(parents=True, exist_ok=True)
            clip_mode = self._config.restoration.clip_mode
            write(target.removed, removed_samples, sound.rate, self._removed_form, clip_mode, None)
        if not get_task(self._config.task).has_strength:
            return None
        removed = measure(difference(self._samples(), sound.read), sound.rate)
        log.info("%s: %s", printable(target.output), removed)
        # The inversion of a known room and declipping can change most of a recording.
        is_subtracted = get_task(self._config.task).is_damaged is None and not self._config.corruption.default_method
        if is_subtracted and removed.is_suspicious:
            log.warning(
                "%s: more than half of the power above 100 Hz was removed; check it by ear (use --save_removed) and "
                "lower --strength if it is not noise or reverberation",
                printable(target.output),
            )
        return removed


class BatchRestoration:
    """The restoration of all recordings of a command: opened in order, each written when all its blocks are done.

    Attributes:
        fits: number of fits of all recordings.
        done: number of recordings restored.
        skipped: number of recordings whose output exists.
        failures: one line for each recording that could not be restored.
        failure_codes: the code of each failure.
    """

    def __init__(self, targets: Sequence[Target], config: Config, command: Sequence[str]) -> None:
        self._targets, self._config, self._command = targets, config, command
        self._fits = [_count_fits(target.path, config) for target in targets]
        self.fits = sum(self._fits)
        self.done = self.skipped = 0
        self.failures: list[str] = []
        self.failure_codes: list[ErrorCode] = []
        self._open: list[FileRestoration] = []
        self._owners: dict[ChannelJob, FileRestoration] = {}

    def __enter__(self) -> BatchRestoration:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open:
            file.resources.close()

    def jobs(self, bars: ProgressBars) -> Iterator[ChannelJob]:
        """Yield the jobs of one recording after the other; report and skip bad recordings."""
        for number, (target, fits) in enumerate(zip(self._targets, self._fits, strict=True), start=1):
            position = f"{number} of {len(self._targets)}: " if len(self._targets) > 1 else ""
            file = self._open_target(target, position)
            if file is None:
                bars.skip_fits(fits)
                continue
            self._open.append(file)
            try:
                for job in file.jobs(bars):
                    self._owners[job] = file
                    yield job
            except BadInput as refusal:
                self._fail(refusal)
                file.failed = True
            self._close_if_over(file)

    def add_result(self, job: ChannelJob, result: tuple[Tensor, int], failure: BadInput | FitDiverged | None) -> None:
        """Pass the result of a job to its recording, and write the recording if it was the last one."""
        file = self._owners.pop(job)
        if failure is not None and not file.failed:
            self._fail(failure)
        file.add_result(job, result, failure)
        self._close_if_over(file)

    def _open_target(self, target: Target, position: str) -> FileRestoration | None:
        """Start a recording; None if its output exists or it cannot be restored."""
        if target.output.exists() and not self._config.run.overwrite:
            older = ", older than its recording" if changed_at(target.path) > changed_at(target.output) else ""
            log.info("%s: already exists%s (use --overwrite to recompute it)", printable(target.output), older)
            if target.removed and not target.removed.exists():
                log.warning("%s: is not written, because the output already exists", printable(target.removed))
            self.skipped += 1
            return None
        try:
            with memory_as_bad_input(printable(target.path), "block"):
                return FileRestoration(target, self._config, self._command, position)
        except BadInput as refusal:
            self._fail(refusal)
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
                    self.done += 1
            except BadInput as refusal:
                self._fail(refusal)

    def _fail(self, failure: BadInput | FitDiverged) -> None:
        self.failures.append(str(failure))
        self.failure_codes.append(failure.code)
        log.error("%s", failure)


def _count_fits(path: Path, config: Config) -> int:
    """Return the maximum number of fits of a recording; 0 if it cannot be used."""
    try:
        with Reader(path) as file:
            blocks = split_blocks(file.stated_frames, file.rate, config)
            return len(blocks) * file.channels * config.stop.fits
    except BadInput:
        return 0


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
