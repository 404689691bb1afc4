"""A high-pass filter whose cutoff is chosen from the recording alone.

Traffic, wind and handling noise have most of their power below the voice, but so do bass instruments and drums. A bin
counts as noise if its level fluctuates like that of Gaussian noise and does not follow the level of the sound above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dawp.dsp.filters import high_pass, remove_rumble
from dawp.dsp.noise import track_noise
from dawp.dsp.spectral import SMALLEST_POWER, analyse, decibels, frame_hop, synthesise, two_step_gain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LONG_HOP_SECONDS = 0.032  # windows of 128 ms
FIRST_HZ, LAST_HZ = 20.0, 90.0
ACTIVITY_HZ = (250.0, 4000.0)
ACTIVE_SHARE, QUIET_SHARE = 1 / 2, 1 / 3  # of the frames
LAG = 4  # frames; windows that far apart do not overlap
FLUCTUATION_DB = (3.4, 6.4)  # 4.77 for Gaussian noise
MAX_RISE_DB, MAX_RISE_SHARE, BASS_HZ = 2.0, 0.3, 65.0
MIN_SECONDS = 1.0
MAX_SPREAD_DB = 3.3  # arithmetic to geometric mean of the power over time; 2.51 for Gaussian noise, more for drums
MIN_REMOVED = 10**-1.6  # share of the power; weaker rumble is often part of the recording
FLOOR = 10 ** (-18 / 20)


def blind_high_pass(waveform: Tensor, sample_rate: int) -> Tensor:
    """Remove low frequencies that contain only noise, where they are a clear part of the recording.

    Args:
        waveform: noisy recording ``[T]``.
        sample_rate: in Hz.

    Returns:
        ``[T]``; filtered by ``remove_rumble`` if no cutoff is found or less than 2.5 % of the power is below it.
    """
    cutoff = blind_cutoff(waveform, sample_rate)
    if cutoff:
        filtered = high_pass(waveform, sample_rate, cutoff)
        if (waveform - filtered).double().square().sum() > MIN_REMOVED * waveform.double().square().sum():
            return filtered
    return remove_rumble(waveform, sample_rate)


def power_response(before: Tensor, after: Tensor, sample_rate: int) -> Array:
    """Return the effect of a filter on the power of a recording, to scale a noise estimate made before the filter.

    The noise is estimated before ``blind_high_pass``, because the estimate depends on the share of the noise in the
    power of the recording.

    Args:
        before: ``[T]``.
        after: filtered, ``[T]``.
        sample_rate: in Hz.

    Returns:
        Ratio of the mean powers in each bin of ``spectral.analyse``, at most 1, ``[bins, 1]``.
    """
    if torch.equal(before, after):
        return np.ones((len(analyse(before, sample_rate)), 1))
    old, new = ((np.abs(analyse(waveform, sample_rate)) ** 2).mean(axis=1) for waveform in (before, after))
    response: Array = np.minimum(new / np.maximum(old, SMALLEST_POWER), 1)[:, None]
    return response


def blind_cutoff(waveform: Tensor, sample_rate: int) -> float:
    """Return the frequency in Hz below which a recording contains only noise; 0 if there is none from 20 to 90 Hz.

    The cutoff is the last bin before the first one from 20 Hz on that is not noise. The power of these bins must also
    vary over time like that of Gaussian noise: the ratio of its arithmetic to its geometric mean, averaged over the
    bins, is at most 3.3 dB.

    Args:
        waveform: ``[T]``.
        sample_rate: in Hz.
    """
    if len(waveform) < MIN_SECONDS * sample_rate or not waveform.any():
        return 0.0
    power = np.abs(analyse(waveform, sample_rate, LONG_HOP_SECONDS)) ** 2
    frequencies = np.linspace(0, sample_rate / 2, len(power))
    first, last = int(np.searchsorted(frequencies, FIRST_HZ)), int(np.searchsorted(frequencies, LAST_HZ, "right"))
    is_noise = noise_bins(power, _activity(waveform, sample_rate), frequencies)[first:last]
    count = len(is_noise) if is_noise.all() else int(np.argmin(is_noise))
    if not count:
        return 0.0
    low = power[first : first + count]
    spread = (decibels(low.mean(axis=1)) - decibels(low).mean(axis=1)).mean()
    return float(frequencies[first + count - 1]) if spread <= MAX_SPREAD_DB else 0.0


def noise_bins(power: Array, activity: Array, frequencies: Array) -> NDArray[np.bool_]:
    """Decide which bins of a spectrogram contain only noise.

    With r the level of the active half of the frames relative to that of the quietest third, in dB, and f the median
    change of level in dB over four frames, a bin is noise if 3.4 < f < 6.4 and abs(r) < 2. Below 65 Hz, abs(r) may
    be as large as 0.3 times the r of the activity.

    Args:
        power: squared magnitudes ``[bins, frames]``.
        activity: power of the sound in each frame ``[frames]``.
        frequencies: of the bins in Hz ``[bins]``.

    Returns:
        ``[bins]``.
    """
    from scipy.ndimage import uniform_filter1d

    order = np.argsort(activity, kind="stable")
    quiet, active = order[: max(1, round(QUIET_SHARE * len(order)))], order[-max(1, round(ACTIVE_SHARE * len(order))) :]

    def rise(values: Array) -> Array:
        return decibels(values[..., active].mean(axis=-1)) - decibels(values[..., quiet].mean(axis=-1))

    level = decibels(power)
    changes = np.abs(level[:, LAG:] - level[:, :-LAG])
    padded = np.pad(changes, ((1, 1), (0, 0)), mode="edge")
    pooled = np.concatenate([padded[:-2], padded[1:-1], padded[2:]], axis=1)
    fluctuation = np.median(pooled, axis=1)
    bass = max(MAX_RISE_DB, MAX_RISE_SHARE * float(rise(activity)))
    limit = np.where(frequencies < BASS_HZ, bass, MAX_RISE_DB)
    is_steady = np.abs(rise(uniform_filter1d(power, 3, axis=0, mode="nearest"))) < limit
    result: NDArray[np.bool_] = is_steady & (fluctuation > FLUCTUATION_DB[0]) & (fluctuation < FLUCTUATION_DB[1])
    return result


def _activity(waveform: Tensor, sample_rate: int) -> Array:
    """Return the power from 250 to 4000 Hz of the denoised waveform in each frame ``[frames]``."""
    spectrum = analyse(waveform, sample_rate)
    power = np.abs(spectrum) ** 2
    noise = track_noise(power, frame_hop(len(waveform), sample_rate) / sample_rate)
    sound = synthesise(two_step_gain(power, noise, FLOOR) * spectrum, sample_rate, len(waveform))
    long = np.abs(analyse(sound, sample_rate, LONG_HOP_SECONDS)) ** 2
    frequencies = np.linspace(0, sample_rate / 2, len(long))
    low, high = ACTIVITY_HZ
    activity: Array = long[(frequencies >= low) & (frequencies <= high)].sum(axis=0)
    return activity
