"""Whether a recording is mostly speech, judged from the speed at which its level and its pitch change.

Levels of speech rise and fall within some 10 ms in all bands, and its pitch glides. The level of music rises fast, but
falls slowly, and its pitch is constant for the duration of a note. Steady noise hides only the lowest levels.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor

from dawp.dsp.spectral import (
    OVERLAP,
    SMALLEST_POWER,
    analyse,
    decibels,
    frame_hop,
    quiet_power,
    ramp,
    synthesise,
    two_step_gain,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dawp.dsp.spectral import Powers

    Array = NDArray[np.float64]

MIN_SECONDS, MIN_RATE = 1.0, 2000

# Speed of the level
BANDS, BAND_HZ = 18, (150.0, 6000.0)
FLOOR_QUANTILE, ABOVE_FLOOR_DB, MIN_FLOOR = 0.3, 3.0, 1e-12
SMOOTHING_FRAMES = 3
RATE_SECONDS, RATE_QUANTILE = 0.016, 0.9
RANGE_QUANTILE = 0.75

# Speed of the pitch
CLEANED_FLOOR = 10 ** (-18 / 20)
PITCH_HOP_SECONDS = 0.02  # windows of 80 ms, several periods of the lowest pitch
PITCH_HZ = (75.0, 400.0)
HIGHEST_HARMONIC_HZ = 4000.0
LAG_SECONDS = 1 / 32000
MIN_CORRELATION, MIN_FRAME_POWER = 0.35, 0.05  # of a voiced frame; the power relative to the mean
GLIDE_SEMITONES, LARGEST_GLIDE = (0.15, 1.5), 2.0  # from frame to frame

# Range of each feature from music to speech
RISE_RANGE = (38.0, 50.0)  # dB per second, divided by the square root of a range in dB
FALL_RANGE = (62.0, 76.0)
GLIDE_RANGE = (0.07, 0.10)  # semitones per 20 ms
GLIDE_SHARE_RANGE = (0.03, 0.08)


class SpeechFeatures(NamedTuple):
    """Measures of the changes in a recording that distinguish speech from music.

    Attributes:
        rise: 90 % quantile of the rate in dB/s at which the level of a band changes while it is 6 dB above its floor,
            divided by the square root of the upper quartile of this level in dB, because noise hides the lowest levels.
        fall: the same of the negative rate.
        glide: median change of the pitch within 20 ms, in semitones.
        glide_share: share of all intervals of 20 ms in which the pitch changes by 0.15 to 1.5 semitones.
    """

    rise: float
    fall: float
    glide: float
    glide_share: float


def speech_likelihood(waveform: Tensor, sample_rate: int) -> float:
    """Return how likely it is that a recording is mostly speech, with or without noise.

    Args:
        waveform: ``[T]``.
        sample_rate: in Hz.

    Returns:
        0 for music, noise, recordings of less than a second and sample rates below 2 kHz, 1 for speech, and values in
        between if it is uncertain.
    """
    sounding = waveform.nonzero()
    if not len(sounding):
        return 0.0
    waveform = waveform[int(sounding[0]) : int(sounding[-1]) + 1]  # digital silence has no level
    if len(waveform) < MIN_SECONDS * sample_rate or sample_rate < MIN_RATE:
        return 0.0
    found = speech_features(waveform, sample_rate)
    ranges = (RISE_RANGE, FALL_RANGE, GLIDE_RANGE, GLIDE_SHARE_RANGE)
    return float(min(ramp(np.array(value), *limits) for value, limits in zip(found, ranges, strict=True)))


def speech_features(waveform: Tensor, sample_rate: int) -> SpeechFeatures:
    """Measure the speed of the level and of the pitch of a recording.

    Args:
        waveform: ``[T]``, not silent.
        sample_rate: in Hz.
    """
    spectrum = analyse(waveform, sample_rate)
    power = np.abs(spectrum) ** 2
    rise, fall = _level_rates(power, sample_rate, frame_hop(len(waveform), sample_rate) / sample_rate)
    gain = two_step_gain(power, np.broadcast_to(quiet_power(power), power.shape), CLEANED_FLOOR)
    cleaned = synthesise(gain * spectrum, sample_rate, len(waveform))
    return SpeechFeatures(rise, fall, *_pitch_changes(cleaned, sample_rate))


def _level_rates(power: Powers, sample_rate: int, frame_seconds: float) -> tuple[float, float]:
    """Return the rates of rise and fall (see ``SpeechFeatures``)."""
    from scipy.ndimage import uniform_filter1d

    frequencies = np.linspace(0, sample_rate / 2, len(power))
    edges = np.geomspace(BAND_HZ[0], min(BAND_HZ[1], sample_rate / 2), BANDS + 1)
    bands = [power[(frequencies >= low) & (frequencies < high)] for low, high in itertools.pairwise(edges)]
    level = np.array([band.mean(axis=0) for band in bands if len(band)])
    floor = np.maximum(np.quantile(level, FLOOR_QUANTILE, axis=1, keepdims=True), MIN_FLOOR * level.max())
    above = np.maximum(decibels(level / np.maximum(floor, SMALLEST_POWER)) - ABOVE_FLOOR_DB, 0)
    above = uniform_filter1d(above, SMOOTHING_FRAMES, axis=1, mode="constant")
    step = max(1, round(RATE_SECONDS / frame_seconds))
    above = above[:, ::step]
    is_active = above[:, :-1] > ABOVE_FLOOR_DB
    if not is_active.any():
        return 0.0, 0.0
    active = np.quantile(above[:, :-1][is_active], RANGE_QUANTILE)
    rates = np.diff(above, axis=1)[is_active] / (step * frame_seconds * np.sqrt(active))
    return float(np.quantile(rates, RATE_QUANTILE)), -float(np.quantile(rates, 1 - RATE_QUANTILE))


def _pitch_changes(waveform: Tensor, sample_rate: int) -> tuple[float, float]:
    """Return the median change of the pitch in semitones and the share of glides (see ``SpeechFeatures``)."""
    magnitude = np.abs(analyse(waveform, sample_rate, PITCH_HOP_SECONDS))
    hop = frame_hop(len(waveform), sample_rate, PITCH_HOP_SECONDS)
    spacing = sample_rate / (OVERLAP * hop)
    magnitude = magnitude[: int(HIGHEST_HARMONIC_HZ / spacing) + 1]
    lags = round(1 / (LAG_SECONDS * spacing))
    correlation = np.fft.irfft(magnitude, n=lags, axis=0)
    correlation /= correlation[:1] + SMALLEST_POWER
    low, high = (round(1 / (frequency * LAG_SECONDS)) for frequency in reversed(PITCH_HZ))
    peak = low + correlation[low : high + 1].argmax(axis=0)
    frames = np.arange(correlation.shape[1])
    before, at, after = (correlation[peak + shift, frames] for shift in (-1, 0, 1))
    curvature = np.minimum(before - 2 * at + after, -SMALLEST_POWER)
    period = peak + np.clip((before - after) / (2 * curvature), -0.5, 0.5)
    power = (magnitude**2).sum(axis=0)
    voiced = (at > MIN_CORRELATION) & (power > MIN_FRAME_POWER * power.mean())
    change = np.abs(np.diff(12 * np.log2(period)))
    is_pitch = voiced[1:] & voiced[:-1] & (change < LARGEST_GLIDE)
    if not is_pitch.any():
        return 0.0, 0.0
    glides = is_pitch & (change > GLIDE_SEMITONES[0]) & (change < GLIDE_SEMITONES[1])
    return float(np.median(change[is_pitch])), float(glides.mean())
