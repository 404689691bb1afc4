"""Estimate the quantities that describe a recording and its restoration, for the record and the log."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterator

import torch
from torch import Tensor

from dawp.config import Config
from dawp.metrics.base import METRICS, Metric
from dawp.plugins import import_object
from dawp.restoration.blocks import Sound
from dawp.tasks.base import get_task

Scores = dict[str, float | None]

log = logging.getLogger(__name__)

SECTION_SECONDS = 30.0
MAX_SECTIONS = 4


def describe(sound: Sound, config: Config) -> Scores:
    """Return the quantities that the task estimates from a recording, and log them.

    Each is the median over the channels and over the sections of the recording.

    Returns:
        The quantities by name, None where one cannot be estimated; empty if the task has none.
    """
    task = get_task(config.task)
    if task.describe is None:
        return {}
    values: dict[str, list[float]] = {}
    for start, stop in _sections(sound):
        for channel in sound.read(start, stop):
            for name, value in task.describe(channel, sound.rate, config.corruption).items():
                values.setdefault(name, []).append(value)
    finite = {name: [value for value in found if math.isfinite(value)] for name, found in values.items()}
    medians = {name: statistics.median(found) if found else None for name, found in finite.items()}
    if medians:
        texts = (_quantity(*task.quantities.get(name, (name, "")), value) for name, value in medians.items())
        log.info("%s: estimated from the recording: %s", sound.name, ", ".join(texts))
    return medians


def _quantity(label: str, unit: str, value: float | None) -> str:
    return f"{label} unknown" if value is None else f"{label} {value:.2g} {unit}".rstrip()


def assess(sound: Sound, restored: Iterator[Tensor], config: Config) -> dict[str, Scores]:
    """Compute the metrics that need no clean clip on a recording and on its restoration, and log them.

    Each is the mean over the channels and over the sections of the recording.

    Args:
        sound: the recording.
        restored: consecutive parts of the restored waveform ``[channels, n]``, at the rate of the recording.
        config: all settings.

    Returns:
        For each metric, ``recording`` and ``restored``, None where it is not defined; empty if none is selected.
    """
    names = config.metrics.without_clean
    if not names:
        return {}
    pairs = [
        (sound.read(*section).nan_to_num(posinf=0, neginf=0), after)
        for section, after in _restored_sections(sound, restored)
    ]
    scores = {}
    for name in names:
        values = {
            "recording": [_score(METRICS[name], channel, sound.rate) for before, _ in pairs for channel in before],
            "restored": [_score(METRICS[name], channel, sound.rate) for _, after in pairs for channel in after],
        }
        scores[name] = {key: statistics.mean(of) if math.isfinite(sum(of)) else None for key, of in values.items()}
        text = " to ".join("unknown" if value is None else f"{value:.2f}" for value in scores[name].values())
        log.info("%s: %s changed from %s", sound.name, METRICS[name].label, text)
    return scores


def _score(metric: Metric, waveform: Tensor, rate: int) -> float:
    """Return a metric of a waveform ``[T]``, which takes the place of the clean clip too; NaN if it is not defined."""
    try:
        if not metric.is_slow:
            return float(import_object(metric.function)(waveform, waveform))
        estimate, target = waveform, waveform
        if metric.prepare:
            estimate, target, rate = import_object(metric.prepare)(waveform, waveform, rate)
        return float(import_object(metric.function)(estimate.numpy(), target.numpy(), rate))
    except ValueError:
        return math.nan


def _sections(sound: Sound) -> list[tuple[int, int]]:
    """Return start and stop of at most four sections of 30 s, evenly spaced in the recording."""
    size = min(sound.frames, round(SECTION_SECONDS * sound.rate))
    count = min(MAX_SECTIONS, math.ceil(sound.frames / size))
    starts = [index * (sound.frames - size) // max(1, count - 1) for index in range(count)]
    return [(start, start + size) for start in starts]


def _restored_sections(sound: Sound, restored: Iterator[Tensor]) -> Iterator[tuple[tuple[int, int], Tensor]]:
    """Yield each section and its restored samples ``[channels, n]``."""
    sections = _sections(sound)
    found: list[list[Tensor]] = [[] for _ in sections]
    position = 0
    for part in restored:
        for pieces, (start, stop) in zip(found, sections, strict=True):
            pieces.append(part[:, max(0, start - position) : max(0, stop - position)].clone())
        position += part.shape[1]
    for section, pieces in zip(sections, found, strict=True):
        yield section, torch.cat(pieces, dim=1)
