import math

import numpy as np
import pesq as itu
import pytest
import torch
import torchaudio.functional
import torchmetrics.functional.audio as reference
from conftest import TINY as TINY_FIT
from torchmetrics.functional.image import peak_signal_noise_ratio

import dawp
from dawp.cli import main
from dawp.metrics.base import (
    CORRUPTED,
    GAPS,
    MEAN,
    METRICS,
    Measurement,
    Metric,
    UndefinedMetric,
    default_metrics,
    measurements,
)
from dawp.metrics.functions import LONGEST_PESQ, for_pesq, gap_windows, lsd, over_gaps, pesq, psnr, si_snr, snr
from dawp.metrics.settings import MetricConfig
from dawp.problem import Problem

TINY = {name: value for name, value in TINY_FIT.items() if name != "workers"}


def pair(*shape):
    rng = torch.Generator().manual_seed(0)
    target = torch.randn(*shape, generator=rng) + 0.3
    return target + 0.5 * torch.randn(*shape, generator=rng), target


@pytest.mark.parametrize("zero_mean", [True, False])
def test_si_snr_agrees_with_torchmetrics(zero_mean):
    estimate, target = pair(3, 2, 1000)
    expected = reference.scale_invariant_signal_distortion_ratio(estimate, target, zero_mean=zero_mean)
    torch.testing.assert_close(si_snr(estimate, target, zero_mean), expected, rtol=1e-4, atol=1e-4)


def test_psnr_agrees_with_torchmetrics():
    estimate, target = pair(1000)
    torch.testing.assert_close(psnr(estimate, target), peak_signal_noise_ratio(estimate, target, data_range=2.0))
    span = float(target.max() - target.min())
    torch.testing.assert_close(psnr(estimate, target, None), peak_signal_noise_ratio(estimate, target, data_range=span))


def test_si_snr_of_a_known_angle():
    """At 60 degrees the component along the target has a third of the power of the other one: 10 log10(1/3)."""
    target, across = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    estimate = math.cos(math.pi / 3) * target + math.sin(math.pi / 3) * across
    assert si_snr(estimate, target).item() == pytest.approx(10 * math.log10(1 / 3), abs=1e-4)


def test_si_snr_ignores_scale_and_psnr_does_not():
    estimate, target = pair(500)
    torch.testing.assert_close(si_snr(10 * estimate, target), si_snr(estimate, target))
    assert psnr(10 * estimate, target) < psnr(estimate, target) - 10


def test_psnr_of_a_known_error():
    assert psnr(torch.full((8,), 0.2), torch.zeros(8)).item() == pytest.approx(20.0, abs=1e-4)  # 10 log10(4 / 0.04)


def test_si_snr_of_silence_is_nan():
    assert si_snr(torch.zeros(10), torch.ones(10)).isnan()
    assert si_snr(torch.ones(10), torch.zeros(10)).isnan()


@pytest.mark.parametrize(("rate", "mode"), [(16000, "wb"), (8000, "nb")])
def test_pesq_agrees_with_the_package(speech, rate, mode):
    target = torchaudio.functional.resample(speech, 16000, rate)
    estimate = target + 0.02 * torch.randn(len(target), generator=torch.Generator().manual_seed(0))
    expected = itu.pesq(rate, target.numpy(), estimate.numpy(), mode)
    assert pesq(estimate, target, rate).item() == pytest.approx(expected, abs=1e-6)


def test_pesq_resamples_other_rates(speech):
    noisy = speech + 0.02 * torch.randn(len(speech), generator=torch.Generator().manual_seed(0))
    up = [torchaudio.functional.resample(w, 16000, 44100) for w in (noisy, speech)]
    down = [torchaudio.functional.resample(w, 44100, 16000) for w in up]
    assert pesq(*up, 44100).item() == pytest.approx(itu.pesq(16000, down[1].numpy(), down[0].numpy(), "wb"), abs=1e-6)


def test_pesq_at_a_rate_that_cannot_be_resampled_is_nan(speech):
    assert pesq(speech, speech, 15999).isnan()
    with pytest.raises(UndefinedMetric, match="cannot be resampled from 15999"):
        pesq(speech, speech, 15999, strict=True)


def test_pesq_of_batches(speech):
    noise = torch.randn(2, 1, len(speech), generator=torch.Generator().manual_seed(0))
    estimates = speech + noise * torch.tensor([0.01, 0.1])[:, None, None]
    scores = pesq(estimates, speech.expand_as(estimates), 16000)
    assert scores.shape == (2, 1)
    assert scores[0, 0] > scores[1, 0]


@pytest.mark.parametrize(
    ("estimate", "target"),
    [
        (torch.zeros(16000), torch.ones(16000)),
        (torch.ones(16000), torch.zeros(16000)),
        (torch.full((16000,), torch.nan), torch.ones(16000)),
        (torch.randn(400), torch.randn(400)),
    ],
    ids=["silent estimate", "silent target", "NaN", "too short"],
)
def test_pesq_that_cannot_be_computed_is_nan_never_zero(estimate, target):
    assert pesq(estimate, target, 16000).isnan()
    with pytest.raises(UndefinedMetric):
        pesq(estimate, target, 16000, strict=True)


def test_pesq_of_many_utterances_is_nan():
    """With more than 50 utterances, the pesq package overruns its arrays and crashes the process."""
    time = torch.arange(60 * 16000) / 16000
    bursts = torch.randn(len(time)) * 0.1 * ((time % 0.42) < 0.21)
    with pytest.raises(UndefinedMetric, match="longer than"):
        pesq(bursts, bursts, 16000, strict=True)
    longest = int(LONGEST_PESQ * 16000)
    assert pesq(bursts[:longest] + 1e-3 * torch.randn(longest), bursts[:longest], 16000).isfinite()


@pytest.mark.parametrize("metric", [si_snr, psnr, lambda e, t: pesq(e, t, 16000)])
def test_shapes_must_agree(metric):
    with pytest.raises(ValueError, match=r"\[3\] and \[4\]"):
        metric(torch.zeros(3), torch.zeros(4))


def test_over_gaps_is_the_mean_over_gaps():
    target = torch.tensor([1.0, 1.0, 5.0, 2.0, -1.0, 3.0])
    estimate = torch.tensor([2.0, 0.0, 9.0, 2.0, 1.0, 3.0])
    gaps = [(0, 2), (3, 6)]
    first, second = (si_snr(estimate[a:b], target[a:b]) for a, b in gaps)
    windows = gap_windows(gaps)
    assert over_gaps(si_snr, estimate, target, windows) == pytest.approx((first + second).item() / 2)
    batch = torch.stack([estimate, target + 0.1])
    assert over_gaps(psnr, batch, target.expand(2, -1), windows).shape == (2,)
    changed = estimate.clone()
    changed[2] = -100  # samples outside the gaps do not count
    assert over_gaps(si_snr, changed, target, windows) == over_gaps(si_snr, estimate, target, windows)
    estimate[:2] = 0
    assert over_gaps(si_snr, estimate, target, windows).isnan()


def test_gaps_of_equal_length_are_evaluated_in_one_batch():
    windows = gap_windows([(3, 5), (10, 13), (20, 22)])
    assert [window.tolist() for window in windows] == [[[3, 4], [20, 21]], [[10, 11, 12]]]


def test_si_snr_of_a_single_sample_is_nan():
    """A single sample is a multiple of any other, so that the ratio would be infinite."""
    assert si_snr(torch.tensor([0.3]), torch.tensor([0.7])).isnan()
    assert si_snr(torch.ones(2, 1), torch.ones(2, 1)).isnan().all()


@pytest.mark.parametrize("metric", [si_snr, psnr, lambda e, t: pesq(e, t, 16000)])
def test_metrics_need_a_time_axis(metric):
    with pytest.raises(ValueError, match=r"\[\.\.\., T\]"):
        metric(torch.tensor(1.0), torch.tensor(1.0))


def test_psnr_of_a_batch_uses_the_range_of_each_target():
    estimate, target = pair(2, 3, 100)
    target[1] *= 5
    values = psnr(estimate, target, None)
    assert values.shape == (2, 3)
    torch.testing.assert_close(values[1, 2], psnr(estimate[1, 2], target[1, 2], None))


def test_over_gaps_of_a_batch_is_that_of_each_clip():
    estimate, target = pair(2, 3, 100)
    windows = gap_windows([(3, 10), (20, 27), (50, 90)])
    values = over_gaps(si_snr, estimate, target, windows)
    assert values.shape == (2, 3)
    torch.testing.assert_close(values[1, 2], over_gaps(si_snr, estimate[1, 2], target[1, 2], windows))


@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_longest_clip_of_pesq_lasts_19_seconds(rate):
    noise = torch.randn(19 * rate + 1)
    assert for_pesq(noise[:-1], noise[:-1], rate)[2] == rate
    with pytest.raises(UndefinedMetric):
        for_pesq(noise, noise, rate)


def test_pesq_receives_other_rates_at_16_khz():
    noise = torch.randn(4410)
    estimate, target, rate = for_pesq(noise, 2 * noise, 44100)
    assert (len(estimate), len(target), rate) == (1600, 1600, 16000)
    torch.testing.assert_close(target, 2 * estimate)


def test_pesq_does_not_keep_the_graph_of_an_estimate():
    noise = torch.randn(1600, requires_grad=True)
    estimate, target, _ = for_pesq(noise, noise + 1, 16000)
    assert not estimate.requires_grad
    assert not target.requires_grad


# Options and measurements


def test_the_range_of_psnr_is_that_of_the_whole_clean_clip():
    clean = torch.tensor([0.5, -0.25, 0.25, 0.0])
    problem = Problem(clean + 0.1, clean, 16000)
    estimate, target = pair(50)
    for data_range, expected in ((None, 0.75), (3.0, 3.0)):
        metric = METRICS["psnr"].bind(problem, MetricConfig(data_range=data_range))
        torch.testing.assert_close(metric(estimate, target), psnr(estimate, target, expected))
    metric = METRICS["psnr"].bind(Problem(clean, None, 16000), MetricConfig(data_range=None))
    torch.testing.assert_close(metric(estimate, target), psnr(estimate, target, None))


@pytest.mark.parametrize("zero_mean", [True, False])
def test_the_means_are_subtracted_if_requested(zero_mean):
    estimate, target = pair(50)
    metric = METRICS["si_snr"].bind(Problem(target, None, 16000), MetricConfig(zero_mean=zero_mean))
    torch.testing.assert_close(metric(estimate, target), si_snr(estimate, target, zero_mean))


def test_measurements_begin_with_the_gaps():
    names = default_metrics()
    assert [one.name for one in measurements(names=names)] == ["gap_si_snr", "gap_psnr", "si_snr", "psnr", "pesq"]
    assert [one.name for one in measurements(gaps=False, names=names)] == ["si_snr", "psnr", "pesq"]
    assert {one.metric for one in measurements()} == METRICS.keys()


def test_the_names_and_labels_of_measurements():
    measurement = Measurement("psnr", GAPS, MEAN, CORRUPTED)
    assert (measurement.name, measurement.title, measurement.label) == (
        "ema_gap_psnr_vs_corrupted",
        "gap PSNR",
        "gap PSNR (dB)",
    )
    assert measurement.of_output == Measurement("psnr", GAPS, target=CORRUPTED)
    assert measurement.check is None
    assert Measurement("pesq", estimate=MEAN).check == Measurement("si_snr", estimate=MEAN)
    assert Measurement("pesq").label == "PESQ"


def test_a_slow_metric_is_a_reference_and_has_no_gaps():
    Metric("x", "X", "module:function", is_slow=True)
    Metric("x", "X", si_snr, on_gaps=True)
    for function, on_gaps in (("module:function", True), (si_snr, False)):
        with pytest.raises(ValueError, match="x: "):
            Metric("x", "X", function, is_slow=True, on_gaps=on_gaps)


def test_snr_of_a_known_error():
    target = torch.ones(2, 100)
    torch.testing.assert_close(snr(1.1 * target, target), torch.full((2,), 20.0), rtol=0, atol=1e-4)
    assert snr(-target, target).tolist() == pytest.approx([-20 * math.log10(2)] * 2)
    assert snr(target, target).isposinf().all()
    assert snr(target, torch.zeros(2, 100)).isnan().all()
    assert snr(torch.zeros(2, 100), torch.zeros(2, 100)).isnan().all()


def test_snr_of_a_quiet_clip():
    target = torch.full((100,), 1e-4)
    assert snr(0.9 * target, target).item() == pytest.approx(20, abs=1e-3)


def test_snr_of_selected_samples():
    target = torch.ones(100)
    estimate = target.clone()
    estimate[:10] = 0.9
    assert float(snr(estimate, target, torch.arange(100) < 10)) == pytest.approx(20, abs=1e-4)
    assert float(snr(estimate, target)) == pytest.approx(30, abs=1e-4)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_lsd_of_a_gain_is_the_gain(rate):
    target = 0.1 * torch.randn(2, rate, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(lsd(2 * target, target, rate), torch.full((2,), 6.0206), rtol=0, atol=1e-3)
    torch.testing.assert_close(lsd(target / 2, target, rate), torch.full((2,), 6.0206), rtol=0, atol=1e-3)
    assert not lsd(-target, target, rate).any()


def test_lsd_of_two_noises_is_that_of_two_exponential_variables():
    """The logarithm of the ratio of two exponential variables has the variance pi^2 / 3."""
    noises = 0.1 * torch.randn(2, 10 * 16000, generator=torch.Generator().manual_seed(0))
    expected = 10 / math.log(10) * math.pi / math.sqrt(3)
    assert float(lsd(*noises, 16000)) == pytest.approx(expected, rel=0.02)


def test_lsd_ignores_differences_below_the_noise_of_16_bits():
    rng = torch.Generator().manual_seed(0)
    noise = 2e-7 * torch.randn(16000, generator=rng)
    assert float(lsd(noise, torch.zeros(16000), 16000)) == 0
    assert float(lsd(torch.zeros(16000), torch.zeros(16000), 16000)) == 0


def test_lsd_above_a_frequency():
    time = torch.arange(16000, dtype=torch.float64) / 16000
    low, high = (0.1 * torch.sin(2 * math.pi * frequency * time) for frequency in (1000, 6000))
    assert float(lsd(low + high, high, 16000, above=4000)) < 0.01
    assert float(lsd(low + high, low, 16000, above=4000)) > 5
    assert lsd(low, high, 16000, above=8001).isnan()
    assert lsd(low, high, 16000, above=math.inf).isnan()
    assert lsd(low[:64], high[:64], 48000).isfinite()


def test_lsd_agrees_with_a_literal_version(speech):
    noisy = speech + 0.01 * torch.randn(len(speech), generator=torch.Generator().manual_seed(0))
    window = np.hanning(641)[:-1]
    values = []
    for start in range(0, len(speech) - 640 + 1, 160):
        powers = [
            np.maximum(abs(np.fft.rfft(window * w[start : start + 640].numpy())) ** 2 / sum(window**2), 2**-30 / 12)
            for w in (noisy, speech)
        ]
        values.append(np.sqrt(np.mean((10 * np.log10(powers[0] / powers[1])) ** 2)))
    assert float(lsd(noisy, speech, 16000)) == pytest.approx(np.mean(values), rel=1e-3)


def test_the_default_metrics_are_those_of_the_paper():
    assert MetricConfig().names == ("si_snr", "psnr", "pesq")
    assert "metrics" not in MetricConfig().identity()
    assert MetricConfig(metrics="lsd, snr,lsd").names == ("lsd", "snr")


@pytest.mark.parametrize("given", ["si_snr,loudness", "", ",", "SI_SNR"])
def test_unknown_metrics_are_refused(given, capsys):
    assert main("denoise", ["--metrics", given]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "--metrics must be" in lines[0]


def test_the_chosen_metrics_are_computed_and_the_first_one_selects_the_weights(speech):
    clip = speech[:4000]
    settings = {**TINY, "epochs": 6, "lr": 0.01, "pesq_every": 1}
    result = dawp.denoise(clip, metrics="lsd,snr_damaged,lsd_high", ema=0, baselines=True, **settings)
    assert list(result.best) == ["lsd", "snr_damaged", "lsd_high"]
    column = result.history.column("lsd")
    assert result.best["lsd"].value == min(column)
    assert result.best["lsd"].epoch == 1 + column.index(min(column))
    facts = result.facts()["best"]["lsd"]
    assert facts["gain"] == pytest.approx(result.input["lsd"] - min(column))
    values = [baseline.values.keys() for baseline in result.baselines.values()]
    assert values
    assert all(names == {"lsd", "snr_damaged", "lsd_high"} for names in values)
    assert math.isnan(result.best["lsd_high"].value)  # there is no cutoff
    again = dawp.denoise(clip, metrics="snr_damaged,lsd", ema=0, **settings)
    assert again.history.column("lsd") == column
    weights = [r.generator["state_dict"] for r in (result, again)]
    same = result.best["lsd"].epoch == again.best["snr_damaged"].epoch
    assert all(torch.equal(*pair) for pair in zip(*(w.values() for w in weights), strict=True)) == same


def test_a_table_of_chosen_metrics(speech):
    result = dawp.denoise(speech[:4000], metrics="lsd", ema=0, **TINY)
    lines = [line for line in str(result).splitlines() if "LSD" in line]
    assert lines
    assert not [line for line in str(result).splitlines() if "SI-SNR" in line]
    given, best, gain = (float(text) for text in lines[0].replace("LSD (dB)", "").split()[:3])
    assert gain == pytest.approx(given - best, abs=0.011)


def test_pesq_alone(speech):
    result = dawp.denoise(speech[:8000], metrics="pesq", ema=0, **TINY)
    assert list(result.best) == ["pesq"]
    assert result.facts()["best"]["pesq"].keys() == {"value", "epoch", "gain"}
