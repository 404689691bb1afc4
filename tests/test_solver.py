import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY

import dawp
from dawp.config import Config
from dawp.dsp.filters import high_pass
from dawp.dsp.nmf import reduce_noise
from dawp.dsp.noise import estimate_noise, track_noise
from dawp.dsp.spectral import analyse, mask
from dawp.methods.deep_prior.generators.demucs import Demucs
from dawp.methods.deep_prior.history import History
from dawp.methods.deep_prior.solver import restore_without_fit, solve
from dawp.metrics.functions import psnr, si_snr
from dawp.problem import Problem


def noisy(speech, seed=0):
    noise = torch.randn(len(speech), generator=torch.Generator().manual_seed(seed))
    return Problem(speech + 0.05 * noise, speech, 16000)


def solve_tiny(problem, **settings):
    return solve(problem, Config.of("denoise", **{**TINY, **settings}))


def test_a_fit_improves_the_clip(speech):
    """The main effect of the paper, at a small size."""
    result = dawp.denoise(speech, preset="fast", epochs=400, pesq_every=1000, device="cpu")
    assert result.best["si_snr"].value > result.input["si_snr"] + 1.5
    assert result.best["si_snr"].epoch < 400


def test_best_values_agree_with_their_waveforms_and_epochs(speech):
    result = solve_tiny(noisy(speech), epochs=20, lr=0.01)
    for metric, function in (("si_snr", si_snr), ("psnr", psnr)):
        best = result.best[metric]
        column = result.history.column(metric)
        assert best.value == max(column)
        assert best.epoch == 1 + column.index(max(column))
        assert function(best.waveform, speech).item() == pytest.approx(best.value, abs=1e-4)


def test_the_best_weights_reproduce_the_best_waveform(speech):
    result = solve_tiny(noisy(speech), epochs=20, lr=0.01)
    generator = Demucs(Config.of("denoise", **TINY).generator)
    generator.load_state_dict(result.generator["state_dict"])
    again = generator(result.generator["z"], len(speech))[0, 0]
    torch.testing.assert_close(again, result.best["si_snr"].waveform)


def test_the_input_is_measured(speech):
    problem = noisy(speech)
    result = solve_tiny(problem)
    assert result.input["si_snr"] == pytest.approx(si_snr(problem.observed, speech).item())
    assert 1 < result.input["pesq"] < 4.65


def test_repetitions_differ_and_are_reproducible(speech):
    config = Config.of("denoise", **TINY)
    first, second, again = (solve(noisy(speech), config, repetition) for repetition in (0, 1, 1))
    assert first.history.rows != second.history.rows
    assert second.history.rows == again.history.rows


def test_a_diverged_fit_keeps_the_best_so_far(speech):
    result = solve_tiny(noisy(speech), epochs=50, lr=1e30)
    assert "not a finite number" in result.error
    assert 1 <= len(result.history.rows) < 50
    assert result.best["psnr"].waveform.isfinite().all()
    assert result.facts()["error"] == result.error


def test_pesq_without_speech_is_nan_with_one_warning(caplog):
    short = torch.sin(torch.arange(1000) / 5)
    with caplog.at_level("WARNING", logger="dawp"):
        result = solve_tiny(noisy(short), epochs=4, pesq_every=1)
    assert math.isnan(result.input["pesq"])
    assert math.isnan(result.best["pesq"].value)
    assert result.best["pesq"].epoch is None
    assert len(caplog.records) == 1
    assert "its value is NaN" in caplog.text


def test_the_restored_waveform_is_the_running_mean_at_the_blind_stop(speech):
    result = solve_tiny(noisy(speech), epochs=80, lr=0.01, pesq_every=1000, stop="holdout", holdout=0.05)
    assert list(result.blind) == ["wmv", "holdout"]
    for name, evaluation in result.blind.items():
        column = result.history.column(name)
        measured = [value for value in column if not math.isnan(value)]
        assert evaluation.epoch == 1 + column.index(min(measured))
        for metric in ("si_snr", "ema_si_snr", "psnr"):
            assert evaluation.values[metric] == pytest.approx(
                result.history.column(metric)[evaluation.epoch - 1], abs=1e-3
            )
    assert result.restored.epoch == result.blind["holdout"].epoch
    assert result.restored.values["si_snr"] == result.blind["holdout"].values["ema_si_snr"]
    assert si_snr(result.restored.waveform, speech).item() == pytest.approx(result.restored.values["si_snr"], abs=1e-3)


def test_the_best_pesq_comes_with_the_si_snr_of_that_epoch(speech):
    result = solve_tiny(noisy(speech), epochs=12, lr=0.01, pesq_every=3)
    for prefix in ("", "ema_"):
        best = result.facts()["best"][f"{prefix}pesq"]
        assert best["epoch"] in (3, 6, 9, 12)
        assert best["si_snr"] == result.history.column(f"{prefix}si_snr")[best["epoch"] - 1]


def test_the_restored_waveform_can_be_the_output_at_the_blind_stop(speech):
    for settings in ({"estimate": "output"}, {"ema": 0.0}):
        result = solve_tiny(noisy(speech), epochs=20, pesq_every=1000, **settings)
        assert result.restored.values["si_snr"] == result.blind["wmv"].values["si_snr"]


def test_stop_last_uses_the_last_epoch(speech):
    result = solve_tiny(noisy(speech), epochs=20, pesq_every=1000, stop="epochs")
    assert (result.restored.epoch, list(result.blind)) == (20, ["wmv", "epochs"])
    assert all("epochs" not in row for row in result.history.rows)  # the quantity is the number of the epoch


@pytest.mark.slow
def test_blind_stops_retain_most_of_the_oracle_gain(speech):
    result = dawp.denoise(speech, preset="fast", stop="holdout", epochs=350, pesq_every=1000, device="cpu")
    possible = result.best["ema_si_snr"].value - result.input["si_snr"]
    assert possible > 1.5
    gains = {
        name: evaluation.values["ema_si_snr"] - result.input["si_snr"] for name, evaluation in result.blind.items()
    }
    assert gains["holdout"] > 0.9 * possible
    assert gains["wmv"] > 0.3 * possible


def test_the_blind_stop_does_not_depend_on_the_clean_clip(speech):
    """The restored waveform and the weights at the stop are the same with and without a clean clip."""
    settings = {"epochs": 80, "lr": 0.01, "pesq_every": 1000, "stop": "holdout"}
    problem = noisy(speech)
    blind = solve_tiny(replace(problem, clean=None), **settings)
    assert torch.equal(blind.restored.waveform, solve_tiny(problem, **settings).restored.waveform)
    assert blind.restored.values == blind.input == blind.best == {}
    generator = Demucs(Config.of("denoise", **TINY).generator)
    generator.load_state_dict(blind.generator["state_dict"])
    output = generator(blind.generator["z"], len(speech))[0, 0]
    at_stop = solve_tiny(problem, estimate="output", **settings).restored.waveform
    torch.testing.assert_close(output, at_stop)


def test_patience_ends_the_fit_without_changing_earlier_epochs(speech):
    settings = {"lr": 0.01, "pesq_every": 1000, "stop": "holdout", "holdout": 0.05}
    short = solve_tiny(noisy(speech), epochs=3000, patience=5, **settings)
    rows = len(short.history.rows)
    assert short.restored.epoch + 5 == rows < 3000
    long = solve_tiny(noisy(speech), epochs=rows, **settings)
    assert long.history.column("loss") == short.history.column("loss")
    assert torch.equal(long.restored.waveform, short.restored.waveform)


def test_a_fit_that_diverges_in_its_first_epoch_has_no_result(speech):
    result = solve_tiny(noisy(speech), epochs=60, lr=1e30)
    assert result.restored is None
    assert result.blind == {}


def test_on_epoch_is_called_for_every_epoch(speech):
    seen = []
    config = Config.of("denoise", **TINY)
    solve(noisy(speech), config, on_epoch=lambda step, history: seen.append((step.epoch, len(history.rows))))
    assert seen == [(1, 1), (2, 2), (3, 3)]


def test_history_fetched_in_batches_is_the_same():
    rows = [{"loss": torch.tensor(1.5), "pesq": torch.tensor(2.25, dtype=torch.float64)}, {"loss": torch.tensor(0.5)}]
    one_by_one, together = History(1), History(50)
    for row in rows:
        one_by_one.append(row)
        together.append(row)
    assert together.latest == {}  # nothing has been fetched
    assert one_by_one.rows == together.rows == [{"loss": 1.5, "pesq": 2.25}, {"loss": 0.5}]
    assert together.latest == {"loss": 0.5}


def test_history_as_csv(tmp_path):
    history = History()
    history.append({"loss": torch.tensor(1 / 3), "si_snr": torch.tensor(math.nan)})
    history.append({"loss": torch.tensor(0.25), "si_snr": torch.tensor(1.0), "pesq": torch.tensor(1.5)})
    history.write(tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["epoch", "loss", "si_snr", "pesq"],
            ["1", "0.3333333", "nan", ""],
            ["2", "0.25", "1", "1.5"],
        ]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu(speech):
    results = [solve_tiny(noisy(speech), epochs=120, lr=0.01, device=device) for device in ("cpu", "cuda")]
    values = [result.best["si_snr"].value for result in results]
    assert values[0] == pytest.approx(values[1], abs=0.5)
    assert len(results[1].history.rows) == 120


def test_several_fits_are_averaged_each_at_its_own_stop(speech):
    settings = {"epochs": 60, "lr": 0.01, "estimate": "output", "pesq_every": 1000}
    averaged = solve_tiny(noisy(speech), **settings, fits=3)
    first = solve_tiny(noisy(speech), **settings)
    assert torch.equal(torch.tensor(averaged.history.column("loss")), torch.tensor(first.history.column("loss")))
    assert averaged.best["si_snr"].value == first.best["si_snr"].value
    assert averaged.restored.epoch == first.restored.epoch
    two = solve_tiny(noisy(speech), **settings, fits=2)
    second, third = (2 * two.restored.waveform - first.restored.waveform), averaged.restored.waveform * 3
    third = third - first.restored.waveform - second
    for a, b in ((first.restored.waveform, second), (first.restored.waveform, third), (second, third)):
        assert (a - b).abs().max() > 1e-3
    residuals = [(estimate - speech).square().mean() for estimate in (first.restored.waveform, second, third)]
    assert (averaged.restored.waveform - speech).square().mean() < sum(residuals) / 3


def test_the_mask_is_made_of_the_running_mean_at_the_stop(speech):
    problem = noisy(speech)
    settings = {"epochs": 20, "lr": 0.01, "pesq_every": 1000}
    mean = solve_tiny(problem, **settings, estimate="mean").restored
    masked = solve_tiny(problem, **settings, estimate="mask", mask_floor=-20.0).restored
    noise = estimate_noise(problem.observed, 16000)
    noise_of_output = track_noise(np.abs(analyse(mean.waveform, 16000)) ** 2, 0.008)
    expected = mask(problem.observed, mean.waveform, 16000, -20.0, noise, noise_of_output)
    factorised = reduce_noise(problem.observed, 16000, noise, floor_db=-20.0)
    weight = (np.maximum(noise - noise_of_output, 0).sum() / noise.sum()) ** 2
    torch.testing.assert_close(masked.waveform, weight * expected + (1 - weight) * factorised)
    assert masked.epoch == mean.epoch
    assert masked.values["si_snr"] == pytest.approx(si_snr(masked.waveform, speech).item())


@pytest.mark.parametrize(
    ("noise_db", "estimate", "is_fitted"),
    [(-20, "mask", True), (-30, "mask", False), (-30, "mean", True), (None, "mask", True)],
)
def test_a_clip_with_little_noise_is_not_fitted(speech, noise_db, estimate, is_fitted):
    power = np.abs(analyse(speech, 16000)) ** 2
    noise = None
    if noise_db is not None:
        noise = torch.full(power.shape, power.mean() * 10 ** (noise_db / 10), dtype=torch.float64)
    config = Config.of("denoise", **TINY, estimate=estimate)
    restored = restore_without_fit(Problem(speech, None, 16000, noise=noise), config)
    assert (restored is None) == is_fitted
    if restored is not None:
        assert restored.shape == speech.shape
        assert torch.equal(restored, mask(speech, speech, 16000, config.stop.mask_floor, noise.numpy(), noise.numpy()))


def test_the_high_pass_removes_rumble_before_the_fit(speech):
    time = torch.arange(len(speech)) / 16000
    rumble = 0.3 * torch.sin(2 * torch.pi * 8 * time)
    filtered = high_pass(speech + rumble, 16000, 40.0)
    inside = slice(4000, -4000)
    assert (filtered - high_pass(speech, 16000, 40.0))[inside].abs().max() < 1e-3
    tone = torch.sin(2 * torch.pi * 200 * time)
    assert (high_pass(tone, 16000, 40.0) - tone)[inside].abs().max() < 1e-2  # same phase
    assert high_pass(speech, 16000, 0.0) is speech
    for length in (64, 100):
        assert high_pass(torch.randn(length), 16000, 40.0).isfinite().all()
    problem = Problem(speech + rumble, speech, 16000)
    result = solve_tiny(problem, highpass=40.0, estimate="mask")
    assert result.restored.values["si_snr"] > result.input["si_snr"] + 10
    assert torch.equal(result.problem.observed, problem.observed)
