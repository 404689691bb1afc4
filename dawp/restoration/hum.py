"""Remove the hum of a recording before it is split into blocks."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dawp.config import Config
from dawp.restoration.blocks import Sound
from dawp.tasks.base import get_task

log = logging.getLogger(__name__)


def remove_hum(sound: Sound, config: Config) -> tuple[Sound, dict[str, Any]]:
    """Remove the hum that the task finds, in proportion to ``--strength``.

    Args:
        sound: the recording, whose ``power`` stays that before the removal.
        config: all settings.

    Returns:
        The recording without hum, itself if it has none, and an entry for its record: the fundamental, the number of
        harmonics and the level of the hum of each channel that has hum; empty if the task does not look for hum.
    """
    find = get_task(config.task).find_hum
    hums = find(sound.read, sound.power, sound.frames, sound.rate, config.corruption) if find else None
    if hums is None:
        return sound, {}
    entries = [
        {
            "channel": number,
            "fundamental_hz": hum.fundamental,
            "harmonics": len(hum.orders),
            "level_dbfs": 10 * math.log10(hum.power),
        }
        for number, hum in enumerate(hums, start=1)
        if hum
    ]
    for entry in entries:
        log.info("%s: hum in channel %d: %.2f Hz, %d harmonics, %.1f dBFS", sound.name, *entry.values())
    if not entries:
        return sound, {"hum": []}
    strength = config.restoration.strength

    def read(start: int, stop: int) -> Tensor:
        channels = [
            channel if hum is None else (channel.double() - strength * hum.samples(start, stop)).to(channel.dtype)
            for channel, hum in zip(sound.read(start, stop), hums, strict=True)
        ]
        return torch.stack(channels)

    return replace(sound, read=read), {"hum": entries}
