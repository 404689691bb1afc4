"""When to stop: watchers of the fit that keep the best estimate so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from dawp.config import MetricConfig
from dawp.fitting import Epoch
from dawp.metrics import pesq, psnr, si_snr
from dawp.problem import Problem

METRICS = ("si_snr", "psnr", "pesq")
EMA = "ema_"  # begins the names of the running mean's metrics


class Best:
    """The largest value so far, its epoch, and copies of the tensors that belonged to it.

    Compares and copies on the tensors' own device, without the host waiting for it. NaN is never best.
    """

    def __init__(self) -> None:
        self._value: Tensor | None = None
        self._epoch: Tensor | None = None
        self._kept: list[Tensor] = []

    def update(self, value: Tensor, epoch: int, tensors: Sequence[Tensor]) -> None:
        """Take ``value`` (a scalar) and copies of ``tensors`` if it is larger than all before."""
        if self._value is None or self._epoch is None:
            self._value = torch.full_like(value, -torch.inf)
            self._epoch = torch.zeros((), dtype=torch.long, device=value.device)
            self._kept = [tensor.clone() for tensor in tensors]
        better = value > self._value
        if better.device.type == "cpu" and not better:
            return
        self._value = torch.where(better, value, self._value)
        self._epoch.masked_fill_(better, epoch)
        for kept, tensor in zip(self._kept, tensors, strict=True):
            kept.copy_(torch.where(better.to(tensor.device), tensor, kept))

    @property
    def epoch(self) -> int | None:
        """Epoch of the best value, from 1; None if there was none."""
        return None if self._epoch is None else int(self._epoch) or None

    @property
    def value(self) -> float:
        return float("nan") if self._value is None or self.epoch is None else float(self._value)

    @property
    def tensors(self) -> list[Tensor]:
        """What was kept, on the CPU; empty if there was no best."""
        return [] if self.epoch is None else [tensor.cpu() for tensor in self._kept]


class OracleStop:
    """Per metric the estimate that is best by the clean clip: the paper's protocol, impossible in real life.

    Two estimates compete, each for itself: the generator's output and, if ``config.ema`` is not 0, the running
    mean of outputs (exponential, bias-corrected), whose metrics have names that begin with ``ema_``.

    Args:
        problem: with its clean clip, on the fit's device.
        config: which metrics, how often.
        generator: its weights at the epoch of the best SI-SNR are kept.
    """

    def __init__(self, problem: Problem, config: MetricConfig, generator: nn.Module) -> None:
        self.problem = problem
        self.config = config
        self.best = {prefix + metric: Best() for prefix in ("", EMA)[: 1 + bool(config.ema)] for metric in METRICS}
        self._generator = generator
        self._generator_best = Best()
        self._mean = torch.zeros_like(problem.observed)

    def update(self, step: Epoch) -> dict[str, Tensor]:
        """Judge one epoch's estimates.

        Returns:
            Each metric of this epoch as a scalar tensor, PESQ on the CPU and only in the epochs it is computed.
        """
        epoch, output = step.epoch, step.output
        values: dict[str, Tensor] = {}
        for prefix, estimate in self._estimates(epoch, output):
            for metric, value in self.measure(estimate, self.problem.clean, epoch):
                values[prefix + metric] = value
                self.best[prefix + metric].update(value, epoch, [estimate])
        state = self._generator.state_dict()
        self._generator_best.update(values["si_snr"], epoch, [step.z, *state.values()])
        if self.config.show_estimates_vs_noise:
            for metric, value in self.measure(output, self.problem.observed, epoch):
                values[f"{metric}_vs_corrupted"] = value
        return values

    def measure(self, estimate: Tensor, target: Tensor, epoch: int = 0) -> Iterator[tuple[str, Tensor]]:
        """The metrics of one estimate ``[T]``; PESQ only where ``epoch`` is a multiple of ``pesq_every``."""
        yield "si_snr", si_snr(estimate, target, self.config.zero_mean)
        yield "psnr", psnr(estimate, target, self.config.data_range)
        if epoch % self.config.pesq_every == 0:
            yield "pesq", pesq(estimate, target, self.problem.sample_rate)

    def generator_state(self) -> dict[str, Tensor | dict[str, Tensor]]:
        """``z`` and ``state_dict`` of the generator at the epoch of the best SI-SNR; empty if there was none."""
        kept = self._generator_best.tensors
        if not kept:
            return {}
        return {"z": kept[0], "state_dict": dict(zip(self._generator.state_dict(), kept[1:], strict=True))}

    def _estimates(self, epoch: int, output: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "", output
        if self.config.ema:
            self._mean.lerp_(output, 1 - self.config.ema)
            yield EMA, self._mean / (1 - self.config.ema**epoch)
