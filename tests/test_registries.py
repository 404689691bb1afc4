"""Parts that a caller registers, through the command line: one registration each, and every output has them."""

import csv
import json
import math
import re

import pytest
import soundfile
import torch
from conftest import TINY_FLAGS, called, write_sound

import dawp
from dawp.metrics import base as metrics
from dawp.metrics.base import CORRUPTED, GAPS, MEAN, METRICS, Measurement, Metric

FLAGS = [flag for flag in TINY_FLAGS if flag not in ("--no_report", "--no_pictures")]


@pytest.fixture
def command(tmp_path):
    """Run a task on one recording and return its folder, its results by file, and its standard output."""
    write_sound(tmp_path / "a.wav")

    def run(task, *flags):
        arguments = [*FLAGS, "--source", "a.wav", "--clip_length", "0.2", "--name", "x", *map(str, flags)]
        done = called(task, arguments, tmp_path)
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
            "page": re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (folder / "report.html").read_text())),
        }

    return run


@pytest.fixture
def help_of(tmp_path):
    return lambda task="denoise": " ".join(called(task, ["--help"], tmp_path).stdout.split())


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
