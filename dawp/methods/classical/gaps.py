"""Classical methods that fill gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dawp.io.audio import true_runs
from dawp.problem import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AR_CONTEXT_PER_GAP = 13  # sound on either side of a gap that the autoregressive model is fitted to: lengths of the gap
AR_CONTEXT = (0.048, 0.128)  # seconds of it at least and at most
AR_CONTEXT_PER_ORDER = 8
AR_ITERATIONS = 8


def linear(problem: Problem) -> Tensor:
    """A straight line from the last sample before a gap to the first one after it."""
    import numpy as np

    observed, missing = problem.observed.numpy().copy(), _missing(problem)
    observed[missing] = np.interp(missing.nonzero()[0], (~missing).nonzero()[0], observed[~missing])
    return torch.from_numpy(observed)


def janssen(problem: Problem) -> Tensor:
    """Autoregressive interpolation (Janssen, Veldhuis and Vries 1986).

    Alternates between estimating an autoregressive model of the signal around a gap and filling the gap with the
    samples of least residual energy.
    """
    import numpy as np

    observed, missing = problem.observed.double().numpy().copy(), _missing(problem)
    observed[missing] = 0
    for start, stop in true_runs(torch.from_numpy(missing)):
        seconds = min(max(AR_CONTEXT_PER_GAP * (stop - start) / problem.sample_rate, AR_CONTEXT[0]), AR_CONTEXT[1])
        context = round(seconds * problem.sample_rate)
        around = slice(max(0, start - context), min(len(observed), stop + context))
        places = np.arange(around.start, around.stop)
        window = np.cos(np.pi * (places - (start + stop - 1) / 2) / (2 * context + stop - start + 1)) ** 2
        filled = _fill(observed[around], missing[around], window, round(context / AR_CONTEXT_PER_ORDER))
        observed[start:stop] = filled[start - around.start : stop - around.start]
    return torch.from_numpy(observed)


def _fill(
    sound: NDArray[np.float64], missing: NDArray[np.bool_], window: NDArray[np.float64], order: int
) -> NDArray[np.float64]:
    """A sound ``[N]`` with its missing samples interpolated by a model of some order, fitted under a window ``[N]``."""
    import numpy as np
    from scipy.linalg import LinAlgError, solve_toeplitz, solveh_banded
    from scipy.signal import correlate

    filled = np.where(missing, 0.0, sound)
    places = missing.nonzero()[0]
    order = min(order, (len(sound) - len(places)) // 3)
    if order < 1 or not filled.any():
        return filled
    for _ in range(AR_ITERATIONS):
        windowed = filled * window
        correlation = correlate(windowed, windowed)[len(filled) - 1 :][: order + 1]
        correlation[0] *= 1 + 1e-9  # a pure tone would make the equations singular
        try:
            model = np.concatenate([[1.0], -solve_toeplitz(correlation[:-1], correlation[1:])])
        except LinAlgError:
            break
        # The residual's energy is x' B x with B[i, j] = weights[|i - j|], banded.
        weights = np.correlate(model, model, "full")[order:]
        known = np.where(missing, 0.0, sound)
        pull = np.convolve(known, np.concatenate([weights[:0:-1], weights]), "same")[places]
        bands = np.zeros((min(order, len(places) - 1) + 1, len(places)))
        for offset in range(len(bands)):
            apart = places[offset:] - places[: len(places) - offset]
            bands[offset, : len(apart)] = np.where(apart <= order, weights[np.minimum(apart, order)], 0.0)
        try:
            filled[places] = solveh_banded(bands, -pull, lower=True)
        except LinAlgError:
            break
    return filled


def ar(problem: Problem) -> Tensor:
    """One autoregressive model of both sides (``dsp.gaps.ar``)."""
    return _fill_gaps(problem, "ar")


def ar_mean(problem: Problem) -> Tensor:
    """The mean of four autoregressive interpolations, for music (``dsp.gaps.ar_mean``)."""
    return _fill_gaps(problem, "ar_mean")


def ar_varying(problem: Problem) -> Tensor:
    """A time-varying autoregressive model, for speech (``dsp.gaps.ar_varying``)."""
    return _fill_gaps(problem, "ar_varying")


def ar_stack(problem: Problem) -> Tensor:
    """Combine eight interpolations, weighted by their errors in pseudo-gaps nearby (``dsp.gaps.ar_stack``)."""
    return _fill_gaps(problem, "ar_stack")


def ar_frames(problem: Problem) -> Tensor:
    """One autoregressive model for each frame, for many short gaps (``dsp.gaps.ar_frames``)."""
    from dawp.dsp import gaps

    return gaps.ar_frames(problem.observed, torch.from_numpy(~_missing(problem)), problem.sample_rate)


def auto(problem: Problem) -> Tensor:
    """The best of the recipes for speech, music and sustained tones, chosen by pseudo-gaps (``dsp.gaps.auto``)."""
    from dawp.dsp import gaps

    known = torch.from_numpy(~_missing(problem))
    return gaps.auto(problem.observed, known, problem.sample_rate, torch.get_num_threads(), problem.others)


def _fill_gaps(problem: Problem, method: str) -> Tensor:
    from dawp.dsp.gaps import fill

    known = torch.from_numpy(~_missing(problem))
    return fill(problem.observed, known, problem.sample_rate, method, torch.get_num_threads())


def _missing(problem: Problem) -> NDArray[np.bool_]:
    """Which samples are to be filled, ``[T]``."""
    import numpy as np

    return np.zeros(len(problem.observed), dtype=bool) if problem.mask is None else ~problem.mask.numpy()
