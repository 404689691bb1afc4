"""One problem from beginning to end: build the generator, fit it, watch the fit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dawp.config import Config
from dawp.devices import pick_device
from dawp.dsp.filters import high_pass, remove_rumble
from dawp.dsp.noise import estimate_noise, track_noise
from dawp.dsp.spectral import analyse, frame_hop, mask
from dawp.errors import FitDiverged
from dawp.methods import baselines
from dawp.methods.deep_prior.checkpoints import Checkpoints
from dawp.methods.deep_prior.fit import Epoch, Fit
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.history import History
from dawp.methods.deep_prior.result import BestEstimate, Judged, Result
from dawp.methods.deep_prior.stopping import (
    BlindStop,
    Estimates,
    HoldoutStop,
    Judge,
    LastEpoch,
    OracleStop,
    VarianceStop,
    Watcher,
    hold_out,
)
from dawp.metrics.functions import NoPesq, pesq
from dawp.metrics.names import EMA
from dawp.metrics.pesq_pool import now
from dawp.metrics.summary import LABELS
from dawp.parallel.progress import progress_bar
from dawp.problem import Problem
from dawp.randomness import seeded

log = logging.getLogger(__name__)

MAX_NOISE_WITHOUT_FIT = 10 ** (-25 / 10)  # power relative to the clip's
FETCH_EVERY = 50  # epochs whose values are fetched together where fetching makes the host wait for the device


OnEpoch = Callable[[Epoch, History], None]
Bar = Any  # a tqdm bar


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
    judge = Judge(problem.to(device), config.metrics)

    def measured(waveform: Tensor) -> dict[str, float]:
        return {name: float(now(value)) for name, value in judge.measure(waveform.to(device))}

    corrupted = measured(problem.observed)
    _warn_of_nan(problem)
    others = baselines.run(config.task, problem) if config.metrics.baselines else {}

    fitted = _fitted(problem, config)
    with _bar(config.fit.epochs * config.stop.fits, progress) as bar:
        fits = [_fit_once(fitted, config, repetition, 0, bar, on_epoch, checkpoints)]
        while len(fits) < config.stop.fits and fits[-1].error is None:
            fits.append(_fit_once(fitted, config, repetition, len(fits), bar, None, checkpoints))
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
        waveform = torch.stack(at_stop).mean(dim=0)
        if config.stop.estimate == "mask":
            waveform = _masked(fitted, waveform, config)
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
    _fit_once(_fitted(problem, config), config, repetition, number, progress, on_epoch, checkpoints)


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
    """The estimate ``[T]`` of a clip with so little noise that a network adds nothing to the spectral gain.

    Args:
        problem: with its noise.
        config: all settings.

    Returns:
        None if the clip has to be fitted.
    """
    if config.stop.estimate != "mask" or problem.noise is None:
        return None
    power = np.abs(analyse(problem.observed, problem.sample_rate)) ** 2
    if problem.noise.sum() > MAX_NOISE_WITHOUT_FIT * power.sum():
        return None
    noise = problem.noise.numpy()
    return mask(problem.observed, problem.observed, problem.sample_rate, config.stop.mask_floor, noise, noise)


def _masked(fitted: Problem, output: Tensor, config: Config) -> Tensor:
    """The estimate ``[T]`` that a spectral gain makes of a noisy clip and an output for it."""
    rate = fitted.sample_rate
    observed = fitted.observed.cpu()
    noise = estimate_noise(observed, rate) if fitted.noise is None else fitted.noise.numpy()
    frame_seconds = frame_hop(len(output), rate) / rate
    noise_of_output = track_noise(np.abs(analyse(output, rate)) ** 2, frame_seconds)
    return mask(observed, output.cpu(), rate, config.stop.mask_floor, noise, noise_of_output)


@dataclass(frozen=True)
class _FitDone:
    """A fit that is over: its watchers, what it measured, why it ended early, if it did, and the time it took."""

    oracle: OracleStop
    stops: dict[str, BlindStop]
    history: History
    error: str | None
    seconds: float


def _fit_once(
    problem: Problem,
    config: Config,
    repetition: int,
    number: int,
    bar: Bar,
    on_epoch: OnEpoch | None,
    checkpoints: Checkpoints | None,
) -> _FitDone:
    """One fit from its own first weights: of several on the same clip the first is recorded and judged."""

    def draws(purpose: str) -> torch.Generator:
        return seeded(config.fit.seed, f"{purpose} of fit {number}" if number else purpose, repetition)

    began = time.perf_counter()
    device = problem.observed.device
    checkpoint = checkpoints.of(number, problem, config, repetition) if checkpoints else None
    if number:  # nobody looks at the clean clip in it
        problem = replace(problem, clean=None)
        config = replace(config, metrics=replace(config.metrics, show_estimates_vs_noise=False))
    generator = build(config.generator, draws("weights")).to(device)
    held_out = None
    if config.stop.stop == "holdout":
        held_out = hold_out(problem.to(torch.device("cpu")), config.stop.holdout, draws("holdout")).to(device)
    oracle = OracleStop(problem, config.metrics, generator)
    stops = _blind_stops(problem, held_out, config, generator)
    chosen = stops[config.stop.stop]
    estimates = Estimates(problem, config.metrics.ema)
    history = History(1 if device.type == "cpu" else FETCH_EVERY)
    watchers: dict[str, Watcher] = {"oracle": oracle, "estimates": estimates, "history": history, **stops}
    fit = Fit(problem, generator, config.fit, draws("input"), held_out)
    error, epochs_run, steps = None, 0, iter(fit)

    def state(**more: Any) -> dict[str, Any]:
        seconds = time.perf_counter() - began
        return {**{name: watcher.state() for name, watcher in watchers.items()}, "seconds": seconds, **more}

    before = checkpoint.load() if checkpoint else None
    if before:
        for name, watcher in watchers.items():
            watcher.resume(before[name])
        began -= before["seconds"]
        epochs_run = len(history.rows)
        bar.skip(epochs_run)
        if before["fit"] is None:  # it is over
            steps, error = iter(()), before["error"]
        else:
            fit.resume(before["fit"])
    try:
        for step in steps:
            if checkpoint and checkpoint.is_due and step.epoch > 1:
                checkpoint.save(state(fit=fit.state()))
            epochs_run = step.epoch
            current = estimates.update(step)
            values = {"loss": step.loss, **oracle.update(step, current)}
            for stop in stops.values():
                values |= stop.update(step, current)
            history.append(values)
            if on_epoch:
                on_epoch(step, history)
            bar.set_postfix(_postfix(history.latest), refresh=False)
            bar.update(1)
            if step.epoch % history.fetch_every == 0 and chosen.is_over(step.epoch):
                break
    except FitDiverged as diverged:
        error = str(diverged)
    bar.skip(config.fit.epochs - epochs_run)
    history.fetch()  # waits for the device, so that the time has all its work
    if checkpoint and config.stop.fits > 1 and not (before and before["fit"] is None):
        checkpoint.save(state(fit=None, error=error))
    return _FitDone(oracle, stops, history, error, time.perf_counter() - began)


def _blind_stops(
    problem: Problem, held_out: Tensor | None, config: Config, generator: nn.Module
) -> dict[str, BlindStop]:
    """The blind stops to watch, by name: the settings' own, and where a clean clip judges them the one that is free.

    The settings' own keeps the weights where no oracle decides about them.
    """
    patience, own = config.stop.patience, config.stop.stop
    keep = {own: generator if problem.clean is None else None}
    stops: list[BlindStop] = []
    if own == "wmv" or problem.clean is not None:
        stops.append(VarianceStop(problem, config.fit.epochs, keep.get("wmv"), patience))
    if held_out is not None:
        stops.append(HoldoutStop(problem, held_out, keep.get("holdout"), patience))
    if own == "epochs":
        stops.append(LastEpoch(keep.get("epochs")))
    return {stop.name: stop for stop in stops}


def _taken(stop: BlindStop, config: Config) -> Tensor:
    """The estimate that the settings take at a stop."""
    then = stop.estimates
    return then[""] if config.stop.estimate == "output" else then.get(EMA, then[""])


def _at_stop(stop: BlindStop, config: Config, measured: Callable[[Tensor], dict[str, float]]) -> Judged:
    """What a blind stop takes, with what the metrics say of both estimates then."""
    values = {prefix + name: value for prefix, then in stop.estimates.items() for name, value in measured(then).items()}
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


def _postfix(row: dict[str, float]) -> dict[str, str]:
    metric = next((name for name in row if name in LABELS), None)
    shown = {"loss": f"{row['loss']:.4f}"} if "loss" in row else {}
    return shown | ({LABELS[metric]: f"{row[metric]:.2f}"} if metric else {})


def _warn_of_nan(problem: Problem) -> None:
    """Say beforehand which metrics no epoch will have."""
    clean = problem.clean
    if clean is None:
        return
    try:
        pesq(problem.observed, clean, problem.sample_rate, strict=True)
    except NoPesq as reason:
        log.warning("%s: PESQ cannot be computed and counts as NaN: %s", problem.name, reason)
    for start, stop in problem.gaps:
        if stop - start == 1 or not clean[start:stop].any():
            why = "is one sample long" if stop - start == 1 else "has a silent clean clip"
            at = start / problem.sample_rate
            log.warning("%s: the gap at %.4f s %s: gap SI-SNR counts as NaN", problem.name, at, why)
            break
