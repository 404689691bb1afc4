"""An invertible constant-Q transform on regular grids, one for each octave."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dawp.errors import BadInput

TUNING = 440.0  # Hz: a band is centred at this frequency, or would be with enough octaves
MIN_LOW = 10.0  # Hz: lower bound of the lowest octave
MAX_PLANS = 8  # lengths whose windows are kept in memory


class ConstantQ:
    """A tight frame of bands with a constant ratio of centre frequency and bandwidth.

    Band k of an octave is centred at ``f_k = low 2^(k / bands)``. Its window in frequency rises from 0 at f_(k-1) to 1
    at f_k and falls to 0 at f_(k+1); the squares of all windows sum to 1. The highest band extends to half the sample
    rate. Below the lowest octave, bands of equal width extend to 0 Hz.

    With X the discrete Fourier transform of the signal, g_k the window and L the length, the coefficients of a band are
    the inverse transform of ``X g_k``, shifted to 0 Hz and sampled every ``hop`` samples:
    ``c_k[m] = sum_n X[n] g_k[n] exp(2 pi i (n - n_k) m hop / L)``, with n_k the bin nearest to f_k. As no window is
    wider than ``sample_rate / hop`` (the painless case), the adjoint inverts the transform. Only positive frequencies
    are transformed: ``sum |c|^2`` is half the energy of a signal without energy at 0 Hz and at half the sample rate.
    All bands of an octave have one hop, twice that of the octave above.

    The signal is extended by zeros to a multiple of the largest hop, and is treated as periodic.

    Args:
        sample_rate: in Hz.
        octaves: number of octaves.
        bands: number of bands of an octave.

    Attributes:
        low: the centre frequency of the lowest band of the lowest octave, in Hz.
        hops: the hop of each grid in samples: the octaves from the highest to the lowest, then the linear bands.

    Raises:
        BadInput: the lowest octave begins below 10 Hz.

    Source:
        Velasco, Holighaus, Dörfler and Grill, Constructing an invertible constant-Q transform with nonstationary Gabor
        frames, DAFx 2011, sections 2.2 and 3; with one hop for all bands of an octave, as in Moliner, Lehtinen and
        Välimäki, Solving audio inverse problems with a diffusion model, ICASSP 2023, section 4.1.
    """

    def __init__(self, sample_rate: int, octaves: int, bands: int) -> None:
        self.sample_rate, self.octaves, self.bands = sample_rate, octaves, bands
        steps = math.ceil(bands * math.log2(sample_rate / 2 / TUNING)) - 1  # the highest band below half the rate
        high = TUNING * 2 ** ((steps + 1) / bands)
        self.low = high / 2**octaves
        if self.low < MIN_LOW:
            most = math.floor(math.log2(high / MIN_LOW))
            raise BadInput(f"octaves must be at most {most} at {sample_rate} Hz, got {octaves}")
        centres = [self.low * 2 ** (k / bands) for k in range(octaves * bands)]
        self._centres = [self.low * k / bands for k in range(bands)] + centres
        widest = max(sample_rate / 2 - centres[-2], centres[-1] - centres[-3])
        first = 1 << math.floor(math.log2(sample_rate / widest))
        self.hops: list[int] = [first << octave for octave in range(octaves)]
        self.hops.append(self.hops[-1])
        self._plans: dict[tuple[int, torch.device], list[_Plan]] = {}

    def padded(self, length: int) -> int:
        """Return the length of the extended signal."""
        return -(-length // self.hops[-1]) * self.hops[-1]

    def analyse(self, x: Tensor) -> list[Tensor]:
        """Return the coefficients of signals.

        Args:
            x: ``[..., T]``.

        Returns:
            Complex ``[..., bands, frames]`` of each octave, from the highest to the lowest, and of the linear bands,
            from 0 Hz upwards. A grid has ``padded(T) / hop`` frames.
        """
        size = self.padded(x.shape[-1])
        spectrum = torch.fft.rfft(x, size, norm="ortho")
        return [
            torch.fft.ifft(
                spectrum[..., plan.bins].reshape(*x.shape[:-1], *plan.window.shape) * plan.window, norm="ortho"
            )
            for plan in self._plans_of(size, x.device)
        ]

    def synthesise(self, coefficients: list[Tensor], length: int) -> Tensor:
        """Return the signals ``[..., length]`` of coefficients, by the adjoint of ``analyse``."""
        size = self.padded(length)
        spectrum: Tensor | None = None
        for plan, grid in zip(self._plans_of(size, coefficients[0].device), coefficients, strict=True):
            parts = (torch.fft.fft(grid, norm="ortho") * plan.window).flatten(-2)
            if spectrum is None:
                spectrum = parts.new_zeros(*parts.shape[:-1], size // 2 + 1)
            spectrum = spectrum.index_add(-1, plan.bins, parts)
        signal: Tensor = torch.fft.irfft(spectrum, size, norm="ortho")
        return signal[..., :length]

    def _plans_of(self, size: int, device: torch.device) -> list[_Plan]:
        if (size, device) not in self._plans:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[size, device] = self._make_plans(size, device)
        return self._plans[size, device]

    def _make_plans(self, size: int, device: torch.device) -> list[_Plan]:
        plans = []
        for number, hop in enumerate(self.hops):
            first = self.bands * (self.octaves - number)  # of the grid, in order of frequency
            bands = [self._window(band, size, size // hop) for band in range(first, first + self.bands)]
            bins, windows = zip(*bands, strict=True)
            plans.append(_Plan(torch.cat(bins).to(device), torch.stack(windows).float().to(device)))
        return plans

    def _window(self, band: int, size: int, frames: int) -> tuple[Tensor, Tensor]:
        """Return the bins of a band in the order of its shifted spectrum, and its window at them, both ``[frames]``."""
        centre = self._centres[band]
        below = self._centres[band - 1] if band else -self._centres[1]
        start = math.floor(max(below, 0) * size / self.sample_rate) + (below >= 0)
        index = start + (torch.arange(frames) - start + round(centre * size / self.sample_rate)) % frames
        frequencies = index.double() * self.sample_rate / size
        window = _slope((frequencies - below) / (centre - below))
        if band + 1 < len(self._centres):
            above = self._centres[band + 1]
            window = torch.where(frequencies < centre, window, _slope((above - frequencies) / (above - centre)))
        last = size // 2
        return index.clamp(max=last), torch.where(index <= last, window, 0)


class _Plan(NamedTuple):
    """The part of a spectrum that a grid consists of.

    Attributes:
        bins: of the spectrum, ``[bands * frames]``.
        window: ``[bands, frames]``.
    """

    bins: Tensor
    window: Tensor


def _slope(position: Tensor) -> Tensor:
    """Return a window that rises from 0 at 0 to 1 at 1, with ``slope(x)^2 + slope(1 - x)^2 = 1``."""
    return torch.sin(math.pi / 2 * torch.sin(math.pi / 2 * position.clamp(0, 1)).square())
