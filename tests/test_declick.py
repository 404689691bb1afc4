"""Tests of clicks: their simulation, their detection, the methods that fill them and the task."""

import json
import math
import time

import numpy as np
import pytest
import soundfile
import torch
from conftest import refused_as

import dawp
from dawp.config import Config
from dawp.dsp import gaps
from dawp.dsp.clicks import detect_clicks, is_pulse, repetition_period
from dawp.io.audio import true_runs
from dawp.simulate import records
from dawp.tasks.base import make_problem
from dawp.tasks.declick import ClickConfig

RATE = 44100


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def chord(seconds=3.0, rate=RATE, seed=0):
    """Tones that start one after the other, and noise 50 dB below."""
    time_ = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    sound = torch.zeros_like(time_)
    for k, frequency in enumerate((220.0, 277.0, 330.0, 441.0, 553.0, 887.0)):
        envelope = torch.exp(-1.5 * (time_ - 0.4 * k)) * (time_ >= 0.4 * k)
        for harmonic in range(1, 6):
            sound += envelope * torch.sin(2 * math.pi * frequency * harmonic * time_ + harmonic) / harmonic**2
    sound /= sound.abs().max() * 2
    return (sound + 1e-3 * torch.randn(len(sound), generator=rng(seed), dtype=torch.float64)).float()


def clicked(sound, per_minute=1000.0, level=10.0, rate=RATE, period=None, seed=1):
    clicks = records.draw_clicks(len(sound), rate, per_minute, 60 / RATE, rng(seed), period)
    amplitude = float(sound.square().mean().sqrt()) * 10 ** (level / 20)
    return (sound + amplitude * clicks.samples).float(), clicks.places


def scores(places, found):
    """Return the shares of the clicks that are found, and of the finds that are clicks (to within 4 samples)."""
    near = torch.nn.functional.max_pool1d(places.float()[None], 9, 1, 4)[0] > 0
    recall = np.mean([bool(found[a:b].any()) for a, b in true_runs(places)])
    return recall, np.mean([bool(near[a:b].any()) for a, b in true_runs(found)])


def snr(clean, estimate):
    error = (estimate - clean).double().square().sum()
    return math.inf if error == 0 else float(10 * torch.log10(clean.double().square().sum() / error))


@pytest.fixture(scope="module")
def music():
    return chord()


@pytest.mark.parametrize("per_minute", [100.0, 1000.0, 5000.0])
def test_clicks_are_found(per_minute, music):
    observed, places = clicked(music, per_minute)
    recall, precision = scores(places, detect_clicks(observed, RATE))
    assert recall > 0.9
    assert precision > 0.97


def test_clicks_in_speech_are_found(speech):
    observed, places = clicked(speech, 600.0, 16.0, 16000)
    recall, precision = scores(places, detect_clicks(observed, 16000))
    assert recall > 0.7
    assert precision > 0.9


def test_music_and_speech_without_clicks_are_spared(music, speech):
    assert not detect_clicks(music, RATE).any()
    assert not detect_clicks(speech, 16000).any()


@pytest.mark.parametrize("decay", [0.004, 0.02, 0.1])
def test_percussion_is_spared(decay, music):
    """Noise and damped tones that start within a sample."""
    time_ = torch.arange(RATE // 4) / RATE
    noise = torch.randn(len(time_), generator=rng(3))
    strokes = [torch.exp(-time_ / decay) * wave for wave in (noise, torch.sin(2 * math.pi * 1800 * time_))]
    sound = music.clone()
    for index, start in enumerate(range(RATE // 8, len(sound) - RATE // 4, RATE // 5)):
        sound[start : start + RATE // 4] += 0.3 * strokes[index % 2]
    found = detect_clicks(sound, RATE)
    assert float(found.float().mean()) < 2e-4
    repaired = gaps.ar_frames(sound, ~found, RATE)
    assert snr(sound, repaired) > 35


def test_pulses_of_a_square_wave_are_spared():
    """A band-limited square wave that starts and stops."""
    time_ = torch.arange(RATE, dtype=torch.float64) / RATE
    wave = sum(torch.sin(2 * math.pi * 173 * k * time_) / k for k in range(1, 127, 2))
    sound = wave * ((time_ * 4).floor() % 2) + 1e-4 * torch.randn(RATE, generator=rng(), dtype=torch.float64)
    assert not detect_clicks(sound, RATE).any()


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ((), False),
        ((-400,), False),
        ((-400, 400), False),
        ((-400, 400, 800), True),
        ((400, 800, 1200), True),
        ((-1200, -800, -400), True),
        ((-400, 400, 900), False),
    ],
)
def test_a_pulse_is_one_of_four_at_equal_distances(places, expected):
    peaks = torch.zeros(4000).numpy()
    peaks[[2000 + place for place in (0, *places)]] = 1.0
    assert is_pulse(peaks, 2000, 1000, 50) is expected
    peaks[[2000 + place for place in places]] = 0.4
    assert not is_pulse(peaks, 2000, 1000, 50)
    assert not is_pulse(peaks[2000:2001], 0, 1000, 50)


@pytest.mark.parametrize("gain", [2.0**-12, 0.3, -1.0])
def test_the_detection_does_not_depend_on_the_gain(gain, music):
    observed, _ = clicked(music[:RATE])
    assert torch.equal(detect_clicks(observed, RATE), detect_clicks(gain * observed.double(), RATE))


def test_arrays_and_tensors_are_accepted(music):
    observed, _ = clicked(music[: RATE // 2])
    found = detect_clicks(observed.numpy(), RATE)
    assert isinstance(found, np.ndarray)
    assert np.array_equal(found, detect_clicks(observed, RATE).numpy())


def test_a_higher_sensitivity_finds_more(music):
    observed, _ = clicked(music, 500.0, -10.0)
    counts = [int(detect_clicks(observed, RATE, sensitivity).sum()) for sensitivity in (0.3, 1.0, 2.0)]
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 200, 5000])
@pytest.mark.parametrize("rate", [1000, 16000, 96000])
def test_hostile_signals(length, rate):
    impulse = torch.zeros(length)
    impulse[length // 2] = 1.0
    signals = (torch.zeros(length), torch.ones(length), impulse, torch.randn(length, generator=rng()).sign())
    for sound in (*signals, 1e-30 * torch.randn(length, generator=rng())):
        found = detect_clicks(sound, rate)
        assert found.shape == sound.shape
        assert found.dtype == torch.bool
        assert not found.all()
        filled = gaps.ar_frames(sound, ~found, rate)
        assert filled.isfinite().all()
        assert torch.equal(filled[~found], sound[~found])


def test_one_impulse_in_silence_is_a_click():
    sound = torch.zeros(RATE // 2)
    sound[9000] = 0.5
    found = detect_clicks(sound, RATE)
    assert found[9000]
    assert int(found.sum()) <= 5


def test_full_scale_noise_has_few_clicks():
    noise = torch.rand(2 * RATE, generator=rng()) * 2 - 1
    assert not detect_clicks(noise, RATE).any()


def test_gaps_are_filled_by_frames(music):
    """Outside the gaps nothing changes; inside the error is small, and the order of time does not matter."""
    places = clicked(music, 2000.0)[1]
    damaged = torch.where(places, 9.0, music)
    filled = gaps.ar_frames(damaged, ~places, RATE)
    assert torch.equal(filled[~places], music[~places])
    assert snr(music[places], filled[places]) > 20
    assert torch.equal(gaps.ar_frames(torch.where(places, torch.nan, music), ~places, RATE), filled)
    torch.testing.assert_close(gaps.ar_frames(2.0**-20 * damaged, ~places, RATE), 2.0**-20 * filled, rtol=0, atol=0)


def test_clicks_are_removed_in_real_time(music):
    observed, _ = clicked(music)
    detect_clicks(observed[:RATE], RATE)  # compiles
    gaps.ar_frames(observed[:RATE], torch.ones(RATE) > 0, RATE)
    start = time.process_time()
    found = detect_clicks(observed, RATE)
    gaps.ar_frames(observed, ~found, RATE)
    assert time.process_time() - start < 3.0  # seconds for 3 s; it takes about 1 s


@pytest.mark.parametrize("rpm", records.RPM)
def test_surface_noise_repeats_once_per_revolution(rpm):
    period = records.revolution(rpm, 8000)
    length = 3 * period + 123
    assert period == round(8000 * 60 / records.RPM[rpm])
    clicks = records.draw_clicks(length, 8000, 300.0, 0.001, rng(), period)
    for drawn in (
        clicks.samples,
        clicks.places,
        records.draw_crackle(length, 8000, rng(), period),
        records.draw_rumble(length, 8000, rng(), period),
    ):
        assert len(drawn) == length
        assert torch.equal(drawn[period:], drawn[:-period])


def test_clicks_have_the_density_length_and_level_that_is_asked_for():
    clicks = records.draw_clicks(60 * 8000, 8000, 50.0, 0.002, rng(), spread=0.0)
    found = true_runs(clicks.places)
    assert 45 <= len(found) <= 50  # two may overlap
    assert max(stop - start for start, stop in found) <= 32
    assert float(clicks.samples.abs().max()) == pytest.approx(1.0)
    assert not clicks.samples[~clicks.places].any()


def test_hiss_and_rumble_have_the_spectrum_of_a_record():
    hiss, rumble = (draw(1 << 16, RATE, rng()) for draw in (records.draw_hiss, records.draw_rumble))
    for noise, low, high in ((hiss, 1000, 10000), (rumble, 20, 200)):
        power = torch.fft.rfft(noise).abs().square()
        around = [
            float(power[round(f / 1.2 * 65536 / RATE) : round(f * 1.2 * 65536 / RATE)].mean()) for f in (low, high)
        ]
        assert around[0] > 5 * around[1]
        assert float(noise.square().mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("rpm", [None, "78"])
def test_recorded_noise_is_looped_without_a_break(rpm, tmp_path):
    """Two revolutions of a tone with a whole number of periods, and a bit more."""
    rate, period = 8000, records.revolution(rpm, 8000)
    size = 2 * (period or 6000) + 200
    tone = torch.sin(2 * math.pi * 50 / (period or 6000) * torch.arange(size, dtype=torch.float64))
    soundfile.write(tmp_path / "noise.wav", 0.5 * tone.numpy(), rate, "DOUBLE")
    noise, path = records.read_surface_noise(tmp_path, 5 * size, rate, rng(), period)
    assert path == tmp_path / "noise.wav"
    assert len(noise) == 5 * size
    if period:
        assert torch.equal(noise[2 * period :], noise[: -2 * period])
    assert float(noise.diff().abs().max()) < 0.5 * 2 * math.pi * 50 / (period or 6000) * 1.6  # no jump


def test_recorded_noise_shorter_than_a_revolution_is_refused(tmp_path):
    soundfile.write(tmp_path / "noise.wav", np.ones(100), 8000)
    with refused_as("unusable_recording", "noise_source"):
        records.read_surface_noise(tmp_path / "noise.wav", 20000, 8000, rng(), 6000)


@pytest.mark.parametrize(("per_minute", "level"), [(160.0, -18.0), (800.0, -26.0)])
def test_repeating_clicks_are_found_at_lower_levels(per_minute, level, music):
    """Weak clicks once per revolution, at a speed 1 % below the nominal one."""
    revolution = 60 / records.RPM["78"]
    observed, places = clicked(
        torch.cat([music, music.flip(0)]), per_minute, level, period=round(1.01 * revolution * RATE)
    )
    alone = scores(places, detect_clicks(observed, RATE))
    repeating = scores(places, detect_clicks(observed, RATE, revolution=revolution))
    assert repeating[0] > alone[0] + 0.1
    assert repeating[1] > 0.85


def test_the_period_of_a_record_is_found():
    heights = torch.zeros(10 * 8000)
    heights[torch.randint(6100, (20,), generator=rng()) + 6100 * torch.arange(13)[:, None]] = 9.0
    assert repetition_period(heights.numpy(), 8000, 6135 / 8000) == pytest.approx(6100, abs=2)
    assert repetition_period(heights.numpy(), 8000, 6300 / 8000) is None
    assert repetition_period(heights[:6000].numpy(), 8000, 6135 / 8000) is None


def test_a_problem_records_the_clicks(music):
    config = ClickConfig(clicks=2000, crackle=40, hiss=40, rumble=30)
    problem = make_problem("declick", music, None, RATE, config, rng())
    error = problem.observed - music
    assert problem.facts["snr_db"] == pytest.approx(snr(music, problem.observed), abs=0.01)
    assert problem.facts["recall"] > 0.8
    assert problem.facts["clicks_found"] == len(problem.gaps)
    assert float(error.abs()[~problem.mask].mean()) > 10 * float(error.abs()[problem.mask].mean())
    estimate = problem.estimate(torch.zeros_like(music))
    assert torch.equal(estimate[problem.mask], problem.observed[problem.mask])
    assert not estimate[~problem.mask].any()


@pytest.mark.parametrize("part", ["crackle", "hiss", "rumble"])
def test_parts_have_their_snr(part, music):
    sound = music[: RATE // 2]
    problem = make_problem("declick", sound, None, RATE, ClickConfig(clicks=0, **{part: 23.0}), rng())
    assert snr(sound, problem.observed) == pytest.approx(23, abs=0.01)
    problem = make_problem("declick", sound, None, RATE, ClickConfig(snr=7.0, **{part: 23.0}), rng())
    assert snr(sound, problem.observed) == pytest.approx(7, abs=0.01)


def test_recorded_noise_has_its_gain(tmp_path, music):
    soundfile.write(tmp_path / "noise.wav", 0.1 * np.ones(5 * RATE), RATE, "FLOAT")
    config = ClickConfig(noise_source=tmp_path / "noise.wav", noise_gain=0.5)
    problem = make_problem("declick", music, None, RATE, config, rng())
    torch.testing.assert_close(problem.observed, music + 0.05)
    assert problem.facts["noise"] == str(tmp_path / "noise.wav")
    assert "recall" not in problem.facts


def test_the_same_seed_gives_the_same_noise(music):
    config = ClickConfig(crackle=30, hiss=30, rumble=30, rpm="45")
    sound = music[: RATE // 2]
    one, other, third = (make_problem("declick", sound, None, RATE, config, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.observed, other.observed)
    assert not torch.equal(one.observed, third.observed)


def test_bad_input_is_refused(music, tmp_path):
    with refused_as("invalid_setting", "clicks"):
        ClickConfig(clicks=0)
    with refused_as("not_found", "noise_source"):
        ClickConfig(noise_source=tmp_path / "missing.wav")
    with refused_as("invalid_setting", "rpm"):
        ClickConfig(rpm="16")
    with refused_as("unusable_recording"):
        make_problem("declick", torch.zeros(RATE), None, RATE, ClickConfig(), rng())
    with refused_as("invalid_setting", "highpass"):
        Config.of("declick", highpass=20)


def test_settings_without_effect_do_not_name_a_run(tmp_path):
    soundfile.write(tmp_path / "noise.wav", np.ones(100), RATE)
    recorded = [ClickConfig(noise_source=tmp_path / "noise.wav", clicks=clicks).identity() for clicks in (1, 2)]
    assert recorded[0] == recorded[1]
    assert ClickConfig(clicks=1).identity() != ClickConfig(clicks=2).identity()
    assert ClickConfig(clicks=1).restore_identity(False) == ClickConfig(clicks=2).restore_identity(False)
    assert ClickConfig(rpm="78").restore_identity(False) != ClickConfig().restore_identity(False)


def test_a_recording_is_restored_by_the_command(run_task, tmp_path, music):
    """Clicks in one channel of two, in overlapping blocks."""
    observed, _ = clicked(music, 600.0)
    recording = torch.stack([observed, music], dim=1).numpy()
    soundfile.write(tmp_path / "record.wav", recording, RATE, "FLOAT")
    flags = ("--block", 2, "--overlap", 0.25, "--json", "--workers", 1, "-o", tmp_path / "out.wav")
    process = run_task("declick", tmp_path / "record.wav", "--restore", *flags, tiny=False)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["done"] == 1
    restored, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert rate == RATE
    assert np.array_equal(restored[:, 1], recording[:, 1])
    assert np.mean(restored[:, 0] == recording[:, 0]) > 0.98
    gain = [snr(music, torch.from_numpy(x[:, 0].copy())) for x in (recording, restored)]
    assert gain[1] > gain[0] + 10


def test_strength_blends_the_fill_with_the_recording(music):
    observed, _ = clicked(music[:RATE])
    full, half = (dawp.restore(observed, RATE, task="declick", strength=strength) for strength in (1.0, 0.5))
    torch.testing.assert_close(half, (observed + full) / 2, rtol=0, atol=1e-6)
    assert torch.equal(half == observed, full == observed)


def test_the_network_is_fitted_outside_the_clicks(music):
    observed, _ = clicked(music[:8000])
    restored = dawp.restore(observed, RATE, task="declick", method="deep_prior", epochs=3, stop="epochs")
    found = detect_clicks(observed, RATE)
    assert torch.equal(restored[~found], observed[~found])
    assert not torch.equal(restored[found], observed[found])


@pytest.mark.parametrize("seed", range(8))
def test_clicks_fall_in_a_clip_that_is_shorter_than_a_revolution(seed):
    rng = torch.Generator().manual_seed(seed)
    clicks = records.draw_clicks(RATE // 2, RATE, 5, 0.001, rng, period=2 * RATE)
    assert clicks.places.any()
    assert torch.isfinite(records.draw_crackle(100, RATE, rng, period=2 * RATE)).all()
