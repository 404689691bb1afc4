"""A reverberant spectrogram as a factorised source, convolved with a response at each frequency.

The magnitudes of the source are made of few spectra, each with a level over time. The reverberation of one frame
continues in the next ones, which new spectra do not explain as well.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dawp.dsp.spectral import OVERLAP

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dawp.dsp.spectral import Powers

    Array = NDArray[np.float32]

RANK, ROUNDS = 40, 30
RESPONSE_SECONDS = 0.16
EARLY_SECONDS = 0.024  # of the response, after the direct sound, that belongs to the estimate
MAX_SINGLE_HZ, WIDE_BINS = 8000.0, 8  # above this frequency, groups of bins have one gain, to save time
FIRST_REFLECTED = 0.5  # initial response after the direct sound, relative to the decay of the RT60
SEGMENT_SECONDS = 10.0  # each segment has a factorisation of its own
SMALLEST = 1e-6  # relative to the mean magnitude


def early_gain(magnitude: Powers, frame_seconds: float, rt60: float, floor_db: float) -> Powers:
    """Return the share of the direct sound and of the first reflections in each bin of a reverberant spectrogram.

    The gain is that of the factorisation ``Y`` of ``factorise``, for segments of up to 10 s:

        sum over k = 0 ... E of H(f, k) S(f, t - k)  /  sum over k = 0 ... K of H(f, k) S(f, t - k)

    with E the number of frames in 24 ms and K + 1 that in 160 ms.

    Args:
        magnitude: ``[bins, frames]``.
        frame_seconds: from frame to frame.
        rt60: reverberation time in seconds, from which the responses are initialised.
        floor_db: minimum gain in dB.

    Returns:
        Gain ``[bins, frames]``.
    """
    frames = magnitude.shape[1]
    segments = max(1, round(frames * frame_seconds / SEGMENT_SECONDS))
    edges = np.linspace(0, frames, segments + 1).round().astype(int)
    context = round(RESPONSE_SECONDS / frame_seconds)
    starts = _band_starts(len(magnitude), frame_seconds)
    widths = np.diff(starts, append=len(magnitude))
    magnitude = np.add.reduceat(magnitude, starts, axis=0) / widths[:, None]
    gain = np.empty(magnitude.shape)
    for start, stop in pairwise(edges):
        first = max(0, start - context)  # reverberation of the previous segment
        gain[:, start:stop] = _share(magnitude[:, first:stop], frame_seconds, rt60)[:, start - first :]
    limited: Powers = np.repeat(np.maximum(gain, 10 ** (floor_db / 20)), widths, axis=0)
    return limited


def _band_starts(bins: int, frame_seconds: float) -> NDArray[np.intp]:
    """Return the first bin of each band: single bins up to 8 kHz, and groups of eight above."""
    single = min(bins, 1 + round(MAX_SINGLE_HZ * OVERLAP * frame_seconds))
    return np.concatenate([np.arange(single), np.arange(single, bins, WIDE_BINS)])


def _share(magnitude: Powers, frame_seconds: float, rt60: float) -> Array:
    source, response = factorise(magnitude, frame_seconds, rt60)
    early = 1 + round(EARLY_SECONDS / frame_seconds)
    share: Array = convolve(source, response[:, :early]) / convolve(source, response)
    return share


def factorise(magnitude: Powers, frame_seconds: float, rt60: float, rounds: int = ROUNDS) -> tuple[Array, Array]:
    """Factorise the magnitudes of a reverberant spectrogram:

        Y(f, t) = sum over k = 0 ... K of H(f, k) S(f, t - k),    S = WG

    The factors of rank 40 and the responses are found by multiplicative updates of the generalised Kullback-Leibler
    divergence. The responses are initialised with the decay of the RT60. They decrease with k, and H(f, 0) = 1.

    Args:
        magnitude: ``[bins, frames]``; divided by its mean.
        frame_seconds: from frame to frame.
        rt60: reverberation time in seconds.
        rounds: updates of each factor.

    Returns:
        S ``[bins, frames]`` and H ``[bins, K + 1]``.

    References:
        N. Mohammadiha and S. Doclo, "Speech dereverberation using non-negative convolutive transfer function and
        spectro-temporal modeling", IEEE/ACM TASLP 24(2), 2016. H. Kameoka, T. Nakatani and T. Yoshioka, "Robust speech
        dereverberation based on non-negativity and sparse nature of speech spectrograms", ICASSP 2009.
    """
    bins, frames = magnitude.shape
    observed = np.maximum(magnitude / max(float(magnitude.mean()), SMALLEST), SMALLEST).astype(np.float32)
    taps = max(1, min(frames, round(RESPONSE_SECONDS / frame_seconds)))
    response = np.tile(10 ** (-3 * frame_seconds * np.arange(taps) / rt60), (bins, 1)).astype(np.float32)
    response[:, 1:] *= FIRST_REFLECTED
    rng = np.random.default_rng(0)
    spectra = rng.uniform(0.1, 1, (bins, RANK)).astype(np.float32)
    levels = rng.uniform(0.1, 1, (RANK, frames)).astype(np.float32)
    spectra /= (spectra @ levels).mean()
    for _ in range(rounds):
        norm = _response_sums(response, frames)
        explained = correlate(observed / convolve(spectra @ levels, response), response)
        spectra *= (explained @ levels.T) / (norm @ levels.T + SMALLEST)
        explained = correlate(observed / convolve(spectra @ levels, response), response)
        levels *= (spectra.T @ explained) / (spectra.T @ norm + SMALLEST)
        source = spectra @ levels
        response = _updated(response, source, observed / convolve(source, response))
        spectra *= response[:, :1]
        response /= response[:, :1]
    return spectra @ levels, response


def _response_sums(response: Array, frames: int) -> Array:
    """Return the sum of the responses ``[bins, frames]`` from each frame to the last one."""
    sums = np.cumsum(response, axis=1)
    taps = response.shape[1]
    remaining: Array = sums[:, np.minimum(np.arange(frames, 0, -1), taps) - 1]
    return remaining


def _updated(response: Array, source: Array, quotient: Array) -> Array:
    """Return the updated responses, which do not increase with k; ``quotient`` is Y over its model."""
    frames, total = source.shape[1], np.cumsum(source, axis=1)
    updated = np.empty_like(response)
    for tap in range(response.shape[1]):
        past = frames - tap
        explained = np.einsum("ft,ft->f", quotient[:, tap:], source[:, :past])
        updated[:, tap] = response[:, tap] * explained / np.maximum(total[:, past - 1], SMALLEST)
    decreasing: Array = np.minimum.accumulate(np.maximum(updated, SMALLEST), axis=1)
    return decreasing


def convolve(source: Array, response: Array) -> Array:
    """Return ``sum over k of response[:, k] source[:, t - k]``, at least 1e-6."""
    frames = source.shape[1]
    total, product = np.full_like(source, SMALLEST), np.empty_like(source)
    for tap in range(response.shape[1]):
        total[:, tap:] += np.multiply(source[:, : frames - tap], response[:, tap, None], out=product[:, tap:])
    return total


def correlate(observed: Array, response: Array) -> Array:
    """Return ``sum over k of response[:, k] observed[:, t + k]``, at least 1e-6."""
    frames = observed.shape[1]
    total, product = np.full_like(observed, SMALLEST), np.empty_like(observed)
    for tap in range(response.shape[1]):
        total[:, : frames - tap] += np.multiply(observed[:, tap:], response[:, tap, None], out=product[:, tap:])
    return total
