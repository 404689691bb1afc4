"""Drop-outs that are not plain zeros: near silence, fades, repeated values and noise."""

import numpy as np
import pytest
import torch
from conftest import RATE, SAMPLES
from test_gap_filling import resonant_noise

from dawp.io.audio import mark_missing, read

FADE = 32  # samples


def missing(samples, shortest=0.001):
    return mark_missing(torch.from_numpy(samples), RATE, shortest).isnan().numpy()


def dither(length, rng):
    return np.round(rng.random(length) + rng.random(length) - 1) / 32768


def fade(samples, start, stop):
    ramp = np.linspace(0, 1, FADE)
    samples[start - FADE : start] *= ramp[::-1]
    samples[stop : stop + FADE] *= ramp
    samples[start:stop] = 0


def damage(kind, samples, start, stop, seed=0):
    rng = np.random.default_rng(seed)
    if kind == "held":
        samples[start:stop] = samples[start - 1]
    if kind == "dither":
        samples[start:stop] = dither(stop - start, rng)
    if kind == "faded":
        fade(samples, start, stop)
    if kind == "faded to dither":
        fade(samples, start, stop)
        samples[start:stop] = dither(stop - start, rng)
    if kind == "noise":
        samples[start:stop] = np.sqrt(np.mean(samples[start:stop] ** 2)) * rng.standard_normal(stop - start)


@pytest.mark.parametrize("length", [48, 160, 800])
@pytest.mark.parametrize("kind", ["held", "dither", "faded", "faded to dither", "noise"])
def test_a_drop_out_is_found_with_few_samples_around_it(kind, length):
    hits = 0
    for seed in range(5):
        samples = resonant_noise(2.0, seed=seed)
        start = 12_000 + 1000 * seed
        damage(kind, samples, start, start + length, seed)
        found = missing(samples)
        hits += found[start : start + length].mean() > 0.9 and found.sum() < length + 6 * FADE
    assert hits >= (3 if kind == "noise" else 4)


def test_a_fade_belongs_to_its_drop_out():
    included = []
    for seed in range(8):
        samples = resonant_noise(2.0, seed=seed)
        fade(samples, 12_000, 12_080)
        found = missing(samples)
        assert not found[: 12_000 - 3 * FADE].any()
        assert not found[12_080 + 3 * FADE :].any()
        included.append(found[12_000 - FADE + 4 : 12_080 + FADE - 4].all())
    assert sum(included) >= 4


def square(frequency):
    return 0.5 * np.sign(np.sin(2 * np.pi * frequency * np.arange(32_000) / RATE + 0.1))


def bursts():
    """Short decaying noises with a sudden start, as of a drum."""
    time = np.arange(32_000) / RATE
    return resonant_noise(2.0) * 0.1 + np.random.default_rng(0).standard_normal(32_000) * np.exp(-(time % 0.25) / 0.02)


@pytest.mark.parametrize(
    "samples",
    [
        square(100.0),
        np.clip(1.5 * np.sin(np.arange(32_000) / 40), -1, 1),  # clipping repeats the peak
        np.round(30 * np.sin(np.arange(32_000) / 400)) / 32768,  # quantisation repeats values
        np.sin(np.arange(32_000) / 400),  # each zero crossing is near silence
        bursts(),
        np.random.default_rng(1).standard_normal(32_000),
        resonant_noise(2.0) * (0.05 + np.sin(np.arange(32_000) / 1000) ** 2),
    ],
    ids=["square wave", "clipping", "quantisation", "low tone", "drum", "noise", "tremolo"],
)
def test_a_sound_without_drop_outs_has_none(samples):
    assert not missing(samples).any()


@pytest.mark.parametrize("name", ["speech", "singing", "guitar"])
@pytest.mark.parametrize("kind", ["held", "dither"])
def test_drop_outs_of_a_recording_are_found_and_nothing_else(kind, name):
    samples = read(SAMPLES / f"{name}.wav", RATE).double().numpy()
    assert not missing(samples).any()
    loud = np.convolve(samples**2, np.ones(400), "same") > 0.1 * np.convolve(samples**2, np.ones(400), "same").max()
    starts = np.flatnonzero(loud[2000:-2000])[:: max(1, loud.sum() // 4)][:4] + 2000
    for start in starts:
        damage(kind, samples, start, start + 80)
    found = missing(samples)
    assert sum(found[start : start + 80].mean() > 0.9 for start in starts) >= len(starts) - 1
    assert found.sum() < 80 * len(starts) * 1.5


@pytest.mark.parametrize("level", [1e-4, 1.0], ids=["background noise", "sound"])
def test_clicks_are_no_drop_outs(level):
    """Neither the pauses between clicks nor dense clicks within a sound."""
    rng = np.random.default_rng(0)
    for per_second in (17, 83, 333):
        samples = level * resonant_noise(2.0)
        for start in rng.integers(0, len(samples) - 16, 2 * per_second):
            samples[start : start + 4] += 2 * rng.standard_normal(4)
        assert not missing(samples).any()
