"""One problem from beginning to end: build the generator, fit it, watch the fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from dawp.config import Config
from dawp.devices import pick_device
from dawp.dsp.filters import high_pass, remove_rumble
from dawp.methods import baselines
from dawp.methods.deep_prior.checkpoints import Checkpoints
from dawp.methods.deep_prior.result import BestEstimate, Judged, Result
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
        problem: the corrupted clip and, for the metrics, its clean one.
        config: task, and settings of generator, fit and metrics.
        repetition: which of the seed's streams of random draws to use.
        progress: a progress bar to move on by all epochs of all fits, or the title of one on standard error; None for
            no bar.
        on_epoch: called after each epoch of the first fit with the epoch and the history so far.
        checkpoints: where the state of the fits is kept, and taken up if it is there; None to keep none.

    Returns:
        The result; with ``error`` set and the best so far if a fit diverged.

    Raises:
        BadInput: the clip is too short for the generator, the device is not there, or the packages of the baselines
            are not installed.
    """
    device = pick_device(config.fit.device)
    evaluator = Evaluator(problem.to(device), config.metrics)
    corrupted = evaluator.score_corrupted()

    def measured(waveform: Tensor) -> dict[str, float]:
        return evaluator.score(waveform.to(device))

    others = baselines.run(config.task, problem) if config.metrics.baselines else {}

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
    chosen = config.stop.stop
    blind = {name: _at_stop(stop, config, measured) for name, stop in first.stops.items() if stop.epoch}
    at_stop = [_taken(fit.stops[chosen], config) for fit in fits if fit.stops[chosen].epoch]
    restored = None
    if at_stop:
        waveform = config.stop.estimate_kind.make(fitted, torch.stack(at_stop).mean(dim=0), config.stop)
        restored = Judged(waveform, measured(waveform), first.stops[chosen].epoch)
    return Result(
        problem=problem,
        input=corrupted,
        best=best,
        restored=restored,
        blind=blind,
        baselines={name: Judged(waveform, measured(waveform)) for name, waveform in others.items()},
        history=first.history,
        generator=(first.stops[chosen].weights or first.oracle.weights).kept,
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
    """One of the fits that ``solve`` would do one after the other: it finds it among the checkpoints, done."""
    SingleFit(_fitted(problem, config), config, repetition, number, checkpoints).run(progress, on_epoch)


def _fitted(problem: Problem, config: Config) -> Problem:
    """The problem as the network gets it, on its device."""
    if problem.noise is None:
        problem = replace(problem, observed=prefilter(problem.observed, problem.sample_rate, config))
    return problem.to(pick_device(config.fit.device))


def prefilter(waveform: Tensor, sample_rate: int, config: Config) -> Tensor:
    """A waveform ``[T]`` without what ``--highpass`` removes before the fit."""
    cutoff = config.fit.highpass
    return remove_rumble(waveform, sample_rate) if cutoff is None else high_pass(waveform, sample_rate, cutoff)


def restore_without_fit(problem: Problem, config: Config) -> Tensor | None:
    """Return the estimate ``[T]`` of a clip that needs no fit; None if it has to be fitted."""
    return config.stop.estimate_kind.make_without_fit(problem, config.stop)


def _taken(stop: BlindStop, config: Config) -> Tensor:
    """The estimate that the settings take at a stop."""
    estimates = stop.estimates
    return estimates.get(config.stop.estimate_kind.source, estimates[OUTPUT])


def _at_stop(stop: BlindStop, config: Config, measured: Callable[[Tensor], dict[str, float]]) -> Judged:
    """What a blind stop takes, with what the metrics say of both estimates then."""
    values = {
        replace(Measurement.parse(name), estimate=kind).name: value
        for kind, then in stop.estimates.items()
        for name, value in measured(then).items()
    }
    return Judged(_taken(stop, config), values, stop.epoch)


@contextmanager
def _bar(epochs: int, progress: str | Bar | None) -> Iterator[Bar]:
    """The caller's bar, left open, or one's own."""
    if progress is not None and not isinstance(progress, str):
        yield progress
        return
    with progress_bar(epochs, progress) as bar:
        yield bar


def describe(device: torch.device) -> str:
    """A device in words: ``cpu``, or ``cuda:0 (NVIDIA H200)``."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
