"""The base class of forward models."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

Criterion = Callable[..., Tensor]
"""Error of each sample, as ``torch.nn.functional.l1_loss``: ``criterion(prediction, observed, reduction="none")``."""


class Operator(ABC):
    """The forward model A of an observation ``y = A(x) + noise``.

    A maps ``input_length(T)`` samples to T. A subclass must define ``__call__``. By default the signal and the
    observation have the same length, and all samples are known. Store tensors as attributes of the operator.
    """

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Return A(x), differentiable with respect to x.

        Args:
            x: ``[input_length(T)]``.

        Returns:
            ``[T]``.
        """

    @property
    def known(self) -> Tensor | None:
        """Bool ``[T]``, True where an observed sample depends on x; None if all do."""
        return None

    @property
    def certain(self) -> Tensor | None:
        """Bool ``[T]``, True where an observed sample is that of x; None if there are none."""
        return None

    def input_length(self, length: int) -> int:
        """Return the number of samples of x for ``length`` observed samples."""
        return length

    def crop(self, x: Tensor) -> Tensor:
        """Return the samples ``[T]`` of x ``[input_length(T)]`` that are aligned with the observation."""
        return x

    def rough_inverse(self, observed: Tensor) -> Tensor:
        """Return a rough estimate ``[T]`` of x, with the level of x, from the observation ``[T]`` alone."""
        return observed

    def project(self, x: Tensor, observed: Tensor) -> Tensor:
        """Return the signal nearest to an estimate x ``[T]`` for which the observation ``[T]`` is certain.

        By default the observation contains noise, and x is returned.
        """
        return x

    def distance(
        self, prediction: Tensor, observed: Tensor, criterion: Criterion, weight: Tensor | None = None
    ) -> Tensor:
        """Return the distance between a prediction A(x) and the observation, a scalar.

        Args:
            prediction: A(x) ``[T]``.
            observed: y ``[T]``.
            criterion: error of each sample.
            weight: weight of each sample ``[T]``, with sum 1; None for equal weights.
        """
        errors = criterion(prediction, observed, reduction="none")
        return errors.mean() if weight is None else (weight * errors).sum()

    def to(self, device: torch.device) -> Operator:
        """Return the same operator with its tensors on ``device``."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def digest(self) -> str:
        """Return a digest of everything that A depends on: its class and its attributes."""
        digest = hashlib.sha256(type(self).__name__.encode())
        for value in vars(self).values():
            digest.update(value.cpu().numpy().tobytes() if isinstance(value, Tensor) else repr(value).encode())
        return digest.hexdigest()
