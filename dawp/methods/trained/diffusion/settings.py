"""Settings of the diffusion model and of its sampler."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dawp.errors import BadInput, printable
from dawp.settings import Settings, setting


@dataclass(frozen=True)
class DiffusionModelConfig(Settings):
    """Network: a U-Net on a constant-Q transform."""

    octaves: int = setting(6, "octaves of the constant-Q transform, below half the sample rate", at_least=1, at_most=12)
    bands: int = setting(12, "bands of an octave", at_least=3, at_most=96)
    width: int = setting(
        24, "channels of the first level; deeper levels have up to 4 times as many", at_least=4, at_most=1024
    )
    blocks: int = setting(1, "residual blocks of each level of the encoder, and of the decoder", at_least=1, at_most=16)


@dataclass(frozen=True)
class DiffusionConfig(Settings):
    """Diffusion: the sampler (--method diffusion)."""

    sampling_steps: int = setting(
        35, "steps of the sampler; each evaluates the network twice", at_least=1, at_most=10000
    )
    xi: float = setting(0.5, "weight of the observation in the sampler", at_least=0, at_most=100)
    churn: float = setting(
        10.0, "amount of noise that the sampler adds and removes again, over all steps", at_least=0, at_most=1000
    )
    sigma_max: float = setting(
        10.0,
        "first noise level of the sampler, relative to the level of the recording; 1 for denoise",
        above=0,
        at_most=1000,
    )
    sigma_min: float = setting(0.001, "last noise level of the sampler, below sigma_max", above=0, at_most=1)
    draws: int = setting(
        1,
        "number of signals that are drawn; the estimate is their mean, which has a smaller error than each of them",
        at_least=1,
        at_most=1000,
    )
    noise_recordings: Path | None = setting(
        None,
        "folder of recordings of the noise alone (task denoise): segments of them are drawn as the noise of the "
        "recording",
        none="the spectrum of the noise is estimated from the recording",
    )
    noise_recordings_gain: float | None = setting(
        None,
        "amplitude of the noise in the recording relative to --noise_recordings",
        above=0,
        at_most=1e6,
        none="estimated by --power_window",
    )
    power_window: float = setting(
        0.1,
        "seconds of the windows of the recording; the quietest one determines the power of the noise",
        at_least=0.001,
        at_most=60,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma_min >= self.sigma_max:
            raise BadInput(f"sigma_min must be below sigma_max, {self.sigma_max:g}, got {self.sigma_min:g}")
        if self.noise_recordings is not None and not self.noise_recordings.exists():
            raise BadInput(
                f"noise_recordings must be a sound file or a folder of them, got {printable(self.noise_recordings)}",
                code="not_found",
            )
