"""Seeded random generators, one for each purpose."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seeded(seed: int, purpose: str, repetition: int = 0) -> torch.Generator:
    """Return a CPU random generator for a purpose ("order", "corruption", "weights", "input") of a repetition.

    Streams of different purposes, repetitions or seeds are independent, so that additional draws from one do not
    change the others.

    Example:
        >>> torch.rand(1, generator=seeded(0, "input")) == torch.rand(1, generator=seeded(0, "input"))
        tensor([True])
    """
    sequence = np.random.SeedSequence([seed, repetition, zlib.crc32(purpose.encode())])
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
