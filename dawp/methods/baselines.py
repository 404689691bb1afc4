"""What one would use in the network's place: classical methods, from kept libraries where there are any.

Each is a function of a problem and looks at its observed clip, never at its clean one.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dawp.dsp import spectral
from dawp.errors import BadInput, shown
from dawp.io.audio import stretches
from dawp.problem import Problem

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

AR_CONTEXT_PER_GAP = 13  # sound on either side of a gap that the autoregressive model is fitted to: lengths of the gap
AR_CONTEXT = (0.048, 0.128)  # seconds of it at least and at most
AR_CONTEXT_PER_ORDER = 8
AR_ITERATIONS = 8
NOISEREDUCE_SIZE, NOISEREDUCE_SMOOTHING_HZ = 1024, 500  # its own settings, where the clip is long enough
LOG_MMSE_DECISION = 0.98  # Ephraim and Malah's own
WIENER_FRAME = 512  # samples
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
            f"baselines need packages that are not installed: {', '.join(missing)} "
            "(pip install '.[baselines]' in the toolkit's folder)"
        )


def run(task: str, problem: Problem) -> dict[str, Tensor]:
    """The estimate ``[T]`` of each of the task's baselines, by name; NaN, with a warning, for one that fails.

    Raises:
        BadInput: packages are missing.
    """
    check_installed(task)
    estimates = {}
    for name, baseline in BASELINES[task].items():
        try:
            estimate = baseline.method(problem).to(problem.observed.dtype)
            if not estimate.isfinite().all():
                raise ValueError("its output is not finite")
        except MemoryError:
            raise
        except Exception as error:  # whatever a library makes of an odd clip, the fit goes on
            log.warning("%s: baseline %s cannot be computed and counts as NaN: %s", problem.name, name, shown(error))
            estimate = torch.full_like(problem.observed, torch.nan)
        estimates[name] = estimate
    return estimates


# Noise


def noisereduce(problem: Problem, stationary: bool = False) -> Tensor:
    """Spectral gating by the package noisereduce, with the settings it comes with."""
    from noisereduce import reduce_noise

    observed = problem.observed.numpy()
    n_fft = min(NOISEREDUCE_SIZE, len(observed))
    smoothing = max(NOISEREDUCE_SMOOTHING_HZ, 2 * problem.sample_rate / n_fft)  # of two bins at least
    return torch.from_numpy(
        reduce_noise(observed, problem.sample_rate, stationary=stationary, n_fft=n_fft, freq_mask_smooth_hz=smoothing)
    )


def stationary_noisereduce(problem: Problem) -> Tensor:
    """The same with one threshold a frequency for the whole clip."""
    return noisereduce(problem, stationary=True)


def log_mmse(problem: Problem) -> Tensor:
    """Log-MMSE filter (Ephraim and Malah 1985), its noise taken from the quieter 30 % of the frames, by frequency."""
    import numpy as np

    spectrum = spectral.analyse(problem.observed, problem.sample_rate)
    power = np.abs(spectrum) ** 2
    noise = np.broadcast_to(spectral.quiet_power(power), power.shape)
    gain = spectral.log_mmse(power, noise, floor=0.0, decision=LOG_MMSE_DECISION)
    return spectral.synthesise(gain * spectrum, problem.sample_rate, len(problem.observed))


def wiener(problem: Problem) -> Tensor:
    """Iterative Wiener filter on an all-pole model of speech (Lim and Oppenheim 1978), by pyroomacoustics.

    Its estimate of the noise comes from the quietest 30 % of the frames.
    """
    from pyroomacoustics.denoise import apply_iterative_wiener

    observed = problem.observed.double()
    rng = torch.Generator().manual_seed(0)  # of a dither far below hearing: the library divides by a frame's energy
    observed = observed + 1e-6 * observed.std() * torch.randn(len(observed), generator=rng, dtype=observed.dtype)
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
    import numpy as np

    observed, missing = problem.observed.double().numpy().copy(), _missing(problem)
    observed[missing] = 0
    for start, stop in stretches(torch.from_numpy(missing)):
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


def _missing(problem: Problem) -> NDArray[np.bool_]:
    """Which samples are to be filled, ``[T]``."""
    import numpy as np

    return np.zeros(len(problem.observed), dtype=bool) if problem.mask is None else ~problem.mask.numpy()


BASELINES = {
    "denoise": {
        "noisereduce": Baseline(noisereduce, "noisereduce"),
        "noisereduce_stationary": Baseline(stationary_noisereduce, "noisereduce"),
        "log_mmse": Baseline(log_mmse),
        "wiener": Baseline(wiener),
    },
    "dereverb": {"wpe": Baseline(wpe, "nara_wpe")},
    "inpaint": {"linear": Baseline(linear), "janssen": Baseline(janssen)},
}
"""Each task's baselines, by name."""
