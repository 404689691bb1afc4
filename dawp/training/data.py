"""Training data: windows of clean recordings, and corrupted versions of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dawp.errors import BadInput, printable
from dawp.io import audio
from dawp.io.sources import find_recordings
from dawp.randomness import seeded
from dawp.tasks.base import make_problem
from dawp.training.settings import TrainingConfig
from dawp.training.trainer import Batch

log = logging.getLogger(__name__)

MARGIN_SECONDS = 0.1
"""Part of a recording on either side of the windows that is corrupted with them, so that filters have no ends there."""

SILENCE_DB = -40.0
"""RMS of a clip, relative to the loudest 25 ms of its recording, under which it is not used."""

MIN_DBFS = -80.0
"""RMS of the loudest 25 ms of a recording, under which it is silent: dither has -95 dBFS at 16 bits."""

FRAME_SECONDS = 0.025
MAX_DRAWS = 1000


class Recordings:
    """Clean recordings at one sample rate in a file of samples, which is mapped into memory.

    Each file is decoded once; the samples are not copied into the processes that draw clips.

    Args:
        paths: of the sound files. Unreadable and silent ones are skipped with a warning.
        rate: sample rate in Hz.
        cache: file of the samples, float32, which is created.

    Attributes:
        paths: of the files that are used.
        lengths: samples of each.

    Raises:
        BadInput: no file can be used.
    """

    def __init__(self, paths: Sequence[Path], rate: int, cache: Path) -> None:
        self.rate, self._cache = rate, cache
        self.paths: list[Path] = []
        self.lengths: list[int] = []
        self._peaks: list[float] = []
        with cache.open("wb") as file, _without_notices():
            for path in paths:
                try:
                    samples = audio.read(path, rate)
                    loudest = _loudest(samples, rate)
                    if loudest < 10 ** (MIN_DBFS / 20):
                        raise BadInput(
                            f"{printable(path)}: is silent, its loudest 25 ms are below {MIN_DBFS:g} dBFS",
                            code="unusable_recording",
                        )
                except BadInput as refusal:
                    log.warning("%s: skipped", refusal)
                    continue
                file.write(samples.numpy().tobytes())
                self.paths.append(path)
                self.lengths.append(len(samples))
                self._peaks.append(loudest)
        if not self.paths:
            raise BadInput(f"data must have usable recordings, got none in {len(paths)} files", code="not_found")
        self._starts = [sum(self.lengths[:index]) for index in range(len(self.lengths))]
        self._samples: Any = None
        log.info("%d recordings of %.4g s in all", len(self.paths), 3600 * self.hours)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_samples": None}  # a process maps the file by itself

    def read(self, index: int, start: int, stop: int) -> Tensor:
        """Return samples ``[stop - start]`` of a recording; zeros beyond its ends."""
        if self._samples is None:
            self._samples = np.memmap(self._cache, np.float32, "r")
        length, offset = self.lengths[index], self._starts[index]
        first, last = min(max(start, 0), length), min(max(stop, 0), length)
        found = torch.from_numpy(np.array(self._samples[offset + first : offset + last]))
        return torch.nn.functional.pad(found, (first - start, stop - last))

    def is_silent(self, index: int, samples: Tensor) -> bool:
        """Return whether samples are silent beside the loudest part of their recording."""
        return float(samples.square().mean().sqrt()) <= self._peaks[index] * 10 ** (SILENCE_DB / 20)

    @property
    def hours(self) -> float:
        return sum(self.lengths) / self.rate / 3600

    def identity(self) -> list[tuple[str, int]]:
        """Return the name and the number of samples of each recording."""
        return [(path.name, length) for path, length in zip(self.paths, self.lengths, strict=True)]


@contextmanager
def _without_notices() -> Iterator[None]:
    """Omit the messages about the sample rate and the channels of each recording."""
    logger = audio.log
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _loudest(samples: Tensor, rate: int) -> float:
    """Return the largest RMS of a frame of 25 ms."""
    size = min(len(samples), max(1, round(FRAME_SECONDS * rate)))
    return float(samples[: len(samples) // size * size].view(-1, size).square().mean(dim=1).max().sqrt())


def split(source: Path, config: TrainingConfig) -> tuple[list[Path], list[Path]]:
    """Return the recordings to train on and those that are held out, in a random order.

    The order is the same for every seed: a training that starts from the weights of another one, with other random
    draws, must not train on the recordings that are held out.

    Raises:
        BadInput: there are fewer recordings than ``train_n`` and ``test_n`` need.
    """
    paths = [found.clean for found in find_recordings(source) if found.clean]
    if len(paths) < 2:
        raise BadInput(f"data must have at least 2 recordings, one to hold out, got {len(paths)}")
    order = torch.randperm(len(paths), generator=seeded(0, "split")).tolist()
    test_n = config.data.test_n or max(1, len(paths) // 10)
    train_n = config.data.train_n or len(paths) - test_n
    if test_n >= len(paths):
        raise BadInput(f"test_n must be below the number of recordings, {len(paths)}, got {test_n}")
    if train_n + test_n > len(paths):
        raise BadInput(f"train_n must be at most {len(paths) - test_n} with {test_n} held out, got {train_n}")
    shuffled = [paths[index] for index in order]
    return shuffled[test_n : test_n + train_n], shuffled[:test_n]


class Windows(Dataset[Batch]):
    """The batches of a training: item s is the batch of step s, which depends on the seed and s alone.

    A batch consists of clips from random places of random recordings, long ones more often. Each clip is corrupted with
    a margin, and ``windows_per_clip`` successive windows are cut from it.

    Args:
        recordings: to draw from.
        config: all settings.
        rank: index of the device.
    """

    def __init__(self, recordings: Recordings, config: TrainingConfig, rank: int = 0) -> None:
        self._recordings, self._config, self._rank = recordings, config, rank

    def __getitem__(self, step: int) -> Batch:
        data = self._config.data
        rng = seeded(self._config.loop.seed, f"windows of device {self._rank}", step)
        pairs: list[tuple[Tensor, Tensor]] = []
        length = data.window + (data.windows_per_clip - 1) * data.stride
        while len(pairs) < data.batch:
            clean, observed = draw_clip(self._recordings, length, self._config, rng)
            pairs += zip(
                clean.unfold(0, data.window, data.stride), observed.unfold(0, data.window, data.stride), strict=True
            )
        return Batch(*(torch.stack(windows) for windows in zip(*pairs[: data.batch], strict=True)))

    def steps_per_epoch(self) -> int:
        """Return the number of steps whose windows are as many as those of all recordings."""
        data = self._config.data
        counts = (max(1, 1 + (length - data.window) // data.stride) for length in self._recordings.lengths)
        return math.ceil(sum(counts) / data.batch)


def held_out_clips(recordings: Recordings, config: TrainingConfig) -> Iterator[Batch]:
    """Yield the clips ``[1, T]`` for the metrics; they depend on the seed alone."""
    length = max(config.data.window, round(config.data.test_seconds * config.data.samplerate))
    for index in range(config.data.test_clips):
        clean, observed = draw_clip(recordings, length, config, seeded(config.loop.seed, "test clips", index))
        yield Batch(clean[None], observed[None])


def draw_clip(
    recordings: Recordings, length: int, config: TrainingConfig, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return a random clip ``[length]`` and its corrupted version; the same tensor if no task corrupts it.

    Raises:
        BadInput: the clips are silent, or the task cannot corrupt them.
    """
    margin = round(MARGIN_SECONDS * recordings.rate) if config.task else 0
    weights = torch.tensor(recordings.lengths, dtype=torch.float64)
    reason = "every drawn clip is silent"
    for _ in range(MAX_DRAWS):
        index = int(torch.multinomial(weights, 1, generator=rng))
        last = max(0, recordings.lengths[index] - length)
        start = int(torch.randint(last + 1, (), generator=rng))
        clip = recordings.read(index, start - margin, start + length + margin)
        if recordings.is_silent(index, clip[margin : margin + length]):
            continue
        if config.task is None or config.corruption is None:
            return clip, clip
        try:
            problem = make_problem(config.task, clip, None, recordings.rate, config.corruption, rng)
        except BadInput as refusal:
            if refusal.code != "unusable_recording":
                raise
            reason = str(refusal)
            continue
        if problem.clean is not None:
            return problem.clean[margin : margin + length], problem.observed[margin : margin + length]
    raise BadInput(f"data must have clips that can be used: {reason}", code="unusable_recording")
