"""Measure the lag between two recordings by generalised cross-correlation, and apply fractional delays."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LAG = 1.0  # seconds
MIN_LAG = 0.001  # seconds; recordings with a smaller lag count as aligned
MAX_MEASURED = 60.0  # seconds to use, around the loudest sample of the clean recording
TAPER = 0.020  # seconds; abrupt ends of both recordings would cause a peak at lag 0 in bands without sound
REGULARISATION = 1e-5  # relative to the mean magnitude of the cross-spectrum, to suppress rounding errors
SIDE = 0.050  # seconds around the peak that may contain other peaks, from reflections and periodicity
MIN_RATIO, MIN_RATIO_ALIGNED = 2.0, 4.0  # of the peak to the values further away, and to those around lag 0
EDGE = 1024  # samples of zero padding on either side of a delayed waveform


def measure_lag(clean: Tensor, corrupted: Tensor, sample_rate: int) -> int:
    r"""Measure the lag of a corrupted recording relative to its clean version.

    The lag maximises the magnitude of the cross-correlation with phase transform (GCC-PHAT),

        r = IFFT( Y X* / (|Y X*| + e) ),

    within 1 s. The phase transform narrows the peak of the direct path, so that reverberation and periodicity shift it
    less than the peak of the plain cross-correlation.

    Args:
        clean: x ``[T]``.
        corrupted: y ``[U]``, at the same sample rate.
        sample_rate: sample rate in Hz.

    Returns:
        The lag in samples, positive if the corrupted recording is late. It is 0 if the lag is under 1 ms or if the
        peak is not clear: it must be twice as high as the values more than 50 ms away and four times as high as those
        within 1 ms of lag 0, because the direct path of a reverberant recording can be lower than its reflections.

    Source: C. Knapp and G. Carter, The generalized correlation method for estimation of time delay, IEEE Trans.
    ASSP 24(4), 1976.
    """
    length = round(MAX_MEASURED * sample_rate)
    start = max(0, min(int(clean.abs().argmax()) - length // 2, len(clean) - length))
    x, y = (_taper(w[start : start + length], round(TAPER * sample_rate)) for w in (clean, corrupted))
    reach = min(round(MAX_LAG * sample_rate), len(x) - 1, len(y) - 1)
    if reach < 1:
        return 0
    size = 1 << (max(len(x), len(y)) + reach).bit_length()  # no lag within reach wraps around
    cross = torch.fft.rfft(y, size) * torch.fft.rfft(x, size).conj()
    magnitude = cross.abs()
    tiny = torch.finfo(torch.float32).tiny  # avoids 0 / 0 for silence
    correlation = torch.fft.irfft(cross / (magnitude + REGULARISATION * magnitude.mean() + tiny), size)
    heights = torch.cat([correlation[-reach:], correlation[: reach + 1]]).abs()  # lags -reach to reach
    peak = int(heights.argmax())
    near, side = math.ceil(MIN_LAG * sample_rate) - 1, round(SIDE * sample_rate)
    aligned = heights[max(0, reach - near) : reach + near + 1]
    elsewhere = torch.cat([heights[: max(0, peak - side)], heights[peak + side + 1 :], torch.zeros(1)])
    is_clear = heights[peak] > max(MIN_RATIO * elsewhere.max(), MIN_RATIO_ALIGNED * aligned.max())
    return peak - reach if is_clear and abs(peak - reach) > near else 0


def _taper(waveform: Tensor, length: int) -> Tensor:
    """Fade a waveform in and out over ``length`` samples, or half its length if that is less."""
    length = min(length, len(waveform) // 2)
    ramp = torch.hann_window(2 * length)[:length]
    flat = torch.ones(len(waveform) - 2 * length)
    return waveform * torch.cat([ramp, flat, ramp.flip(0)])


def delayed(waveform: Tensor, samples: float) -> Tensor:
    """Delay a waveform ``[T]`` by a fraction of a sample, by a linear phase shift of the zero-padded waveform."""
    padded = torch.nn.functional.pad(waveform, (EDGE, EDGE))
    spectrum = torch.fft.rfft(padded)
    frequencies = torch.fft.rfftfreq(len(padded), dtype=waveform.dtype)
    shifted = torch.fft.irfft(spectrum * torch.exp(-2j * math.pi * frequencies * samples), n=len(padded))
    return shifted[EDGE : EDGE + len(waveform)] if samples else waveform
