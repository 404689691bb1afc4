"""Settings of the training of the diffusion model."""

from __future__ import annotations

from dataclasses import dataclass

from dawp.methods.trained.diffusion.settings import DiffusionModelConfig
from dawp.settings import setting


@dataclass(frozen=True)
class DiffusionTrainingConfig(DiffusionModelConfig):
    """Diffusion: the network and its loss."""

    lr: float = setting(1e-3, "learning rate (Adam)", above=0, at_most=1e3)
    gain_std: float = setting(
        3.0, "standard deviation in dB of the gain of the windows, which have unit RMS before", at_least=0, at_most=40
    )
