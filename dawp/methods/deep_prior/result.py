"""The result of a fit: estimates, their metrics, history and weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dawp.methods.deep_prior.history import History
from dawp.metrics.base import Measurement
from dawp.metrics.summary import summarise, table
from dawp.problem import Problem


@dataclass(frozen=True)
class BestEstimate:
    """The best estimate by one metric: an oracle stop.

    Attributes:
        value: the metric; NaN if no epoch has a value.
        epoch: from 1; None if no epoch has a value.
        waveform: ``[T]``, on the CPU; None if no epoch has a value.
    """

    value: float
    epoch: int | None
    waveform: Tensor | None


@dataclass(frozen=True)
class Evaluation:
    """An estimate made without the clean clip, and its metrics.

    Attributes:
        waveform: ``[T]``, on the CPU.
        values: each metric; empty without a clean clip. A blind stop has those of the output and of the running mean.
        epoch: of the fit, from 1; None for a baseline.
    """

    waveform: Tensor
    values: dict[str, float]
    epoch: int | None = None


@dataclass(frozen=True)
class Result:
    """The result of the fits of one problem.

    Attributes:
        problem: the problem, on the CPU.
        input: each metric of the corrupted clip.
        best: the oracle stop by the name of each metric (``si_snr``, ``psnr``, ``pesq``; on the gaps alone
            ``gap_si_snr``, ``gap_psnr``; of the running mean of outputs ``ema_si_snr``, ...). Empty without a clean
            clip.
        restored: the estimate at the stop of the chosen rule; None if the fit ended before it.
        blind: by name of each stopping rule, its epoch, and the metrics of both estimates at that epoch.
        baselines: by name of each baseline, its estimate of the same clip; empty without ``--baselines``.
        history: loss and metrics of every epoch.
        generator: ``z`` and ``state_dict`` at the oracle SI-SNR epoch (on the gaps, if there are any), or at the
            blind stop without a clean clip.
        seconds: of the fits, with their metrics and ``on_epoch``, also before an interruption.
        threads: CPU threads of the fit.
        device: of the fit.
        error: why the fit ended early; None if it did not.
    """

    problem: Problem
    input: dict[str, float]
    best: dict[str, BestEstimate]
    restored: Evaluation | None
    blind: dict[str, Evaluation]
    baselines: dict[str, Evaluation]
    history: History
    generator: dict[str, Any]
    seconds: float
    threads: int
    device: str
    error: str | None

    def __str__(self) -> str:
        return table(summarise([self.facts()]))

    def facts(self) -> dict[str, Any]:
        """Return the content of result.json: numbers and names."""
        return {
            "sample_rate": self.problem.sample_rate,
            "samples": len(self.problem.observed),
            "corruption": self.problem.facts,
            "input": self.input,
            "best": {name: self._best_facts(name, best) for name, best in self.best.items()},
            "restored": None if self.restored is None else self._to_dict(self.restored),
            "blind": {name: self._to_dict(evaluation) for name, evaluation in self.blind.items()},
            "baselines": {name: self._to_dict(evaluation) for name, evaluation in self.baselines.items()},
            "epochs_run": len(self.history.rows),
            "seconds": self.seconds,
            "threads": self.threads,
            "device": self.device,
            "error": self.error,
        }

    def _best_facts(self, name: str, best: BestEstimate) -> dict[str, Any]:
        facts = {"value": best.value, "epoch": best.epoch, "gain": self._gain(name, best.value)}
        check = Measurement.parse(name).check
        if check and check.name in self.best:
            facts[check.metric] = self.history.column(check.name)[best.epoch - 1] if best.epoch else math.nan
        return facts

    def _to_dict(self, evaluation: Evaluation) -> dict[str, Any]:
        values = {
            name: {"value": value, "gain": self._gain(name, value), "epoch": evaluation.epoch}
            for name, value in evaluation.values.items()
        }
        return {"epoch": evaluation.epoch, "metrics": values}

    def _gain(self, name: str, value: float) -> float:
        """Return the improvement of a metric over the corrupted clip; positive is better."""
        measurement = Measurement.parse(name)
        return measurement.kind.gain(value, self.input[measurement.of_output.name])
