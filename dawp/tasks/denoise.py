"""Additive noise at a given SNR (paper section 3), mixed as its mixing code does (Xia et al., DNS-Challenge)."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torchaudio.functional
from torch import Tensor

from dawp.config import NoiseConfig
from dawp.errors import BadInput, shown
from dawp.io.audio import level_dbfs, read
from dawp.io.sources import sounds_at
from dawp.problem import Problem

MIX_LEVEL_DBFS = -25.0
RANDOM_LEVEL_DBFS = (-35.0, -15.0)
CLIPPING = 0.99


def add_noise(clean: Tensor, sample_rate: int, config: NoiseConfig, rng: torch.Generator) -> Problem:
    """Corrupt a clean clip with noise.

    Clean clip and noise are brought to -25 dBFS and mixed at ``config.snr``; the mixture gets the level
    ``config.level_dbfs``, or one drawn uniformly from -35 to -15 dBFS; should a sample then exceed 0.99, the
    level is lowered until none does. The clean clip is scaled along. With ``snr`` None the clip is left as it
    is and the noise gets the standard deviation ``config.noise_std``.

    Args:
        clean: clip ``[T]``.
        sample_rate: its rate in Hz, for noise read from a file.
        config: kind and amount of noise.
        rng: source of the noise and of the level.

    Returns:
        The problem, with ``snr_db`` (achieved), ``level_dbfs`` and ``noise`` among its facts.

    Raises:
        BadInput: the clip is silent, or the noise source is unreadable or silent.
    """
    if not clean.any():
        raise BadInput("the clean clip is silent: no noise level gives it a signal-to-noise ratio")
    clean = clean.double()
    noise, kind = _draw(len(clean), sample_rate, config, rng)
    if config.snr is None:
        noise = noise * (config.noise_std / noise.std(correction=0))
        observed = clean + noise
    else:
        clean, noise = _levelled(clean, MIX_LEVEL_DBFS), _levelled(noise, MIX_LEVEL_DBFS)
        snr = torch.tensor([config.snr], dtype=clean.dtype)
        observed = torchaudio.functional.add_noise(clean[None], noise[None], snr)[0]
        gain = _final_gain(observed, config, rng)
        clean, observed = clean * gain, observed * gain
    clean, observed = clean.float(), observed.float()
    achieved = level_dbfs(clean) - level_dbfs(observed - clean)
    facts = {"noise": kind, "snr_db": achieved, "level_dbfs": level_dbfs(observed)}
    return Problem(observed, clean, sample_rate, facts=facts)


def _draw(length: int, sample_rate: int, config: NoiseConfig, rng: torch.Generator) -> tuple[Tensor, str]:
    """Noise ``[length]`` at any level, and what it is."""
    if config.noise_source is not None:
        return _real_noise(config.noise_source, length, sample_rate, rng)
    if config.noise_class == "UNIFORM":
        return torch.rand(length, generator=rng, dtype=torch.float64) * 2 - 1, "UNIFORM"
    return torch.randn(length, generator=rng, dtype=torch.float64), "GAUSSIAN"


def _real_noise(source: Path, length: int, sample_rate: int, rng: torch.Generator) -> tuple[Tensor, str]:
    """A random stretch of a sound file, or of one file of a folder; shorter noise is looped."""
    files = sounds_at(source)
    path = files[int(torch.randint(len(files), (), generator=rng))]
    noise = read(path, sample_rate).double()
    starts = len(noise) if len(noise) < length else len(noise) - length + 1
    start = int(torch.randint(starts, (), generator=rng))
    loops = math.ceil((start + length) / len(noise))
    stretch = noise.repeat(loops)[start : start + length]
    if not stretch.any():
        raise BadInput(f"noise_source {shown(path)}: the stretch from {start / sample_rate:.3f} s on is silent")
    return stretch, str(path)


def _levelled(waveform: Tensor, dbfs: float) -> Tensor:
    return waveform * 10 ** ((dbfs - level_dbfs(waveform)) / 20)


def _final_gain(observed: Tensor, config: NoiseConfig, rng: torch.Generator) -> float:
    """Factor that brings the mixture to its level, lowered where a sample would clip."""
    low, high = RANDOM_LEVEL_DBFS
    drawn = low + (high - low) * torch.rand((), generator=rng, dtype=torch.float64).item()
    level = drawn if config.level_dbfs is None else config.level_dbfs
    return min(10 ** ((level - level_dbfs(observed)) / 20), CLIPPING / observed.abs().max().item())
