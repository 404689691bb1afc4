"""Split a recording into overlapping blocks and join them by overlap-add."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dawp.config import Config
from dawp.errors import BadInput, printable, with_context
from dawp.io import audio
from dawp.io.reader import Reader
from dawp.io.settings import MIN_LENGTH
from dawp.tasks.base import CorruptionConfig

MIN_RATE = 1000  # Hz
SCAN_LENGTH = 1 << 16  # samples read at a time


class Block(NamedTuple):
    """A range of samples: the first one, and the one after the last."""

    start: int
    stop: int


class RestoredBlock(NamedTuple):
    """The result of a block.

    Attributes:
        samples: ``[channels, stop - start]``.
        epochs: for each channel the epoch at which its first fit stopped; 0 if it was not fitted.
    """

    samples: Tensor
    epochs: list[int]


@dataclass(frozen=True)
class Sound:
    """A recording that is read block by block.

    Attributes:
        name: label for messages.
        rate: sample rate in Hz.
        power: mean square of each channel, ``[channels]``.
        frames: samples per channel.
        read: ``read(start, stop)`` returns the samples ``[channels, stop - start]``.

    Raises:
        BadInput: it is too short, its sample rate is too low, or all samples are zero.
    """

    name: str
    rate: int
    power: Tensor
    frames: int
    read: Callable[[int, int], Tensor]

    def __post_init__(self) -> None:
        if self.frames < MIN_LENGTH:
            raise BadInput(
                f"{self.name}: must have at least {MIN_LENGTH} samples, got {self.frames}", code="unusable_recording"
            )
        if self.rate < MIN_RATE:
            raise BadInput(
                f"{self.name}: must have a sample rate of at least {MIN_RATE} Hz, got {self.rate}",
                code="unusable_recording",
            )
        if not self.power.any():
            raise BadInput(f"{self.name}: is silent, all samples are zero or missing", code="unusable_recording")

    def block_label(self, block: Block) -> str:
        """Return the name of the recording and the position of a block, for messages."""
        return f"{self.name}: {block.start / self.rate:.2f} to {block.stop / self.rate:.2f} s"


def scan(file: Reader, path: Path, missing_allowed: bool) -> Sound:
    """Read a recording once to find its length and power.

    Args:
        file: the open recording.
        path: its path, for messages.
        missing_allowed: accept samples that are NaN or infinite.

    Raises:
        BadInput: it cannot be read, is silent or too short, or contains NaN or infinite samples that are not allowed.
    """
    squares = torch.zeros(1, dtype=torch.float64)
    for part in file.blocks(SCAN_LENGTH):
        samples = torch.from_numpy(part)
        if not missing_allowed and not torch.isfinite(samples).all():
            raise BadInput(f"{printable(path)}: has samples that are NaN or infinite", code="unusable_recording")
        squares = squares + samples.double().nan_to_num(posinf=0, neginf=0).square().sum(dim=0)
    frames = file.frames

    def read(start: int, stop: int) -> Tensor:
        part = file.read(start, stop)
        if len(part) != stop - start:
            raise BadInput(
                f"{printable(path)}: has changed while it was read: it now ends at "
                f"{(start + len(part)) / file.rate:.3f} s",
                code="unreadable_input",
            )
        return torch.from_numpy(part.T.copy())

    return Sound(printable(path), file.rate, squares / max(1, frames), frames, read)


def split_blocks(frames: int, rate: int, config: Config) -> list[Block]:
    """Split a recording into overlapping blocks of equal length.

    For T samples, blocks of at most B samples and an overlap of at least V samples, the number of blocks is
    ``n = ceil((T - V) / (B - V))``. They have ``ceil((T + (n - 1) V) / n)`` samples and are spaced evenly; the last
    one ends at sample T.

    Args:
        frames: T.
        rate: sample rate in Hz.
        config: all settings.

    Raises:
        BadInput: a block has fewer than 64 samples at the working rate.
    """
    size = round(config.restoration.block * rate)
    overlap = round(config.restoration.overlap * rate)
    lowest = min(rate, config.clip.samplerate or rate)
    if min(size, frames) * lowest < MIN_LENGTH * rate:
        seconds = min(config.restoration.block, frames / rate)
        raise BadInput(f"block must have at least {MIN_LENGTH} samples, got {seconds:g} s at {lowest} Hz")
    if frames <= size:
        return [Block(0, frames)]
    count = math.ceil((frames - overlap) / (size - overlap))
    size = math.ceil((frames + (count - 1) * overlap) / count)
    starts = [index * (frames - size) // (count - 1) for index in range(count)]
    return [Block(start, start + size) for start in starts]


def plan_blocks(sound: Sound, config: Config) -> list[Block]:
    """Check that a recording suits the settings, and split it into blocks.

    Raises:
        BadInput: the blocks are too short, the working rate cannot be used, or a gap lies outside the recording.
    """
    try:
        blocks = split_blocks(sound.frames, sound.rate, config)
        working_rate = config.clip.samplerate or sound.rate
        for rates in ((sound.rate, working_rate), (working_rate, sound.rate)):
            audio.resample(torch.zeros(1), *rates)
    except BadInput as refusal:
        raise with_context(refusal, sound.name) from None
    _check_gaps(sound, config.corruption)
    return blocks


def _check_gaps(sound: Sound, config: CorruptionConfig) -> None:
    for start, length in config.given:
        first, stop = round(start * sound.rate), round((start + length) * sound.rate)
        if stop > sound.frames:
            seconds = sound.frames / sound.rate
            raise BadInput(f"{sound.name}: gaps: {start:g}:{length:g} lies outside the recording of {seconds:g} s")
        if first == stop:
            raise BadInput(f"{sound.name}: gaps: {start:g}:{length:g} contains no sample at {sound.rate} Hz")


def overlap_add(parts: Iterable[tuple[Block, Tensor]]) -> Iterator[Tensor]:
    """Join blocks with linear cross-fades.

    In an overlap of V samples, sample k = 1 ... V of the later block has the gain ``k / (V + 1)``, and that of the
    earlier block ``1 - k / (V + 1)``.

    Args:
        parts: blocks in order, with their samples ``[channels, stop - start]``.

    Yields:
        Consecutive parts of the joined waveform, ``[channels, n]``.
    """
    tail: Tensor | None = None
    begin = 0
    for block, samples in parts:
        if tail is not None:
            yield tail[:, : block.start - begin]
            ending = tail[:, block.start - begin :]
            length = ending.shape[1]
            gain = torch.arange(1, length + 1) / (length + 1)
            samples = torch.cat([torch.lerp(ending, samples[:, :length], gain), samples[:, length:]], dim=1)
        tail, begin = samples, block.start
    if tail is not None:
        yield tail
