"""Additive noise at a given SNR (paper section 3), mixed as in the paper's code (Xia et al., DNS-Challenge)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dawp.errors import BadInput, printable
from dawp.settings import setting
from dawp.tasks.base import BLIND, FAST, CorruptionConfig, Task, parse_intervals, register

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from dawp.dsp.hum import Hum
    from dawp.problem import Problem

MASK = "mask"  # the estimate by a spectral gain


@dataclass(frozen=True)
class NoiseConfig(CorruptionConfig):
    """Noise: the noise to add to clean clips (pairs contain noise already)."""

    noise_class: str = setting("GAUSSIAN", "kind of noise", choices=("GAUSSIAN", "UNIFORM"))
    noise_source: Path | None = setting(
        None,
        "sound file, or folder of sound files, with real noise to add instead of --noise_class: a random segment, "
        "looped if it is too short",
        none="drawn noise",
        brief="sound file or folder of noise to add",
    )
    snr: float | None = setting(
        2.5,
        "signal-to-noise ratio of the corrupted clip in dB",
        at_least=-100,
        at_most=100,
        none="the standard deviation of the noise is --noise_std",
        brief="SNR of the corrupted clip in dB",
    )
    noise_std: float = setting(
        0.1,
        "standard deviation of the noise; only used with --snr none",
        above=0,
        at_most=1000,
    )
    level_dbfs: float | None = setting(
        None, "RMS level of the corrupted clip in dBFS", at_least=-100, at_most=0, none="drawn from -35 to -15"
    )
    noise_profile: str | None = setting(
        None,
        "intervals of a recording to restore (--restore) that contain only noise, as START:LENGTH,START:LENGTH,... in "
        "seconds; the noise spectrum is measured in them",
        none="the noise is estimated from each block and 3 s on either side of it",
        brief="noise-only intervals, START:LENGTH,... in seconds",
    )
    hum: str = setting(
        "auto",
        "mains hum to remove from recordings before the noise (--restore): its fundamental near 50 or 60 Hz and its "
        "harmonics; auto removes hum only if it is certain, 50 and 60 all lines found at multiples of that frequency",
        choices=("auto", "50", "60", "none"),
        brief="mains hum to remove from recordings",
    )

    restore_only: ClassVar[tuple[str, ...]] = ("noise_profile", "hum")

    def __post_init__(self) -> None:
        super().__post_init__()
        for start, length in self.profile:
            if start < 0 or length <= 0:
                raise BadInput(
                    "noise_profile must have intervals that start at 0 s or later and last longer than 0 s, "
                    f"got {start:g}:{length:g}"
                )
        if self.noise_source is not None and not self.noise_source.exists():
            raise BadInput(
                f"noise_source must be a sound file or a folder of them, got {printable(self.noise_source)}",
                code="not_found",
            )

    def identity(self) -> dict[str, Any]:
        without_effect = {
            "noise_class": self.noise_source is not None,
            "noise_std": self.snr is not None,
        }
        return {name: value for name, value in super().identity().items() if not without_effect.get(name)}

    def restore_identity(self, estimates_noise: bool) -> dict[str, Any]:
        if self.noise_profile is None or not estimates_noise:
            return {"hum": self.hum}
        return {"hum": self.hum, "noise_profile": self.noise_profile}

    @property
    def profile(self) -> list[tuple[float, float]]:
        """Start and length in seconds of each interval of ``noise_profile``."""
        if self.noise_profile is None:
            return []
        return parse_intervals("noise_profile", self.noise_profile, "START:LENGTH,START:LENGTH,...")

    @property
    def min_seconds(self) -> dict[str, float]:
        from dawp.dsp.hum import MIN_SECONDS

        return {} if self.hum == "none" else {"hum": MIN_SECONDS}

    def label(self) -> str:
        noise = self.noise_source.resolve().stem if self.noise_source else self.noise_class.lower()
        return f"{noise}-std{self.noise_std:g}" if self.snr is None else f"{noise}-{self.snr:g}dB"


def add_noise(clean: Tensor, sample_rate: int, config: NoiseConfig, rng: torch.Generator) -> Problem:
    """Corrupt a clean clip with noise.

    Clean clip and noise are scaled to -25 dBFS and mixed at ``config.snr``. The mixture is scaled to the level
    ``config.level_dbfs``, or one drawn uniformly from -35 to -15 dBFS; if a sample then exceeds 0.99, the level is
    lowered. The clean clip is scaled by the same factor. If ``snr`` is None, the clip is not scaled and the standard
    deviation of the noise is ``config.noise_std``.

    Args:
        clean: clip ``[T]``.
        sample_rate: its rate in Hz, for noise read from a file.
        config: kind and amount of noise.
        rng: source of the noise and of the level.

    Returns:
        The problem, whose facts include ``snr_db`` (achieved), ``level_dbfs`` and ``noise``.

    Raises:
        BadInput: the clip is silent, or the noise source is unreadable or silent.
    """
    from dawp.io.audio import level_dbfs
    from dawp.problem import Problem
    from dawp.simulate.noise import draw_noise, mix, read_noise

    if not clean.any():
        raise BadInput("the clean clip is silent: its signal-to-noise ratio is undefined", code="unusable_recording")
    clean, kind = clean.double(), config.noise_class
    if config.noise_source is not None:
        noise, path = read_noise(config.noise_source, len(clean), sample_rate, rng)
        kind = str(path)
    else:
        noise = draw_noise(config.noise_class, len(clean), rng)
    if config.snr is None:
        noise = noise * (config.noise_std / noise.std(correction=0))
        observed = clean + noise
    else:
        clean, observed = mix(clean, noise, config.snr, config.level_dbfs, rng)
    clean, observed = clean.float(), observed.float()
    achieved = level_dbfs(clean) - level_dbfs(observed - clean)
    facts = {"noise": kind, "snr_db": achieved, "level_dbfs": level_dbfs(observed)}
    return Problem(observed, clean, sample_rate, facts=facts)


def find_hum(
    read: Callable[[int, int], Tensor], power: Tensor, frames: int, sample_rate: int, config: NoiseConfig
) -> list[Hum | None] | None:
    """Return the hum of each channel of a recording, as ``dsp.hum.find_hum``; None with ``--hum none``."""
    from dawp.dsp import hum

    if config.hum == "none":
        return None
    return hum.find_hum(read, power, frames, sample_rate, None if config.hum == "auto" else float(config.hum))


register(
    Task(
        name="denoise",
        about="Remove noise: add it to clean recordings and remove it again, or restore noisy ones with --restore.",
        settings=NoiseConfig,
        examples=(
            "noisy.wav --restore -o restored.wav",
            "tapes/ --restore --hum 50 -o restored/",
            "clean.wav --snr 5 --preset fast",
        ),
        corrupt=add_noise,
        presets={"restore": {**FAST, **BLIND, "estimate": MASK, "highpass": None}, "quick": {"method": "nmf"}},
        estimates=(MASK,),
        find_hum=find_hum,
    )
)
