"""Zero-phase filters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dawp.errors import BadInput

HIGHPASS_ORDER = 4
RINGING_PERIODS = 5  # ringing time of the high-pass in periods of the cutoff frequency
MAX_RINGING_SECONDS = 10.0
PREDICTION_SECONDS, PREDICTION_ORDERS = 1.0, (512, 128, 32, 8, 2)
MAX_PREDICTED = 1.5  # peak of an extension relative to the peak of the samples it continues
RUMBLE_CUTOFF = 20.0  # Hz: the lowest audible frequency
RUMBLE_SEGMENT_SECONDS, RUMBLE_QUANTILE = 0.5, 0.25
OFFSET_CUTOFF = 4.0  # Hz: a segment does not separate lower frequencies from a constant offset
MIN_RUMBLE, MIN_OFFSET = 0.01, 0.05  # fractions of a recording's power
MIN_STEADY_SHARE = 0.3  # of the mean power below 20 Hz


def high_pass(waveform: Tensor, sample_rate: int, cutoff: float) -> Tensor:
    """Apply a Butterworth high-pass forward and backward.

    Both ends are extended by linear prediction for the ringing time of the filter, so that tones are preserved there.

    Args:
        waveform: ``[T]``.
        sample_rate: sample rate in Hz.
        cutoff: cutoff frequency in Hz; 0 returns the waveform unchanged.

    Returns:
        Filtered waveform ``[T]``.

    Raises:
        BadInput: the cutoff is not below half the sample rate.
    """
    if not cutoff:
        return waveform
    if cutoff >= sample_rate / 2:
        raise BadInput(f"highpass must be below half the sample rate of {sample_rate} Hz, got {cutoff:g}")
    import numpy as np
    from scipy.signal import butter, sosfiltfilt

    sections = butter(HIGHPASS_ORDER, cutoff, "highpass", fs=sample_rate, output="sos")
    samples = waveform.double().numpy()
    extra = math.ceil(min(RINGING_PERIODS / cutoff, MAX_RINGING_SECONDS) * sample_rate)
    context = round(PREDICTION_SECONDS * sample_rate)
    before = _extrapolate(samples[:context][::-1], extra)[::-1]
    after = _extrapolate(samples[-context:], extra)
    filtered = sosfiltfilt(sections, np.concatenate([before, samples, after]), padlen=0)
    return torch.from_numpy(filtered[extra : extra + len(samples)].copy()).to(waveform)


def remove_rumble(waveform: Tensor, sample_rate: int) -> Tensor:
    """Apply a 20 Hz high-pass if the waveform has strong rumble; otherwise return it unchanged.

    The steady power of a band is the power exceeded in three quarters of all half-second segments. Rumble is strong if
    the steady power from 4 to 20 Hz is more than 1 % of the mean power, or that below 4 Hz, a constant offset, more
    than 5 %. The steady power must also be at least 30 % of the mean power below 20 Hz: otherwise most of that belongs
    to the recording, like the onset of a plucked string or a drum. A waveform shorter than a segment is returned
    unchanged, because its spectrum does not separate rumble from a low tone.

    Args:
        waveform: ``[T]``.
        sample_rate: sample rate in Hz.

    Returns:
        Waveform ``[T]``.
    """
    samples = waveform.double()
    length = max(2, round(RUMBLE_SEGMENT_SECONDS * sample_rate))
    if len(samples) < length:
        return waveform
    window = torch.hann_window(length, dtype=torch.float64)
    segments = samples.unfold(0, length, length // 2) * (window / window.square().mean().sqrt())
    power = torch.fft.rfft(segments).abs().square() / length**2
    power[:, 1:] *= 2  # negative frequencies
    first, last = (math.ceil(cutoff * length / sample_rate) for cutoff in (OFFSET_CUTOFF, RUMBLE_CUTOFF))
    offset, rumble, below = (power[:, band].sum(dim=1) for band in (slice(first), slice(first, last), slice(last)))
    mean = samples.square().mean()
    is_strong = _steady(rumble) > MIN_RUMBLE * mean or _steady(offset) > MIN_OFFSET * mean
    is_steady = _steady(below) >= MIN_STEADY_SHARE * below.mean()
    return high_pass(waveform, sample_rate, RUMBLE_CUTOFF) if is_strong and is_steady else waveform


def _steady(power: Tensor) -> Tensor:
    """Return the power that three quarters of all segments exceed, from their powers ``[segments]``."""
    return power.quantile(RUMBLE_QUANTILE)


def _extrapolate(samples, count: int):  # type: ignore[no-untyped-def]
    """Predict the next ``count`` samples with an autoregressive model (Burg); mirror the samples if it is unstable."""
    import librosa
    import numpy as np
    from scipy.signal import lfilter, lfiltic

    mirrored = np.pad(samples, (0, count), mode="symmetric")[len(samples) :]
    limit = MAX_PREDICTED * np.abs(samples).max()
    # A model of a few pure tones is unstable if its order is much higher than necessary.
    for order in PREDICTION_ORDERS:
        order = min(order, len(samples) // 3)
        with np.errstate(all="ignore"):
            model = librosa.lpc(np.ascontiguousarray(samples), order=order)
            state = lfiltic([1.0], model, samples[::-1][:order])
            predicted, _ = lfilter([1.0], model, np.zeros(count), zi=state)
        if np.isfinite(predicted).all() and np.abs(predicted).max() <= limit:
            return predicted
    return mirrored
