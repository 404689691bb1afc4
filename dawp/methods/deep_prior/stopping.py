"""When to stop: watchers of the fit that keep the best estimate so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dawp.methods.deep_prior.fit import Epoch
from dawp.metrics.functions import gap_windows, over_gaps, psnr, si_snr
from dawp.metrics.names import EMA, GAP
from dawp.metrics.pesq_pool import Measured, pesq_later
from dawp.metrics.settings import MetricConfig
from dawp.problem import Problem

State = Mapping[str, Any]
"""What a watcher holds in mid-fit: tensors, not copied, in dicts and lists."""


class Watcher(Protocol):
    """Whatever changes from epoch to epoch of a fit, and goes on with it."""

    def state(self) -> State: ...

    def resume(self, state: State) -> None: ...


SMOOTHING = 0.98  # of the error on held-out samples, from epoch to epoch
WINDOW = 50  # epochs of outputs whose variance is taken
MOST_SAMPLES = 32768  # that it is taken of
MOST_WAITING = 64  # estimates whose PESQ is still to come: beyond that the fit waits for it
SMALLEST_VARIANCE = 1e-6  # relative: less is rounding
LEAST_LIKENESS = 0.01  # squared correlation with the clip: with less nothing is learnt yet
NO_LIKENESS = 1e-12  # less is rounding


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
        on = {device: better.to(device) for device in {tensor.device for tensor in tensors}}
        for kept, tensor in zip(self._kept, tensors, strict=True):
            kept.copy_(torch.where(on[tensor.device], tensor, kept))

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

    def state(self) -> State:
        return {"value": self._value, "epoch": self._epoch, "kept": self._kept}

    def resume(self, state: State) -> None:
        self._value, self._epoch, self._kept = state["value"], state["epoch"], state["kept"]


class BestWeights:
    """The generator's weights and input noise at the epoch with the largest value."""

    def __init__(self, generator: nn.Module) -> None:
        self._generator = generator
        self._best = Best()

    def update(self, value: Tensor, step: Epoch) -> None:
        self._best.update(value, step.epoch, [step.z, *self._generator.state_dict().values()])

    def state(self) -> State:
        return self._best.state()

    def resume(self, state: State) -> None:
        self._best.resume(state)

    @property
    def kept(self) -> dict[str, Tensor | dict[str, Tensor]]:
        """``z`` and ``state_dict``; empty if there was no best."""
        kept = self._best.tensors
        if not kept:
            return {}
        return {"z": kept[0], "state_dict": dict(zip(self._generator.state_dict(), kept[1:], strict=True))}


class Judge:
    """The metrics of a problem's estimates, by its clean clip.

    ``si_snr``, ``psnr`` and ``pesq``; where the problem has gaps before them ``gap_si_snr`` and ``gap_psnr``, on the
    gaps alone. Without a clean clip there are none.

    Args:
        problem: on the device of the estimates.
        config: which variants of the metrics, how often.
    """

    def __init__(self, problem: Problem, config: MetricConfig) -> None:
        self._problem = problem
        self._gaps = [window.to(problem.observed.device) for window in gap_windows(problem.gaps)]
        data_range = config.data_range
        if data_range is None and problem.clean is not None:
            data_range = (problem.clean.max() - problem.clean.min()).item()  # the clip's, also on the gaps
        self._metrics = {
            "si_snr": partial(si_snr, zero_mean=config.zero_mean),
            "psnr": partial(psnr, data_range=data_range),
        }
        self._pesq_every = config.pesq_every
        gap_metrics = [GAP + name for name in self._metrics if self._gaps]
        self.metrics = [] if problem.clean is None else [*gap_metrics, *self._metrics, "pesq"]

    def measure(self, estimate: Tensor, epoch: int = 0) -> Iterator[tuple[str, Measured]]:
        """The metrics of one estimate ``[T]``; PESQ only where ``epoch`` is a multiple of ``pesq_every``."""
        clean = self._problem.clean
        if clean is not None:
            if self._gaps:
                for name, metric in self._metrics.items():
                    yield GAP + name, over_gaps(metric, estimate, clean, self._gaps)
            yield from self.compare(estimate, clean, epoch)

    def compare(self, estimate: Tensor, target: Tensor, epoch: int = 0) -> Iterator[tuple[str, Measured]]:
        """The metrics between an estimate ``[T]`` and any target ``[T]``, over the whole clip."""
        for name, metric in self._metrics.items():
            yield name, metric(estimate, target)
        if epoch % self._pesq_every == 0:
            yield "pesq", pesq_later(estimate, target, self._problem.sample_rate)


class Estimates:
    """The estimates of each epoch: the output, named "", and the running mean of outputs, named ``ema_``.

    The mean is exponential and bias-corrected; ``ema`` is its decay, 0 for none.
    """

    def __init__(self, problem: Problem, ema: float) -> None:
        self._problem = problem
        self._ema = ema
        self._mean = torch.zeros_like(problem.observed)

    def update(self, step: Epoch) -> dict[str, Tensor]:
        """The estimates ``[T]`` of one epoch, by name."""
        estimates = {"": self._problem.estimate(step.output)}
        if self._ema:
            self._mean.lerp_(step.output, 1 - self._ema)
            estimates[EMA] = self._problem.estimate(self._mean / (1 - self._ema**step.epoch))
        return estimates

    def state(self) -> State:
        return {"mean": self._mean}

    def resume(self, state: State) -> None:
        self._mean = state["mean"]


class OracleStop:
    """Per metric the estimate that is best by the clean clip: the paper's protocol, impossible in real life.

    The estimates compete each for itself; the metrics of the running mean have names that begin with ``ema_``.

    Args:
        problem: on the fit's device.
        config: which metrics, how often.
        generator: its weights are kept at the best epoch by the first metric (SI-SNR, on the gaps if there are any).
    """

    def __init__(self, problem: Problem, config: MetricConfig, generator: nn.Module) -> None:
        self.judge = Judge(problem, config)
        estimates = ["", EMA] if config.ema else [""]
        self._best = {prefix + metric: Best() for prefix in estimates for metric in self.judge.metrics}
        self._waiting: deque[tuple[Future[Tensor], str, int, Tensor]] = deque()
        self._problem = problem
        self._against_corrupted = config.show_estimates_vs_noise
        self.weights = BestWeights(generator)

    def update(self, step: Epoch, estimates: Mapping[str, Tensor]) -> dict[str, Measured]:
        """Judge one epoch's estimates.

        Returns:
            Each metric of this epoch as a scalar tensor; PESQ, in the epochs it is computed, as one to come.
        """
        values: dict[str, Measured] = {}
        for prefix, estimate in estimates.items():
            for metric, value in self.judge.measure(estimate, step.epoch):
                values[prefix + metric] = value
                if isinstance(value, Future):
                    self._waiting.append((value, prefix + metric, step.epoch, estimate))
                else:
                    self._best[prefix + metric].update(value, step.epoch, [estimate])
        first = values[self.judge.metrics[0]] if self.judge.metrics else None
        if isinstance(first, Tensor):
            self.weights.update(first, step)
        if self._against_corrupted:
            for metric, value in self.judge.compare(estimates[""], self._problem.observed, step.epoch):
                values[f"{metric}_vs_corrupted"] = value
        self._take(MOST_WAITING)
        return values

    @property
    def best(self) -> dict[str, Best]:
        """The best so far by each metric; waits for what is still to come."""
        self._take(0)
        return self._best

    def state(self) -> State:
        return {"best": {name: best.state() for name, best in self.best.items()}, "weights": self.weights.state()}

    def resume(self, state: State) -> None:
        for name, best in self._best.items():
            best.resume(state["best"][name])
        self.weights.resume(state["weights"])

    def _take(self, most: int) -> None:
        """Take in the values that have come, and wait for others until at most ``most`` are still to come."""
        while self._waiting and (len(self._waiting) > most or self._waiting[0][0].done()):
            value, name, epoch, estimate = self._waiting.popleft()
            self._best[name].update(value.result(), epoch, [estimate])


class BlindStop(ABC):
    """Base of the stops that do without the clean clip: the epoch at which a quantity is smallest.

    Args:
        generator: its weights are kept at that epoch; None for no need of them.
        patience: epochs without a smaller value after which the fit may end; None for never.
    """

    name = ""
    changing: tuple[str, ...] = ()  # the attributes that its measure changes from epoch to epoch

    def __init__(self, generator: nn.Module | None, patience: int | None) -> None:
        self.weights = BestWeights(generator) if generator else None
        self._best = Best()
        self._names: list[str] = []
        self._patience = patience

    def update(self, step: Epoch, estimates: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Look at one epoch; the quantity by the stop's name, if the epoch has one."""
        value = self._measure(step)
        if value is None:
            return {}
        self._names = list(estimates)
        self._best.update(-value, step.epoch, list(estimates.values()))
        if self.weights:
            self.weights.update(-value, step)
        return {self.name: value}

    def is_over(self, epoch: int) -> bool:
        """Whether patience is at its end; makes the host wait for the device."""
        best = self._best.epoch
        return self._patience is not None and best is not None and epoch - best >= self._patience

    @property
    def epoch(self) -> int | None:
        """From 1; None if no epoch had a value."""
        return self._best.epoch

    @property
    def estimates(self) -> dict[str, Tensor]:
        """The estimates of that epoch by name, on the CPU; empty if there was none."""
        return {} if self.epoch is None else dict(zip(self._names, self._best.tensors, strict=True))

    def state(self) -> State:
        weights = self.weights.state() if self.weights else None
        own = {name: getattr(self, name) for name in self.changing}
        return {"best": self._best.state(), "names": self._names, "weights": weights, **own}

    def resume(self, state: State) -> None:
        self._best.resume(state["best"])
        self._names = state["names"]
        if self.weights:
            self.weights.resume(state["weights"])
        for name in self.changing:
            setattr(self, name, state[name])

    @abstractmethod
    def _measure(self, step: Epoch) -> Tensor | None:
        """A scalar on the fit's device, relative to the clip's power; None where there is none yet."""


class HoldoutStop(BlindStop):
    """Stops where the error on held-out samples is smallest.

    The squared error of the predicted clip, smoothed over epochs like the running mean of outputs. The fit cannot
    learn the noise in samples that it does not use, so that the error rises once the output follows the noise.
    """

    name = "holdout"
    changing = ("_smooth",)

    def __init__(self, problem: Problem, held_out: Tensor, generator: nn.Module | None, patience: int | None) -> None:
        super().__init__(generator, patience)
        self._places = held_out.nonzero()[:, 0]
        self._operator = problem.operator
        observed = problem.operator.rough_inverse(problem.observed)
        self._target = observed[self._places]
        counted = observed if problem.mask is None else observed[problem.mask]
        self._scale = counted.square().mean()
        self._smooth = torch.zeros_like(self._scale)

    def _measure(self, step: Epoch) -> Tensor | None:
        error = (
            self._operator.rough_inverse(step.prediction)[self._places] - self._target
        ).square().mean() / self._scale
        self._smooth = torch.lerp(self._smooth, error, 1 - SMOOTHING)
        return self._smooth / (1 - SMOOTHING**step.epoch)


class VarianceStop(BlindStop):
    """Stops where outputs move least: the windowed moving variance (Wang et al. 2023, arXiv:2112.06074, ES-WMV).

    While the signal is learnt the outputs of successive epochs differ, when it is there they settle, and when they
    take up the noise they differ again. The variance over the latest 50 epochs (or all, of a fit with fewer) is
    divided by the power of their mean, since outputs next to silence do not move either. Outputs can also hold still
    before anything is learnt: where the squared correlation of their mean with the clip is below 0.01, its reciprocal
    takes the quotient's place, and patience waits. (In noise of 20 dB more than the signal that goes for good outputs,
    too.) In a long clip some 32,768 samples stand for all.
    """

    name = "wmv"
    changing = ("_outputs", "_sum", "_powers")

    def __init__(self, problem: Problem, epochs: int, generator: nn.Module | None, patience: int | None) -> None:
        super().__init__(generator, patience)
        self._window = min(WINDOW, epochs)
        self._stride = -(-len(problem.observed) // MOST_SAMPLES)
        samples = problem.operator.rough_inverse(problem.observed)[:: self._stride]
        self._outputs = samples.new_zeros(self._window, len(samples))
        self._sum = torch.zeros_like(samples)
        self._powers = samples.new_zeros(self._window)
        counts = torch.ones_like(samples, dtype=torch.bool) if problem.mask is None else problem.mask[:: self._stride]
        self._counted = counts.nonzero()[:, 0]
        self._clip = samples[self._counted] - samples[self._counted].mean()
        is_constant = not self._clip.square().mean() > NO_LIKENESS * samples.square().mean()
        self._least_likeness = 0.0 if is_constant else LEAST_LIKENESS

    def is_over(self, epoch: int) -> bool:
        return super().is_over(epoch) and -self._best.value < 1 / LEAST_LIKENESS

    def _measure(self, step: Epoch) -> Tensor | None:
        place, output = step.epoch % self._window, step.output[:: self._stride]
        self._sum += output - self._outputs[place]
        self._outputs[place] = output
        self._powers[place] = output.square().mean()
        if place == 0:  # what rounding has added up in the meantime
            self._sum = self._outputs.sum(dim=0)
        if step.epoch < self._window:
            return None
        mean = self._sum / self._window
        power_of_mean = mean.square().mean()
        variance = ((self._powers.mean() - power_of_mean) / power_of_mean).clamp_min(SMALLEST_VARIANCE)
        likeness = self._likeness(mean)
        return torch.where(likeness < self._least_likeness, 1 / likeness, variance)

    def _likeness(self, output: Tensor) -> Tensor:
        """Squared correlation with the clip, gaps left out."""
        counted = output[self._counted]
        around_zero = counted - counted.mean()
        powers = around_zero.square().sum() * self._clip.square().sum()
        share = (around_zero @ self._clip).square() / powers.clamp_min(torch.finfo(powers.dtype).tiny)
        return share.clamp_min(NO_LIKENESS)


class LastEpoch(BlindStop):
    """Stops at the last epoch that is run."""

    name = "epochs"

    def __init__(self, generator: nn.Module | None) -> None:
        super().__init__(generator, None)

    def update(self, step: Epoch, estimates: Mapping[str, Tensor]) -> dict[str, Tensor]:
        super().update(step, estimates)
        return {}

    def _measure(self, step: Epoch) -> Tensor | None:
        return torch.where(step.loss.isfinite(), -float(step.epoch), torch.nan)


def hold_out(problem: Problem, share: float, rng: torch.Generator) -> Tensor:
    """Which samples to keep out of the loss, bool ``[T]``: single ones, or stretches like the gaps if there are any.

    Args:
        problem: on the CPU.
        share: of the samples that count; at least one is taken.
        rng: source of the choice.
    """
    counts = torch.ones(len(problem.observed), dtype=torch.bool) if problem.mask is None else problem.mask
    wanted = max(1, round(share * int(counts.sum())))
    # With gaps it is to be told how well such are filled, not single samples between others that are known.
    lengths = sorted(stop - start for start, stop in problem.gaps)
    length = min(lengths[len(lengths) // 2], wanted) if lengths else 1
    while True:
        places = (counts.unfold(0, length, 1).sum(dim=1) == length).nonzero()[:, 0]
        if len(places):
            break
        length = max(1, length // 2)  # no stretch between the gaps is so long
    held = torch.zeros_like(counts)
    for start in places[torch.randperm(len(places), generator=rng)].tolist():
        if wanted < length / 2:
            break
        if not held[start : start + length].any():
            held[start : start + length] = True
            wanted -= length
    return held
