"""Fill many short gaps with one autoregressive model for each frame of the recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dawp.dsp import autoregression
from dawp.dsp.autoregression import Model
from dawp.dsp.gaps.window import runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

MAX_PEAK = 2.0  # of a filled gap, relative to the samples around it


def frame_models(samples: Array, order: int, hop: int, context: int, wanted: Flags | None = None) -> list[Model | None]:
    """Fit a model to the surroundings of each frame, under a cos² window, by Burg's method.

    Args:
        samples: ``[N]``.
        order: of the models; at most half the samples.
        hop: length of a frame.
        context: samples on either side of a frame.
        wanted: ``[frames]``, False for frames that need no model; None for all.

    Returns:
        A model for each of the ``ceil(N / hop)`` frames; None where it is not wanted or all samples are 0.
    """
    models: list[Model | None] = []
    for index, start in enumerate(range(0, len(samples), hop)):
        first = max(0, start - context)
        part = samples[first : start + hop + context]
        if (wanted is not None and not wanted[index]) or len(part) < 2 or not part.any():
            models.append(None)
            continue
        centre, reach = start + hop / 2 - first, context + hop / 2 + 1

        def weights(places: Array, centre: float = centre, reach: float = reach) -> Array:
            return np.cos(np.pi / 2 * np.clip(np.abs(places - centre) / reach, 0, 1)) ** 2

        models.append(autoregression.burg(part, [(0, len(part))], [min(order, len(part) // 2)], weights)[0])
    return models


def refill(samples: Array, gaps: Sequence[tuple[int, int]], models: Sequence[Model | None], hop: int) -> None:
    """Fill each gap with the samples of least residual energy, given the present fill of the others, in place.

    Args:
        samples: ``[N]``, with a rough fill in the gaps.
        gaps: first sample, and the one after the last, of each.
        models: of each frame; the model of the frame at the centre of a gap fills it.
        hop: length of a frame.
    """
    for start, stop in gaps:
        model = models[(start + stop) // 2 // hop]
        if model is None:
            samples[start:stop] = 0
            continue
        order = len(model.coefficients) - 1
        first, last = max(0, start - order), min(len(samples), stop + order)
        missing = np.zeros(last - first, dtype=bool)
        missing[start - first : stop - first] = True
        if last - first <= order:
            continue
        filled = autoregression.interpolate(samples[first:last], missing, [model])
        around = max(np.abs(samples[first:start]).max(initial=0.0), np.abs(samples[stop:last]).max(initial=0.0))
        if np.abs(filled).max() <= MAX_PEAK * around:  # not NaN
            samples[start:stop] = filled


def bridge(samples: Array, missing: Flags) -> None:
    """Fill the missing samples ``[N]`` of a signal ``[N]`` by straight lines, in place."""
    if missing.any() and not missing.all():
        samples[missing] = np.interp(missing.nonzero()[0], (~missing).nonzero()[0], samples[~missing])


def fill_frames(samples: Array, missing: Flags, orders: Sequence[int], hop: int, context: int) -> Array:
    """Fill gaps by models of each frame, of rising order; each is fitted to the signal as the one before filled it.

    Args:
        samples: ``[N]``; missing ones are not read.
        missing: ``[N]``.
        orders: of the models.
        hop: length of a frame in samples.
        context: samples on either side of a frame.

    Returns:
        ``[N]``.
    """
    filled = samples.copy()
    gaps = runs(missing)
    bridge(filled, missing)
    wanted = np.zeros(-(-len(samples) // hop), dtype=bool)
    wanted[[(start + stop) // 2 // hop for start, stop in gaps]] = True
    for order in orders:
        refill(filled, gaps, frame_models(filled, order, hop, context, wanted), hop)
    return filled
