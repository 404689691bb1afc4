"""The construction of generators with seeded weights."""

from __future__ import annotations

import torch

from dawp.methods.deep_prior.generators.generator import Generator
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.settings import Settings


def build(config: GeneratorConfig, rng: torch.Generator, settings: Settings | None = None) -> Generator:
    """Return the chosen generator on the CPU, with weights that depend on ``rng`` alone.

    Args:
        config: the choice, and the settings of the toolkit's generators.
        rng: source of the weights.
        settings: the settings of the generator; None if ``config`` has them.
    """
    with torch.random.fork_rng(devices=[]):
        # torch draws the weights of layers from the global random state, which is restored afterwards.
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=rng)))
        return config.kind.build(settings or config)
