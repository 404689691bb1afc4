"""The oracle stop: the best epoch by each metric."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace

from torch import Tensor, nn

from dawp.methods.deep_prior.fit import Epoch
from dawp.methods.deep_prior.stopping.best import Best, BestWeights
from dawp.methods.deep_prior.watcher import State
from dawp.metrics.base import CORRUPTED, MEAN, OUTPUT, Measurement
from dawp.metrics.evaluator import Evaluator
from dawp.metrics.pesq_pool import Measured
from dawp.metrics.settings import MetricConfig
from dawp.problem import Problem

MAX_WAITING = 64  # pending slow metrics; the fit waits if there are more


class OracleStop:
    """The best estimate by each metric against the clean clip: the paper's protocol, which needs the clean clip.

    Each estimate of an epoch has its own best values.

    Args:
        problem: on the fit's device.
        config: which metrics, how often.
        generator: its weights are kept at the best epoch by the first fast metric (SI-SNR by default, on the gaps if
            there are any).
    """

    def __init__(self, problem: Problem, config: MetricConfig, generator: nn.Module) -> None:
        self.evaluator = Evaluator(problem, config)
        measured = self.evaluator.measurements
        self._best = {
            replace(measurement, estimate=estimate).name: Best(measurement.kind.higher_is_better)
            for estimate in ([OUTPUT, MEAN] if config.ema else [OUTPUT])
            for measurement in measured
        }
        self._waiting: deque[tuple[Future[Tensor], str, int, Tensor]] = deque()
        self._problem = problem
        self._against_corrupted = config.show_estimates_vs_noise
        self._decisive = next((one for one in measured if not one.kind.is_slow), None)
        self.weights = BestWeights(generator, self._decisive.kind.higher_is_better if self._decisive else True)

    def update(self, step: Epoch, estimates: Mapping[str, Tensor]) -> dict[str, Measured]:
        """Evaluate one epoch's estimates.

        Returns:
            Each metric of this epoch as a scalar tensor; a slow one, in the epochs it is computed, as a Future.
        """
        values: dict[str, Measured] = {}
        for kind, estimate in estimates.items():
            for measurement, value in self.evaluator.measure(estimate, step.epoch):
                name = replace(measurement, estimate=kind).name
                values[name] = value
                if isinstance(value, Future):
                    self._waiting.append((value, name, step.epoch, estimate))
                else:
                    self._best[name].update(value, step.epoch, [estimate])
        first = values.get(self._decisive.name) if self._decisive else None
        if isinstance(first, Tensor):
            self.weights.update(first, step)
        if self._against_corrupted:
            observed = self._problem.observed
            for metric, value in self.evaluator.compare(estimates[OUTPUT], observed, step.epoch):
                values[Measurement(metric.name, target=CORRUPTED).name] = value
        self._take(MAX_WAITING)
        return values

    @property
    def best(self) -> dict[str, Best]:
        """Return the best so far by the name of each measurement; waits for pending values."""
        self._take(0)
        return self._best

    def state(self) -> State:
        return {"best": {name: best.state() for name, best in self.best.items()}, "weights": self.weights.state()}

    def resume(self, state: State) -> None:
        for name, best in self._best.items():
            best.resume(state["best"][name])
        self.weights.resume(state["weights"])

    def _take(self, most: int) -> None:
        """Collect the available values, and wait until at most ``most`` are pending."""
        while self._waiting and (len(self._waiting) > most or self._waiting[0][0].done()):
            value, name, epoch, estimate = self._waiting.popleft()
            self._best[name].update(value.result(), epoch, [estimate])
