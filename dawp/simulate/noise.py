"""Draw or read noise and mix it with a clip at a given SNR (Xia et al., DNS-Challenge)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torchaudio.functional
from torch import Tensor

from dawp.errors import BadInput, printable
from dawp.io.audio import level_dbfs, read
from dawp.io.sources import sounds_at

MIX_LEVEL_DBFS = -25.0
RANDOM_LEVEL_DBFS = (-35.0, -15.0)
CLIPPING = 0.99


def draw_noise(kind: str, length: int, rng: torch.Generator) -> Tensor:
    """Draw white noise ``[length]``, float64: GAUSSIAN with standard deviation 1, or UNIFORM from -1 to 1."""
    if kind == "UNIFORM":
        return torch.rand(length, generator=rng, dtype=torch.float64) * 2 - 1
    return torch.randn(length, generator=rng, dtype=torch.float64)


def read_noise(source: Path, length: int, sample_rate: int, rng: torch.Generator) -> tuple[Tensor, Path]:
    """Read a random segment of a sound file, or of a random file in a folder; shorter noise is looped.

    Args:
        source: the file or folder.
        length: samples of the segment.
        sample_rate: in Hz; other files are resampled.
        rng: source of the random draws.

    Returns:
        The noise ``[length]``, float64, and the path of the file.

    Raises:
        BadInput: the file is unreadable, or the segment is silent.
    """
    files = sounds_at(source)
    path = files[int(torch.randint(len(files), (), generator=rng))]
    noise = read(path, sample_rate).double()
    starts = len(noise) if len(noise) < length else len(noise) - length + 1
    start = int(torch.randint(starts, (), generator=rng))
    loops = math.ceil((start + length) / len(noise))
    segment = noise.repeat(loops)[start : start + length]
    if not segment.any():
        raise BadInput(
            f"noise_source {printable(path)}: the segment at {start / sample_rate:.3f} s is silent",
            code="unusable_recording",
        )
    return segment, path


def mix(clean: Tensor, noise: Tensor, snr: float, level: float | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix a clip with noise at a given SNR and scale the mixture to a given level.

    Clip and noise are scaled to -25 dBFS before mixing. The level of the mixture is lowered if a sample would exceed
    0.99.

    Args:
        clean: clip ``[T]``, float64.
        noise: noise ``[T]``, float64.
        snr: signal-to-noise ratio in dB.
        level: level of the mixture in dBFS; None to draw it uniformly from -35 to -15 dBFS.
        rng: random generator for the level.

    Returns:
        The clip, scaled by the gain of the mixture, and the mixture, both ``[T]``.
    """
    clean, noise = _scale_to(clean, MIX_LEVEL_DBFS), _scale_to(noise, MIX_LEVEL_DBFS)
    ratio = torch.tensor([snr], dtype=clean.dtype)
    observed = torchaudio.functional.add_noise(clean[None], noise[None], ratio)[0]
    low, high = RANDOM_LEVEL_DBFS
    drawn = low + (high - low) * torch.rand((), generator=rng, dtype=torch.float64).item()
    target = drawn if level is None else level
    gain = min(10 ** ((target - level_dbfs(observed)) / 20), CLIPPING / observed.abs().max().item())
    return clean * gain, observed * gain


def _scale_to(waveform: Tensor, dbfs: float) -> Tensor:
    return waveform * 10 ** ((dbfs - level_dbfs(waveform)) / 20)
