"""The estimate ``mask``: a spectral gain applied to the output of the network and the noisy clip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from dawp.dsp.noise import estimate_noise, track_noise
from dawp.dsp.spectral import analyse, frame_hop, mask

if TYPE_CHECKING:
    from dawp.methods.deep_prior.stopping.settings import StopConfig
    from dawp.problem import Problem

MAX_NOISE_WITHOUT_FIT = 10 ** (-25 / 10)  # power relative to the clip's


def apply_mask(problem: Problem, output: Tensor, config: StopConfig) -> Tensor:
    """Return the estimate ``[T]`` of a noisy clip and an output ``[T]`` of the network fitted to it."""
    rate = problem.sample_rate
    observed = problem.observed.cpu()
    noise = estimate_noise(observed, rate) if problem.noise is None else problem.noise.numpy()
    frame_seconds = frame_hop(len(output), rate) / rate
    noise_of_output = track_noise(np.abs(analyse(output, rate)) ** 2, frame_seconds)
    return mask(observed, output.cpu(), rate, config.mask_floor, noise, noise_of_output)


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
