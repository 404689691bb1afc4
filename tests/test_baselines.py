from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SAMPLES, refused_as

from dawp.io.audio import read
from dawp.methods import base, baselines
from dawp.methods.classical import gaps
from dawp.metrics.functions import gap_windows, over_gaps, si_snr
from dawp.operators.mask import Mask
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.tasks.denoise import NoiseConfig, add_noise
from dawp.tasks.dereverb import ReverbConfig, add_reverb
from dawp.tasks.inpaint import GapConfig, cut_gaps

RATE = 16000
CONFIGS = {
    "denoise": (add_noise, NoiseConfig()),
    "dereverb": (add_reverb, ReverbConfig(rt60=0.5)),
    "inpaint": (cut_gaps, GapConfig(gap_ms=2.0, n_gaps=4)),
}


def make_problem(task, clean):
    corrupt, config = CONFIGS[task]
    return corrupt(clean, RATE, config, seeded(0, "corruption"))


def with_gap(clean, start, stop):
    mask = torch.ones(len(clean), dtype=torch.bool)
    mask[start:stop] = False
    return Problem(torch.where(mask, clean, 0), clean, RATE, Mask(mask))


def gap_si_snr(estimate, problem):
    return over_gaps(si_snr, estimate.double(), problem.clean.double(), gap_windows(problem.gaps)).item()


@pytest.mark.parametrize("task", CONFIGS)
def test_every_baseline_keeps_the_length_and_improves_the_clip(task):
    problem = make_problem(task, read(SAMPLES / "speech.wav", RATE)[:32001])
    before = si_snr(problem.observed, problem.clean)
    estimates = baselines.run(task, problem)
    assert list(estimates) == [name for name, method in base.METHODS[task].items() if method.is_baseline]
    for name, estimate in estimates.items():
        assert estimate.shape == problem.observed.shape
        assert estimate.dtype == torch.float32
        assert si_snr(estimate, problem.clean) > before + 0.3, name


@pytest.mark.parametrize("task", CONFIGS)
def test_baselines_do_not_depend_on_the_clean_clip(task, speech):
    problem = make_problem(task, speech)
    first = baselines.run(task, problem)
    second = baselines.run(task, replace(problem, clean=torch.randn(len(speech))))
    for name, estimate in first.items():
        assert torch.equal(estimate, second[name])


@pytest.mark.parametrize("task", CONFIGS)
def test_the_shortest_clip(task):
    clip = torch.sin(torch.arange(64) / 3)
    problem = with_gap(clip, 30, 34) if task == "inpaint" else Problem(clip + 0.1, clip, RATE)
    for estimate in baselines.run(task, problem).values():
        assert estimate.shape == clip.shape
        assert estimate.isfinite().all()


def test_missing_packages_are_named_in_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused_as("missing_package", r"noisereduce .*'\.\[baselines\]'"):
        baselines.check_installed("denoise")
    baselines.check_installed("inpaint")  # requires no package


def test_linear_interpolation_of_a_gap():
    ramp = torch.linspace(0.5, 1, 200)
    problem = with_gap(ramp, 50, 60)
    torch.testing.assert_close(gaps.linear(problem), ramp)
    at_the_end = with_gap(ramp, 190, 200)
    assert (gaps.linear(at_the_end)[190:] == ramp[189]).all()


def test_two_tones_are_restored_in_a_gap():
    """An autoregressive model describes them exactly."""
    time = torch.arange(4000, dtype=torch.float64)
    tones = (torch.sin(time / 5) + 0.5 * torch.sin(time / 2.3)).float()
    problem = with_gap(tones, 2000, 2080)
    assert gap_si_snr(gaps.janssen(problem), problem) > 40
    assert gap_si_snr(gaps.linear(problem), problem) < 5


def test_the_banded_equations_minimise_the_residual():
    """Compare with a dense least-squares solution for the model of the last iteration, with two adjacent gaps."""
    rng = np.random.default_rng(0)
    sound = np.convolve(rng.standard_normal(600), np.hanning(9), "same")
    missing = np.zeros(600, dtype=bool)
    missing[250:262] = missing[268:275] = True
    order = 16
    window = np.hanning(602)[1:-1]
    filled = gaps._fill(sound, missing, window, order)
    previous = filled  # converged: the model of the result gives the same result
    spectrum = np.correlate(previous * window, previous * window, "full")[599 : 599 + order + 1]
    matrix = np.array([[spectrum[abs(i - j)] for j in range(order)] for i in range(order)])
    matrix += 1e-9 * spectrum[0] * np.eye(order)
    model = np.concatenate([[1], -np.linalg.solve(matrix, spectrum[1:])])
    residual = np.array([[model[n - k] if 0 <= n - k <= order else 0 for k in range(600)] for n in range(600 + order)])
    solution, *_ = np.linalg.lstsq(residual[:, missing], -residual[:, ~missing] @ sound[~missing], rcond=None)
    np.testing.assert_allclose(filled[missing], solution, atol=0.02 * sound.std())
    np.testing.assert_array_equal(filled[~missing], sound[~missing])


def test_janssen_is_better_than_linear_interpolation_on_speech():
    speech = read(SAMPLES / "speech.wav", RATE)
    for gap_ms in (1.0, 2.0, 5.0):
        problem = cut_gaps(speech, RATE, GapConfig(gap_ms=gap_ms, n_gaps=16), seeded(0, "corruption"))
        janssen, linear = (gap_si_snr(method(problem), problem) for method in (gaps.janssen, gaps.linear))
        assert janssen > linear + 3


def test_janssen_near_the_ends():
    """The model describes the sound at the gap even if one side is short."""
    speech = read(SAMPLES / "speech.wav", RATE)[4000:20000]
    worst = []
    for start in (20, 50, 100, len(speech) - 60):
        problem = with_gap(speech, start, start + 16)
        worst.append(gap_si_snr(gaps.janssen(problem), problem) - gap_si_snr(gaps.linear(problem), problem))
    assert min(worst) > -1
    assert sum(worst) / len(worst) > 2


@pytest.mark.parametrize("rate", [8000, 44100, 192000])
@pytest.mark.parametrize("length", [64, 100, 700, 2000])
def test_denoise_baselines_at_other_rates_and_lengths(rate, length, caplog):
    clip = torch.sin(torch.arange(length) / 3)
    estimates = baselines.run("denoise", Problem(clip + 0.1 * torch.randn(length), clip, rate))
    assert all(estimate.isfinite().all() for estimate in estimates.values())
    assert not caplog.records


def test_baselines_are_finite_with_digital_silence(speech):
    broken = speech.clone()
    broken[4000:9000] = 0
    estimates = baselines.run("denoise", Problem(broken, speech, RATE))
    assert all(estimate.isfinite().all() for estimate in estimates.values())


def test_a_baseline_that_fails_is_nan_with_a_warning(speech, monkeypatch, caplog):
    def fail(problem):
        raise RuntimeError("no luck")

    def wrong(problem):
        return problem.observed / 0

    methods = {"a": fail, "b": wrong, "c": gaps.linear}
    broken = {name: base.Method(name, "inpaint", function) for name, function in methods.items()}
    monkeypatch.setitem(base.METHODS, "inpaint", broken)
    estimates = baselines.run("inpaint", with_gap(speech, 4000, 4020))
    assert [estimate.isnan().all().item() for estimate in estimates.values()] == [True, True, False]
    assert "baseline a cannot be computed, its values are NaN: no luck" in caplog.text
    assert len(caplog.records) == 2


def test_a_gap_in_silence_is_filled_with_silence():
    clip = torch.zeros(8000)
    clip[:100] = torch.sin(torch.arange(100) / 3)
    clip[5020] = 0.1
    problem = with_gap(clip, 5000, 5040)
    assert not gaps.janssen(problem)[4000:].any()
