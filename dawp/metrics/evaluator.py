"""The metrics of the estimates of one problem."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from math import nan

from torch import Tensor

from dawp.errors import printable
from dawp.metrics import base
from dawp.metrics.base import CLIP, GAPS, Measurement, Metric, UndefinedMetric
from dawp.metrics.functions import gap_windows, over_gaps
from dawp.metrics.pesq_pool import Measured, compute, compute_later, resolve
from dawp.metrics.settings import MetricConfig
from dawp.problem import Problem

log = logging.getLogger(__name__)


class Evaluator:
    """Computes the metrics of estimates, by comparison with the clean clip.

    Attributes:
        measurements: the measurements to make; empty without a clean clip.

    Args:
        problem: on the device of the estimates.
        config: which metrics and variants of them, how often.
    """

    def __init__(self, problem: Problem, config: MetricConfig) -> None:
        self._problem, self._pesq_every = problem, config.pesq_every
        self._gaps = [window.to(problem.observed.device) for window in gap_windows(problem.gaps)]
        self._metrics = {name: base.METRICS[name] for name in config.names}
        fast = {name: metric for name, metric in self._metrics.items() if not metric.is_slow}
        self._functions = {name: metric.bind(problem, config) for name, metric in fast.items()}
        self.measurements = [] if problem.clean is None else base.measurements(bool(problem.gaps), config.names)

    def measure(self, estimate: Tensor, epoch: int = 0) -> Iterator[tuple[Measurement, Measured]]:
        """Yield the metrics of one estimate ``[T]``; slow ones only if ``epoch`` is a multiple of ``pesq_every``."""
        clean = self._problem.clean
        for measurement in self.measurements:
            if clean is not None and self._is_due(measurement.kind, epoch):
                yield measurement, self._compute(measurement, estimate, clean)

    def compare(self, estimate: Tensor, target: Tensor, epoch: int = 0) -> Iterator[tuple[Metric, Measured]]:
        """Yield the metrics of an estimate ``[T]`` and any target ``[T]``, over the whole clip."""
        for name, metric in self._metrics.items():
            if self._is_due(metric, epoch):
                yield metric, self._compute(Measurement(name), estimate, target)

    def score(self, estimate: Tensor) -> dict[str, float]:
        """Return all metrics of one estimate ``[T]``, by name."""
        return {measurement.name: float(resolve(value)) for measurement, value in list(self.measure(estimate))}

    def score_corrupted(self) -> dict[str, float]:
        """Return all metrics of the corrupted clip, and log a warning for those that no estimate will have."""
        observed, clean, rate = self._problem.observed, self._problem.clean, self._problem.sample_rate
        values: dict[str, float] = {}
        if clean is None:
            return values
        self._warn_of_undefined(clean)
        for measurement in self.measurements:
            if not measurement.kind.is_slow:
                values[measurement.name] = float(resolve(self._compute(measurement, observed, clean)))
                continue
            try:
                values[measurement.name] = compute(measurement.kind, observed, clean, rate)
            except UndefinedMetric as reason:
                self._warn(f"{measurement.title} cannot be computed, its value is NaN: {reason}")
                values[measurement.name] = nan
        return values

    def _is_due(self, metric: Metric, epoch: int) -> bool:
        return not metric.is_slow or epoch % self._pesq_every == 0

    def _compute(self, measurement: Measurement, estimate: Tensor, target: Tensor) -> Measured:
        if measurement.kind.is_slow:
            return compute_later(measurement.kind, estimate, target, self._problem.sample_rate)
        function = self._functions[measurement.metric]
        return (
            over_gaps(function, estimate, target, self._gaps)
            if measurement.region == GAPS
            else function(estimate, target)
        )

    def _warn_of_undefined(self, clean: Tensor) -> None:
        """Log a warning for each fast metric that is undefined even for the clean clip itself."""
        for measurement in (one for one in self.measurements if not one.kind.is_slow):
            function = self._functions[measurement.metric]
            if measurement.region == CLIP:
                if function(clean, clean).isnan():
                    self._warn(f"{measurement.title} cannot be computed, its value is NaN")
                continue
            for start, stop in self._problem.gaps:
                part = clean[start:stop]
                if function(part, part).isnan():
                    reason = (
                        " is one sample long" if len(part) == 1 else "" if part.any() else " has a silent clean clip"
                    )
                    at = start / self._problem.sample_rate
                    self._warn(f"the gap at {at:.4f} s{reason}: {measurement.title} is NaN")
                    break

    def _warn(self, text: str) -> None:
        log.warning("%s: %s", self._problem.name, printable(text))
