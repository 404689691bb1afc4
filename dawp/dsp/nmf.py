"""Noise reduction by non-negative matrix factorisation (NMF) of the signal-to-noise ratios of a recording.

The power of each bin, divided by that of the noise, is modelled as 1 + WH: noise of power 1 and sound that is made of
few spectra W, each with a level over time H. Factorisations from several initialisations disagree most where the
evidence is weak, so the mean of their gains is used, together with gains that have no such model.

Bursts of unsteady noise resemble sound, so that its estimate is too low, and WH explains part of the noise as well. The
factorisations therefore use a higher noise power at medium and high frequencies.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from dawp.dsp.blind_highpass import blind_high_pass, power_response
from dawp.dsp.cepstrum import smoothed_prior
from dawp.dsp.filters import remove_rumble
from dawp.dsp.noise import estimate_noise
from dawp.dsp.spectral import (
    SMALLEST_POWER,
    SMALLEST_PRIOR,
    analyse,
    decibels,
    frame_hop,
    log_mmse,
    ramp,
    spectral_gain,
    synthesise,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dawp.dsp.spectral import Powers

    Factor = NDArray[np.float32]

SEEDS, RANK, ROUNDS = 8, 10, 60
FLOOR_DB = -18.0
DECISION = 0.97  # of the gain without a model of the sound
NMF_SHARE, CEPSTRAL_SHARE = 0.6, 0.15
RAISED_HZ = (300.0, 500.0)  # the noise of the factorisations is higher above the second frequency
STEADY_FACTOR, UNSTEADY_FACTOR = 1.4, 1.7
STEADY_DB, UNSTEADY_DB = 0.6, 1.2  # standard deviations over time of the level of the noise
UNSTEADY_HZ = 250.0  # standard deviation of the smoothing of the former over frequency
SEGMENT_SECONDS, OVERLAP_SECONDS = 10.0, 2.0  # each segment has a noise estimate and factorisations of its own
MIN_RATIO, MAX_RATIO = 1e-6, 1e8
SMALLEST = 1e-12


def reduce_noise(
    waveform: Tensor, sample_rate: int, noise: Powers | None = None, seed: int = 0, floor_db: float = FLOOR_DB
) -> Tensor:
    """Remove the noise from a recording.

    Args:
        waveform: ``[T]``.
        sample_rate: in Hz.
        noise: power ``[bins, frames]`` of the noise in each bin of ``spectral.analyse(waveform, sample_rate)``; None to
            apply ``blind_high_pass`` and estimate it.
        seed: of the initialisations.
        floor_db: minimum gain in dB.

    Returns:
        ``[T]``; the waveform itself if no noise is found.
    """
    filtered = waveform
    if noise is None:
        filtered, unfiltered = blind_high_pass(waveform, sample_rate), remove_rumble(waveform, sample_rate)
        response = power_response(unfiltered, filtered, sample_rate)
    spectrum = analyse(filtered, sample_rate)
    hop, frames = frame_hop(len(filtered), sample_rate), spectrum.shape[1]
    gain, weight, is_noisy = np.zeros(spectrum.shape), np.zeros(frames), False
    for start, stop, fade in _segments(frames, hop / sample_rate):
        if noise is None:
            part = unfiltered[start * hop : (stop - 1) * hop if stop < frames else len(filtered)]
            local = np.maximum(response * estimate_noise(part, sample_rate), SMALLEST_POWER)
        else:
            local = noise[:, start:stop]
        weight[start:stop] += fade
        if local.max() <= SMALLEST_POWER:
            gain[:, start:stop] += fade
            continue
        rng = np.random.default_rng((seed, start))
        power = np.abs(spectrum[:, start:stop]) ** 2
        gain[:, start:stop] += fade * committee_gain(power, local, sample_rate, 10 ** (floor_db / 20), rng)
        is_noisy = True
    return synthesise(gain / weight * spectrum, sample_rate, len(filtered)) if is_noisy else filtered


def committee_gain(power: Powers, noise: Powers, sample_rate: int, floor: float, rng: np.random.Generator) -> Powers:
    """Return a weighted mean of three gains.

    The weights are 0.25 for a two-step log-MMSE gain, 0.15 for the gain at a prior smoothed in the cepstral domain, and
    0.6 for the mean gain of several factorisations with ``raised_noise``.

    Args:
        power: squared magnitudes ``[bins, frames]``.
        noise: power of the noise, of that shape.
        sample_rate: in Hz.
        floor: smallest gain.
        rng: draws the initialisations.

    Returns:
        Gain ``[bins, frames]``, from ``floor`` to 1.
    """
    ratio = power / noise
    first = log_mmse(power, noise, floor, DECISION)
    filtered = np.maximum(gain_at(first**2 * ratio, ratio), floor)
    smoothed = np.maximum(gain_at(smoothed_prior(power, noise, sample_rate), ratio), floor)
    modelled = np.maximum(nmf_gain(power / raised_noise(noise, sample_rate), rng), floor)
    filtered_share = 1 - NMF_SHARE - CEPSTRAL_SHARE
    gain: Powers = filtered_share * filtered + CEPSTRAL_SHARE * smoothed + NMF_SHARE * modelled
    return gain


def raised_noise(noise: Powers, sample_rate: int) -> Powers:
    """Return the noise power for the factorisations: higher above 300 Hz, and most for unsteady noise.

    The factor above 500 Hz is 1.4 if the level of the estimate has a standard deviation over time of at most 0.6 dB,
    and 1.7 from 1.2 dB on. Frames of digital silence are not counted.

    Args:
        noise: power ``[bins, frames]``.
        sample_rate: in Hz.

    Returns:
        Power ``[bins, frames]``.
    """
    from scipy.ndimage import gaussian_filter1d

    frequencies = np.linspace(0, sample_rate / 2, len(noise))
    audible = noise.max(axis=0) > SMALLEST_POWER
    deviation = decibels(noise[:, audible]).std(axis=1) if audible.any() else np.zeros(len(noise))
    deviation = gaussian_filter1d(deviation, UNSTEADY_HZ / frequencies[1], mode="nearest")
    factor = STEADY_FACTOR + (UNSTEADY_FACTOR - STEADY_FACTOR) * ramp(deviation, STEADY_DB, UNSTEADY_DB)
    raised: Powers = noise * (1 + (factor - 1) * ramp(frequencies, *RAISED_HZ))[:, None]
    return raised


def nmf_gain(ratio: Powers, rng: np.random.Generator) -> Powers:
    """Return the mean over ``SEEDS`` factorisations of the log-spectral amplitude gain.

    Args:
        ratio: power divided by the power of the noise ``[bins, frames]``.
        rng: draws the initialisations.

    Returns:
        Gain ``[bins, frames]``, at most 1.
    """
    limited = np.clip(ratio, MIN_RATIO, MAX_RATIO).astype(np.float32)
    gains = np.zeros_like(ratio)
    for _ in range(SEEDS):
        spectra, levels = factorise(limited, RANK, ROUNDS, rng)
        gains += gain_at((spectra @ levels).astype(np.float64), ratio)
    return gains / SEEDS


def gain_at(prior: Powers, posterior: Powers) -> Powers:
    """Return the log-spectral amplitude gain at SNRs a priori, at least ``SMALLEST_PRIOR``, and a posteriori."""
    return spectral_gain(np.maximum(prior, SMALLEST_PRIOR), posterior)


def factorise(ratio: Factor, rank: int, rounds: int, rng: np.random.Generator) -> tuple[Factor, Factor]:
    """Fit 1 + WH to positive ratios by the Itakura-Saito divergence.

    The multiplicative updates with a square root never increase the divergence (Févotte and Idier 2011, Algorithms for
    nonnegative matrix factorization with the beta-divergence, section 4.1: majorisation-minimisation with beta = 0;
    the constant 1 is a component that is not updated). With V = 1 + WH,

        W <- W * sqrt((R / V^2) H' / ((1 / V) H'))  and  H <- H * sqrt(W' (R / V^2) / (W' (1 / V))).

    Args:
        ratio: R ``[bins, frames]``.
        rank: number of spectra.
        rounds: updates of each factor.
        rng: draws the initialisation.

    Returns:
        W ``[bins, rank]`` and H ``[rank, frames]``.
    """
    bins, frames = ratio.shape
    scale = np.sqrt(ratio.mean() / rank)
    spectra = scale * (rng.random((bins, rank), dtype=np.float32) + np.float32(0.1))
    levels = scale * (rng.random((rank, frames), dtype=np.float32) + np.float32(0.1))
    inverse, weighted = np.empty_like(ratio), np.empty_like(ratio)
    for _ in range(rounds):
        _weights(ratio, spectra, levels, inverse, weighted)
        spectra *= np.sqrt((weighted @ levels.T) / (inverse @ levels.T + SMALLEST))
        _weights(ratio, spectra, levels, inverse, weighted)
        levels *= np.sqrt((spectra.T @ weighted) / (spectra.T @ inverse + SMALLEST))
    return spectra, levels


def _weights(ratio: Factor, spectra: Factor, levels: Factor, inverse: Factor, weighted: Factor) -> None:
    """Write 1 / V to ``inverse`` and R / V^2 to ``weighted``."""
    np.matmul(spectra, levels, out=inverse)
    inverse += 1
    np.reciprocal(inverse, out=inverse)
    np.multiply(inverse, inverse, out=weighted)
    np.multiply(weighted, ratio, out=weighted)


def divergence(ratio: NDArray[np.generic], model: NDArray[np.generic]) -> float:
    """Return the Itakura-Saito divergence, the sum of R / V - log(R / V) - 1."""
    quotient = np.asarray(ratio, np.float64) / np.asarray(model, np.float64)
    return float((quotient - np.log(quotient) - 1).sum())


def _segments(frames: int, frame_seconds: float) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """Yield the first frame of each segment, the one after its last, and its weight ``[frames]`` for cross-fades."""
    size = max(2, round(SEGMENT_SECONDS / frame_seconds))
    overlap = min(size // 2, round(OVERLAP_SECONDS / frame_seconds))
    count = max(1, -(-(frames - overlap) // (size - overlap)))
    size = -(-(frames + (count - 1) * overlap) // count)
    for index in range(count):
        start = index * (frames - size) // max(1, count - 1)
        ramp = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)) / (overlap + 1)
        yield start, start + size, np.minimum(ramp, 1)
