import math

import numpy as np
import pytest
import soundfile
import torch
from conftest import SAMPLES
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter
from torchaudio.functional import resample

from dawp.cli import main
from dawp.errors import BadInput
from dawp.io.audio import read
from dawp.io.files import read_json
from dawp.metrics.base import METRICS, UndefinedMetric, default_metrics
from dawp.metrics.cepstral import MAX_DISTANCE, cepstral_distance, lpc_cepstrum
from dawp.metrics.evaluator import Evaluator
from dawp.metrics.functions import for_dnsmos
from dawp.metrics.intelligibility import estoi_score, stoi_score
from dawp.metrics.settings import MetricConfig
from dawp.problem import Problem
from dawp.restoration import description
from dawp.restoration.blocks import Sound

RATE = 16000


def noise(length=2 * RATE, seed=0):
    return torch.randn(length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filtered(signal, pole):
    return torch.from_numpy(lfilter([1.0], [1.0, -pole], signal.numpy()))


# The registry


def test_they_are_computed_only_by_name():
    assert not {"stoi", "estoi", "cepstral_distance"} & set(default_metrics())
    assert not METRICS["cepstral_distance"].higher_is_better


def test_the_metrics_of_a_problem(speech):
    pytest.importorskip("pystoi")
    problem = Problem(speech + 0.02 * noise(len(speech)).float(), speech, RATE)
    config = MetricConfig(metrics="stoi,estoi,cepstral_distance")
    scores = Evaluator(problem, config).score(problem.observed)
    expected = {
        "stoi": stoi_score(problem.observed.numpy(), speech.numpy(), RATE),
        "estoi": estoi_score(problem.observed.numpy(), speech.numpy(), RATE),
        "cepstral_distance": cepstral_distance(problem.observed, speech, RATE).item(),
    }
    assert scores == pytest.approx(expected)
    assert config.names == tuple(expected)


def test_a_missing_package_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput) as refusal:
        MetricConfig(metrics="si_snr,estoi")
    assert refusal.value.code == "missing_package"
    assert "\n" not in str(refusal.value)
    MetricConfig(metrics="si_snr,cepstral_distance")


# Cepstral distance


def test_cepstrum_is_that_of_the_prediction_filter():
    frames = torch.hann_window(480, dtype=torch.float64) * noise(3 * 480).reshape(3, 480)
    for frame, cepstrum in zip(frames.numpy(), lpc_cepstrum(frames, 16).numpy(), strict=True):
        correlation = np.correlate(frame, frame, "full")[len(frame) - 1 :][:17]
        filters = np.concatenate([[1.0], -solve_toeplitz(correlation[:16], correlation[1:])])
        expected = np.fft.irfft(-np.log(np.abs(np.fft.rfft(filters, 8192)) ** 2))  # even: twice each coefficient
        np.testing.assert_allclose(cepstrum, expected[1:17], atol=1e-5)


def test_cepstrum_of_a_first_order_filter():
    pole = 0.8
    response = torch.tensor([pole**n for n in range(400)], dtype=torch.float64)
    expected = [pole**k / k for k in range(1, 11)]
    np.testing.assert_allclose(lpc_cepstrum(response, 10).numpy(), expected, atol=1e-6)


def test_distance_of_filtered_noise():
    poles = 0.3, 0.7
    expected = 10 / math.log(10) * math.sqrt(2 * sum(((poles[1] ** k - poles[0] ** k) / k) ** 2 for k in range(1, 17)))
    source = noise(10 * RATE)
    found = cepstral_distance(filtered(source, poles[0]), filtered(source, poles[1]), RATE)
    assert found.item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_distance_increases_with_noise_and_ignores_the_level(rate, speech):
    speech = resample(speech, RATE, rate)
    added = noise(len(speech)).float()
    distances = [cepstral_distance(speech + level * added, speech, rate).item() for level in (0.0, 1e-3, 1e-2, 1e-1)]
    assert distances[0] == 0
    assert distances == sorted(set(distances))
    assert cepstral_distance(0.1 * speech, speech, rate).item() < 1e-3


def test_distance_at_other_rates(speech):
    noisy = speech + 0.01 * noise(len(speech)).float()
    expected = cepstral_distance(noisy, speech, RATE).item()
    higher = (resample(waveform, RATE, 48000) for waveform in (noisy, speech))
    assert cepstral_distance(*higher, 48000).item() == pytest.approx(expected, rel=0.05)
    assert cepstral_distance(noisy, speech, 15999).isnan()


def test_distance_of_batches_and_of_silent_parts(speech):
    estimates = torch.stack([speech, speech + 0.01 * noise(len(speech)).float()])[:, None]
    distances = cepstral_distance(estimates, speech.expand_as(estimates), RATE)
    assert distances.shape == (2, 1)
    assert distances[1, 0].item() == cepstral_distance(estimates[1, 0], speech, RATE).item()
    muted = speech.clone()
    muted[len(speech) // 2 :] = 0
    assert MAX_DISTANCE / 4 < cepstral_distance(muted, speech, RATE).item() < MAX_DISTANCE
    assert cepstral_distance(speech, muted, RATE).item() < 0.1  # only frames in which the target sounds count


@pytest.mark.parametrize(("estimate", "target"), [(0, 1), (1, 0), (0, 0)])
def test_distance_of_silence_is_nan(estimate, target):
    signals = torch.zeros(RATE), noise(RATE).float()
    assert cepstral_distance(signals[estimate], signals[target], RATE).isnan()


def test_distance_of_less_than_a_frame_is_nan():
    assert cepstral_distance(noise(479), noise(479, 1), RATE).isnan()
    assert cepstral_distance(noise(480), noise(480, 1), RATE).isfinite()
    with pytest.raises(ValueError, match=r"\[3\] and \[4\]"):
        cepstral_distance(torch.zeros(3), torch.zeros(4), RATE)


# Intelligibility


@pytest.mark.parametrize("score", [stoi_score, estoi_score])
@pytest.mark.parametrize("rate", [10000, 16000])
def test_intelligibility_decreases_with_noise(score, rate):
    pytest.importorskip("pystoi")
    clean = read(SAMPLES / "speech.wav", rate)
    added = noise(len(clean)).float()
    scores = [score((clean + level * added).numpy(), clean.numpy(), rate) for level in (0.0, 1e-2, 1e-1, 1.0)]
    assert scores[0] == pytest.approx(1, abs=1e-6)
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.5


def test_intelligibility_agrees_with_the_package_and_is_reproducible(speech):
    pystoi = pytest.importorskip("pystoi")
    estimate, target = (speech + 0.05 * noise(len(speech)).float()).numpy(), speech.numpy()
    assert stoi_score(estimate, target, RATE) == pytest.approx(pystoi.stoi(target, estimate, RATE), abs=1e-5)
    estimate[RATE // 4 : RATE] = 0
    np.random.seed(3)
    state = np.random.get_state()[1].tolist()
    assert estoi_score(estimate, target, RATE) == estoi_score(estimate, target, RATE)
    assert np.random.get_state()[1].tolist() == state


@pytest.mark.parametrize("score", [stoi_score, estoi_score])
def test_intelligibility_that_is_not_defined_is_refused(score):
    pytest.importorskip("pystoi")
    sound = noise(RATE).float().numpy()
    for estimate, target in ((0 * sound, sound), (sound, 0 * sound), (sound[:3000], sound[:3000])):
        with pytest.raises(ValueError):
            score(estimate, target, RATE)


@pytest.mark.parametrize(("rate", "order"), [(8000, 10), (16000, 16)])
def test_the_distance_of_one_frame_is_that_of_its_cepstra(rate, order):
    size = round(0.03 * rate)
    target = noise(size)
    estimate = filtered(target, 0.3)
    cepstra = lpc_cepstrum(torch.hann_window(size, dtype=torch.float64) * torch.stack([estimate, target]), order)
    expected = 10 / math.log(10) * math.sqrt(2 * float((cepstra[0] - cepstra[1]).square().sum()))
    assert 0.5 < expected < MAX_DISTANCE
    assert float(cepstral_distance(estimate, target, rate)) == pytest.approx(expected)


def test_frames_in_which_only_the_estimate_is_silent_have_the_largest_distance():
    target = noise(RATE)
    estimate = torch.where(torch.arange(RATE) < RATE // 2, target, 0)
    share = (0.5 - 0.05) / 0.95  # the largest 5 % of the distances are left out
    assert float(cepstral_distance(estimate, target, RATE)) == pytest.approx(share * MAX_DISTANCE, rel=0.1)


# DNSMOS


@pytest.mark.slow
def test_dnsmos_prefers_clean_speech_and_ignores_the_target(speech):
    pytest.importorskip("speechmos")
    from dawp.metrics.dnsmos import dnsmos_score

    clean = speech.numpy()
    noisy = (speech + 0.02 * noise(len(speech)).float()).numpy()
    assert 1 <= dnsmos_score(noisy, clean, RATE) < dnsmos_score(clean, clean, RATE) - 0.3 <= 5
    assert dnsmos_score(noisy, clean, RATE) == dnsmos_score(noisy, noisy, RATE)
    with pytest.raises(ValueError, match="silent"):
        dnsmos_score(0 * clean, clean, RATE)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_an_unusable_estimate_has_no_dnsmos(value):
    with pytest.raises(UndefinedMetric):
        for_dnsmos(torch.full((RATE,), value), torch.ones(RATE), RATE)


def test_dnsmos_receives_the_estimate_at_16_khz():
    estimate = torch.zeros(44100)
    estimate[0] = 1.0  # the other samples are zeros, which are no reason to refuse it
    prepared, _, rate = for_dnsmos(estimate, torch.ones(44100), 44100)
    assert (len(prepared), rate) == (16000, 16000)
    assert prepared.abs().argmax() == 0


def test_a_restoration_reports_only_metrics_without_a_clean_clip(tmp_path, monkeypatch, speech):
    pytest.importorskip("speechmos")
    scores = iter([2.0, 3.0, 3.5, 4.5])
    monkeypatch.setattr("dawp.metrics.dnsmos.dnsmos_score", lambda estimate, target, rate: next(scores))
    stereo = torch.stack([speech, 0.5 * speech], dim=1)
    soundfile.write(tmp_path / "a.wav", stereo + 0.01 * torch.randn(stereo.shape), RATE)
    flags = ["--source", str(tmp_path / "a.wav"), "--restore", "--method", "log_mmse", "-o", str(tmp_path / "b.wav")]
    assert main("denoise", [*flags, "--metrics", "dnsmos", "--quiet"]) == 0
    assert read_json(tmp_path / "b.wav.json")["metrics"] == {"dnsmos": {"recording": 2.5, "restored": 4.0}}


@pytest.mark.parametrize("names", ["pesq", "snr,lsd", "dnsmos,snr"])
def test_a_restoration_refuses_metrics_that_need_a_clean_clip(names, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda package: True)
    flags = ["--source", str(tmp_path / "a.wav"), "--restore", "--metrics", names]
    assert main("denoise", flags) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "dnsmos for" in err
    assert names.split(",")[-1] in err


def test_sections_of_a_restoration_are_aligned_with_the_recording():
    """Parts of any length, and sections that overlap none, one or several of them."""
    samples = noise(4 * 60 * RATE).float()[None]
    sound = Sound("a", RATE, torch.ones(1), samples.shape[1], lambda start, stop: samples[:, start:stop])
    parts = list(samples.split(7 * RATE + 1, dim=1))
    found = list(description._restored_sections(sound, iter(parts)))
    assert [(stop - start) / RATE for (start, stop), _ in found] == [30.0] * 4
    assert found[0][0][0] == 0
    assert found[-1][0][1] == samples.shape[1]
    assert all(torch.equal(restored, sound.read(*section)) for section, restored in found)
