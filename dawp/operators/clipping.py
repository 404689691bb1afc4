"""Clipping."""

from __future__ import annotations

import torch
from torch import Tensor

from dawp.operators.base import Criterion, Operator


class Clipping(Operator):
    """Samples beyond a level are clipped: the observation bounds them from one side.

    A reliable sample is observed as it is. A clipped sample of the signal lies at the observed value or beyond it, so
    the distance of a prediction that does is 0: with the squared error, the squared hinge of Siedenburg, Kowalski and
    Dörfler (Audio declipping with social sparsity, ICASSP 2014, equation 5).

    Args:
        above: bool ``[T]``, True where a sample is clipped from above: the signal is at least the observed value.
        below: bool ``[T]``, True where a sample is clipped from below.
    """

    def __init__(self, above: Tensor, below: Tensor) -> None:
        self.above, self.below = above, below

    def __call__(self, x: Tensor) -> Tensor:
        return x

    @property
    def clipped(self) -> Tensor:
        """Bool ``[T]``, True where a sample is clipped."""
        return self.above | self.below

    @property
    def certain(self) -> Tensor:
        return ~self.clipped

    def project(self, x: Tensor, observed: Tensor) -> Tensor:
        bounded = torch.where(self.above, torch.maximum(x, observed), torch.minimum(x, observed))
        return torch.where(self.clipped, bounded, observed)

    def distance(
        self, prediction: Tensor, observed: Tensor, criterion: Criterion, weight: Tensor | None = None
    ) -> Tensor:
        return super().distance(prediction, self.project(prediction.detach(), observed), criterion, weight)
