"""Training of the U-Net: squared error, adversarial loss, features, log spectra, collaborative sampling."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dawp.methods.trained.settings import UNetModelConfig
from dawp.methods.trained.unet import Autoencoder, Discriminator, UNet, refine
from dawp.methods.trained.unet_method import DISCRIMINATOR, GENERATOR
from dawp.methods.trained.weights import SMALLEST_RMS
from dawp.metrics.functions import lsd, snr
from dawp.training.settings import TrainingConfig
from dawp.training.settings_unet import UNetTrainingConfig
from dawp.training.trainer import Batch, Trainer

AUTOENCODER = "autoencoder"
MAX_GRADIENT = 1.0
"""Largest norm of the gradient of a step: a transient in a quiet clip has large errors."""
SPECTRAL_SECONDS = (0.016, 0.032, 0.064)
SPECTRAL_FLOOR = 1e-8
"""Power relative to a signal of unit RMS, below which the log spectrum levels off."""

Network = TypeVar("Network", bound=nn.Module)


class UNetTrainer(Trainer):
    """The U-Net G, and with some losses a discriminator D and an autoencoder with the encoder E.

    With y the corrupted and x the clean windows, G minimises

        mean (G(y) - x)^2 + gan * mean -log D(G(y)) + ae * mean (E(G(y)) - E(x))^2 + spectral * S(G(y), x),

    D minimises ``-log D(x) - log(1 - D(G(y)))``, the autoencoder the squared error of x, and S is the distance of
    `log_spectral_loss`.
    """

    averaged = (GENERATOR,)
    model_class = UNetModelConfig

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.model = model = cast(UNetTrainingConfig, config.model)
        self.networks[GENERATOR] = UNet(model)
        if model.gan or model.collab:
            self.networks[DISCRIMINATOR] = Discriminator(model, model.conditional)
        if model.ae:
            self.networks[AUTOENCODER] = Autoencoder(model)
        rates = {GENERATOR: model.lr_g, DISCRIMINATOR: model.lr_d, AUTOENCODER: model.lr_ae}
        for name, network in self.networks.items():
            self.optimizers[name] = torch.optim.Adam(network.parameters(), rates[name])

    def step(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        clean, observed = self._scaled(batch, rng)
        losses: dict[str, Tensor] = {}
        if AUTOENCODER in self.networks:
            losses["autoencoder"] = loss = F.mse_loss(self.networks[AUTOENCODER](clean), clean)
            self._update(AUTOENCODER, loss)
        estimate = self.networks[GENERATOR](observed)
        if DISCRIMINATOR in self.networks:
            losses["discriminator"] = loss = self._discriminator_loss(clean, observed, estimate.detach())
            self._update(DISCRIMINATOR, loss)
        losses["l2"] = total = F.mse_loss(estimate, clean)
        if self.model.gan:
            losses["adversarial"] = loss = self._adversarial_loss(estimate, observed)
            total = total + self.model.gan * loss
        if self.model.ae:
            losses["features"] = loss = self._feature_loss(estimate, clean)
            total = total + self.model.ae * loss
        if self.model.spectral:
            losses["spectral"] = loss = log_spectral_loss(estimate[:, 0], clean[:, 0], self.rate)
            total = total + self.model.spectral * loss
        self._update(GENERATOR, total)
        return {name: loss.detach() for name, loss in losses.items()}

    def evaluate(self, clips: Sequence[Batch], rng: torch.Generator) -> dict[str, float]:
        generator = self.network(GENERATOR)
        values: dict[str, list[float]] = {}
        for clean, observed in clips:
            gain = 1 / observed.square().mean().sqrt().clamp(min=SMALLEST_RMS)
            estimates = {"input": observed, "unet": generator(gain * observed[None])[0] / gain}
            if self.model.collab:
                estimates["refined"] = self._refined(gain * observed[None])[0] / gain
            for name, estimate in estimates.items():
                values.setdefault(f"snr_{name}", []).append(float(snr(estimate[0], clean[0])))
                values.setdefault(f"lsd_{name}", []).append(float(lsd(estimate[0], clean[0], self.rate)))
        return {name: statistics.fmean(found) for name, found in values.items()}

    def saved_networks(self) -> dict[str, nn.Module]:
        kept = {DISCRIMINATOR: self.network(DISCRIMINATOR)} if self.model.collab else {}
        return {**super().saved_networks(), **kept}

    def _scaled(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return clean and corrupted windows ``[B, 1, T]``; the windows of a clip have unit RMS and a random gain.

        A restoration scales a block to unit RMS, in which quiet windows stay quiet.
        """
        group = self.config.data.windows_per_clip
        powers = torch.split(batch.observed.square().mean(dim=1), group)
        levels = [power.mean().sqrt().clamp(min=SMALLEST_RMS) for power in powers]
        decibels = (self.model.gain_std * torch.randn(len(levels), generator=rng)).tolist()
        gains = [10 ** (db / 20) / level for db, level in zip(decibels, levels, strict=True)]
        gain = torch.cat([one.expand(len(power)) for one, power in zip(gains, powers, strict=True)])[:, None]
        return (gain * batch.clean)[:, None], (gain * batch.observed)[:, None]

    def _update(self, name: str, loss: Tensor) -> None:
        self.optimizers[name].zero_grad()
        self.backward(loss)
        self.limit_gradients(name, MAX_GRADIENT)
        self.optimizers[name].step()

    def _discriminator_loss(self, clean: Tensor, observed: Tensor, estimate: Tensor) -> Tensor:
        """Return the loss of D; with collaborative sampling, half of the estimates are refined (its shaping)."""
        if self.model.collab:
            half = len(estimate) // 2
            estimate = torch.cat([estimate[:half], self._refined(observed[half:])])
        # One call, because the batch normalisation of several devices allows no second one before the gradients.
        logits = self.networks[DISCRIMINATOR](torch.cat([clean, estimate]), torch.cat([observed, observed]))
        true, false = logits[: len(clean)], logits[len(clean) :]
        one, zero = torch.ones_like(true), torch.zeros_like(false)
        return F.binary_cross_entropy_with_logits(true, one) + F.binary_cross_entropy_with_logits(false, zero)

    def _adversarial_loss(self, estimate: Tensor, observed: Tensor) -> Tensor:
        with _frozen(self.network(DISCRIMINATOR)) as discriminator:
            logit = discriminator(estimate, observed)
        return F.binary_cross_entropy_with_logits(logit, torch.ones_like(logit))

    def _feature_loss(self, estimate: Tensor, clean: Tensor) -> Tensor:
        with _frozen(cast(Autoencoder, self.network(AUTOENCODER))) as autoencoder:
            return F.mse_loss(autoencoder.encode(estimate), autoencoder.encode(clean))

    def _refined(self, observed: Tensor) -> Tensor:
        """Return refined estimates ``[B, 1, T]``; the discriminator uses its running statistics."""
        generator, discriminator = self.network(GENERATOR), cast(Discriminator, self.network(DISCRIMINATOR))
        was_training = discriminator.training
        discriminator.eval()
        estimate = refine(
            cast(UNet, generator), discriminator, observed, self.model.collab_steps, self.model.collab_rate
        )
        discriminator.train(was_training)
        return estimate


def log_spectral_loss(estimate: Tensor, clean: Tensor, sample_rate: int) -> Tensor:
    """Return the mean difference of log spectra at several window lengths.

        mean over windows of 16, 32 and 64 ms, frames and bins of |ln (P_e + f) - ln (P_x + f)|

    P is the power of a bin divided by the energy of the Hann window, and f the power 80 dB below a signal of unit RMS
    (Yamamoto, Song and Kim, Parallel WaveGAN, ICASSP 2020, eq. 6, with powers and a floor).

    Args:
        estimate: ``[B, T]``.
        clean: of that shape.
        sample_rate: in Hz.
    """
    losses = []
    for seconds in SPECTRAL_SECONDS:
        size = min(max(4, round(seconds * sample_rate)), estimate.shape[-1])
        window = torch.hann_window(size, dtype=estimate.dtype, device=estimate.device)

        def log_power(waveform: Tensor, window: Tensor = window, size: int = size) -> Tensor:
            spectrum = torch.stft(waveform, size, max(1, size // 4), window=window, center=False, return_complex=True)
            return torch.log(spectrum.abs().square() / window.square().sum() + SPECTRAL_FLOOR)

        losses.append((log_power(estimate) - log_power(clean)).abs().mean())
    return torch.stack(losses).mean()


@contextmanager
def _frozen(network: Network) -> Iterator[Network]:
    """Yield a network whose weights get no gradients from what is computed in the block."""
    network.requires_grad_(False)
    try:
        yield network
    finally:
        network.requires_grad_(True)
