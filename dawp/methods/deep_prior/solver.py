"""Solve a problem with the deep prior: run the fits, combine and evaluate their estimates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from dawp.config import Config
from dawp.devices import pick_device
from dawp.dsp.blind_highpass import blind_high_pass, power_response
from dawp.dsp.filters import high_pass, remove_rumble
from dawp.dsp.noise import estimate_noise
from dawp.dsp.spectral import SMALLEST_POWER
from dawp.methods import baselines
from dawp.methods.deep_prior.checkpoints import Checkpoints
from dawp.methods.deep_prior.result import BestEstimate, Evaluation, Result
from dawp.methods.deep_prior.single_fit import Bar, OnEpoch, SingleFit
from dawp.methods.deep_prior.stopping.blind import BlindStop
from dawp.metrics.base import OUTPUT, Measurement
from dawp.metrics.evaluator import Evaluator
from dawp.parallel.progress import progress_bar
from dawp.problem import Problem


def solve(
    problem: Problem,
    config: Config,
    repetition: int = 0,
    progress: str | Bar | None = None,
    on_epoch: OnEpoch | None = None,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Fit generators to the problem and keep the best estimates.

    Args:
        problem: the corrupted clip and, for the metrics, its clean version.
        config: task, and settings of generator, fit and metrics.
        repetition: selects the streams of random draws.
        progress: a progress bar to advance by all epochs of all fits, or the title of one on standard error; None for
            no bar.
        on_epoch: called after each epoch of the first fit with the epoch and the history so far.
        checkpoints: where the state of the fits is saved, and loaded from; None to save none.

    Returns:
        The result; if a fit diverged, ``error`` is set and the result has the best estimates before that.

    Raises:
        BadInput: the clip is too short for the generator, the device is not available, or the packages of the
            baselines are not installed.
    """
    device = pick_device(config.fit.device)
    evaluator = Evaluator(problem.to(device), config.metrics)
    corrupted = evaluator.score_corrupted()

    def evaluate(waveform: Tensor, epoch: int | None = None) -> Evaluation:
        return Evaluation(waveform, evaluator.score(waveform.to(device)), epoch)

    others = baselines.run(config.task, problem, config) if config.metrics.baselines else {}

    fitted = _fitted(problem, config)
    with _bar(config.fit.epochs * config.stop.fits, progress) as bar:
        fits = [SingleFit(fitted, config, repetition, 0, checkpoints).run(bar, on_epoch)]
        while len(fits) < config.stop.fits and fits[-1].error is None:
            fits.append(SingleFit(fitted, config, repetition, len(fits), checkpoints).run(bar))
    began = time.perf_counter()
    first = fits[0]
    best = {
        name: BestEstimate(b.value, b.epoch, b.tensors[0] if b.tensors else None)
        for name, b in first.oracle.best.items()
    }
    blind = {name: _evaluate_stop(stop, config, evaluate) for name, stop in first.stops.items() if stop.epoch}
    chosen = [fit.stops[config.stop.stop] for fit in fits]
    restored = None
    if any(stop.epoch for stop in chosen):
        average = torch.stack([_estimate_at(stop, config) for stop in chosen if stop.epoch]).mean(dim=0)
        restored = evaluate(config.stop.estimate_kind.make(fitted, average, config.stop), chosen[0].epoch)
    return Result(
        problem=problem,
        input=corrupted,
        best=best,
        restored=restored,
        blind=blind,
        baselines={name: evaluate(waveform) for name, waveform in others.items()},
        history=first.history,
        generator=(chosen[0].weights or first.oracle.weights).kept,
        seconds=sum(fit.seconds for fit in fits) + time.perf_counter() - began,
        threads=torch.get_num_threads(),
        device=describe(device),
        error=fits[-1].error,
    )


def fit_ahead(
    problem: Problem,
    config: Config,
    repetition: int,
    number: int,
    progress: Bar,
    on_epoch: OnEpoch | None,
    checkpoints: Checkpoints,
) -> None:
    """Run one of the fits of ``solve``, which then loads its result from the checkpoints."""
    SingleFit(_fitted(problem, config), config, repetition, number, checkpoints).run(progress, on_epoch)


def _fitted(problem: Problem, config: Config) -> Problem:
    """Return the problem that the network is fitted to, on the device of the fit."""
    if problem.noise is None:
        filtered = prefilter(problem.observed, problem.sample_rate, config)
        noise = None
        if config.stop.estimate_kind.needs_noise:
            noise = noise_after_prefilter(problem.observed, filtered, problem.sample_rate, config)
        problem = replace(problem, observed=filtered, noise=noise)
    return problem.to(pick_device(config.fit.device))


def prefilter(waveform: Tensor, sample_rate: int, config: Config) -> Tensor:
    """Apply the high-pass of ``--highpass`` to a waveform ``[T]``."""
    cutoff = config.fit.highpass
    return blind_high_pass(waveform, sample_rate) if cutoff is None else high_pass(waveform, sample_rate, cutoff)


def noise_after_prefilter(waveform: Tensor, filtered: Tensor, sample_rate: int, config: Config) -> Tensor:
    """Estimate the noise of a waveform after ``prefilter``.

    Args:
        waveform: ``[T]``.
        filtered: the output of ``prefilter`` ``[T]``.
        sample_rate: in Hz.
        config: all settings.

    Returns:
        Power in each bin of ``spectral.analyse(filtered, sample_rate)``, ``[bins, frames]``.
    """
    before = remove_rumble(waveform, sample_rate) if config.fit.highpass is None else filtered
    noise = power_response(before, filtered, sample_rate) * estimate_noise(before, sample_rate)
    return torch.from_numpy(noise).clamp(min=SMALLEST_POWER)


def restore_without_fit(problem: Problem, config: Config) -> Tensor | None:
    """Return the estimate ``[T]`` of a clip that needs no fit; None if it has to be fitted."""
    return config.stop.estimate_kind.make_without_fit(problem, config.stop)


def _estimate_at(stop: BlindStop, config: Config) -> Tensor:
    """Return the estimate at the epoch of a stop that the chosen estimate uses."""
    estimates = stop.estimates
    return estimates.get(config.stop.estimate_kind.source, estimates[OUTPUT])


def _evaluate_stop(stop: BlindStop, config: Config, evaluate: Callable[[Tensor], Evaluation]) -> Evaluation:
    """Return the estimate at a stop, with the metrics of the output and of the running mean."""
    values = {
        replace(Measurement.parse(name), estimate=kind).name: value
        for kind, estimate in stop.estimates.items()
        for name, value in evaluate(estimate).values.items()
    }
    return Evaluation(_estimate_at(stop, config), values, stop.epoch)


@contextmanager
def _bar(epochs: int, progress: str | Bar | None) -> Iterator[Bar]:
    """Yield the given bar, which stays open, or a new one."""
    if progress is not None and not isinstance(progress, str):
        yield progress
        return
    with progress_bar(epochs, progress) as bar:
        yield bar


def describe(device: torch.device) -> str:
    """Return a device as text: ``cpu``, or ``cuda:0 (NVIDIA H200)``."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
