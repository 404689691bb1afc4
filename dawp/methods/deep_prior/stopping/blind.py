"""The base class of stopping rules, which do not use the clean clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from dawp.config import Config
from dawp.methods.deep_prior.fit import Epoch
from dawp.methods.deep_prior.stopping.best import Best, BestWeights
from dawp.methods.deep_prior.watcher import State
from dawp.problem import Problem


class BlindStop(ABC):
    """Base of the stopping rules: keeps the estimates of the epoch at which a quantity is smallest.

    A subclass implements ``measure``. Attributes that ``measure`` changes are named in ``changing``, so that an
    interrupted fit resumes with them.

    Args:
        generator: its weights are kept at that epoch; None to keep none.
        patience: epochs without a smaller value after which the fit may end; None for never.
    """

    changing: tuple[str, ...] = ()

    def __init__(self, generator: nn.Module | None, patience: int | None) -> None:
        self.weights = BestWeights(generator, higher_is_better=False) if generator else None
        self._best = Best(higher_is_better=False)
        self._names: list[str] = []
        self._patience = patience

    @classmethod
    def build(cls, problem: Problem, config: Config, held_out: Tensor | None, generator: nn.Module | None) -> BlindStop:
        """Return the watcher of a fit; a subclass with other arguments overrides it.

        Args:
            problem: on the device of the fit.
            config: all settings.
            held_out: bool ``[T]``, samples excluded from the loss; None unless the rule holds out samples.
            generator: whose weights are kept; None to keep none.
        """
        return cls(generator, config.stop.patience)

    def update(self, step: Epoch, estimates: Mapping[str, Tensor]) -> Tensor | None:
        """Watch one epoch, and return the value for metrics.csv, if the epoch has one."""
        value = self.measure(step)
        if value is None:
            return None
        self._names = list(estimates)
        self._best.update(value, step.epoch, list(estimates.values()))
        if self.weights:
            self.weights.update(value, step)
        return value

    def is_over(self, epoch: int) -> bool:
        """Whether the fit may end; makes the host wait for the device."""
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
        changing = {name: getattr(self, name) for name in self.changing}
        return {"best": self._best.state(), "names": self._names, "weights": weights, **changing}

    def resume(self, state: State) -> None:
        self._best.resume(state["best"])
        self._names = state["names"]
        if self.weights:
            self.weights.resume(state["weights"])
        for name in self.changing:
            setattr(self, name, state[name])

    @abstractmethod
    def measure(self, step: Epoch) -> Tensor | None:
        """Return the quantity, a scalar on the device of the fit; None if the epoch has none."""
