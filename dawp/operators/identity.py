"""The observation is the signal itself."""

from __future__ import annotations

from torch import Tensor

from dawp.operators.base import Operator


class Identity(Operator):
    """``A(x) = x``: the signal with additive noise."""

    def __call__(self, x: Tensor) -> Tensor:
        return x
