"""Fill one gap by autoregressive models."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dawp.dsp import autoregression
from dawp.dsp.autoregression import Model
from dawp.dsp.gaps.varying import MAX_PEAK, varying_fill
from dawp.dsp.gaps.window import Window, context_of, cosine_weights, runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

MAX_UNKNOWNS = 2000  # missing samples that are solved for together where gaps are close to each other
LOWERED_ORDER = 4  # divides the order of a model whose result exceeds that peak
LONG_SECONDS = 0.25  # gaps from here on are extrapolated from either side
NOISE_SECONDS = 0.1  # gaps from here on are completed with noise
HELD_SECONDS = 0.05  # of a long gap, at either side, without fading; without noise half as long
NOISE_ORDER, NOISE_BANDWIDTH, NOISE_LEVEL = 32, 100.0, 0.5  # bandwidth in Hz, level as an amplitude


class Filler(NamedTuple):
    """One autoregressive interpolation of a gap."""

    kind: str  # "shared": one model of both sides, "separate": one of each, "varying": changing in time, "zero"
    order: float = 0.0  # seconds
    context: float = 0.0  # seconds on either side


def fill_window(window: Window, fillers: Sequence[Filler]) -> dict[Filler, Array]:
    """Fill one gap by several fillers.

    Returns:
        For each filler the samples of the gap, in units of the window.
    """
    length = window.gap.stop - window.gap.start
    varying = {f: varying_fill(window, f.order, f.context) for f in fillers if f.kind == "varying"}
    fills = {filler: filled for filler, filled in varying.items() if filled is not None}
    for filler, models in _fit(window, [filler for filler in fillers if filler not in fills]).items():
        fills[filler] = _model_fill(window, models) if models else np.zeros(length)
    return fills


def _fit(window: Window, fillers: Sequence[Filler]) -> dict[Filler, list[Model]]:
    """Estimate the models of each filler; those that differ by their order alone take one recursion.

    All known samples in the context are used, also beyond other gaps. The order is at most half the longest segment.
    """
    models: dict[Filler, list[Model]] = {filler: [] for filler in fillers}
    start, stop = window.gap
    for shared, context in dict.fromkeys((filler.kind != "separate", filler.context) for filler in fillers):
        same = [f for f in fillers if (f.kind != "separate", f.context) == (shared, context) and f.kind != "zero"]
        first, last = context_of(window.gap, len(window.samples), round(context * window.sample_rate))
        reach = max(start - first, last - stop)
        for side in ((first, last),) if shared else ((first, start), (stop, last)):
            segments = runs(~window.missing[slice(*side)])
            samples = window.samples[slice(*side)]
            longest = max((end - begin for begin, end in segments), default=0)
            if longest < 2 or not samples.any():
                continue
            orders = [min(max(1, round(f.order * window.sample_rate)), longest // 2) for f in same]
            unique = sorted(set(orders))
            weighting = functools.partial(cosine_weights, start - side[0], stop - side[0], reach)
            fitted = autoregression.burg(samples, segments, unique, weighting)
            for filler, order in zip(same, orders, strict=True):
                models[filler].append(fitted[unique.index(order)])
    return models


def _model_fill(window: Window, models: Sequence[Model]) -> Array:
    """Interpolate a gap by constant models; lower their order if the result is too large."""
    start, stop = window.gap
    while True:
        filled = _interpolated(window, models)
        order = max(len(model.coefficients) for model in models) - 1
        near = window.samples[max(0, start - order) : stop + order]
        if np.isfinite(filled).all() and np.abs(filled).max() <= MAX_PEAK * np.abs(near).max():
            return filled
        if order <= LOWERED_ORDER:
            return np.interp(np.arange(start, stop), np.flatnonzero(~window.missing), window.samples[~window.missing])
        lowered = order // LOWERED_ORDER
        segments = runs(~window.missing)
        models = autoregression.burg(window.samples, segments, [lowered])


def _interpolated(window: Window, models: Sequence[Model]) -> Array:
    """Interpolate a gap; extrapolate from either side if it is long."""
    start, stop = window.gap
    size, length = len(window.samples), stop - start
    order = max(len(model.coefficients) for model in models) - 1
    first, last = max(0, start - order), min(size, stop + order)
    missing = window.missing[first:last]
    if length > LONG_SECONDS * window.sample_rate:
        return _extrapolated(window, models)
    single = missing.sum() == length
    if not (single and start >= order and size - stop >= order):
        # Ends and other gaps are near: the system is not Toeplitz, and its size is limited.
        others = np.sort(np.maximum(start - 1 - window.missing.nonzero()[0], window.missing.nonzero()[0] - stop))
        if length > MAX_UNKNOWNS:
            return _extrapolated(window, models)
        if missing.sum() > MAX_UNKNOWNS:
            reach = int(others[MAX_UNKNOWNS])
            first, last = max(0, start - reach), min(size, stop + reach)
            missing = window.missing[first:last]
            if last - first <= order:
                return _extrapolated(window, models)
    filled = autoregression.interpolate(window.samples[first:last], missing, models)
    return filled[missing[: start - first].sum() :][:length]


def _extrapolated(window: Window, models: Sequence[Model]) -> Array:
    """Extrapolate a gap from either side, crossfaded and faded out."""
    start, stop = window.gap
    length, rate = stop - start, window.sample_rate
    distance = np.arange(length) + 0.5
    fade = np.cos(np.pi / 2 * np.clip((distance / rate - HELD_SECONDS) / LONG_SECONDS, 0, 1)) ** 2
    before, after = window.samples[:start], window.samples[stop:][::-1]
    before = before[runs(~window.missing[:start])[-1][0] :] if start and not window.missing[start - 1] else before[:0]
    if stop < len(window.missing) and not window.missing[stop]:
        after = after[-(runs(~window.missing[stop:])[0][1]) :]
    else:
        after = after[:0]
    crossfade = np.cos(np.pi / 2 * distance / length) ** 2 if len(before) and len(after) else np.ones(length)
    filled = np.zeros(length)
    count = min(length, math.ceil((HELD_SECONDS + LONG_SECONDS) * rate))
    for side, model, turn in ((before, models[0], slice(None)), (after, models[-1], slice(None, None, -1))):
        if len(side):
            predicted = np.zeros(length)
            predicted[:count] = autoregression.extrapolate(side, model, count)
            filled += (predicted * fade * crossfade)[turn]
    return filled


def with_noise(window: Window, filled: Array) -> Array:
    """Complete a long gap with noise of the spectral envelope of either side, where the fill is weaker than they are.

    The noise starts 25 ms from the known samples. It is the same in each call and symmetric in time.
    """
    from scipy.signal import oaconvolve

    start, stop = window.gap
    length, rate = len(filled), window.sample_rate
    if length < NOISE_SECONDS * rate:
        return filled
    held = round(HELD_SECONDS * rate)
    excitation = np.random.default_rng(0).standard_normal(length)
    distance = np.arange(length) + 0.5
    sides = []
    for samples, known, turn in (
        (window.samples[max(0, start - held) : start], ~window.missing[max(0, start - held) : start], slice(None)),
        (window.samples[stop : stop + held], ~window.missing[stop : stop + held], slice(None, None, -1)),
    ):
        segments = runs(known)
        longest = max((b - a for a, b in segments), default=0)
        if longest < 2 or not samples.any():
            continue
        (model,) = autoregression.burg(samples, segments, [min(NOISE_ORDER, longest // 2)])
        damping = np.exp(-np.pi * NOISE_BANDWIDTH / rate * np.arange(len(model.coefficients)))
        noise = autoregression.extrapolate(
            np.zeros(0), Model(model.coefficients * damping, model.variance), length, excitation
        )
        power = float(np.square(samples).sum() / known.sum())
        noise *= math.sqrt(power / max(float(np.mean(noise**2)), 1e-300))
        fade = np.cos(np.pi / 2 * distance / length)
        sides.append((noise[turn], power, fade[turn]))
    if not sides:
        return filled
    if len(sides) == 1:
        sides = [(noise, power, np.ones(length)) for noise, power, _ in sides]
    noise = sum((fade * values for values, _, fade in sides), np.zeros(length))
    level = sum((fade**2 * power for _, power, fade in sides), np.zeros(length))
    smoothing = np.hanning(2 * (held // 2) + 3)[1:-1]
    present = oaconvolve(np.square(filled), smoothing / smoothing.sum(), "same")
    nearest = np.minimum(distance if start else np.inf, distance[::-1] if stop < len(window.samples) else np.inf)
    ramp = np.sin(np.pi / 2 * np.clip(2 * nearest / held - 1, 0, 1))
    weaker = np.clip(1 - present / np.maximum(level, 1e-300), 0, 1)
    return np.asarray(filled + NOISE_LEVEL * ramp * noise * np.sqrt(weaker))
