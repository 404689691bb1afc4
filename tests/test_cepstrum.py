"""The a-priori SNR by temporal cepstrum smoothing."""

import math

import numpy as np
import pytest

from dawp.dsp import cepstrum
from dawp.dsp.cepstrum import smoothed_prior
from dawp.dsp.spectral import SMALLEST_PRIOR

RATE = 16000
BINS = 257


def exponential(model, seed=0):
    return np.random.default_rng(seed).exponential(1, model.shape) * model


def harmonics(pitch, frames, level=30.0):
    """Powers of a pulse train with this pitch in Hz, and noise of power 1."""
    frequencies = np.linspace(0, RATE / 2, BINS)
    comb = level * np.cos(np.pi * frequencies / pitch) ** 8
    return np.repeat(1 + comb[:, None], frames, axis=1)


def slow_prior(power, noise, rate):
    """The recursion of the docstring with a cosine sum for each quefrency."""
    bins, frames = power.shape
    size = 2 * (bins - 1)
    prior, before = np.empty_like(power), None
    for t in range(frames):
        logarithm = np.log(noise[:, t] * np.maximum(power[:, t] / noise[:, t] - 1, SMALLEST_PRIOR))
        both = np.concatenate([logarithm, logarithm[-2:0:-1]])
        now = [np.mean(both * np.cos(2 * np.pi * q * np.arange(size) / size)) for q in range(bins)]
        weights = [next(weight for limit, weight in cepstrum.WEIGHTS if q / rate <= limit) for q in range(bins)]
        pitched = [q for q in range(bins) if 0.0025 <= q / rate < 0.0125]
        peak = max(pitched, key=lambda q: now[q])
        if now[peak] > cepstrum.MIN_PEAK:
            weights[peak - 2 : peak + 3] = [cepstrum.PITCH_WEIGHT] * len(weights[peak - 2 : peak + 3])
        last = now if before is None else before
        before = [w * old + (1 - w) * new for w, old, new in zip(weights, last, now, strict=True)]
        for f in range(bins):
            total = before[0] + before[-1] * math.cos(math.pi * f)
            total += 2 * sum(before[q] * math.cos(math.pi * f * q / (bins - 1)) for q in range(1, bins - 1))
            prior[f, t] = max(cepstrum.BIAS * math.exp(total) / noise[f, t], SMALLEST_PRIOR)
    return prior


def test_the_prior_equals_the_literal_recursion():
    model = np.repeat(1 + 20 * np.cos(np.pi * np.arange(101) / 6)[:, None] ** 8, 12, axis=1)
    power, noise = exponential(model), exponential(np.ones((101, 1)), seed=1) + np.ones((101, 12))
    np.testing.assert_allclose(smoothed_prior(power, noise, 8000), slow_prior(power, noise, 8000), rtol=1e-9)


def test_isolated_peaks_of_noise_are_smoothed():
    power = exponential(np.ones((BINS, 300)))
    found = smoothed_prior(power, np.ones_like(power), RATE)
    assert np.quantile(power - 1, 0.99) > 3
    assert np.quantile(found[:, 50:], 0.99) < 1


def test_a_steady_spectrum_is_found():
    model = harmonics(200, 400)
    found = smoothed_prior(exponential(model), np.ones_like(model), RATE)[:, 200:]
    peaks, valleys = model[:, 0] > 20, model[:, 0] < 1.1
    assert abs(10 * np.log10(found[peaks].mean() / 30)) < 4
    assert found[valleys].mean() < found[peaks].mean() / 5


def test_a_pitch_is_followed_at_once(monkeypatch):
    model = np.concatenate([np.ones((BINS, 50)), harmonics(200, 10)], axis=1)
    peaks, valleys = harmonics(200, 1)[:, 0] > 20, harmonics(200, 1)[:, 0] < 1.1

    def contrast():
        found = smoothed_prior(exponential(model), np.ones_like(model), RATE)[:, 53]
        return found[peaks].mean() / found[valleys].mean()

    followed = contrast()
    monkeypatch.setattr(cepstrum, "MIN_PEAK", np.inf)
    assert followed > 2 * contrast()


def test_the_prior_does_not_depend_on_the_level():
    power = exponential(harmonics(150, 40))
    noise = np.ones_like(power)
    np.testing.assert_allclose(
        smoothed_prior(1e-6 * power, 1e-6 * noise, RATE), smoothed_prior(power, noise, RATE), rtol=1e-6
    )


@pytest.mark.parametrize(("bins", "frames"), [(2, 1), (3, 5), (33, 2), (769, 3)])
def test_all_sizes(bins, frames):
    power = exponential(np.ones((bins, frames)))
    found = smoothed_prior(power, np.ones_like(power), RATE)
    assert found.shape == power.shape
    assert np.isfinite(found).all()
    assert found.min() >= SMALLEST_PRIOR
