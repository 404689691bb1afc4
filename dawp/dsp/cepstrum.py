"""A-priori SNR smoothed over time in the cepstral domain.

The spectral envelope of speech is in the lowest quefrencies and its pitch in one peak; both change within a few frames.
The other quefrencies contain mostly the random fluctuations of the noise, and are averaged over many frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dawp.dsp.spectral import HOP_SECONDS, SMALLEST_PRIOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dawp.dsp.spectral import Powers

    Array = NDArray[np.float64]

# Largest quefrency in seconds, and the weight of the previous frame 8 ms before, up to it
WEIGHTS = ((0.0002, 0.2), (0.0016, 0.5), (0.0025, 0.8), (np.inf, 0.95))
PITCH_SECONDS, PITCH_WEIGHT = (0.0025, 0.0125), 0.3  # periods of 80 to 400 Hz
PITCH_REACH = 2  # quefrencies on either side of the peak
MIN_PEAK = 0.2  # cepstrum of the natural logarithm of the power
BIAS = 1.3  # the mean of a logarithm is lower than the logarithm of the mean


def smoothed_prior(power: Powers, noise: Powers, sample_rate: int, frame_seconds: float = HOP_SECONDS) -> Powers:
    """Return the a-priori SNR by temporal cepstrum smoothing.

    The cepstrum c(q, t) of the power of the sound, estimated as max(P / N - 1, 10^-2.5) N, is smoothed recursively:

        s(q, t) = a(q, t) s(q, t - 1) + (1 - a(q, t)) c(q, t)

    The weight a(q, t) increases with the quefrency q, except around the peak of a pitch from 80 to 400 Hz.

    Args:
        power: P, squared magnitudes ``[bins, frames]``.
        noise: N, power of the noise, of that shape.
        sample_rate: in Hz.
        frame_seconds: from frame to frame.

    Returns:
        SNR ``[bins, frames]``, at least ``SMALLEST_PRIOR``.

    References:
        C. Breithaupt, T. Gerkmann and R. Martin, "A novel a priori SNR estimation approach based on selective
        cepstro-temporal smoothing", ICASSP 2008, section 3.
    """
    bins, frames = power.shape
    sound = np.maximum(power / noise - 1, SMALLEST_PRIOR) * noise
    cepstrum = np.fft.irfft(np.log(sound), n=2 * (bins - 1), axis=0)[:bins]
    quefrencies = np.arange(bins) / sample_rate
    limits, weights = (np.array(column) for column in zip(*WEIGHTS, strict=True))
    exponent = frame_seconds / HOP_SECONDS
    slow: Array = weights[np.searchsorted(limits, quefrencies)] ** exponent
    low, high = np.searchsorted(quefrencies, PITCH_SECONDS)
    smoothed = np.empty_like(cepstrum)
    before = cepstrum[:, 0]
    for frame in range(frames):
        now, weight = cepstrum[:, frame], slow
        if high > low:
            peak = low + int(np.argmax(now[low:high]))
            if now[peak] > MIN_PEAK:
                weight = slow.copy()
                weight[peak - min(peak, PITCH_REACH) : peak + PITCH_REACH + 1] = PITCH_WEIGHT**exponent
        before = weight * before + (1 - weight) * now
        smoothed[:, frame] = before
    both_sides = np.concatenate([smoothed, smoothed[-2:0:-1]])
    prior: Powers = BIAS * np.exp(np.fft.rfft(both_sides, axis=0).real) / noise
    return np.maximum(prior, SMALLEST_PRIOR)
