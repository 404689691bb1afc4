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
def varying_matrix(ahead: Array, ahead_changes: Array, behind: Array, behind_changes: Array, rate: float) -> Array:
    """Normal equations of a varying model in both directions, from their first rows and what changes along diagonals.

    With ``S_k(i, j)`` the sum of ``w(t) tau(t)^k x(t - i) x(t - j)`` and r the rate of tau, ``S_k(i + 1, j + 1)`` is
    the sum of ``w(t + 1) tau(t + 1)^k x(t - i) x(t - j)``. So it follows from ``S_0 ... S_k`` at (i, j), since
    ``tau(t + 1) = tau(t) + r``, and from ``w(t + 1) - w(t)``, which differs from 0 only where the weights change.

    Args:
        ahead: ``S_k(0, d)`` of the forward prediction ``[3, p + 1]``, overwritten.
        ahead_changes: what the changes of the weights add to ``S_k(i + 1, j + 1)``, ``[p, 3, p]``.
        behind: those of the backward prediction, where the rate of tau is -r.
        behind_changes: those of the backward prediction.
        rate: r.

    Returns:
        ``[2p, 2p]``: blocks S_0, S_1 and S_2 of i, j = 1 ... p. The lower triangle of the whole is not set.
    """
    order = ahead.shape[1] - 1
    matrix = np.zeros((2 * order, 2 * order))
    for i in range(order):
        for sums, changes, step in ((ahead, ahead_changes[i], rate), (behind, behind_changes[i], -rate)):
            constant, linear, square = sums[0], sums[1], sums[2]
            first, second, third = changes[0, i:], changes[1, i:], changes[2, i:]
            for d in range(order - i):
                even, odd = constant[d], linear[d]
                constant[d] = even + first[d]
                linear[d] = odd + step * even + second[d]
                square[d] += step * (2 * odd + step * even) + third[d]
        upper, mixed, lower = matrix[i, i:order], matrix[i, order + i :], matrix[order + i, order + i :]
        for d in range(order - i):
            upper[d] = ahead[0, d] + behind[0, d]
            mixed[d] = ahead[1, d] + behind[1, d]
            lower[d] = ahead[2, d] + behind[2, d]
            matrix[i + d, order + i] = mixed[d]
    return matrix


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
