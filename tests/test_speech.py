"""Tests of the distinction between speech and music, and of the noise estimate under speech."""

import math

import pytest
import torch
from test_noise_estimate import bowed, chord, coloured, gained, hits, plucked, snr

from dawp.dsp.speech import speech_features, speech_likelihood


def syllables(seconds, rate, seed=0):
    """Return voiced syllables with gliding pitch and formant, eight per second, RMS of 1; every fourth is a pause."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(rate // 8, dtype=torch.float64) / rate
    envelope = torch.minimum(time / 0.01, (0.11 - time) / 0.05).clamp(0, 1) ** 2
    parts = []
    for index in range(math.ceil(seconds / 0.12)):
        start, glide, formant, target = torch.rand(4, generator=generator, dtype=torch.float64)
        pitch = (100 + 80 * start) * 2 ** ((12 * glide - 6) / 12 * time / 0.125)
        phase = 2 * math.pi * torch.cumsum(pitch, 0) / rate
        peak = 300 + 2000 * (formant + (target - formant) * time / 0.125)
        voice = sum(torch.exp(-(((k * pitch - peak) / 300) ** 2)) * torch.sin(k * phase) for k in range(1, 21))
        parts.append(voice * envelope * (index % 4 < 3))
    sound = torch.cat(parts)[: round(seconds * rate)]
    return sound / sound.std()


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("level", [None, 20.0, 5.0])
def test_syllables_with_a_gliding_pitch_are_speech(rate, level):
    sound = syllables(3.0, rate)
    noisy = sound if level is None else sound + 10 ** (-level / 20) * coloured(3.0, rate, 0.5)
    assert speech_likelihood(noisy, rate) == 1


@pytest.mark.parametrize("sound", [chord, plucked, hits, bowed])
@pytest.mark.parametrize("level", [None, 10.0])
def test_music_is_not_speech(sound, level):
    music = sound(3.0, 16000)
    noisy = music if level is None else music + 10 ** (-level / 20) * coloured(3.0, 16000, 0.0)
    assert speech_likelihood(noisy, 16000) == 0


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_noise_is_not_speech(exponent):
    assert speech_likelihood(coloured(3.0, 16000, exponent), 16000) == 0


@pytest.mark.parametrize("waveform", [torch.zeros(48000), syllables(0.9, 16000), torch.ones(1), torch.ones(48000)])
def test_silence_constants_and_short_clips_are_not_speech(waveform):
    assert speech_likelihood(waveform, 16000) == 0


@pytest.mark.parametrize("rate", [50, 999, 1000, 1999])
def test_low_sample_rates_are_not_speech(rate):
    assert speech_likelihood(syllables(3.0, rate), rate) == 0


def test_the_features_do_not_depend_on_the_level():
    sound = syllables(3.0, 16000).float()
    assert speech_features(2**-10 * sound, 16000) == pytest.approx(speech_features(sound, 16000), rel=1e-6)


def test_the_tones_of_a_machine_are_removed_under_speech():
    time = torch.arange(4 * 16000, dtype=torch.float64) / 16000
    machine = sum(torch.sin(2 * math.pi * frequency * time) for frequency in (370.0, 740.0, 1110.0, 2300.0))
    machine = machine / machine.std() + 0.3 * coloured(4.0, 16000, 0.5)
    sound = syllables(4.0, 16000)
    noisy = sound + 10 ** (-5 / 20) * machine / machine.std()
    assert snr(gained(noisy, 16000), sound) > 9  # from 5


@pytest.mark.parametrize("seconds", [1.5, 3.0])
def test_digital_silence_around_speech_does_not_matter(seconds):
    noisy = syllables(3.0, 16000) + 0.3 * coloured(3.0, 16000, 0.5)
    silence = torch.zeros(round(seconds * 16000), dtype=noisy.dtype)
    assert speech_likelihood(torch.cat([silence, noisy, silence]), 16000) == 1


@pytest.mark.parametrize("level", [30.0, 40.0, None])
def test_speech_with_little_noise_does_not_become_worse(level):
    sound = syllables(4.0, 16000)
    noisy = sound if level is None else sound + 10 ** (-level / 20) * coloured(4.0, 16000, 0.5)
    before = 100.0 if level is None else level
    assert snr(gained(noisy, 16000), sound) > before - 0.1
