import numpy as np
import pytest
import torch

from dawp.dsp.filters import high_pass
from dawp.dsp.noise import estimate_noise, track_noise
from dawp.dsp.spectral import analyse, frame_hop, log_mmse, mask, quiet_power, spectral_gain, synthesise, two_step_gain
from dawp.metrics.functions import si_snr

RATE = 16000


def noisy_speech(speech, snr=5.0):
    noise = torch.randn(len(speech))
    return speech + noise * speech.norm() / noise.norm() * 10 ** (-snr / 20)


def masked(noisy, output, floor_db=-12.0):
    """Apply the mask with estimates of the noise of both signals, as in a fit."""
    power = np.abs(analyse(output, RATE)) ** 2
    noise_of_output = track_noise(power, frame_hop(len(output), RATE) / RATE)
    return mask(noisy, output, RATE, floor_db, estimate_noise(noisy, RATE), noise_of_output)


def exponential(rng, mean, frames=500, bins=257):
    """Return powers of Gaussian noise."""
    return rng.exponential(mean, (bins, frames))


@pytest.mark.parametrize("snr", [5.0, 15.0])
def test_sound_missing_from_the_output_is_kept(speech, snr):
    """A noise-free output without high frequencies does not make the result worse."""
    noisy = noisy_speech(speech, snr)
    dull = high_pass(speech, RATE, 2000)
    noise = torch.from_numpy(analyse(noisy - speech, RATE)).abs().square().mean(dim=1, keepdim=True)
    noise = noise.expand(-1, analyse(noisy, RATE).shape[1]).numpy()
    alone = mask(noisy, noisy, RATE, -12.0, noise, noise)
    helped = mask(noisy, speech - dull, RATE, -12.0, noise, np.zeros_like(noise))
    assert si_snr(helped, speech) > si_snr(alone, speech)


@pytest.mark.parametrize("exponent", [0.0, 0.5])
@pytest.mark.parametrize("snr", [2.0, 10.0])
def test_a_good_output_is_used_fully(speech, exponent, snr):
    """The power of noise varies, so that it exceeds its mean around many bins: the output lacks nothing there."""
    noise = torch.fft.rfft(torch.randn(len(speech), generator=torch.Generator().manual_seed(1)))
    noise = torch.fft.irfft(noise * torch.fft.rfftfreq(len(speech), 1 / RATE).clamp(min=20) ** -exponent, len(speech))
    noise *= speech.norm() / noise.norm() * 10 ** (-snr / 20)
    noisy, output = speech + noise, speech + 0.2 * noise
    power = np.abs(analyse(noise, RATE)) ** 2
    expected = np.broadcast_to(power.mean(axis=1, keepdims=True), power.shape)
    floor, observed, made = 10 ** (-12 / 20), analyse(noisy, RATE), analyse(output, RATE)
    complete = made + log_mmse(np.abs(observed - made) ** 2, expected, floor) * (observed - made)
    combined = observed + 0.96 * (complete - observed)
    unlimited = two_step_gain(np.abs(observed) ** 2, expected, floor, np.abs(combined) ** 2) * combined
    estimate = mask(noisy, output, RATE, -12.0, expected, 0.04 * expected)
    assert si_snr(estimate, speech) > si_snr(synthesise(unlimited, RATE, len(speech)), speech) - 0.05


@pytest.mark.parametrize("length", [64, 65, 127, 1000, 16000, 16001])
@pytest.mark.parametrize("rate", [1000, 8000, 16000, 44100])
def test_synthesis_inverts_analysis(length, rate):
    waveform = torch.randn(length)
    again = synthesise(analyse(waveform, rate), rate, length)
    assert again.shape == waveform.shape
    assert (again - waveform).abs().max() < 1e-5


def test_frames_last_32_ms_at_every_rate():
    for rate in (8000, 16000, 44100, 48000):
        bins = len(analyse(torch.randn(rate), rate))
        assert 2 * (bins - 1) / rate == pytest.approx(0.032, abs=0.001)


def test_the_gain_agrees_with_ephraim_and_malah():
    # prior 1, posterior 1: 1/2 exp(E1(1/2) / 2) with E1(0.5) = 0.5597735947
    assert spectral_gain(np.array(1.0), np.array(1.0)) == pytest.approx(0.5 * np.exp(0.5597735947 / 2))
    assert spectral_gain(np.array(1e6), np.array(1e6)) == pytest.approx(1)
    gains = spectral_gain(np.array([0.01, 0.1, 1.0, 10.0]), np.full(4, 3.0))
    assert (np.diff(gains) > 0).all()


def test_the_gain_is_between_its_floor_and_one():
    power = exponential(np.random.default_rng(0), 1.0)
    gains = log_mmse(power, np.ones_like(power), floor=0.25)
    assert gains.min() == 0.25
    assert gains.max() <= 1


def test_quiet_power_is_the_mean_power_of_noise():
    power = exponential(np.random.default_rng(0), np.array([[1.0], [100.0], [1e-6]]), frames=100_000, bins=3)
    assert quiet_power(power)[:, 0] == pytest.approx([1.0, 100.0, 1e-6], rel=0.03)


def test_the_mask_removes_more_noise_with_a_useful_output(speech):
    noisy = noisy_speech(speech)
    alone, helped = masked(noisy, noisy), masked(noisy, noisy_speech(speech, 15.0))
    assert si_snr(alone, speech) > 5 + 2
    assert si_snr(helped, speech) > si_snr(alone, speech) + 2


def test_an_output_without_the_sound_does_no_harm(speech):
    noisy = noisy_speech(speech)
    assert si_snr(masked(noisy, torch.zeros_like(noisy)), speech) > 5 + 1.5


def test_a_floor_of_0_db_leaves_the_clip_unchanged(speech):
    noisy = noisy_speech(speech)
    assert (masked(noisy, noisy, 0.0) - noisy).abs().max() < 1e-6


def test_the_mask_does_not_depend_on_the_level(speech):
    noisy, output = noisy_speech(speech), noisy_speech(speech, 15.0)
    for gain in (1e-3, 1e3):
        scaled = masked(gain * noisy, gain * output) / gain
        assert (scaled - masked(noisy, output)).abs().max() < 1e-4 * noisy.abs().max()


@pytest.mark.parametrize("length", [64, 100, 1000, 16000])
def test_digital_silence_and_short_clips_give_finite_samples(length):
    clip = torch.randn(length)
    clip[length // 4 : length // 2] = 0
    for output in (clip, torch.zeros(length)):
        estimate = masked(clip, output)
        assert estimate.shape == clip.shape
        assert estimate.isfinite().all()
