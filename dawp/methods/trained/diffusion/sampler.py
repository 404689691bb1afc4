"""Draw signals from a diffusion model, with or without an observation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from dawp.methods.trained.diffusion.edm import Denoiser
from dawp.methods.trained.diffusion.settings import DiffusionConfig
from dawp.operators.base import Operator

RHO = 7  # exponent of the noise levels
MAX_CHURN = math.sqrt(2) - 1  # largest relative increase of the noise level in a step

Guidance = Callable[[Tensor], Tensor]
"""Maps expected clean clips ``[N, T]`` to the distance of their observations, a scalar to minimise."""


def levels(config: DiffusionConfig) -> list[float]:
    """Return the noise levels ``t_0 > ... > t_(N-1) > t_N = 0`` of N steps.

    ``t_i^(1/rho)`` falls linearly from ``sigma_max^(1/rho)`` to ``sigma_min^(1/rho)``, with rho = 7 (Karras et al.
    2022, equation 5).
    """
    first, last = config.sigma_max ** (1 / RHO), config.sigma_min ** (1 / RHO)
    span = max(config.sampling_steps - 1, 1)
    return [(first + i / span * (last - first)) ** RHO for i in range(config.sampling_steps)] + [0.0]


def sample(
    denoiser: Denoiser, start: Tensor, config: DiffusionConfig, rng: torch.Generator, guidance: Guidance | None = None
) -> Tensor:
    """Return signals ``[N, T]`` drawn by the stochastic second-order sampler.

    With ``d = (x - D(x; t)) / t``, each step adds noise to the level ``t' = t (1 + g)``, goes to the next level by
    ``x + (t_next - t') d`` and corrects the step by the mean of both slopes (Heun).

    Args:
        denoiser: D.
        start: ``[N, T]``; the first level of noise is added to it. Zeros for a sample of the prior.
        config: the noise levels, the churn and the weight of the observation.
        rng: draws the noise.
        guidance: the distance of the observation; None for samples of the prior.

    Source:
        Karras et al., Elucidating the design space of diffusion-based generative models, NeurIPS 2022, algorithm 2,
        with S_noise = 1 and no bounds of the levels with churn.
    """

    def draw() -> Tensor:
        return torch.randn(start.shape, generator=rng).to(start)

    churn = min(config.churn / config.sampling_steps, MAX_CHURN)
    x = start + config.sigma_max * draw()
    for level, following in itertools.pairwise(levels(config)):
        raised = level * (1 + churn)
        if churn:
            x = x + math.sqrt(raised**2 - level**2) * draw()
        slope = _slope(denoiser, x, raised, config.xi, guidance)
        moved = x + (following - raised) * slope
        if following:
            slope = (slope + _slope(denoiser, moved, following, config.xi, guidance)) / 2
            moved = x + (following - raised) * slope
        x = moved
    return x


def _slope(denoiser: Denoiser, x: Tensor, level: float, xi: float, guidance: Guidance | None) -> Tensor:
    """Return the slope ``dx / dt`` of the probability flow, with the gradient of the observation.

    With C the distance of the observation, the slope is ``(x - D(x; t)) / t + xi sqrt(T) G / |G|``, where G is the
    gradient of ``C(D(x; t))`` with respect to x: the score of the observation is ``-xi sqrt(T) / (t |G|) G`` (Moliner,
    Lehtinen and Välimäki, ICASSP 2023, equations 8 and 9).
    """
    sigma = torch.full((len(x),), level, dtype=x.dtype, device=x.device)
    if guidance is None:
        with torch.no_grad():
            return (x - denoiser(x, sigma)) / level
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        expected = denoiser(x, sigma)
        (gradient,) = torch.autograd.grad(guidance(expected), x)
    norm = gradient.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
    slope: Tensor = (x - expected) / level + xi * math.sqrt(x.shape[-1]) * gradient / norm
    return slope.detach()


def distance_of(operator: Operator, observed: Tensor) -> Guidance:
    """Return the squared distance of expected clips ``[N, T]`` and an observation ``[T]`` of a forward model."""
    known = operator.known
    weight = None if known is None else known.to(observed.dtype) / known.sum()

    def distance(expected: Tensor) -> Tensor:
        total = [operator.distance(operator(x), observed, F.mse_loss, weight) for x in expected]
        return torch.stack(total).sum()

    return distance
