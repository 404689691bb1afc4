"""Training of the diffusion model: denoising at all levels of white noise."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from dawp.methods.trained.diffusion.edm import PreconditionedDenoiser, loss_at, training_loss
from dawp.methods.trained.diffusion.method import DENOISER
from dawp.methods.trained.diffusion.network import OctaveUNet
from dawp.methods.trained.diffusion.settings import DiffusionModelConfig
from dawp.methods.trained.weights import SMALLEST_RMS
from dawp.training.settings import TrainingConfig
from dawp.training.settings_diffusion import DiffusionTrainingConfig
from dawp.training.trainer import Batch, Trainer

BETAS = (0.9, 0.99)
MAX_GRADIENT = 1.0  # norm of the gradient of all weights
LEVELS = (0.01, 0.1, 1.0, 10.0)  # of the noise, for the metrics


class DiffusionTrainer(Trainer):
    """The denoiser of the diffusion model. Its loss is 1 for a network without output (``edm.training_loss``)."""

    averaged = (DENOISER,)
    model_class = DiffusionModelConfig

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.model = model = cast(DiffusionTrainingConfig, config.model)
        self.networks[DENOISER] = denoiser = PreconditionedDenoiser(OctaveUNet.of(self.rate, model))
        self.optimizers[DENOISER] = torch.optim.Adam(denoiser.parameters(), model.lr, BETAS)

    def step(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        denoiser, optimizer = self.networks[DENOISER], self.optimizers[DENOISER]
        decibels = self.model.gain_std * torch.randn(len(batch.clean), 1, generator=rng)
        clean = _with_unit_rms(batch.clean) * 10 ** (decibels.to(batch.clean.device) / 20)
        loss = training_loss(denoiser, clean, rng)
        optimizer.zero_grad()
        self.backward(loss)
        self.limit_gradients(DENOISER, MAX_GRADIENT)
        optimizer.step()
        return {"loss": loss.detach()}

    def evaluate(self, clips: Sequence[Batch], rng: torch.Generator) -> dict[str, float]:
        """Return the loss at some noise levels."""
        denoiser = self.network(DENOISER)
        metrics = {}
        for level in LEVELS:
            sigma = torch.full((1,), level)
            losses = [float(loss_at(denoiser, _with_unit_rms(clip.clean), sigma, rng)) for clip in clips]
            metrics[f"loss_at_{level:g}"] = statistics.fmean(losses)
        return metrics


def _with_unit_rms(clips: Tensor) -> Tensor:
    """Return clips ``[N, T]`` scaled to an RMS of 1."""
    return clips / clips.square().mean(dim=1, keepdim=True).sqrt().clamp(min=SMALLEST_RMS)
