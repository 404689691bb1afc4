"""Clip a signal, and find the level at which one was clipped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BIT_DEPTHS = (16, 24)
FLOAT_TOLERANCE = 1e-6  # relative to the peak
MIN_RUNS = 3  # runs of two samples or more at the level
STEEP = 20.0  # fall of a clipped signal beside a run, in tolerances; a rounded peak falls by 9
MAX_STEPS = 60  # bisections


def clip_to_sdr(clean: Tensor, sdr: float) -> float:
    """Return the level at which clipping gives a signal-to-distortion ratio.

    Args:
        clean: ``[T]``.
        sdr: ``10 log10(|x|² / |x - clip(x)|²)`` in dB.
    """
    magnitudes = clean.double().abs()
    power = float(magnitudes.square().sum())
    low, high = 0.0, float(magnitudes.max())
    for _ in range(MAX_STEPS):
        level = (low + high) / 2
        error = float((magnitudes - level).clamp(min=0).square().sum())
        if error * 10 ** (sdr / 10) > power:
            low = level
        else:
            high = level
    return high


def clipping_levels(waveform: Tensor) -> tuple[float | None, float | None]:
    """Find the levels at which a signal was clipped from above and from below.

    A signal is clipped at its largest value if it stays there, to within the step of its sample type, in three runs of
    two samples or more, and leaves most of the runs steeply. The rounded peaks of a low tone, which can stay within a
    step of the largest value for as long, do not: at the distance of its length from such a run the tone has fallen by
    nine times the fall within half the run.

    Args:
        waveform: ``[T]``.

    Returns:
        The level above, and the negative one below; None where the signal is not clipped.
    """
    samples = waveform.double().cpu().numpy()
    tolerance = _tolerance(samples)
    above, below = (_level(sign * samples, tolerance) for sign in (1, -1))
    return above, None if below is None else -below


def clipped_samples(waveform: Tensor, levels: tuple[float | None, float | None]) -> tuple[Tensor, Tensor]:
    """Return which samples ``[T]`` of a waveform ``[T]`` are clipped from above and from below."""
    tolerance = _tolerance(waveform.double().cpu().numpy())
    above, below = levels
    return (
        waveform >= (math.inf if above is None else above - tolerance),
        waveform <= (-math.inf if below is None else below + tolerance),
    )


def _tolerance(samples: Array) -> float:
    """Return one and a half steps of the sample type of a signal."""
    for bits in BIT_DEPTHS:
        steps = samples * 2 ** (bits - 1)
        if np.array_equal(steps, np.round(steps)):
            return float(1.5 / 2 ** (bits - 1))
    return FLOAT_TOLERANCE * float(np.abs(samples).max())


def _level(samples: Array, tolerance: float) -> float | None:
    """Return the level at which a signal is clipped from above; None if it is not."""
    level = float(samples.max(initial=0.0))
    if level <= 2 * tolerance:
        return None
    edges = np.flatnonzero(np.diff(samples >= level - tolerance, prepend=False, append=False))
    starts, stops = edges[::2], edges[1::2]
    lengths = stops - starts
    inside = (lengths >= 2) & (starts >= lengths) & (stops + lengths <= len(samples))
    starts, stops, lengths = starts[inside], stops[inside], lengths[inside]
    if len(starts) < MIN_RUNS:
        return None
    fall = level - (samples[starts - lengths] + samples[stops + lengths - 1]) / 2
    return level if float(np.median(fall)) > STEEP * tolerance else None
