"""Cepstral distance: the difference of the spectral envelopes of an estimate and its target."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dawp.errors import BadInput
from dawp.io.audio import resample
from dawp.metrics.functions import _check_shapes

FRAME_SECONDS, HOP_SECONDS = 0.03, 0.0075
RATE, ORDER = 16000, 16  # other rates are resampled to this one; order of the linear prediction
LOW_RATE, LOW_ORDER = 8000, 10  # or this one
MAX_DISTANCE = 10.0  # dB, of a frame
USED_SHARE = 0.95  # of the frames, those of the smallest distances
WHITE_NOISE = 1e-9  # power added to each frame, relative to its own


def cepstral_distance(estimate: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """Cepstral distance in dB, the mean over frames of

        10 / ln 10 * sqrt( 2 * sum over k = 1 ... p of (c_e(k) - c_t(k))^2 )

    c are the cepstra of linear prediction of order p = 16 at 16 kHz, or 10 at 8 kHz, in Hann windows of 30 ms with a
    hop of 7.5 ms. Other rates are resampled to 16 kHz first. The distance of a frame is at most 10 dB, also where the
    estimate is digital silence. The largest 5 % of the distances, and frames in which the target is digital silence,
    are left out. The level has no influence.

    Args:
        estimate: ``[..., T]``.
        target: of the same shape.
        sample_rate: in Hz.

    Returns:
        ``[...]``; NaN for a silent target or estimate, for less than 30 ms, and at a rate that cannot be resampled.

    Raises:
        ValueError: the shapes differ.

    Source:
        N. Kitawaki, H. Nagabuchi and K. Itoh, "Objective quality evaluation for low-bit-rate speech coding systems",
        IEEE JSAC 6(2), 1988. Frames, limit and share of the frames: Y. Hu and P. Loizou, "Evaluation of objective
        quality measures for speech enhancement", IEEE TASLP 16(1), 2008, section II.
    """
    _check_shapes(estimate, target)
    if sample_rate not in (LOW_RATE, RATE):
        try:
            estimate, target = (resample(waveform, sample_rate, RATE) for waveform in (estimate, target))
        except BadInput:
            return torch.full(estimate.shape[:-1], math.nan, dtype=torch.float64, device=estimate.device)
        sample_rate = RATE
    length = estimate.shape[-1]
    pairs = zip(estimate.reshape(-1, length).double(), target.reshape(-1, length).double(), strict=True)
    values = [_distance(one, other, sample_rate) for one, other in pairs]
    return torch.stack(values).reshape(estimate.shape[:-1])


def _distance(estimate: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """The distance of one pair ``[T]``, a scalar."""
    size, hop = (max(1, round(seconds * sample_rate)) for seconds in (FRAME_SECONDS, HOP_SECONDS))
    if len(target) < size or not (target.any() and estimate.any()):
        return target.new_tensor(math.nan)
    window = torch.hann_window(size, dtype=target.dtype, device=target.device)
    frames = window * torch.stack([estimate, target]).unfold(1, size, hop)
    sounding = frames[1].any(dim=1)
    if not sounding.any():
        return target.new_tensor(math.nan)
    cepstra = lpc_cepstrum(frames[:, sounding], LOW_ORDER if sample_rate == LOW_RATE else ORDER)
    distances = 10 / math.log(10) * (2 * (cepstra[0] - cepstra[1]).square().sum(dim=-1)).sqrt()
    distances = torch.where(frames[0, sounding].any(dim=1), distances, MAX_DISTANCE).clamp(max=MAX_DISTANCE)
    return distances.sort().values[: math.ceil(USED_SHARE * len(distances))].mean()


def lpc_cepstrum(frames: Tensor, order: int) -> Tensor:
    """Return the cepstrum ``c(1) ... c(p)`` of the linear prediction of frames, without the coefficient of the level.

    With A(z) the prediction error filter by the autocorrelation method, c is the cepstrum of 1 / A.

    Args:
        frames: windowed ``[..., N]``.
        order: p, below N.

    Returns:
        ``[..., p]``; 0 for silent frames.
    """
    power = torch.fft.rfft(frames, 2 * frames.shape[-1]).abs().square()
    correlation = torch.fft.irfft(power)[..., : order + 1]
    silent = correlation[..., :1] <= 0
    impulse = torch.zeros_like(correlation)
    impulse[..., 0] = 1
    correlation = torch.where(silent, impulse, correlation)
    correlation[..., 0] *= 1 + WHITE_NOISE
    filters, error = impulse.clone(), correlation[..., 0].clone()
    for stage in range(1, order + 1):  # Levinson and Durbin
        reflection = -(filters[..., :stage] * correlation[..., 1 : stage + 1].flip(-1)).sum(dim=-1) / error
        filters[..., 1 : stage + 1] += reflection[..., None] * filters[..., :stage].flip(-1)
        error = error * (1 - reflection.square())
    cepstrum = torch.zeros_like(filters)
    for index in range(1, order + 1):
        weights = torch.arange(1, index, dtype=frames.dtype, device=frames.device) / index
        earlier = (weights * cepstrum[..., 1:index] * filters[..., 1:index].flip(-1)).sum(dim=-1)
        cepstrum[..., index] = -filters[..., index] - earlier
    return cepstrum[..., 1:]
