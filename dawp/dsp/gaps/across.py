"""Fill a gap in one channel from the other channels of the recording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dawp.dsp.autoregression import solve_definite
from dawp.dsp.gaps.window import Gap, Recording, Window, cosine_weights, window_around

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

CONTEXT_SECONDS = 0.1858  # on either side of a gap
MAX_DELAY_SECONDS, HALF_TAPS_SECONDS = 0.02, 0.0007  # between channels; of the filter, on either side of the delay
MAX_CHANNELS = 2  # that predict a gap
MAX_RESIDUAL = 0.8  # power of the residual, as a share, up to which the prediction is used
SAMPLES_PER_TAP = 8
RIDGE = 1e-10  # times the mean power
MIN_GAIN_DB = 0.5  # mean advantage at pseudo-gaps from which the other channels are used


class Prediction(NamedTuple):
    """The prediction of a window from other channels."""

    gap: Array  # the predicted samples of the gap, in units of the window
    residual: Window  # the window minus its prediction


def predict(recording: Recording, gap: Gap) -> Prediction | None:
    """Predict a channel from the others by least squares, ``x(t) = sum of c_k y(t - d - k)``.

    The delay d of each channel is that of the largest cross-correlation. Errors are weighted as in `fill_window`.

    Returns:
        None if no other channel is known in the gap, or if it predicts too little.
    """
    window = window_around(recording, gap, CONTEXT_SECONDS)
    first = gap.start - window.gap.start
    taps = max(2, round(HALF_TAPS_SECONDS * recording.sample_rate))
    size = len(window.samples)
    reach = max(window.gap.start, size - window.gap.stop)
    weights = cosine_weights(window.gap.start, window.gap.stop, reach, np.arange(size, dtype=np.float64))
    weights[window.missing] = 0
    columns = []
    for samples, known in zip(recording.others, recording.others_known, strict=True):
        found = _aligned(window, weights, samples, known, first, taps, recording.sample_rate)
        if found is not None:
            columns.append(found)
    columns = sorted(columns, key=lambda column: -column[0])[:MAX_CHANNELS]
    if not columns:
        return None
    design = np.concatenate([spans for _, spans, _ in columns], axis=1)
    known = np.all([flags for *_, flags in columns], axis=0)
    weights[~known] = 0
    if np.count_nonzero(weights) < SAMPLES_PER_TAP * design.shape[1]:
        return None
    predicted = design @ _least_squares(design, window.samples, weights)
    residual = np.where(known & ~window.missing, window.samples - predicted, 0.0)
    if weights @ residual**2 > MAX_RESIDUAL * (weights @ window.samples**2):
        return None
    rest = window._replace(samples=residual, missing=window.missing | ~known)
    return Prediction(predicted[window.gap.start : window.gap.stop], rest)


def _aligned(
    window: Window, weights: Array, samples: Array, known: Flags, first: int, taps: int, rate: int
) -> tuple[float, Array, Flags] | None:
    """Delay another channel by the lag of its largest cross-correlation with a window.

    Returns:
        The squared correlation, the delayed samples ``[N, 2 taps + 1]`` and whether all of them are known ``[N]``; None
        if they are not known in the gap.
    """
    from scipy.signal import correlate

    delay = round(MAX_DELAY_SECONDS * rate)
    size, reach = len(window.samples), taps + delay
    begin, end = max(0, first - reach), min(len(samples), first + size + reach)
    padding = (begin - (first - reach), first + size + reach - end)
    usable = np.pad(known[begin:end], padding)
    other = np.pad(np.where(known[begin:end], samples[begin:end], 0.0).astype(np.float64), padding)
    peak = np.abs(other).max()
    if not peak:
        return None
    other = np.ldexp(other, -int(np.frexp(peak)[1]))
    # Element i is the product with the other channel that is delayed by reach - i.
    products = correlate(other, weights * window.samples, "valid")[taps : taps + 2 * delay + 1]
    place = taps + int(np.abs(products).argmax())
    energy = (weights @ window.samples**2) * (weights @ other[place : place + size] ** 2)
    spans = slice(place - taps, place + size + taps)
    all_known: Flags = np.all(np.lib.stride_tricks.sliding_window_view(usable[spans], 2 * taps + 1), axis=1)
    if not energy or not all_known[window.gap.start : window.gap.stop].all():
        return None
    delayed = np.lib.stride_tricks.sliding_window_view(other[spans], 2 * taps + 1)
    return float(products[place - taps] ** 2 / energy), delayed, all_known


def _least_squares(design: Array, samples: Array, weights: Array) -> Array:
    """Coefficients ``[K]`` of the least weighted squared error."""
    used = weights > 0
    weighted = design[used] * weights[used, None]
    gram = weighted.T @ design[used]
    gram[np.diag_indices(len(gram))] += RIDGE * np.trace(gram) / len(gram) + 1e-300
    return solve_definite(gram, weighted.T @ samples[used])


def share_of_others(errors: Sequence[tuple[Array, Array]]) -> float:
    """Weight, from 0 to 1, of a fill that uses other channels beside one that does not.

    It minimises the squared error of the weighted mean at pseudo-gaps, where each counts the same in dB. It is 0 if
    that gains less than 0.5 dB on average.

    Args:
        errors: at each pseudo-gap the error ``[L]`` without and with other channels.
    """
    product = power = 0.0
    for alone, across in errors:
        scale = math.sqrt((alone @ alone) * (across @ across)) + 1e-300
        product += float(alone @ (alone - across)) / scale
        power += float(np.square(alone - across).sum()) / scale
    share = min(1.0, max(0.0, product / power)) if power else 0.0
    gains = [
        10 * math.log10(max(alone @ alone, 1e-300) / max(np.square(alone + share * (across - alone)).sum(), 1e-300))
        for alone, across in errors
    ]
    return share if gains and sum(gains) / len(gains) > MIN_GAIN_DB else 0.0
