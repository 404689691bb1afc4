"""The stopping rule ``epochs``: the last epoch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dawp.methods.deep_prior.fit import Epoch
from dawp.methods.deep_prior.stopping.blind import BlindStop


class LastEpoch(BlindStop):
    """Stops at the last epoch with a finite loss."""

    def __init__(self, generator: nn.Module | None, patience: int | None = None) -> None:
        super().__init__(generator, None)

    def measure(self, step: Epoch) -> Tensor | None:
        return torch.where(step.loss.isfinite(), -float(step.epoch), torch.nan)
