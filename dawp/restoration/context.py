"""What a block is restored from: its samples, the recording around it, and the noise that the user names."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dawp.config import LONGEST_GAP_MS, Config, GapConfig, NoiseConfig
from dawp.dsp.spectral import SMALLEST_POWER, analyse, frame_hop
from dawp.errors import BadInput
from dawp.io import audio
from dawp.restoration.blocks import Block, Sound

log = logging.getLogger(__name__)

CONTEXT_SECONDS = 3.0  # of the recording on either side of a block, for the noise estimate and the high-pass
MIN_PROFILE_SECONDS = 0.1


def _is_intact(sound: Sound, config: Config, blocks: Sequence[Block]) -> bool:
    """Whether gaps are to be filled and the recording has none, which is logged."""
    gaps = config.corruption
    if not isinstance(gaps, GapConfig) or any(_marked(sound, gaps, block).isnan().any() for block in blocks):
        return False
    log.info(
        "%s: no drop-outs (NaN, or a run of zeros from %g to %g ms that breaks into sound): left unchanged; "
        "--gaps START:LENGTH names what to fill",
        sound.name,
        gaps.min_gap_ms,
        LONGEST_GAP_MS,
    )
    return True


class Context(NamedTuple):
    """A block with the recording around it."""

    samples: Tensor  # [channels, C]
    offset: int  # of the block in it


def _block_of(sound: Sound, config: Config, block: Block) -> tuple[Tensor, Context | None]:
    """A block's samples ``[channels, n]``, NaN for those that are missing, and its context if it is needed."""
    if isinstance(config.corruption, GapConfig):
        return _marked(sound, config.corruption, block), None
    if config.stop.estimate != "mask":
        return sound.read(*block), None
    # Whole frames of the noise estimate, at the working rate, lie between the start of the context and the block.
    rate = config.clip.samplerate or sound.rate
    common = math.gcd(sound.rate, rate)
    step = math.lcm(rate // common, frame_hop(block.stop - block.start, rate)) // (rate // common)
    step *= sound.rate // common
    offset = min(block.start, round(CONTEXT_SECONDS * sound.rate)) // step * step
    stop = min(sound.frames, block.stop + round(CONTEXT_SECONDS * sound.rate))
    samples = sound.read(block.start - offset, stop)
    return samples[:, offset : offset + block.stop - block.start], Context(samples, offset)


def _noise_profile(sound: Sound, config: Config) -> Tensor | None:
    """Mean power ``[channels, bins]`` of the stretches that ``--noise_profile`` names, at the working rate.

    Raises:
        BadInput: a stretch lies outside the recording, or they are too short.
    """
    stretches = config.corruption.profile if isinstance(config.corruption, NoiseConfig) else []
    if not stretches or config.stop.estimate != "mask":
        return None
    powers = []
    for start, length in sorted(stretches):
        first, stop = round(start * sound.rate), round((start + length) * sound.rate)
        if stop > sound.frames:
            seconds = sound.frames / sound.rate
            raise BadInput(
                f"{sound.name}: noise_profile: {start:g}:{length:g} lies outside the recording of {seconds:g} s"
            )
        if stop - first < MIN_PROFILE_SECONDS * sound.rate:
            raise BadInput(
                f"{sound.name}: noise_profile: each stretch must last at least {MIN_PROFILE_SECONDS:g} s, "
                f"got {start:g}:{length:g}"
            )
        rate = config.clip.samplerate or sound.rate
        noise = audio.resample(sound.read(first, stop), sound.rate, rate)
        silent = [channel for channel, power in enumerate(sound.power) if power and not noise[channel].any()]
        if silent:
            raise BadInput(
                f"{sound.name}: noise_profile: {start:g}:{length:g} is silent in channel {silent[0] + 1}, "
                "expected a stretch that holds noise"
            )
        powers.append([torch.from_numpy(analyse(channel, rate)).abs().square() for channel in noise])
    # Stretches of one recording: the frames of all count alike.
    profile = torch.stack([torch.cat(channel, dim=1).mean(dim=1) for channel in zip(*powers, strict=True)])
    return profile.clamp(min=SMALLEST_POWER)


def _marked(sound: Sound, config: GapConfig, block: Block) -> Tensor:
    """A block's samples ``[channels, n]``, with NaN for those that are missing."""
    # With what lies around it: a drop-out at its edge is one by what is beside it.
    margin = math.ceil((LONGEST_GAP_MS / 1000 + audio.BESIDE_SECONDS) * sound.rate) + 1
    first, last = max(0, block.start - margin), min(sound.frames, block.stop + margin)
    samples = sound.read(first, last)
    if config.given:
        samples = torch.where(samples.isfinite(), samples, torch.nan)
        for start, length in config.given:
            begin, end = round(start * sound.rate), round((start + length) * sound.rate)
            samples[:, max(0, begin - first) : max(0, end - first)] = torch.nan
    else:
        samples = audio.mark_missing(samples.T, sound.rate, config.min_gap_ms / 1000, sound.power).T
    return samples[:, block.start - first : block.stop - first]
