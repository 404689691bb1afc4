"""The errors of the filled gaps of a repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BINS = 10
"""Number of positions in a gap at which the error is averaged."""


@dataclass(frozen=True)
class GapErrors:
    """The errors of one sound in the gaps; NaN where the clean samples of a gap are silent.

    Attributes:
        snr: SNR in dB of each gap.
        si_snr: scale-invariant SNR in dB of each gap.
        by_position: power of the error at `BINS` positions from the start to the end of a gap, in dB relative to the
            clean samples of the gap, averaged over the gaps (as powers).
    """

    snr: list[float]
    si_snr: list[float]
    by_position: list[float]


def spans_of(gaps: Sequence[Sequence[float]], rate: int) -> list[slice]:
    """Return the samples of gaps, which have a start and a length in seconds, at a sample rate in Hz."""
    return [slice(round(start * rate), round(start * rate) + max(1, round(length * rate))) for start, length in gaps]


def gap_errors(sounds: Mapping[str, NDArray[np.float32]], spans: Sequence[slice]) -> dict[str, GapErrors]:
    """Compare each sound with the clean one in the gaps.

    Args:
        sounds: ``[T]`` each, by name; ``clean`` among them.
        spans: samples of each gap.

    Returns:
        The errors of each sound but the clean one.
    """
    clean = sounds["clean"]
    return {name: _errors(sound, clean, spans) for name, sound in sounds.items() if name != "clean"}


def _errors(sound: NDArray[np.float32], clean: NDArray[np.float32], spans: Sequence[slice]) -> GapErrors:
    import numpy as np
    import torch

    from dawp.metrics.functions import si_snr

    snrs, si_snrs, curves = [], [], []
    for span in spans:
        estimate, target = (torch.from_numpy(samples[span]).double() for samples in (sound, clean))
        error = (estimate - target).square()
        power = target.square().mean()
        snrs.append(float(10 * torch.log10(power / error.mean())) if power > 0 else float("nan"))
        si_snrs.append(float(si_snr(estimate, target)))
        if power > 0:
            places = (np.arange(BINS) + 0.5) * len(target) / BINS - 0.5
            curves.append(np.interp(places, np.arange(len(target)), (error / power).numpy()))
    mean = np.mean(curves, axis=0) if curves else np.full(BINS, np.nan)
    return GapErrors(snrs, si_snrs, (10 * np.log10(np.maximum(mean, 1e-12))).tolist())
