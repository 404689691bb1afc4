import math

import pesq as itu
import pytest
import torch
import torchaudio.functional
import torchmetrics.functional.audio as reference
from torchmetrics.functional.image import peak_signal_noise_ratio

from dawp.metrics.base import CORRUPTED, GAPS, MEAN, METRICS, Measurement, Metric, UndefinedMetric, measurements
from dawp.metrics.functions import LONGEST_PESQ, for_pesq, gap_windows, over_gaps, pesq, psnr, si_snr
from dawp.metrics.settings import MetricConfig
from dawp.problem import Problem


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
    assert [one.name for one in measurements()] == ["gap_si_snr", "gap_psnr", "si_snr", "psnr", "pesq"]
    assert [one.name for one in measurements(gaps=False)] == ["si_snr", "psnr", "pesq"]


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
