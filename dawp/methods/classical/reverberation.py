"""Classical methods against reverberation."""

from __future__ import annotations

import torch
from torch import Tensor

from dawp.dsp.dereverberation import dereverberate
from dawp.errors import BadInput
from dawp.methods.classical import deconvolution
from dawp.operators.convolution import Convolution
from dawp.problem import Problem

WPE_SIZE, WPE_SHIFT, WPE_TAPS, WPE_DELAY, WPE_ITERATIONS = 1024, 256, 10, 2, 5


def wpe(problem: Problem) -> Tensor:
    """Weighted prediction error (Nakatani et al. 2010) for one channel, by the package nara_wpe."""
    from nara_wpe.utils import istft, stft
    from nara_wpe.wpe import wpe as predict_and_subtract

    observed = problem.observed.double().numpy()
    spectrum = stft(observed, size=WPE_SIZE, shift=WPE_SHIFT)  # (frames, bins)
    drier = predict_and_subtract(spectrum.T[:, None], taps=WPE_TAPS, delay=WPE_DELAY, iterations=WPE_ITERATIONS)
    return torch.from_numpy(istft(drier[:, 0].T, size=WPE_SIZE, shift=WPE_SHIFT)[: len(observed)])


def wpe_long(problem: Problem) -> Tensor:
    """Weighted prediction error with long filters and a check of the result (``dsp.dereverberation``)."""
    return _dereverberate(problem, suppress=False)


def late_suppression(problem: Problem) -> Tensor:
    """Suppression of the late reverberation with a check of the result (``dsp.dereverberation``)."""
    return _dereverberate(problem, predict=False)


def wpe_late(problem: Problem) -> Tensor:
    """Weighted prediction error, then the gain of a convolutive factorisation (``dsp.dereverberation``)."""
    return _dereverberate(problem)


def _dereverberate(problem: Problem, predict: bool = True, suppress: bool = True) -> Tensor:
    """Return the estimate of ``dsp.dereverberation.dereverberate`` for the observed channel."""
    channels = problem.observed[None]
    if problem.others is not None:
        channels = torch.cat([channels, problem.others])
    return dereverberate(channels, problem.sample_rate, predict, suppress, problem.joint_channels)[0]


def least_squares(problem: Problem) -> Tensor:
    """Invert a known room by regularised least squares (``deconvolution.least_squares``)."""
    return deconvolution.least_squares(problem.observed, _convolution(problem), problem.sample_rate)


def inverse_filter(problem: Problem) -> Tensor:
    """Invert a known room by a regularised inverse filter (``deconvolution.inverse_filter``)."""
    return deconvolution.inverse_filter(problem.observed, _convolution(problem), problem.sample_rate)


def _convolution(problem: Problem) -> Convolution:
    if not isinstance(problem.operator, Convolution):
        raise BadInput("rir must be the impulse response of the room, got none")
    return problem.operator
