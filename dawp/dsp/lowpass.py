"""Low-pass filters without delay, and the crossover that keeps the band below a cutoff."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dawp.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

STOPBAND_DB = 80.0
TRANSITION = 0.05  # width of the transition of a FIR filter, relative to the cutoff
MIN_TRANSITION = 50.0  # Hz
IIR_ORDER = 8
RIPPLE_DB = 0.05  # of the Chebyshev filter in the passband
ZERO_CROSSINGS, ROLLOFF = 64, 0.98  # of the resampling filter, on either side, and its cutoff relative to half the rate
MAX_TAPS = 50_000_000  # of all filters of a resampling
NEGLIGIBLE = 1e-10  # samples of an impulse response, relative to the largest one


def low_pass(kind: str, cutoff: float, sample_rate: int) -> Tensor:
    """Return the impulse response of a low-pass filter without delay.

    ``fir`` is a windowed sinc with a Kaiser window; its gain is -6 dB at the cutoff. The others are applied forward and
    backward: ``butterworth`` and ``chebyshev`` (type I) of order 8, and ``biquad``, a Butterworth filter of order 2.
    At the cutoff they have -6 dB, -0.1 dB and -6 dB.

    Args:
        kind: ``fir``, ``chebyshev``, ``butterworth`` or ``biquad``.
        cutoff: in Hz, below half the sample rate.
        sample_rate: in Hz.

    Returns:
        Symmetric response ``[2 D + 1]`` with the centre at D, float64.
    """
    from scipy import signal

    match kind:
        case "fir":
            width = min(max(MIN_TRANSITION, TRANSITION * cutoff), sample_rate / 2 - cutoff)
            return torch.from_numpy(_windowed_sinc(cutoff, width, sample_rate))
        case "chebyshev":
            sections = signal.cheby1(IIR_ORDER, RIPPLE_DB, cutoff, fs=sample_rate, output="sos")
        case "butterworth":
            sections = signal.butter(IIR_ORDER, cutoff, fs=sample_rate, output="sos")
        case _:
            sections = signal.butter(2, cutoff, fs=sample_rate, output="sos")
    return torch.from_numpy(_forward_backward(sections, cutoff, sample_rate))


def crossover(cutoff: float, sample_rate: int) -> Tensor:
    """Return the impulse response ``[2 D + 1]`` of a low-pass that keeps all frequencies up to a cutoff.

    Its complement, the identity minus the filter, passes the frequencies above the transition, which begins at the
    cutoff.

    Args:
        cutoff: in Hz, below half the sample rate.
        sample_rate: in Hz.
    """
    width = max(MIN_TRANSITION, TRANSITION * cutoff)
    if cutoff + width / 2 >= sample_rate / 2:  # there are no frequencies above the cutoff
        return torch.ones(1, dtype=torch.float64)
    return torch.from_numpy(_windowed_sinc(cutoff + width / 2, width, sample_rate))


def convolve(waveform: Tensor, response: Tensor) -> Tensor:
    """Convolve a waveform with a response whose centre has no delay; samples beyond the ends count as zero.

    Args:
        waveform: ``[..., T]``.
        response: ``[2 D + 1]``.

    Returns:
        ``[..., T]``, of the type of the waveform.
    """
    length, reach = waveform.shape[-1], len(response) // 2
    size = 1 << (length + len(response) - 2).bit_length()
    spectrum = torch.fft.rfft(waveform, size) * torch.fft.rfft(response.to(waveform.dtype), size)
    convolved: Tensor = torch.fft.irfft(spectrum, size)
    return convolved[..., reach : reach + length]


def resample_steeply(waveform: Tensor, rate: int, new_rate: int) -> Tensor:
    """Resample a waveform with a steep filter, so that no images or aliases of the highest octave remain.

    Args:
        waveform: ``[..., T]``.
        rate: sample rate of the waveform in Hz.
        new_rate: sample rate of the result in Hz.

    Returns:
        ``[..., ceil(T * new_rate / rate)]``.

    Raises:
        BadInput: the greatest common divisor of the rates is so small that the filters would not fit in memory.
    """
    import torchaudio.functional

    common = math.gcd(rate, new_rate)
    if (rate // common) * (new_rate // common) * ZERO_CROSSINGS > MAX_TAPS:
        raise BadInput(f"cannot be resampled from {rate} to {new_rate} Hz, their common divisor is too small")
    resampled: Tensor = torchaudio.functional.resample(waveform, rate, new_rate, ZERO_CROSSINGS, ROLLOFF)
    return resampled


def _windowed_sinc(cutoff: float, width: float, sample_rate: int) -> Array:
    from scipy import signal

    taps, beta = signal.kaiserord(STOPBAND_DB, width / (sample_rate / 2))
    response: Array = signal.firwin(taps | 1, cutoff, window=("kaiser", beta), fs=sample_rate)
    return response


def _forward_backward(sections: Array, cutoff: float, sample_rate: int) -> Array:
    """Return the autocorrelation of the impulse response of a filter, without negligible samples at its ends."""
    import numpy as np
    from scipy import signal

    length = math.ceil(sample_rate / cutoff)
    while True:
        length *= 2
        impulse = np.zeros(length)
        impulse[0] = 1
        response = signal.sosfilt(sections, impulse)
        largest = np.abs(response).max()
        if np.abs(response[length // 2 :]).max() < NEGLIGIBLE * largest:
            break
    both: Array = signal.correlate(response, response, method="direct" if length < 5000 else "fft")
    reach = int(np.flatnonzero(np.abs(both) > NEGLIGIBLE * np.abs(both).max()).max()) - (length - 1)
    return both[length - 1 - reach : length + reach].copy()
