"""Restore one recording from beginning to end into one file."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from torch import Tensor

from dawp.config import Config
from dawp.devices import memory_as_bad_input
from dawp.errors import BadInput, FitDiverged, printable
from dawp.io.files import atomic_write, sha256_of, write_json
from dawp.io.formats import Form, form_of, write
from dawp.io.metadata.files import read_metadata
from dawp.io.reader import Reader
from dawp.parallel.progress import ProgressBars, format_duration
from dawp.restoration.block_cache import open_cache
from dawp.restoration.blocks import Block, overlap_add, plan_blocks, scan
from dawp.restoration.chain import sample_settings
from dawp.restoration.changed import Changed, count
from dawp.restoration.channels import ChannelJob, PendingBlock, channel_jobs
from dawp.restoration.context import is_intact, noise_profile, read_block
from dawp.restoration.description import assess, describe
from dawp.restoration.hum import remove_hum
from dawp.restoration.inspection import at_rate, check_length, check_rate, inspect
from dawp.restoration.removed import Removed, difference, measure
from dawp.restoration.targets import Target
from dawp.runs.environment import device_label, environment
from dawp.tasks.base import get_task

log = logging.getLogger(__name__)


class FileRestoration:
    """The restoration of one recording. Its output stays locked until ``resources`` is closed.

    Attributes:
        target: the recording and its output.
        resources: the open recording and the lock.
        running: the jobs that have not finished.
        all_submitted: there are no further jobs.
        failed: one of the jobs has failed.

    Raises:
        BadInput: the recording cannot be restored, or not into this output.
    """

    def __init__(self, target: Target, config: Config, command: Sequence[str], position: str) -> None:
        self._began = time.perf_counter()
        self.target, self._config = target, config  # the settings are completed by the inspection
        self.running: set[ChannelJob] = set()
        self.all_submitted = self.failed = self._intact = False
        self._pending: dict[int, PendingBlock] = {}
        self._epochs: dict[int, list[int]] = {}
        with ExitStack() as resources:
            original = resources.enter_context(Reader(target.recording)) if target.stage else None
            self._read(resources.enter_context(Reader(target.path)), original)
            self._settings = sample_settings(self._config)
            self._environment = environment(config, command)
            self._sha256 = sha256_of(target.path)
            length = self._sound.frames / self._sound.rate
            facts = f"{length:.1f} s of audio, blocks: {len(self._blocks)}, device: {device_label(config)}"
            stage = f", {target.stage.label}" if target.stage else ""
            log.info("%s%s%s: %s", position, self._sound.name, stage, facts)
            self._intact = self._intact or is_intact(self._sound, config, self._blocks)
            if self._intact:
                self._epochs = {index: [0] * len(self._sound.power) for index in range(len(self._blocks))}
            target.output.parent.mkdir(parents=True, exist_ok=True)
            identity = {
                "settings": self._settings,
                "recording": self._sha256,
                "torch": self._environment["versions"]["torch"],
                **self._operators(),
            }
            self._cache = resources.enter_context(open_cache(target.output, identity, target.final))
            # Another command may have finished it before the lock was acquired.
            if target.output.exists() and not config.run.overwrite:
                raise BadInput(
                    f"{printable(target.output)}: already exists, from another command (use --overwrite to replace it)",
                    code="output_exists",
                )
            self.resources = resources.pop_all()

    def _read(self, file: Reader, original: Reader | None) -> None:
        """Scan and inspect the recording, choose the formats of the outputs and plan the blocks.

        Args:
            file: the file to restore.
            original: the recording, if the file is the output of a stage of a chain.
        """
        target = self.target
        check_rate(file.rate, printable(target.recording), self._config)
        sound = scan(file, target.recording, self._config.corruption.missing is not None)
        inspected = inspect(sound, self._config)
        self._intact = inspected is None
        if inspected:
            sound, self._config = inspected
        self._before = self._original = sound
        sound, hum = remove_hum(sound, self._config)
        self._facts = hum | check_length(sound, self._config)
        self._sound = sound
        if original:
            self._original = at_rate(scan(original, target.recording, missing_allowed=True), sound.rate)
        config = self._config
        source = original or file
        self._source_form, self._metadata = Form(source.format, source.subtype), read_metadata(target.recording)
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
                pending = PendingBlock(samples, context, self._config, self._profile)
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
        described = describe(self._sound, self._config)
        changed, removed = self._count_changed(), self._measure_removed()
        is_unchanged = (changed and not changed.samples) or (removed and not removed.removed.any())
        facts: dict[str, Any] = {
            "unchanged": self._intact or bool(is_unchanged),
            "removed": removed.to_dict() if removed else None,
        }
        facts |= {"changed": asdict(changed)} if changed else {}
        facts |= self._facts | ({"estimated": described} if described else {})
        scores = assess(self._original, self._samples(), self._config)
        facts |= {"metrics": scores} if scores else {}
        facts["gain"] = self._write_output()
        seconds = time.perf_counter() - self._began
        write_json(self.target.record, self._record(facts, seconds))
        self._cache.remove()
        if self.target.stage and self.target.stage.is_last:
            shutil.rmtree(self.target.stage.folder, ignore_errors=True)
        name = self.target.label if self.target.is_intermediate else printable(self.target.output)
        log.info("%s: done in %s", name, format_duration(seconds))

    def _samples(self) -> Iterator[Tensor]:
        """Yield consecutive parts ``[channels, n]`` of the restored waveform."""

        def restored(index: int, block: Block) -> Tensor:
            if self._intact:
                return self._sound.read(*block)
            return self._cache.samples(index, block, len(self._sound.power))

        return overlap_add((block, restored(index, block)) for index, block in enumerate(self._blocks))

    def _write_output(self) -> float:
        """Write the output, as a copy of an intact recording in the same format, and return the gain applied."""
        target = self.target
        if self._intact and self._form == self._source_form and target.stage is None:
            with atomic_write(target.output) as temporary:
                shutil.copyfile(target.path, temporary)
            return 1.0
        clip_mode = self._config.restoration.clip_mode
        return write(target.output, self._samples, self._sound.rate, self._form, clip_mode, self._metadata)

    def _record(self, facts: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the content of the record: what was measured, and how the output was made."""
        return {
            "recording": str(self.target.path),
            "sha256": self._sha256,
            "sample_rate": self._sound.rate,
            "channels": len(self._sound.power),
            "samples": self._sound.frames,
            "format": self._form.format,
            "subtype": self._form.subtype,
            "clip_mode": self._config.restoration.clip_mode,
            **facts,
            "blocks": [
                {"start": block.start, "stop": block.stop, "epochs": self._epochs[index]}
                for index, block in enumerate(self._blocks)
            ],
            "seconds": seconds,
            **self._environment,
            "settings": self._settings,
            **(self.target.stage.record if self.target.stage else {}),
        }

    def _measure_removed(self) -> Removed | None:
        """Write the removed signal if a file is named for it, and log its level; None where gaps were filled."""
        target, sound = self.target, self._sound

        def removed_samples() -> Iterator[Tensor]:
            return (part for _, part in difference(self._samples(), self._original.read))

        if target.removed and self._removed_form:
            target.removed.parent.mkdir(parents=True, exist_ok=True)
            clip_mode = self._config.restoration.clip_mode
            write(target.removed, removed_samples, sound.rate, self._removed_form, clip_mode, None)
        task = get_task(self._config.task)
        if not task.has_strength:
            return None
        removed = measure(difference(self._samples(), self._before.read), sound.rate)
        if task.is_local:  # the number of changed samples is shown instead
            return removed
        log.info("%s: %s", target.label, removed)
        # The inversion of a known room and added high frequencies can change most of a recording.
        if not (task.inspect or self._config.corruption.default_method) and removed.is_suspicious:
            log.warning(
                "%s: more than half of the power above 100 Hz was removed; check it by ear (use --save_removed) and "
                "lower --strength if it is not noise or reverberation",
                target.label,
            )
        return removed

    def _count_changed(self) -> Changed | None:
        """Count and log the changed samples; None for a task that changes all of them."""
        if not get_task(self._config.task).is_local:
            return None
        changed = count(difference(self._samples(), self._sound.read), self._sound.rate)
        log.info("%s: %s", self.target.label, changed)
        return changed
