"""The distance of a noisy observation: the difference may have the power of the noise, in each part of the spectrum."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dawp.dsp.noise import estimate_noise
from dawp.dsp.spectral import OVERLAP, frame_hop
from dawp.methods.trained.diffusion.sampler import Guidance
from dawp.problem import Problem

REGION_HZ, REGION_SECONDS = 250.0, 0.064  # over which the power is averaged


def noise_distance(problem: Problem, level: float) -> Guidance:
    """Return the distance of expected clips ``[N, T]`` and a noisy clip.

    With R the power of the STFT of the difference, relative to the estimated power of the noise and averaged over 250
    Hz and 64 ms, the distance is ``mean max(R - 1, 0)``: it is 0 if the difference has at most the power of the noise.

    Args:
        problem: the noisy clip, and the power of the noise if it is known.
        level: by which the expected clips are divided.
    """
    observed, rate = problem.observed.float(), problem.sample_rate
    noise = problem.noise
    if noise is None:
        noise = torch.from_numpy(estimate_noise(problem.observed, rate))
    hop = frame_hop(len(observed), rate)
    window = torch.hann_window(OVERLAP * hop, device=observed.device)
    weights = (level**2 / noise.float()).to(observed.device)
    size = tuple(
        2 * round(extent / step / 2) + 1
        for extent, step in ((REGION_HZ, rate / len(window)), (REGION_SECONDS, hop / rate))
    )
    size = tuple(min(one, 2 * ((shape - 1) // 2) + 1) for one, shape in zip(size, weights.shape, strict=True))

    def distance(expected: Tensor) -> Tensor:
        spectrum = torch.stft(observed / level - expected, len(window), hop, window=window, return_complex=True)
        ratio = (spectrum.real.square() + spectrum.imag.square()) * weights
        mean = F.avg_pool2d(ratio[:, None], size, 1, [one // 2 for one in size], count_include_pad=False)
        return (mean - 1).clamp(min=0).mean()

    return distance
