"""Count the samples that a restoration changed, for tasks that return undamaged samples unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

JOINED_SECONDS = 0.0005  # of unchanged samples within a region


@dataclass(frozen=True)
class Changed:
    """The changed samples of a recording.

    Attributes:
        samples: their number, over all channels.
        regions: number of runs of changed samples; up to 0.5 ms within a run may be unchanged.
        first: time of the first one in seconds; None without any.
        share: their share of all samples.
    """

    samples: int
    regions: int
    first: float | None
    share: float

    def __str__(self) -> str:
        if self.first is None:
            return "unchanged"
        regions = f"{self.regions} region{'s' if self.regions > 1 else ''}"
        percent = f"{100 * self.share:.2g} % of the samples"
        return f"changed {regions}, {percent}, the first at {self.first:.3f} s"


def count(parts: Iterator[tuple[Tensor, Tensor]], sample_rate: int) -> Changed:
    """Count the changed samples of a recording.

    Args:
        parts: the recording and the removed signal ``[channels, n]``, as ``removed.difference`` yields them.
        sample_rate: in Hz.
    """
    joined = max(1, round(JOINED_SECONDS * sample_rate))
    samples = regions = frames = total = 0
    first: int | None = None
    last: dict[int, int] = {}  # last changed sample of each channel
    for _, removed in parts:
        for channel, part in enumerate(removed):
            places = frames + torch.nonzero(part).flatten()
            if not len(places):
                continue
            before = torch.tensor([last.get(channel, -joined - 2)])
            regions += int((places.diff(prepend=before) > joined + 1).sum())
            samples += len(places)
            first = min(int(places[0]), first if first is not None else int(places[0]))
            last[channel] = int(places[-1])
        frames += removed.shape[1]
        total += removed.numel()
    return Changed(samples, regions, None if first is None else first / sample_rate, samples / max(1, total))
