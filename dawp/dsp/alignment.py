"""The lag between two recordings of the same sound, by generalised cross-correlation, and delays in samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_LAG = 1.0  # seconds
MIN_LAG = 0.001  # seconds: recordings whose lag is smaller count as aligned
MAX_MEASURED = 60.0  # seconds around the loudest sample of the clean recording: bounds the cost
TAPER = 0.020  # seconds: an abrupt start or end of both recordings would be a peak at lag 0 in bands without sound
REGULARISATION = 1e-5  # of the mean magnitude of the cross-spectrum: less is rounding, not sound
SIDE = 0.050  # seconds around the peak in which there may be others, of reflections and periods
MIN_RATIO, MIN_RATIO_ALIGNED = 2.0, 4.0  # of the peak to the rest further away, and to what is around lag 0
EDGE = 1024  # samples of silence on either side of a delayed waveform


def measure_lag(clean: Tensor, corrupted: Tensor, sample_rate: int) -> int:
    r"""Measure by how many samples a corrupted recording comes after its clean version.

    The lag is the highest peak of the cross-correlation with phase transform (GCC-PHAT),

        r = IFFT( Y X* / (|Y X*| + e) ),

    in magnitude, within 1 s. The phase transform makes the peak of a direct path narrow, so that reverberation and
    periodic sounds move it less than they move the peak of the plain cross-correlation.

    Args:
        clean: x ``[T]``.
        corrupted: y ``[U]``, at the same rate.
        sample_rate: in Hz.

    Returns:
        The lag in samples, negative if the corrupted recording comes first; 0 if it is under 1 ms, or if the peak is
        not clear: not twice as high as the rest, or not four times as high as what is within 1 ms of lag 0, where the
        direct path of a reverberant recording can be lower than its reflections.

    Source: C. Knapp and G. Carter, The generalized correlation method for estimation of time delay, IEEE Trans.
    ASSP 24(4), 1976.
    """
    length = round(MAX_MEASURED * sample_rate)
    start = max(0, min(int(clean.abs().argmax()) - length // 2, len(clean) - length))
    x, y = (_tapered(w[start : start + length], round(TAPER * sample_rate)) for w in (clean, corrupted))
    reach = min(round(MAX_LAG * sample_rate), len(x) - 1, len(y) - 1)
    if reach < 1:
        return 0
    size = 1 << (max(len(x), len(y)) + reach).bit_length()  # no lag within reach wraps around
    cross = torch.fft.rfft(y, size) * torch.fft.rfft(x, size).conj()
    magnitude = cross.abs()
    tiny = torch.finfo(torch.float32).tiny  # of silence
    correlation = torch.fft.irfft(cross / (magnitude + REGULARISATION * magnitude.mean() + tiny), size)
    heights = torch.cat([correlation[-reach:], correlation[: reach + 1]]).abs()  # lags -reach to reach
    place = int(heights.argmax())
    near, side = math.ceil(MIN_LAG * sample_rate) - 1, round(SIDE * sample_rate)
    aligned = heights[max(0, reach - near) : reach + near + 1]
    elsewhere = torch.cat([heights[: max(0, place - side)], heights[place + side + 1 :], torch.zeros(1)])
    is_clear = heights[place] > max(MIN_RATIO * elsewhere.max(), MIN_RATIO_ALIGNED * aligned.max())
    return place - reach if is_clear and abs(place - reach) > near else 0


def _tapered(waveform: Tensor, length: int) -> Tensor:
    """A waveform that rises from zero and falls to zero over ``length`` samples, or less where it is shorter."""
    length = min(length, len(waveform) // 2)
    ramp = torch.hann_window(2 * length)[:length]
    flat = torch.ones(len(waveform) - 2 * length)
    return waveform * torch.cat([ramp, flat, ramp.flip(0)])


def delayed(waveform: Tensor, samples: float) -> Tensor:
    """A waveform ``[T]`` later by a fraction of a sample: a phase shift, over a stretch of silence to either end."""
    padded = torch.nn.functional.pad(waveform, (EDGE, EDGE))
    spectrum = torch.fft.rfft(padded)
    frequencies = torch.fft.rfftfreq(len(padded), dtype=waveform.dtype)
    shifted = torch.fft.irfft(spectrum * torch.exp(-2j * math.pi * frequencies * samples), n=len(padded))
    return shifted[EDGE : EDGE + len(waveform)] if samples else waveform
