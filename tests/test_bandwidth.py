"""Tests of the bandwidth: its filters, the detection of the cutoff, the methods that extend it and the task."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY, refused_as, write_sound
from scipy import signal

import dawp
from dawp.config import Config
from dawp.dsp.bandwidth import find_cutoff, replicate_band
from dawp.dsp.lowpass import convolve, crossover, low_pass
from dawp.io.audio import resample
from dawp.methods.base import METHODS
from dawp.metrics.functions import lsd
from dawp.operators.lowpass import LowPass
from dawp.restoration.blocks import Sound
from dawp.restoration.inspection import at_rate
from dawp.tasks.bandwidth import BandwidthConfig
from dawp.tasks.base import make_problem

RATE = 16000
FILTERS = ("fir", "chebyshev", "butterworth", "biquad")


def noise(seconds=2.0, rate=RATE, seed=0):
    return 0.1 * torch.randn(round(seconds * rate), generator=torch.Generator().manual_seed(seed))


def harmonics(seconds=2.0, rate=RATE, pitch=200.0, slope=-12.0):
    """Return a tone with all partials up to half the rate, whose level falls by ``slope`` dB per octave."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    count = math.ceil(rate / 2 / pitch) - 1
    sound = sum(k ** (slope / 6.02) * torch.sin(2 * math.pi * pitch * k * time + k * k) for k in range(1, count + 1))
    return (0.3 * sound / sound.abs().max()).float()


def levels(waveform, rate, low, high, width=100.0):
    """Return the power in dB of each band of ``width`` Hz between two frequencies."""
    frequencies, power = signal.welch(waveform.double().numpy(), rate, nperseg=2048)
    edges = np.arange(low, high, width)
    return np.array([10 * np.log10(power[(frequencies >= e) & (frequencies < e + width)].sum()) for e in edges])


def problem_of(clean, sample_rate=RATE, **settings):
    return make_problem("bandwidth", clean, None, sample_rate, BandwidthConfig(**settings), torch.Generator())


# The operator


@pytest.mark.parametrize(("kind", "cutoff"), [*((kind, 3000.0) for kind in FILTERS), ("butterworth", 150.0)])
def test_a_filter_agrees_with_scipy(kind, cutoff):
    x = noise(0.5).double()
    sections = {
        "chebyshev": signal.cheby1(8, 0.05, cutoff, fs=RATE, output="sos"),
        "butterworth": signal.butter(8, cutoff, fs=RATE, output="sos"),
        "biquad": signal.butter(2, cutoff, fs=RATE, output="sos"),
    }
    if kind == "fir":
        taps, beta = signal.kaiserord(80, 0.05 * cutoff / (RATE / 2))
        expected = np.convolve(x.numpy(), signal.firwin(taps | 1, cutoff, window=("kaiser", beta), fs=RATE), "same")
    else:
        padded = np.pad(x.numpy(), 8000)
        forward = signal.sosfilt(sections[kind], padded)
        expected = signal.sosfilt(sections[kind], forward[::-1])[::-1][8000:-8000]
    operator = LowPass(kind, cutoff, RATE)
    assert abs(operator(x).numpy() - expected).max() < 1e-6
    assert abs(operator(x.float()).numpy() - expected).max() < 1e-6


def test_a_biquad_is_that_of_the_audio_eq_cookbook():
    w0 = 2 * math.pi * 3000 / RATE
    alpha = math.sin(w0) / math.sqrt(2)
    b, a = np.array([1, 2, 1]) * (1 - math.cos(w0)) / 2, [1 + alpha, -2 * math.cos(w0), 1 - alpha]
    _, expected = signal.freqz(b, a, 512)
    assert np.allclose(signal.freqz(low_pass("biquad", 3000, RATE).numpy(), 1, 512)[1].__abs__(), abs(expected) ** 2)


def test_decimation_and_interpolation_agree_with_scipy():
    x = noise(0.25).double()
    filtered = convolve(x, low_pass("fir", 3500.0, RATE)).numpy()
    lowest, width = 0.98 * 8000, 64  # the windowed sinc of torchaudio
    time = np.arange(-200, 201) / RATE * lowest

    def kernel(scale):
        inside = np.abs(time) <= width
        return np.where(inside, np.cos(time * np.pi / width / 2) ** 2 * np.sinc(time), 0) * lowest / scale

    decimated = signal.upfirdn(kernel(RATE), filtered, down=2)[100:]
    expected = signal.upfirdn(kernel(8000), decimated, up=2)[200:]
    found = LowPass("fir", 3500.0, RATE, 8000)(x).numpy()
    assert abs(found[400:-400] - expected[400 : len(found) - 400]).max() < 1e-6


@pytest.mark.parametrize("rate", [None, 5000])
def test_the_operator_is_linear_and_differentiable(rate):
    operator = LowPass("fir", 2000.0, RATE, rate)
    x = noise(0.05).double().requires_grad_()
    y = noise(0.05, seed=1).double()
    torch.testing.assert_close(operator(x + 2 * y), operator(x) + 2 * operator(y))
    weight = noise(0.05, seed=2).double()
    (operator(x) * weight).sum().backward()
    step = noise(0.05, seed=3).double()
    assert float((x.grad * step).sum()) == pytest.approx(float((operator(step) * weight).sum()), rel=1e-9)


@pytest.mark.parametrize("kind", FILTERS)
def test_a_filter_has_no_delay(kind):
    response = low_pass(kind, 1000.0, RATE)
    assert len(response) % 2 == 1
    torch.testing.assert_close(response, response.flip(0), rtol=0, atol=1e-12)
    assert int(response.argmax()) == len(response) // 2


@pytest.mark.parametrize("cutoff", [500.0, 4000.0, 7990.0])
def test_the_projection_keeps_the_band_of_the_observation(cutoff):
    observed, estimate = noise(), noise(seed=1)
    kept = LowPass("fir", cutoff, RATE).project(estimate, observed)
    last = cutoff - 50
    assert abs(levels(kept, RATE, 0, last, 50) - levels(observed, RATE, 0, last, 50)).max() < 0.1
    if cutoff == 4000:
        assert abs(levels(kept, RATE, 4300, 7900) - levels(estimate, RATE, 4300, 7900)).max() < 0.1


def test_the_crossover_passes_all_up_to_the_cutoff():
    frequencies, gain = signal.freqz(crossover(4000.0, RATE).numpy(), 1, 4096, fs=RATE)
    assert abs(20 * np.log10(abs(gain[frequencies <= 4000]))).max() < 0.01
    assert abs(gain[frequencies >= 4200]).max() < 1e-3


# The detection of the cutoff


@pytest.mark.parametrize("bits", [16, None])
@pytest.mark.parametrize(("rate", "cutoff"), [(16000, 2000.0), (16000, 4000.0), (44100, 8000.0), (48000, 16000.0)])
@pytest.mark.parametrize("sound", [noise, harmonics])
def test_the_cutoff_of_a_low_passed_sound_is_found(sound, rate, cutoff, bits):
    low = convolve(sound(rate=rate), low_pass("fir", cutoff, rate))
    if bits:
        low = (low * 2**15).round() / 2**15
    assert find_cutoff([low[None]], rate) == pytest.approx(cutoff, rel=0.05)
    assert find_cutoff([1e-3 * low[None, :rate], 1e-3 * low[None, rate:]], rate) == pytest.approx(cutoff, rel=0.05)


def test_the_cutoff_of_speech_is_found(speech):
    for cutoff in (2000.0, 3400.0, 5000.0):
        assert find_cutoff([convolve(speech, low_pass("fir", cutoff, RATE))[None]], RATE) == pytest.approx(
            cutoff, rel=0.05
        )
    assert find_cutoff([LowPass("fir", 4000.0, RATE, 8000)(speech)[None]], RATE) == pytest.approx(4000, rel=0.05)


@pytest.mark.parametrize("slope", [0.0, -12.0, -24.0])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_full_band_sound_has_no_cutoff(rate, slope):
    hiss = 1e-5 * noise(rate=rate)
    assert find_cutoff([(harmonics(rate=rate, slope=slope) + hiss)[None]], rate) is None
    assert find_cutoff([noise(rate=rate)[None]], rate) is None


def test_clips_without_a_cutoff(speech):
    assert find_cutoff([speech[None]], RATE) is None
    assert find_cutoff([torch.zeros(1, RATE)], RATE) is None
    assert find_cutoff([speech[None, :64]], RATE) is None
    assert find_cutoff([], RATE) is None
    impulse = torch.zeros(1, RATE)
    impulse[0, 5000] = 1
    assert find_cutoff([impulse], RATE) is None


def test_high_frequencies_in_a_part_of_a_recording_count(speech):
    low = convolve(speech, low_pass("fir", 3000.0, RATE))[None]
    assert find_cutoff([low, low, speech[None], low], RATE) is None
    assert find_cutoff([torch.cat([low, speech[None]])], RATE) is None  # in the other channel


# The methods


@pytest.mark.parametrize("method", [name for name, method in METHODS["bandwidth"].items() if method.is_baseline])
@pytest.mark.parametrize(("rate", "cutoff"), [(16000, 4000.0), (48000, 8000.0)])
def test_a_method_does_not_change_the_band_below_the_cutoff(method, rate, cutoff):
    for sound in (noise(rate=rate), harmonics(rate=rate)):
        problem = problem_of(sound, rate, cutoff=cutoff)
        estimate = problem.estimate(METHODS["bandwidth"][method].restore(problem))
        assert estimate.shape == sound.shape
        # The filter attenuates the last 2.5 % below the cutoff.
        found, expected = (levels(w, rate, 100, cutoff, 100) for w in (estimate, problem.observed))
        assert abs(found - expected).max() < 0.1


@pytest.mark.parametrize("sound", [noise, harmonics])
def test_replication_lowers_the_log_spectral_distance(sound):
    problem = problem_of(sound(rate=44100), 44100, cutoff=8000.0)
    estimate = METHODS["bandwidth"]["band_replication"].restore(problem)
    for above in (0.0, 8000.0):
        before, after = (float(lsd(w, problem.clean, 44100, above)) for w in (problem.observed, estimate))
        assert after < 0.75 * before


def test_replication_of_speech(speech):
    problem = problem_of(speech, cutoff=4000.0)
    estimate = METHODS["bandwidth"]["band_replication"].restore(problem)
    before, after = (float(lsd(w, speech, RATE, 4000.0)) for w in (problem.observed, estimate))
    assert after < 0.5 * before


def test_the_replicated_band_follows_the_level_in_time():
    sound = noise(rate=RATE)
    sound[RATE // 2 : RATE] *= 1e-2
    high = replicate_band(convolve(sound, low_pass("fir", 4000.0, RATE)), RATE, 4000.0)
    high = high - convolve(high, crossover(4000.0, RATE))
    loud, quiet = high[RATE + 2000 :].square().mean(), high[RATE // 2 + 2000 : RATE - 2000].square().mean()
    assert 10 * math.log10(float(loud / quiet)) == pytest.approx(40, abs=3)
    torch.testing.assert_close(replicate_band(3 * sound, RATE, 4000.0), 3 * replicate_band(sound, RATE, 4000.0))


@pytest.mark.parametrize("length", [64, 65, 1000])
@pytest.mark.parametrize("cutoff", [100.0, 4000.0, 7999.0])
def test_replication_of_short_and_silent_waveforms(length, cutoff):
    for waveform in (noise()[:length], torch.zeros(length), torch.ones(length), 1e-12 * noise()[:length]):
        high = replicate_band(waveform, RATE, cutoff)
        assert high.shape == waveform.shape
        assert high.isfinite().all()
        assert high.abs().max() <= 10 * waveform.abs().max()


# The task


@pytest.mark.parametrize("settings", [{"cutoff": 3000.0}, {"rate": 8000}, {"cutoff": 3000.0, "rate": 8000}, {}])
def test_a_clean_clip_is_filtered(settings, speech):
    problem = problem_of(speech[:9001], **settings)
    assert problem.facts["cutoff_hz"] == settings.get("cutoff", 4000.0)
    assert len(problem.observed) == 9001
    assert abs(levels(problem.observed, RATE, 500, 2500) - levels(speech[:9001], RATE, 500, 2500)).max() < 0.5
    assert levels(problem.observed, RATE, 5000, 7900).max() < levels(speech[:9001], RATE, 5000, 7900).max() - 30
    assert not torch.equal(problem.observed, problem_of(speech[:9001], **settings, filter="biquad").observed)


def test_bad_settings_are_refused(speech):
    for settings in ({"cutoff": 8000.0}, {"cutoff": 9000.0}):
        with refused_as("invalid_setting", "^cutoff must"):
            problem_of(speech, **settings)
        with refused_as("invalid_setting", "^cutoff must"):
            make_problem("bandwidth", None, speech, RATE, BandwidthConfig(**settings), torch.Generator())
    for rate in (16000, 44100):
        with refused_as("invalid_setting", "^rate must"):
            problem_of(speech, rate=rate)
    with refused_as("invalid_setting", "^cutoff must"):
        BandwidthConfig(cutoff=5000.0, rate=8000)
    with refused_as("invalid_setting", "^target_rate needs"):
        Config.of("bandwidth", target_rate=44100)
    with refused_as("unusable_recording"):
        problem_of(torch.zeros(RATE))
    with refused_as("unusable_recording", "^cutoff must"):
        make_problem("bandwidth", None, speech, RATE, BandwidthConfig(), torch.Generator())


def test_the_network_is_fitted_through_the_filter(speech):
    clip = speech[4000:8000]
    settings = {name: value for name, value in TINY.items() if name != "workers"}
    config = Config.of("bandwidth", cutoff=3000.0, **settings)
    assert config.metrics.names == ("lsd_high", "lsd", "si_snr", "snr")
    observed = problem_of(clip, cutoff=3000.0).observed
    settings.pop("pesq_every")
    restored = dawp.restore(observed, RATE, "bandwidth", method="deep_prior", cutoff=3000.0, stop="epochs", **settings)
    assert restored.shape == clip.shape
    assert abs(levels(restored, RATE, 200, 2900) - levels(observed, RATE, 200, 2900)).max() < 0.1
    assert not torch.equal(restored, observed)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("rate", "target", "length"), [(8000, 44100, 8001), (16000, 16000, 5000), (11025, 48000, 64)])
def test_the_output_has_the_target_rate(rate, target, length, channels):
    sound = convolve(noise(2, rate), low_pass("fir", 3000.0, rate))[:length].repeat(channels, 1)
    restored = dawp.restore(sound, rate, "bandwidth", target_rate=target, cutoff=3000.0)
    assert restored.shape == (channels, round(length * target / rate))
    if target > rate and length > 1000:
        below = levels(restored[0], target, 200, 2900), levels(resample(sound[0], rate, target), target, 200, 2900)
        assert abs(below[0] - below[1]).max() < 0.1
        assert levels(restored[0], target, 5000, 6000).min() > levels(restored[0], target, 200, 2900).max() - 40


def test_a_recording_is_interpolated_block_by_block():
    samples = noise(1.0, 16000).repeat(2, 1)
    sound = Sound("x", 16000, torch.ones(2), 16000, lambda start, stop: samples[:, start:stop])
    whole = at_rate(sound, 44100)
    assert whole.frames == 44100
    expected = whole.read(0, 44100)
    for start, stop in ((0, 100), (1, 64), (10001, 30011), (44000, 44100), (43999, 44000)):
        torch.testing.assert_close(whole.read(start, stop), expected[:, start:stop], rtol=0, atol=1e-6)
    fine = signal.resample(samples[0].double().numpy(), 44100)
    band = [levels(torch.from_numpy(w), 44100, 100, 7000) for w in (fine, expected[0].double().numpy())]
    assert abs(band[0] - band[1]).max() < 0.1
    with refused_as("invalid_setting"):
        at_rate(sound, 44101)


def test_a_low_passed_recording_is_restored_by_the_command(run_task, tmp_path):
    low = convolve(harmonics(4.0) + 0.01 * noise(4.0), low_pass("fir", 3000.0, RATE))
    write_sound(tmp_path / "low.wav", low, subtype="PCM_16")
    flags = ("--restore", "--workers", 1, "--block", 2, "--json", "-o", tmp_path / "out.wav")
    process = run_task("bandwidth", tmp_path / "low.wav", *flags, tiny=False)
    assert process.returncode == 0, process.stderr
    restored, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert (rate, len(restored)) == (RATE, len(low))
    assert abs(levels(torch.from_numpy(restored), RATE, 200, 2900) - levels(low, RATE, 200, 2900)).max() < 0.1
    assert levels(torch.from_numpy(restored), RATE, 3500, 7000).min() > levels(low, RATE, 3500, 7000).max() + 10
    record = json.loads((tmp_path / "out.wav.json").read_text())
    assert record["settings"]["cutoff"] == pytest.approx(3000, rel=0.05)
    assert record["settings"]["method"] == "band_replication"


def test_a_file_gets_the_target_rate(run_task, tmp_path):
    write_sound(tmp_path / "a.wav", noise(1.0, 8000), 8000, subtype="PCM_16")
    flags = ("--restore", "--workers", 1, "--target_rate", 44100)
    process = run_task("bandwidth", tmp_path / "a.wav", *flags, "-o", tmp_path / "b.wav", tiny=False)
    assert process.returncode == 0, process.stderr
    restored, rate = soundfile.read(tmp_path / "b.wav", dtype="float32")
    assert (rate, len(restored)) == (44100, 44100)
    record = json.loads((tmp_path / "b.wav.json").read_text())
    assert (record["sample_rate"], record["samples"], record["settings"]["target_rate"]) == (44100, 44100, 44100)


def test_a_full_band_recording_is_copied(run_task, tmp_path):
    write_sound(tmp_path / "a.wav", noise(), subtype="PCM_16")
    for flags in ((), ("--target_rate", RATE)):
        place = tmp_path / f"b{len(flags)}.wav"
        process = run_task(
            "bandwidth", tmp_path / "a.wav", "--restore", "--workers", 1, "-o", place, *flags, tiny=False
        )
        assert process.returncode == 0, process.stderr
        assert place.read_bytes() == (tmp_path / "a.wav").read_bytes()
        assert json.loads((tmp_path / f"{place.name}.json").read_text())["unchanged"] is True
        assert "no cutoff" in process.stderr
    waveform = noise()
    assert torch.equal(dawp.restore(waveform, RATE, "bandwidth"), waveform)


@pytest.mark.parametrize("flags", [("--target_rate", 8000), ("--cutoff", 8000)])
def test_bad_flags_for_a_recording_are_refused(flags, run_task, tmp_path):
    write_sound(tmp_path / "a.wav")
    process = run_task(
        "bandwidth", tmp_path / "a.wav", "--restore", "--workers", 1, "-o", tmp_path / "b.wav", *flags, tiny=False
    )
    assert process.returncode == 2
    assert len([line for line in process.stderr.splitlines() if "error" in line]) == 1
    assert flags[0].removeprefix("--") in process.stderr
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.parametrize("rate", [1000, 1200, 1500, 1600, 2000])
def test_the_cutoff_is_searched_at_every_sample_rate(rate):
    noise = torch.randn(1, 4 * rate, generator=torch.Generator().manual_seed(0))
    assert find_cutoff([noise], rate) is None
