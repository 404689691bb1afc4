"""Find the cutoff of a recording whose high frequencies are missing, and replicate them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dawp.dsp.lowpass import convolve, low_pass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

FRAME_SECONDS = 0.04
SMALLEST_POWER = 1e-20
MIN_CUTOFF = 500.0  # Hz
MAX_CUTOFF = 0.85  # of half the sample rate; a higher cutoff is that of a converter
IGNORED_TOP = 100.0  # Hz below half the sample rate
BELOW, ABOVE = (0.85, 0.97), 1.08  # the band below a cutoff, and the edge above it, as multiples of the cutoff
BELOW_QUANTILE = 0.8  # a harmonic sound has gaps between its partials
MIN_FALL_DB, EDGE_DB = 20.0, 10.0

BANDS_PER_OCTAVE = 4
TOP_OCTAVES = 0.5  # the band below the cutoff that sets the level of a frame
MARGIN = 0.97  # of the cutoff: higher frequencies may be attenuated
SLOPE_DB, SLOPE_SHARE = -14.0, 0.5  # per octave
LOUD_DB = 50.0  # frames below the loudest one


def find_cutoff(parts: Iterable[Tensor], sample_rate: int) -> float | None:
    """Find the frequency above which the spectrum of a recording falls steeply and stays low.

    L(f) is the level of the mean power spectrum over all frames and channels, and B(c) its upper quantile between
    0.85 c and 0.97 c. A cutoff c is a frequency where ``B(c) - max L(f)`` over all f above 1.08 c is at least 20 dB. Of
    these candidates the lowest one of the highest group is refined: the cutoff is the highest frequency where L is at
    most 10 dB below B. Natural spectra fall by less than 16 dB over that distance.

    Args:
        parts: consecutive parts ``[channels, n]`` of the recording.
        sample_rate: in Hz.

    Returns:
        The cutoff in Hz; None if there is none from 500 Hz to 85 % of half the sample rate.
    """
    power = mean_spectrum(parts, sample_rate)
    if power is None or not power.any():
        return None
    step = sample_rate / 2 / (len(power) - 1)
    level = 10 * torch.log10(power.clamp(min=SMALLEST_POWER))[: len(power) - math.ceil(IGNORED_TOP / step)]
    highest = level.flip(0).cummax(0).values.flip(0)  # of each frequency and all above it
    last = min(int(MAX_CUTOFF * sample_rate / 2 / step), int((len(level) - 1) / ABOVE))
    bins = range(math.ceil(MIN_CUTOFF / step), last + 1)
    candidates = [c for c in bins if _below(level, c) - highest[int(ABOVE * c)] >= MIN_FALL_DB]
    if not candidates:
        return None
    cutoff = candidates[-1]
    for candidate in reversed(candidates):
        if candidate < cutoff - 1:
            break
        cutoff = candidate
    for _ in range(2):
        cutoff = int((level >= _below(level, cutoff) - EDGE_DB).nonzero().max())
    return cutoff * step if cutoff in bins else None


def _below(level: Tensor, cutoff: int) -> Tensor:
    """Return the level of the band below a cutoff in bins."""
    first, last = (int(edge * cutoff) for edge in BELOW)
    return level[first : last + 1].quantile(BELOW_QUANTILE)


def mean_spectrum(parts: Iterable[Tensor], sample_rate: int) -> Tensor | None:
    """Return the mean power spectrum ``[bins]`` over all whole frames of 40 ms of all channels.

    Args:
        parts: consecutive parts ``[channels, n]``.
        sample_rate: in Hz.

    Returns:
        The power of white noise is 1 for a standard deviation of 1. None if no part is as long as a frame.
    """
    length = round(FRAME_SECONDS * sample_rate) // 2 * 2
    window = torch.hann_window(length, dtype=torch.float64)
    total, count = torch.zeros(length // 2 + 1, dtype=torch.float64), 0
    for part in parts:
        if part.shape[-1] >= length:
            frames = part.double().unfold(-1, length, length // 2) * window
            total += torch.fft.rfft(frames).abs().square().sum(dim=(0, 1))
            count += frames.shape[0] * frames.shape[1]
    return total / count / window.square().sum() if count else None


def replicate_band(waveform: Tensor, sample_rate: int, cutoff: float, excitation: Tensor | None = None) -> Tensor:
    """Return an estimate of the missing high band of a waveform, to be added above the cutoff.

    The octave below the cutoff is rectified (full wave; Makhoul and Berouti, High-frequency regeneration in speech
    coding systems, ICASSP 1979). The result has harmonics of its partials, noise where it has noise, and its envelope
    in time. In each frame and quarter octave, the level of the result is set to that of the half octave below the
    cutoff plus a slope: -14 dB per octave, plus half the mean slope of the waveform below the cutoff if that is
    negative. The level is the geometric mean of the power, which is low between the partials of a tone, or the
    arithmetic mean if that gives less. This is spectral band replication (Dietz et al., Spectral band replication, a
    novel approach in audio coding, AES 2002) with a spectral envelope that is extrapolated, because it is not
    transmitted.

    Args:
        waveform: ``[T]``.
        sample_rate: in Hz.
        cutoff: in Hz.
        excitation: signal ``[T]`` to shape instead of the rectified octave; None for that one.

    Returns:
        ``[T]``; it also has content below the cutoff. Zeros if no frequency of a frame is above the cutoff.
    """
    import numpy as np

    from dawp.dsp.spectral import analyse, synthesise

    samples = waveform.double()
    source = _rectified_octave(samples, sample_rate, cutoff) if excitation is None else excitation.double()
    spectrum = analyse(source, sample_rate)
    power = np.abs(analyse(samples, sample_rate)) ** 2
    frequencies = np.linspace(0, sample_rate / 2, len(power))

    edges = (
        MARGIN
        * cutoff
        * 2 ** (np.arange(math.ceil(BANDS_PER_OCTAVE * math.log2(sample_rate / cutoff))) / BANDS_PER_OCTAVE)
    )
    top = _band_power(power, frequencies, cutoff / 2**TOP_OCTAVES, MARGIN * cutoff)
    middle = _band_power(power, frequencies, cutoff / 2 ** (1 + TOP_OCTAVES), cutoff / 2)
    slope = SLOPE_DB + SLOPE_SHARE * min(0.0, _mean_slope(top[0], middle[0]))
    centres, gains = [], []
    for low, high in zip(edges, np.minimum(edges[1:], sample_rate / 2), strict=False):
        if ((frequencies >= low) & (frequencies < high)).any():
            centre = math.sqrt(low * high)
            octaves = math.log2(centre / cutoff) + TOP_OCTAVES / 2
            ratios = top / _band_power(np.abs(spectrum) ** 2, frequencies, low, high)
            gains.append((np.log(ratios.min(axis=0)) + slope * octaves * math.log(10) / 10) / 2)
            centres.append(math.log(centre))
    if not centres:
        return torch.zeros_like(waveform)
    positions = np.log(np.maximum(frequencies, 1.0))
    curves = [np.interp(positions, centres, gain) for gain in np.stack(gains, axis=1)]
    return synthesise(spectrum * np.exp(np.stack(curves, axis=1)), sample_rate, len(waveform))


def _band_power(power: Array, frequencies: Array, low: float, high: float) -> Array:
    """Return the arithmetic and the geometric mean of the power in a band, ``[2, frames]``; tiny for an empty band."""
    import numpy as np

    selected = np.maximum(power[(frequencies >= low) & (frequencies < high)], SMALLEST_POWER)
    if not len(selected):
        return np.full((2, power.shape[1]), SMALLEST_POWER)
    return np.stack([selected.mean(axis=0), np.exp(np.log(selected).mean(axis=0))])


def _rectified_octave(samples: Tensor, sample_rate: int, cutoff: float) -> Tensor:
    """Return the magnitude of the octave below a cutoff, without its mean."""
    upper, lower = (low_pass("fir", frequency, sample_rate) for frequency in (MARGIN * cutoff, cutoff / 2))
    rectified = (convolve(samples, upper) - convolve(samples, lower)).abs()
    return rectified - rectified.mean()


def _mean_slope(top: Array, middle: Array) -> float:
    """Return the mean difference in dB of the power of two bands an octave apart, over the loud frames."""
    import numpy as np

    loud = top >= top.max() * 10 ** (-LOUD_DB / 10)
    return float(np.mean(10 * np.log10(top[loud] / middle[loud])))
