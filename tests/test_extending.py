"""Tests of extensions: the examples of docs/extending.md through the command line."""

import json
import os
import re
import subprocess
import sys

import pytest
import soundfile
from conftest import ROOT, TINY_FLAGS, environment, write_sound

from dawp import plugins
from dawp.errors import BadInput

FLAGS = [flag for flag in TINY_FLAGS if flag != "--no_report"]

PARTS = ["--generator", "two_layers", "--two_layers_width", 4, "--stop", "flatness", "--estimate", "half"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run ``python -m dawp`` with the module of the examples, in a folder with one recording."""
    folder = tmp_path_factory.mktemp("extending")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.DOTALL)
    assert len(blocks) == 7
    (folder / "my_parts.py").write_text("\n\n".join(blocks))
    write_sound(folder / "a.wav")
    paths = os.pathsep.join([str(ROOT), str(folder)])
    variables = {**environment(), "PYTHONPATH": paths, plugins.VARIABLE: "my_parts"}

    def call(*flags, **changed):
        command = [sys.executable, "-m", "dawp", *map(str, flags)]
        return subprocess.run(
            command, cwd=folder, env={**variables, **changed}, capture_output=True, text=True, timeout=120
        )

    call.folder = folder
    return call


def test_the_task_is_listed(run):
    done = run("--help")
    assert done.returncode == 0
    assert "  limit " in done.stdout


@pytest.fixture(scope="module")
def experiment(run):
    """Return the folder of an experiment of two repetitions with all parts, in worker processes."""
    count = ("--workers", 2, "--experiment_repetition", 2)
    done = run("limit", *FLAGS, *count, *PARTS, "--source", "a.wav", "--ceiling", 0.05, "--baselines", "--name", "x")
    assert done.returncode == 0, done.stderr
    return run.folder / "evals" / "limit" / "x"


@pytest.mark.slow
def test_the_experiment_runs_in_worker_processes(experiment):
    for repetition in ("000_a", "001_a"):
        result = json.loads((experiment / repetition / "result.json").read_text())
        assert result["corruption"]["ceiling"] == 0.05
        assert list(result["baselines"]) == ["square_root"]
        assert {"distance", "ema_distance"} <= result["best"].keys()
        assert set(result["blind"]) == {"wmv", "flatness"}
    page = (experiment / "report.html").read_text()
    assert all(
        name in page for name in ("limit", "ceiling", "square_root", "Distance (dB)", "flatness", "two_layers_width")
    )


@pytest.mark.slow
def test_all_parts_work_together(experiment, run):
    folder = experiment / "000_a"
    result = json.loads((folder / "result.json").read_text())
    assert "flatness" in result["blind"]
    assert result["best"]["distance"]["value"] > 0
    assert result["best"]["distance"]["gain"] == pytest.approx(
        result["input"]["distance"] - result["best"]["distance"]["value"]
    )
    corrupted, restored = (soundfile.read(folder / f"{name}.wav")[0] for name in ("corrupted", "restored"))
    assert abs(restored - corrupted).max() > 1e-4  # half of the output is in it
    assert 0.04 < abs(corrupted).max() <= 0.05  # the operator limits
    header = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"distance", "flatness"} <= set(header)
    page = (experiment / "report.html").read_text()
    assert all(name in page for name in ("two_layers", "flatness", "Distance (dB)"))
    shown = run("limit", "--help_all").stdout
    assert all(name in shown for name in ("two_layers", "--two_layers_width", "flatness", "half"))


@pytest.mark.slow
def test_the_method_restores_a_file(run):
    done = run("limit", "--restore", "--method", "square_root", "--source", "a.wav", "-o", "b.wav")
    assert done.returncode == 0, done.stderr
    before, after = (soundfile.read(run.folder / name)[0] for name in ("a.wav", "b.wav"))
    peak = abs(before).max()
    expected = peak * (1 - (1 - abs(before) / peak) ** 0.5) * (2 * (before > 0) - 1)
    assert abs(after - expected).max() < 1e-3


@pytest.mark.parametrize("name", ["no_such_module", "my parts", ".", "json,no_such_module"])
def test_a_module_that_cannot_be_imported_is_bad_input(name, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, name)
    with pytest.raises(BadInput, match=plugins.VARIABLE):
        plugins.load()


def test_a_bad_plugin_ends_every_command_with_2(run):
    done = run("limit", "--help", **{plugins.VARIABLE: "no_such_module"})
    assert (done.returncode, done.stdout) == (2, "")
    assert "no_such_module" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("names", ["", " , ", "json, string"])
def test_names_are_separated_by_commas(names, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, names)
    plugins.load()
