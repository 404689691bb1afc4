"""Fill a gap by a time-varying autoregressive model with a residual of varying variance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dawp.dsp import autoregression
from dawp.dsp.autoregression import POWER_FLOOR, Slope, VaryingModel, WeightedRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dawp.dsp.gaps.window import Window

    Array = NDArray[np.float64]

RIDGES = (1e-7, 1e-3)  # on the constants and on the slopes, times the mean power
ROUNDS = 2  # fits of a long gap, with equal variances of the residual
WEIGHTED_ROUNDS = 3  # fits of a short gap with local variances, after one with equal ones
FILLED_WEIGHT = 0.3  # of the filled samples from the second fit on
MAX_LENGTH = 2500  # samples of the longest gap: the system is dense
MAX_WEIGHTED_SECONDS = 0.0201  # longest gap that is filled with weighted residuals
MAX_PEAK = 4.0  # of a filled gap, relative to the known samples around it
SMOOTHING_SECONDS, VARIANCE_FLOOR = 0.002, 0.2  # of the residual's variance; the floor relative to its mean
BLOCK_SECONDS = 0.002  # in which the weights of a fit are constant
MIN_PERIOD_SECONDS = 0.0025  # of the excitation


class _Span:
    """The known samples on either side of a gap, with the fill in between."""

    def __init__(self, samples: Array, start: int, stop: int, context: int, order: int, sample_rate: int) -> None:
        self.samples, self.start, self.stop, self.order = samples, start, stop, order
        self.size, self.width, self.sample_rate = len(samples), context + 1, sample_rate
        self.slope = Slope((start + stop - 1) / 2, 1 / (context + (stop - start) / 2))
        places = np.arange(self.size)
        distance = np.maximum(start - places, places - (stop - 1)).clip(0)
        self.weights = np.cos(np.pi / 2 * distance / self.width) ** 2
        self.weights[start:stop] = FILLED_WEIGHT


def varying_fill(window: Window, order_seconds: float, context_seconds: float) -> Array | None:
    """Fill a gap by a time-varying model; None if too little is known nearby.

    The model is fitted to the known samples, then to all samples, with the filled ones at a lower weight. For gaps of
    up to 20 ms, the later rounds divide each squared residual by its local variance, which is large at the pulses of a
    voice: weighted least squares for the coefficients and for the missing samples.

    Args:
        window: with the gap.
        order_seconds: order of the model.
        context_seconds: known samples on either side.

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
    model: VaryingModel | None = None
    for index in range(WEIGHTED_ROUNDS + 1 if is_weighted else ROUNDS):
        try:
            if is_weighted and model:
                precisions = _precisions(span, model)
                if precisions is None:
                    return found
                model = _fill_weighted(span, precisions)
            else:
                model = _fill_evenly(span, index > 0)
        except np.linalg.LinAlgError:
            return found
        if not np.abs(span.samples).max() <= MAX_PEAK * peak:  # or NaN
            return found
        found = span.samples[span.start : span.stop].copy()
    return found


def _span(window: Window, order_seconds: float, context_seconds: float) -> _Span | None:
    """Return the samples from the last other gap before a gap to the next one after it; None if there are too few."""
    start, stop = window.gap
    context = round(context_seconds * window.sample_rate)
    first, last = max(0, start - context), min(len(window.samples), stop + context)
    before, after = np.flatnonzero(window.missing[first:start]), np.flatnonzero(window.missing[stop:last])
    first += int(before[-1]) + 1 if len(before) else 0
    last = stop + int(after[0]) if len(after) else last
    order = min(round(order_seconds * window.sample_rate), min(start - first, last - stop) // 2)
    if order < 1 or stop - start > MAX_LENGTH or not window.samples[first:last].any():
        return None
    return _Span(window.samples[first:last].copy(), start - first, stop - first, context, order, window.sample_rate)


def _fill_evenly(span: _Span, is_filled: bool) -> VaryingModel:
    """Fit a model, with the gap if it is filled, and fill the gap, in place; all residuals have the same variance."""
    start, stop, size, order = span.start, span.stop, span.size, span.order
    left, right = WeightedRun(0, start, 0.5, 0.5, start), WeightedRun(stop, size, 0.5, 0.5, stop - 1)  # cos²
    inside = [WeightedRun(start, stop, FILLED_WEIGHT)] if is_filled else []
    apart = 0 if is_filled else order
    ahead = [left._replace(start=order), *inside, right._replace(start=stop + apart)]
    behind = [left._replace(stop=start - apart), *inside, right._replace(stop=size - order)]
    model = autoregression.fit_varying(span.samples, ahead, behind, order, span.width, span.slope, RIDGES)
    span.samples[start:stop] = autoregression.interpolate_varying(span.samples, start, stop, model, span.slope)
    return model


def _fill_weighted(span: _Span, precisions: Array) -> VaryingModel:
    """Fit a model to the filled signal and fill the gap again, in place, with residuals weighted by ``[N]``."""
    start, stop, order = span.start, span.stop, span.order
    edges = _block_edges(span)
    counts = np.diff(edges)
    levels = np.add.reduceat(span.weights * precisions, edges[:-1]) / counts
    blocks = [WeightedRun(a, b, level) for a, b, level in zip(edges[:-1], edges[1:], levels, strict=True)]
    last = span.size - order
    ahead = [run._replace(start=max(run.start, order)) for run in blocks if run.stop > order]
    behind = [run._replace(stop=min(run.stop, last)) for run in blocks if run.start < last]
    model = autoregression.fit_varying(span.samples, ahead, behind, order, span.width, span.slope, RIDGES)
    span.samples[start:stop] = autoregression.interpolate_weighted(
        span.samples, start, stop, model, span.slope, precisions
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
    period = _period(span)
    shift = -(-(stop - start) // period) * period
    places = np.arange(start, stop)
    energy[start:stop] = (energy[(places - shift).clip(0)] + energy[(places + shift).clip(None, size - 1)]) / 2
    total = float(span.weights.sum())
    mean = float(span.weights @ energy) / total
    if not mean > POWER_FLOOR * float(span.weights @ span.samples**2) / total:
        return None
    window = np.hanning(2 * max(1, round(SMOOTHING_SECONDS / 2 * span.sample_rate)) + 3)[1:-1]
    smooth = np.convolve(np.pad(energy, len(window) // 2, "reflect"), window / window.sum(), "valid")
    return np.asarray(mean / (smooth + VARIANCE_FLOOR * mean))


def _period(span: _Span) -> int:
    """Lag of the largest autocorrelation around a gap, from 2.5 ms to the order of the model."""
    near = span.samples[span.start - span.order : span.stop + span.order]
    lowest = min(span.order, max(1, round(MIN_PERIOD_SECONDS * span.sample_rate)))
    return lowest + int(np.argmax(autoregression.autocorrelation(near)[lowest : span.order + 1]))
