"""Regularised inversion of a convolution with a known impulse response."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dawp.dsp.noise import estimate_noise
from dawp.dsp.spectral import analyse
from dawp.operators.convolution import Convolution, fft_size

RESPONSE_ERROR = 3e-3  # power of the error of a response, relative to the response: 5 %
SMOOTHING_HZ, SMOOTHING_Q = 30.0, 5.0  # the smoothing averages over f +- max(30 Hz, f / 5)
ITERATIONS = 12


def noise_to_signal(observed: Tensor, sample_rate: int, bins: int) -> Tensor:
    """Estimate the power of the noise relative to the observation, as the mean over time.

    Args:
        observed: ``[T]``.
        sample_rate: in Hz.
        bins: number of equally spaced frequencies from 0 to half the sample rate.

    Returns:
        ``[bins]``, from 0 to 1.
    """
    noise = torch.from_numpy(np.asarray(estimate_noise(observed, sample_rate))).mean(dim=1)
    power = torch.from_numpy(analyse(observed, sample_rate)).abs().square().mean(dim=1)
    ratio = (noise / power.clamp(min=torch.finfo(power.dtype).tiny)).clamp(0, 1).to(observed.dtype)
    return F.interpolate(ratio[None, None], bins, mode="linear", align_corners=True)[0, 0]


def regularisation(spectrum: Tensor, sample_rate: int, noise: Tensor | float = 0.0) -> Tensor:
    """Return the weight of the Tikhonov regularisation at each frequency.

    ``w = (e + N / Y) S(|H|^2)``, where S smooths over frequency: with a signal whose spectrum is smoother than that of
    the room, Y is S(|H|^2) times the power of the signal, and w is the ratio of noise to signal of the Wiener filter. e
    stands for the error of the response.

    Args:
        spectrum: H ``[bins]``.
        sample_rate: in Hz.
        noise: N / Y, the power of the noise relative to the observation, ``[bins]`` or a scalar.

    Returns:
        w ``[bins]``.
    """
    power = spectrum.abs().square().double()
    frequency = torch.arange(len(power), dtype=torch.float64) / max(1, len(power) - 1) * sample_rate / 2
    bins = (torch.maximum(torch.tensor(SMOOTHING_HZ), frequency / SMOOTHING_Q) / (sample_rate / 2) * len(power)).long()
    total = F.pad(power.cumsum(0), (1, 0))
    centre = torch.arange(len(power))
    first, last = (centre - bins).clamp(min=0), (centre + bins + 1).clamp(max=len(power))
    smooth = (total[last] - total[first]) / (last - first)
    return ((RESPONSE_ERROR + noise) * smooth).to(power.dtype).to(spectrum.real.dtype)


def inverse_filter(observed: Tensor, system: Convolution, sample_rate: int) -> Tensor:
    """Invert a convolution with a regularised inverse filter in the frequency domain.

    ``X = H* Y / (|H|^2 + w)`` with w from ``regularisation``. Samples before and after the observation count as zero.

    Args:
        observed: y ``[T]``.
        system: the known convolution.
        sample_rate: in Hz.

    Returns:
        The estimate ``[T]``.
    """
    size = fft_size(len(observed) + 2 * len(system.response))
    spectrum = torch.fft.rfft(system.response, size)
    weight = regularisation(spectrum, sample_rate, noise_to_signal(observed, sample_rate, len(spectrum)))
    inverse = spectrum.conj() / (spectrum.abs().square() + weight)
    estimate: Tensor = torch.fft.irfft(torch.fft.rfft(observed, size) * inverse, size)
    return torch.roll(estimate, system.delay)[: len(observed)]


def least_squares(observed: Tensor, system: Convolution, sample_rate: int, iterations: int = ITERATIONS) -> Tensor:
    """Invert a convolution by regularised least squares, with the signal outside the observation unknown.

    Minimises ``|y - A x|^2 + |W^(1/2) x|^2`` over all samples of x that y depends on, where W multiplies by
    ``regularisation`` in the frequency domain. The normal equations are solved by conjugate gradients, preconditioned
    with ``1 / (|H|^2 + w)``: their exact inverse if y had no borders, so that a few iterations suffice.

    Args:
        observed: y ``[T]``.
        system: A, the known convolution.
        sample_rate: in Hz.
        iterations: of the conjugate gradients.

    Returns:
        The estimate ``[T]``.
    """
    before = len(system.response) - 1
    length = system.input_length(len(observed))
    size = fft_size(length)
    spectrum = torch.fft.rfft(system.response, size)
    weight = regularisation(spectrum, sample_rate, noise_to_signal(observed, sample_rate, len(spectrum)))
    diagonal = spectrum.abs().square() + weight

    def adjoint(residual: Tensor) -> Tensor:
        correlation: Tensor = spectrum.conj() * torch.fft.rfft(F.pad(residual, (before, size - length)))
        return correlation

    def normal(x: Tensor) -> Tensor:
        return adjoint(torch.fft.irfft(spectrum * x, size)[before:length]) + weight * x

    def inner(a: Tensor, b: Tensor) -> Tensor:
        products = (a.conj() * b).real
        product: Tensor = 2 * products.sum() - products[0] - products[-1]  # with the negative frequencies
        return product

    residual = adjoint(observed)
    x = torch.zeros_like(residual)
    direction = preconditioned = residual / diagonal
    energy = inner(residual, preconditioned)
    for _ in range(iterations):
        if not energy > 0:
            break
        image = normal(direction)
        step = energy / inner(direction, image)
        x = x + step * direction
        residual = residual - step * image
        preconditioned = residual / diagonal
        previous, energy = energy, inner(residual, preconditioned)
        direction = preconditioned + energy / previous * direction
    estimate: Tensor = torch.fft.irfft(x, size)[:length]
    return system.crop(estimate)
