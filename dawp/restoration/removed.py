"""What a restoration removed: the recording minus the restored file, and how much of it lies in which band."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BAND_EDGES = (0, 100, 400, 1600, 6400)  # Hz; the last band ends at half the sample rate
FRAME = 4096  # samples
MAX_REMOVED_DB = -3.0
UNHEARD_DB = -100.0
AUDIBLE_FROM = 1  # index of the first band that the warning looks at: rumble may be most of a recording


@dataclass(frozen=True)
class Removed:
    """The power of a recording and of what was removed from it, by band.

    Attributes:
        bands: lower and upper edge of each band in Hz.
        recording: power in each band ``[bands]``.
        removed: the same of what was removed.
    """

    bands: Sequence[tuple[float, float]]
    recording: Tensor
    removed: Tensor

    @property
    def total_db(self) -> float:
        """Removed power relative to that of the recording, in dB."""
        return _decibels(self.removed.sum(), self.recording.sum())

    @property
    def band_db(self) -> list[float]:
        """Removed power relative to that of the recording in the same band, in dB; NaN for a band that was silent."""
        return [_decibels(part, whole) for part, whole in zip(self.removed, self.recording, strict=True)]

    @property
    def is_suspicious(self) -> bool:
        """Whether more than half of the power above 100 Hz was removed."""
        audible = self.removed[AUDIBLE_FROM:].sum(), self.recording[AUDIBLE_FROM:].sum()
        return _decibels(*audible) > MAX_REMOVED_DB

    def facts(self) -> dict[str, Any]:
        """The numbers for a record."""
        bands = [
            {"from_hz": low, "to_hz": high, "db": db} for (low, high), db in zip(self.bands, self.band_db, strict=True)
        ]
        return {"db": self.total_db, "bands": bands}

    def __str__(self) -> str:
        if not self.total_db > UNHEARD_DB:
            return "nothing was removed"
        bands = ", ".join(
            f"{low:g} to {high:g} Hz {db:.1f} dB"
            for (low, high), db in zip(self.bands, self.band_db, strict=True)
            if math.isfinite(db)
        )
        return f"removed {self.total_db:.1f} dB relative to the recording ({bands})"


def difference(samples: Iterator[Tensor], read: Callable[[int, int], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """The recording and what was removed from it, ``[channels, n]`` each, piece by piece; NaN counts as silence.

    Args:
        samples: the restored pieces ``[channels, n]`` in order.
        read: the samples of the recording from one index to another.
    """
    start = 0
    for piece in samples:
        recording = read(start, start + piece.shape[1]).nan_to_num(posinf=0, neginf=0)
        start += piece.shape[1]
        yield recording, recording - piece


def measure(pieces: Iterator[tuple[Tensor, Tensor]], sample_rate: int) -> Removed:
    """Measure the power by band of a recording and of what was removed from it.

    Args:
        pieces: from ``difference``.
        sample_rate: in Hz.
    """
    edges = [float(edge) for edge in BAND_EDGES if edge < sample_rate / 2]
    bands = list(zip(edges, [*edges[1:], sample_rate / 2], strict=True))
    frequencies = torch.fft.rfftfreq(FRAME, 1 / sample_rate)
    which = torch.bucketize(frequencies, torch.tensor(edges[1:], dtype=torch.float32), right=True)
    window = torch.hann_window(FRAME, dtype=torch.float64)
    powers = torch.zeros(2, len(bands), dtype=torch.float64)
    rest: Tensor | None = None  # [2, channels, n]
    for recording, removed in pieces:
        both = torch.stack([recording, removed]).double()
        both = both if rest is None else torch.cat([rest, both], dim=2)
        count = both.shape[2] // FRAME
        if count:
            frames = both[:, :, : count * FRAME].reshape(2, -1, count, FRAME)
            powers += _band_power(frames, window, which, len(bands))
        rest = both[:, :, count * FRAME :]
    if rest is not None and rest.shape[2]:
        last = torch.nn.functional.pad(rest, (0, FRAME - rest.shape[2]))[:, :, None]
        powers += _band_power(last, torch.ones_like(window), which, len(bands))
    return Removed(bands, *powers)


def _band_power(frames: Tensor, window: Tensor, which: Tensor, bands: int) -> Tensor:
    """Sum of power ``[2, bands]`` of frames ``[2, channels, count, FRAME]``."""
    power = torch.fft.rfft(frames * window).abs().square().sum(dim=(1, 2)) / window.square().mean()
    return torch.zeros(2, bands, dtype=torch.float64).index_add_(1, which, power)


def _decibels(part: Tensor, whole: Tensor) -> float:
    if not whole:
        return math.nan
    return 10 * math.log10(part / whole) if part else -math.inf
