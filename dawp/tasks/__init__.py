"""The corruptions: each makes a clean clip into a problem, and takes a clip that is corrupted already as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dawp.config import CorruptionConfig
from dawp.errors import BadInput
from dawp.problem import Problem
from dawp.tasks.denoise import add_noise
from dawp.tasks.dereverb import add_reverb
from dawp.tasks.inpaint import cut_gaps, find_gaps


def _as_it_is(observed: Tensor, clean: Tensor | None, sample_rate: int, config: CorruptionConfig) -> Problem:
    return Problem(observed, clean, sample_rate)


class Ways(NamedTuple):
    """How a problem is come by."""

    corrupt: Callable[[Tensor, int, Any, torch.Generator], Problem]  # clean [T], sample_rate, config, rng
    adopt: Callable[[Tensor, Tensor | None, int, Any], Problem] = _as_it_is  # corrupted [T], clean [T] or None, ...


WAYS = {
    "denoise": Ways(add_noise),
    "dereverb": Ways(add_reverb),
    "inpaint": Ways(cut_gaps, find_gaps),
}
"""Each task's ways to a problem: corrupt a clean clip, or take a corrupted one."""


def pose(
    task: str,
    clean: Tensor | None,
    corrupted: Tensor | None,
    sample_rate: int,
    config: CorruptionConfig,
    rng: torch.Generator,
) -> Problem:
    """The problem of a clean clip, of a corrupted one, or of a pair.

    Args:
        task: ``denoise``, ``dereverb`` or ``inpaint``.
        clean: ``[T]``, or None.
        corrupted: ``[T]``, sample-aligned with ``clean``; None to corrupt it.
        sample_rate: in Hz.
        config: the task's corruption.
        rng: source of its random draws.

    Raises:
        BadInput: a clip is silent, or cannot be corrupted as asked.
    """
    if corrupted is not None:
        return WAYS[task].adopt(corrupted, clean, sample_rate, config)
    if clean is None:
        raise BadInput("a problem needs a clean clip or a corrupted one")
    return WAYS[task].corrupt(clean, sample_rate, config, rng)


__all__ = ["add_noise", "add_reverb", "cut_gaps", "find_gaps", "pose"]
