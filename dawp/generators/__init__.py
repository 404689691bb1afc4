"""The networks. Each is a torch module with one face: ``valid_length(T)`` and ``forward(z, T) -> [B, 1, T]``."""

from __future__ import annotations

import torch

from dawp.config import GeneratorConfig
from dawp.generators.demucs import Demucs


def build(config: GeneratorConfig, rng: torch.Generator) -> Demucs:
    """The generator of ``config`` on the CPU, its random weights drawn from ``rng`` alone."""
    with torch.random.fork_rng(devices=[]):
        # torch's layers draw their weights from the global random state, which is put back afterwards.
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=rng)))
        return Demucs(config)


__all__ = ["Demucs", "build"]
