"""Fill a gap by a time-varying autoregressive model with a residual of varying variance."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from dawp.dsp import autoregression
from dawp.dsp.autoregression import POWER_FLOOR, Slope, VaryingModel
from dawp.dsp.gaps.window import cosine_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dawp.dsp.gaps.window import Window

    Array = NDArray[np.float64]

RIDGES = (1e-7, 1e-4)  # on the constants and on the slopes, times the mean power
ROUNDS = 2
FILLED_WEIGHT = 0.3  # of the filled samples in a fit
MAX_LENGTH = 2500  # samples of the longest gap: the system is dense
MAX_WEIGHTED_SECONDS = 0.0201  # longest gap that is filled with weighted residuals
MAX_PEAK = 4.0  # of a filled gap, relative to the known samples around it
SMOOTHING_SECONDS, VARIANCE_FLOOR = 0.002, 0.05  # of the residual's variance; the floor relative to its mean
BLOCK_SECONDS = 0.002  # in which the weights of a fit are constant
MIN_PERIOD, ORDER_MARGIN, CONTEXT_MARGIN = 0.002, 0.002, 0.016  # seconds; beyond the period, and beyond the order
MIN_PEAK = 0.9  # of the correlation at a period, relative to the largest one


class _Span:
    """The known samples on either side of a gap, with the fill in between."""

    def __init__(
        self, samples: Array, start: int, stop: int, context: int, order: int, period: int, sample_rate: int
    ) -> None:
        self.samples, self.start, self.stop, self.order = samples, start, stop, order
        self.size, self.period, self.sample_rate = len(samples), period, sample_rate
        self.slope = Slope((start + stop - 1) / 2, 1 / (context + (stop - start) / 2))
        self.weighting = functools.partial(cosine_weights, start, stop, context)
        self.weights = self.weighting(np.arange(self.size, dtype=np.float64))
        self.weights[start:stop] = FILLED_WEIGHT


def varying_fill(window: Window, order_seconds: float, context_seconds: float) -> Array | None:
    """Fill a gap by a time-varying model; None if too little is known nearby.

    The order of the model is the period of a voice and 2 ms more. A constant model gives a first fill. In each round, a
    varying model is fitted, in the last one to the filled samples as well, and fills the gap again. For gaps of up to
    20 ms, both divide each squared residual by its local variance under the model before, which is large at the pulses
    of a voice.

    Args:
        window: with the gap.
        order_seconds: highest order of the model.
        context_seconds: known samples on either side that the period is estimated from; the model is fitted to those
            within 16 ms plus its order.

    Returns:
        The samples of the gap ``[L]``.

    Source:
        Weighted linear prediction of voices, there with the power of the signal as the weight: Ma, Kamp and Willems,
        Robust signal selection for linear prediction analysis of voiced speech (Speech Communication 1993).
    """
    span = _span(window, order_seconds, context_seconds)
    if span is None:
        return None
    peak = np.abs(span.samples).max()
    is_weighted = span.stop - span.start <= MAX_WEIGHTED_SECONDS * span.sample_rate
    found: Array | None = None
    model = _fill_constant(span)
    for index in range(ROUNDS):
        if not np.abs(span.samples).max() <= MAX_PEAK * peak:  # or NaN
            return found
        found = span.samples[span.start : span.stop].copy()
        precisions = _precisions(span, model) if is_weighted else None
        if is_weighted and precisions is None:
            return found
        try:
            model = _fill_again(span, precisions, index == ROUNDS - 1)
        except np.linalg.LinAlgError:
            return found
    return span.samples[span.start : span.stop] if np.abs(span.samples).max() <= MAX_PEAK * peak else found


def _span(window: Window, order_seconds: float, context_seconds: float) -> _Span | None:
    """Return the samples around a gap that its model is fitted to; None if there are too few."""
    start, stop = window.gap
    rate, longest = window.sample_rate, round(order_seconds * window.sample_rate)
    margin = round(ORDER_MARGIN * rate)
    first, last = _context(window, round(context_seconds * rate))
    period = _period(window.samples[first:start], window.samples[stop:last], round(MIN_PERIOD * rate), longest - margin)
    order = min(period + margin, longest)
    context = order + round(CONTEXT_MARGIN * rate)
    first, last = _context(window, context)
    order = min(order, min(start - first, last - stop) // 2)
    if order < 1 or stop - start > MAX_LENGTH or not window.samples[first:last].any():
        return None
    return _Span(window.samples[first:last].copy(), start - first, stop - first, context, order, period, rate)


def _context(window: Window, context: int) -> tuple[int, int]:
    """First sample and the one after the last of the context of a gap, which ends at other gaps."""
    start, stop = window.gap
    first, last = max(0, start - context), min(len(window.samples), stop + context)
    before, after = np.flatnonzero(window.missing[first:start]), np.flatnonzero(window.missing[stop:last])
    first += int(before[-1]) + 1 if len(before) else 0
    last = stop + int(after[0]) if len(after) else last
    return first, last


def _period(before: Array, after: Array, lowest: int, highest: int) -> int:
    """Return the lag of the first large peak of the correlation coefficient of the samples on either side of a gap.

    Args:
        before: samples ``[N]`` before the gap.
        after: samples ``[M]`` after it.
        lowest: lag, at least 1.
        highest: lag.
    """
    lowest = max(1, lowest)
    size = max(lowest, highest) + 2
    products, powers, lagged = np.zeros((3, size))
    for samples in (before, after):
        count = min(len(samples), size)
        if count:
            energy = np.cumsum(np.concatenate([[0.0], samples**2]))
            products[:count] += autoregression.autocorrelation(samples)[:count]
            powers[:count] += energy[-1] - energy[:count]
            lagged[:count] += energy[len(samples) - np.arange(count)]
    coefficients = products / np.sqrt(np.maximum(powers * lagged, 1e-300))
    inside = coefficients[lowest:-1]
    is_peak = (inside >= coefficients[lowest - 1 : -2]) & (inside >= coefficients[lowest + 1 :])
    peaks = np.flatnonzero(is_peak & (inside >= MIN_PEAK * inside.max()))
    return lowest + int(peaks[0] if len(peaks) else inside.argmax())


def _fill_constant(span: _Span) -> VaryingModel:
    """Fill the gap by a constant model, in place."""
    start, stop = span.start, span.stop
    segments = [(0, start), (stop, span.size)]
    (model,) = autoregression.burg(span.samples, segments, [span.order], span.weighting)
    missing = np.zeros(span.size, dtype=bool)
    missing[start:stop] = True
    span.samples[start:stop] = autoregression.interpolate(span.samples, missing, [model])
    return VaryingModel(model.coefficients[1:], np.zeros(len(model.coefficients) - 1))


def _fill_again(span: _Span, precisions: Array | None, is_last: bool) -> VaryingModel:
    """Fit a varying model and fill the gap again, in place.

    Args:
        span: the samples.
        precisions: inverse variance ``[N]`` of the residual; None if it is the same everywhere.
        is_last: whether the model is fitted to the filled samples as well.
    """
    start, stop, order = span.start, span.stop, span.order
    edges = _block_edges(span)
    weights = span.weights if precisions is None else span.weights * precisions
    counts = np.diff(edges)
    ahead = np.repeat(np.add.reduceat(weights, edges[:-1]) / counts, counts)
    behind = ahead.copy()
    if not is_last:
        ahead[start : stop + order] = 0
        behind[start - order : stop] = 0
    model = autoregression.fit_varying(span.samples, ahead, behind, order, span.slope, RIDGES)
    gap = (span.samples, start, stop, model, span.slope)
    span.samples[start:stop] = (
        autoregression.interpolate_varying(*gap)
        if precisions is None
        else autoregression.interpolate_weighted(*gap, precisions)
    )
    return model


def _block_edges(span: _Span) -> NDArray[np.int64]:
    """Return the edges of blocks, symmetric about the gap, in which the weights of a fit are constant."""
    block, length = max(1, round(BLOCK_SECONDS * span.sample_rate)), span.stop - span.start
    count = 2 * (length // (2 * block)) + 1  # odd, so that no edge is at the centre
    half = [k * length // count for k in range(1, count // 2 + 1)]
    inside = [span.start + edge for edge in half] + [span.stop - edge for edge in half[::-1]]
    left, right = range(span.start, 0, -block), range(span.stop, span.size, block)
    return np.array([0, *left[::-1], *inside, *right, span.size], dtype=np.int64)


def _precisions(span: _Span, model: VaryingModel) -> Array | None:
    """Inverse variance ``[N]`` of the residual, relative to its mean; None if the residual vanishes.

    In the gap it is the mean of those an integer number of periods before and after it.
    """
    start, stop, size, order = span.start, span.stop, span.size, span.order
    energy, counts = np.zeros(size), np.zeros(size)
    tau = span.slope.at(np.arange(size, dtype=np.float64))
    constant, slopes = np.concatenate([[1.0], model.constant]), np.concatenate([[0.0], model.slope])
    for turn in (slice(None), slice(None, None, -1)):
        samples = span.samples[turn]
        residual = np.convolve(samples, constant, "valid") + tau[turn][order:] * np.convolve(samples, slopes, "valid")
        energy[turn][order:] += residual**2
        counts[turn][order:] += 1
    energy /= counts
    shift = -(-(stop - start) // span.period) * span.period
    places = np.arange(start, stop)
    energy[start:stop] = (energy[(places - shift).clip(0)] + energy[(places + shift).clip(None, size - 1)]) / 2
    total = float(span.weights.sum())
    mean = float(span.weights @ energy) / total
    if not mean > POWER_FLOOR * float(span.weights @ span.samples**2) / total:
        return None
    window = np.hanning(2 * max(1, round(SMOOTHING_SECONDS / 2 * span.sample_rate)) + 3)[1:-1]
    smooth = np.convolve(np.pad(energy, len(window) // 2, "reflect"), window / window.sum(), "valid")
    return np.asarray(mean / (smooth + VARIANCE_FLOOR * mean))
