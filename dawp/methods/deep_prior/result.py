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
        best: the oracle stop by the name of each metric (``si_snr``, ``psnr``, ``pesq``; on the gaps alone
            ``gap_si_snr``, ``gap_psnr``; of the running mean of outputs ``ema_si_snr``, ...). Empty without a clean
            clip.
        restored: the estimate at the blind stop of the settings; None if the fit ended before it had one.
        blind: by name, every blind stop that was watched: its epoch, and each metric of both estimates then.
        baselines: by name, what other methods make of the same clip; empty unless asked for.
        history: every epoch's loss and metrics.
        generator: ``z`` and ``state_dict`` at the oracle SI-SNR epoch (on the gaps, if there are any), or at the
            blind stop without a clean clip.
        seconds: that the fits took with their metrics and whatever ``on_epoch`` did, also before an interruption.
        threads: of the processor that the fit had.
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
            "blind": {name: self._to_dict(judged) for name, judged in self.blind.items()},
            "baselines": {name: self._to_dict(judged) for name, judged in self.baselines.items()},
            "epochs_run": len(self.history.rows),
            "seconds": self.seconds,
            "threads": self.threads,
            "device": self.device,
            "error": self.error,
        }

    def _best_facts(self, name: str, best: BestEstimate) -> dict[str, Any]:
        facts = {"value": best.value, "epoch": best.epoch, "gain": self._gain(name, best.value)}
        check = Measurement.parse(name).check
        if check:
            facts[check.metric] = self.history.column(check.name)[best.epoch - 1] if best.epoch else math.nan
        return facts

    def _to_dict(self, judged: Judged) -> dict[str, Any]:
        values = {
            name: {"value": value, "gain": self._gain(name, value), "epoch": judged.epoch}
            for name, value in judged.values.items()
        }
        return {"epoch": judged.epoch, "metrics": values}

    def _gain(self, name: str, value: float) -> float:
        """Return the improvement of a metric over the corrupted clip; positive is better."""
        measurement = Measurement.parse(name)
        return measurement.kind.gain(value, self.input[measurement.of_output.name])
