"""What one would use in the network's place: classical methods, from kept libraries where there are any.

Each is a function of a problem and looks at its observed clip, never at its clean one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dawp.errors import BadInput
from dawp.problem import Problem, runs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

AR_SECONDS, AR_CONTEXT = 0.008, 0.064  # of the autoregressive model, and of sound on either side of a gap to fit it to
AR_ITERATIONS = 8
NOISEREDUCE_SIZE, WIENER_FRAME = 1024, 512  # samples
WIENER_QUIET_SHARE = 0.3
WPE_SIZE, WPE_SHIFT, WPE_TAPS, WPE_DELAY, WPE_ITERATIONS = 1024, 256, 10, 2, 5


class Baseline(NamedTuple):
    method: Callable[[Problem], Tensor]  # the estimate [T]
    package: str | None = None  # which it needs beyond the toolkit's own


def check_installed(task: str) -> None:
    """Refuse to go on without the packages of a task's baselines.

    Raises:
        BadInput: packages are missing; the message names them.
    """
    packages = dict.fromkeys(baseline.package for baseline in BASELINES[task].values() if baseline.package)
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise BadInput(
            f"baselines need packages that are not installed: {', '.join(missing)} (pip install 'dawp[baselines]')"
        )


def run(task: str, problem: Problem) -> dict[str, Tensor]:
    """The estimate ``[T]`` of each of the task's baselines, by name.

    Raises:
        BadInput: packages are missing.
    """
    check_installed(task)
    estimates = {name: baseline.method(problem) for name, baseline in BASELINES[task].items()}
    return {name: estimate.to(problem.observed.dtype) for name, estimate in estimates.items()}


# Noise


def noisereduce(problem: Problem, stationary: bool = False) -> Tensor:
    """Spectral gating by the package noisereduce, with the settings it comes with."""
    from noisereduce import reduce_noise

    observed = problem.observed.numpy()
    n_fft = min(NOISEREDUCE_SIZE, len(observed))
    return torch.from_numpy(reduce_noise(observed, problem.sample_rate, stationary=stationary, n_fft=n_fft))


def stationary_noisereduce(problem: Problem) -> Tensor:
    """The same with one threshold a frequency for the whole clip."""
    return noisereduce(problem, stationary=True)


def wiener(problem: Problem) -> Tensor:
    """Iterative Wiener filter on an all-pole model of speech (Lim and Oppenheim 1978), by pyroomacoustics.

    Its estimate of the noise comes from the quietest 30 % of the frames.
    """
    from pyroomacoustics.denoise import apply_iterative_wiener

    observed = problem.observed.double()
    delay = WIENER_FRAME // 2  # of the library's overlapping frames
    padded = torch.nn.functional.pad(observed, (0, 2 * WIENER_FRAME))
    frames = padded[: max(len(observed), WIENER_FRAME)].unfold(0, WIENER_FRAME, delay)
    threshold = frames.var(dim=1, correction=0).quantile(WIENER_QUIET_SHARE).item()
    filtered = apply_iterative_wiener(padded.numpy(), frame_len=WIENER_FRAME, thresh=threshold)
    return torch.from_numpy(filtered)[delay : delay + len(observed)]


# Reverberation


def wpe(problem: Problem) -> Tensor:
    """Weighted prediction error (Nakatani et al. 2010) for one channel, by the package nara_wpe."""
    from nara_wpe.utils import istft, stft
    from nara_wpe.wpe import wpe as dereverberate

    observed = problem.observed.double().numpy()
    spectrum = stft(observed, size=WPE_SIZE, shift=WPE_SHIFT)  # (frames, bins)
    drier = dereverberate(spectrum.T[:, None], taps=WPE_TAPS, delay=WPE_DELAY, iterations=WPE_ITERATIONS)
    return torch.from_numpy(istft(drier[:, 0].T, size=WPE_SIZE, shift=WPE_SHIFT)[: len(observed)])


# Gaps


def linear(problem: Problem) -> Tensor:
    """A straight line from the last sample before a gap to the first one after it."""
    import numpy as np

    observed, missing = problem.observed.numpy().copy(), _missing(problem)
    observed[missing] = np.interp(missing.nonzero()[0], (~missing).nonzero()[0], observed[~missing])
    return torch.from_numpy(observed)


def janssen(problem: Problem) -> Tensor:
    """Autoregressive interpolation (Janssen, Veldhuis and Vries 1986): the strongest classical method for short gaps.

    The gaps are filled with what an autoregressive model of the sound around them leaves the least residual for; the
    model is then estimated anew from the filled sound, and so on.
    """
    observed, missing = problem.observed.double().numpy().copy(), _missing(problem)
    observed[missing] = 0
    context, order = (round(seconds * problem.sample_rate) for seconds in (AR_CONTEXT, AR_SECONDS))
    for start, stop in runs(torch.from_numpy(missing)):
        around = slice(max(0, start - context), stop + context)
        gap = slice(start - around.start, stop - around.start)
        observed[start:stop] = _fill(observed[around], missing[around], order)[gap]
    return torch.from_numpy(observed)


def _fill(sound: NDArray[np.float64], missing: NDArray[np.bool_], order: int) -> NDArray[np.float64]:
    """A sound ``[N]`` with its missing samples interpolated."""
    import numpy as np
    from scipy.linalg import LinAlgError, solve_toeplitz, solveh_banded

    filled = np.where(missing, 0.0, sound)
    places = missing.nonzero()[0]
    window = np.hanning(len(sound) + 2)[1:-1]
    order = min(order, (len(sound) - len(places)) // 3)
    if order < 1 or not filled.any():
        return filled
    for _ in range(AR_ITERATIONS):
        windowed = filled * window
        correlation = np.correlate(windowed, windowed, "full")[len(filled) - 1 :][: order + 1]
        correlation[0] *= 1 + 1e-9  # a pure tone would make the equations singular
        model = np.concatenate([[1.0], -solve_toeplitz(correlation[:-1], correlation[1:])])
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


def _missing(problem: Problem) -> NDArray[np.bool_]:
    """Which samples are to be filled, ``[T]``."""
    import numpy as np

    return np.zeros(len(problem.observed), dtype=bool) if problem.mask is None else ~problem.mask.numpy()


BASELINES = {
    "denoise": {
        "noisereduce": Baseline(noisereduce, "noisereduce"),
        "noisereduce_stationary": Baseline(stationary_noisereduce, "noisereduce"),
        "wiener": Baseline(wiener),
    },
    "dereverb": {"wpe": Baseline(wpe, "nara_wpe")},
    "inpaint": {"linear": Baseline(linear), "janssen": Baseline(janssen)},
}
"""Each task's baselines, by name."""
