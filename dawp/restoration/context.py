"""Read the inputs of a block: its samples, the surrounding recording and the noise profile."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dawp.config import Config
from dawp.dsp.gaps import detection
from dawp.dsp.spectral import SMALLEST_POWER, analyse, frame_hop
from dawp.errors import BadInput
from dawp.io import audio
from dawp.io.settings import LONGEST_GAP_MS
from dawp.methods.base import get_method
from dawp.restoration.blocks import Block, Sound
from dawp.tasks.base import CorruptionConfig

log = logging.getLogger(__name__)

CONTEXT_SECONDS = 3.0  # of the recording on either side of a block, for the noise estimate and the high-pass
OPERATOR_REACHES = 3  # lengths of an impulse response on either side of a block; with 1 the error at its ends doubles
MIN_PROFILE_SECONDS = 0.1


class Context(NamedTuple):
    """A block and the recording around it.

    Attributes:
        samples: ``[channels, C]``.
        offset: index of the first sample of the block in ``samples``.
    """

    samples: Tensor
    offset: int


def is_intact(sound: Sound, config: Config, blocks: Sequence[Block]) -> bool:
    """Return True, and log it, if the task is to fill gaps and the recording has none."""
    gaps = config.corruption
    if gaps.missing is None or any(read_marked(sound, gaps, block).isnan().any() for block in blocks):
        return False
    log.info(
        "%s: no drop-outs (NaN, or zeros, near silence, a repeated value or noise from %g to %g ms): left unchanged; "
        "use --gaps START:LENGTH to name the gaps",
        sound.name,
        gaps.missing * 1000,
        LONGEST_GAP_MS,
    )
    return True


def read_block(sound: Sound, config: Config, block: Block) -> tuple[Tensor, Context | None]:
    """Read a block and, where the method needs it, the recording around it.

    It is needed to estimate the noise, and to invert a known operator.

    Returns:
        The samples ``[channels, n]``, NaN where they are missing, and the context; None if it is not needed.
    """
    if config.corruption.missing is not None:
        return read_marked(sound, config.corruption, block), None
    if not config.estimates_noise:
        reach = _method_reach(sound.rate, config)
        if not reach:
            return sound.read(*block), None
        offset = min(block.start, reach)
        samples = sound.read(block.start - offset, min(sound.frames, block.stop + reach))
        return samples[:, offset : offset + block.stop - block.start], Context(samples, offset)
    # Start the context a whole number of frames of the noise estimate, at the working rate, before the block.
    rate = config.clip.samplerate or sound.rate
    common = math.gcd(sound.rate, rate)
    step = math.lcm(rate // common, frame_hop(block.stop - block.start, rate)) // (rate // common)
    step *= sound.rate // common
    offset = min(block.start, round(CONTEXT_SECONDS * sound.rate)) // step * step
    stop = min(sound.frames, block.stop + round(CONTEXT_SECONDS * sound.rate))
    samples = sound.read(block.start - offset, stop)
    return samples[:, offset : offset + block.stop - block.start], Context(samples, offset)


def _method_reach(rate: int, config: Config) -> int:
    """Return the number of samples on either side of a block that a method needs."""
    method = get_method(config.task, config.restoration.method)
    if method is None:  # the network generates these samples
        return 0
    operator = config.corruption.operator(rate, 0) if config.uses_operator else None
    return max(round(method.context * rate), OPERATOR_REACHES * operator.input_length(0) if operator else 0)


def read_marked(sound: Sound, config: CorruptionConfig, block: Block) -> Tensor:
    """Read a block ``[channels, n]`` with NaN for the samples in gaps."""
    # A drop-out is detected by the samples on both sides of it, which may lie outside the block.
    margin = math.ceil((LONGEST_GAP_MS / 1000 + detection.FRAME_SECONDS) * sound.rate) + 1
    first, last = max(0, block.start - margin), min(sound.frames, block.stop + margin)
    samples = sound.read(first, last)
    if config.given:
        samples = torch.where(samples.isfinite(), samples, torch.nan)
        for start, length in config.given:
            begin, end = round(start * sound.rate), round((start + length) * sound.rate)
            samples[:, max(0, begin - first) : max(0, end - first)] = torch.nan
    elif config.missing is not None:
        samples = audio.mark_missing(samples.T, sound.rate, config.missing, sound.power).T
    return samples[:, block.start - first : block.stop - first]


def noise_profile(sound: Sound, config: Config) -> Tensor | None:
    """Measure the power of the noise in the intervals that ``noise_profile`` names.

    Returns:
        Mean power ``[channels, bins]`` over all frames of all intervals, at the working rate; None if no interval is
        named or the method does not use them.

    Raises:
        BadInput: an interval lies outside the recording, is too short, or is silent in a channel that is not.
    """
    intervals = config.corruption.profile
    if not intervals or not config.estimates_noise:
        return None
    rate = config.clip.samplerate or sound.rate
    powers = []
    for interval in sorted(intervals):
        noise = audio.resample(_read_noise(sound, *interval), sound.rate, rate)
        silent = [channel for channel, power in enumerate(sound.power) if power and not noise[channel].any()]
        if silent:
            start, length = interval
            raise BadInput(
                f"{sound.name}: noise_profile: {start:g}:{length:g} is silent in channel {silent[0] + 1}, "
                "expected an interval with noise",
                code="unusable_recording",
            )
        powers.append([torch.from_numpy(analyse(channel, rate)).abs().square() for channel in noise])
    profile = torch.stack([torch.cat(channel, dim=1).mean(dim=1) for channel in zip(*powers, strict=True)])
    return profile.clamp(min=SMALLEST_POWER)


def _read_noise(sound: Sound, start: float, length: float) -> Tensor:
    """Read the interval of ``length`` seconds from ``start``, ``[channels, n]``."""
    first, stop = round(start * sound.rate), round((start + length) * sound.rate)
    if stop > sound.frames:
        seconds = sound.frames / sound.rate
        raise BadInput(f"{sound.name}: noise_profile: {start:g}:{length:g} lies outside the recording of {seconds:g} s")
    if stop - first < MIN_PROFILE_SECONDS * sound.rate:
        raise BadInput(
            f"{sound.name}: noise_profile: each interval must last at least {MIN_PROFILE_SECONDS:g} s, "
            f"got {start:g}:{length:g}"
        )
    return sound.read(first, stop)
