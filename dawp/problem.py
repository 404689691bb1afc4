"""The input of a method."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dawp.errors import BadInput
from dawp.io.audio import true_runs
from dawp.operators.base import Operator
from dawp.operators.identity import Identity


@dataclass(frozen=True)
class Problem:
    """A corrupted clip, its forward model and, if available, its clean version.

    Attributes:
        observed: the corrupted clip y ``[T]``, float32; the only signal that a method uses.
        clean: the clean clip ``[T]``, sample-aligned with ``observed``, for metrics and the oracle stop; None if there
            is none.
        sample_rate: of both, in Hz.
        operator: the forward model A; the clip itself by default.
        blend: ``[T]``, the weight of the network in the estimate, from 0 (the observed sample is kept) to 1; None for
            1 everywhere.
        rir: the impulse response ``[L]`` of the reverberation, with a direct path of gain 1; None if there is none.
        facts: numbers about the corruption that belong in the results (achieved SNR, level).
        name: of the clip, for messages.
        noise: power ``[bins, frames]`` of the noise in each bin of ``spectral.analyse(observed, sample_rate)``, known
            from more than the clip; ``observed`` is high-passed then. None to estimate it from the clip.
        others: other channels of the recording ``[K, T]``, NaN where a sample is missing; None if there are none.
        joint_channels: whether a method may filter the other channels as well to restore this one.

    Raises:
        BadInput: the tensors differ in shape, are not one-dimensional, contain values that are not finite, are silent,
            or are equal.
    """

    observed: Tensor
    clean: Tensor | None
    sample_rate: int
    operator: Operator = field(default_factory=Identity)
    blend: Tensor | None = None
    rir: Tensor | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    name: str = "clip"
    noise: Tensor | None = None
    others: Tensor | None = None
    joint_channels: bool = False

    def __post_init__(self) -> None:
        for name in ("observed", "clean"):
            waveform = getattr(self, name)
            if waveform is None:
                continue
            if waveform.ndim != 1 or waveform.shape != self.observed.shape:
                shapes = f"observed {list(self.observed.shape)}, {name} {list(waveform.shape)}"
                raise BadInput(f"a problem needs clips of one shape [T], got {shapes}")
            if not torch.isfinite(waveform).all():
                raise BadInput(f"the {name} clip contains NaN or infinite samples", code="unusable_recording")
        mask = self.mask
        if mask is not None and (mask.shape != self.observed.shape or not mask.any()):
            raise BadInput("the mask must have the clip's shape and at least one known sample")
        if self.blend is not None and self.blend.shape != self.observed.shape:
            raise BadInput(
                f"blend must have the clip's shape {list(self.observed.shape)}, got {list(self.blend.shape)}"
            )
        counted = self.observed if mask is None else self.observed[mask]
        if not counted.any():
            raise BadInput("the corrupted clip is silent: there is nothing to fit", code="unusable_recording")
        if self.clean is not None and not self.clean.any():
            raise BadInput("the clean clip is silent: metrics are undefined", code="unusable_recording")
        if self.clean is not None and torch.equal(self.observed, self.clean):
            raise BadInput(
                "the corrupted clip equals the clean one: there is nothing to restore", code="unusable_recording"
            )

    @property
    def mask(self) -> Tensor | None:
        """Bool ``[T]``, True where a sample counts in the loss; None if all do."""
        return self.operator.known

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """First sample, and the one after the last, of each run of samples that do not count in the loss."""
        mask = self.mask
        return [] if mask is None else true_runs(~mask)

    @property
    def is_intact(self) -> bool:
        """Whether the observation determines every sample, so that there is nothing to restore."""
        certain = self.operator.certain
        return certain is not None and bool(certain.all())

    def estimate(self, output: Tensor) -> Tensor:
        """Return the estimate of an output ``[T]`` of a method: the output, or observed samples that are kept."""
        estimate = output if self.blend is None else torch.lerp(self.observed, output, self.blend)
        return self.operator.project(estimate, self.observed)

    def to(self, device: torch.device) -> Problem:
        """Return the same problem with its tensors on ``device``."""
        tensors = {name: getattr(self, name) for name in ("observed", "clean", "blend")}
        moved = {name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None}
        return replace(self, operator=self.operator.to(device), **moved)
