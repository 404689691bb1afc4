"""Blind dereverberation: weighted prediction error, followed by the gain of a convolutive factorisation.

Steady noise is removed first: noise cannot be predicted, and limits the quality more than weak reverberation does.

Linear prediction also removes sustained tones. Therefore the result is applied only if the prediction gain is that of a
room (``reverberation_share``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dawp.dsp.convolutive_nmf import early_gain
from dawp.dsp.noise import noise_floor
from dawp.dsp.reverberation import estimate_rt60
from dawp.dsp.spectral import SMALLEST_POWER, analyse, decibels, frame_hop, log_mmse, synthesise, two_step_gain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dawp.dsp.spectral import Powers

    Complex = NDArray[np.complexfloating]

MIN_SECONDS = 1.0  # shorter recordings are left unchanged, as ``Method.min_seconds`` states

NOISE_FLOOR_DB = -18.0  # minimum gain of the noise reduction

# Weighted prediction error
TAPS, DELAY = 40, 2  # frames
MIN_FRAMES_PER_TAP = 16  # longer filters fit a short recording itself
ITERATIONS = 3
MIN_WEIGHT = 1e-10  # power, relative to the maximum at the same frequency
REGULARISATION = 1e-9  # of the correlation matrix, relative to its mean diagonal
CHUNK_VALUES = 4_000_000  # bins x taps x frames processed at a time

# Late-reverberation suppression
LATE_SECONDS = 0.024  # delay of the late reverberation
LATE_SMOOTHING_SECONDS = 0.05  # time constant of the smoothed power
LATE_DECISION = 0.9
FLOOR_DB, FLOOR_DB_PER_SECOND, FLOOR_BOUNDS_DB = -5.6, -8.0, (-12.0, -7.0)  # minimum gain, as a function of the RT60

# Suppression after the prediction
EARLY_FLOOR_DB = -18.0

# The share that is removed. Prediction gains in dB; measured on speech in simulated rooms and on dry speech and music.
CHECK_TAPS = 20
BAND_HZ = (200.0, 4000.0)
MIN_SNR_DB = 10.0  # of the frequencies that are used
MIN_GAIN_DB, CLEAR_GAIN_DB = 0.4, 0.55  # median over frequency, at an RT60 of 0.2 s
GAIN_PER_SECOND, GAIN_RT60 = 0.8, (0.2, 0.8)  # increase of both with the RT60, between these RT60
HIGH_QUANTILE = 0.9
TONAL_DB = (3.8, 4.6)  # high quantile over frequency: only tones are predicted so well
UNEVEN_DB = (1.55, 1.85)  # its excess over the median: some frequencies are tones
DOMINANT_DB = (0.75, 0.9)  # excess of the overall gain over the median: the strongest frequencies are tones
STEADY_FRAMES, STEADY_LAG, STEADY_CHANGE_DB = 2, 3, 3.0  # smoothing; frames on either side; largest change of level
STEADY_GAIN_PER_SECOND = 1.2  # increase with the RT60 of the gain in steady bins
SUSTAINED_DB = (1.6, 1.8)  # gain in steady bins, at an RT60 of 0.2 s
SUSTAINED_DOMINANT_DB = (0.25, 0.5)  # excess of the overall gain over the median

# The direct-to-reverberant ratio, fitted to speech in simulated rooms
DRR_HZ = 125.0  # distance of the frequencies that are used
DRR_DB, DRR_PER_DB = 11.3, -23.7  # DRR in dB without prediction gain, and its change with the gain in dB
DRR_BOUNDS = (-20.0, 12.0)  # dB; outside of them the prediction gain is not that of a room


def dereverberate(
    waveform: Tensor, sample_rate: int, predict: bool = True, suppress: bool = True, joint: bool = False
) -> Tensor:
    """Remove reverberation from a recording by WPE, late-reverberation suppression, or both in this order.

    Steady noise is removed before both. The output is ``y + a (x - y)`` with y the recording, x the result of the
    processing and a from ``reverberation_share``. a and the gains of the noise reduction and of the suppressor are the
    same in all channels, so that the directions of the sources are kept.

    Args:
        waveform: reverberant recording ``[T]`` or ``[channels, T]``; recordings shorter than 1 s are returned
            unchanged.
        sample_rate: in Hz.
        predict: subtract the reverberation predicted by ``predict_reverberation``.
        suppress: apply the gain of a convolutive factorisation (``convolutive_nmf.early_gain``) after the prediction,
            or ``late_reverberation_gain`` without a prediction.
        joint: predict the reverberation of each channel from all channels.

    Returns:
        Estimate of the direct sound, of the shape of ``waveform``.
    """
    peak, length = waveform.abs().max(), waveform.shape[-1]
    if length < MIN_SECONDS * sample_rate or not peak:
        return waveform.clone()
    channels = waveform.reshape(-1, length) / peak
    spectra = np.stack([analyse(channel, sample_rate) for channel in channels]).astype(np.complex64)
    frame_seconds = frame_hop(length, sample_rate) / sample_rate
    power = _power(spectra)
    noise = np.stack([noise_floor(channel, sample_rate, frame_seconds)[0] for channel in power])
    rt60 = rt60_in_noise(power, noise, sample_rate, frame_seconds)
    share = _checked_share(spectra, noise, sample_rate, rt60)
    if share == 0:
        return waveform.clone()
    observed = _without_noise(spectra, noise, sample_rate, length)
    estimate = observed
    if predict:
        filtered = observed - predict_reverberation(observed, joint=joint)
        estimate = _consistent(filtered, sample_rate, length)
    if suppress:
        power = _power(estimate).mean(axis=0)
        if predict:
            gain = early_gain(np.sqrt(power), frame_seconds, rt60, EARLY_FLOOR_DB)
        else:
            gain = late_reverberation_gain(power, frame_seconds, rt60)
        estimate = estimate * gain
    mixed = (spectra + share * (estimate - spectra)).astype(np.complex128)
    restored = torch.stack([synthesise(spectrum, sample_rate, length) for spectrum in mixed])
    return restored.reshape(waveform.shape) * peak


def _power(spectrum: Complex) -> Powers:
    power: Powers = np.abs(spectrum).astype(np.float64) ** 2
    return power


def rt60_in_noise(power: Powers, noise: Powers, sample_rate: int, frame_seconds: float) -> float:
    """Return ``estimate_rt60`` of the powers ``[channels, bins, frames]`` of a recording without its steady noise.

    Args:
        power: squared magnitudes.
        noise: power of the noise ``[channels, bins]``, as from ``noise_floor``.
        sample_rate: in Hz.
        frame_seconds: from frame to frame.
    """
    return estimate_rt60(_without(power, noise), sample_rate, frame_seconds)


def _without(power: Powers, noise: Powers) -> Powers:
    """Subtract the noise ``[channels, bins]`` from powers ``[channels, bins, frames]``, and average over channels."""
    difference: Powers = np.maximum(power - noise[..., None], 0).mean(axis=0)
    return difference


def _without_noise(spectra: Complex, noise: Powers, sample_rate: int, length: int) -> Complex:
    """Remove the noise ``[channels, bins]`` from STFTs ``[channels, bins, frames]`` with one gain for all channels."""
    level = np.maximum(noise.mean(axis=0), SMALLEST_POWER)
    if level.max() <= SMALLEST_POWER:
        return spectra
    power = _power(spectra).mean(axis=0)
    gain = two_step_gain(power, np.broadcast_to(level[:, None], power.shape), 10 ** (NOISE_FLOOR_DB / 20))
    return _consistent(gain * spectra, sample_rate, length)


def _consistent(spectra: Complex, sample_rate: int, length: int) -> Complex:
    """Return the STFTs of the waveforms of modified STFTs ``[channels, bins, frames]``."""
    waveforms = (synthesise(spectrum.astype(np.complex128), sample_rate, length) for spectrum in spectra)
    return np.stack([analyse(waveform, sample_rate) for waveform in waveforms]).astype(np.complex64)


def _checked_share(spectra: Complex, noise: Powers, sample_rate: int, rt60: float) -> float:
    """Return ``reverberation_share`` of all channels ``[channels, bins, frames]`` with a short prediction filter."""
    frequencies = np.linspace(0, sample_rate / 2, spectra.shape[1])
    band = (frequencies >= BAND_HZ[0]) & (frequencies <= BAND_HZ[1])
    residuals = spectra.copy()
    for channel, residual in zip(spectra, residuals, strict=True):
        residual[band] -= predict_reverberation(channel[band], CHECK_TAPS)
    before, after = (np.concatenate(list(_power(both)), axis=-1) for both in (spectra, residuals))
    return reverberation_share(before, after, sample_rate, rt60, noise.mean(axis=0))


def reverberation_share(
    power: Powers, residual: Powers, sample_rate: int, rt60: float, noise: Powers | None = None
) -> float:
    """Return the share, from 0 to 1, of a dereverberation to apply to a recording.

    The prediction gain at a frequency is the energy of the recording over that of the prediction residual. A room has
    a similar gain at all frequencies, which increases with the RT60. Dry recordings have almost none at most
    frequencies, and tones a much larger one at their own frequencies. The share is 0 if the median gain is too small
    for the RT60 or the gain of the strongest or best predicted frequencies is too large. It is also 0 for sustained
    notes, which are predicted while their level is steady.

    Args:
        power: squared magnitudes of the recording ``[bins, frames]``.
        residual: squared magnitudes of the residual of ``predict_reverberation`` with 20 taps, of that shape.
        sample_rate: in Hz.
        rt60: reverberation time in seconds; NaN if the recording does not decay.
        noise: power of the noise ``[bins]``, which cannot be predicted; None for 0.
    """
    frequencies = np.linspace(0, sample_rate / 2, len(power))
    band = (frequencies >= BAND_HZ[0]) & (frequencies <= BAND_HZ[1])
    gains, overall = _prediction_gains(power[band], residual[band], None if noise is None else noise[band])
    if not len(gains) or math.isnan(rt60):
        return 0.0
    median = float(np.median(gains))
    beyond = min(max(rt60, GAIN_RT60[0]), GAIN_RT60[1]) - GAIN_RT60[0]
    expected = GAIN_PER_SECOND * beyond
    high = float(np.quantile(gains, HIGH_QUANTILE))
    reverberant = _ramp(median - expected, MIN_GAIN_DB, CLEAR_GAIN_DB)
    tonal = max(_ramp(high, *TONAL_DB), _ramp(high - median, *UNEVEN_DB), _ramp(overall - median, *DOMINANT_DB))
    steady = _steady_gain(power[band], residual[band]) - STEADY_GAIN_PER_SECOND * beyond
    tonal = max(tonal, _ramp(steady, *SUSTAINED_DB) * _ramp(overall - median, *SUSTAINED_DOMINANT_DB))
    return reverberant * (1 - tonal)


def _prediction_gains(
    power: Powers, residual: Powers, noise: Powers | None = None
) -> tuple[NDArray[np.float64], float]:
    """Return the prediction gain in dB at each frequency with sound, and that of all frequencies together.

    Args:
        power: squared magnitudes of the recording ``[bins, frames]``.
        residual: squared magnitudes of the prediction residual with 20 taps, of that shape.
        noise: its power ``[bins]``, subtracted from both; frequencies with an SNR below 10 dB are left out. None for 0.
    """
    noise = np.zeros(len(power)) if noise is None else noise * power.shape[1]
    before, after = power.sum(axis=1) - noise, residual.sum(axis=1) - noise
    sounding = (after > 0) & (before > 10 ** (MIN_SNR_DB / 10) * noise)
    if not sounding.any():
        return np.empty(0), math.nan
    before, after = before[sounding], after[sounding]
    # A filter of K taps predicts K / T of the energy of white noise in T frames.
    bias = -10 * math.log10(1 - min(CHECK_TAPS / power.shape[1], 1 / MIN_FRAMES_PER_TAP))
    return 10 * np.log10(before / after) - bias, 10 * math.log10(before.sum() / after.sum()) - bias


def _steady_gain(power: Powers, residual: Powers) -> float:
    """Return the prediction gain in dB of the bins in which the level changes by at most 3 dB in 6 frames.

    Reverberation is predicted mostly where the level falls, sustained notes where it is steady.
    """
    from scipy.ndimage import gaussian_filter1d

    if power.shape[1] <= 2 * STEADY_LAG:
        return 0.0
    level = decibels(gaussian_filter1d(power, STEADY_FRAMES, axis=1))
    inner = slice(STEADY_LAG, -STEADY_LAG)
    steady = np.abs(level[:, 2 * STEADY_LAG :] - level[:, : -2 * STEADY_LAG]) <= STEADY_CHANGE_DB
    before, after = (both[:, inner][steady].sum() for both in (power, residual))
    return float(decibels(before / after)) if before > 0 and after > 0 else 0.0


def estimate_drr(spectrum: Complex, sample_rate: int) -> float:
    """Estimate the direct-to-reverberant energy ratio of a recording of speech from the gain of linear prediction.

    The estimate is ``11.3 - 23.7 G`` in dB, with G the median over frequency of the prediction gain in dB.

    Args:
        spectrum: STFT ``[bins, frames]`` with a hop of 8 ms.
        sample_rate: in Hz.

    Returns:
        The ratio in dB; NaN below -20 and above 12 dB, and for a recording without sound.
    """
    frequencies = np.linspace(0, sample_rate / 2, len(spectrum))
    band = np.flatnonzero((frequencies >= BAND_HZ[0]) & (frequencies <= BAND_HZ[1]))
    step = max(1, round(DRR_HZ / frequencies[1])) if len(frequencies) > 1 else 1
    part = spectrum[band[::step]]
    if part.shape[1] < MIN_FRAMES_PER_TAP:
        return math.nan
    residual = part - predict_reverberation(part, CHECK_TAPS, smooth=False)
    gains, _ = _prediction_gains(_power(part), _power(residual))
    ratio = DRR_DB + DRR_PER_DB * float(np.median(gains)) if len(gains) else math.nan
    return ratio if DRR_BOUNDS[0] <= ratio <= DRR_BOUNDS[1] else math.nan


def _ramp(value: float, low: float, high: float) -> float:
    """Return 0 below ``low``, 1 above ``high``, and linear values between them."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def predict_reverberation(
    spectrum: Complex,
    taps: int = TAPS,
    delay: int = DELAY,
    iterations: int = ITERATIONS,
    smooth: bool = True,
    joint: bool = False,
) -> Complex:
    """Predict the late reverberation of a recording by weighted prediction error (WPE).

    At each frequency, with y_t the STFT in frame t, K taps and a delay of D frames:

        r_t = g^H [y_(t-D), ..., y_(t-D-K+1)],    g = argmin  sum over t of |y_t - r_t|^2 / w_t

    w_t is |y_t - r_t|^2 from the previous iteration, and |y_t|^2 in the first one. Frames of digital silence are left
    out, and r_t is 0 there. A joint prediction stacks the frames of all channels in the vector, and w_t is the mean
    over the channels.

    Args:
        spectrum: y ``[bins, frames]`` or ``[channels, bins, frames]``, complex.
        taps: K; at most one for every 16 frames, in all channels together.
        delay: D.
        iterations: number of alternating updates of w and g.
        smooth: average w over three adjacent frequencies, with weights 1/4, 1/2, 1/4.
        joint: predict each channel from all of them.

    Returns:
        r, of the shape and type of ``spectrum``. Subtract it from the spectrum.

    References:
        T. Nakatani et al., "Speech dereverberation based on variance-normalized delayed linear prediction", IEEE
        TASLP 18(7), 2010. T. Yoshioka and T. Nakatani, "Generalization of multi-channel linear prediction methods for
        blind MIMO impulse response shortening", IEEE TASLP 20(10), 2012.
    """
    if joint or spectrum.ndim == 2:
        groups = [spectrum if spectrum.ndim == 3 else spectrum[None]]
    else:
        groups = [channel[None] for channel in spectrum]
    predictions = [_predict_jointly(group, taps, delay, iterations, smooth) for group in groups]
    prediction: Complex = np.concatenate(predictions).reshape(spectrum.shape)
    return prediction


def _predict_jointly(spectrum: Complex, taps: int, delay: int, iterations: int, smooth: bool) -> Complex:
    """Return the joint prediction of ``predict_reverberation`` for channels ``[channels, bins, frames]``."""
    from scipy.ndimage import convolve1d

    channels, bins, frames = spectrum.shape
    taps = min(taps, frames // (MIN_FRAMES_PER_TAP * channels))
    prediction = np.zeros_like(spectrum)
    if taps < 1:
        return prediction
    power = (np.abs(spectrum) ** 2).mean(axis=0)
    sounding = power > MIN_WEIGHT * power.max(axis=1, keepdims=True)
    padded = np.pad(spectrum, ((0, 0), (0, 0), (delay + taps - 1, 0)))
    chunk = max(1, CHUNK_VALUES // (channels * taps * frames))
    for _ in range(iterations):
        power = (np.abs(spectrum - prediction) ** 2).mean(axis=0)
        if smooth:
            power = convolve1d(power, (0.25, 0.5, 0.25), axis=0, mode="nearest")
        peak = np.maximum(power.max(axis=1, keepdims=True), np.finfo(power.dtype).tiny)
        weight = np.where(sounding, peak / np.maximum(power, MIN_WEIGHT * peak), 0)
        for first in range(0, bins, chunk):
            part = slice(first, first + chunk)
            past = np.lib.stride_tricks.sliding_window_view(padded[:, part], taps, axis=2)[:, :, :frames]
            past = past.transpose(1, 0, 3, 2).reshape(-1, channels * taps, frames)
            observed = spectrum[:, part].swapaxes(0, 1)
            prediction[:, part] = _predict(past, observed, weight[part]).swapaxes(0, 1)
        prediction *= sounding
    return prediction


def _predict(past: Complex, observed: Complex, weight: Powers) -> Complex:
    """Return the weighted least-squares prediction ``[bins, channels, frames]`` of ``observed`` from ``past``.

    Args:
        past: ``[bins, taps of all channels, frames]``.
        observed: ``[bins, channels, frames]``.
        weight: ``[bins, frames]``.
    """
    weighted = past * weight[:, None]
    conjugate = past.conj().swapaxes(1, 2)
    correlation = (weighted @ conjugate).astype(np.complex128)  # [bins, taps, taps]
    target = (weighted @ observed.conj().swapaxes(1, 2)).astype(np.complex128)
    mean = np.einsum("fkk->f", correlation).real / past.shape[1]
    correlation += (REGULARISATION * mean + np.finfo(np.float64).tiny)[:, None, None] * np.eye(past.shape[1])
    filters = np.linalg.solve(correlation, target).astype(past.dtype)
    predicted: Complex = filters.conj().swapaxes(1, 2) @ past
    return predicted


def late_reverberation_gain(power: Powers, frame_seconds: float, rt60: float, floor_db: float | None = None) -> Powers:
    """Return the log-MMSE gain that suppresses late reverberation, with a model of exponential decay.

    The power of the late reverberation is that of the recording ``n`` frames earlier, after a decay of n h = 24 ms:

        l_t = exp(-2 delta n h) p_(t-n),    delta = 3 ln(10) / RT60

    where p is the power, smoothed over frames.

    Args:
        power: squared magnitudes ``[bins, frames]``.
        frame_seconds: h, the hop of the STFT in seconds.
        rt60: reverberation time in seconds.
        floor_db: minimum gain in dB; None for a value from -7 to -12 dB, lower for a longer RT60.

    Returns:
        Gain ``[bins, frames]``.

    References:
        K. Lebart et al., "A new method based on spectral subtraction for speech dereverberation", Acta Acustica 87,
        2001. E. Habets et al., "Late reverberant spectral variance estimation based on a statistical model", IEEE
        SPL 16(9), 2009.
    """
    from scipy.signal import lfilter

    delay = max(1, round(LATE_SECONDS / frame_seconds))
    smoothing = math.exp(-frame_seconds / LATE_SMOOTHING_SECONDS)
    smooth = lfilter([1 - smoothing], [1, -smoothing], power, axis=1)
    if floor_db is None:
        floor_db = min(max(FLOOR_DB + FLOOR_DB_PER_SECOND * rt60, FLOOR_BOUNDS_DB[0]), FLOOR_BOUNDS_DB[1])
    decay = math.exp(-6 * math.log(10) / rt60 * delay * frame_seconds)
    late = np.full_like(power, SMALLEST_POWER)
    late[:, delay:] += decay * smooth[:, :-delay]
    return log_mmse(power, late, 10 ** (floor_db / 20), LATE_DECISION)
