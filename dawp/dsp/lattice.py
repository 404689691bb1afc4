"""Compiled kernels of autoregressive modelling.

This module imports numba, so import it inside the function that needs it. Machine code is compiled at the first call
and cached in ``__pycache__`` beside this file, in the user's cache folder if that one is read-only, or nowhere if
neither can be written. The kernels release the GIL and may run in threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BLOCK = 1024  # samples of a lattice stage that stay in the second-level cache


def compiled(function: Any) -> Any:
    """Compile a function with numba."""
    # Sums may be reordered, and so be vectorised; NaN and infinity keep their meaning.
    options: Any = {"nogil": True, "error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz", "arcp"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache
        return njit(**options)(function)


@compiled
def _stage_sums(f: Array, b: Array, weights: Array) -> tuple[float, float]:
    """Weighted sums of ``f b`` and of ``f² + b²``."""
    product, power = 0.0, 0.0
    for i in range(len(f)):
        weighted = weights[i] * f[i]
        product += weighted * b[i]
        power += weighted * f[i] + weights[i] * b[i] * b[i]
    return product, power


@compiled
def _reflect(f: Array, b: Array, reflection: float) -> None:
    """One lattice stage, in place."""
    for i in range(len(f)):
        forward, backward = f[i], b[i]
        f[i] = forward + reflection * backward
        b[i] = backward + reflection * forward


@compiled
def burg(
    f: Array, b: Array, even: Array, odd: Array, starts: Array, stops: Array, orders: Array, floor: float
) -> tuple[Array, Array]:
    """Burg's method on several segments; see `dawp.dsp.autoregression.burg`.

    ``b[i]`` is the backward error whose earliest sample is i, so stage m combines ``f[t]`` with ``b[t - m]``.

    Args:
        f: the samples ``[N]``, overwritten.
        b: the same samples, overwritten.
        even: weights ``[N]`` at the samples.
        odd: weights ``[N]`` half a sample later.
        starts: first index ``[S]`` of each segment.
        stops: index ``[S]`` after the last of each segment.
        orders: ascending orders ``[M]``.
        floor: share of the power at which the recursion ends.

    Returns:
        Models ``[M, orders[-1] + 1]`` and the share ``[M]`` of the power that each leaves.
    """
    highest = orders[-1]
    models, shares = np.zeros((len(orders), highest + 1)), np.ones(len(orders))
    model, before = np.zeros(highest + 1), np.zeros(highest + 1)
    model[0] = 1.0
    share = 1.0
    product, power = 0.0, 0.0
    for s in range(len(starts)):
        start, stop = starts[s], stops[s]
        more = _stage_sums(f[start + 1 : stop], b[start : stop - 1], odd[start : stop - 1])
        product += more[0]
        power += more[1]
    lowest = floor * power
    slot = 0
    for m in range(1, highest + 1):
        if not power > lowest:
            break
        reflection = -2 * product / power
        reflection = min(1.0, max(-1.0, reflection))
        before[: m + 1] = model[: m + 1]
        for i in range(1, m + 1):
            model[i] = before[i] + reflection * before[m - i]
        share *= 1 - reflection * reflection
        while slot < len(orders) and orders[slot] == m:
            models[slot] = model
            shares[slot] = share
            slot += 1
        if m == highest:
            break
        following = m + 1
        weights = even if following % 2 == 0 else odd
        shift = (following + 1) // 2
        product, power = 0.0, 0.0
        for s in range(len(starts)):
            start, stop = starts[s], stops[s]
            for first in range(start + m, stop, BLOCK):
                last = min(first + BLOCK, stop)
                _reflect(f[first:last], b[first - m : last - m], reflection)
                begin = max(first, start + following)
                if begin < last:
                    more = _stage_sums(
                        f[begin:last],
                        b[begin - following : last - following],
                        weights[begin - shift : last - shift],
                    )
                    product += more[0]
                    power += more[1]
    for rest in range(slot, len(orders)):
        models[rest] = model
        shares[rest] = share
    return models, shares


@compiled
def solve_toeplitz(column: Array, right: Array) -> Array:
    """Solve a symmetric positive definite Toeplitz system by Levinson's recursion; NaN if it breaks down.

    Args:
        column: the first column ``[L]`` of the matrix.
        right: the right-hand side ``[L]``.

    Returns:
        ``[L]``.
    """
    size = len(right)
    solution, predictor, before = np.zeros(size), np.zeros(size), np.zeros(size)
    error = column[0]
    solution[0] = right[0] / error
    for m in range(1, size):
        wanted = column[m]
        for i in range(1, m):
            wanted += predictor[i - 1] * column[m - i]
        reflection = -wanted / error
        before[: m - 1] = predictor[: m - 1]
        for i in range(m - 1):
            predictor[i] = before[i] + reflection * before[m - 2 - i]
        predictor[m - 1] = reflection
        error *= 1 - reflection * reflection
        if not error > 0:
            solution[:] = np.nan
            return solution
        missing = right[m]
        for i in range(m):
            missing -= column[m - i] * solution[i]
        scale = missing / error
        for i in range(m):
            solution[i] += scale * predictor[m - 1 - i]
        solution[m] = scale
    return solution


@compiled
def _weights(run: Array, theta: float, t: int) -> tuple[float, float, float]:
    """Level, cosine and sine of the weight of a run at t."""
    phase = theta * (t - run[4])
    return run[2], run[3] * np.cos(phase), run[3] * np.sin(phase)


@compiled
def _add_products(sums: Array, sample: float, earlier: Array, weights: tuple[float, float, float], tau: float) -> None:
    """Add the products of a sample and the earlier ones ``[lags]``, times each of nine functions of time."""
    for f in range(3):
        first = weights[f] * sample
        if first != 0.0:
            second, third = first * tau, first * tau * tau
            constant, linear, square = sums[3 * f], sums[3 * f + 1], sums[3 * f + 2]
            for d in range(sums.shape[1]):
                constant[d] += first * earlier[d]
                linear[d] += second * earlier[d]
                square[d] += third * earlier[d]


@compiled
def varying_gram(samples: Array, runs: Array, theta: float, centre: float, rate: float, grams: Array) -> None:
    """Add the weighted covariances of a signal with the powers of time, ``sum of w(t) tau(t)^k x(t - i) x(t - j)``.

    With ``w(t) = level + swing cos(theta (t - origin))`` and ``tau(t) = rate (t - centre)``, w and the powers of tau
    are combinations of nine functions of time that a shift by one sample maps to one another. So row i + 1 of each
    diagonal follows from row i and the samples at the ends of the runs: O(p² + N p) operations in place of O(N p²).

    Args:
        samples: ``[N]``.
        runs: ``[R, 5]``: start >= p, stop, level, swing and origin.
        theta: radians per sample.
        centre: in samples.
        rate: per sample.
        grams: ``[3, p + 1, p + 1]`` for k = 0, 1 and 2, changed in place.
    """
    size, order = len(samples), grams.shape[1] - 1
    backwards = samples[::-1].copy()
    sums = np.zeros((9, order + 1))  # of the functions (level, cosine, sine) times (1, tau, tau²), for each lag
    for r in range(len(runs)):
        for t in range(int(runs[r, 0]), int(runs[r, 1])):
            weights = _weights(runs[r], theta, t)
            _add_products(sums, samples[t], backwards[size - 1 - t :], weights, rate * (t - centre))
    cosine, sine = np.cos(theta), np.sin(theta)
    for i in range(order + 1):
        count = order + 1 - i
        for k in range(3):
            for d in range(count):
                value = sums[k, d] + sums[3 + k, d]
                grams[k, i, i + d] += value
                if d:
                    grams[k, i + d, i] += value
        sums = sums[:, : count - 1]
        for f in range(3):
            constant, linear, square = sums[3 * f], sums[3 * f + 1], sums[3 * f + 2]
            for d in range(count - 1):
                square[d] += rate * (2 * linear[d] + rate * constant[d])
                linear[d] += rate * constant[d]
        for k in range(3):
            along, across = sums[3 + k], sums[6 + k]
            for d in range(count - 1):
                before = along[d]
                along[d] = cosine * before - sine * across[d]
                across[d] = sine * before + cosine * across[d]
        if count == 1:
            break
        for r in range(len(runs) + 1):  # adjacent runs share an edge
            if r < len(runs):
                edge = int(runs[r, 0])
                after = _weights(runs[r], theta, edge)
            if r and (r == len(runs) or edge != int(runs[r - 1, 1])):
                end = int(runs[r - 1, 1])
                place = end - 1 - i
                before = _weights(runs[r - 1], theta, end)
                earlier = backwards[size - 1 - place :]
                _add_products(sums, -samples[place], earlier, before, rate * (end - centre))
            elif r:
                before = _weights(runs[r - 1], theta, edge)
                after = (after[0] - before[0], after[1] - before[1], after[2] - before[2])
            if r < len(runs):
                place = edge - 1 - i
                _add_products(sums, samples[place], backwards[size - 1 - place :], after, rate * (edge - centre))


@compiled
def add_varying_precision(correlations: Array, tau: Array, is_reversed: bool, matrix: Array) -> None:
    """Add ``c0[d] + c1[d] tau_j + c2[d] tau_i + c3[d] tau_i tau_j``, d = j - i >= 0, to a symmetric matrix, in place.

    Args:
        correlations: c ``[4, L]``.
        tau: ``[L]``.
        is_reversed: whether the rows and columns of the matrix are in reversed order.
        matrix: ``[L, L]``.
    """
    size = len(tau)
    for i in range(size):
        row = matrix[size - 1 - i] if is_reversed else matrix[i]
        for j in range(size):
            earlier, later = min(i, j), max(i, j)
            d = later - earlier
            value = correlations[0, d] + correlations[1, d] * tau[later]
            value += (correlations[2, d] + correlations[3, d] * tau[later]) * tau[earlier]
            row[size - 1 - j if is_reversed else j] += value


@compiled
def add_precision(model: Array, scale: float, samples: Array, places: Array, matrix: Array, right: Array) -> None:
    """Add the normal equations of the missing samples of a stationary autoregressive process, in place.

    The inverse covariance of N samples is given by Gohberg and Semencul (1972); it is banded.

    Args:
        model: ``[p + 1]``, p < N.
        scale: factor, such as the inverse variance of the residual.
        samples: ``[N]``; missing ones must be 0.
        places: ``[N]``, the row of a missing sample, -1 for known ones.
        matrix: ``[U, U]`` of the missing samples.
        right: ``[U]``.
    """
    size, order = len(samples), len(model) - 1
    ahead, behind = np.zeros(size), np.zeros(size)
    ahead[: order + 1] = scale * model
    for i in range(order):
        behind[size - 1 - i] = scale * model[i + 1]
    first, second = np.zeros(size), np.zeros(size)
    first[: order + 1] = model
    for i in range(order):
        second[size - 1 - i] = model[i + 1]
    for lag in range(order + 1):
        value = 0.0
        for i in range(size - lag):
            value += ahead[i] * first[i + lag] - behind[i] * second[i + lag]
            row, column = places[i], places[i + lag]
            if row >= 0:
                if column >= 0:
                    matrix[row, column] += value
                    if lag:
                        matrix[column, row] += value
                else:
                    right[row] -= value * samples[i + lag]
            elif column >= 0:
                right[column] -= value * samples[i]
