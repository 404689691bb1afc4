"""Missing samples."""

from __future__ import annotations

import torch
from torch import Tensor

from dawp.operators.base import Operator


class Mask(Operator):
    """``A(x) = M x`` with a binary mask M: samples outside the mask are missing.

    Args:
        known: M, bool ``[T]``, False for missing samples.
    """

    def __init__(self, known: Tensor) -> None:
        self._known = known

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(self._known, x, 0)

    @property
    def known(self) -> Tensor:
        return self._known

    @property
    def certain(self) -> Tensor:
        return self._known
