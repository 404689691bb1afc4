"""Convolution with a known impulse response."""

from __future__ import annotations

import torch
from torch import Tensor

from dawp.operators.base import Criterion, Operator

EQUALISER_FLOOR = 0.01  # of the mean power of the frequency response


class Convolution(Operator):
    """The signal through a linear system whose impulse response is known, as a room.

    With h the response and d the delay of its direct path, ``A(x)[t] = sum_k h[k] x[t + d - k]``: signal and
    observation are aligned by the direct path. The signal starts ``L - 1 - d`` samples before the observation, which
    contains the reverberation of these samples, and ends d samples after it.

    Args:
        response: h ``[L]``.
        delay: d in samples, from 0 to L - 1.

    Raises:
        ValueError: the delay lies outside the response.
    """

    def __init__(self, response: Tensor, delay: int = 0) -> None:
        if not 0 <= delay < len(response):
            raise ValueError(f"delay must be from 0 to {len(response) - 1}, got {delay}")
        self.response, self.delay = response, delay

    def __call__(self, x: Tensor) -> Tensor:
        size = fft_size(len(x))  # the samples that wrap around are not returned
        spectrum = torch.fft.rfft(x, size) * torch.fft.rfft(self.response, size)
        convolved: Tensor = torch.fft.irfft(spectrum, size)
        return convolved[len(self.response) - 1 : len(x)]

    def input_length(self, length: int) -> int:
        return length + len(self.response) - 1

    def crop(self, x: Tensor) -> Tensor:
        start = len(self.response) - 1 - self.delay
        return x[start : start + len(x) - len(self.response) + 1]

    def rough_inverse(self, observed: Tensor) -> Tensor:
        """Return ``irfft(H* Y / (|H|^2 + e mean |H|^2))`` of the observation ``[T]``, shifted by the delay, ``[T]``.

        Samples before and after the observation count as zero.
        """
        size = fft_size(len(observed) + len(self.response))
        spectrum = torch.fft.rfft(self.response, size)
        power = spectrum.abs().square()
        inverse = spectrum.conj() / (power + EQUALISER_FLOOR * power.mean())
        equalised: Tensor = torch.fft.irfft(torch.fft.rfft(observed, size) * inverse, size)
        return torch.roll(equalised, self.delay)[: len(observed)]

    def distance(
        self, prediction: Tensor, observed: Tensor, criterion: Criterion, weight: Tensor | None = None
    ) -> Tensor:
        """Return the distance between prediction and observation after ``rough_inverse``.

        A room amplifies low frequencies far more than the others. Without the equalisation they dominate the distance,
        and a fit does not learn the rest.

        Args:
            prediction: A(x) ``[T]``.
            observed: y ``[T]``.
            criterion: error of each sample.
            weight: weight of each sample after the equalisation, with sum 1; None for equal weights.
        """
        return super().distance(self.rough_inverse(prediction), self.rough_inverse(observed), criterion, weight)


def fft_size(length: int) -> int:
    """Return the smallest size of at least ``length`` samples that is 1, 3, 5, 9 or 15 times a power of 2.

    Example:
        >>> fft_size(1025), fft_size(1281)
        (1152, 1536)
    """
    return min(odd << max(0, (-(-length // odd) - 1).bit_length()) for odd in (1, 3, 5, 9, 15))
