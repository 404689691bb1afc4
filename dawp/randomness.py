"""Every random draw of the toolkit comes from one seed, by one path per purpose."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seeded(seed: int, purpose: str, repetition: int = 0) -> torch.Generator:
    """A CPU random generator for one purpose ("order", "corruption", "weights", "input") of one repetition.

    Streams of different purposes, repetitions or seeds are independent, so that taking more draws for one
    leaves the others as they were.

    Example:
        >>> torch.rand(1, generator=seeded(0, "input")) == torch.rand(1, generator=seeded(0, "input"))
        tensor([True])
    """
    sequence = np.random.SeedSequence([seed, repetition, zlib.crc32(purpose.encode())])
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
