import logging
import math

import numpy as np
import pytest
import torch
from conftest import SAMPLES
from torchaudio.functional import fftconvolve

import dawp
from dawp.dsp.dereverberation import (
    MIN_SECONDS,
    dereverberate,
    estimate_drr,
    late_reverberation_gain,
    predict_reverberation,
    reverberation_share,
)
from dawp.dsp.reverberation import estimate_rt60
from dawp.dsp.spectral import analyse
from dawp.io.audio import read
from dawp.methods.base import METHODS
from dawp.metrics.functions import si_snr

RATE = 16000
HOP = 0.008
STAGES = [(True, True), (True, False), (False, True)]


def room(rt60, rate=RATE, reverberant_db=0.0, seed=0):
    """Return an impulse response ``[L]``: a direct path, and noise that decays exponentially from 2 ms on."""
    time = torch.arange(round(1.5 * rt60 * rate)) / rate
    tail = torch.randn(len(time), generator=torch.Generator().manual_seed(seed)) * 10 ** (-3 * time / rt60)
    tail[time < 0.002] = 0
    response = tail / tail.norm() * 10 ** (reverberant_db / 20)
    response[0] = 1
    return response


def in_room(dry, response):
    return fftconvolve(dry, response)[: len(dry)]


@pytest.fixture(scope="module")
def dry_speech():
    return read(SAMPLES / "speech.wav", RATE)


@pytest.fixture(scope="module")
def reverberant(dry_speech):
    return in_room(dry_speech, room(0.5))[: 2 * RATE]


def changing_noise(bins, frames, seed=0):
    """Return a complex Gaussian spectrum ``[bins, frames]`` whose level changes by 40 dB, as that of speech does."""
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.uniform(-40, 0, (bins, frames // 8 + 1)), 8, axis=1)[:, :frames]
    noise = rng.standard_normal((bins, frames)) + 1j * rng.standard_normal((bins, frames))
    return 10 ** (level / 20) * noise


def autoregressive(source, taps, delay, seed=1):
    """Return ``source [bins, frames]`` plus a linear filter of the delayed result."""
    rng = np.random.default_rng(seed)
    filters = rng.standard_normal((len(source), taps)) + 1j * rng.standard_normal((len(source), taps))
    filters *= 0.9 / np.abs(filters).sum(axis=1, keepdims=True)  # stable
    result = source.copy()
    for frame in range(source.shape[1]):
        for tap in range(min(taps, frame - delay + 1)):
            result[:, frame] += filters[:, tap] * result[:, frame - delay - tap]
    return result


def decibels(signal, error):
    return 10 * math.log10((np.abs(signal) ** 2).sum() / (np.abs(error) ** 2).sum())


# Weighted prediction error


@pytest.mark.parametrize(("taps", "delay", "iterations"), [(6, 2, 3), (10, 3, 1), (20, 2, 3)])
def test_prediction_agrees_with_nara_wpe(taps, delay, iterations):
    nara = pytest.importorskip("nara_wpe.wpe")
    observed = autoregressive(changing_noise(6, 800), 4, 2)
    expected = nara.wpe(observed[:, None], taps=taps, delay=delay, iterations=iterations)[:, 0]
    residual = observed - predict_reverberation(observed, taps, delay, iterations, smooth=False)
    np.testing.assert_allclose(residual, expected, atol=1e-4 * np.abs(expected).max())


def test_prediction_removes_autoregressive_reverberation():
    source = changing_noise(16, 1500)
    observed = autoregressive(source, 4, 2)
    residual = observed - predict_reverberation(observed)
    assert decibels(source, observed - source) < 10
    assert decibels(source, residual - source) > 20


def test_chunks_and_precision_do_not_change_the_prediction(monkeypatch):
    observed = autoregressive(changing_noise(16, 300), 4, 2)
    whole = predict_reverberation(observed)
    monkeypatch.setattr("dawp.dsp.dereverberation.CHUNK_VALUES", 5 * 20 * 300)
    np.testing.assert_allclose(predict_reverberation(observed), whole, atol=1e-9)
    single = predict_reverberation(observed.astype(np.complex64))
    assert single.dtype == np.complex64
    assert decibels(observed, single - whole) > 60


def test_prediction_of_few_frames_and_of_silence():
    assert not predict_reverberation(np.ones((3, 5), dtype=complex)).any()
    assert not predict_reverberation(np.zeros((3, 200), dtype=complex)).any()


# Late-reverberation suppression


def test_suppression_attenuates_tails_and_keeps_onsets():
    decay = 10 ** (-6 * HOP * np.arange(60) / 0.5)  # power in a room with an RT60 of 0.5 s
    power = np.tile(np.concatenate([np.full(20, 1e-12), np.ones(10), decay]), (4, 1))
    gain = late_reverberation_gain(power, HOP, 0.5, floor_db=-12)
    assert gain[:, 20:23].min() > 0.99
    assert gain[:, 45:].max() < 0.5
    assert gain.min() >= 10 ** (-12 / 20) - 1e-9


def test_suppression_is_stronger_for_a_longer_rt60():
    power = np.abs(changing_noise(8, 400)) ** 2
    means = [late_reverberation_gain(power, HOP, rt60).mean() for rt60 in (0.1, 0.3, 0.6, 1.2)]
    assert means == sorted(means, reverse=True)


# The reverberation time


def test_rt60_of_reverberant_speech(dry_speech):
    errors = []
    for rt60 in (0.2, 0.3, 0.5, 0.7, 1.0):
        power = np.abs(analyse(in_room(dry_speech, room(rt60)), RATE)) ** 2
        errors.append(abs(estimate_rt60(power, RATE, HOP) - rt60))
    assert np.mean(errors) < 0.1


def test_rt60_of_decaying_noise_increases_with_the_decay_time():
    bursts = torch.zeros(4 * RATE)
    bursts[::RATE] = 1
    estimates = []
    for rt60 in (0.15, 0.3, 0.6, 1.0):
        noise = in_room(bursts, room(rt60, reverberant_db=20))
        estimates.append(estimate_rt60(np.abs(analyse(noise, RATE)) ** 2, RATE, HOP))
    assert estimates == sorted(estimates)
    assert estimates[-1] > 3 * estimates[0]


def test_rt60_of_what_does_not_decay_is_nan():
    tone = torch.sin(torch.arange(3 * RATE) * 2 * torch.pi * 440 / RATE)
    assert math.isnan(estimate_rt60(np.abs(analyse(tone, RATE)) ** 2, RATE, HOP))
    assert math.isnan(estimate_rt60(np.zeros((257, 200)), RATE, HOP))
    assert math.isnan(estimate_rt60(np.ones((257, 5)), RATE, HOP))


# The direct-to-reverberant ratio


@pytest.mark.parametrize("rt60", [0.3, 0.7])
def test_drr_decreases_with_the_reverberation(rt60, dry_speech):
    levels = (-3.0, 3.0, 9.0)
    estimates = [
        estimate_drr(analyse(in_room(dry_speech, room(rt60, reverberant_db=level)), RATE), RATE) for level in levels
    ]
    assert estimates == sorted(estimates, reverse=True)
    assert np.mean([abs(estimate + level) for estimate, level in zip(estimates, levels, strict=True)]) < 4


def test_drr_does_not_depend_on_the_level_or_the_rate(dry_speech):
    spectrum = analyse(in_room(dry_speech, room(0.5)), RATE)
    expected = estimate_drr(spectrum, RATE)
    assert estimate_drr(1e-6 * spectrum, RATE) == pytest.approx(expected, abs=0.1)
    speech = read(SAMPLES / "speech.wav", 48000)
    assert estimate_drr(analyse(in_room(speech, room(0.5, 48000)), 48000), 48000) == pytest.approx(expected, abs=3)


def test_drr_of_tones_and_of_silence_is_nan():
    tone = torch.sin(torch.arange(3 * RATE) * 2 * torch.pi * 440 / RATE)
    assert math.isnan(estimate_drr(analyse(tone, RATE), RATE))
    assert math.isnan(estimate_drr(np.zeros((257, 200), dtype=complex), RATE))
    assert math.isnan(estimate_drr(np.ones((1, 200), dtype=complex), RATE))
    assert math.isnan(estimate_drr(np.ones((257, 5), dtype=complex), RATE))


# The share that is removed


def test_share_follows_the_prediction_gain():
    power = np.ones((257, 500))

    def share(gain_db, rt60=0.3):
        return reverberation_share(power, power * 10 ** (-np.asarray(gain_db, dtype=float) / 10), RATE, rt60)

    assert share(0.1) == 0
    assert 0 < share(0.73) < 1
    assert share(1.5) == 1
    assert share(1.0, rt60=0.8) < share(1.0, rt60=0.3)
    assert share(6.0) == 0
    assert share(1.5, rt60=math.nan) == 0
    tones = np.full((257, 1), 1.5)
    tones[::5] = 6.0
    assert share(tones) == 0


def test_sustained_notes_are_not_reverberation():
    """Both are predicted; the gain of notes is large where their level is steady, and at the strongest frequencies."""
    power = np.ones((257, 500))
    power[::8] = 100.0
    decay = 10 ** (-0.1 * np.arange(500))  # 1 dB per frame
    remaining = 10 ** (-np.where(power == 100, 2.05, 1.5) / 10)
    assert reverberation_share(power, power * remaining, RATE, 0.3) == 0
    assert reverberation_share(power * decay, power * decay * remaining, RATE, 0.3) == 1


@pytest.mark.parametrize("rt60", [0.3, 0.7])
@pytest.mark.parametrize("name", ["singing", "guitar"])
def test_reverberant_music_is_not_worse(name, rt60):
    dry = read(SAMPLES / f"{name}.wav", RATE)
    observed = in_room(dry, room(rt60))
    assert si_snr(dereverberate(observed, RATE), dry) >= si_snr(observed, dry)


# Recordings


@pytest.mark.parametrize(("predict", "suppress"), STAGES)
def test_reverberant_speech_is_improved(predict, suppress, dry_speech):
    observed = in_room(dry_speech, room(0.5, reverberant_db=3))
    estimate = dereverberate(observed, RATE, predict, suppress)
    assert si_snr(estimate, dry_speech) > si_snr(observed, dry_speech) + 0.5


@pytest.mark.parametrize("name", ["speech", "singing", "guitar"])
def test_dry_recordings_are_unchanged(name):
    clip = read(SAMPLES / f"{name}.wav", RATE)
    assert torch.equal(dereverberate(clip, RATE), clip)


@pytest.mark.parametrize("rate", [8000, 48000])
def test_tones_are_unchanged(rate):
    time = torch.arange(round(1.2 * rate)) / rate
    tones = sum(torch.sin(2 * torch.pi * f * time) for f in (220.0, 440.0, 997.0)) / 3
    for signal in (tones, tones * (time % 0.5 < 0.4)):
        assert torch.equal(dereverberate(signal, rate), signal)


@pytest.mark.parametrize("rate", [1000, 8000, 24000])
def test_other_rates(rate, dry_speech):
    signal = read(SAMPLES / "speech.wav", rate)
    observed = in_room(signal, room(0.5, rate, 3))
    estimate = dereverberate(observed, rate)
    assert estimate.shape == observed.shape
    assert estimate.isfinite().all()
    assert si_snr(estimate, signal) >= si_snr(observed, signal)


def test_the_estimate_is_proportional_to_the_recording(reverberant):
    estimate = dereverberate(reverberant, RATE)
    assert not torch.equal(estimate, reverberant)
    torch.testing.assert_close(dereverberate(2.0**-40 * reverberant, RATE) * 2.0**40, estimate)


@pytest.mark.parametrize(
    "signal",
    [
        torch.zeros(2 * RATE),
        torch.nn.functional.pad(torch.ones(1), (RATE, RATE)),
        torch.sin(torch.arange(64) / 3),
        torch.sign(torch.sin(torch.arange(2 * RATE) / 20)),
        torch.ones(2 * RATE),
    ],
    ids=["silence", "impulse", "64 samples", "full scale", "constant"],
)
@pytest.mark.parametrize(("predict", "suppress"), STAGES)
def test_signals_without_reverberation_are_unchanged(signal, predict, suppress):
    assert torch.equal(dereverberate(signal, RATE, predict, suppress), signal)


@pytest.mark.parametrize("snr", [30, 20])
def test_noisy_reverberant_speech_is_improved_and_dry_speech_is_not_changed(snr, dry_speech):
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(len(dry_speech), generator=rng)

    def noisy(signal):
        return signal + noise * signal.norm() / noise.norm() * 10 ** (-snr / 20)

    observed = noisy(in_room(dry_speech, room(0.5, reverberant_db=3)))
    assert si_snr(dereverberate(observed, RATE), dry_speech) > si_snr(observed, dry_speech) + 0.5
    assert torch.equal(dereverberate(noisy(dry_speech), RATE), noisy(dry_speech))


def test_noise_is_removed_before_the_reverberation(dry_speech):
    silence, speech = torch.zeros(RATE // 2), dry_speech[: 3 * RATE]
    reverberant = torch.cat([silence, in_room(speech, room(0.5, reverberant_db=3))])
    noise = torch.randn(len(reverberant), generator=torch.Generator().manual_seed(0))
    observed = reverberant + noise * reverberant.norm() / noise.norm() * 0.1
    estimate = dereverberate(observed, RATE, *STAGES[1])
    before, after = (signal[: len(silence)].norm() for signal in (observed, estimate))
    assert 20 * math.log10(before / after) > 6
    assert si_snr(estimate[len(silence) :], speech) > si_snr(observed[len(silence) :], speech)


def test_the_noise_reduction_keeps_the_directions(dry_speech):
    reverberant = in_room(dry_speech, room(0.5, reverberant_db=3))[: 2 * RATE]
    noise = torch.randn(len(reverberant), generator=torch.Generator().manual_seed(0))
    observed = reverberant + noise * reverberant.norm() / noise.norm() * 0.1
    estimate = dereverberate(torch.stack([observed, 0.5 * observed]), RATE)
    assert not torch.equal(estimate[0], observed)
    torch.testing.assert_close(estimate[1], 0.5 * estimate[0], atol=1e-4, rtol=1e-3)


def test_digital_silence_in_a_recording(dry_speech):
    observed = in_room(dry_speech, room(0.5))
    observed[20000:28000] = 0
    estimate = dereverberate(observed, RATE)
    assert estimate.isfinite().all()
    assert not torch.equal(estimate, observed)


@pytest.mark.parametrize(
    ("method", "stages"), [("wpe_late", STAGES[0]), ("wpe_long", STAGES[1]), ("late_suppression", STAGES[2])]
)
def test_methods_restore_a_recording(method, stages, reverberant):
    restored = dawp.restore(reverberant, RATE, task="dereverb", method=method)
    torch.testing.assert_close(restored, dereverberate(reverberant, RATE, *stages))


@pytest.mark.parametrize("name", ["wpe_long", "late_suppression", "wpe_late"])
def test_a_short_recording_is_unchanged_and_logged(name, caplog):
    method = METHODS["dereverb"][name]
    assert method.min_seconds == MIN_SECONDS
    short = 0.1 * torch.randn(round(0.9 * method.min_seconds * 16000), generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.INFO, "dawp"):
        assert torch.equal(dawp.restore(short, 16000, "dereverb", method=name), short)
    assert f"--method {name} has no effect" in caplog.text
