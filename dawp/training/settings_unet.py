"""Settings of the training of the U-Net."""

from __future__ import annotations

from dataclasses import dataclass

from dawp.methods.trained.settings import UNetModelConfig
from dawp.settings import setting


@dataclass(frozen=True)
class UNetTrainingConfig(UNetModelConfig):
    """U-Net: the network and its losses."""

    gan: float = setting(0.0, "weight of the adversarial loss; 0 trains no discriminator", at_least=0, at_most=1e6)
    ae: float = setting(
        0.0,
        "weight of the distance between features of an autoencoder; 0 trains no autoencoder",
        at_least=0,
        at_most=1e6,
    )
    spectral: float = setting(
        0.0, "weight of the difference of the log spectra at three window lengths; 0 for none", at_least=0, at_most=1e6
    )
    lr_g: float = setting(1e-3, "learning rate of the U-Net (Adam)", above=0, at_most=1e3)
    lr_d: float = setting(1e-4, "learning rate of the discriminator", above=0, at_most=1e3)
    lr_ae: float = setting(1e-3, "learning rate of the autoencoder", above=0, at_most=1e3)
    gain_std: float = setting(
        6.0, "standard deviation in dB of the gain of the clips, which have unit RMS before", at_least=0, at_most=40
    )
