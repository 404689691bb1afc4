"""The registry of tasks, and what each task allows."""

import dataclasses

import pytest
import torch

from dawp.config import Config
from dawp.errors import BadInput
from dawp.tasks.base import TASKS, get_task, make_problem, register

RATE = 16000


def test_the_tasks_of_the_package_are_registered_under_their_names():
    assert list(TASKS) == ["denoise", "dereverb", "inpaint"]
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("name", ["upscale", "", None, ["denoise"]])
def test_an_unknown_task_is_refused_by_name(name):
    with pytest.raises(BadInput, match="task must be one of denoise, dereverb, inpaint, got"):
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
        if estimate in get_task(task).estimates:
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
