"""Places of gaps in a clip."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dawp.errors import BadInput
from dawp.io.audio import FRAME_SECONDS

MARGIN = 0.010  # seconds at least of sound between two drawn gaps, and to the ends of the clip
SILENT_DB = -40.0  # relative to the clip's loudest 25 ms: drawn gaps lie where there is more


def draw_gaps(clean: Tensor, sample_rate: int, gap_ms: float, n_gaps: int, rng: torch.Generator) -> Tensor:
    """Draw gaps one after the other from all places that are left.

    Args:
        clean: clip ``[T]``.
        sample_rate: its rate in Hz.
        gap_ms: length of each gap in milliseconds.
        n_gaps: number of gaps.
        rng: source of the places.

    Returns:
        Which samples lie in gaps, bool ``[T]``.

    Raises:
        BadInput: the gaps do not fit in.
    """
    length = round(gap_ms / 1000 * sample_rate)
    if length < 2:
        raise BadInput(f"gap_ms {gap_ms:g} ms is less than two samples at {sample_rate} Hz")
    margin = round(MARGIN * sample_rate)
    if length + 2 * margin > len(clean):
        raise BadInput(
            f"a gap of gap_ms {gap_ms:g} ms and 10 ms on either side are longer than the clip of "
            f"{len(clean) / sample_rate:g} s"
        )
    allowed = _loud_enough(clean, sample_rate, length)
    allowed[:margin] = False
    allowed[len(allowed) - margin :] = False
    missing = torch.zeros(len(clean), dtype=torch.bool)
    for drawn in range(n_gaps):
        places = allowed.nonzero()[:, 0]
        if not len(places):
            raise BadInput(
                f"only {drawn} of n_gaps {n_gaps} gaps of {gap_ms:g} ms found a place in the clip of "
                f"{len(clean) / sample_rate:g} s, 10 ms apart and where it is not silent"
            )
        start = int(places[torch.randint(len(places), (), generator=rng)])
        missing[start : start + length] = True
        allowed[max(0, start - length - margin + 1) : start + length + margin] = False
    return missing


def _loud_enough(clean: Tensor, sample_rate: int, length: int) -> Tensor:
    """For each start of a gap ``[T - length + 1]``, whether the gap and the 25 ms around it are not silent."""

    def levels(window: int) -> Tensor:
        """Mean square of every window, in float64 since differences of a running sum lose digits."""
        total = F.pad(clean.double().square().cumsum(0), (1, 0))
        return (total[window:] - total[:-window]) / window

    frame = min(len(clean), max(length, round(FRAME_SECONDS * sample_rate)))
    frames = levels(frame)
    threshold = frames.max() * 10 ** (SILENT_DB / 10)
    starts = torch.arange(len(clean) - length + 1)
    around = (starts - (frame - length) // 2).clamp(0, len(frames) - 1)
    return (frames[around] > threshold) & (levels(length) > threshold / 100)
