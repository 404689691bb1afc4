"""Low-pass filters, with or without a reduction of the sample rate."""

from __future__ import annotations

from torch import Tensor

from dawp.dsp.lowpass import convolve
from dawp.io.audio import resample
from dawp.operators.base import Operator


class LowPass(Operator):
    """A low-pass filter, optionally followed by decimation to a lower sample rate and interpolation back.

    With h the response of the filter and D its centre, ``A(x)[t] = sum_k h[k] x[t + D - k]``, then resampled to
    ``rate`` and back. Samples beyond the ends of x count as zero.

    An estimate keeps the band of the observation: with c the crossover, ``project`` returns ``c * y + (1 - c) * x``.

    Args:
        response: h ``[2 D + 1]``, as ``dsp.lowpass.low_pass`` returns it.
        crossover: response c ``[2 E + 1]``, as ``dsp.lowpass.crossover`` returns it.
        sample_rate: in Hz.
        rate: the lower sample rate in Hz; None to keep the sample rate.
    """

    def __init__(self, response: Tensor, crossover: Tensor, sample_rate: int, rate: int | None = None) -> None:
        self.response, self.crossover = response, crossover
        self.sample_rate, self.rate = sample_rate, rate

    def __call__(self, x: Tensor) -> Tensor:
        filtered = convolve(x, self.response)
        if self.rate is None:
            return filtered
        return resample(resample(filtered, self.sample_rate, self.rate), self.rate, self.sample_rate)[: len(x)]

    def project(self, x: Tensor, observed: Tensor) -> Tensor:
        return x + convolve(observed - x, self.crossover)
