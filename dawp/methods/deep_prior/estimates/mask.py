"""The estimate ``mask``: spectral gains applied to the output of the network and the noisy clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dawp.dsp import nmf
from dawp.dsp.noise import estimate_noise, track_noise
from dawp.dsp.spectral import analyse, frame_hop, mask

if TYPE_CHECKING:
    from dawp.methods.deep_prior.stopping.settings import StopConfig
    from dawp.problem import Problem

MAX_NOISE_WITHOUT_FIT = 10 ** (-25 / 10)  # power relative to the clip's


def apply_mask(problem: Problem, output: Tensor, config: StopConfig) -> Tensor:
    """Return the estimate ``[T]`` of a noisy clip and an output ``[T]`` of the network fitted to it.

    It is a weighted mean of two estimates: the mask (``spectral.mask``), which uses the output, and
    ``nmf.reduce_noise``, which does not. The weight of the mask is r^2, where r is the fraction of the noise power that
    the output does not contain: r is near 1 for white noise and near 0.1 for most real noise.
    """
    rate = problem.sample_rate
    observed = problem.observed.cpu()
    noise = estimate_noise(observed, rate) if problem.noise is None else problem.noise.numpy()
    frame_seconds = frame_hop(len(output), rate) / rate
    noise_of_output = track_noise(np.abs(analyse(output, rate)) ** 2, frame_seconds)
    masked = mask(observed, output.cpu(), rate, config.mask_floor, noise, noise_of_output)
    factorised = nmf.reduce_noise(observed, rate, noise, floor_db=config.mask_floor)
    reduction = float(np.maximum(noise - noise_of_output, 0).sum() / noise.sum())
    return torch.lerp(factorised, masked, reduction**2)


def mask_without_fit(problem: Problem, config: StopConfig) -> Tensor | None:
    """Return the estimate ``[T]`` of a clip with so little noise that a network does not improve the spectral gain.

    Returns:
        None if the noise is stronger, or not known.
    """
    if problem.noise is None:
        return None
    power = np.abs(analyse(problem.observed, problem.sample_rate)) ** 2
    if problem.noise.sum() > MAX_NOISE_WITHOUT_FIT * power.sum():
        return None
    noise = problem.noise.numpy()
    return mask(problem.observed, problem.observed, problem.sample_rate, config.mask_floor, noise, noise)
