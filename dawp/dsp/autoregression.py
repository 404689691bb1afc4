"""Autoregressive models: estimation, extrapolation and least-squares interpolation.

A model is ``[1, a_1, ..., a_p]``: the residual is ``e(t) = x(t) + a_1 x(t-1) + ... + a_p x(t-p)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Weighting = Callable[[Array], Array]

POWER_FLOOR = 1e-28  # share of the power at which nothing but rounding errors is left to predict


class Model(NamedTuple):
    """An autoregressive model."""

    coefficients: Array  # [p + 1], the first one is 1
    variance: float  # of the residual, as a share of the power of the samples


def burg(
    samples: Array,
    segments: Sequence[tuple[int, int]],
    orders: Sequence[int],
    weighting: Weighting | None = None,
) -> list[Model]:
    """Estimate models of several orders by Burg's method on segments of a signal.

    Stage m minimises ``sum of v(t - m/2) (f_m(t)² + b_m(t)²)`` over all segments, where f and b are the forward and the
    backward prediction error and t - m/2 is the centre of the samples that they span. So the estimate is the same for
    the time-reversed signal, and all poles are inside the unit circle.

    Args:
        samples: ``[N]``.
        segments: first index of each segment and the one after its last.
        orders: ascending, below the length of the longest segment.
        weighting: maps positions ``[N]``, in samples from the first one, to weights ``[N]``; None for equal weights.

    Returns:
        One model for each order. An order is lowered where the prediction error vanishes.

    Source:
        Burg, Modern spectral analysis (PhD thesis, Stanford 1975); weights: Swingler, IEEE Trans. ASSP 1979.
    """
    from dawp.dsp import lattice

    places = np.arange(len(samples), dtype=np.float64)
    even = np.ones(len(samples)) if weighting is None else weighting(places)
    odd = even if weighting is None else weighting(places + 0.5)
    bounds = np.array(segments, dtype=np.int64).reshape(-1, 2)
    models, shares = lattice.burg(
        samples.astype(np.float64),
        samples.astype(np.float64),
        even,
        odd,
        np.ascontiguousarray(bounds[:, 0]),
        np.ascontiguousarray(bounds[:, 1]),
        np.array(orders, dtype=np.int64),
        POWER_FLOOR,
    )
    return [Model(model[: order + 1], float(share)) for model, order, share in zip(models, orders, shares, strict=True)]


def extrapolate(samples: Array, model: Model, count: int, excitation: Array | None = None) -> Array:
    """Continue a signal after its last sample.

    Args:
        samples: ``[N]``; those before the first one count as 0.
        model: with a minimum-phase polynomial, as from Burg's method, or the result may grow without bound.
        count: number of samples to predict.
        excitation: residual ``[count]`` of the continuation; None for 0, which gives the prediction.

    Returns:
        ``[count]``. For samples before the first one, reverse the signal and the result.
    """
    from scipy.signal import lfilter, lfiltic

    excitation = np.zeros(count) if excitation is None else excitation
    past = samples[::-1][: len(model.coefficients) - 1]
    if len(model.coefficients) == 1:
        return excitation
    continued, _ = lfilter([1.0], model.coefficients, excitation, zi=lfiltic([1.0], model.coefficients, past))
    return np.asarray(continued)


def interpolate(samples: Array, missing: NDArray[np.bool_], models: Sequence[Model]) -> Array:
    """Interpolate missing samples by their conditional mean given the known ones.

    The signal is a stationary Gaussian autoregressive process, so the mean minimises ``x' R⁻¹ x`` with R the covariance
    of the samples. With the orders known on both sides of one gap this is the gap of least residual energy (Janssen,
    Veldhuis and Vries, IEEE Trans. ASSP 1986), a Toeplitz system; at an end it is the extrapolation. With several
    models, the sum of their energies is minimised, each divided by its variance.

    Args:
        samples: ``[N]``; missing ones are not read.
        missing: ``[N]``.
        models: one or more, of orders below N.

    Returns:
        The missing samples ``[U]``; NaN if the system cannot be solved.
    """
    known = np.where(missing, 0.0, samples)
    places = missing.nonzero()[0]
    if not len(places):
        return np.zeros(0)
    order = max(len(model.coefficients) for model in models) - 1
    first, last = int(places[0]), int(places[-1]) + 1
    largest = min(model.variance for model in models)
    scales = [max(largest, POWER_FLOOR) / max(model.variance, POWER_FLOOR) for model in models]
    if len(places) == last - first and first >= order and len(samples) - last >= order:
        return _interpolate_gap(known[first - order : last + order], len(places), models, scales)
    return _interpolate_any(known, missing, models, scales)


def _interpolate_gap(known: Array, length: int, models: Sequence[Model], scales: Sequence[float]) -> Array:
    """Interpolate one gap, between as many known samples as the highest order on either side."""
    from dawp.dsp import lattice

    order = (len(known) - length) // 2
    column = np.zeros(order + 1)
    for model, scale in zip(models, scales, strict=True):
        column[: len(model.coefficients)] += scale * autocorrelation(model.coefficients)
    right = -_correlate(known, np.concatenate([column[:0:-1], column]))
    padded = np.zeros(max(length, order + 1))
    padded[: order + 1] = column
    solution: Array = lattice.solve_toeplitz(padded[:length], right)
    return solution


def _interpolate_any(
    known: Array, missing: NDArray[np.bool_], models: Sequence[Model], scales: Sequence[float]
) -> Array:
    """Interpolate missing samples anywhere."""
    from dawp.dsp import lattice

    places = np.full(len(known), -1, dtype=np.int64)
    count = int(missing.sum())
    places[missing] = np.arange(count)
    matrix, right = np.zeros((count, count)), np.zeros(count)
    for model, scale in zip(models, scales, strict=True):
        lattice.add_precision(model.coefficients, scale, known, places, matrix, right)
    try:
        return solve_definite(matrix, right)
    except np.linalg.LinAlgError:
        return np.full(count, np.nan)


def solve_definite(matrix: Array, right: Array) -> Array:
    """Solve a symmetric positive definite system by Cholesky's decomposition, which releases the GIL in NumPy.

    Args:
        matrix: ``[U, U]``; only its lower triangle is read.
        right: ``[U]``.

    Returns:
        ``[U]``.

    Raises:
        numpy.linalg.LinAlgError: the matrix is not positive definite.
    """
    from scipy.linalg import cho_solve

    root = np.linalg.cholesky(matrix).T  # in Fortran order, which need not be copied
    return np.asarray(cho_solve((root, False), right, check_finite=False))


def autocorrelation(values: Array) -> Array:
    """Sums of products ``[N]`` of values ``[N]`` at lags from 0."""
    return np.correlate(values, values, "full")[len(values) - 1 :]


def _correlate(values: Array, kernel: Array) -> Array:
    """The valid part of a correlation."""
    return np.correlate(values, kernel, "valid")


class VaryingModel(NamedTuple):
    """A model whose coefficients are ``a_k + b_k tau(t)``."""

    constant: Array  # [p]
    slope: Array  # [p]


class Slope(NamedTuple):
    """The time ``tau(t) = rate (t - centre)`` in which coefficients are linear; t in samples."""

    centre: float
    rate: float

    def at(self, places: Array) -> Array:
        """Return tau ``[N]`` at samples ``[N]``."""
        return self.rate * (places - self.centre)

    def reversed(self, size: int) -> Slope:
        """Return the same time for the reversed samples ``[N]``."""
        return Slope(size - 1 - self.centre, -self.rate)


def fit_varying(
    samples: Array, ahead: Array, behind: Array, order: int, slope: Slope, ridges: tuple[float, float]
) -> VaryingModel:
    """Fit a model with coefficients that are linear in time, by the modified covariance method.

    The same coefficients predict samples from those before and from those after them, so that the estimate is the same
    for the time-reversed signal. The normal equations take O(p² C + N p) operations for weights that change C times
    (`lattice.varying_matrix`).

    Args:
        samples: ``[N]``.
        ahead: weights ``[N]`` of the predictions from the ``order`` samples before; the first ``order`` are not read.
        behind: weights ``[N]`` of the predictions from the ``order`` samples after; the last ``order`` are not read.
        order: p.
        slope: the time that the coefficients are linear in.
        ridges: on the constants and on the slopes, times the mean power.

    Raises:
        numpy.linalg.LinAlgError: the equations are singular.

    Source:
        Hall, Oppenheim and Willsky, Time-varying parametric modeling of speech (Signal Processing 1983); modified
        covariance: Marple, IEEE Trans. ASSP 1980.
    """
    from dawp.dsp import lattice

    first = _first_row(samples, ahead, order, slope)
    backwards, mirrored = samples[::-1], slope.reversed(len(samples))
    second = _first_row(backwards, behind[::-1], order, mirrored)
    right = -(first[0][:2, 1:] + second[0][:2, 1:]).ravel()
    matrix = lattice.varying_matrix(*first, *second, slope.rate)
    diagonal = matrix.reshape(-1)[:: 2 * order + 1]
    diagonal += np.repeat(ridges, order) * diagonal[:order].mean()
    solution = solve_definite(matrix.T, right)
    return VaryingModel(solution[:order], solution[order:])


def _first_row(samples: Array, weights: Array, order: int, slope: Slope) -> tuple[Array, Array]:
    """Return the first row of the normal equations, and what the changes of the weights add to the following rows.

    Returns:
        ``sum of w(t) tau(t)^k x(t) x(t - d)`` for k = 0, 1 and 2, ``[3, p + 1]``, and ``[p, 3, p]``, the arguments of
        `lattice.varying_matrix`.
    """
    places = np.arange(len(samples) + 1, dtype=np.float64)
    powers = slope.at(places) ** np.arange(3)[:, None]
    weighted = powers[:, :-1] * (weights * samples)
    row = np.stack([np.correlate(samples, values[order:], "valid")[::-1] for values in weighted])
    changes = np.diff(weights[order:], prepend=0.0, append=0.0)
    edges = np.flatnonzero(changes)
    before = np.lib.stride_tricks.sliding_window_view(samples, order)[edges][:, ::-1]  # the samples before each edge
    factors = changes[edges] * powers[:, order + edges]
    columns = factors.T[:, :, None] * before[:, None, :]
    added = before.T @ columns.reshape(len(edges), 3 * order)
    return row, added.reshape(order, 3, order)


def interpolate_varying(samples: Array, start: int, stop: int, model: VaryingModel, slope: Slope) -> Array:
    """Fill one gap with the least energy of the forward and backward residuals of a time-varying model.

    With b the slopes, ``A_k = a_k + b_k k rate`` and tau_i the time of sample i, the energy of the forward residual has
    the matrix ``G_ij = sum over k of (A_(k+d) + b_(k+d) tau_i) (A_k + b_k tau_j)``, d = j - i >= 0: four correlations.

    Args:
        samples: ``[N]``; the order is known on either side of the gap, which is not read.
        start: of the gap.
        stop: of the gap.
        model: of order p.
        slope: as in `fit_varying`.

    Returns:
        ``[stop - start]``.

    Raises:
        numpy.linalg.LinAlgError: the equations are singular.
    """
    from dawp.dsp import lattice

    order, length, size = len(model.constant), stop - start, len(samples)
    known = samples.copy()
    known[start:stop] = 0
    constant, slopes = np.concatenate([[1.0], model.constant]), np.concatenate([[0.0], model.slope])
    gram, right = np.zeros((length, length)), np.zeros(length)
    for direction, first, time in (
        (slice(None), start, slope),
        (slice(None, None, -1), size - stop, slope.reversed(size)),
    ):
        places = np.arange(first, first + length + order, dtype=np.float64)
        tau = time.at(places)
        span = known[direction][first - order : first + length + order]
        residual = np.convolve(span, constant, "valid") + tau * np.convolve(span, slopes, "valid")
        shifted = constant + slopes * time.rate * np.arange(order + 1)
        right -= (np.correlate(residual, shifted, "valid") + tau[:length] * np.correlate(residual, slopes, "valid"))[
            direction
        ]
        pairs = ((shifted, shifted), (shifted, slopes), (slopes, shifted), (slopes, slopes))
        correlations = np.zeros((4, max(length, order + 1)))
        for values, (one, other) in zip(correlations, pairs, strict=True):
            values[: order + 1] = np.correlate(one, other, "full")[order:]
        lattice.add_varying_precision(correlations, tau[:length], direction.step == -1, gram)
    return solve_definite(gram, right)


def interpolate_weighted(
    samples: Array, start: int, stop: int, model: VaryingModel, slope: Slope, weights: Array
) -> Array:
    """Fill one gap with the least weighted energy of the forward and backward residuals of a time-varying model.

    It minimises ``sum of w(t) (e(t)² + e'(t)²)`` with e the forward and e' the backward residual at sample t.

    Args:
        samples: ``[N]``; the order is known on either side of the gap, which is not read.
        start: of the gap.
        stop: of the gap.
        model: of order p.
        slope: as in `fit_varying`.
        weights: w ``[N]``, positive.

    Returns:
        ``[stop - start]``.

    Raises:
        numpy.linalg.LinAlgError: the equations are singular.
    """
    order, length, size = len(model.constant), stop - start, len(samples)
    known = samples.copy()
    known[start:stop] = 0
    tau = slope.at(np.arange(size, dtype=np.float64))
    constant, slopes = np.concatenate([[1.0], model.constant]), np.concatenate([[0.0], model.slope])
    gram, right = np.zeros((length, length)), np.zeros(length)
    for direction, first in ((slice(None), start), (slice(None, None, -1), size - stop)):
        rows = slice(first, first + length + order)
        times, root = tau[direction][rows], np.sqrt(weights[direction][rows])
        span = known[direction][first - order : rows.stop]
        residual = np.convolve(span, constant, "valid") + times * np.convolve(span, slopes, "valid")
        # Row i is the part of the residual due to sample i of the gap: order + 1 values from column i on.
        design = np.zeros((length, length + order))
        band = np.lib.stride_tricks.as_strided(
            design, (length, order + 1), (design.strides[0] + design.strides[1], design.strides[1])
        )
        band[:] = constant + slopes * np.lib.stride_tricks.sliding_window_view(times, order + 1)
        design *= root
        gram += (design @ design.T)[direction, direction]
        right -= (design @ (root * residual))[direction]
    return solve_definite(gram, right)
