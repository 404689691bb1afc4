"""The preconditioning and the training loss of a denoiser (Karras et al. 2022, "EDM")."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

SIGMA_DATA = 1.0  # standard deviation of the clips, which are scaled
NOISE_MEAN, NOISE_SPREAD = -1.5, 2.0  # of the logarithm of the noise level in training

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Maps noisy clips ``[N, T]`` and their noise levels ``[N]`` to the expected clean clips ``[N, T]``."""


class Coefficients(NamedTuple):
    """The factors of the preconditioning, each of the shape of the noise levels."""

    skip: Tensor
    out: Tensor
    in_: Tensor
    noise: Tensor


def coefficients(sigma: Tensor, sigma_data: float = SIGMA_DATA) -> Coefficients:
    """Return the factors of the preconditioning.

    ``c_skip = s_d^2 / (s^2 + s_d^2)``, ``c_out = s s_d / sqrt(s^2 + s_d^2)``, ``c_in = 1 / sqrt(s^2 + s_d^2)`` and
    ``c_noise = ln(s) / 4``, with s the noise level and s_d the standard deviation of the data.

    Source:
        Karras, Aittala, Aila and Laine, Elucidating the design space of diffusion-based generative models, NeurIPS
        2022, table 1.
    """
    total = sigma.square() + sigma_data**2
    return Coefficients(sigma_data**2 / total, sigma * sigma_data / total.sqrt(), total.rsqrt(), sigma.log() / 4)


class PreconditionedDenoiser(nn.Module):
    """``D(x; s) = c_skip x + c_out F(c_in x; c_noise)`` with a network F (Karras et al. 2022, equation 7).

    Args:
        network: maps clips ``[N, T]`` and ``c_noise`` ``[N]`` to ``[N, T]``.
        sigma_data: standard deviation of the data.
    """

    def __init__(self, network: nn.Module, sigma_data: float = SIGMA_DATA) -> None:
        super().__init__()
        self.network, self.sigma_data = network, sigma_data

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the expected clean clips ``[N, T]`` of noisy clips ``[N, T]`` with noise levels ``[N]``."""
        c = coefficients(sigma, self.sigma_data)
        output: Tensor = c.skip[:, None] * x + c.out[:, None] * self.network(c.in_[:, None] * x, c.noise)
        return output


def draw_levels(count: int, rng: torch.Generator) -> Tensor:
    """Draw noise levels ``[count]`` for training, whose logarithm is normal (Karras et al. 2022, table 1)."""
    return (NOISE_MEAN + NOISE_SPREAD * torch.randn(count, generator=rng)).exp()


def training_loss(denoiser: Denoiser, clean: Tensor, rng: torch.Generator) -> Tensor:
    """Return the loss of clean clips ``[N, T]`` at random noise levels (`draw_levels`, `loss_at`)."""
    return loss_at(denoiser, clean, draw_levels(len(clean), rng), rng)


def loss_at(
    denoiser: Denoiser, clean: Tensor, sigma: Tensor, rng: torch.Generator, sigma_data: float = SIGMA_DATA
) -> Tensor:
    """Return the loss of a batch, ``mean (D(y + n; s) - y)^2 (s^2 + s_d^2) / (s s_d)^2``.

    Args:
        denoiser: D.
        clean: clips y ``[N, T]``.
        sigma: noise levels s ``[N]``.
        rng: draws the noise n.
        sigma_data: s_d.

    Source:
        Karras et al. 2022, equation 2 and table 1.
    """
    sigma = sigma.to(clean.device)
    noise = torch.randn(clean.shape, generator=rng).to(clean.device) * sigma[:, None]
    weight = (sigma.square() + sigma_data**2) / (sigma * sigma_data).square()
    errors = (denoiser(clean + noise, sigma) - clean).square()
    return (weight[:, None] * errors).mean()
