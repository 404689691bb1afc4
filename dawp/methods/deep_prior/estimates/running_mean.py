"""The estimates of each epoch: the output, and the running mean of outputs."""

from __future__ import annotations

import torch
from torch import Tensor

from dawp.methods.deep_prior.fit import Epoch
from dawp.methods.deep_prior.watcher import State
from dawp.metrics.base import MEAN, OUTPUT
from dawp.problem import Problem


class Estimates:
    """The estimates of each epoch: ``OUTPUT``, and the running mean of outputs, ``MEAN``.

    The mean is exponential and bias-corrected; ``ema`` is its decay, 0 for none.
    """

    def __init__(self, problem: Problem, ema: float) -> None:
        self._problem = problem
        self._ema = ema
        self._mean = torch.zeros_like(problem.observed)

    def update(self, step: Epoch) -> dict[str, Tensor]:
        """The estimates ``[T]`` of one epoch, by name."""
        estimates = {OUTPUT: self._problem.estimate(step.output)}
        if self._ema:
            self._mean.lerp_(step.output, 1 - self._ema)
            estimates[MEAN] = self._problem.estimate(self._mean / (1 - self._ema**step.epoch))
        return estimates

    def state(self) -> State:
        return {"mean": self._mean}

    def resume(self, state: State) -> None:
        self._mean = state["mean"]
