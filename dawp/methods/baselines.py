"""Run the baselines of a task."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from dawp.config import Config
from dawp.errors import BadInput, printable
from dawp.methods import base
from dawp.problem import Problem

log = logging.getLogger(__name__)


def check_installed(task: str) -> None:
    """Check that the packages of a task's baselines are installed.

    Raises:
        BadInput: packages are missing; the message names them.
    """
    base.check_installed(_baselines(task).values(), "baselines need")


def run(task: str, problem: Problem, config: Config | None = None) -> dict[str, Tensor]:
    """Return the estimate ``[T]`` of each baseline of the task, by name; NaN, with a warning, for one that fails.

    Args:
        task: name of the task.
        problem: to solve.
        config: all settings, for the methods that use them.

    Raises:
        BadInput: packages are missing.
    """
    check_installed(task)
    estimates = {}
    for name, method in _baselines(task).items():
        try:
            estimate = method.restore(problem, config)
        except BadInput as error:  # the fit does not depend on it
            log.warning(
                "%s: baseline %s cannot be computed, its values are NaN: %s", problem.name, name, printable(error)
            )
            estimate = torch.full_like(problem.observed, torch.nan)
        estimates[name] = estimate
    return estimates


def _baselines(task: str) -> dict[str, base.Method]:
    return {name: method for name, method in base.METHODS.get(task, {}).items() if method.is_baseline}
