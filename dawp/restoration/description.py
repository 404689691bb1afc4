"""Estimate the quantities that describe a recording, for its record and the log."""

from __future__ import annotations

import logging
import math
import statistics

from dawp.config import Config
from dawp.restoration.blocks import Sound
from dawp.tasks.base import get_task

log = logging.getLogger(__name__)

SECTION_SECONDS = 30.0
MAX_SECTIONS = 4


def describe(sound: Sound, config: Config) -> dict[str, float | None]:
    """Return the quantities that the task estimates from a recording, and log them.

    Each is the median over the channels and over at most four sections of 30 s, evenly spaced in the recording.

    Returns:
        The quantities by name, None where one cannot be estimated; empty if the task has none.
    """
    estimate = get_task(config.task).describe
    if estimate is None:
        return {}
    size = min(sound.frames, round(SECTION_SECONDS * sound.rate))
    count = min(MAX_SECTIONS, math.ceil(sound.frames / size))
    starts = [index * (sound.frames - size) // max(1, count - 1) for index in range(count)]
    values: dict[str, list[float]] = {}
    for start in starts:
        for channel in sound.read(start, start + size):
            for name, value in estimate(channel, sound.rate, config.corruption).items():
                values.setdefault(name, []).append(value)
    finite = {name: [value for value in found if math.isfinite(value)] for name, found in values.items()}
    medians = {name: statistics.median(found) if found else None for name, found in finite.items()}
    if medians:
        text = ", ".join(f"{name} {'unknown' if value is None else f'{value:.2g}'}" for name, value in medians.items())
        log.info("%s: estimated from the recording: %s", sound.name, text)
    return medians
