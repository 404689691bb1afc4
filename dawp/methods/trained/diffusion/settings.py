"""Settings of the diffusion model and of its sampler."""

from __future__ import annotations

from dataclasses import dataclass

from dawp.errors import BadInput
from dawp.settings import Settings, setting


@dataclass(frozen=True)
class DiffusionModelConfig(Settings):
    """Network: a U-Net on a constant-Q transform."""

    octaves: int = setting(6, "octaves of the constant-Q transform, below half the sample rate", at_least=1, at_most=12)
    bands: int = setting(12, "bands of an octave", at_least=3, at_most=96)
    width: int = setting(24, "channels of the first level; deeper levels have up to 4 times as many", at_least=4)
    blocks: int = setting(1, "residual blocks of each level of the encoder, and of the decoder", at_least=1, at_most=16)


@dataclass(frozen=True)
class DiffusionConfig(Settings):
    """Diffusion: the sampler (--method diffusion)."""

    sampling_steps: int = setting(
        35, "steps of the sampler; each evaluates the network twice", at_least=1, at_most=10000
    )
    xi: float = setting(1.0, "weight of the observation in the sampler", at_least=0, at_most=100)
    churn: float = setting(
        5.0, "amount of noise that the sampler adds and removes again, over all steps", at_least=0, at_most=1000
    )
    sigma_max: float = setting(
        10.0, "first noise level of the sampler, relative to the level of the recording", above=0, at_most=1000
    )
    sigma_min: float = setting(0.001, "last noise level of the sampler, below sigma_max", above=0, at_most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma_min >= self.sigma_max:
            raise BadInput(f"sigma_min must be below sigma_max, {self.sigma_max:g}, got {self.sigma_min:g}")
