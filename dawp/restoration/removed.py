"""Measure the signal that a restoration removed: the recording minus the restored file, by frequency band."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BAND_EDGES = (0, 100, 400, 1600, 6400)  # Hz; the last band ends at half the sample rate
FRAME_LENGTH = 4096  # samples
MAX_REMOVED_DB = -3.0
MIN_REPORTED_DB = -100.0
FIRST_CHECKED_BAND = 1  # for the warning: most of a recording may be rumble below 100 Hz


@dataclass(frozen=True)
class Removed:
    """The power of a recording and of the signal removed from it, by band.

    Attributes:
        bands: lower and upper edge of each band in Hz.
        recording: power of the recording in each band, ``[bands]``.
        removed: power of the removed signal in each band, ``[bands]``.
    """

    bands: Sequence[tuple[float, float]]
    recording: Tensor
    removed: Tensor

    @property
    def total_db(self) -> float:
        """Removed power relative to the recording, in dB."""
        return _decibels(self.removed.sum(), self.recording.sum())

    @property
    def band_db(self) -> list[float]:
        """Removed power relative to the recording in the same band, in dB; NaN for a silent band."""
        return [_decibels(part, total) for part, total in zip(self.removed, self.recording, strict=True)]

    @property
    def is_suspicious(self) -> bool:
        """True if more than half of the power above 100 Hz was removed."""
        audible = self.removed[FIRST_CHECKED_BAND:].sum(), self.recording[FIRST_CHECKED_BAND:].sum()
        return _decibels(*audible) > MAX_REMOVED_DB

    def to_dict(self) -> dict[str, Any]:
        """Return the levels as a JSON object."""
        bands = [
            {"from_hz": low, "to_hz": high, "db": db} for (low, high), db in zip(self.bands, self.band_db, strict=True)
        ]
        return {"db": self.total_db, "bands": bands}

    def __str__(self) -> str:
        if not self.total_db > MIN_REPORTED_DB:
            return "unchanged"
        bands = ", ".join(
            f"{low:g} to {high:g} Hz {db:.1f} dB"
            for (low, high), db in zip(self.bands, self.band_db, strict=True)
            if math.isfinite(db)
        )
        return f"level of the change relative to the recording: {self.total_db:.1f} dB ({bands})"


def difference(samples: Iterator[Tensor], read: Callable[[int, int], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Subtract a restored waveform from its recording, part by part.

    Args:
        samples: consecutive parts of the restored waveform, ``[channels, n]``.
        read: ``read(start, stop)`` returns the samples of the recording.

    Yields:
        The recording and the removed signal, ``[channels, n]`` each. NaN in the recording is treated as zero.
    """
    start = 0
    for part in samples:
        recording = read(start, start + part.shape[1]).nan_to_num(posinf=0, neginf=0)
        start += part.shape[1]
        yield recording, recording - part


def measure(parts: Iterator[tuple[Tensor, Tensor]], sample_rate: int) -> Removed:
    """Measure the power of a recording and of the removed signal in each frequency band.

    Whole frames of 4096 samples have a Hann window; the rest at the end has none.

    Args:
        parts: the recording and the removed signal, as ``difference`` yields them.
        sample_rate: in Hz.
    """
    edges = [float(edge) for edge in BAND_EDGES if edge < sample_rate / 2]
    bands = list(zip(edges, [*edges[1:], sample_rate / 2], strict=True))
    frequencies = torch.fft.rfftfreq(FRAME_LENGTH, 1 / sample_rate)
    band_index = torch.bucketize(frequencies, torch.tensor(edges[1:], dtype=torch.float32), right=True)
    window = torch.hann_window(FRAME_LENGTH, dtype=torch.float64)
    powers = torch.zeros(2, len(bands), dtype=torch.float64)
    rest: Tensor | None = None  # [2, channels, n]
    for recording, removed in parts:
        both = torch.stack([recording, removed]).double()
        both = both if rest is None else torch.cat([rest, both], dim=2)
        count = both.shape[2] // FRAME_LENGTH
        if count:
            frames = both[:, :, : count * FRAME_LENGTH].reshape(2, -1, count, FRAME_LENGTH)
            powers += _band_power(frames, window, band_index, len(bands))
        rest = both[:, :, count * FRAME_LENGTH :]
    if rest is not None and rest.shape[2]:
        last = torch.nn.functional.pad(rest, (0, FRAME_LENGTH - rest.shape[2]))[:, :, None]
        powers += _band_power(last, torch.ones_like(window), band_index, len(bands))
    return Removed(bands, *powers)


def _band_power(frames: Tensor, window: Tensor, band_index: Tensor, bands: int) -> Tensor:
    """Return the power ``[2, bands]`` of frames ``[2, channels, count, FRAME_LENGTH]``, summed by band."""
    power = torch.fft.rfft(frames * window).abs().square().sum(dim=(1, 2)) / window.square().mean()
    return torch.zeros(2, bands, dtype=torch.float64).index_add_(1, band_index, power)


def _decibels(part: Tensor, total: Tensor) -> float:
    if not total:
        return math.nan
    return 10 * math.log10(part / total) if part else -math.inf
