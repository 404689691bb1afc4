"""The result of a fit: estimates, their metrics, history and weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dawp.methods.deep_prior.history import History
from dawp.metrics.names import EMA
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
        best: per metric (``si_snr``, ``psnr``, ``pesq``; on the gaps alone ``gap_si_snr``, ``gap_psnr``; of the
            running mean of outputs ``ema_si_snr``, ...) the oracle stop. Empty without a clean clip.
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
        """What result.json holds: numbers and names."""
        best = {
            name: {"value": b.value, "epoch": b.epoch, "gain": b.value - self.input[name.removeprefix(EMA)]}
            for name, b in self.best.items()
        }
        for name in best.keys() & {"pesq", f"{EMA}pesq"}:  # which can be high next to silence
            epoch, there = self.best[name].epoch, self.history.column(name.replace("pesq", "si_snr"))
            best[name]["si_snr"] = there[epoch - 1] if epoch else math.nan
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
            "threads": self.threads,
            "device": self.device,
            "error": self.error,
        }

    def _told(self, judged: Judged) -> dict[str, Any]:
        values = {
            name: {"value": value, "gain": value - self.input[name.removeprefix(EMA)], "epoch": judged.epoch}
            for name, value in judged.values.items()
        }
        return {"epoch": judged.epoch, "metrics": values}
