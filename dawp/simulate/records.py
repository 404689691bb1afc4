"""Simulate the surface noise of gramophone records: clicks, crackle, hiss and rumble.

All signals are drawn from a generator, in float64. With a revolution of R samples, what is fixed to the groove or the
turntable repeats after R samples.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dawp.errors import BadInput, printable
from dawp.io.audio import read
from dawp.io.sources import sounds_at

RPM = {"78": 78.26, "45": 45.0, "33": 100 / 3}
"""Revolutions per minute of the nominal speeds; 78.26 is that of electric turntables at 60 Hz."""

SHORTEST_CLICK = 1 / 44100  # seconds
CLICK_SPREAD_DB = 8.0  # standard deviation of the level
CLICK_DECAY = 3.0  # the envelope falls by exp(-3) from the first to the last sample
MAX_SMOOTHING = 0.9  # pole of the low-pass that colours a click, at most
CRACKLE_PER_SECOND, CRACKLE_SECONDS, CRACKLE_SPREAD_DB = 400.0, 0.0003, 6.0
RIAA = (3180e-6, 318e-6, 75e-6)  # time constants of the playback response in seconds
RUMBLE_HZ = (5.0, 30.0)  # corner frequencies
CROSSFADE = 0.02  # seconds


class Clicks(NamedTuple):
    """Clicks, without any other sound.

    Attributes:
        samples: ``[T]``.
        places: bool ``[T]``, True where a click is.
    """

    samples: Tensor
    places: Tensor


def revolution(rpm: str | None, sample_rate: int) -> int | None:
    """Return the samples of a revolution at a nominal speed (a key of `RPM`) and a rate in Hz; None without a speed."""
    return None if rpm is None else round(60 / RPM[rpm] * sample_rate)


def draw_clicks(
    length: int,
    sample_rate: int,
    per_minute: float,
    longest: float,
    rng: torch.Generator,
    period: int | None = None,
    spread: float = CLICK_SPREAD_DB,
) -> Clicks:
    """Draw clicks at random places: short bursts of coloured noise with a decaying envelope.

    The duration is log-uniform from 1/44100 s to ``longest``, the peak in dB is normal around 0 dB (an amplitude of 1).
    A burst is Gaussian noise through a one-pole low-pass whose pole is uniform from 0 to 0.9.

    Args:
        length: T.
        sample_rate: in Hz.
        per_minute: number of clicks per minute; at least one click is drawn.
        longest: duration in seconds.
        rng: random generator.
        period: of the clicks in samples; None, or a period longer than T, if they do not repeat.
        spread: standard deviation of the peaks in dB.
    """
    repeats = period is not None and period <= length
    span = period if period is not None and repeats else length
    count = max(1, round(per_minute * span / sample_rate / 60))

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=rng, dtype=torch.float64)

    starts = torch.randint(span, (count,), generator=rng)
    seconds = SHORTEST_CLICK * (max(longest, SHORTEST_CLICK) / SHORTEST_CLICK) ** uniform(count)
    sizes = (seconds * sample_rate).round().long().clamp(1, span)
    peaks = 10 ** (spread / 20 * torch.randn(count, generator=rng, dtype=torch.float64))
    poles = MAX_SMOOTHING * uniform(count)
    size = int(sizes.max())
    bursts = torch.randn(count, size, generator=rng, dtype=torch.float64)
    for i in range(1, size):
        bursts[:, i] += poles * bursts[:, i - 1]
    offsets = torch.arange(size)
    inside = offsets < sizes[:, None]
    bursts *= inside * torch.exp(-CLICK_DECAY * offsets / (sizes[:, None] - 1).clamp(min=1))
    bursts *= peaks[:, None] / bursts.abs().amax(dim=1, keepdim=True)
    where = (starts[:, None] + offsets)[inside] % span if repeats else (starts[:, None] + offsets)[inside]
    kept = where < span
    samples, places = torch.zeros(span, dtype=torch.float64), torch.zeros(span, dtype=torch.bool)
    samples.index_add_(0, where[kept], bursts[inside][kept])
    places[where[kept]] = True
    return Clicks(_repeated(samples, length), _repeated(places, length))


def draw_crackle(length: int, sample_rate: int, rng: torch.Generator, period: int | None = None) -> Tensor:
    """Draw crackle with a standard deviation of 1: 400 clicks per second of up to 0.3 ms.

    Args:
        length: number of samples.
        sample_rate: in Hz.
        rng: source of the random draws.
        period: samples after which the crackle repeats; None for no repetition.

    Returns:
        ``[length]``.
    """
    drawn = draw_clicks(
        length, sample_rate, 60 * CRACKLE_PER_SECOND, CRACKLE_SECONDS, rng, period, CRACKLE_SPREAD_DB
    ).samples
    return drawn / drawn.square().mean().sqrt()


def draw_hiss(length: int, sample_rate: int, rng: torch.Generator) -> Tensor:
    """Draw hiss ``[length]`` with a standard deviation of 1 at a sample rate in Hz.

    It is white noise played through the RIAA equalisation,
    ``H(s) = (1 + 318e-6 s) / ((1 + 3180e-6 s) (1 + 75e-6 s))`` (IEC 60098), and does not repeat.
    """
    long, middle, short = RIAA
    s = 2j * math.pi * torch.fft.rfftfreq(length, 1 / sample_rate, dtype=torch.float64)
    return _shaped(length, ((1 + middle * s) / ((1 + long * s) * (1 + short * s))).abs(), rng)


def draw_rumble(length: int, sample_rate: int, rng: torch.Generator, period: int | None = None) -> Tensor:
    """Draw rumble ``[length]`` with a standard deviation of 1: noise mostly between 5 and 30 Hz."""
    span = length if period is None else period
    low, high = RUMBLE_HZ
    frequencies = torch.fft.rfftfreq(span, 1 / sample_rate, dtype=torch.float64)
    response = (frequencies / low) ** 2 / (1 + (frequencies / low) ** 2) / (1 + (frequencies / high) ** 4)
    return _repeated(_shaped(span, response, rng), length)


def read_surface_noise(
    source: Path, length: int, sample_rate: int, rng: torch.Generator, period: int | None = None
) -> tuple[Tensor, Path]:
    """Read recorded surface noise from a file, or from a random file in a folder.

    A random segment is used if the file is long enough. A shorter file is looped over as many whole revolutions as it
    has, or over its whole length if there are none, with a cross-fade of equal power over 20 ms.

    Args:
        source: sound file or folder.
        length: T.
        sample_rate: in Hz.
        rng: random generator.
        period: samples of a revolution; None if it is unknown.

    Returns:
        The noise ``[T]``, float64, and the path of the file.

    Raises:
        BadInput: the file cannot be read, is shorter than a revolution and the cross-fade, or is silent.
    """
    files = sounds_at(source)
    path = files[int(torch.randint(len(files), (), generator=rng))]
    noise = read(path, sample_rate).double()
    if len(noise) >= length:
        start = int(torch.randint(len(noise) - length + 1, (), generator=rng))
        segment = noise[start : start + length]
    else:
        looped = _loop(noise, sample_rate, period, path)
        start = int(torch.randint(len(looped), (), generator=rng))
        segment = _repeated(looped.roll(-start), length)
    if not segment.any():
        raise BadInput(
            f"noise_source {printable(path)}: the segment at {start / sample_rate:.3f} s is silent",
            code="unusable_recording",
        )
    return segment, path


def _loop(noise: Tensor, sample_rate: int, period: int | None, path: Path) -> Tensor:
    """Return a part of a recording that can be repeated without a break."""
    fade = min(round(CROSSFADE * sample_rate), len(noise) // 2)
    size = len(noise) - fade
    if period is not None:
        size = size // period * period
        if not size:
            needed = (period + fade) / sample_rate
            raise BadInput(
                f"noise_source must have files of at least one revolution and the cross-fade, {needed:.3f} s, "
                f"got {len(noise) / sample_rate:.3f} s: {printable(path)}",
                code="unusable_recording",
            )
    angle = math.pi / 2 * (torch.arange(fade, dtype=torch.float64) + 0.5) / max(fade, 1)
    looped = noise[:size].clone()
    looped[:fade] = angle.sin() * looped[:fade] + angle.cos() * noise[size : size + fade]
    return looped


def _shaped(length: int, magnitude: Tensor, rng: torch.Generator) -> Tensor:
    """Draw Gaussian noise with a magnitude response ``[length // 2 + 1]`` and a standard deviation of 1."""
    white = torch.randn(length, generator=rng, dtype=torch.float64)
    shaped: Tensor = torch.fft.irfft(magnitude * torch.fft.rfft(white), n=length)
    return shaped / shaped.square().mean().sqrt()


def _repeated(samples: Tensor, length: int) -> Tensor:
    return samples.repeat(math.ceil(length / len(samples)))[:length]
