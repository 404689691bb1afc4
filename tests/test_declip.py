"""Tests of clipping: its operator, its detection, the methods that undo it and the task."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch
from conftest import refused_as

import dawp
from dawp.config import Config
from dawp.dsp import declipping, gaps
from dawp.dsp.clipping import clip_to_sdr, clipped_samples, clipping_levels
from dawp.operators.clipping import Clipping
from dawp.tasks.base import make_problem
from dawp.tasks.declip import ClippingConfig

RATE = 16000
METHODS = {name: getattr(declipping, name) for name in ("sparse_mean", "social_sparsity", "a_spade")}


def tones(seconds=1.0, rate=RATE, frequencies=(220.0, 331.0, 497.0)):
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    sound = sum(torch.sin(2 * math.pi * f * time + f) / (k + 1) for k, f in enumerate(frequencies))
    return (0.8 * sound / sound.abs().max()).float()


def clipped(sound, level):
    return sound.clamp(-level, level), Clipping(sound > level, sound < -level)


def sdr(clean, estimate):
    return 10 * math.log10(float(clean.double().square().sum() / (estimate - clean).double().square().sum()))


@pytest.fixture
def few_iterations(monkeypatch):
    """Use a tenth of the iterations, for properties that hold for any number of them."""
    monkeypatch.setattr(declipping, "THRESHOLDS", 4)
    monkeypatch.setattr(declipping, "ROUNDS", 10)
    monkeypatch.setattr(declipping, "SPADE_ITERATIONS", 50)


@pytest.mark.parametrize("better", [0, 1])
def test_estimates_are_weighted_by_the_errors_of_their_methods_at_known_samples(better, monkeypatch):
    sound = tones()
    observed, operator = clipped(sound, 0.4)

    def estimates(observed_again, operator_again, rate):
        truth = sound if observed_again is observed else observed
        shares = torch.tensor([0.4, 0.4])
        shares[better] = 0.9
        return observed_again + shares[:, None] * (truth - observed_again)

    monkeypatch.setattr(declipping, "_sparse_estimates", estimates)
    monkeypatch.setattr(gaps, "ar_frames", lambda observed, *args: observed)
    share = ((declipping.sparse_mean(observed, operator, RATE) - observed) / (sound - observed))[operator.clipped]
    weight = 1 / (1 + (0.1 / 0.6) ** 4)  # squared errors, squared
    assert share.sub(weight * 0.9 + (1 - weight) * 0.4).abs().max() < 0.01


def test_an_estimate_far_from_the_others_has_little_weight(monkeypatch):
    sound = tones()
    observed, operator = clipped(sound, 0.4)
    excess = sound - observed
    estimates = observed + torch.tensor([0.9, 1.0, 1.1, 4.0])[:, None] * excess
    monkeypatch.setattr(declipping, "_sparse_estimates", lambda *args: estimates)
    weights = declipping._weights(estimates, observed, operator, RATE)
    assert weights[3] < min(weights[:3]) / 2
    assert float(weights.sum()) == pytest.approx(1)


@pytest.mark.parametrize("gain", [0.8, 1.25])
def test_autoregression_replaces_the_mean_where_its_peaks_are_larger(gain, monkeypatch):
    sound = tones()
    observed, operator = clipped(sound, 0.4)
    late = torch.arange(len(sound)) > len(sound) // 2
    predicted = torch.where(late, sound, observed)
    mean = observed + (sound - observed) / gain
    monkeypatch.setattr(declipping, "_sparse_estimates", lambda *args: mean[None])
    monkeypatch.setattr(gaps, "ar_frames", lambda *args: predicted)
    share = ((declipping.sparse_mean(observed, operator, RATE) - observed) / (sound - observed))[operator.clipped]
    quarter = len(share) // 4
    assert share[:quarter].sub(1 / gain).abs().max() < 0.01
    assert share[-quarter:].sub(1 if gain > 1 else 1 / gain).abs().max() < 0.01


def test_the_distance_is_zero_beyond_the_level():
    operator = Clipping(torch.tensor([True, False, False]), torch.tensor([False, True, False]))
    observed = torch.tensor([0.5, -0.5, 0.1])
    criterion = torch.nn.functional.mse_loss
    for prediction, expected in (
        ([0.9, -0.7, 0.1], 0.0),
        ([0.4, -0.7, 0.1], 0.01 / 3),
        ([0.9, -0.4, 0.1], 0.01 / 3),
        ([0.9, -0.7, 0.3], 0.04 / 3),
    ):
        assert float(operator.distance(torch.tensor(prediction), observed, criterion)) == pytest.approx(expected)
    prediction = torch.tensor([0.4, -0.7, 0.3], requires_grad=True)
    operator.distance(prediction, observed, criterion).backward()
    assert prediction.grad == pytest.approx(torch.tensor([-0.2 / 3, 0.0, 0.4 / 3]))


def test_the_projection_is_the_nearest_consistent_signal():
    operator = Clipping(torch.tensor([True, True, False, False]), torch.tensor([False, False, True, False]))
    observed = torch.tensor([0.5, 0.5, -0.5, 0.1])
    projected = operator.project(torch.tensor([0.2, 0.7, -0.1, 0.9]), observed)
    assert torch.equal(projected, torch.tensor([0.5, 0.7, -0.5, 0.1]))
    assert torch.equal(operator.project(projected, observed), projected)


@pytest.mark.parametrize("wanted", [1.0, 7.0, 20.0])
def test_a_clip_is_clipped_to_an_sdr(wanted, speech):
    observed = speech.clamp(-(level := clip_to_sdr(speech, wanted)), level)
    assert sdr(speech, observed) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("gain", [1.0, 0.13])
@pytest.mark.parametrize("bits", [16, 24, None])
def test_the_level_is_found(bits, gain, speech):
    level = 0.4 * float(speech.abs().max())
    observed = speech.clamp(-level, 0.8 * level) * gain
    if bits:
        observed = (observed * 2 ** (bits - 1)).round() / 2 ** (bits - 1)
    above, below = clipping_levels(observed)
    assert above == pytest.approx(0.8 * level * gain, abs=2**-15)
    assert below == pytest.approx(-level * gain, abs=2**-15)
    found_above, found_below = clipped_samples(observed, (above, below))
    step = 1.5 / 2**15 if bits == 16 else 1e-6
    assert torch.equal(found_above, observed >= observed.max() - step)
    assert torch.equal(found_below, observed <= observed.min() + step)


def test_a_signal_clipped_on_one_side_is_found(speech):
    level = 0.3 * float(speech.max())
    above, below = clipping_levels(speech.clamp(max=level))
    assert above == pytest.approx(level)
    assert below is None


@pytest.mark.parametrize("bits", [16, None])
def test_signals_that_are_not_clipped(bits, speech):
    time = torch.arange(RATE) / RATE
    low_tone = 0.1 * torch.sin(2 * math.pi * 40 * time)  # stays within a step of its peak for several samples
    noise = torch.randn(RATE, generator=torch.Generator().manual_seed(0)) / 10
    impulse = torch.zeros(RATE)
    impulse[[1000, 5000, 9000]] = 0.9
    for sound in (speech, low_tone, 1e-3 * low_tone, noise, impulse, torch.zeros(RATE), tones()):
        rounded = (sound * 2**15).round() / 2**15 if bits else sound
        assert clipping_levels(rounded) == (None, None)


@pytest.mark.parametrize(
    ("step", "below_level", "expected"),
    [
        (2**-15, [0, 1, 2], [True, True, False]),  # 16 bits
        (2**-23, [0, 1, 2], [True, True, False]),  # 24 bits
        (2**-17, [0, 1, 2], [True, False, False]),  # between the two: the steps of 24 bits apply
        (1e-7 / 3, [0, 8, 13], [True, True, False]),  # float: 1e-6 of the peak, which is 1/3
    ],
)
def test_clipped_samples_lie_within_a_step_of_the_level(step, below_level, expected):
    level = step * round(1 / 3 / step)
    samples = level - step * torch.tensor(below_level, dtype=torch.float64)
    filler = torch.tensor([step, 0.0], dtype=torch.float64)
    above, below = clipped_samples(torch.cat([samples, -samples, filler]), (level, -level))
    assert above.tolist() == [*expected, False, False, False, False, False]
    assert below.tolist() == [False, False, False, *expected, False, False]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("runs", "length", "fall", "is_clipped"),
    [
        (3, 2, 100, True),
        (2, 2, 100, False),  # too few runs
        (3, 1, 100, False),  # too short
        (3, 3, 45, True),  # the fall must exceed 20 tolerances: 30 steps
        (3, 3, 22, False),
    ],
)
def test_clipping_requires_three_runs_with_steep_edges(sign, runs, length, fall, is_clipped):
    """Flat tops of ``length`` samples; at this distance from them, the signal is ``fall`` steps lower."""
    shoulder = [16384 - fall] * length
    samples = [0, *([*shoulder, *([16384] * length), *shoulder] * runs), 0]
    waveform = sign * torch.tensor(samples) / 2**15
    levels = clipping_levels(waveform)[::sign]
    assert levels == ((sign * 0.5 if is_clipped else None), None)


def test_runs_that_touch_the_ends_of_the_clip_do_not_count():
    flat, edge = [0.5] * 4, [0.0] * 4
    assert clipping_levels(torch.tensor([*flat, *edge, *flat, *edge, *flat])) == (None, None)
    assert clipping_levels(torch.tensor([*edge, *([*flat, *edge] * 3)])) == (0.5, None)


def test_the_level_of_an_sdr_is_computed_in_double_precision(speech):
    assert clip_to_sdr(speech, 20.0) == clip_to_sdr(speech.double(), 20.0)


@pytest.mark.parametrize("method", METHODS)
def test_clipped_tones_are_restored(method):
    sound = tones(0.5)
    observed, operator = clipped(sound, 0.4)
    estimate = METHODS[method](observed, operator, RATE)
    assert torch.equal(estimate[~operator.clipped], observed[~operator.clipped])
    assert (estimate[operator.above] >= 0.4).all()
    assert (estimate[operator.below] <= -0.4).all()
    assert sdr(sound, estimate) > sdr(sound, observed) + 15


@pytest.mark.parametrize("method", METHODS)
def test_a_change_of_level_or_sign_changes_nothing_else(method, speech, few_iterations):
    sound = speech[: RATE // 2]
    observed, operator = clipped(sound, 0.3 * float(sound.abs().max()))
    estimate = METHODS[method](observed, operator, RATE)
    halved = METHODS[method](0.5 * observed, operator, RATE)
    torch.testing.assert_close(halved, 0.5 * estimate, rtol=1e-3, atol=1e-4 * float(sound.abs().max()))
    turned = METHODS[method](-observed, Clipping(operator.below, operator.above), RATE)
    torch.testing.assert_close(-turned, estimate, rtol=1e-3, atol=1e-4 * float(sound.abs().max()))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("length", [1, 63, 3000])
def test_hostile_signals_stay_finite(method, length, few_iterations):
    generator = torch.Generator().manual_seed(0)
    for sound in (torch.ones(length), torch.randn(length, generator=generator).sign(), 1e-30 * torch.ones(length)):
        above = torch.rand(length, generator=generator) < 0.9
        above &= sound > 0
        estimate = METHODS[method](sound, Clipping(above, torch.zeros_like(above)), RATE)
        assert estimate.shape == sound.shape
        assert estimate.isfinite().all()
        assert torch.equal(estimate[~above], sound[~above])


def test_the_frame_is_tight():
    sound = torch.randn(5000, generator=torch.Generator().manual_seed(1))
    frame = declipping._Frame.of(len(sound), RATE, 0.05, 4)
    coefficients = frame.analyse(sound)
    torch.testing.assert_close(frame.synthesise(coefficients), sound, rtol=1e-4, atol=1e-5)
    weights = torch.full((coefficients.shape[1],), 2.0)
    weights[[0, -1]] = 1.0  # the other half of the spectrum
    energy = (weights * coefficients.abs().square()).sum()
    assert float(energy) == pytest.approx(float(sound.square().sum()), rel=1e-4)


def test_a_problem_records_the_clipping(speech):
    config = Config.of("declip", clip_sdr=5)
    problem = make_problem("declip", speech, None, RATE, config.corruption, torch.Generator())
    assert problem.facts["sdr_db"] == pytest.approx(5, abs=0.01)
    assert problem.facts["clip_level"] == pytest.approx(float(problem.observed.abs().max()))
    assert problem.facts["clipped_percent"] == pytest.approx(100 * float((problem.observed != speech).float().mean()))
    assert torch.equal(problem.estimate(2 * speech)[~problem.operator.clipped], speech[~problem.operator.clipped])


def test_bad_clips_are_refused(speech):
    peak = float(speech.abs().max())
    square = torch.where(torch.arange(RATE) % 100 < 50, 0.5, -0.5)
    with refused_as("invalid_setting", "clip_level"):
        make_problem("declip", speech, None, RATE, ClippingConfig(clip_level=2 * peak), torch.Generator())
    with refused_as("unusable_recording"):
        make_problem("declip", None, square, RATE, ClippingConfig(clip_level=0.5), torch.Generator())
    with refused_as("unusable_recording"):
        make_problem("declip", torch.zeros(RATE), None, RATE, ClippingConfig(), torch.Generator())


@pytest.mark.slow
def test_a_recording_is_restored_by_the_command(run_task, tmp_path):
    """Clip one channel of two, in one of two blocks."""
    sound = torch.stack([tones(2.0), 0.7 * tones(2.0, frequencies=(250.0, 380.0))], dim=1).numpy()
    sound[:RATE] *= 0.4
    recording = sound.copy()
    recording[:, 0] = np.clip(recording[:, 0], -0.5, 0.5)
    soundfile.write(tmp_path / "clipped.wav", recording, RATE, "FLOAT")
    flags = ("--block", 1, "--overlap", 0.25, "--json", "--workers", 1, "-o", tmp_path / "out.wav")
    process = run_task("declip", tmp_path / "clipped.wav", "--restore", *flags, tiny=False)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["done"] == 1
    restored, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert rate == RATE
    assert restored.shape == recording.shape
    assert np.array_equal(restored[:, 1], recording[:, 1])
    kept = np.abs(recording[:, 0]) < 0.5
    assert np.array_equal(restored[kept, 0], recording[kept, 0])
    gain = [sdr(torch.from_numpy(sound[:, 0]), torch.from_numpy(x[:, 0])) for x in (recording, restored)]
    assert gain[1] > gain[0] + 10


def test_an_unclipped_recording_is_copied(run_task, tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.5 * tones().numpy(), RATE, "PCM_16")
    process = run_task("declip", tmp_path / "a.wav", "--restore", "--workers", 1, "-o", tmp_path / "b.wav", tiny=False)
    assert process.returncode == 0
    assert np.array_equal(soundfile.read(tmp_path / "a.wav")[0], soundfile.read(tmp_path / "b.wav")[0])


def test_the_network_is_fitted_through_the_clipping(speech):
    observed = speech[:4000].clamp(-0.05, 0.05)
    restored = dawp.restore(observed, RATE, task="declip", method="deep_prior", epochs=3, stop="epochs")
    reliable = observed.abs() < 0.05
    assert torch.equal(restored[reliable], observed[reliable])
    assert (restored[~reliable].abs() >= 0.05).all()


def test_a_softly_limited_signal_is_restored_from_the_given_knee():
    clean, knee = tones(0.5), 0.3
    beyond = (clean.abs() - knee).clamp(min=0)
    observed = clean.sign() * (clean.abs().clamp(max=knee) + 0.1 * torch.tanh(beyond / 0.1))
    assert torch.equal(dawp.restore(observed, RATE, "declip"), observed)
    restored = dawp.restore(observed, RATE, "declip", clip_level=knee)
    assert sdr(clean, restored) > sdr(clean, observed) + 6
    assert torch.equal(restored[clean.abs() < knee - 1e-5], observed[clean.abs() < knee - 1e-5])
