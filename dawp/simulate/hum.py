"""Simulate mains hum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DRIFT_SECONDS, LEVEL_SECONDS = 10.0, 8.0  # between independent draws
LEVEL_DB, PHASE_RAD = 1.0, 0.1  # standard deviations of the variation of each harmonic
WEAKEST = 0.1  # lowest level of a harmonic relative to 1/k


def draw_hum(
    length: int,
    sample_rate: int,
    mains: float,
    rng: torch.Generator,
    drift: float = 0.2,
    harmonics: int = 30,
) -> Tensor:
    """Draw mains hum.

    The sum of ``a_k(t) cos(k φ(t) + θ_k(t))``. The fundamental varies slowly around a random deviation from the mains.
    The levels are drawn log-uniformly from 0.1/k to 1/k; levels and phases vary slowly by 1 dB and 0.1 rad.

    Args:
        length: T in samples.
        sample_rate: in Hz.
        mains: frequency in Hz.
        rng: source of the random draws.
        drift: standard deviation of the fundamental in Hz; the deviation is at most 0.5 Hz.
        harmonics: number of harmonics K; those above 0.45 times the sample rate are left out.

    Returns:
        ``[T]``, float64, with an RMS of 1.
    """
    deviation = (drift * _slow(length, sample_rate, DRIFT_SECONDS, rng)).clamp(-0.5, 0.5)
    phase = 2 * math.pi * torch.cumsum(mains + deviation, 0) / sample_rate
    hum = torch.zeros(length, dtype=torch.float64)
    for order in range(1, harmonics + 1):
        draw = torch.rand(2, generator=rng, dtype=torch.float64)
        level, start = WEAKEST ** float(draw[0]) / order, 2 * math.pi * draw[1]
        gain = 10 ** (LEVEL_DB * _slow(length, sample_rate, LEVEL_SECONDS, rng) / 20)
        turn = start + PHASE_RAD * _slow(length, sample_rate, LEVEL_SECONDS, rng)
        if order * mains < 0.45 * sample_rate:
            hum += level * gain * torch.cos(order * phase + turn)
    return hum / hum.square().mean().sqrt()


def _slow(length: int, sample_rate: int, seconds: float, rng: torch.Generator) -> Tensor:
    """Draw a smooth random curve ``[length]`` with a variance of about 1, a cubic spline through normal draws."""
    from scipy.interpolate import CubicSpline

    knots = math.ceil(length / sample_rate / seconds) + 4
    values = torch.randn(knots, generator=rng, dtype=torch.float64)
    offset = 1 + float(torch.rand(1, generator=rng, dtype=torch.float64))
    places = offset + torch.arange(length, dtype=torch.float64) / (seconds * sample_rate)
    return torch.from_numpy(CubicSpline(range(knots), values.numpy())(places.numpy()))
