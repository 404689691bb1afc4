"""The decay of impulse responses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DECAY_DB = 30  # T30: from -5 to -35 dB, extrapolated to 60 dB (ISO 3382-1)


def energy_decay(response: Tensor) -> Tensor:
    """Return Schroeder's integral: the energy after each sample of a response ``[L]``, in dB relative to the total."""
    energy = response.double().square().flip(0).cumsum(0).flip(0)
    return 10 * torch.log10(energy / energy[0])


def measure_rt60(response: Tensor, sample_rate: int) -> float:
    """Return the reverberation time in seconds of an impulse response ``[L]``: Schroeder's backward integral, T30.

    NaN if the response does not decay by 35 dB.
    """
    decay = energy_decay(response)
    begin, end = ((decay < level).nonzero()[:1, 0] for level in (-5.0, -5.0 - DECAY_DB))
    if not len(end) or end - begin < 2:
        return math.nan
    line = decay[int(begin) : int(end)]
    time = torch.arange(len(line), dtype=torch.float64) / sample_rate
    slope = ((time - time.mean()) * (line - line.mean())).sum() / (time - time.mean()).square().sum()
    return -60 / slope.item()
