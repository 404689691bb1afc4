"""The generators by name, and their construction with seeded weights."""

from __future__ import annotations

import torch

from dawp.methods.deep_prior.generators.demucs import Demucs
from dawp.methods.deep_prior.generators.generator import Generator
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.methods.deep_prior.generators.waveunet import WaveUNet

GENERATORS: dict[str, type[Demucs] | type[WaveUNet]] = {"demucs": Demucs, "waveunet": WaveUNet}


def build(config: GeneratorConfig, rng: torch.Generator) -> Generator:
    """The generator of ``config`` on the CPU, its random weights drawn from ``rng`` alone."""
    with torch.random.fork_rng(devices=[]):
        # torch's layers draw their weights from the global random state, which is put back afterwards.
        torch.default_generator.manual_seed(int(torch.randint(2**62, (), generator=rng)))
        return GENERATORS[config.generator](config)
