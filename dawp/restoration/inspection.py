"""Inspect a recording before it is split into blocks, and read it at the sample rate of the output."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor

from dawp.config import Config
from dawp.dsp.lowpass import resample_steeply
from dawp.errors import BadInput, with_context
from dawp.methods.base import check_method, get_method
from dawp.restoration.blocks import SCAN_LENGTH, Sound
from dawp.settings import flag_of
from dawp.tasks.base import get_task

log = logging.getLogger(__name__)

MARGIN = 128  # samples of the recording on either side of a part; the filter has 65 on either side


def inspect(sound: Sound, config: Config) -> tuple[Sound, Config] | None:
    """Return a recording at the sample rate of the output, and the settings for it; None to leave it unchanged.

    Raises:
        BadInput: the settings do not suit the recording.
    """
    task = get_task(config.task)
    if task.inspect is None:
        return sound, config
    try:
        corruption = task.inspect(_parts(sound), sound.rate, sound.name, config.corruption)
        if corruption is None:
            return None
        return at_rate(sound, corruption.output_rate or sound.rate), replace(config, corruption=corruption)
    except BadInput as refusal:
        raise with_context(refusal, sound.name) from None


def check_rate(rate: int, name: str, config: Config) -> None:
    """Check the method at the sample rate of a recording, before it is decoded.

    Args:
        rate: in Hz.
        name: of the recording, for messages.
        config: all settings.

    Raises:
        BadInput: the method cannot be used at this rate.
    """
    try:
        check_method(config.task, config.restoration.method, config, rate)
    except BadInput as refusal:
        raise with_context(refusal, name) from None


def check_length(sound: Sound, config: Config) -> dict[str, list[str]]:
    """Log the method and the given settings that have no effect because a recording is too short for them.

    Returns:
        An entry for its record: the names of these settings and of those with their default; empty without any.
    """
    corruption, seconds = config.corruption, sound.frames / sound.rate
    defaults = {field.name: field.default for field in fields(corruption)}
    values = {"method": config.restoration.method, **{name: getattr(corruption, name) for name in defaults}}
    method = get_method(config.task, config.restoration.method)
    shortest = {"method": method.min_seconds if method else 0.0, **corruption.min_seconds}
    names = [name for name, least in shortest.items() if seconds < least]
    for name in names:
        if name not in defaults or values[name] != defaults[name]:
            log.info(
                "%s: %s has no effect: the recording must last at least %.3g s, got %.3g s",
                sound.name,
                flag_of(name, values[name]),
                shortest[name],
                seconds,
            )
    return {"too_short_for": names} if names else {}


def _parts(sound: Sound) -> Iterator[Tensor]:
    return (sound.read(start, min(start + SCAN_LENGTH, sound.frames)) for start in range(0, sound.frames, SCAN_LENGTH))


def at_rate(sound: Sound, rate: int) -> Sound:
    """Return a recording of n samples at a higher sample rate in Hz: ``round(n * rate / sound.rate)`` samples.

    Raises:
        BadInput: the greatest common divisor of the rates is so small that the filters would not fit in memory.
    """
    if rate == sound.rate:
        return sound
    common = math.gcd(sound.rate, rate)
    step, new_step = sound.rate // common, rate // common
    resample_steeply(torch.zeros(1), sound.rate, rate)

    def read(start: int, stop: int) -> Tensor:
        first = max(0, start // new_step - math.ceil(MARGIN / step)) * step  # where a sample of both rates is
        last = min(sound.frames, math.ceil(stop / new_step) * step + MARGIN)
        interpolated = resample_steeply(sound.read(first, last), sound.rate, rate)
        offset = first // step * new_step
        return interpolated[:, start - offset : stop - offset]

    return replace(sound, rate=rate, frames=round(sound.frames * rate / sound.rate), read=read)
