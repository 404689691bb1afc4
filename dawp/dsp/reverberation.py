"""Reverberation time: measured from an impulse response, or estimated from a reverberant recording."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from dawp.dsp.spectral import Powers

DECAY_DB = 30  # T30: from -5 to -35 dB, extrapolated to 60 dB (ISO 3382-1)

# The blind estimate
LOWEST_HZ, HIGHEST_HZ, BANDS_PER_OCTAVE = 250.0, 4000.0, 3
SMOOTHING_SECONDS = 0.024
LAG_SECONDS = 0.08  # time over which the decay is measured
QUIET_SHARE = 0.3  # fraction of the frames of a band from which no decay is measured
FAST_QUANTILE = 0.05  # of the changes of level: the fastest decays are those of the room
# RT60 = SCALE (60 LAG_SECONDS / D) ** EXPONENT, fitted to speech in simulated rooms of 0.2 to 1 s.
EXPONENT, SCALE = 1.52, 2.51
MAX_RT60 = 10.0
DIGITAL_SILENCE = 1e-15  # power relative to the maximum of a band
MIN_SOUND_SECONDS = 0.4  # frames of a band from which the decay is measured


def energy_decay(response: Tensor) -> Tensor:
    """Return Schroeder's integral: the energy after each sample of a response ``[L]``, in dB relative to the total."""
    energy = response.double().square().flip(0).cumsum(0).flip(0)
    return 10 * torch.log10(energy / energy[0])


def measure_rt60(response: Tensor, sample_rate: int) -> float:
    """Return the reverberation time of an impulse response: Schroeder's backward integral, T30 (ISO 3382-1).

    Args:
        response: ``[L]``.
        sample_rate: in Hz.

    Returns:
        In seconds; NaN if the response does not decay by 35 dB.
    """
    decay = energy_decay(response)
    begin, end = ((decay < level).nonzero()[:1, 0] for level in (-5.0, -5.0 - DECAY_DB))
    if not len(end) or end - begin < 2:
        return math.nan
    line = decay[int(begin) : int(end)]
    time = torch.arange(len(line), dtype=torch.float64) / sample_rate
    slope = ((time - time.mean()) * (line - line.mean())).sum() / (time - time.mean()).square().sum()
    return -60 / slope.item()


def estimate_rt60(power: Powers, sample_rate: int, frame_seconds: float) -> float:
    """Estimate the reverberation time of a recording from its fastest decays.

    The level in a band cannot decrease faster than the room decays. In each third of an octave, D is the decrease in dB
    over 80 ms that only 5 % of the frames exceed. The estimate is ``2.51 (60 * 0.08 / D) ** 1.52`` with the median of D
    over the bands. The constants were fitted to speech in simulated rooms: most frames of speech decay more slowly than
    the room, because the source continues.

    Args:
        power: squared magnitudes ``[bins, frames]``.
        sample_rate: in Hz.
        frame_seconds: hop of the frames in seconds.

    Returns:
        RT60 in seconds; NaN for a recording that does not decay, or with too little sound.

    References:
        The idea of the fastest decays: J. Wen, E. Habets and P. Naylor, "Blind estimation of reverberation time based
        on the distribution of signal decay rates", ICASSP 2008.
    """
    import numpy as np

    lag, width = (max(1, round(seconds / frame_seconds)) for seconds in (LAG_SECONDS, SMOOTHING_SECONDS))
    frequencies = np.linspace(0, sample_rate / 2, len(power))
    edges = LOWEST_HZ * 2 ** (np.arange(BANDS_PER_OCTAVE * math.log2(HIGHEST_HZ / LOWEST_HZ) + 1) / BANDS_PER_OCTAVE)
    decreases = []
    for low, high in itertools.pairwise(edges):
        band = power[(frequencies >= low) & (frequencies < high)].sum(axis=0)
        if not band.any() or len(band) < width + lag:
            continue
        level = np.convolve(band / band.max(), np.full(width, 1 / width), "same")
        before, after = level[:-lag], level[lag:]
        loud = (before > np.quantile(level, QUIET_SHARE)) & (np.minimum(before, after) > DIGITAL_SILENCE)
        if loud.sum() * frame_seconds >= MIN_SOUND_SECONDS:
            decreases.append(-np.quantile(10 * np.log10(after[loud] / before[loud]), FAST_QUANTILE))
    if not decreases:
        return math.nan
    decrease = max(float(np.median(decreases)), 1e-9)
    rt60: float = SCALE * (60 * LAG_SECONDS / decrease) ** EXPONENT
    return rt60 if rt60 < MAX_RT60 else math.nan
