"""Compare variants of blind dereverberation: benchmarks/reverberation.py with more methods.

    python benchmarks/reverberation_variants.py --source speech/ --rt60 0.3,0.7 --rooms 1 --methods wpe_late,wpe_nmf

``wpe_nmf`` refines the prediction of ``wpe_late`` with the variance of a nonnegative factorisation of the power of the
direct sound. ``wpe_lebart`` has the suppressor of ``late_suppression`` after WPE. ``ctf_nmf`` applies the convolutive
factorisation to the recording, without WPE. ``wpe_network`` is ``wpe_nmf`` with an untrained network in place of the
factorisation: the prediction of hidden bins of benchmarks/variance_prior.py. ``prior_after`` fits the waveform network
of preset ``fast`` to the estimate of ``wpe_late``, for at most 300 epochs, to the hold-out stop.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import reverberation
import torch
import variance_prior
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from torch import Tensor

from dawp.config import Config
from dawp.dsp import dereverberation, nmf
from dawp.dsp.convolutive_nmf import early_gain
from dawp.dsp.dereverberation import (
    EARLY_FLOOR_DB,
    late_reverberation_gain,
    predict_reverberation,
)
from dawp.dsp.reverberation import estimate_rt60
from dawp.dsp.spectral import HOP_SECONDS, SMALLEST_POWER, analyse, synthesise
from dawp.methods.base import METHODS, Method, register
from dawp.methods.deep_prior.solver import solve
from dawp.operators.identity import Identity
from dawp.problem import Problem

Powers = NDArray[np.float64]  # [bins, frames]
Spectrum = NDArray[np.complex128]

SMALLEST_RATIO = 1e-6  # power relative to the maximum: 1 in the factorisation
RANK, ROUNDS = 40, 60
EPOCHS = 300  # of the deep prior
POWER_SHARE = 0.5  # exponent of the plain power in the variance, next to that of the model


def wpe_nmf(problem: Problem) -> Tensor:
    """Return the estimate of ``wpe_late`` after one more iteration of WPE with the variance of ``factorised``."""
    return _with_variance(problem, factorised)


def wpe_network(problem: Problem) -> Tensor:
    """Return the estimate of ``wpe_late`` after one more iteration of WPE with the variance of ``predicted``."""
    return _with_variance(problem, predicted)


def _with_variance(problem: Problem, model: Callable[[Powers], Powers]) -> Tensor:
    spectrum, rt60 = _spectrum(problem)
    power = np.maximum(np.abs(spectrum - predict_reverberation(spectrum)) ** 2, SMALLEST_POWER)
    smooth = convolve1d(power, (0.25, 0.5, 0.25), axis=0, mode="nearest")
    variance = smooth**POWER_SHARE * model(power) ** (1 - POWER_SHARE)
    estimate = _consistent(problem, spectrum - _predict(spectrum, variance))
    gain = early_gain(np.abs(estimate), HOP_SECONDS, rt60, EARLY_FLOOR_DB)
    return synthesise(gain * estimate, problem.sample_rate, len(problem.observed))


def _spectrum(problem: Problem) -> tuple[Spectrum, float]:
    spectrum = analyse(problem.observed, problem.sample_rate)
    return spectrum, estimate_rt60(np.abs(spectrum) ** 2, problem.sample_rate, HOP_SECONDS)


def _predict(spectrum: Spectrum, variance: Powers) -> Spectrum:
    """Return the prediction of WPE for a given variance of the direct sound, one bin at a time."""
    frames = spectrum.shape[1]
    taps = min(dereverberation.TAPS, frames // dereverberation.MIN_FRAMES_PER_TAP)
    padded = np.pad(spectrum, ((0, 0), (dereverberation.DELAY + taps - 1, 0)))
    prediction = np.empty_like(spectrum)
    for index, observed in enumerate(spectrum):
        past = np.lib.stride_tricks.sliding_window_view(padded[index], taps)[:frames].T
        weight = variance[index].max() / np.maximum(variance[index], dereverberation.MIN_WEIGHT * variance[index].max())
        prediction[index] = dereverberation._predict(past[None], observed[None, None], weight[None])[0, 0]
    return prediction


def _consistent(problem: Problem, spectrum: Spectrum) -> Spectrum:
    """Return the STFT of the waveform of a modified STFT."""
    rate = problem.sample_rate
    return analyse(synthesise(spectrum, rate, len(problem.observed)), rate)


# The variance


def factorised(power: Powers) -> Powers:
    """Return the variance by Itakura-Saito factorisation of the power."""
    smallest = SMALLEST_RATIO * power.max()
    ratio = np.maximum(power / smallest, SMALLEST_RATIO).astype(np.float32)
    spectra, levels = nmf.factorise(ratio, RANK, ROUNDS, np.random.default_rng(0))
    variance: Powers = smallest * (1 + (spectra @ levels).astype(np.float64))
    return variance


def predicted(power: Powers) -> Powers:
    """Return the variance that an untrained network predicts for each bin from others."""
    smallest = SMALLEST_RATIO * power.max()
    ratio = torch.from_numpy(np.maximum(power / smallest, SMALLEST_RATIO).astype(np.float32))
    variance: Powers = smallest * (1 + variance_prior.predict_snr(ratio, 0).double().numpy())
    return variance


# The gain


def wpe_lebart(problem: Problem) -> Tensor:
    """Return WPE followed by the suppressor with a model of exponential decay."""
    spectrum, rt60 = _spectrum(problem)
    estimate = _consistent(problem, spectrum - predict_reverberation(spectrum))
    gain = late_reverberation_gain(np.abs(estimate) ** 2, HOP_SECONDS, rt60)
    return synthesise(gain * estimate, problem.sample_rate, len(problem.observed))


def ctf_nmf(problem: Problem) -> Tensor:
    """Return the convolutive factorisation of the recording itself."""
    spectrum, rt60 = _spectrum(problem)
    gain = early_gain(np.abs(spectrum), HOP_SECONDS, rt60, EARLY_FLOOR_DB)
    return synthesise(gain * spectrum, problem.sample_rate, len(problem.observed))


def prior_after(problem: Problem) -> Tensor:
    """Return the output of the deep prior that is fitted to the estimate of ``wpe_late``."""
    estimate = METHODS["dereverb"]["wpe_late"].restore(problem)
    config = Config.of("denoise", "fast", epochs=EPOCHS, stop="holdout", device="cpu", pesq_every=EPOCHS)
    restored = solve(Problem(estimate.float(), None, problem.sample_rate, Identity()), config).restored
    return estimate if restored is None else restored.waveform


VARIANTS = {
    "wpe_network": wpe_network,
    "prior_after": prior_after,
    "wpe_nmf": wpe_nmf,
    "wpe_lebart": wpe_lebart,
    "ctf_nmf": ctf_nmf,
}

if __name__ == "__main__":
    for name, function in VARIANTS.items():
        register(Method(name, "dereverb", function, is_baseline=False))
    reverberation.main()
