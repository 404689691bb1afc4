"""The best value of a fit so far, with its epoch and tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dawp.methods.deep_prior.fit import Epoch
from dawp.methods.deep_prior.watcher import State


class Best:
    """The best value so far, its epoch, and copies of its tensors.

    Compares and copies on the device of the tensors, without synchronisation. NaN is never best.

    Args:
        higher_is_better: whether the largest value is best, or the smallest.
    """

    def __init__(self, higher_is_better: bool = True) -> None:
        self._higher_is_better = higher_is_better
        self._value: Tensor | None = None
        self._epoch: Tensor | None = None
        self._kept: list[Tensor] = []

    def update(self, value: Tensor, epoch: int, tensors: Sequence[Tensor]) -> None:
        """Keep ``value`` (a scalar) and copies of ``tensors`` if it is better than all before."""
        if self._value is None or self._epoch is None:
            self._value = torch.full_like(value, -torch.inf if self._higher_is_better else torch.inf)
            self._epoch = torch.zeros((), dtype=torch.long, device=value.device)
            self._kept = [tensor.clone() for tensor in tensors]
        better = value > self._value if self._higher_is_better else value < self._value
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
        """Return the kept tensors on the CPU; empty if there was no best value."""
        return [] if self.epoch is None else [tensor.cpu() for tensor in self._kept]

    def state(self) -> State:
        return {"value": self._value, "epoch": self._epoch, "kept": self._kept}

    def resume(self, state: State) -> None:
        self._value, self._epoch, self._kept = state["value"], state["epoch"], state["kept"]


class BestWeights:
    """The generator's weights and input noise at the epoch with the best value."""

    def __init__(self, generator: nn.Module, higher_is_better: bool = True) -> None:
        self._generator = generator
        self._best = Best(higher_is_better)

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
