import copy
import math
from concurrent.futures import Future

import pytest
import torch

from dawp.io.audio import true_runs
from dawp.methods.deep_prior.estimates.running_mean import Estimates
from dawp.methods.deep_prior.fit import Epoch
from dawp.methods.deep_prior.generators.demucs import Demucs
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.methods.deep_prior.stopping.best import Best
from dawp.methods.deep_prior.stopping.holdout import HoldoutStop, hold_out
from dawp.methods.deep_prior.stopping.last_epoch import LastEpoch
from dawp.methods.deep_prior.stopping.oracle import OracleStop
from dawp.methods.deep_prior.stopping.wmv import WINDOW, VarianceStop
from dawp.metrics.base import MEAN, OUTPUT, Measurement
from dawp.metrics.functions import psnr, si_snr
from dawp.metrics.settings import MetricConfig
from dawp.operators.convolution import Convolution
from dawp.operators.mask import Mask
from dawp.problem import Problem


def clean_clip():
    return torch.sin(torch.arange(800) / 7)


def outputs_of(noise_levels):
    """Return outputs of different quality: the clean clip with noise of the given levels."""
    rng = torch.Generator().manual_seed(0)
    return [clean_clip() + level * torch.randn(800, generator=rng) for level in noise_levels]


def watch(outputs, **settings):
    generator = Demucs(GeneratorConfig(depth=1, channels=2, lstm_layers=0, resample=False))
    problem = Problem(clean_clip() + 0.1, clean_clip(), 16000)
    config = MetricConfig(pesq_every=100, **settings)
    oracle, estimates = OracleStop(problem, config, generator), Estimates(problem, config.ema)
    rows = []
    for epoch, output in enumerate(outputs, start=1):
        with torch.no_grad():
            generator.encoder[0][0].weight.fill_(epoch)
        step = Epoch(epoch, torch.zeros(()), output, output, torch.full((1, 1, 4), float(epoch)))
        rows.append(oracle.update(step, estimates.update(step)))
    return oracle, rows


def test_the_best_epoch_is_the_true_one_and_has_its_waveform():
    outputs = outputs_of([1, 0.5, 0.1, 0.3, 0.6])
    oracle, rows = watch(outputs)
    best = oracle.best["si_snr"]
    assert best.epoch == 3
    assert torch.equal(best.tensors[0], outputs[2])
    assert best.value == pytest.approx(si_snr(outputs[2], clean_clip()).item())
    assert [row["psnr"].item() for row in rows] == [psnr(output, clean_clip()).item() for output in outputs]


def test_the_first_of_equals_is_best():
    oracle, _ = watch(outputs_of([0.1]) * 3)
    assert oracle.best["si_snr"].epoch == 1


def test_the_weights_kept_are_those_of_the_best_si_snr_epoch():
    oracle, _ = watch(outputs_of([1, 0.1, 0.5]))
    state = oracle.weights.kept
    assert (state["z"] == 2).all()
    assert (state["state_dict"]["encoder.0.0.weight"] == 2).all()


def test_nan_is_never_best():
    best = Best()
    for epoch, value in enumerate([math.nan, 1.0, math.nan, 0.5], start=1):
        best.update(torch.tensor(value), epoch, [torch.tensor([value])])
    assert (best.epoch, best.value, best.tensors[0].item()) == (2, 1.0, 1.0)


def test_a_metric_that_is_always_nan_has_no_best():
    best = Best()
    assert (best.epoch, best.tensors) == (None, [])
    best.update(torch.tensor(math.nan), 1, [torch.zeros(3)])
    assert best.epoch is None
    assert math.isnan(best.value)
    assert best.tensors == []


def test_the_best_waveform_is_a_copy():
    best, tensor = Best(), torch.ones(3)
    best.update(torch.tensor(1.0), 1, [tensor])
    tensor.zero_()
    assert torch.equal(best.tensors[0], torch.ones(3))


def test_the_running_mean_is_the_weighted_mean_of_the_outputs():
    outputs, decay = outputs_of([0.5, 0.4, 0.6]), 0.8
    _, rows = watch(outputs, ema=decay)
    weights = [decay**2, decay, 1.0]
    mean = sum(w * o for w, o in zip(weights, outputs, strict=True)) / sum(weights)
    assert rows[2]["ema_si_snr"].item() == pytest.approx(si_snr(mean, clean_clip()).item(), abs=1e-4)
    assert rows[0]["ema_psnr"].item() == pytest.approx(rows[0]["psnr"].item(), abs=1e-4)


def test_averaging_noisy_outputs_beats_each_of_them():
    oracle, _ = watch(outputs_of([0.5] * 30), ema=0.98)
    assert oracle.best["ema_si_snr"].value > oracle.best["si_snr"].value + 8


def test_estimates_without_a_running_mean():
    oracle, rows = watch(outputs_of([0.5]), ema=0.0)
    assert set(oracle.best) == {"si_snr", "psnr", "pesq"}
    assert set(rows[0]) == {"si_snr", "psnr"}


def test_estimates_against_the_corrupted_clip():
    outputs = outputs_of([0.5])
    _, rows = watch(outputs, show_estimates_vs_noise=True)
    assert rows[0]["si_snr_vs_corrupted"] == si_snr(outputs[0], clean_clip() + 0.1)


def test_pesq_is_computed_only_every_pesq_every_epochs(speech):
    generator = Demucs(GeneratorConfig(depth=1, channels=2, lstm_layers=0))
    oracle = OracleStop(Problem(speech * 0.9, speech, 16000), MetricConfig(pesq_every=2, ema=0.0), generator)
    z = torch.zeros(1, 1, 4)
    rows = [oracle.update(Epoch(epoch, torch.zeros(()), speech, speech, z), {OUTPUT: speech}) for epoch in (1, 2, 3, 4)]
    assert ["pesq" in row for row in rows] == [False, True, False, True]
    assert oracle.best["pesq"].epoch == 2


# Blind stops


def steps(outputs):
    return [
        Epoch(epoch, torch.zeros(()), output, output, torch.zeros(1, 1, 4))
        for epoch, output in enumerate(outputs, start=1)
    ]


def follow(stop, outputs):
    """Return the values of the stop by epoch."""
    values = {}
    for step in steps(outputs):
        value = stop.update(step, {OUTPUT: step.output, MEAN: step.output + 1})
        if value is not None:
            values[step.epoch] = value.item()
    return values


def test_the_variance_is_that_of_the_latest_outputs_relative_to_the_power_of_their_mean():
    clip = torch.randn(100)
    outputs = [torch.randn(100) + 3 * clip for _ in range(WINDOW + 30)]
    values = follow(VarianceStop(Problem(clip, None, 16000), 1000, None, None), outputs)
    assert list(values) == list(range(WINDOW, WINDOW + 31))
    for epoch in (WINDOW, WINDOW + 1, WINDOW + 30):
        latest = torch.stack(outputs[epoch - WINDOW : epoch])
        expected = latest.var(dim=0, correction=0).mean() / latest.mean(dim=0).square().mean()
        assert values[epoch] == pytest.approx(expected.item(), rel=1e-3)


def test_the_variance_stop_finds_the_minimum_and_ignores_silence():
    rng = torch.Generator().manual_seed(0)
    amounts = [*(0.5 for _ in range(60)), *(0.01 for _ in range(60)), *(0.5 for _ in range(60))]
    clip = clean_clip()
    settling = [clip + amount * torch.randn(800, generator=rng) for amount in amounts]
    silent = [1e-4 * torch.randn(800, generator=rng) for _ in range(60)]
    stop = VarianceStop(Problem(clip, None, 16000), 1000, None, None)
    follow(stop, [*silent, *settling])
    assert 60 + 60 + WINDOW <= stop.epoch <= 60 + 120
    torch.testing.assert_close(stop.estimates[MEAN], [*silent, *settling][stop.epoch - 1] + 1)


@pytest.mark.parametrize("offset", [0.0, 0.5])  # a constant output does not resemble a clip with an offset
def test_the_variance_stop_ignores_a_constant_output_at_the_start(offset):
    rng = torch.Generator().manual_seed(0)
    clip = clean_clip() + offset
    pattern = 0.01 * (1 + torch.randn(800, generator=rng))
    still = [pattern + 1e-5 * torch.randn(800, generator=rng) for _ in range(120)]
    settled = [clip + 0.05 * torch.randn(800, generator=rng) for _ in range(120)]
    stop = VarianceStop(Problem(clip, None, 16000), 1000, None, None)
    values = follow(stop, [*still, *settled])
    assert stop.epoch >= 120 + WINDOW
    assert all(math.isfinite(value) for value in values.values())


def test_an_output_unlike_the_clip_still_has_a_stop():
    stop = VarianceStop(Problem(clean_clip(), None, 16000), 1000, None, None)
    follow(stop, [torch.full((800,), 0.1)] * (WINDOW + 10))
    assert stop.epoch >= WINDOW


@pytest.mark.parametrize("offset", [0.1, 0.5])
def test_gaps_are_excluded_from_the_similarity_of_outputs_to_the_clip(offset):
    """Gaps are zeros in the corrupted clip, which would dominate the variance of a clip with a large offset."""
    rng = torch.Generator().manual_seed(0)
    clip = offset + 0.001 * clean_clip()
    mask = torch.ones(800, dtype=torch.bool)
    mask[100:140] = mask[500:540] = False
    shares = [*torch.linspace(0.02, 0.002, 100), *([0.002] * 100), *torch.linspace(0.002, 0.02, 100)]
    outputs = [clip + share * offset * torch.randn(800, generator=rng) for share in shares]
    stop = VarianceStop(Problem(clip * mask, None, 16000, Mask(mask)), 1000, None, None)
    follow(stop, outputs)
    assert 100 + WINDOW <= stop.epoch <= 200


def test_a_constant_clip_requires_no_similarity():
    clip = torch.full((800,), 0.1)
    rng = torch.Generator().manual_seed(0)
    amounts = [*([0.05] * 60), *([0.001] * 60), *([0.05] * 60)]
    stop = VarianceStop(Problem(clip, None, 16000), 1000, None, 50)
    values = follow(stop, [clip + amount * torch.randn(800, generator=rng) for amount in amounts])
    assert 60 + WINDOW <= stop.epoch <= 120
    assert values[120] == pytest.approx(1e-4, rel=0.2)  # (0.001 / 0.1)²
    assert stop.is_over(180)


def test_patience_starts_after_the_output_resembles_the_clip():
    stop = VarianceStop(Problem(clean_clip(), None, 16000), 1000, None, 10)
    follow(stop, [torch.full((800,), 0.1)] * 100)
    assert not stop.is_over(100)
    follow(stop, outputs_of([0.1] * 100))
    assert stop.is_over(stop.epoch + 10)


def test_a_fit_shorter_than_the_window_stops_at_its_end():
    stop = VarianceStop(Problem(clean_clip(), None, 16000), 3, None, None)
    assert list(follow(stop, outputs_of([0.3, 0.2, 0.1]))) == [3]
    assert stop.epoch == 3


def test_the_holdout_stop_finds_the_best_output_on_held_out_samples():
    """The outputs approach the clip, then fit the noise, which is independent in the held-out samples."""
    rng = torch.Generator().manual_seed(0)
    clip = torch.sin(torch.arange(20000) / 7)
    problem = Problem(clip + 0.5 * torch.randn(20000, generator=rng), clip, 16000)
    held_out = hold_out(problem, 0.05, rng)
    other_noise = 0.5 * torch.randn(20000, generator=rng)
    learning = [share * clip for share in torch.linspace(0, 1, 200)]
    following = [clip + share * other_noise for share in torch.linspace(0, 1, 400)]
    stop = HoldoutStop(problem, held_out, None, None)
    values = follow(stop, [*learning, *following])
    assert 200 <= stop.epoch <= 300
    assert values[1] == pytest.approx(1.0, abs=0.02)  # silence: all of the clip's power is missing
    assert min(values.values()) == pytest.approx(0.25 / 0.75, rel=0.2)  # the noise in the held-out samples


def test_patience():
    stop = VarianceStop(Problem(clean_clip(), None, 16000), 2, None, 10)
    assert not stop.is_over(50)
    follow(stop, outputs_of([0.5, 0.1, 0.2]))
    assert (stop.is_over(stop.epoch + 9), stop.is_over(stop.epoch + 10)) == (False, True)
    assert not VarianceStop(Problem(clean_clip(), None, 16000), 2, None, None).is_over(10**6)


def test_the_last_epoch():
    stop = LastEpoch(None)
    outputs = outputs_of([0.1, 0.2, 0.3])
    follow(stop, outputs)
    assert stop.epoch == 3
    assert torch.equal(stop.estimates[OUTPUT], outputs[-1])


def test_the_given_fraction_of_single_samples_is_held_out():
    problem = Problem(torch.ones(50000), None, 16000)
    held_out = hold_out(problem, 0.1, torch.Generator().manual_seed(0))
    assert held_out.sum() == 5000
    assert torch.equal(held_out, hold_out(problem, 0.1, torch.Generator().manual_seed(0)))
    drawn = torch.stack([hold_out(problem, 0.5, torch.Generator().manual_seed(seed)) for seed in range(30)])
    assert drawn[:, -100:].any(dim=0).all()  # any sample can be: the last, too


def test_with_gaps_intervals_of_their_length_are_held_out():
    mask = torch.ones(50000, dtype=torch.bool)
    for start in (1000, 2000, 30000):
        mask[start : start + 40] = False
    problem = Problem(torch.ones(50000), None, 16000, Mask(mask))
    held_out = hold_out(problem, 0.1, torch.Generator().manual_seed(0))
    assert not (held_out & ~mask).any()
    assert held_out.sum().item() == pytest.approx(0.1 * mask.sum().item(), abs=40)
    lengths = [stop - start for start, stop in true_runs(held_out)]
    assert min(lengths) == 40
    assert sum(length == 40 for length in lengths) > len(lengths) / 2


@pytest.mark.parametrize(
    ("length", "gaps"),
    [
        (32000, [(0, 24000)]),
        (32000, [(8000, 24000)]),
        (1100, [(10 * i, 10 * i + 8) for i in range(100)]),
        (64, [(2, 62)]),
        (64, [(10, 12)]),
        (30000, [(1000 * i, 1000 * i + 800) for i in range(30)]),
    ],
)
def test_the_held_out_fraction_is_the_requested_one_for_any_gaps(length, gaps):
    mask = torch.ones(length, dtype=torch.bool)
    for start, stop in gaps:
        mask[start:stop] = False
    problem = Problem(torch.ones(length), None, 16000, Mask(mask))
    for seed in range(20):
        held_out = hold_out(problem, 0.02, torch.Generator().manual_seed(seed))
        assert not (held_out & ~mask).any()
        share = held_out.sum().item() / mask.sum().item()
        assert 0 < share <= 0.04 or held_out.sum() == 1


def test_the_variance_of_constant_outputs_is_rounding():
    stop = VarianceStop(Problem(clean_clip(), None, 16000), 1000, None, None)
    values = follow(stop, [1e5 * clean_clip(), *[clean_clip()] * (4 * WINDOW)])
    assert list(values.values())[-1] == pytest.approx(1e-6, rel=1e-3)


def test_the_memory_of_the_variance_does_not_depend_on_the_length():
    """A subset of the samples gives the same value."""
    clip = torch.randn(200_000)
    outputs = [torch.randn(200_000) + 3 * clip for _ in range(WINDOW)]
    stop = VarianceStop(Problem(clip, None, 16000), 1000, None, None)
    values = follow(stop, outputs)
    latest = torch.stack(outputs)
    expected = latest.var(dim=0, correction=0).mean() / latest.mean(dim=0).square().mean()
    assert values[WINDOW] == pytest.approx(expected.item(), rel=0.02)
    assert stop._outputs.numel() <= WINDOW * 32768


def test_the_last_epoch_is_not_one_that_diverged():
    stop = LastEpoch(None)
    good, bad = (torch.tensor(loss) for loss in (0.5, math.nan))
    for epoch, loss in enumerate((good, good, bad), start=1):
        output = torch.full((10,), float(epoch))
        stop.update(Epoch(epoch, loss, output, output, torch.zeros(1, 1, 4)), {OUTPUT: torch.ones(10)})
    assert stop.epoch == 2


# Closed forms and saved states


def step_of(epoch, output, prediction=None):
    return Epoch(epoch, torch.zeros(()), output, output if prediction is None else prediction, torch.zeros(1, 1, 4))


def test_the_held_out_error_is_smoothed_over_epochs():
    """Errors 1 and 0 relative to the power of the clip: ``0.98 / (0.98 + 1)`` at the second epoch."""
    clip = clean_clip()
    held_out = torch.ones(800, dtype=torch.bool)
    values = follow(HoldoutStop(Problem(clip, None, 16000), held_out, None, None), [torch.zeros(800), clip])
    assert values[1] == pytest.approx(1.0, rel=1e-4)
    assert values[2] == pytest.approx(0.98 / 1.98, rel=1e-4)


def test_the_held_out_error_is_relative_to_the_power_of_the_known_samples():
    mask = torch.arange(800) < 200
    clip = torch.where(mask, 0.5, 0.0)
    held_out = torch.arange(800) < 10
    stop = HoldoutStop(Problem(clip, None, 16000, Mask(mask)), held_out, None, None)
    assert follow(stop, [torch.zeros(800)])[1] == pytest.approx(1.0, rel=1e-4)


def test_the_held_out_error_is_that_of_the_prediction():
    """Compare the prediction of the operator, not the output, after the rough inverse."""
    operator = Convolution(torch.tensor([2.0]))
    clip = clean_clip()
    stop = HoldoutStop(Problem(2 * clip, None, 16000, operator), torch.ones(800, dtype=torch.bool), None, None)
    assert stop.update(step_of(1, torch.zeros(800), 2 * clip), {}).item() == pytest.approx(0.0, abs=1e-6)
    assert stop.update(step_of(2, clip, torch.zeros(800)), {}).item() == pytest.approx(1 / 1.98, rel=1e-4)


@pytest.mark.parametrize("share", [1e-6, 0.001])
def test_at_least_one_sample_is_held_out(share):
    problem = Problem(torch.ones(1000), None, 16000)
    assert hold_out(problem, share, torch.Generator().manual_seed(0)).sum() == 1


def test_the_held_out_runs_have_the_median_length_of_the_gaps():
    mask = torch.ones(20000, dtype=torch.bool)
    for start, length in ((1000, 10), (2000, 20), (3000, 40), (4000, 160), (5000, 200)):
        mask[start : start + length] = False
    problem = Problem(torch.ones(20000), None, 16000, Mask(mask))
    held_out = hold_out(problem, 0.02, torch.Generator().manual_seed(0))
    lengths = [stop - start for start, stop in true_runs(held_out)]
    assert all(length % 40 == 0 for length in lengths)
    assert sum(lengths) == 400  # round(0.02 * 19570) = 391 samples: ten runs of 40


@pytest.mark.parametrize(("likeness", "is_like"), [(0.012, True), (0.008, False)])
def test_outputs_must_have_a_squared_correlation_of_0_01_with_the_clip(likeness, is_like):
    time = torch.arange(800) * (2 * math.pi / 800)
    clip, across = torch.sin(8 * time), torch.sin(13 * time)
    output = math.sqrt(likeness) * clip + math.sqrt(1 - likeness) * across + 3.0  # the offset does not count
    stop = VarianceStop(Problem(clip, None, 16000), 4, None, 1)
    values = follow(stop, [output] * 4)
    assert values == {4: pytest.approx(1e-6 if is_like else 1 / likeness, rel=1e-3)}
    assert stop.is_over(5) == is_like


STOPS = {
    "wmv": lambda problem, generator: VarianceStop(problem, 4, generator, 3),
    "holdout": lambda problem, generator: HoldoutStop(problem, torch.arange(800) % 9 == 0, generator, 3),
    "epochs": lambda problem, generator: LastEpoch(generator),
}


def weighted_steps(generator, outputs):
    """Yield the epochs of a fit; the weights of the generator are the epoch."""
    for step in steps(outputs):
        with torch.no_grad():
            generator.weight.fill_(step.epoch)
        yield step._replace(z=torch.full((1, 1, 4), float(step.epoch)))


@pytest.mark.parametrize("rule", STOPS)
def test_the_weights_of_a_blind_stop_are_those_of_its_epoch(rule):
    generator = torch.nn.Linear(2, 2)
    stop = STOPS[rule](Problem(clean_clip(), None, 16000), generator)
    assert (stop.epoch, stop.estimates, stop.weights.kept) == (None, {}, {})
    outputs = outputs_of([0.3] * 4 + [0.01] * 5 + [2.0] * 6)
    for step in weighted_steps(generator, outputs):
        stop.update(step, {OUTPUT: step.output})
    assert stop.epoch == 15 if rule == "epochs" else 5 <= stop.epoch <= 9
    assert torch.equal(stop.estimates[OUTPUT], outputs[stop.epoch - 1])
    assert (stop.weights.kept["z"] == stop.epoch).all()
    assert (stop.weights.kept["state_dict"]["weight"] == stop.epoch).all()


@pytest.mark.parametrize("resumed_after", [2, 7])
@pytest.mark.parametrize("rule", STOPS)
def test_a_resumed_blind_stop_is_that_of_an_uninterrupted_fit(rule, resumed_after):
    problem, outputs = Problem(clean_clip(), None, 16000), outputs_of([0.3] * 5 + [0.1] * 5 + [0.5] * 5)
    results = []
    for interrupted in (False, True):
        generator = torch.nn.Linear(2, 2)
        stop, values = STOPS[rule](problem, generator), []
        for step in weighted_steps(generator, outputs):
            if interrupted and step.epoch == resumed_after + 1:
                state, stop = copy.deepcopy(stop.state()), STOPS[rule](problem, generator)
                stop.resume(state)
            values.append(stop.update(step, {OUTPUT: step.output, MEAN: step.output + 1}))
        results.append((values, stop.epoch, stop.estimates, stop.weights.kept["z"], stop.is_over(16), stop.is_over(11)))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_a_resumed_blind_stop_without_another_value_keeps_its_estimates():
    stop = VarianceStop(Problem(clean_clip(), None, 16000), 2, None, None)
    follow(stop, outputs_of([0.1, 0.2]))
    resumed = VarianceStop(Problem(clean_clip(), None, 16000), 2, None, None)
    resumed.resume(copy.deepcopy(stop.state()))
    assert resumed.epoch == 2
    torch.testing.assert_close(resumed.estimates, stop.estimates, rtol=0, atol=0)


def test_a_resumed_oracle_stop_keeps_its_best_values_and_weights():
    oracle, _ = watch(outputs_of([1, 0.1, 0.5]), ema=0.0)
    resumed, _ = watch([], ema=0.0)
    resumed.resume(copy.deepcopy(oracle.state()))
    for name in ("si_snr", "psnr"):
        assert (resumed.best[name].epoch, resumed.best[name].value) == (2, oracle.best[name].value)
        assert torch.equal(resumed.best[name].tensors[0], oracle.best[name].tensors[0])
    assert (resumed.weights.kept["z"] == 2).all()


def test_the_oracle_stop_evaluates_nothing_without_a_clean_clip():
    oracle = OracleStop(Problem(clean_clip(), None, 16000), MetricConfig(), torch.nn.Linear(2, 2))
    assert oracle.update(step_of(1, clean_clip()), {OUTPUT: clean_clip()}) == {}
    assert (oracle.best, oracle.weights.kept) == ({}, {})


def test_the_best_values_of_each_estimate_are_its_own():
    """The output is best at the first epoch, the running mean at the last one."""
    outputs = outputs_of([0.2, *[0.4] * 30])
    oracle, rows = watch(outputs, ema=0.9)
    assert oracle.best["si_snr"].epoch == 1
    means = [row["ema_si_snr"].item() for row in rows]
    assert oracle.best["ema_si_snr"].epoch == 1 + means.index(max(means)) > 1
    assert oracle.best["ema_si_snr"].value == max(means)


def test_the_smallest_value_is_best_where_lower_is_better():
    best = Best(higher_is_better=False)
    for epoch, value in enumerate([3.0, 1.0, math.nan, 2.0, 1.0], start=1):
        best.update(torch.tensor(value), epoch, [torch.tensor([value])])
    assert (best.epoch, best.value, best.tensors[0].item()) == (2, 1.0, 1.0)


def test_the_number_of_pending_slow_metrics_is_limited():
    """The oracle stop waits for the oldest value if more than 64 are pending."""
    oracle, _ = watch([], ema=0.0)
    measurement = Measurement("pesq")
    pending = [Pending(epoch) for epoch in range(1, 71)]
    oracle.evaluator.measure = lambda estimate, epoch: [(measurement, pending[epoch - 1])]
    for epoch in range(1, 71):
        oracle.update(step_of(epoch, clean_clip()), {OUTPUT: clean_clip()})
        assert sum(future.is_collected for future in pending) == max(0, epoch - 64)
    pending[6].set_result(None)  # available: collected without a wait
    oracle.update(step_of(1, clean_clip()), {})
    assert sum(future.is_collected for future in pending) == 7
    assert oracle.best["pesq"].epoch == 70
    assert all(future.is_collected for future in pending)


class Pending(Future):
    """A pending metric whose value is its epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch, self.is_collected = epoch, False

    def result(self, timeout=None):
        self.is_collected = True
        return torch.tensor(float(self.epoch))
