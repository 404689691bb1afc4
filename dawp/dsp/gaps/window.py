"""Gaps, the recording that has them, and the samples around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]


class Gap(NamedTuple):
    """The first missing sample and the one after the last."""

    start: int
    stop: int


class Recording(NamedTuple):
    """A waveform with gaps."""

    waveform: NDArray[Any]  # [T]
    mask: Flags  # [T], True where a sample is known
    sample_rate: int  # Hz
    gaps: list[Gap]
    others: Sequence[NDArray[Any]] = ()  # other channels, [T] each
    others_known: Sequence[Flags] = ()  # [T] each, True where a sample is known


class Window(NamedTuple):
    """The samples around a gap, at a peak of 0.5 to 1."""

    samples: Array  # [N], 0 where they are missing
    missing: Flags  # [N]
    gap: Gap
    exponent: int  # the samples were divided by 2 to this power
    sample_rate: int


def runs(flags: Flags) -> list[tuple[int, int]]:
    """First index and the one after the last of each run of True in ``[N]``."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def window_around(recording: Recording, gap: Gap, seconds: float) -> Window:
    """Copy a gap and the samples around it."""
    first, last = context_of(gap, len(recording.mask), max(1, round(seconds * recording.sample_rate)))
    missing = ~recording.mask[first:last]
    inside = Gap(gap.start - first, gap.stop - first)
    missing[inside.start : inside.stop] = True
    samples = np.where(missing, 0.0, recording.waveform[first:last]).astype(np.float64)
    exponent = int(np.frexp(np.abs(samples).max())[1])
    return Window(np.ldexp(samples, -exponent), missing, inside, exponent, recording.sample_rate)


def context_of(gap: Gap, size: int, context: int) -> tuple[int, int]:
    """Return start and stop of the context of a gap; samples missing on one side are added on the other."""
    lacking_before, lacking_after = max(0, context - gap.start), max(0, context - (size - gap.stop))
    return max(0, gap.start - context - lacking_after), min(size, gap.stop + context + lacking_before)


def cosine_weights(start: int, stop: int, context: int, places: Array) -> Array:
    """Return the weights ``[N]`` of samples around a gap, cos²(pi d / 2C), where d is the distance from the gap.

    Args:
        start: first sample of the gap.
        stop: sample after its last.
        context: samples on either side with a weight above 0, C - 1.
        places: indices of the samples ``[N]``.
    """
    distance = np.maximum(start - places, places - (stop - 1))
    return np.cos(np.pi / 2 * np.clip(distance / (context + 1), 0, 1)) ** 2
