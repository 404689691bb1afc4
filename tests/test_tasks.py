"""Tests of the registry of tasks and of the settings that each task allows."""

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from conftest import ROOT, TINY, TINY_FLAGS, numbers, write_sound

import dawp
from dawp import cli
from dawp.__main__ import main
from dawp.config import Config
from dawp.errors import BadInput
from dawp.problem import Problem
from dawp.settings import setting
from dawp.tasks.base import TASKS, CorruptionConfig, Task, get_task, make_problem, register

RATE = 16000


def test_the_tasks_of_the_package_are_registered_under_their_names():
    assert list(TASKS) == ["bandwidth", "chain", "declip", "denoise", "dereverb", "inpaint"]
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("name", ["upscale", "", None, ["denoise"]])
def test_an_unknown_task_is_refused_by_name(name):
    with pytest.raises(BadInput, match="task must be one of bandwidth, chain, declip, denoise, dereverb, inpaint, got"):
        get_task(name)
    with pytest.raises(BadInput, match="task must be one of"):
        Config.of(name)


def test_a_name_is_registered_once():
    before = dict(TASKS)
    with pytest.raises(ValueError, match="denoise"):
        register(dataclasses.replace(get_task("inpaint"), name="denoise"))
    assert before == TASKS


@pytest.mark.parametrize("task", TASKS)
def test_each_task_allows_its_estimates_and_no_other(task):
    for estimate in ("output", "mean", "mask"):
        if estimate != "mask" or estimate in get_task(task).estimates:
            assert Config.of(task, estimate=estimate).stop.estimate == estimate
        else:
            with pytest.raises(BadInput, match=f"estimate must be one of .*, got {estimate}"):
                Config.of(task, estimate=estimate)
    assert ("mask" in get_task(task).estimates) == (task == "denoise")


@pytest.mark.parametrize("task", TASKS)
def test_a_corrupted_clip_is_adopted_and_a_clean_one_corrupted(task, speech):
    config = Config.of(task).corruption
    rng = torch.Generator().manual_seed(0)
    made = make_problem(task, speech, None, RATE, config, rng)
    assert made.clean is not None
    assert not torch.equal(made.observed, made.clean)
    damaged = made.observed.clone()
    if config.missing is not None:
        damaged[made.mask.logical_not()] = torch.nan
    adopted = make_problem(task, None, damaged, RATE, config, rng)
    assert adopted.clean is None
    torch.testing.assert_close(adopted.observed, made.observed, rtol=0, atol=0)
    with pytest.raises(BadInput):
        make_problem(task, None, None, RATE, config, rng)


@dataclass(frozen=True)
class CeilingConfig(CorruptionConfig):
    """Ceiling: the amplitude that clean clips are limited to."""

    ceiling: float = setting(0.05, "largest amplitude of the corrupted clip", above=0, at_most=1)

    def label(self) -> str:
        return f"ceiling-{self.ceiling:g}"


def limit(clean, sample_rate, config, rng):
    return Problem(clean.clamp(-config.ceiling, config.ceiling), clean, sample_rate, facts={"ceiling": config.ceiling})


@pytest.fixture
def ceiling():
    """Register a task from outside the package for one test."""
    register(Task("ceiling", "Undo a limiter.", CeilingConfig, limit, presets={"fast": {"epochs": 4}}))
    yield get_task("ceiling")
    del TASKS["ceiling"]


def test_without_a_task_the_tasks_are_listed(ceiling, capsys):
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines if line.startswith("  ")] == [*TASKS]


def test_an_unknown_task_ends_with_2_and_the_names_of_all(capsys):
    for arguments in (["upscale"], ["--epochs", "3", "denoise"], [""]):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert all(name in err for name in TASKS)


def test_the_module_runs_a_task_like_its_entry_script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sound(tmp_path / "a.wav")
    flags = [*TINY_FLAGS, "--source", "a.wav"]
    assert main(["denoise", *flags, "--output_dir", "one"]) == 0
    assert cli.main("denoise", [*flags, "--output_dir", "two"]) == 0
    (one,), (two,) = (tmp_path.glob(f"{folder}/denoise/*") for folder in ("one", "two"))
    assert one.name == two.name
    assert numbers(one) == numbers(two)
    about = json.loads((one / "config.json").read_text())
    assert about["command"] == ["python", "-m", "dawp", "denoise", *flags, "--output_dir", "one"]


def test_bad_flags_are_refused_by_the_tasks_command(capsys):
    assert main(["inpaint", "--gap_ms", "0"]) == 2
    assert "--gap_ms" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["dereverb", "--gap_ms", "5"])
    assert ended.value.code == 2


def test_a_task_from_outside_the_package_is_a_command(ceiling, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sound(tmp_path / "a.wav")
    flags = [flag for flag in TINY_FLAGS if flag != "--no_report"]
    assert main(["ceiling", *flags, "--source", "a.wav", "--ceiling", "0.1", "--name", "x"]) == 0
    run = tmp_path / "evals" / "ceiling" / "x"
    result = json.loads((run / "000_a" / "result.json").read_text())
    assert result["corruption"]["ceiling"] == 0.1
    assert "ceiling" in (run / "report.html").read_text()
    assert main(["ceiling", *TINY_FLAGS, "--source", "a.wav", "--restore", "-o", "b.wav"]) == 0
    assert (tmp_path / "b.wav").exists()
    assert main(["ceiling", "--ceiling", "2"]) == 2
    assert main(["ceiling", "--estimate", "mask"]) == 2
    assert Config.of("ceiling", "fast").fit.epochs == 4


def test_a_task_from_outside_the_package_restores_a_waveform(ceiling, speech):
    observed = speech[:4000].clamp(-0.05, 0.05)
    settings = {name: value for name, value in TINY.items() if name not in ("pesq_every", "workers")}
    restored = dawp.restore(observed, RATE, "ceiling", **settings)
    assert restored.shape == observed.shape
    assert not torch.equal(restored, observed)


@pytest.mark.slow
def test_the_module_runs_in_a_process_of_its_own():
    command = [sys.executable, "-m", "dawp", "upscale"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "python -m dawp: error: task must be one of bandwidth, chain, declip, denoise, dereverb, inpaint, got upscale"
    )
