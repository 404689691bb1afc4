"""Tests of the noise estimate on noise and on music."""

import math

import numpy as np
import pytest
import torch

from dawp.dsp.noise import _between, estimate_noise, noise_floor, tone_share, track_noise, truncated_mean
from dawp.dsp.spectral import analyse, decibels, synthesise, two_step_gain

RATE = 16000
FRAME = 0.008
FLOOR = 10 ** (-12 / 20)


def coloured(seconds, rate, exponent, seed=0):
    """Return noise with a power spectrum of 1 / f ** (2 * exponent) above 20 Hz and an RMS of 1."""
    length = round(seconds * rate)
    white = torch.randn(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shape = torch.fft.rfftfreq(length, 1 / rate).clamp(min=20.0) ** -exponent
    noise = torch.fft.irfft(torch.fft.rfft(white) * shape, length)
    return noise / noise.std()


def chord(seconds, rate, notes=(110.0, 138.6, 164.8, 220.0, 277.2, 329.6), partials=12):
    """Return a sustained organ chord with dense partials and an RMS of 1."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    tones = [(k * note, k) for note in notes for k in range(1, partials + 1) if k * note < rate / 2.2]
    sound = sum(torch.sin(2 * math.pi * frequency * time + k * frequency) / k for frequency, k in tones)
    return sound / sound.std()


def plucked(seconds, rate):
    """Return decaying notes of a string, one every 0.25 s, with an RMS of 1."""
    sound = torch.zeros(round(seconds * rate), dtype=torch.float64)
    for index in range(int(seconds / 0.25)):
        start = round(0.25 * index * rate)
        time = torch.arange(len(sound) - start, dtype=torch.float64) / rate
        note = 196.0 * 2 ** ((0, 4, 7, 12, 16, 7)[index % 6] / 12)
        for k in range(1, 9):
            sound[start:] += torch.exp(-(3 + k) * time) * torch.sin(2 * math.pi * k * note * time) / k
    return sound / sound.std()


def hits(seconds, rate):
    """Return decaying noise bursts like those of a hi-hat and a snare, with an RMS of 1."""
    noise = coloured(seconds, rate, 0.0, seed=5)
    time = torch.arange(len(noise), dtype=torch.float64) / rate
    sound = noise * torch.exp(-20 * (time % 0.25)) + 3 * noise * torch.exp(-12 * ((time + 0.5) % 1.0))
    return sound / sound.std()


def bowed(seconds, rate):
    """Three held notes with slight vibrato and steady bow noise 28 dB below them, at an RMS of 1."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    frequencies = torch.fft.rfftfreq(len(time), 1 / rate)
    bow = torch.fft.rfft(coloured(seconds, rate, 0.0, seed=7)) * ((frequencies > 2000) & (frequencies < 8000))
    sound = torch.zeros_like(time)
    for note in (196.0, 246.9, 293.7):
        phase = 2 * math.pi * note * (time + 3e-4 * torch.sin(2 * math.pi * 5 * time + note))
        sound += sum(torch.sin(k * phase + k * note) / k for k in range(1, int(7500 / note)))
    noise = torch.fft.irfft(bow, len(time))
    sound = sound / sound.std() + 10 ** (-28 / 20) * noise / noise.std()
    sound *= 0.8 + 0.2 * torch.sin(2 * math.pi * 0.7 * time) ** 2
    return sound / sound.std()


def gained(noisy, rate):
    """Apply the spectral gain with the estimated noise."""
    spectrum = analyse(noisy, rate)
    gain = two_step_gain(np.abs(spectrum) ** 2, estimate_noise(noisy, rate), FLOOR)
    return synthesise(gain * spectrum, rate, len(noisy)).double()


def snr(estimate, clean):
    return float(10 * torch.log10(clean.square().sum() / (estimate - clean).square().sum()))


def exponential(rng, mean, frames=500, bins=257):
    """Return powers of Gaussian noise."""
    return rng.exponential(mean, (bins, frames))


# The mean of truncated powers


@pytest.mark.parametrize("mean", [1e-12, 1.0, 1e6])
def test_the_mean_of_exponential_powers_is_found(mean):
    powers = exponential(np.random.default_rng(0), mean)
    assert truncated_mean(powers) == pytest.approx(mean, rel=0.05)


def test_the_mean_of_the_noise_is_found_where_half_of_the_bins_hold_sound():
    rng = np.random.default_rng(0)
    powers = np.concatenate([exponential(rng, 1.0), exponential(rng, 1e4)])
    assert 10 * abs(np.log10(truncated_mean(powers))) < 0.5


def test_the_mean_of_silence_is_a_small_positive_number():
    assert 0 < truncated_mean(np.zeros((10, 10))) < 1e-15


# The noise floor


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_the_floor_of_coloured_noise_is_its_spectrum(exponent, rate):
    power = np.abs(analyse(coloured(4, rate, exponent), rate, 0.032)) ** 2
    floor, support = noise_floor(power, rate, 0.032)
    frequencies = np.linspace(0, rate / 2, len(floor))
    inside = (frequencies > 100) & (frequencies < 0.45 * rate)
    error = 10 * np.log10(floor / power.mean(axis=1))[inside]
    assert abs(error.mean()) < 1
    assert support[inside].min() > 0.8


def test_the_floor_is_that_of_the_noise_under_a_chord():
    noise = 0.1 * coloured(4, RATE, 0.0)
    power, alone = (np.abs(analyse(sound, RATE, 0.032)) ** 2 for sound in (chord(4, RATE) + noise, noise))
    floor, _ = noise_floor(power, RATE, 0.032)
    error = 10 * np.log10(floor / alone.mean(axis=1))
    assert error[2:-2].max() < 3  # never much too high
    assert abs(np.median(error[len(error) // 2 :])) < 1.5


def test_the_floor_is_at_most_the_level_of_the_quiet_segments():
    noise = coloured(4, RATE, 0.0)
    noise[: 2 * RATE] *= 10
    power = np.abs(analyse(noise, RATE, 0.032)) ** 2
    floor, _ = noise_floor(power, RATE, 0.032)
    quiet = power[:, power.shape[1] * 3 // 4 :].mean()
    assert 10 * np.log10(floor[10:-10].mean() / quiet) < 1


# Tracked noise


def test_steady_noise_is_found_under_bursts_of_sound():
    rng = np.random.default_rng(0)
    power = exponential(rng, 1.0)
    power[:, 100:140] += exponential(rng, 100.0, frames=40)
    power[:, 300:380] += exponential(rng, 1000.0, frames=80)
    found = 10 * np.log10(track_noise(power, FRAME))
    assert abs(found.mean()) < 1
    assert abs(found[:, 110:130].mean()) < 2
    assert abs(found[:, 310:370].mean()) < 2


def test_noise_that_grows_is_followed():
    rng = np.random.default_rng(0)
    power = exponential(rng, 1.0, frames=1500)
    power[:, 750:] *= 10
    found = 10 * np.log10(track_noise(power, FRAME))
    assert abs(found[:, :500].mean()) < 1.5
    assert abs(found[:, 1000:].mean() - 10) < 1.5


@pytest.mark.parametrize("lowest", [0, 100, 255])
def test_a_tone_that_lasts_is_not_taken_for_noise(lowest):
    power = exponential(np.random.default_rng(0), 1.0)
    power[lowest : lowest + 2] += 1e4
    assert 10 * np.log10(track_noise(power, FRAME)[lowest : lowest + 2].mean()) < 5


# Tones


def test_the_share_of_tones_separates_a_chord_from_noise():
    assert tone_share(coloured(4, RATE, 0.0), RATE).max() < 0.1
    assert tone_share(coloured(4, RATE, 1.0), RATE).max() < 0.1  # a spectral slope is not a tone
    assert tone_share(chord(4, RATE), RATE)[1:12].min() > 0.9  # bands with partials


# No harm

SOUNDS = {"chord": chord, "plucked": plucked, "hits": hits, "bowed": bowed}


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("level", [10, 30, 40])
def test_music_with_noise_does_not_become_worse(sound, exponent, level):
    clean = SOUNDS[sound](4, RATE)
    noisy = clean + coloured(4, RATE, exponent) * 10 ** (-level / 20)
    assert snr(gained(noisy, RATE), clean) > level - 0.1


@pytest.mark.parametrize(("rate", "gain"), [(8000, 1), (44100, 4)])  # at 8 kHz almost all bins contain partials
def test_white_noise_is_removed_from_a_chord(rate, gain):
    clean = chord(4, rate)
    noisy = clean + 0.1 * coloured(4, rate, 0.0)
    assert snr(gained(noisy, rate), clean) > 20 + gain


@pytest.mark.parametrize("place", ["start", "middle", "end"])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_digital_silence_does_not_keep_noise_from_being_removed(place, share):
    clean = chord(4, 44100)
    noisy = clean + 0.1 * coloured(4, 44100, 0.0)
    zeros = torch.zeros(round(share * len(clean)), dtype=torch.float64)
    at = {"start": 0, "middle": len(clean) // 2, "end": len(clean)}[place]
    padded = [torch.cat([sound[:at], zeros, sound[at:]]) for sound in (clean, noisy)]
    assert snr(gained(padded[1], 44100), padded[0]) > 20 + 3


@pytest.mark.parametrize("sound", SOUNDS)
def test_a_clean_recording_stays_as_it_is(sound):
    clean = SOUNDS[sound](4, RATE)
    assert snr(gained(clean, RATE), clean) > 40


def test_hum_is_kept():
    time = torch.arange(4 * RATE, dtype=torch.float64) / RATE
    hum = sum(torch.sin(2 * math.pi * 50 * k * time) / k for k in range(1, 10))
    noisy = hum + 0.01 * coloured(4, RATE, 0.0)
    assert snr(gained(noisy, RATE), hum) > snr(noisy, hum) - 0.1


@pytest.mark.parametrize("frequencies", [(41.2,), (30.0, 41.2), (82.4,)])
def test_low_tones_are_kept(frequencies):
    """The lowest bins have neighbours on one side only; tones there must not be detected as noise."""
    time = torch.arange(4 * RATE, dtype=torch.float64) / RATE
    tones = sum(torch.sin(2 * math.pi * frequency * time) for frequency in frequencies)
    noisy = tones + coloured(4, RATE, 0.0) * tones.std() * 10 ** (-26 / 20)
    assert snr(gained(noisy, RATE), tones) > 26 + 6


def test_unsteady_noise_is_removed_where_it_is_clear():
    """The noise floor alone would not remove noise whose level varies slowly by several dB."""
    time = torch.arange(6 * RATE, dtype=torch.float64) / RATE
    noise = coloured(6, RATE, 0.0) * (0.5 + 0.5 * torch.sin(2 * math.pi * 0.5 * time) ** 2)
    clean = torch.where((time % 1.5 < 0.4), chord(6, RATE), 0)
    noisy = clean + noise * clean.std() / noise.std() * 10 ** (-5 / 20)
    assert snr(gained(noisy, RATE), clean) > 5 + 3


@pytest.mark.parametrize("length", [64, 65, 100, 1000, 4001])
@pytest.mark.parametrize("rate", [1000, 16000, 192000])
def test_the_estimate_has_the_shape_of_the_spectrogram(length, rate):
    clip = torch.randn(length, dtype=torch.float64)
    noise = estimate_noise(clip, rate)
    assert noise.shape == analyse(clip, rate).shape
    assert np.isfinite(noise).all()
    assert (noise > 0).all()
    assert np.isfinite(estimate_noise(torch.zeros(length), rate)).all()


def test_the_estimate_follows_the_level():
    noisy = chord(2, RATE) + 0.1 * coloured(2, RATE, 0.0)
    assert estimate_noise(1000 * noisy, RATE) == pytest.approx(1e6 * estimate_noise(noisy, RATE), rel=1e-6)


def test_a_floor_that_is_far_too_low_hardly_lowers_tracked_noise():
    """The floor has no meaning where few bins hold mostly noise; it must not take over with a small weight."""
    tracked = np.full((1, 5), 1.0)
    share = np.array([[0.0], [0.2], [0.5], [0.8], [1.0]])
    found = _between(np.full((5, 5), 1e-8), np.broadcast_to(tracked, (5, 5)), share)
    assert decibels(found[:, 0]) == pytest.approx([-80, -8, -5, -2, 0], abs=1e-9)
    near = _between(np.full((5, 5), 0.5), np.broadcast_to(tracked, (5, 5)), share)
    assert decibels(near[:, 0]) == pytest.approx(10 * np.log10(0.5) * (1 - share[:, 0]), abs=1e-9)
    assert _between(np.full((1, 1), 2.0), np.full((1, 1), 1.0), np.full((1, 1), 0.5)) == pytest.approx(2.0)
