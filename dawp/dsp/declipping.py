"""Declipping: sparse approximation consistent with the clipped samples.

All methods keep the reliable samples and bound the clipped ones by the observation (`Clipping.project`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from dawp.operators.clipping import Clipping

SOCIAL_WINDOWS, SOCIAL_OVERLAP = (0.0929, 0.1858), 4  # seconds, and windows that each sample lies in
SOCIAL_NEIGHBOURHOOD = (3, 3)  # bins and frames whose energy decides on a coefficient
FIRST_THRESHOLD, LAST_THRESHOLD, THRESHOLDS = 0.1, 1e-4, 20  # relative to the largest coefficient
ROUNDS, MOMENTUM = 10, 0.9  # iterations for each threshold

SPADE_WINDOW, SPADE_OVERLAP, SPADE_REDUNDANCY = 0.0929, 4, 2
SPADE_TOLERANCE = 0.03  # relative residual at which a frame is done
SPADE_ITERATIONS = 512  # at most; after them all coefficients are kept
SPADE_WEIGHT = 1 / 3  # maximum weight in the mean with social sparsity
DISAGREEMENT = 24.0  # squared distance of A-SPADE from social sparsity, relative to that of its windows, at half weight
MAX_EXTENSION = 0.3  # of the part beyond the clipping level
LITTLE = 0.3  # power beyond the clipping level, relative to social sparsity, at half weight
POWER_SECONDS = 0.2  # over which powers and distances are averaged
SPADE_BATCH = 512  # frames solved together


class _Frame(NamedTuple):
    """A Parseval tight Gabor frame: synthesis is the adjoint of analysis, and inverts it."""

    size: int
    hop: int
    window: Tensor
    length: int

    @classmethod
    def of(cls, length: int, sample_rate: int, seconds: float, overlap: int) -> _Frame:
        hop = max(4, round(seconds * sample_rate / overlap))
        size = hop * overlap
        return cls(size, hop, torch.hann_window(size, dtype=torch.float64).float(), length)

    def analyse(self, x: Tensor) -> Tensor:
        """Coefficients ``[bins, frames]`` of a signal ``[T]``."""
        padded = F.pad(x, (self.size, self.size + (-self.length) % self.hop))
        spectrum: Tensor = torch.stft(
            padded, self.size, self.hop, window=self._scaled(), center=False, return_complex=True, normalized=False
        )
        return spectrum

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Signal ``[T]`` of coefficients ``[bins, frames]``."""
        frames = torch.fft.irfft(coefficients, self.size, dim=0) * (self._scaled() * self.size)[:, None]
        total = self.hop * (frames.shape[1] - 1) + self.size
        summed = F.fold(frames[None], (1, total), (1, self.size), stride=(1, self.hop))
        return summed.flatten()[self.size : self.size + self.length]

    def _scaled(self) -> Tensor:
        # A discrete Fourier transform multiplies the energy by its size, and the shifts overlap.
        return self.window / math.sqrt(float(self.window.square().sum()) / self.hop * self.size)


def social_sparsity(observed: Tensor, operator: Clipping, sample_rate: int) -> Tensor:
    """Declip by structured sparsity: the persistent empirical Wiener shrinkage of Gabor frames.

    The mean of the estimates with windows of 93 ms, which suit speech, and of 186 ms, which suit music. Each
    minimises ``1/2 |M_r (y - D z)|² + 1/2 |h(M_c (y - D z))|² + R(z)`` over coefficients z by accelerated iterative
    thresholding, with a threshold that falls from 0.1 to 1e-4 of the largest coefficient. M_r are the reliable samples
    y, h the hinge that penalises clipped samples below the clipping level. A coefficient is scaled by
    ``max(0, 1 - (threshold² / energy of its neighbourhood))``.

    Args:
        observed: ``[T]``.
        operator: the clipped samples.
        sample_rate: in Hz.

    Returns:
        ``[T]``.

    Source:
        Siedenburg, Kowalski and Dörfler, Audio declipping with social sparsity, ICASSP 2014; Záviška, Rajmic, Ozerov
        and Rencker, A survey and an extensive evaluation of popular audio declipping methods, IEEE JSTSP 2021.
    """
    if not operator.clipped.any():
        return observed
    return operator.project(_with_each_window(observed, operator, sample_rate).mean(dim=0), observed)


def _with_each_window(observed: Tensor, operator: Clipping, sample_rate: int) -> Tensor:
    """Return the estimates ``[windows, T]`` of social sparsity with each of its windows."""
    peak = float(observed.abs().max())
    frames = [_Frame.of(len(observed), sample_rate, window, SOCIAL_OVERLAP) for window in SOCIAL_WINDOWS]
    return torch.stack([_social_sparsity(observed / peak, operator, frame) for frame in frames]) * peak


def _social_sparsity(target: Tensor, operator: Clipping, frame: _Frame) -> Tensor:
    """Return the estimate ``[T]`` of a clipped signal with a peak of 1 ``[T]`` with one frame."""
    before = frame.analyse(target)
    momentum = before
    largest = float(before.abs().max())
    for threshold in torch.logspace(math.log10(FIRST_THRESHOLD), math.log10(LAST_THRESHOLD), THRESHOLDS).tolist():
        for _ in range(ROUNDS):
            signal = frame.synthesise(momentum)
            step = momentum + frame.analyse(operator.project(signal, target) - signal)
            shrunk = _shrink(step, threshold * largest)
            momentum = shrunk + MOMENTUM * (shrunk - before)
            before = shrunk
    return operator.project(frame.synthesise(before), target)


def _shrink(coefficients: Tensor, threshold: float) -> Tensor:
    """Persistent empirical Wiener shrinkage of coefficients ``[bins, frames]``."""
    power = coefficients.real.square() + coefficients.imag.square()
    bins, frames = SOCIAL_NEIGHBOURHOOD
    energy = F.avg_pool2d(power[None, None], (bins, frames), 1, (bins // 2, frames // 2))[0, 0]
    return coefficients * (1 - threshold**2 / energy.clamp(min=1e-30)).clamp(min=0)


def a_spade(observed: Tensor, operator: Clipping, sample_rate: int) -> Tensor:
    """Declip by analysis sparsity: in each frame, the sparsest spectrum consistent with the samples.

    Solves ``min |z|_0 with |A x - z| <= e`` for each windowed frame x that is consistent with the observation, by
    alternating projections with a multiplier; the number of coefficients that z keeps grows by 1/512 of the spectrum in
    each iteration. The frames are weighted by the window again before they are added.

    Args:
        observed: ``[T]``.
        operator: the clipped samples.
        sample_rate: in Hz.

    Returns:
        ``[T]``.

    Source:
        Kitić, Bertin and Gribonval, Sparsity and cosparsity for audio declipping: a flexible non-convex approach,
        LVA/ICA 2015, algorithm 1.
    """
    if not operator.clipped.any():
        return observed
    hop = max(4, round(SPADE_WINDOW * sample_rate / SPADE_OVERLAP))
    size = hop * SPADE_OVERLAP
    window = torch.hann_window(size)
    padding = (size, size + (-len(observed)) % hop)

    def cut(x: Tensor) -> Tensor:
        return F.pad(x, padding).unfold(0, size, hop)

    frames = cut(observed) * window
    above, below = cut(operator.above.float()) > 0, cut(operator.below.float()) > 0
    affected = (above | below).any(dim=1).nonzero()[:, 0]
    for chosen in torch.split(affected, SPADE_BATCH):
        frames[chosen] = _spade(frames[chosen], above[chosen], below[chosen])
    total = hop * (len(frames) - 1) + size
    summed = F.fold((frames * window).T[None], (1, total), (1, size), stride=(1, hop)).flatten()
    estimate = summed[size : size + len(observed)] / (float(window.square().sum()) / hop)
    return operator.project(estimate, observed)


def sparse_mean(observed: Tensor, operator: Clipping, sample_rate: int) -> Tensor:
    """Return the weighted mean ``[T]`` of social sparsity and A-SPADE, whose errors differ.

    The weight of A-SPADE is 1/3 where it is plausible. It is lower where A-SPADE is far from social sparsity although
    both windows of social sparsity agree, and where it puts little power beyond the clipping level: with no sparse
    spectrum it leaves the clipped samples as they are.

    The mean of estimates that differ has too little power, so the part beyond the clipping level is multiplied by 1
    plus the squared distance of the windows of social sparsity, relative to that part.

    Arguments and result are those of `social_sparsity`.
    """
    from scipy.ndimage import uniform_filter1d

    if not operator.clipped.any():
        return observed
    estimates = _with_each_window(observed, operator, sample_rate)
    social, spade = operator.project(estimates.mean(dim=0), observed), a_spade(observed, operator, sample_rate)
    smallest = 1e-12 * float(observed.double().square().max())  # above the rounding errors of the running mean

    def power(x: Tensor) -> Tensor:
        size = max(1, round(POWER_SECONDS * sample_rate))
        return torch.from_numpy(uniform_filter1d(x.double().square().numpy(), size)).clamp(min=smallest)

    windows_apart = power(torch.sub(*operator.project(estimates, observed)))
    apart = power(spade - social) / windows_apart
    beyond = power(spade - observed) / power(social - observed)
    weight = SPADE_WEIGHT / (1 + (apart / DISAGREEMENT) ** 2) / (1 + (LITTLE / beyond) ** 2)
    excess = torch.lerp(social, spade, weight.to(observed.dtype)) - observed
    extension = (windows_apart / power(excess)).clamp(max=MAX_EXTENSION)
    return operator.project(observed + (1 + extension.to(observed.dtype)) * excess, observed)


def _spade(frames: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """A-SPADE of frames ``[F, N]`` with their clipped samples ``[F, N]``."""
    size = frames.shape[1]
    long = SPADE_REDUNDANCY * size
    scale = math.sqrt(long)
    result = frames.clone()
    active = torch.arange(len(frames))
    x, dual = frames.clone(), torch.zeros(len(frames), long // 2 + 1, dtype=torch.complex64)
    step = math.ceil((long // 2 + 1) / SPADE_ITERATIONS)
    for kept in range(1, long // 2 + 2, step):
        spectrum = torch.fft.rfft(x, long) / scale
        wanted = spectrum + dual
        magnitude = wanted.abs()
        lowest = magnitude.topk(kept, dim=1).values[:, -1:]
        sparse = torch.where(magnitude >= lowest, wanted, 0)
        y, up, down = frames[active], above[active], below[active]
        free = torch.fft.irfft(sparse - dual, long)[:, :size] * scale
        x = torch.where(up, torch.maximum(free, y), torch.where(down, torch.minimum(free, y), y))
        residual = torch.fft.rfft(x, long) / scale - sparse
        dual = dual + residual
        done = residual.abs().square().sum(1).sqrt() <= SPADE_TOLERANCE * x.square().sum(1).sqrt()
        if done.any():
            result[active[done]] = x[done]
            keep = ~done
            active, x, dual = active[keep], x[keep], dual[keep]
            if not len(active):
                return result
    result[active] = x
    return result
