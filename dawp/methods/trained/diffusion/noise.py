"""The distance of a noisy observation, by the spectrum of the noise or by recordings of it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from dawp.dsp.noise import estimate_noise
from dawp.dsp.spectral import OVERLAP, frame_hop
from dawp.methods.trained.diffusion.sampler import Guidance
from dawp.methods.trained.diffusion.settings import DiffusionConfig
from dawp.problem import Problem
from dawp.simulate.records import read_surface_noise

SEGMENTS = 16  # of the noise recordings that are drawn
REGION_HZ, REGION_SECONDS = 250.0, 0.064  # over which the power is averaged


def spectral_distance(problem: Problem, level: float) -> Guidance:
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


def recorded_distance(
    problem: Problem, level: float, source: Path, config: DiffusionConfig, rng: torch.Generator
) -> Guidance:
    """Return the squared distance of expected clips ``[N, T]`` and a noisy clip y, with noise n from recordings.

    The distance is ``mean (y - x - g n)^2`` with another segment n in each call. The gain g is that of the settings, or
    the root of the power of the quietest window of y relative to the mean power of the segments.

    Args:
        problem: the noisy clip.
        level: by which the expected clips are divided.
        source: sound file of the noise, or folder of them.
        config: ``noise_recordings_gain`` and ``power_window``.
        rng: draws the segments.

    Raises:
        BadInput: the recordings cannot be read.
    """
    observed, rate = problem.observed.float(), problem.sample_rate
    drawn = [read_surface_noise(source, len(observed), rate, rng)[0] for _ in range(SEGMENTS)]
    noise = torch.stack(drawn).float().to(observed.device)
    gain = config.noise_recordings_gain or noise_gain(observed, noise, round(config.power_window * rate))

    def distance(expected: Tensor) -> Tensor:
        segment = noise[int(torch.randint(SEGMENTS, (), generator=rng))]
        errors: Tensor = (observed - gain * segment) / level - expected
        return errors.square().mean()

    return distance


def noise_gain(observed: Tensor, noise: Tensor, window: int) -> float:
    """Return the root of the power of the quietest window of a clip, relative to the mean power of the noise.

    Args:
        observed: ``[T]``.
        noise: ``[N, T]``.
        window: samples of a window; a shorter clip is one window.
    """
    size = max(1, min(window, len(observed)))
    powers = observed[: len(observed) // size * size].view(-1, size).square().mean(dim=1)
    return float((powers.min() / noise.square().mean()).sqrt())
