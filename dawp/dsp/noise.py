"""The power of the noise in a recording, bin by bin, estimated from the recording alone.

A noise estimate that is too high removes the recording itself, so two estimates are combined. The noise floor is
steady and smooth over frequency, and never higher than the common level of the quietest bins of a whole band. Tracked
noise follows unsteady noise from frame to frame, but mistakes sustained tones and drums for noise. The tracked estimate
is used only in bands where it resembles noise: no tones, and a nearly constant level.

Speech has no sustained tones, and each frequency is often silent. Under speech, a third estimate is used in all bands:
the power of the quietest frames, which contain the tones of machines, with the changes of the level of tracked noise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from dawp.dsp.spectral import (
    HOP_SECONDS,
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
from dawp.dsp.speech import speech_likelihood

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dawp.dsp.spectral import Powers, Spectrum

    Array = NDArray[np.float64]

# The noise floor
FLOOR_HOP_SECONDS = 0.032  # windows of 128 ms, long enough to separate partials
BAND_RATIO, MIN_BAND_HZ, MAX_BAND_HZ = 0.8, 100.0, 1500.0  # half the width of a band: share of its centre, and bounds
LOWEST_HZ = 20.0  # what lies below may have been filtered out
TRUNCATION = 0.5  # bins below this multiple of the noise power are used
FIRST_QUANTILE = 0.05
FLOOR_ROUNDS = 3  # refinements of the spectral shape within bands
SEGMENT_SECONDS, SEGMENT_QUANTILE = 0.5, 0.15  # steady noise is present in nearly all segments
NEAR = 3.0  # a bin within this multiple of the noise power holds mostly noise
UNSUPPORTED, SUPPORTED = 0.4, 0.8  # shares of such bins in a band: too few to trust the floor, enough to trust it fully
LOWEST_TRUST = 0.01
SILENT_SHARE, MIN_AUDIBLE_FRAMES = 1e-10, 4  # of the mean power
MAX_BAND_VALUES = 20_000  # bins of a band that are used

# Tracked noise
QUIET_SECONDS, QUIET_STEP = 2.0, 0.2  # interval searched for quiet frames, and its hop
MEDIAN_BINS, ABOVE_MEDIAN = 15, 1.5  # noise is at most this multiple of its median over neighbouring bins
PRESENT_SNR, PRESENT_PRIOR = 10**1.5, 0.3  # of sound, if present (Gerkmann and Hendriks 2012)
TRACK_SECONDS, TRACK_ROUNDS = 0.2, 3
BIAS_HZ, BIAS = (300.0, 600.0), 1.4  # tracked noise is this much too low above the second frequency

# Noise under speech
CHANGES_HZ = 200.0  # standard deviation of the smoothing over frequency of the changes of its level
UNSTEADY_HZ = (500.0, 6000.0)  # where the changes are measured
STEADY_MEAN_DB, UNSTEADY_MEAN_DB = 0.0, 1.0  # mean of the tracked noise, relative to the quietest frames
STEADY_BIAS, UNSTEADY_BIAS = 1.0, 3.0  # the estimate is this much too low, at those means
WEAK_UNDER_DB, STRONG_UNDER_DB = -18.0, -13.0  # noise relative to the recording; less can be the quiet parts of speech
AUDIBLE_SHARES = (0.95, 0.99)  # of the frames between the first and the last audible one
QUIET_QUANTILES = (0.1, 0.3)  # of the powers of a bin
NOISE_RANGE_DB, SPEECH_RANGE_DB = 10.5, 12.5  # between them; 5.3 dB for steady noise

# The decision between them
REMOVED_GAIN_FLOOR = 10 ** (-12 / 20)
TONE_HOP_SECONDS, TONE_BAND_HZ = 0.064, 150.0  # windows of 256 ms; neighbourhood of a tone
TONE_QUANTILE, ABOVE_QUANTILE = 0.4, 4.0  # a tone exceeds this multiple of the quantile of its neighbourhood
SMOOTHING_OCTAVES, POINTS_PER_OCTAVE = 0.35, 24
FEW_TONES, MANY_TONES = 0.15, 0.45  # shares of the removed power that is tones
STEADY_DB, UNSTEADY_DB = 3.0, 4.0  # standard deviations over time of the level of the tracked noise in a band
PARTLY_EXPLAINED, EXPLAINED = 0.6, 0.95  # support of the floor with which tracked noise is of some use, and of none
PARTLY_EXPLAINED_WEAK, EXPLAINED_WEAK = 0.4, 0.6  # the same of weak noise, for which the decay of drums can be taken
WEAK_DB, STRONG_DB = -20.0, -14.0  # removed noise relative to the recording
USED_SHARE, LARGEST_DROP = 0.2, math.log(10)  # weight of tracked noise from which it is lowered by at most 10 dB
SLIGHT_DB, CLEAR_DB = -22.0, -18.0  # removed unsteady noise relative to the recording

# Recordings that are nearly clean
FEW_NOISY_BINS, MANY_NOISY_BINS = 0.5, 0.65  # mean support of the floor: shares of bins that hold mostly noise
CLEAN_DB, NOISY_DB = (-35.0, -45.0), (-28.0, -42.0)  # noise relative to the recording, with few and with many such bins
RUMBLE_HZ = 80.0
WEAK_RUMBLE_DB, STRONG_RUMBLE_DB = -22.0, -18.0  # power below RUMBLE_HZ relative to the recording


def estimate_noise(waveform: Tensor, sample_rate: int) -> Powers:
    """Estimate the power of the noise in each bin of ``spectral.analyse(waveform, sample_rate)``.

    Args:
        waveform: noisy recording ``[T]``, several seconds or more if possible.
        sample_rate: in Hz.

    Returns:
        Power ``[bins, frames]``.
    """
    spectrum = analyse(waveform, sample_rate)
    power = np.abs(spectrum) ** 2
    if not power.any():
        return np.full_like(power, SMALLEST_POWER)
    frequencies = _frequencies(spectrum, sample_rate)
    floor, support = _floor_of(waveform, sample_rate, frequencies)
    audible = _audible_frames(power)
    tracked = np.full_like(power, SMALLEST_POWER)
    tracked[:, audible] = track_noise(power[:, audible], frame_hop(len(waveform), sample_rate) / sample_rate)
    share = _admitted(spectrum, tracked, audible, support, len(waveform), sample_rate)
    bias = np.interp(frequencies, BIAS_HZ, (1.0, BIAS))[:, None]
    noise = _between(np.broadcast_to(floor[:, None], power.shape), bias * tracked, share)
    speech = speech_likelihood(waveform, sample_rate)
    if speech > 0:
        under_speech = _under_speech(power, tracked, audible, frequencies)
        noise = noise + speech * _clear_noise(under_speech, power, audible, frequencies) * (under_speech - noise)
    return _without_slight_noise(noise, power, frequencies, float(support.mean()))


def _between(floor: Powers, tracked: Powers, share: Array) -> Powers:
    """Interpolate in dB from the floor to the tracked noise.

    The floor can be far too low where few bins hold mostly noise, and then a small weight of it would remove nearly all
    of the tracked noise. Therefore the lower end is at most 10 dB below the tracked noise, except where its share is
    close to 0.

    Args:
        floor: power ``[bins, frames]``.
        tracked: of that shape.
        share: weight of the tracked noise, 0 to 1, ``[bins, 1]``.
    """
    upper = np.log(np.maximum(tracked, floor))
    lower = np.log(floor)
    lower = lower + ramp(share, 0, USED_SHARE) * (np.maximum(lower, upper - LARGEST_DROP) - lower)
    noise: Powers = np.exp(share * upper + (1 - share) * lower)
    return noise


def _without_slight_noise(noise: Powers, power: Powers, frequencies: Array, support: float) -> Powers:
    """Lower a weak estimate, because it can be part of the recording.

    Breath, bow noise and distortion are steady, too. The weaker the noise is, the more of the estimate they can be, and
    the less there is to gain. Noise that fills most of the spectrogram is certain, since a sound that is so weak rarely
    does: it is removed down to a lower level. The lower power is the estimate times a factor that falls linearly with
    the level in dB. Noise at low frequencies is not removed where these have little power.

    Args:
        noise: the estimate ``[bins, frames]``.
        power: of the recording, of that shape.
        frequencies: of the bins in Hz.
        support: share of all bins that hold mostly noise.
    """
    low = frequencies < RUMBLE_HZ
    total = power.sum()
    rumble = ramp(decibels(power[low].sum() / total), WEAK_RUMBLE_DB, STRONG_RUMBLE_DB)
    noise = np.where(low[:, None], rumble * noise, noise)
    shares = (FEW_NOISY_BINS, MANY_NOISY_BINS)
    clean, noisy = (float(np.interp(support, shares, levels)) for levels in (CLEAN_DB, NOISY_DB))
    return np.maximum(noise * ramp(decibels(noise.sum() / total), clean, noisy), SMALLEST_POWER)


# The noise floor


def _floor_of(waveform: Tensor, sample_rate: int, frequencies: Array) -> tuple[Array, Array]:
    """The noise floor and its support, ``[bins]`` each (see ``noise_floor``), for bins of these frequencies."""
    long = np.abs(analyse(waveform, sample_rate, FLOOR_HOP_SECONDS)) ** 2
    hop, long_hop = (frame_hop(len(waveform), sample_rate, hop) for hop in (HOP_SECONDS, FLOOR_HOP_SECONDS))
    floor, support = noise_floor(long[:, _audible_frames(long)][:, ::2], sample_rate, 2 * long_hop / sample_rate)
    long_frequencies = _frequencies(long, sample_rate)
    # The power of noise in a bin is proportional to the window's length.
    floor = np.exp(np.interp(frequencies, long_frequencies, np.log(floor))) * hop / long_hop
    return floor, np.interp(frequencies, long_frequencies, support)


def noise_floor(power: Powers, sample_rate: int, frame_seconds: float) -> tuple[Array, Array]:
    """Estimate the power of steady noise whose spectrum is smooth.

    In each of many overlapping bands the noise power is found by ``truncated_mean``, on powers that are divided by the
    spectral shape found so far. It is lowered to what nearly all half-second segments have in common, and further in
    bands with so few bins at that level that it may as well be the quietest part of the recording.

    Args:
        power: squared magnitudes ``[bins, frames]`` of an STFT with windows long enough to separate partials.
        sample_rate: in Hz.
        frame_seconds: from frame to frame.

    Returns:
        Noise power ``[bins]``, and the share of bins that hold mostly noise in the band around each ``[bins]``.
    """
    frequencies = _frequencies(power, sample_rate)
    centres, bands = _bands(frequencies, sample_rate)
    level = np.zeros(len(centres))
    relative = power
    for _ in range(FLOOR_ROUNDS):
        level = level + np.log([truncated_mean(relative[band]) for band in bands])
        relative = power / np.exp(np.interp(frequencies, centres, level))[:, None]
    segment = max(1, round(SEGMENT_SECONDS / frame_seconds))
    starts = range(0, max(1, power.shape[1] - segment + 1), max(1, segment // 2))
    local = [[truncated_mean(relative[band, start : start + segment]) for band in bands] for start in starts]
    level = level + np.minimum(np.quantile(np.log(local), SEGMENT_QUANTILE, axis=0), 0)
    relative = power / np.exp(np.interp(frequencies, centres, level))[:, None]
    support = np.array([(relative[band] < NEAR).mean() for band in bands])
    trust = np.maximum(ramp(support, UNSUPPORTED, SUPPORTED), LOWEST_TRUST)
    floor = np.exp(np.interp(frequencies, centres, level + np.log(trust)))
    return np.maximum(floor, SMALLEST_POWER), np.interp(frequencies, centres, support)


def truncated_mean(powers: Powers) -> float:
    """The mean of exponentially distributed powers, from the small ones alone: the others may hold sound.

    The mean of those below t times their overall mean λ is λ (1 - t exp(-t) / (1 - exp(-t))), which is solved for λ by
    iteration, with t = 0.5.
    """
    values = np.sort(powers, axis=None)
    values = values[:: len(values) // MAX_BAND_VALUES + 1]
    sums = np.cumsum(values)
    share = 1 - TRUNCATION * math.exp(-TRUNCATION) / (1 - math.exp(-TRUNCATION))
    mean = max(float(np.quantile(values, FIRST_QUANTILE)) / -math.log1p(-FIRST_QUANTILE), SMALLEST_POWER)
    for _ in range(500):
        count = int(np.searchsorted(values, TRUNCATION * mean))
        if not count:
            break
        before, mean = mean, max(float(sums[count - 1]) / count / share, SMALLEST_POWER)
        if abs(mean - before) < 1e-3 * before:
            break
    return mean


def _audible_frames(power: Powers) -> NDArray[np.bool_]:
    """Return which frames ``[frames]`` have no digital silence, which contains no noise to measure."""
    from scipy.ndimage import binary_dilation

    frame_power = power.sum(axis=0)
    silent = frame_power <= SILENT_SHARE * frame_power.mean()
    near: NDArray[np.bool_] = binary_dilation(silent, iterations=OVERLAP - 1)  # frames that overlap with silent ones
    for audible in (~near, ~silent):
        if audible.sum() >= MIN_AUDIBLE_FRAMES:
            return audible
    return np.ones_like(silent)


# Tracked noise


def track_noise(power: Powers, frame_seconds: float) -> Powers:
    """Estimate the power of noise that may be unsteady.

    Starts with the quieter frames of the two seconds around, and refines it by the mean over 0.2 s of the noise power
    that is expected given the probability that a bin holds sound (Gerkmann and Hendriks 2012, equations 18 and 22).

    Args:
        power: squared magnitudes ``[bins, frames]``.
        frame_seconds: from frame to frame.

    Returns:
        Noise power ``[bins, frames]``.
    """
    from scipy.ndimage import gaussian_filter1d, median_filter

    def without_tones(noise: Powers) -> Powers:
        capped: Powers = np.minimum(noise, ABOVE_MEDIAN * median_filter(noise, (MEDIAN_BINS, 1), mode="mirror"))
        return capped

    frames = power.shape[1]
    half, step = round(QUIET_SECONDS / 2 / frame_seconds), max(1, round(QUIET_STEP / frame_seconds))
    centres = np.arange(0, frames, step)
    quiet = [np.log(quiet_power(power[:, max(0, centre - half) : centre + half + 1])) for centre in centres]
    between = np.clip(np.arange(frames) / step, 0, len(centres) - 1)
    left = between.astype(int)
    right, part = np.minimum(left + 1, len(centres) - 1), between - left
    quiet_at = np.concatenate(quiet, axis=1)
    noise = without_tones(np.exp(quiet_at[:, left] * (1 - part) + quiet_at[:, right] * part))
    odds = (1 - PRESENT_PRIOR) / PRESENT_PRIOR * (1 + PRESENT_SNR)
    for _ in range(TRACK_ROUNDS):
        exponent = np.minimum(power / noise * PRESENT_SNR / (1 + PRESENT_SNR), 200)
        present = 1 / (1 + odds * np.exp(-exponent))
        expected = (1 - present) * power + present * noise
        noise = gaussian_filter1d(expected, TRACK_SECONDS / frame_seconds, axis=1, mode="nearest")
        noise = np.maximum(noise, SMALLEST_POWER)
    return without_tones(noise)


def _under_speech(power: Powers, tracked: Powers, audible: NDArray[np.bool_], frequencies: Array) -> Powers:
    """The power of the quietest frames of each bin, with the changes over time of the tracked noise around it.

    Unsteady noise is partly mistaken for speech. Therefore the estimate is raised by a factor of up to 3, which depends
    on the mean of the tracked noise relative to that of the quietest frames.

    Args:
        power: squared magnitudes ``[bins, frames]``.
        tracked: noise power, of that shape.
        audible: which frames to use, ``[frames]``.
        frequencies: of the bins in Hz.
    """
    from scipy.ndimage import gaussian_filter1d

    quiet = quiet_power(power[:, audible])
    changes = tracked / quiet
    inside = (frequencies >= UNSTEADY_HZ[0]) & (frequencies <= UNSTEADY_HZ[1])
    mean_db = decibels(changes[inside][:, audible].mean())
    bias = float(np.interp(mean_db, (STEADY_MEAN_DB, UNSTEADY_MEAN_DB), (STEADY_BIAS, UNSTEADY_BIAS)))
    changes = np.exp(gaussian_filter1d(np.log(changes), CHANGES_HZ / frequencies[1], axis=0, mode="nearest"))
    noise: Powers = quiet * changes * np.interp(frequencies, BIAS_HZ, (1.0, bias))[:, None]
    return noise


def _clear_noise(noise: Powers, power: Powers, audible: NDArray[np.bool_], frequencies: Array) -> float:
    """Return how certain it is that an estimate under speech is noise: 0 if it may be quiet speech, up to 1.

    The quietest frames of speech without noise are quiet speech, in particular if it has no pauses. Their powers extend
    over a larger range than those of noise, and are small. If the pauses are digital silence, no frame is noise alone.

    Args:
        noise: the estimate ``[bins, frames]``.
        power: of the recording, of that shape.
        audible: which frames to use, ``[frames]``.
        frequencies: of the bins in Hz.
    """
    first, last = np.flatnonzero(audible)[[0, -1]]
    has_noise = ramp(audible[first : last + 1].mean(), *AUDIBLE_SHARES)
    inside = (frequencies >= UNSTEADY_HZ[0]) & (frequencies <= UNSTEADY_HZ[1])
    low, high = decibels(np.quantile(power[inside][:, audible], QUIET_QUANTILES, axis=1))
    is_noise = 1 - ramp(np.median(high - low), NOISE_RANGE_DB, SPEECH_RANGE_DB)
    return float(has_noise * is_noise * ramp(decibels(noise.sum() / power.sum()), WEAK_UNDER_DB, STRONG_UNDER_DB))


# The decision between them


def _admitted(
    spectrum: Spectrum, tracked: Powers, audible: NDArray[np.bool_], support: Array, length: int, sample_rate: int
) -> Array:
    """Return the weight of the tracked noise in each bin ``[bins, 1]``: from 0, only the floor, to 1.

    It is used in bands where the signal that it removes has few tones and a nearly steady level, and where the floor
    has little support. It is not used if it is only a small part of the recording.
    """
    power = np.abs(spectrum) ** 2
    frequencies = _frequencies(power, sample_rate)
    centres, bands = _bands(frequencies, sample_rate)
    removed = (1 - two_step_gain(power, tracked, REMOVED_GAIN_FLOOR)) * spectrum
    tones = tone_share(synthesise(removed, sample_rate, length), sample_rate)
    unsteady = np.array([decibels(tracked[band].mean(axis=0)[audible]).std() for band in bands])
    share = 1 - np.maximum(ramp(tones, FEW_TONES, MANY_TONES), ramp(unsteady, STEADY_DB, UNSTEADY_DB))
    share = np.interp(frequencies, centres, share)
    used = share * (1 - ramp(support, PARTLY_EXPLAINED, EXPLAINED))
    part = decibels((used[:, None] * np.abs(removed) ** 2).sum() / power.sum())
    used_if_weak = share * (1 - ramp(support, PARTLY_EXPLAINED_WEAK, EXPLAINED_WEAK))
    used = used_if_weak + ramp(part, WEAK_DB, STRONG_DB) * (used - used_if_weak)
    used = used * ramp(part, SLIGHT_DB, CLEAR_DB)
    column: Array = used[:, None]
    return column


def tone_share(waveform: Tensor, sample_rate: int) -> Array:
    """Return the tonal share of the power of a signal in each of the bands of ``noise_floor``.

    A tone is a bin of the mean spectrum, divided by its smooth shape, that exceeds four times the 40 % quantile of the
    300 Hz around it.

    Args:
        waveform: ``[T]``.
        sample_rate: in Hz.

    Returns:
        Share from 0 to 1 in each band ``[bands]``.
    """
    from scipy.ndimage import percentile_filter

    mean = (np.abs(analyse(waveform, sample_rate, TONE_HOP_SECONDS)) ** 2).mean(axis=1) + SMALLEST_POWER
    frequencies = _frequencies(mean, sample_rate)
    flat = mean / _smooth_shape(mean, frequencies)
    reach = max(3, round(TONE_BAND_HZ / frequencies[1]))
    around = percentile_filter(flat, 100 * TONE_QUANTILE, 2 * reach + 1, mode="mirror")
    tones = np.where(flat > ABOVE_QUANTILE * around, mean, 0.0)
    _, bands = _bands(frequencies, sample_rate)
    return np.array([tones[band].sum() / mean[band].sum() for band in bands])


def _smooth_shape(mean: Array, frequencies: Array) -> Array:
    """A spectrum smoothed over a third of an octave or so, so that a steep slope is not taken for a tone."""
    from scipy.ndimage import gaussian_filter1d

    lowest = max(frequencies[1], 10.0)
    count = max(2, round(POINTS_PER_OCTAVE * math.log2(frequencies[-1] / lowest)))
    grid = np.geomspace(lowest, frequencies[-1], count)
    level = gaussian_filter1d(
        np.interp(grid, frequencies, np.log(mean)), SMOOTHING_OCTAVES * POINTS_PER_OCTAVE, mode="nearest"
    )
    shape: Array = np.exp(np.interp(frequencies, grid, level))
    return shape


# Bands


def _bands(frequencies: Array, sample_rate: int) -> tuple[Array, list[NDArray[np.intp]]]:
    """Centres ``[bands]`` in Hz of overlapping bands from 0 Hz to half the sample rate, and the bins of each."""
    centres = [0.0]
    while centres[-1] < sample_rate / 2:
        centres.append(centres[-1] + min(max(BAND_RATIO * centres[-1], MIN_BAND_HZ), MAX_BAND_HZ) / 2)
    centres[-1] = sample_rate / 2
    bands = []
    for centre in centres:
        half = min(max(BAND_RATIO * centre, MIN_BAND_HZ), MAX_BAND_HZ)
        distance = np.abs(frequencies - centre)
        inside = np.flatnonzero((distance <= half) & (frequencies >= LOWEST_HZ))
        bands.append(inside if len(inside) >= 3 else np.sort(np.argsort(distance)[:3]))
    return np.array(centres), bands


def _frequencies(spectrum: NDArray[np.generic], sample_rate: int) -> Array:
    """Centre of each bin in Hz of an STFT ``[bins, ...]``."""
    return np.linspace(0, sample_rate / 2, len(spectrum))
