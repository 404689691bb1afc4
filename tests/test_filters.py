"""Tests of the zero-phase filters."""

import math

import pytest
import soundfile
import torch
from conftest import RATE, SAMPLES

from dawp.dsp.filters import high_pass, remove_rumble
from dawp.errors import BadInput

PHASES = torch.arange(6) * math.pi / 3


def tone(frequency, length, rate, phase=0.0):
    return torch.sin(2 * math.pi * frequency * torch.arange(length, dtype=torch.float64) / rate + phase).float()


@pytest.mark.parametrize("rate", [1000, 8000, 16000, 44100])
@pytest.mark.parametrize("frequency", [41, 82, 200])
def test_a_tone_is_preserved_at_its_ends(rate, frequency):
    edge = round(0.02 * rate)
    for phase in PHASES:
        wave = tone(frequency, 2 * rate, rate, phase)
        error = (high_pass(wave, rate, 20.0) - wave).abs()
        assert error[:edge].max() < 0.01
        assert error[-edge:].max() < 0.01
        assert error.max() < 0.01


@pytest.mark.parametrize("rate", [1000, 16000, 44100])
@pytest.mark.parametrize("seconds", [0.07, 0.3, 1.0])
def test_a_tone_of_a_few_periods_is_kept(rate, seconds):
    for phase in PHASES[:4]:
        wave = tone(100, round(seconds * rate), rate, phase)
        assert (high_pass(wave, rate, 20.0) - wave).abs().max() < 0.01


def test_a_chord_in_noise_is_preserved_at_its_ends():
    clean = sum(tone(frequency, 2 * RATE, RATE, frequency) for frequency in (55, 110, 220, 331))
    wave = clean + 0.01 * torch.randn(2 * RATE)
    error = (high_pass(wave, RATE, 20.0) - wave).abs()
    assert error.max() < 0.03 * wave.abs().max()


@pytest.mark.parametrize("frequency", [2, 5, 8, 10])
def test_rumble_is_removed_throughout(frequency):
    for phase in PHASES:
        filtered = high_pass(tone(frequency, 3 * RATE, RATE, phase), RATE, 20.0)
        assert filtered.abs().max() < 0.02


@pytest.mark.parametrize("rate", [1000, 16000, 44100, 192000])
@pytest.mark.parametrize("length", [64, 65, 100, 1000, 5000])
def test_any_length_and_rate(rate, length):
    for wave in (torch.randn(length), tone(rate / 10, length, rate), torch.eye(length)[length // 2]):
        filtered = high_pass(wave, rate, 20.0)
        assert filtered.shape == wave.shape
        assert filtered.dtype == torch.float32
        assert filtered.isfinite().all()
        assert filtered.abs().max() < 1.15 * wave.abs().max()
    assert not high_pass(torch.zeros(length), rate, 20.0).any()
    assert high_pass(torch.full((length,), 0.5), rate, 20.0).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["speech", "singing", "guitar"])
def test_a_part_of_a_recording_is_filtered_like_the_whole_recording(name):
    samples, rate = soundfile.read(SAMPLES / f"{name}.wav", dtype="float32")
    wave = torch.from_numpy(samples)
    whole = high_pass(wave, rate, 20.0)
    for start in (4000, 10000):
        piece = high_pass(wave[start : start + rate], rate, 20.0)
        assert (piece - whole[start : start + rate]).abs().max() < 0.01 * wave.abs().max()
        assert piece.abs().max() < 1.03 * wave.abs().max()


def test_silence_beside_a_tone_stays_silent():
    wave = torch.cat([torch.zeros(2 * RATE), tone(220, 2 * RATE, RATE), torch.zeros(2 * RATE)])
    filtered = high_pass(wave, RATE, 20.0)
    assert filtered[:RATE].abs().max() < 1e-3
    assert filtered[-RATE:].abs().max() < 1e-3


def test_the_sample_type_is_kept_and_the_waveform_is_not_changed():
    wave = torch.randn(1000, dtype=torch.float64)
    before = wave.clone()
    assert high_pass(wave, 1000, 20.0).dtype == torch.float64
    assert torch.equal(wave, before)


def test_a_cutoff_of_zero_returns_the_waveform():
    wave = torch.randn(1000)
    assert high_pass(wave, 1000, 0.0) is wave


@pytest.mark.parametrize("cutoff", [500.0, 1000.0])
def test_a_cutoff_above_half_the_sample_rate_is_refused(cutoff):
    with pytest.raises(BadInput, match=f"highpass .* got {cutoff:g}"):
        high_pass(torch.randn(1000), 1000, cutoff)


@pytest.mark.parametrize("share", [0.0, 0.005])
def test_weak_rumble_is_kept_bit_for_bit(share):
    wave = tone(220, 2 * RATE, RATE) + math.sqrt(share) * tone(5, 2 * RATE, RATE)
    assert torch.equal(remove_rumble(wave, RATE), wave)


@pytest.mark.parametrize("name", ["speech", "singing", "guitar"])
def test_a_recording_without_rumble_is_unchanged_bit_for_bit(name):
    samples, rate = soundfile.read(SAMPLES / f"{name}.wav", dtype="float32")
    assert torch.equal(remove_rumble(torch.from_numpy(samples), rate), torch.from_numpy(samples))


@pytest.mark.parametrize("frequency", [0, 5, 10])
def test_strong_rumble_is_removed(frequency):
    sound = 0.1 * tone(220, 2 * RATE, RATE)
    rumble = 0.1 * tone(frequency, 2 * RATE, RATE, 1.0)
    assert (remove_rumble(sound + rumble, RATE) - sound).square().mean() < 1e-3 * rumble.square().mean()


def test_silence_and_short_waveforms_are_unchanged():
    assert not remove_rumble(torch.zeros(1000), 1000).any()
    for length in (64, 65, 1000):
        assert remove_rumble(torch.randn(length), 44100).isfinite().all()


def test_transients_below_20_hz_are_not_rumble():
    time = torch.arange(4 * 16000) / 16000
    thumps = torch.exp(-20 * (time % 1.0)) * torch.sin(2 * torch.pi * 12 * (time % 1.0))
    music = torch.sin(2 * torch.pi * 220 * time) + thumps
    assert remove_rumble(music, 16000) is music
    rumble = 0.3 * torch.sin(2 * torch.pi * 12 * time)
    assert (remove_rumble(music + rumble, 16000) - (music + rumble)).norm() > 0.5 * rumble.norm()


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.3, 0.49])
@pytest.mark.parametrize("frequency", [25.0, 40.0])
def test_a_low_tone_in_a_short_clip_is_not_removed(seconds, frequency):
    """The resolution of a clip shorter than a segment is too low to separate rumble from a low tone."""
    wave = tone(frequency, round(seconds * 16000), 16000)
    assert torch.equal(remove_rumble(wave, 16000), wave)


def test_thumps_with_a_little_rumble_are_kept():
    """Most of the power below 20 Hz belongs to loud thumps: a little steady rumble is no reason to remove them."""
    time = torch.arange(4 * 16000, dtype=torch.float64) / 16000
    thumps = torch.exp(-6 * (time % 1.0)) * torch.sin(2 * torch.pi * 12 * (time % 1.0))
    rumble = 0.16 * torch.sin(2 * torch.pi * 9 * time)
    recording = torch.sin(2 * torch.pi * 220 * time) + thumps + rumble
    assert torch.equal(remove_rumble(recording, 16000), recording)


def test_a_small_constant_offset_is_not_counted_as_rumble():
    wave = tone(220, 2 * RATE, RATE) + 0.1 + math.sqrt(0.005) * tone(12, 2 * RATE, RATE)
    assert torch.equal(remove_rumble(wave, RATE), wave)


def test_an_offset_is_removed_with_strong_rumble():
    sound = tone(220, 2 * RATE, RATE)
    rumble = 0.5 * tone(12, 2 * RATE, RATE)
    assert (remove_rumble(sound + rumble + 0.3, RATE) - sound).square().mean() < 1e-2 * rumble.square().mean()
