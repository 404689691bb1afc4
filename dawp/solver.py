"""One problem from beginning to end: build the generator, fit it, watch the fit."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dawp import baselines
from dawp.config import Config
from dawp.errors import FitDiverged
from dawp.files import write_csv
from dawp.fitting import Epoch, fit, pick_device
from dawp.generators import build
from dawp.metrics import NoPesq, pesq
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.stopping import (
    EMA,
    BlindStop,
    Estimates,
    HoldoutStop,
    LastEpoch,
    OracleStop,
    VarianceStop,
    hold_out,
)
from dawp.summary import LABELS, summarise, table

log = logging.getLogger(__name__)

FETCH_EVERY = 50  # epochs whose values are fetched together where fetching makes the host wait for the device


class History:
    """What every epoch measured: one row an epoch, one column a quantity, fetched from the device in batches."""

    def __init__(self, fetch_every: int = 1) -> None:
        self.fetch_every = fetch_every
        self._waiting: list[dict[str, Tensor]] = []
        self._rows: list[dict[str, float]] = []

    def append(self, values: dict[str, Tensor]) -> None:
        self._waiting.append(values)
        if len(self._waiting) >= self.fetch_every:
            self.fetch()

    @property
    def rows(self) -> list[dict[str, float]]:
        """All rows so far; a quantity that an epoch did not measure is not in its row."""
        self.fetch()
        return self._rows

    @property
    def latest(self) -> dict[str, float]:
        """The newest row that is on the host already."""
        return self._rows[-1] if self._rows else {}

    def column(self, name: str) -> list[float]:
        """A quantity over all epochs, NaN where it was not measured."""
        return [row.get(name, float("nan")) for row in self.rows]

    def write(self, path: Path) -> None:
        """Write as CSV, first column ``epoch``; what an epoch did not measure is empty."""
        rows = self.rows
        names = list(dict.fromkeys(name for row in rows for name in row))
        write_csv(
            path,
            ["epoch", *names],
            (
                [epoch, *(format(row[name], ".7g") if name in row else "" for name in names)]
                for epoch, row in enumerate(rows, start=1)
            ),
        )

    def fetch(self) -> None:
        """Bring what still waits on the device to the host."""
        rows: list[dict[str, float]] = [dict.fromkeys(values, 0.0) for values in self._waiting]
        entries = [
            (row, name, value)
            for row, values in zip(rows, self._waiting, strict=True)
            for name, value in values.items()
        ]
        for device in {value.device for _, _, value in entries}:
            here = [entry for entry in entries if entry[2].device == device]
            # One transfer for all the values of a device.
            numbers = torch.stack([value for _, _, value in here]).tolist()
            for (row, name, _), number in zip(here, numbers, strict=True):
                row[name] = number
        self._rows += rows
        self._waiting.clear()


@dataclass(frozen=True)
class BestEstimate:
    """The best estimate by one metric: an oracle stop.

    Attributes:
        value: of the metric; NaN if no epoch had one.
        epoch: from 1; None if no epoch had a value.
        waveform: ``[T]``, on the CPU; None likewise.
    """

    value: float
    epoch: int | None
    waveform: Tensor | None


@dataclass(frozen=True)
class Judged:
    """An estimate that was made without the clean clip, and what the metrics say of it.

    Attributes:
        waveform: ``[T]``, on the CPU.
        values: each metric; empty without a clean clip. Those of a blind stop include the other estimate's.
        epoch: of the fit, from 1; None for a baseline.
    """

    waveform: Tensor
    values: dict[str, float]
    epoch: int | None = None


@dataclass(frozen=True)
class Result:
    """A finished fit.

    Attributes:
        problem: what was fitted, on the CPU.
        input: each metric of the corrupted clip.
        best: per metric (``si_snr``, ``psnr``, ``pesq``; on the gaps alone ``gap_si_snr``, ``gap_psnr``; of the
            running mean of outputs ``ema_si_snr``, ...) the oracle stop. Empty without a clean clip.
        restored: the estimate at the blind stop of the settings; None if the fit ended before it had one.
        blind: by name, every blind stop that was watched: its epoch, and each metric of both estimates then.
        baselines: by name, what other methods make of the same clip; empty unless asked for.
        history: every epoch's loss and metrics.
        generator: ``z`` and ``state_dict`` at the oracle SI-SNR epoch (on the gaps, if there are any), or at the
            blind stop without a clean clip.
        seconds: wall-clock time of the fit with its metrics and whatever ``on_epoch`` did.
        device: where it ran.
        error: why the fit ended early; None if it did not.
    """

    problem: Problem
    input: dict[str, float]
    best: dict[str, BestEstimate]
    restored: Judged | None
    blind: dict[str, Judged]
    baselines: dict[str, Judged]
    history: History
    generator: dict[str, Any]
    seconds: float
    device: str
    error: str | None

    def __str__(self) -> str:
        return table(summarise([self.facts()]))

    def facts(self) -> dict[str, Any]:
        """What result.json holds: numbers and names."""
        best = {
            name: {"value": b.value, "epoch": b.epoch, "gain": b.value - self.input[name.removeprefix(EMA)]}
            for name, b in self.best.items()
        }
        return {
            "sample_rate": self.problem.sample_rate,
            "samples": len(self.problem.observed),
            "corruption": self.problem.facts,
            "input": self.input,
            "best": best,
            "restored": None if self.restored is None else self._told(self.restored),
            "blind": {name: self._told(judged) for name, judged in self.blind.items()},
            "baselines": {name: self._told(judged) for name, judged in self.baselines.items()},
            "epochs_run": len(self.history.rows),
            "seconds": self.seconds,
            "device": self.device,
            "error": self.error,
        }

    def _told(self, judged: Judged) -> dict[str, Any]:
        values = {
            name: {"value": value, "gain": value - self.input[name.removeprefix(EMA)], "epoch": judged.epoch}
            for name, value in judged.values.items()
        }
        return {"epoch": judged.epoch, "metrics": values}


OnEpoch = Callable[[Epoch, History], None]


def solve(
    problem: Problem,
    config: Config,
    repetition: int = 0,
    progress: str | None = None,
    on_epoch: OnEpoch | None = None,
) -> Result:
    """Fit a generator to the problem and keep the best estimates.

    Args:
        problem: the corrupted clip and, for the metrics, its clean one.
        config: task, and settings of generator, fit and metrics.
        repetition: which of the seed's streams of random draws to use.
        progress: title of a progress bar on standard error; None for no bar.
        on_epoch: called after each epoch with the epoch and the history so far.

    Returns:
        The result; with ``error`` set and the best so far if the fit diverged.

    Raises:
        BadInput: the clip is too short for the generator, the device is not there, or the packages of the baselines
            are not installed.
    """
    device = pick_device(config.fit.device)
    seed = config.fit.seed
    generator = build(config.generator, seeded(seed, "weights", repetition)).to(device)
    there = problem.to(device)
    oracle = OracleStop(there, config.metrics, generator)
    estimates = Estimates(there, config.metrics.ema)
    held_out = None
    if config.stop.stop == "holdout":
        held_out = hold_out(problem, config.stop.holdout, seeded(seed, "holdout", repetition)).to(device)
    stops = _blind_stops(there, held_out, config, generator)
    chosen = stops[config.stop.stop]
    history = History(1 if device.type == "cpu" else FETCH_EVERY)
    corrupted = {name: float(value) for name, value in oracle.judge.measure(there.observed)}
    _warn_of_nan(problem)
    others = baselines.run(config.task, problem) if config.metrics.baselines else {}

    error = None
    began = time.perf_counter()
    with _bar(config.fit.epochs, progress) as bar:
        try:
            for step in fit(there, generator, config.fit, seeded(seed, "input", repetition), held_out):
                current = estimates.update(step)
                values = {"loss": step.loss, **oracle.update(step, current)}
                for stop in stops.values():
                    values |= stop.update(step, current)
                history.append(values)
                if on_epoch:
                    on_epoch(step, history)
                bar.set_postfix(_postfix(history.latest), refresh=False)
                bar.update()
                if step.epoch % history.fetch_every == 0 and chosen.is_over(step.epoch):
                    break
        except FitDiverged as diverged:
            error = str(diverged)
    best = {
        name: BestEstimate(b.value, b.epoch, b.tensors[0] if b.tensors else None) for name, b in oracle.best.items()
    }
    history.fetch()  # waits for the device, so that the time below includes all its work
    seconds = time.perf_counter() - began

    def measured(waveform: Tensor) -> dict[str, float]:
        return {name: float(value) for name, value in oracle.judge.measure(waveform.to(device))}

    taken = EMA if config.stop.estimate == "mean" and config.metrics.ema else ""
    blind = {name: _at_stop(stop, taken, measured) for name, stop in stops.items() if stop.epoch}
    restored = None
    if chosen.name in blind:
        then = blind[chosen.name]
        restored = replace(then, values={name: then.values[taken + name] for name in oracle.judge.metrics})
    return Result(
        problem=problem,
        input=corrupted,
        best=best,
        restored=restored,
        blind=blind,
        baselines={name: Judged(waveform, measured(waveform)) for name, waveform in others.items()},
        history=history,
        generator=(chosen.weights or oracle.weights).state(),
        seconds=seconds,
        device=describe(device),
        error=error,
    )


def _blind_stops(
    problem: Problem, held_out: Tensor | None, config: Config, generator: nn.Module
) -> dict[str, BlindStop]:
    """The blind stops to watch, by name; the settings' own keeps the weights where no oracle decides about them."""
    patience, own = config.stop.patience, config.stop.stop
    keep = {own: generator if problem.clean is None else None}
    stops: list[BlindStop] = [VarianceStop(problem, config.fit.epochs, keep.get("wmv"), patience)]
    if held_out is not None:
        stops.append(HoldoutStop(problem, held_out, keep.get("holdout"), patience))
    if own == "epochs":
        stops.append(LastEpoch(keep.get("epochs")))
    return {stop.name: stop for stop in stops}


def _at_stop(stop: BlindStop, taken: str, measured: Callable[[Tensor], dict[str, float]]) -> Judged:
    """The estimate ``taken`` at a blind stop, with what the metrics say of both estimates then."""
    then = stop.estimates
    values = {prefix + name: value for prefix in then for name, value in measured(then[prefix]).items()}
    return Judged(then[taken], values, stop.epoch)


def _bar(epochs: int, title: str | None) -> Any:
    """A progress bar on standard error; without a title none is shown."""
    return tqdm(
        total=epochs,
        desc=title,
        unit="epoch",
        disable=title is None,
        mininterval=0.1 if sys.stderr.isatty() else 10,  # a log file is not to fill up with bars
        dynamic_ncols=True,
    )


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
        log.warning("PESQ cannot be computed for this clip and counts as NaN: %s", reason)
    for start, stop in problem.gaps:
        if stop - start == 1 or not clean[start:stop].any():
            why = "is one sample long" if stop - start == 1 else "has a silent clean clip"
            log.warning("the gap at %.4f s %s: gap SI-SNR counts as NaN", start / problem.sample_rate, why)
            break
