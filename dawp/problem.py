"""What a fit is given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dawp.errors import BadInput


@dataclass(frozen=True)
class Problem:
    """One corrupted clip and what is known of it.

    Attributes:
        observed: the corrupted clip ``[T]``, float32: the only signal the fit sees.
        clean: the clean clip ``[T]``, sample-aligned with ``observed``; for metrics and the oracle stop.
        sample_rate: of both, in Hz.
        mask: bool ``[T]``, True where a sample counts in the loss; None when all do.
        facts: numbers about the corruption that belong in the results (achieved SNR, level).

    Raises:
        BadInput: the tensors differ in shape, are not one-dimensional, or hold values that are not finite;
            one of them is silent, or they are equal.
    """

    observed: Tensor
    clean: Tensor
    sample_rate: int
    mask: Tensor | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("observed", "clean"):
            waveform = getattr(self, name)
            if waveform.ndim != 1 or waveform.shape != self.observed.shape:
                shapes = f"observed {list(self.observed.shape)}, clean {list(self.clean.shape)}"
                raise BadInput(f"a problem needs two clips of one shape [T], got {shapes}")
            if not torch.isfinite(waveform).all():
                raise BadInput(f"the {name} clip holds NaN or infinite samples")
        if self.mask is not None and (self.mask.shape != self.observed.shape or not self.mask.any()):
            raise BadInput("the mask must have the clip's shape and at least one sample that counts")
        counted = self.observed if self.mask is None else self.observed[self.mask]
        if not counted.any():
            raise BadInput("the corrupted clip is silent: there is nothing to fit")
        if not self.clean.any():
            raise BadInput("the clean clip is silent: no estimate can be judged by it")
        if torch.equal(self.observed, self.clean):
            raise BadInput("the corrupted clip equals the clean one: there is nothing to restore")

    def to(self, device: torch.device) -> Problem:
        """The same problem with its tensors on ``device``."""
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, observed=self.observed.to(device), clean=self.clean.to(device), mask=mask)
