"""Draw the positions of gaps in a clip."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dawp.errors import BadInput
from dawp.io.audio import FRAME_SECONDS

MARGIN = 0.010  # minimum distance in seconds between two gaps, and from the ends of the clip
SILENT_DB = -40.0  # minimum level around a gap, relative to the loudest 25 ms of the clip


def draw_gaps(clean: Tensor, sample_rate: int, gap_ms: float, n_gaps: int, rng: torch.Generator) -> Tensor:
    """Draw the positions of gaps one by one, uniformly from all positions that remain possible.

    Args:
        clean: clip ``[T]``.
        sample_rate: sample rate in Hz.
        gap_ms: length of each gap in milliseconds.
        n_gaps: number of gaps.
        rng: random generator.

    Returns:
        Boolean mask ``[T]``, True for the samples in gaps.

    Raises:
        BadInput: the gaps do not fit into the clip.
    """
    length = round(gap_ms / 1000 * sample_rate)
    if length < 2:
        raise BadInput(f"gap_ms must be at least two samples at {sample_rate} Hz, got {gap_ms:g} ms")
    margin = round(MARGIN * sample_rate)
    if length + 2 * margin > len(clean):
        raise BadInput(
            f"gap_ms must leave 10 ms on either side in the clip of {len(clean) / sample_rate:g} s, got {gap_ms:g} ms"
        )
    allowed = _loud_enough(clean, sample_rate, length)
    allowed[:margin] = False
    allowed[len(allowed) - margin :] = False
    missing = torch.zeros(len(clean), dtype=torch.bool)
    for drawn in range(n_gaps):
        candidates = allowed.nonzero()[:, 0]
        if not len(candidates):
            raise BadInput(
                f"n_gaps must be at most {drawn} for gaps of {gap_ms:g} ms, 10 ms apart and outside silence, in the "
                f"clip of {len(clean) / sample_rate:g} s, got {n_gaps}"
            )
        start = int(candidates[torch.randint(len(candidates), (), generator=rng)])
        missing[start : start + length] = True
        allowed[max(0, start - length - margin + 1) : start + length + margin] = False
    return missing


def _loud_enough(clean: Tensor, sample_rate: int, length: int) -> Tensor:
    """Return for each start of a gap ``[T - length + 1]`` whether the gap and the 25 ms around it are not silent."""

    def levels(window: int) -> Tensor:
        """Return the mean square of every window; float64, because differences of a running sum lose digits."""
        total = F.pad(clean.double().square().cumsum(0), (1, 0))
        return (total[window:] - total[:-window]) / window

    frame = min(len(clean), max(length, round(FRAME_SECONDS * sample_rate)))
    frames = levels(frame)
    threshold = frames.max() * 10 ** (SILENT_DB / 10)
    starts = torch.arange(len(clean) - length + 1)
    around = (starts - (frame - length) // 2).clamp(0, len(frames) - 1)
    return (frames[around] > threshold) & (levels(length) > threshold / 100)
