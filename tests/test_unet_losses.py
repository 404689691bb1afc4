"""The losses of the U-Net: each one lowers what it should on a few windows."""

import math

import pytest
import torch

pytest.importorskip("lightning_fabric")

from lightning_fabric import Fabric

from dawp.training.settings import TrainingConfig
from dawp.training.trainer import Batch
from dawp.training.unet import UNetTrainer, log_spectral_loss

SIZE = {"depth": 3, "channels": 8, "kernels": "5", "window": 256, "batch": 4, "gain_std": 0.0, "windows_per_clip": 1}
FROZEN = 1e-12  # a learning rate


def trainer_of(tmp_path, **settings):
    torch.manual_seed(0)
    config = TrainingConfig.of("unet", data=tmp_path, task="denoise", **{**SIZE, **settings})
    trainer = UNetTrainer(config)
    trainer.setup(Fabric(accelerator="cpu", devices=1))
    return trainer


def batch_of():
    time_axis = torch.arange(256) / 16000
    clean = torch.stack([torch.sin(2 * math.pi * pitch * time_axis) for pitch in (300, 500, 700, 900)])
    return Batch(clean, clean + 0.5 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1)))


def losses_after(trainer, steps=40):
    """Return the losses of the first and the last step."""
    rng, batch, found = torch.Generator().manual_seed(0), batch_of(), []
    for _ in range(steps):
        found.append(trainer.step(batch, rng))
    return found[0], found[-1]


def test_the_squared_error_falls(tmp_path):
    trainer = trainer_of(tmp_path, lr_g=0.01)
    first, last = losses_after(trainer)
    assert first.keys() == {"l2"}
    assert last["l2"] < 0.3 * first["l2"]


def test_the_adversarial_loss_raises_the_logit_of_a_fixed_discriminator(tmp_path):
    first, last = losses_after(trainer_of(tmp_path, gan=10.0, lr_d=FROZEN, lr_g=0.003))
    assert last["adversarial"] < 0.8 * first["adversarial"]
    first, last = losses_after(trainer_of(tmp_path, gan=1e-9, lr_d=FROZEN, lr_g=FROZEN), 3)
    assert last["adversarial"] == pytest.approx(float(first["adversarial"]), rel=1e-4)


@pytest.mark.parametrize("conditional", [False, True])
def test_the_discriminator_learns_to_distinguish_estimates_from_clean_clips(conditional, tmp_path):
    settings = {"gan": 1.0, "lr_g": FROZEN, "lr_d": 0.003, "conditional": conditional}
    first, last = losses_after(trainer_of(tmp_path, **settings))
    assert last["discriminator"] < 0.5 * first["discriminator"]
    assert last["discriminator"] < 2 * math.log(2)  # of a discriminator with the output 0


def test_the_autoencoder_learns_the_clean_clips(tmp_path):
    first, last = losses_after(trainer_of(tmp_path, ae=1.0, lr_ae=0.01, lr_g=FROZEN))
    assert last["autoencoder"] < 0.5 * first["autoencoder"]


def test_the_features_of_the_estimate_approach_those_of_the_clean_clip(tmp_path):
    first, last = losses_after(trainer_of(tmp_path, ae=100.0, lr_ae=FROZEN, lr_g=0.003))
    assert last["features"] < 0.3 * first["features"]


def test_the_log_spectra_of_the_estimate_approach_those_of_the_clean_clip(tmp_path):
    first, last = losses_after(trainer_of(tmp_path, spectral=1.0, lr_g=0.01))
    assert last["spectral"] < 0.8 * first["spectral"]


def test_the_spectral_loss_is_the_log_of_a_gain_and_ignores_the_phase():
    noise = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    assert log_spectral_loss(noise, noise, 16000) == 0
    assert float(log_spectral_loss(3 * noise, noise, 16000)) == pytest.approx(2 * math.log(3), rel=1e-4)
    assert log_spectral_loss(-noise, noise, 16000) == 0
    silent = torch.zeros_like(noise, requires_grad=True)
    log_spectral_loss(silent, noise, 16000).backward()
    assert silent.grad.isfinite().all()


def test_networks_change_by_their_own_losses_only(tmp_path):
    trainer = trainer_of(tmp_path, gan=1.0, ae=1.0, lr_d=FROZEN, lr_ae=FROZEN, lr_g=0.01)
    before = {name: [p.clone() for p in network.parameters()] for name, network in trainer.networks.items()}
    trainer.step(batch_of(), torch.Generator())
    moved = {
        name: max(
            float((old - new).detach().abs().max()) for old, new in zip(before[name], network.parameters(), strict=True)
        )
        for name, network in trainer.networks.items()
    }
    assert moved["generator"] > 1e-3
    assert moved["discriminator"] < 1e-9
    assert moved["autoencoder"] < 1e-9


def test_collaborative_sampling_refines_the_estimates(tmp_path):
    trainer = trainer_of(tmp_path, collab=True, lr_d=0.003, lr_g=0.003, collab_rate=0.1, average=0.0)
    losses_after(trainer, 30)
    for network in trainer.networks.values():
        network.eval()
    clips = [Batch(clean[None], observed[None]) for clean, observed in zip(*batch_of(), strict=True)]
    with torch.no_grad():
        metrics = trainer.evaluate(clips, torch.Generator())
    assert metrics["snr_refined"] != metrics["snr_unet"]
    assert trainer.saved_networks().keys() == {"generator", "discriminator"}
    generator, discriminator = trainer.network("generator"), trainer.network("discriminator")
    observed = batch_of().observed[:, None]
    with torch.no_grad():
        plain = discriminator(generator(observed), observed)
        refined = discriminator(trainer._refined(observed), observed)
    assert (refined > plain).all()


def test_the_average_follows_the_weights(tmp_path):
    trainer = trainer_of(tmp_path, average=0.9)
    batch, rng = batch_of(), torch.Generator().manual_seed(0)
    expected = None
    for step in range(30):
        trainer.step(batch, rng)
        trainer.update_averages()
        current = trainer.networks["generator"].module.last.weight.detach().clone()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = current if expected is None else decay * expected + (1 - decay) * current
    assert torch.allclose(trainer.network("generator").last.weight, expected, atol=1e-6)
