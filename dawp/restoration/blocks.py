"""The blocks that a recording is cut into, and how they become one waveform again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dawp.config import MIN_LENGTH, Config, GapConfig
from dawp.errors import BadInput, shown
from dawp.io import audio
from dawp.io.reader import Reader

LOWEST_RATE = 1000  # Hz
SURVEYED_AT_ONCE = 1 << 16  # samples


class Block(NamedTuple):
    """First sample of a block and the one after its last."""

    start: int
    stop: int


@dataclass(frozen=True)
class Sound:
    """A recording as blocks are taken from it.

    Attributes:
        name: for messages.
        rate: in Hz.
        power: ``[channels]``, mean square of each.
        frames: samples of each channel.
        read: the samples ``[channels, stop - start]`` from ``start`` to ``stop``.
    """

    name: str
    rate: int
    power: Tensor
    frames: int
    read: Callable[[int, int], Tensor]

    def __post_init__(self) -> None:
        if self.frames < MIN_LENGTH:
            raise BadInput(f"{self.name}: is too short, of {self.frames} samples; at least {MIN_LENGTH} are needed")
        if self.rate < LOWEST_RATE:
            raise BadInput(f"{self.name}: must have a rate of at least {LOWEST_RATE} Hz, got {self.rate}")
        if not self.power.any():
            raise BadInput(f"{self.name}: is silent, all samples are zero or missing")


class Restored(NamedTuple):
    """A block that is done."""

    samples: Tensor  # [channels, stop - start]
    epochs: list[int]  # of each channel, where its first fit was stopped; 0 if there was nothing to fit


def cut(frames: int, rate: int, config: Config) -> list[Block]:
    """The blocks of a recording of ``frames`` samples: of one size, evenly spaced, the last one at its end.

    Raises:
        BadInput: blocks of so few seconds hold too few samples.
    """
    size = round(config.restoration.block * rate)
    overlap = round(config.restoration.overlap * rate)
    lowest = min(rate, config.clip.samplerate or rate)
    if min(size, frames) * lowest < MIN_LENGTH * rate:
        seconds = min(config.restoration.block, frames / rate)
        raise BadInput(f"block must hold at least {MIN_LENGTH} samples, got {seconds:g} s at {lowest} Hz")
    if frames <= size:
        return [Block(0, frames)]
    count = math.ceil((frames - overlap) / (size - overlap))
    size = math.ceil((frames + (count - 1) * overlap) / count)
    starts = [index * (frames - size) // (count - 1) for index in range(count)]
    return [Block(start, start + size) for start in starts]


def faded(parts: Iterable[tuple[Block, Tensor]]) -> Iterator[Tensor]:
    """The blocks as one waveform, in pieces ``[channels, n]``: where two overlap, the gains of both add up to 1.

    Args:
        parts: blocks in order, with their samples ``[channels, stop - start]``.
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


def _blocks_of(sound: Sound, config: Config) -> list[Block]:
    """The blocks of a recording, which is refused if it cannot be worked on."""
    try:
        blocks = cut(sound.frames, sound.rate, config)
        working_rate = config.clip.samplerate or sound.rate
        for rates in ((sound.rate, working_rate), (working_rate, sound.rate)):
            audio.resample(torch.zeros(1), *rates)
    except BadInput as refusal:
        raise BadInput(f"{sound.name}: {refusal}") from None
    gaps = config.corruption
    if isinstance(gaps, GapConfig):
        for start, length in gaps.given:
            first, stop = round(start * sound.rate), round((start + length) * sound.rate)
            if stop > sound.frames:
                seconds = sound.frames / sound.rate
                raise BadInput(f"{sound.name}: gaps: {start:g}:{length:g} lies outside the recording of {seconds:g} s")
            if first == stop:
                raise BadInput(f"{sound.name}: gaps: {start:g}:{length:g} holds no sample at {sound.rate} Hz")
    return blocks


def _where(sound: Sound, block: Block) -> str:
    """A block, in words."""
    return f"{sound.name}: {block.start / sound.rate:.2f} to {block.stop / sound.rate:.2f} s"


def _survey(file: Reader, path: Path, missing_allowed: bool) -> Sound:
    """Read a recording once, for what is needed before its blocks are taken.

    Raises:
        BadInput: it cannot be read, is silent or too short, or lacks samples where that is not allowed.
    """
    squares = torch.zeros(1, dtype=torch.float64)
    for part in file.blocks(SURVEYED_AT_ONCE):
        samples = torch.from_numpy(part)
        if not missing_allowed and not torch.isfinite(samples).all():
            raise BadInput(f"{shown(path)}: holds samples that are NaN or infinite")
        squares = squares + samples.double().nan_to_num(posinf=0, neginf=0).square().sum(dim=0)
    frames = file.frames

    def read(start: int, stop: int) -> Tensor:
        part = file.read(start, stop)
        if len(part) != stop - start:
            raise BadInput(f"{shown(path)}: has changed, and ends at {(start + len(part)) / file.rate:.3f} s now")
        return torch.from_numpy(part.T.copy())

    return Sound(shown(path), file.rate, squares / max(1, frames), frames, read)
