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

SOCIAL_FRAMES = (  # seconds of a window, bins and frames whose energy decides on a coefficient, momentum
    (0.0464, (3, 3), 0.95),
    (0.0929, (3, 3), 0.95),
    (0.1858, (3, 7), 0.97),
)
SOCIAL_OVERLAP = 4  # windows that each sample lies in
FIRST_THRESHOLD, LAST_THRESHOLD, THRESHOLDS = 0.1, 1e-4, 20  # relative to the largest coefficient
ROUNDS = 20  # iterations for each threshold

PSEUDO_LEVEL = 0.7  # of the clipping level: the reliable samples between are clipped to weight the estimates
CONFIDENCE = 2  # power of the inverse mean squared error that weights an estimate
MAX_EXTENSION = 0.4  # of the part beyond the clipping level
STEEPNESS = 16  # of the weight of the autoregressive estimate, as a power of its relative power
POWER_SECONDS = 0.2  # over which powers are averaged

SPADE_WINDOW, SPADE_OVERLAP, SPADE_REDUNDANCY = 0.0929, 4, 2
SPADE_TOLERANCE = 0.03  # relative residual at which a frame is done
SPADE_ITERATIONS = 512  # at most; after them all coefficients are kept
SPADE_BATCH = 512  # frames solved together


class _Frame(NamedTuple):
    """A Parseval tight Gabor frame: synthesis is the adjoint of analysis, and inverts it."""

    window: Tensor  # [size]
    overlap: int  # windows that each sample lies in
    length: int

    @classmethod
    def of(cls, length: int, sample_rate: int, seconds: float, overlap: int) -> _Frame:
        from scipy.fft import next_fast_len

        size = overlap * next_fast_len(max(4, round(seconds * sample_rate / overlap)), real=True)
        window = torch.hann_window(size, dtype=torch.float64)
        return cls((window / (window.square().sum() * overlap / size).sqrt()).float(), overlap, length)

    def analyse(self, x: Tensor) -> Tensor:
        """Coefficients ``[frames, bins]`` of a signal ``[T]``."""
        size, hop = len(self.window), len(self.window) // self.overlap
        padded = F.pad(x, (size - hop, size - hop + (-self.length) % hop))
        coefficients: Tensor = torch.fft.rfft(padded.unfold(0, size, hop) * self.window, norm="ortho")
        return coefficients

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Signal ``[T]`` of coefficients ``[frames, bins]``."""
        size, hop, count = len(self.window), len(self.window) // self.overlap, len(coefficients)
        parts = (torch.fft.irfft(coefficients, size, norm="ortho") * self.window).view(count, self.overlap, hop)
        summed = parts.new_zeros(count + self.overlap - 1, hop)
        for part in range(self.overlap):
            summed[part : part + count] += parts[:, part]
        signal: Tensor = summed.flatten()[size - hop : size - hop + self.length]
        return signal


def social_sparsity(observed: Tensor, operator: Clipping, sample_rate: int) -> Tensor:
    """Declip by structured sparsity: the persistent empirical Wiener shrinkage of Gabor frames.

    The mean of the estimates with windows of 46 and 93 ms, which suit speech, and of 186 ms, which suit music. Each
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
    estimates = []
    for seconds, neighbourhood, momentum in SOCIAL_FRAMES:
        frame = _Frame.of(len(observed), sample_rate, seconds, SOCIAL_OVERLAP)
        estimates.append(_social_sparsity(observed / peak, operator, frame, neighbourhood, momentum))
    return torch.stack(estimates) * peak


def _social_sparsity(
    target: Tensor, operator: Clipping, frame: _Frame, neighbourhood: tuple[int, int], momentum: float
) -> Tensor:
    """Return the estimate ``[T]`` of a clipped signal with a peak of 1 ``[T]`` with one frame."""
    before = frame.analyse(target)
    ahead = before.clone()
    largest = float(before.abs().max())
    for threshold in torch.logspace(math.log10(FIRST_THRESHOLD), math.log10(LAST_THRESHOLD), THRESHOLDS).tolist():
        for _ in range(ROUNDS):
            signal = frame.synthesise(ahead)
            ahead += frame.analyse(operator.project(signal, target) - signal)
            shrunk = _shrink(ahead, threshold * largest, neighbourhood)
            ahead = (shrunk * (1 + momentum)).sub_(before, alpha=momentum)
            before = shrunk
    return operator.project(frame.synthesise(before), target)


def _shrink(coefficients: Tensor, threshold: float, neighbourhood: tuple[int, int]) -> Tensor:
    """Persistent empirical Wiener shrinkage of coefficients ``[frames, bins]``."""
    bins, frames = neighbourhood
    parts = torch.view_as_real(coefficients)
    energy = _sum_of_neighbours(_sum_of_neighbours(parts.square().sum(dim=2), bins, 1), frames, 0)
    scale = energy.clamp_(min=1e-30).reciprocal_().mul_(-bins * frames * threshold**2).add_(1).clamp_(min=0)
    return torch.view_as_complex(parts * scale[..., None])


def _sum_of_neighbours(x: Tensor, size: int, dim: int) -> Tensor:
    """Running sums of an odd number of elements of a tensor along a dimension."""
    length, total = x.shape[dim], x.clone()
    for distance in range(1, min(size // 2, length - 1) + 1):
        total.narrow(dim, 0, length - distance).add_(x.narrow(dim, distance, length - distance))
        total.narrow(dim, distance, length - distance).add_(x.narrow(dim, 0, length - distance))
    return total


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
    """Declip by the weighted mean of sparse estimates, or by autoregression where it predicts larger peaks.

    The estimates are those of social sparsity with each window, and A-SPADE. The recording is clipped again at 0.7 of
    its clipping level and declipped by each method. The weight of a method is the inverse square of its mean squared
    error at the samples between the levels, which are known, divided by the mean squared distance of its estimate from
    the others.

    The mean of estimates that differ has too little power, so the part beyond the clipping level is multiplied by 1
    plus the variance of the estimates, relative to the power of that part.

    A method that finds no model of the signal leaves the clipped samples near the clipping level. So `ar_frames`
    replaces the mean where it puts more power beyond the clipping level, as it does in rich voices.

    Arguments and result are those of `social_sparsity`.
    """
    from scipy.ndimage import uniform_filter1d

    from dawp.dsp.gaps import ar_frames

    if not operator.clipped.any():
        return observed
    smallest = 1e-12 * float(observed.double().square().max())  # above the rounding errors of the running mean

    def power(squares: Tensor) -> Tensor:
        size = max(1, round(POWER_SECONDS * sample_rate))
        return torch.from_numpy(uniform_filter1d(squares.double().numpy(), size)).clamp(min=smallest)

    estimates = _sparse_estimates(observed, operator, sample_rate)
    weights = _weights(estimates, observed, operator, sample_rate)[:, None]
    mean = (weights * estimates).sum(dim=0)
    excess = mean - observed
    variance = (weights * (estimates - mean).square()).sum(dim=0)
    extension = (power(variance) / power(excess.square())).clamp(max=MAX_EXTENSION)
    result = observed + (1 + extension.to(observed.dtype)) * excess
    if not operator.clipped.all():
        predicted = operator.project(ar_frames(observed, ~operator.clipped, sample_rate), observed)
        ratio = power((predicted - observed).square()) / power(excess.square())
        result = torch.lerp(result, predicted, torch.sigmoid(STEEPNESS * ratio.log()).to(observed.dtype))
    return operator.project(result, observed)


def _sparse_estimates(observed: Tensor, operator: Clipping, sample_rate: int) -> Tensor:
    """Return the estimates ``[windows + 1, T]`` of social sparsity with each window, and of A-SPADE."""
    windows = _with_each_window(observed, operator, sample_rate)
    return torch.cat([windows, a_spade(observed, operator, sample_rate)[None]])


def _weights(estimates: Tensor, observed: Tensor, operator: Clipping, sample_rate: int) -> Tensor:
    """Weights ``[K]`` of estimates ``[K, T]`` by the errors of their methods at samples that are clipped again."""
    high = PSEUDO_LEVEL * float(observed[operator.above].min()) if operator.above.any() else math.inf
    low = PSEUDO_LEVEL * float(observed[operator.below].max()) if operator.below.any() else -math.inf
    again = type(operator)(operator.above | (observed > high), operator.below | (observed < low))
    known = again.clipped & ~operator.clipped
    peak = float(observed.abs().max())
    weights = _mean_squares((estimates[:, None] - estimates) / peak).sum(dim=1).reciprocal()
    if known.any():
        errors = _sparse_estimates(observed.clamp(low, high), again, sample_rate) - observed
        weights *= _mean_squares(errors[:, known] / peak) ** -CONFIDENCE
    return (weights / weights.sum()).to(observed.dtype)


def _mean_squares(x: Tensor) -> Tensor:
    """Mean squares along the last dimension, at least those of rounding errors of a signal with a peak of 1."""
    return x.square().mean(dim=-1).double().clamp(min=1e-12)


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
