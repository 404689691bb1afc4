"""Low-pass filters, with or without a reduction of the sample rate."""

from __future__ import annotations

from torch import Tensor

from dawp.dsp.lowpass import convolve, crossover, low_pass, resample_steeply
from dawp.operators.base import Operator


class LowPass(Operator):
    """A low-pass filter, optionally followed by decimation to a lower sample rate and interpolation back.

    With h the response of the filter and D its centre, ``A(x)[t] = sum_k h[k] x[t + D - k]``, then resampled to
    ``rate`` and back. Samples beyond the ends of x count as zero.

    An estimate keeps the band of the observation: with c the low-pass of ``dsp.lowpass.crossover``, ``project`` returns
    ``c * y + (x - c * x)``.

    Args:
        kind: of the filter, as for ``dsp.lowpass.low_pass``.
        cutoff: in Hz, below half the sample rate.
        sample_rate: in Hz.
        rate: the lower sample rate in Hz; None to keep the sample rate.
    """

    def __init__(self, kind: str, cutoff: float, sample_rate: int, rate: int | None = None) -> None:
        self.cutoff, self.sample_rate, self.rate = cutoff, sample_rate, rate
        self.response = low_pass(kind, cutoff, sample_rate)
        self.crossover = crossover(cutoff, sample_rate)

    def __call__(self, x: Tensor) -> Tensor:
        filtered = convolve(x, self.response)
        if self.rate is None:
            return filtered
        decimated = resample_steeply(filtered, self.sample_rate, self.rate)
        return resample_steeply(decimated, self.rate, self.sample_rate)[: len(x)]

    def project(self, x: Tensor, observed: Tensor) -> Tensor:
        return x + convolve(observed - x, self.crossover)
