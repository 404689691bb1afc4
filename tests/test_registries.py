"""Parts that a caller registers, through the command line: one registration each, and every output has them."""

import csv
import dataclasses
import html
import json
import math
import re
import shutil

import pytest
import soundfile
import torch
from conftest import TINY, TINY_FLAGS, call_main, write_sound

import dawp
from dawp.errors import BadInput
from dawp.methods import base as methods
from dawp.methods.base import METHODS, Method
from dawp.methods.deep_prior.checkpoints import fit_digest
from dawp.methods.deep_prior.estimates import base as estimates
from dawp.methods.deep_prior.estimates.base import ESTIMATES, EstimateKind
from dawp.methods.deep_prior.generators import base as generators
from dawp.methods.deep_prior.generators.base import GENERATORS, GeneratorKind
from dawp.methods.deep_prior.generators.generator import Generator
from dawp.methods.deep_prior.stopping import base as stopping
from dawp.methods.deep_prior.stopping.base import RULES, StopRule
from dawp.methods.deep_prior.stopping.blind import BlindStop
from dawp.methods.deep_prior.stopping.settings import StopConfig
from dawp.metrics import base as metrics
from dawp.metrics.base import CORRUPTED, GAPS, MEAN, METRICS, Measurement, Metric
from dawp.problem import Problem
from dawp.settings import Settings, setting
from dawp.tasks.base import TASKS

FLAGS = [flag for flag in TINY_FLAGS if flag not in ("--no_report", "--no_pictures")]


@pytest.fixture
def command(tmp_path):
    """Run a task on one recording and return its folder, its results by file, and its standard output."""
    write_sound(tmp_path / "a.wav")

    def run(task, *flags):
        arguments = [*FLAGS, "--source", "a.wav", "--clip_length", "0.2", "--name", "x", *map(str, flags)]
        done = call_main(task, arguments, tmp_path)
        assert done.returncode == 0, done.stderr
        folder = tmp_path / "evals" / task / "x"
        repetition = folder / "000_a"
        with (repetition / "metrics.csv").open(newline="") as file:
            columns = {name: [row[name] for row in rows] for rows in [list(csv.DictReader(file))] for name in rows[0]}
        return {
            "folder": repetition,
            "out": done.stdout,
            "columns": columns,
            "result": json.loads((repetition / "result.json").read_text()),
            "summary": json.loads((folder / "summary.json").read_text()),
            "html": html.unescape((folder / "report.html").read_text()),
            "page": re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (folder / "report.html").read_text())),
        }

    return run


@pytest.fixture
def help_of(tmp_path):
    return lambda task="denoise": " ".join(call_main(task, ["--help_all"], tmp_path).stdout.split())


@pytest.fixture
def registered():
    """Register parts for the duration of a test."""
    added = []

    def add(module, registry, part):
        module.register(part)
        added.append((registry, part.name))

    yield add
    for registry, name in added:
        del registry[name]


# Metrics


def distance(estimate, target):
    return (estimate - target).abs().mean(dim=-1)


TOY = Metric("distance", "Distance", distance, higher_is_better=False, on_gaps=True)


@pytest.mark.slow
def test_a_lower_is_better_metric_is_in_every_output(command, help_of, registered):
    registered(metrics, METRICS, TOY)
    found = command("denoise", "--lr", "0.01", "--epochs", 5, "--baselines")
    column = [float(value) for value in found["columns"]["distance"]]
    best = found["result"]["best"]["distance"]
    assert best["value"] == pytest.approx(min(column), rel=1e-5)
    assert best["epoch"] == 1 + column.index(min(column))
    assert best["gain"] == pytest.approx(found["result"]["input"]["distance"] - best["value"])
    assert found["summary"]["metrics"]["ema_distance"]["best"]["count"] == 1
    assert set(found["result"]["baselines"]["wiener"]["metrics"]) >= {"si_snr", "distance"}
    sounds = {name: soundfile.read(found["folder"] / f"{name}.wav")[0] for name in ("best_distance", "clean")}
    assert abs(sounds["best_distance"] - sounds["clean"]).mean() == pytest.approx(best["value"], rel=1e-4)
    assert len(re.findall(r"^  Distance +-?\d", found["out"], re.MULTILINE)) >= 2
    assert f"Distance {found['result']['input']['distance']:.2f} {best['value']:.2f}" in found["page"]
    assert "best (oracle Distance)" in found["page"]
    assert "Distance" in help_of()


@pytest.mark.slow
def test_a_metric_is_computed_on_the_gaps(command, registered):
    registered(metrics, METRICS, TOY)
    found = command("inpaint", "--gap_ms", 5, "--n_gaps", 2)
    best = found["result"]["best"]["gap_distance"]
    assert best["gain"] == pytest.approx(found["result"]["input"]["gap_distance"] - best["value"])
    assert "gap Distance" in found["out"]
    assert (found["folder"] / "best_gap_distance.wav").exists()


@pytest.mark.slow
def test_a_slow_metric_is_computed_in_other_processes(command, registered):
    registered(metrics, METRICS, Metric("level", "Level", "toy_metrics:mean_level", is_slow=True))
    registered(metrics, METRICS, Metric("failing", "Failing", "toy_metrics:fail", is_slow=True))
    found = command("denoise", "--epochs", 4, "--pesq_every", 2)
    column = found["columns"]["level"]
    assert [value == "" for value in column] == [True, False, True, False]
    corrupted = soundfile.read(found["folder"] / "corrupted.wav", dtype="float32")[0]
    assert found["result"]["input"]["level"] == pytest.approx(abs(corrupted).mean() * 16000, rel=1e-4)
    assert found["result"]["best"]["level"]["value"] == pytest.approx(max(float(column[1]), float(column[3])), rel=1e-5)
    assert found["result"]["input"]["failing"] is None
    assert found["result"]["best"]["failing"] == {"value": None, "epoch": None, "gain": None}


def test_the_corrupted_clip_is_evaluated_once(monkeypatch, speech):
    from dawp.metrics import pesq_process

    calls = []
    monkeypatch.setattr(pesq_process, "pesq_score", lambda *of: calls.append(of) or 2.0)
    result = dawp.denoise(speech, epochs=1, depth=1, channels=2, lstm_layers=0, resample=False, pesq_every=5)
    assert len(calls) == 1
    assert result.input["pesq"] == 2.0


@pytest.mark.parametrize("name", ["si_snr", "ema_x", "gap_x", "x_vs_corrupted", "loss", "epoch"])
def test_a_metric_with_a_reserved_name_is_refused(name):
    with pytest.raises(ValueError, match=name):
        metrics.register(Metric(name, "X", distance))
    assert METRICS.get(name) is None or name == "si_snr"


def test_a_slow_metric_needs_the_name_of_its_function():
    with pytest.raises(ValueError, match="x: "):
        Metric("x", "X", distance, is_slow=True)


@pytest.mark.parametrize("region", ["clip", GAPS])
@pytest.mark.parametrize("estimate", ["output", MEAN])
@pytest.mark.parametrize("target", ["clean", CORRUPTED])
@pytest.mark.parametrize("metric", METRICS)
def test_a_measurement_is_found_by_its_name(metric, region, estimate, target):
    measurement = Measurement(metric, region, estimate, target)
    assert Measurement.parse(measurement.name) == measurement
    assert measurement.is_known


def test_the_name_of_an_unknown_metric_is_its_label():
    measurement = Measurement.parse("ema_gap_other")
    assert (measurement.is_known, measurement.label, measurement.name) == (False, "gap other", "ema_gap_other")
    assert measurement.kind.gain(3.0, 1.0) == 2.0


def test_the_gain_of_a_lower_is_better_metric_is_a_decrease():
    assert TOY.gain(1.0, 3.0) == 2.0
    assert math.isnan(TOY.gain(math.nan, 3.0))
    assert torch.equal(distance(torch.ones(2, 3), torch.zeros(2, 3)), torch.ones(2))


# Stopping rules


class LevelStop(BlindStop):
    """Stops where the running minimum of the level of the outputs is smallest; it has a state of its own."""

    changing = ("_seen",)

    def __init__(self, generator, patience):
        super().__init__(generator, patience)
        self._seen = torch.zeros(())

    def measure(self, step):
        self._seen = self._seen + 1
        return (step.output.square().mean() - 1).square() + 0 * self._seen


RULE = StopRule("toy_level", "distance of the level from 1", LevelStop, label="toy level")


@pytest.mark.slow
def test_a_stopping_rule_is_in_every_output(command, help_of, registered):
    registered(stopping, RULES, RULE)
    found = command("denoise", "--stop", "toy_level", "--epochs", 5, "--lr", "0.01")
    column = [float(value) for value in found["columns"]["toy_level"]]
    epoch = 1 + column.index(min(column))
    assert found["result"]["restored"]["epoch"] == epoch
    assert found["result"]["blind"]["toy_level"]["epoch"] == epoch
    assert set(found["result"]["blind"]) == {"wmv", "toy_level"}
    assert found["summary"]["blind"]["toy_level"]["si_snr"]["epoch"]["mean"] == epoch
    assert f"smallest toy level at epoch {epoch}" in found["html"]
    text = help_of()
    assert "toy_level, distance of the level from 1" in text
    assert "toy_level}" in text


@pytest.mark.parametrize(("is_free", "watched"), [(True, {"wmv", "toy_level"}), (False, {"wmv"})])
def test_a_free_rule_is_watched_beside_the_chosen_one(registered, speech, is_free, watched):
    registered(stopping, RULES, dataclasses.replace(RULE, is_free=is_free))
    result = dawp.denoise(speech[:2000], **TINY)
    assert set(result.blind) == watched
    alone = dawp.solve(dataclasses.replace(result.problem, clean=None), dawp.Config.of("denoise", **TINY))
    assert set(alone.blind) == {"wmv"}


def test_the_identity_has_the_settings_of_the_rule(registered):
    registered(stopping, RULES, dataclasses.replace(RULE, holds_out=True, has_patience=False))
    assert StopConfig(stop="toy_level", holdout=0.1).identity()["holdout"] == 0.1
    assert "patience" not in StopConfig(stop="toy_level").identity()


def test_the_patience_of_a_rule_ends_the_fit(registered, speech):
    class FirstEpoch(BlindStop):
        def measure(self, step):
            return torch.tensor(float(step.epoch))

    registered(stopping, RULES, StopRule("first", "first epoch", FirstEpoch))
    result = dawp.denoise(speech[:2000], stop="first", patience=2, **{**TINY, "epochs": 9})
    assert len(result.history.rows) == 3
    assert result.restored.epoch == 1


def test_an_unknown_rule_is_refused_with_the_names_of_all(registered):
    registered(stopping, RULES, RULE)
    with pytest.raises(BadInput, match="stop must be one of wmv, holdout, epochs, toy_level, got other"):
        StopConfig(stop="other")


@pytest.mark.parametrize("name", ["wmv", "si_snr", "loss", "epoch", "ema_pesq"])
def test_a_rule_with_a_reserved_name_is_refused(name):
    before = dict(RULES)
    with pytest.raises(ValueError, match=name):
        stopping.register(dataclasses.replace(RULE, name=name))
    assert before == RULES


def test_a_rule_that_holds_out_samples_is_not_free():
    with pytest.raises(ValueError, match="toy_level"):
        dataclasses.replace(RULE, is_free=True, holds_out=True)


# Estimates


def half(problem, average, config):
    return (average + problem.observed) / 2


HALF = EstimateKind("half", "the mean of estimate and corrupted clip", function=half)


@pytest.mark.slow
def test_a_registered_estimate_is_restored(command, help_of, registered):
    registered(estimates, ESTIMATES, HALF)
    kept = command("denoise", "--estimate", "half", "--epochs", 5, "--lr", "0.01")
    read = {name: soundfile.read(kept["folder"] / f"{name}.wav")[0] for name in ("restored", "corrupted")}
    plain = dawp.Config.of("denoise", estimate="mean")
    assert plain.stop.estimate_kind.source == MEAN
    shutil.rmtree(kept["folder"].parent)
    mean = command("denoise", "--estimate", "mean", "--epochs", 5, "--lr", "0.01")
    expected = (soundfile.read(mean["folder"] / "restored.wav")[0] + read["corrupted"]) / 2
    assert abs(read["restored"] - expected).max() < 1e-6
    assert kept["summary"]["restored"]["si_snr"]["best"]["count"] == 1
    assert "half, the mean of estimate and corrupted clip" in help_of()


@pytest.mark.parametrize("task", TASKS)
def test_tasks_allow_general_estimates_and_those_they_name(task, registered):
    registered(estimates, ESTIMATES, HALF)
    registered(estimates, ESTIMATES, dataclasses.replace(HALF, name="special", all_tasks=False))
    assert dawp.Config.of(task, estimate="half").stop.estimate == "half"
    with pytest.raises(BadInput, match=r"estimate must be one of output, mean, (mask, )?half for the task"):
        dawp.Config.of(task, estimate="special")


def test_the_identity_has_the_settings_of_the_estimate(registered):
    registered(estimates, ESTIMATES, dataclasses.replace(HALF, settings=("mask_floor",)))
    assert "mask_floor" in StopConfig(estimate="half").identity()
    assert "mask_floor" not in StopConfig(estimate="mean").identity()


def test_an_estimate_is_registered_once():
    with pytest.raises(ValueError, match="mean"):
        estimates.register(EstimateKind("mean", "another one"))


# Generators


@dataclasses.dataclass(frozen=True)
class ToyConfig(Settings):
    """Toy: a generator of one convolution."""

    toy_width: int = setting(5, "samples of the kernel", at_least=1, at_most=99)


class ToyGenerator(Generator):
    def __init__(self, config):
        super().__init__()
        self.convolution = torch.nn.Conv1d(1, 1, config.toy_width, padding=config.toy_width // 2)

    def _valid_length(self, length):
        return length

    def _generate(self, z):
        return self.convolution(z)


TOY_GENERATOR = GeneratorKind("toy", "one convolution", ToyGenerator, ToyConfig)


@pytest.mark.slow
def test_a_generator_with_a_setting_of_its_own_is_in_every_output(command, help_of, registered):
    registered(generators, GENERATORS, TOY_GENERATOR)
    found = command("denoise", "--generator", "toy", "--toy_width", 7)
    weights = torch.load(found["folder"] / "generator.pt", weights_only=True)["state_dict"]
    assert weights["convolution.weight"].shape == (1, 1, 7)
    about = json.loads((found["folder"].parent / "config.json").read_text())
    assert about["settings"]["generator_toy"] == {"toy_width": 7}
    assert about["identity"]["generator"] == "toy"
    assert about["identity"]["toy_width"] == 7
    assert not {"depth", "waveunet_levels"} & about["identity"].keys()
    assert "--toy_width 7" in found["page"]
    text = help_of()
    assert "toy, one convolution" in text
    assert "--toy_width INT samples of the kernel (default: 5)" in text


def test_a_generator_restores(registered, speech):
    registered(generators, GENERATORS, TOY_GENERATOR)
    noisy = speech[:4000] + 0.1 * torch.randn(4000)
    restored = [
        dawp.restore(noisy, generator="toy", toy_width=width, epochs=2, device="cpu", stop="epochs") for width in (3, 9)
    ]
    assert restored[0].shape == (4000,)
    assert not torch.equal(*restored)


def test_only_the_settings_of_the_chosen_generator_are_effective(registered):
    before = dawp.Config.of("denoise").effective()
    registered(generators, GENERATORS, TOY_GENERATOR)
    assert dawp.Config.of("denoise").effective() == before
    assert dawp.Config.of("denoise", toy_width=9).effective() == before
    toy = dawp.Config.of("denoise", generator="toy", toy_width=9).effective()
    assert toy["toy_width"] == 9
    assert "channels" not in toy
    restored = dawp.Config.of("denoise", restore=True, generator="toy", toy_width=9).effective()
    assert restored["toy_width"] == 9
    with pytest.raises(BadInput, match="toy_width must be a whole number at least 1 and at most 99, got 100"):
        dawp.Config.of("denoise", toy_width=100)


def test_checkpoints_depend_on_the_settings_of_the_generator(registered, speech):
    registered(generators, GENERATORS, TOY_GENERATOR)
    problem = Problem(speech, None, 16000)
    configs = [dawp.Config.of("denoise", generator="toy", toy_width=width) for width in (3, 5, 5)]
    digests = [fit_digest(problem, config, 0) for config in configs]
    assert digests[0] != digests[1] == digests[2]


def test_settings_of_two_generators_have_different_names(registered):
    @dataclasses.dataclass(frozen=True)
    class Clash(Settings):
        """Clash: a setting that exists."""

        channels: int = setting(1, "channels", at_least=1)

    registered(generators, GENERATORS, GeneratorKind("clash", "a clash", ToyGenerator, Clash))
    with pytest.raises(ValueError, match="channels"):
        dawp.Config.of("denoise")


def test_a_generator_is_registered_once():
    with pytest.raises(ValueError, match="demucs"):
        generators.register(dataclasses.replace(TOY_GENERATOR, name="demucs"))


# Methods


@dataclasses.dataclass(frozen=True)
class GainConfig(Settings):
    """Gain: the method of that name."""

    toy_gain: float | None = setting(None, "factor of the samples", at_most=10, none="required by the method")

    def check_use(self):
        if self.toy_gain is None:
            raise BadInput("toy_gain must be a number for method toy, got none")


def amplify(problem, config):
    return problem.observed * config.group(GainConfig).toy_gain


TOY_METHOD = Method(
    "toy", "denoise", amplify, is_baseline=False, uses_config=True, groups={"toy": GainConfig}, uses=("seed",)
)


def test_a_method_with_settings_of_its_own_restores(registered, tmp_path):
    registered(methods, METHODS["denoise"], TOY_METHOD)
    write_sound(tmp_path / "a.wav")
    flags = ["a.wav", "--restore", "-o", "b.wav", "--method", "toy", "--hum", "none"]
    refused = call_main("denoise", flags, tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    done = call_main("denoise", [*flags, "--toy_gain", "0.5"], tmp_path)
    assert done.returncode == 0, done.stderr
    before, after = (soundfile.read(tmp_path / name)[0] for name in ("a.wav", "b.wav"))
    assert abs(after - before / 2).max() < 1e-3
    settings = json.loads((tmp_path / "b.wav.json").read_text())["settings"]
    assert (settings["toy_gain"], "seed" in settings, "device" in settings) == (0.5, True, False)


def test_the_settings_of_a_method_are_effective_where_it_is_used(registered, help_of):
    before = dawp.Config.of("denoise").effective(), dawp.Config.of("declip", restore=True).effective()
    registered(methods, METHODS["denoise"], TOY_METHOD)
    after = dawp.Config.of("denoise", toy_gain=2).effective(), dawp.Config.of("declip", restore=True).effective()
    assert before == after
    used = dawp.Config.of("denoise", restore=True, method="toy", toy_gain=2)
    assert used.effective()["toy_gain"] == 2
    assert used.groups["toy"] == used.group(GainConfig) == GainConfig(2)
    assert "toy_gain" not in dawp.Config.of("denoise", restore=True, toy_gain=2).effective()
    assert "--toy_gain FLOAT factor of the samples" in help_of()


def test_groups_of_settings_of_two_methods_have_different_names(registered):
    registered(methods, METHODS["denoise"], dataclasses.replace(TOY_METHOD, groups={"trained": GainConfig}))
    with pytest.raises(ValueError, match="trained"):
        dawp.Config.of("denoise")
