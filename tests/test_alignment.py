"""Tests of the alignment of pairs."""

import json

import pytest
import torch
from conftest import RATE, SAMPLES, repetitions, write_sound

from dawp.config import Config
from dawp.dsp.alignment import measure_lag
from dawp.io.audio import read, resample
from dawp.io.sources import Recording
from dawp.randomness import seeded
from dawp.runs.folder import run_folder
from dawp.tasks.dereverb import ReverbConfig, add_reverb

NAMES = ["speech", "singing", "guitar"]


def clip(name, rate=RATE):
    return resample(read(SAMPLES / f"{name}.wav", RATE), RATE, rate)


def late(waveform, lag):
    """Delay a waveform by ``lag`` samples (which may be negative), keeping its length."""
    silence = torch.zeros(abs(lag))
    return torch.cat([silence, waveform[:-lag]]) if lag > 0 else torch.cat([waveform[-lag:], silence])


def with_noise(waveform, snr_db):
    return waveform + torch.randn(len(waveform)) * waveform.std() * 10 ** (-snr_db / 20)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rate", "ms"), [(8000, 50), (16000, -50), (16000, 2), (44100, -900), (48000, 1.5)])
def test_a_lag_is_measured_at_every_rate(name, rate, ms):
    clean, lag = clip(name, rate), round(ms * rate / 1000)
    assert measure_lag(clean, late(clean, lag), rate) == lag
    assert measure_lag(clean, -late(clean, lag), rate) == lag
    assert measure_lag(clean, with_noise(late(clean, lag), 10), rate) == pytest.approx(lag, abs=1)
    assert measure_lag(clean, with_noise(clean, 0), rate) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("snr_db", [20, 0, -10])
def test_a_noisy_pair_without_a_lag_has_none(name, snr_db):
    clean = clip(name)
    assert measure_lag(clean, with_noise(clean, snr_db), RATE) == 0
    assert measure_lag(clean, clean, RATE) == 0


@pytest.mark.parametrize(("name", "rt60"), [("speech", 0.2), ("guitar", 0.5)])
def test_a_reverberant_pair_without_a_lag_has_none(name, rt60):
    problem = add_reverb(clip(name), RATE, ReverbConfig(rt60=rt60), seeded(1, "corruption"))
    assert measure_lag(problem.clean, problem.observed, RATE) == 0
    assert measure_lag(problem.clean, late(problem.observed, 800), RATE) == 800


def test_a_direct_path_below_its_reflections_gives_no_lag():
    clean = clip("speech")
    reverberant = clean + 2 * late(clean, 80) + 1.5 * late(clean, 130)
    assert measure_lag(clean, reverberant, RATE) == 0


def test_an_unclear_peak_gives_no_lag():
    tone = torch.sin(torch.arange(RATE) * 0.2)
    assert measure_lag(tone, late(tone, 800), RATE) == 0
    for length in (64, 1000, 32000):
        assert measure_lag(torch.randn(length), torch.randn(length), RATE) == 0
    assert measure_lag(torch.zeros(1000), torch.randn(1000), RATE) == 0
    assert measure_lag(torch.ones(1), torch.ones(1), RATE) == 0
    speech = clip("speech")
    assert measure_lag(speech, late(speech, 15), RATE) == 0  # under 1 ms


def test_the_loudest_minute_of_a_long_recording_is_measured():
    long = 0.01 * torch.randn(150 * 1000)
    long[100_000:110_000] *= 30
    assert measure_lag(long, late(long, 100), 1000) == 100


@pytest.fixture
def pair(tmp_path):
    """Write a list of one pair; the second recording is 50 ms late."""
    clean = 0.1 * torch.randn(32000)
    write_sound(tmp_path / "clean.wav", clean, subtype="FLOAT")
    write_sound(tmp_path / "noisy.wav", with_noise(late(clean, 800), 10), subtype="FLOAT")
    (tmp_path / "pairs.txt").write_text("clean.wav,noisy.wav\n")
    return tmp_path / "pairs.txt"


def test_a_lag_is_reported_and_removed_by_a_flag(denoise, tmp_path, pair):
    flags = ["--source", pair.name, "--clip_length", "0", "--quiet"]
    result = denoise(*flags)
    assert result.returncode == 0
    (warning,) = result.stderr.splitlines()
    assert "clean.wav" in warning
    assert "noisy.wav" in warning
    assert "50.0 ms" in warning
    assert "--align" in warning
    aligned = denoise(*flags, "--align", "--output_dir", "aligned")
    assert (aligned.returncode, aligned.stderr) == (0, "")
    before, after = (
        json.loads((repetitions(tmp_path / folder)[0] / "result.json").read_text()) for folder in ("evals", "aligned")
    )
    assert before["input"]["si_snr"] < 0
    assert after["input"]["si_snr"] == pytest.approx(10, abs=0.5)
    assert (before["samples"], after["samples"]) == (32000, 31200)


def test_aligned_recordings_may_differ_in_length_by_the_largest_lag(denoise, tmp_path, pair):
    clean = read(tmp_path / "clean.wav", RATE)
    write_sound(tmp_path / "noisy.wav", with_noise(clean[1600:], 10), subtype="FLOAT")  # 100 ms early
    assert denoise("--source", pair.name).returncode == 2
    assert denoise("--source", pair.name, "--align", "--clip_length", "0").returncode == 0
    facts = json.loads((repetitions(tmp_path / "evals")[0] / "result.json").read_text())
    assert facts["samples"] == 30400
    assert facts["input"]["si_snr"] == pytest.approx(10, abs=0.5)


def test_align_changes_the_run_folder_of_pairs_only(denoise, tmp_path, pair):
    """Runs from before the flag existed are still found."""
    assert denoise("--source", pair.name).returncode == 0
    (config,) = tmp_path.glob("evals/denoise/*/config.json")
    assert "align" not in json.loads(config.read_text())["identity"]
    single, pairs = ([Recording(*paths)] for paths in ([tmp_path / "a.wav"], [tmp_path / "a.wav", tmp_path / "b.wav"]))
    folders = [
        [run_folder(Config.of("denoise", align=align), them) for align in (False, True)] for them in (single, pairs)
    ]
    assert [one == other for one, other in folders] == [True, False]


def test_align_without_pairs_has_no_effect(denoise, tmp_path):
    write_sound(tmp_path / "a.wav")
    assert "--align has no effect" in denoise("--source", "a.wav", "--align").stderr
    assert "has no effect" not in denoise("--source", "a.wav", "--no_align").stderr
