"""One fit of a problem, with its stopping rules and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from dawp.config import Config
from dawp.errors import FitDiverged
from dawp.methods.deep_prior.checkpoints import Checkpoints
from dawp.methods.deep_prior.estimates.running_mean import Estimates
from dawp.methods.deep_prior.fit import Epoch, Fit
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.history import History
from dawp.methods.deep_prior.stopping.base import RULES
from dawp.methods.deep_prior.stopping.blind import BlindStop
from dawp.methods.deep_prior.stopping.holdout import hold_out
from dawp.methods.deep_prior.stopping.oracle import OracleStop
from dawp.methods.deep_prior.watcher import Watcher
from dawp.metrics.base import Measurement
from dawp.metrics.pesq_pool import Measured
from dawp.problem import Problem
from dawp.randomness import seeded

FETCH_EVERY = 50  # epochs whose values are fetched together if fetching makes the host wait for the device

OnEpoch = Callable[[Epoch, History], None]
Bar = Any  # a tqdm bar


@dataclass(frozen=True)
class FitOutcome:
    """A finished fit.

    Attributes:
        oracle: the best epochs by each metric.
        stops: the stopping rules that were watched, by name.
        history: the values of each epoch.
        error: why the fit ended early; None if it did not.
        seconds: of the fit, with its metrics, also before an interruption.
    """

    oracle: OracleStop
    stops: dict[str, BlindStop]
    history: History
    error: str | None
    seconds: float


class SingleFit:
    """One of several fits of a problem, which differ in their random draws.

    Args:
        problem: on the device of the fit.
        config: all settings.
        repetition: selects the streams of random draws.
        number: of the fit, from 0; only the first one is evaluated with the clean clip.
        checkpoints: where its state is saved, and loaded from; None to save none.
    """

    def __init__(
        self, problem: Problem, config: Config, repetition: int, number: int, checkpoints: Checkpoints | None
    ) -> None:
        def draws(purpose: str) -> torch.Generator:
            return seeded(config.fit.seed, f"{purpose} of fit {number}" if number else purpose, repetition)

        self._began = time.perf_counter()
        device = problem.observed.device
        self._checkpoint = checkpoints.of(number, problem, config, repetition) if checkpoints else None
        if number:
            problem = replace(problem, clean=None)
            config = replace(config, metrics=replace(config.metrics, show_estimates_vs_noise=False))
        self._config = config
        generator = build(config.generator, draws("weights"), config.generator_settings).to(device)
        held_out = None
        if config.stop.rule.holds_out:
            held_out = hold_out(problem.to(torch.device("cpu")), config.stop.holdout, draws("holdout")).to(device)
        self._oracle = OracleStop(problem, config.metrics, generator)
        self._stops = self._watched_rules(problem, held_out, generator)
        self._estimates = Estimates(problem, config.metrics.ema)
        self._history = History(1 if device.type == "cpu" else FETCH_EVERY)
        self._watchers: dict[str, Watcher] = {
            **{"oracle": self._oracle, "estimates": self._estimates, "history": self._history},
            **{f"stop {name}": stop for name, stop in self._stops.items()},
        }
        self._fit = Fit(problem, generator, config.fit, draws("input"), held_out)

    def run(self, bar: Bar, on_epoch: OnEpoch | None = None) -> FitOutcome:
        """Run the epochs that are left.

        Args:
            bar: progress bar to advance by the epochs.
            on_epoch: called after each epoch with the epoch and the history so far.
        """
        config, history, error = self._config, self._history, None
        steps: Iterator[Epoch] = iter(self._fit)
        saved = self._checkpoint.load() if self._checkpoint else None
        is_done = saved is not None and saved["fit"] is None
        if saved:
            self._resume(saved)
            bar.skip(len(history.rows))
        if saved and is_done:
            steps, error = iter(()), saved["error"]
        epochs_run = len(history.rows)
        try:
            for step in steps:
                if self._checkpoint and self._checkpoint.is_due and step.epoch > 1:
                    self._checkpoint.save(self._state(fit=self._fit.state()))
                epochs_run = step.epoch
                history.append(self._watch(step))
                if on_epoch:
                    on_epoch(step, history)
                bar.set_postfix(_postfix(history.latest), refresh=False)
                bar.update(1)
                if step.epoch % history.fetch_every == 0 and self._stops[config.stop.stop].is_over(step.epoch):
                    break
        except FitDiverged as diverged:
            error = str(diverged)
        bar.skip(config.fit.epochs - epochs_run)
        history.fetch()  # waits for the device, so that the time includes all its work
        if self._checkpoint and config.stop.fits > 1 and not is_done:
            self._checkpoint.save(self._state(fit=None, error=error))
        return FitOutcome(self._oracle, self._stops, history, error, time.perf_counter() - self._began)

    def _watched_rules(
        self, problem: Problem, held_out: torch.Tensor | None, generator: nn.Module
    ) -> dict[str, BlindStop]:
        """Return the stopping rule of the settings and, if a clean clip evaluates them, the free ones.

        The rule of the settings keeps the weights if there is no oracle to keep them.
        """
        chosen = self._config.stop.stop
        names = [name for name, rule in RULES.items() if name == chosen or (rule.is_free and problem.clean is not None)]
        keeps = {chosen: generator if problem.clean is None else None}
        return {
            name: RULES[name]
            .load()
            .build(problem, self._config, held_out if RULES[name].holds_out else None, keeps.get(name))
            for name in names
        }

    def _watch(self, step: Epoch) -> dict[str, Measured]:
        """Update all watchers, and return the values of an epoch."""
        estimates = self._estimates.update(step)
        values: dict[str, Measured] = {"loss": step.loss, **self._oracle.update(step, estimates)}
        for name, stop in self._stops.items():
            value = stop.update(step, estimates)
            if value is not None and RULES[name].has_curve:
                values[name] = value
        return values

    def _state(self, **more: Any) -> dict[str, Any]:
        seconds = time.perf_counter() - self._began
        return {**{name: watcher.state() for name, watcher in self._watchers.items()}, "seconds": seconds, **more}

    def _resume(self, saved: Mapping[str, Any]) -> None:
        for name, watcher in self._watchers.items():
            watcher.resume(saved[name])
        self._began -= saved["seconds"]
        if saved["fit"] is not None:
            self._fit.resume(saved["fit"])


def _postfix(row: dict[str, float]) -> dict[str, str]:
    """Return the loss and the first metric of an epoch for the progress bar."""
    shown = {"loss": f"{row['loss']:.4f}"} if "loss" in row else {}
    measurement = next((one for one in map(Measurement.parse, row) if one.is_known), None)
    return shown | ({measurement.label: f"{row[measurement.name]:.2f}"} if measurement else {})
