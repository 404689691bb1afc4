"""Noise reduction by factorisations, and the high-pass before it."""

import itertools
import json
import math

import numpy as np
import pytest
import soundfile
import torch

from dawp.dsp import nmf
from dawp.dsp.blind_highpass import blind_cutoff, blind_high_pass, power_response
from dawp.dsp.filters import high_pass
from dawp.dsp.spectral import SMALLEST_POWER, SMALLEST_PRIOR, spectral_gain
from dawp.methods.base import METHODS
from dawp.problem import Problem

RATE = 16000
FLOOR = 10 ** (-18 / 20)
FRAME = 0.008


@pytest.fixture
def few_rounds(monkeypatch):
    """Reduce the time of a test that needs no accurate factorisation."""
    monkeypatch.setattr(nmf, "ROUNDS", 10)


def noise(seconds, rate=RATE, seed=0):
    return torch.randn(round(seconds * rate), generator=torch.Generator().manual_seed(seed))


def tones(seconds, rate=RATE):
    """Notes of several partials, one every 0.5 s, that die away and leave pauses."""
    time = torch.arange(round(seconds * rate)) / rate
    pitch = 220 * 2 ** ((time / 0.5).floor() % 4 / 4)
    level = torch.exp(-8 * (time % 0.5))
    return 0.2 * level * sum(torch.sin(2 * math.pi * k * pitch * time) / k for k in range(1, 6))


def db(numerator, denominator):
    return float(10 * torch.log10(numerator.double().square().sum() / denominator.double().square().sum()))


def ratios(bins=40, frames=60, rank=3, seed=0):
    """Ratios of exponential distribution around 1 + WH."""
    rng = np.random.default_rng(seed)
    model = 1 + rng.gamma(0.5, 6, (bins, rank)) @ rng.gamma(0.5, 6, (rank, frames))
    return (model * rng.exponential(1, model.shape)).astype(np.float32), model


# The factorisation


def slow_factorise(ratio, rank, rounds, rng):
    """The updates of the docstring, element by element, in double precision."""
    bins, frames = ratio.shape
    scale = math.sqrt(ratio.mean(dtype=np.float64) / rank)
    w = (scale * (rng.random((bins, rank), dtype=np.float32) + np.float32(0.1))).astype(np.float64)
    h = (scale * (rng.random((rank, frames), dtype=np.float32) + np.float32(0.1))).astype(np.float64)

    def model(f, t):
        return 1 + sum(w[f, k] * h[k, t] for k in range(rank))

    for _ in range(rounds):
        new = w.copy()
        for f in range(bins):
            for k in range(rank):
                above = sum(ratio[f, t] / model(f, t) ** 2 * h[k, t] for t in range(frames))
                new[f, k] *= math.sqrt(above / sum(h[k, t] / model(f, t) for t in range(frames)))
        w = new
        new = h.copy()
        for t in range(frames):
            for k in range(rank):
                above = sum(w[f, k] * ratio[f, t] / model(f, t) ** 2 for f in range(bins))
                new[k, t] *= math.sqrt(above / sum(w[f, k] / model(f, t) for f in range(bins)))
        h = new
    return w, h


def test_the_factorisation_equals_the_literal_updates():
    ratio, _ = ratios(7, 9, 2)
    fast = nmf.factorise(ratio, 2, 5, np.random.default_rng(1))
    slow = slow_factorise(ratio, 2, 5, np.random.default_rng(1))
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4)


def test_no_update_increases_the_divergence():
    ratio, _ = ratios()
    models = [nmf.factorise(ratio, 4, rounds, np.random.default_rng(2)) for rounds in range(25)]
    divergences = [nmf.divergence(ratio, 1 + w.astype(np.float64) @ h) for w, h in models]
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in itertools.pairwise(divergences))
    assert divergences[-1] < divergences[0] / 2


def test_a_spectrum_of_rank_one_is_recovered():
    rng = np.random.default_rng(0)
    spectrum, level = rng.uniform(1, 50, 30), rng.uniform(1, 50, 80)
    ratio = (1 + np.outer(spectrum, level)).astype(np.float32)
    w, h = nmf.factorise(ratio, 1, 200, np.random.default_rng(3))
    np.testing.assert_allclose(w[:, 0] / w.sum(), spectrum / spectrum.sum(), rtol=1e-3)
    np.testing.assert_allclose(w @ h, np.outer(spectrum, level), rtol=2e-3)


def test_the_divergence_is_zero_only_for_equal_values():
    ratio, model = ratios()
    assert nmf.divergence(ratio, ratio) == pytest.approx(0, abs=1e-3)
    assert nmf.divergence(ratio, model) > 1
    assert nmf.divergence(10 * ratio, 10 * model) == pytest.approx(nmf.divergence(ratio, model), rel=1e-5)


# The gain


def test_the_gain_lies_between_the_floor_and_one():
    ratio, _ = ratios(33, 300)
    gain = nmf.committee_gain(ratio.astype(np.float64), np.ones(ratio.shape), RATE, FLOOR, np.random.default_rng(0))
    assert gain.min() >= FLOOR * (1 - 1e-9)
    assert gain.max() <= 1 + 1e-9
    assert gain.std() > 0.1


def test_the_gain_is_the_mean_over_the_initialisations():
    ratio, _ = ratios(20, 50)
    rng = np.random.default_rng(5)
    gains = []
    for _ in range(8):
        w, h = nmf.factorise(ratio, 10, 60, rng)
        gains.append(spectral_gain(np.maximum((w @ h).astype(float), SMALLEST_PRIOR), ratio.astype(float)))
    assert np.std([gain[0, 0] for gain in gains]) > 0
    np.testing.assert_allclose(nmf.nmf_gain(ratio.astype(float), np.random.default_rng(5)), np.mean(gains, axis=0))


@pytest.mark.parametrize(("deviation_db", "factor"), [(0.0, 1.4), (0.3, 1.4), (2.0, 1.7)])
def test_unsteady_noise_is_raised_most(deviation_db, factor):
    frequencies = np.linspace(0, RATE / 2, 257)
    level_db = deviation_db * math.sqrt(2) * np.sin(2 * np.pi * np.arange(400) / 80)
    noise_power = 1e-6 * np.ones((257, 1)) * 10 ** (level_db / 10)
    raised = nmf.raised_noise(noise_power, RATE) / noise_power
    np.testing.assert_allclose(raised[frequencies <= 300], 1)
    np.testing.assert_allclose(raised[frequencies >= 500], factor)
    assert (np.diff(raised, axis=0) >= -1e-9).all()


def test_digital_silence_is_not_unsteady_noise():
    noise_power = np.full((257, 100), 1e-6)
    noise_power[:, 30:60] = SMALLEST_POWER
    raised = nmf.raised_noise(noise_power, RATE)
    np.testing.assert_allclose(raised[-1] / noise_power[-1], nmf.STEADY_FACTOR)


def test_more_of_unsteady_noise_is_removed_with_a_raised_estimate(monkeypatch, few_rounds):
    seconds = 4
    time = torch.arange(seconds * RATE) / RATE
    bursts = noise(seconds) * 10 ** (torch.sin(2 * math.pi * 1.5 * time) * 8 / 20)
    clean = tones(seconds)
    noisy = clean + bursts * clean.std() / bursts.std() * 10 ** (-5 / 20)
    raised = nmf.reduce_noise(noisy, RATE)
    monkeypatch.setattr(nmf, "UNSTEADY_FACTOR", 1.0)
    monkeypatch.setattr(nmf, "STEADY_FACTOR", 1.0)
    assert db(clean, raised - clean) > db(clean, nmf.reduce_noise(noisy, RATE) - clean) + 0.2


@pytest.mark.parametrize("frames", [1, 2, 50, 1250, 1251, 2400, 5000])
def test_segments_cover_all_frames_and_are_bounded(frames):
    weight = np.zeros(frames)
    for start, stop, fade in nmf._segments(frames, FRAME):
        assert 0 <= start < stop <= frames
        assert stop - start <= max(2, round(nmf.SEGMENT_SECONDS / FRAME))
        weight[start:stop] += fade
    assert weight.min() > 0


# The method


def test_white_noise_alone_is_reduced():
    x = 0.1 * noise(4)
    assert db(nmf.reduce_noise(x, RATE), x) < -10


def test_noise_is_removed_from_tones():
    clean = tones(4)
    noisy = clean + clean.std() * 10 ** (-5 / 20) * noise(4)
    restored = nmf.reduce_noise(noisy, RATE)
    assert db(clean, restored - clean) > db(clean, noisy - clean) + 5


def test_a_clean_recording_is_returned_unchanged():
    clean = tones(4)
    assert torch.equal(nmf.reduce_noise(clean, RATE), clean)


@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_the_estimate_scales_with_the_recording(scale, few_rounds):
    noisy = tones(2) + 0.05 * noise(2)
    restored = nmf.reduce_noise(noisy, RATE)
    torch.testing.assert_close(nmf.reduce_noise(scale * noisy, RATE) / scale, restored, atol=1e-3, rtol=0)


def test_a_seed_determines_the_estimate(few_rounds):
    noisy = tones(2) + 0.05 * noise(2)
    first = nmf.reduce_noise(noisy, RATE, seed=1)
    assert torch.equal(first, nmf.reduce_noise(noisy, RATE, seed=1))
    assert not torch.equal(first, nmf.reduce_noise(noisy, RATE, seed=2))


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_other_rates(rate, few_rounds):
    clean = tones(2, rate)
    noisy = clean + clean.std() * noise(2, rate)
    restored = nmf.reduce_noise(noisy, rate)
    assert db(clean, restored - clean) > 4


@pytest.mark.parametrize("length", [64, 65, 100, 511, 512, 1000, 16001])
def test_lengths(length):
    noisy = noise(length / RATE)
    restored = nmf.reduce_noise(noisy, RATE)
    assert restored.shape == noisy.shape
    assert restored.isfinite().all()


@pytest.mark.parametrize(
    "waveform",
    [torch.zeros(RATE), torch.eye(1, RATE).flatten(), noise(1).sign(), torch.ones(RATE)],
    ids=["silence", "impulse", "full scale", "constant"],
)
def test_unusual_waveforms_stay_finite(waveform):
    restored = nmf.reduce_noise(waveform, RATE)
    assert restored.isfinite().all()
    assert restored.abs().max() <= 2 * waveform.abs().max()


def test_the_noise_of_a_problem_is_used(few_rounds):
    noisy = tones(2) + 0.05 * noise(2)
    bins, frames = np.shape(nmf.analyse(noisy, RATE))
    nothing = torch.full((bins, frames), 1e-20, dtype=torch.float64)
    restore = METHODS["denoise"]["nmf"].restore
    assert torch.equal(restore(Problem(noisy, None, RATE, noise=nothing)), noisy)
    assert not torch.equal(restore(Problem(noisy, None, RATE)), noisy)


@pytest.mark.slow
def test_blocks_of_a_stereo_file(run_task, tmp_path, few_rounds):
    clean = torch.stack([tones(4), tones(4).flip(0)], dim=1)
    noisy = clean + 0.03 * torch.stack([noise(4), noise(4, seed=1)], dim=1)
    soundfile.write(tmp_path / "noisy.wav", noisy.numpy(), RATE, "FLOAT")
    flags = [*"--restore --method nmf --device cpu --workers 1 --source".split(), str(tmp_path / "noisy.wav")]
    restored = []
    for block in (30, 2.5):
        output = tmp_path / f"{block}.wav"
        assert run_task("denoise", *flags, "--block", str(block), "-o", str(output)).returncode == 0
        restored.append(torch.from_numpy(soundfile.read(output, dtype="float32")[0]))
        assert len(json.loads(output.with_suffix(".wav.json").read_text())["blocks"]) == {30: 1, 2.5: 2}[block]
    for estimate in restored:
        for channel in range(2):
            before = db(clean[:, channel], (noisy - clean)[:, channel])
            assert db(clean[:, channel], (estimate - clean)[:, channel]) > before + 4


# The high-pass


def rumble(seconds, highest, seed=3):
    spectrum = torch.fft.rfft(noise(seconds, seed=seed))
    frequencies = torch.fft.rfftfreq(round(seconds * RATE), 1 / RATE)
    spectrum[frequencies > highest] = 0
    low = torch.fft.irfft(spectrum, round(seconds * RATE))
    return low / low.std()


def test_rumble_is_found_and_removed():
    clean = tones(6)
    noisy = clean + 0.01 * noise(6) + clean.std() * rumble(6, 60)
    assert 40 <= blind_cutoff(noisy, RATE) <= 90
    filtered = blind_high_pass(noisy, RATE)
    assert db(clean, filtered - clean) > db(clean, noisy - clean) + 6


def test_a_bass_is_kept():
    time = torch.arange(6 * RATE) / RATE
    bass = 0.3 * torch.sin(2 * math.pi * 41.2 * time) * torch.exp(-3 * (time % 0.5))
    sound = bass + tones(6) + 0.003 * noise(6)
    assert blind_cutoff(sound, RATE) <= 32
    assert db(sound, blind_high_pass(sound, RATE) - sound) > 30


def test_drums_in_rumble_are_kept():
    time = torch.arange(6 * RATE) / RATE
    drums = torch.exp(-5 * (time % 1.1)) * rumble(6, 60)
    sound = tones(6) + 0.01 * noise(6) + tones(6).std() * (drums + 0.1 * rumble(6, 60, seed=4))
    assert blind_cutoff(sound, RATE) == 0
    assert db(sound, blind_high_pass(sound, RATE) - sound) > 10


def test_weak_rumble_is_left():
    sound = tones(6) + 0.01 * noise(6)
    sound = sound + 0.08 * sound.std() * rumble(6, 60)
    assert torch.equal(blind_high_pass(sound, RATE), sound)


def test_the_power_response_of_a_high_pass():
    sound = noise(4)
    response = power_response(sound, high_pass(sound, RATE, 500), RATE)[:, 0]
    frequencies = np.linspace(0, RATE / 2, len(response))
    assert response[frequencies < 250].max() < 0.05
    assert response[frequencies > 800].min() > 0.9
    assert response.max() <= 1
    assert (power_response(sound, sound, RATE) == 1).all()
