"""The metrics, as pure functions of an estimate and its target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dawp.errors import BadInput
from dawp.io.audio import resample
from dawp.metrics.base import UndefinedMetric
from dawp.metrics.dnsmos import RATE as DNSMOS_RATE
from dawp.metrics.pesq_process import pesq_score

LONGEST_PESQ = 19.0
"""Seconds. The pesq package crashes the process beyond 50 utterances, which last at least 0.4 s each."""

LSD_HOP_SECONDS, LSD_OVERLAP = 0.01, 4  # frames of 40 ms
LSD_FLOOR = 2.0**-30 / 12
"""Power of the quantisation noise of 16 bits. Differences below it do not count."""


def si_snr(estimate: Tensor, target: Tensor, zero_mean: bool = False) -> Tensor:
    """Scale-invariant signal-to-noise ratio in dB (paper eq. 1):

        10 log10( |a t|^2 / |e - a t|^2 ),   a = <e, t> / |t|^2

    Args:
        estimate: e ``[..., T]``.
        target: t, of the same shape.
        zero_mean: subtract both means first.

    Returns:
        ``[...]``; NaN for a silent target or estimate and for a single sample, where the ratio is not defined.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> si_snr(torch.tensor([2.0, 2.0, 0.0]), torch.tensor([1.0, 1.0, 1.0]))
        tensor(3.0103)
    """
    _check_shapes(estimate, target)
    if zero_mean:
        estimate = estimate - estimate.mean(dim=-1, keepdim=True)
        target = target - target.mean(dim=-1, keepdim=True)
    scale = (estimate * target).sum(dim=-1, keepdim=True) / target.square().sum(dim=-1, keepdim=True)
    projection = scale * target
    if target.shape[-1] == 1:
        projection = projection * torch.nan
    return 10 * torch.log10(projection.square().sum(dim=-1) / (estimate - projection).square().sum(dim=-1))


def psnr(estimate: Tensor, target: Tensor, data_range: float | None = 2.0) -> Tensor:
    """Peak signal-to-noise ratio in dB: ``10 log10( R^2 / mean |e - t|^2 )`` (paper eq. 2).

    Args:
        estimate: e ``[..., T]``.
        target: t, of the same shape.
        data_range: R; 2, the range of full-scale audio, as in the paper's code; None for the target's maximum
            minus its minimum, as in the paper's text.

    Returns:
        ``[...]``.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(estimate, target)
    span = data_range if data_range is not None else target.amax(dim=-1) - target.amin(dim=-1)
    mse = (estimate - target).square().mean(dim=-1)
    return 10 * torch.log10(span**2 / mse)


def snr(estimate: Tensor, target: Tensor, selected: Tensor | None = None) -> Tensor:
    """Signal-to-noise ratio in dB: ``10 log10( |t|^2 / |e - t|^2 )``, without scaling.

    It is also called signal-to-distortion ratio (SDR).

    Args:
        estimate: e ``[..., T]``.
        target: t, of the same shape.
        selected: bool ``[T]``, the samples to sum over; None for all.

    Returns:
        ``[...]``; NaN for a target without power in the selected samples.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(estimate, target)
    if selected is not None:
        estimate, target = estimate[..., selected], target[..., selected]
    power = target.square().sum(dim=-1)
    ratio = 10 * torch.log10(power / (estimate - target).square().sum(dim=-1))
    return torch.where(power > 0, ratio, torch.nan)


def lsd(estimate: Tensor, target: Tensor, sample_rate: int, above: float = 0.0) -> Tensor:
    """Log-spectral distance in dB (Gray and Markel, Distance measures for speech processing, 1976).

        mean over frames of sqrt( mean over bins of (10 log10 P_e - 10 log10 P_t)^2 )

    P is the power spectrum of a frame of 40 ms with a Hann window, divided by the energy of the window, and at least
    the noise of 16 bits. Values in the literature on bandwidth extension are a tenth of this if they use ``log10 P``
    without the factor 10.

    Args:
        estimate: e ``[..., T]``.
        target: t, of the same shape.
        sample_rate: in Hz.
        above: use the bins from this frequency in Hz up.

    Returns:
        ``[...]``; NaN if no bin is above that frequency.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(estimate, target)
    length = estimate.shape[-1]
    hop = max(1, min(round(LSD_HOP_SECONDS * sample_rate), length // LSD_OVERLAP))
    window = torch.hann_window(LSD_OVERLAP * hop, dtype=estimate.dtype, device=estimate.device)
    first = above * len(window) / sample_rate
    if first > len(window) // 2:
        return torch.full(estimate.shape[:-1], torch.nan, dtype=estimate.dtype, device=estimate.device)

    def decibels(waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, (0, max(0, len(window) - length))).reshape(-1, max(length, len(window)))
        spectrum = torch.stft(padded, len(window), hop, window=window, center=False, return_complex=True)
        power = spectrum[:, math.ceil(first) :].abs().square() / window.square().sum()
        return 10 * torch.log10(power.clamp(min=LSD_FLOOR))

    difference = decibels(estimate) - decibels(target)
    return difference.square().mean(dim=1).sqrt().mean(dim=1).reshape(estimate.shape[:-1])


def gap_windows(gaps: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The places ``[n, length]`` of the samples in gaps (first sample and the one after the last), by their length."""
    by_length: dict[int, list[int]] = {}
    for start, stop in gaps:
        by_length.setdefault(stop - start, []).append(start)
    return [torch.tensor(starts)[:, None] + torch.arange(length) for length, starts in by_length.items()]


def over_gaps(
    metric: Callable[[Tensor, Tensor], Tensor], estimate: Tensor, target: Tensor, windows: Sequence[Tensor]
) -> Tensor:
    """Compute a metric on the gaps alone: its mean over the gaps, each as a separate signal (paper Table 2).

    Args:
        metric: of an estimate and a target ``[..., T]``.
        estimate: ``[..., T]``.
        target: of the same shape.
        windows: where the gaps are (``gap_windows``).

    Returns:
        ``[...]``; NaN if the metric of any gap is NaN, such as SI-SNR for a gap filled with zeros.
    """
    values = [metric(estimate[..., window], target[..., window]) for window in windows]
    return torch.cat(values, dim=-1).mean(dim=-1)


def pesq(estimate: Tensor, target: Tensor, sample_rate: int, strict: bool = False) -> Tensor:
    """Perceptual evaluation of speech quality, MOS-LQO, by the ``pesq`` package (ITU-T P.862, P.862.2).

    Wide band at 16 kHz, narrow band at 8 kHz; any other rate is resampled to 16 kHz first.

    Args:
        estimate: ``[..., T]``.
        target: of the same shape.
        sample_rate: in Hz.
        strict: raise UndefinedMetric, with the reason, where PESQ is not defined (no utterance found, too short or too
            long, silence), instead of returning NaN.

    Returns:
        ``[...]``, float64, on the CPU.

    Raises:
        ValueError: the shapes differ.
    """
    _check_shapes(estimate, target)
    length = estimate.shape[-1]
    values = []
    for one_estimate, one_target in zip(estimate.reshape(-1, length), target.reshape(-1, length), strict=True):
        try:
            values.append(_pesq(*for_pesq(one_estimate, one_target, sample_rate)))
        except UndefinedMetric:
            if strict:
                raise
            values.append(float("nan"))
    return torch.tensor(values, dtype=torch.float64).reshape(estimate.shape[:-1])


def for_pesq(estimate: Tensor, target: Tensor, sample_rate: int) -> tuple[Tensor, Tensor, int]:
    """An estimate and a target ``[T]`` on the CPU, at a rate that PESQ is defined for, and that rate.

    Raises:
        UndefinedMetric: it cannot be computed for these.
        ValueError: the shapes differ.
    """
    _check_shapes(estimate, target)
    estimate, target = estimate.detach().cpu(), target.detach().cpu()
    if sample_rate not in (8000, 16000):
        try:
            estimate, target = resample(estimate, sample_rate, 16000), resample(target, sample_rate, 16000)
        except BadInput as refusal:
            raise UndefinedMetric(str(refusal)) from None
        sample_rate = 16000
    if not (estimate.isfinite().all() and estimate.any() and target.any()):
        raise UndefinedMetric("a waveform is silent or not finite")
    if len(target) > LONGEST_PESQ * sample_rate:
        raise UndefinedMetric(f"the clip lasts {len(target) / sample_rate:.1f} s, longer than {LONGEST_PESQ:g} s")
    return estimate, target, sample_rate


def for_dnsmos(estimate: Tensor, target: Tensor, sample_rate: int) -> tuple[Tensor, Tensor, int]:
    """Return an estimate ``[T]`` on the CPU at 16 kHz, twice, and that rate: the target is not used.

    Raises:
        UndefinedMetric: it cannot be computed for this estimate.
    """
    try:
        estimate = resample(estimate.detach().cpu(), sample_rate, DNSMOS_RATE)
    except BadInput as refusal:
        raise UndefinedMetric(str(refusal)) from None
    if not (estimate.isfinite().all() and estimate.any()):
        raise UndefinedMetric("the waveform is silent or not finite")
    return estimate, estimate, DNSMOS_RATE


def _pesq(estimate: Tensor, target: Tensor, sample_rate: int) -> float:
    """PESQ of one pair ``[T]`` at 8 or 16 kHz."""
    try:
        return pesq_score(estimate.numpy(), target.numpy(), sample_rate)
    except ValueError as reason:
        raise UndefinedMetric(str(reason)) from None


def _check_shapes(estimate: Tensor, target: Tensor) -> None:
    if estimate.shape != target.shape or estimate.ndim == 0:
        raise ValueError(f"estimate and target need one shape [..., T], got {[*estimate.shape]} and {[*target.shape]}")
