"""The method ``diffusion``: a signal drawn from a trained diffusion model under the observation."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dawp.devices import pick_device
from dawp.errors import BadInput
from dawp.methods.trained.diffusion.edm import Denoiser, PreconditionedDenoiser
from dawp.methods.trained.diffusion.network import OctaveUNet
from dawp.methods.trained.diffusion.noise import recorded_distance, spectral_distance
from dawp.methods.trained.diffusion.sampler import distance_of, sample
from dawp.methods.trained.diffusion.settings import DiffusionConfig, DiffusionModelConfig
from dawp.methods.trained.settings import TrainedConfig
from dawp.methods.trained.weights import SMALLEST_RMS, build_network, check_model, digest_of, load_model, settings_of
from dawp.operators.identity import Identity
from dawp.problem import Problem
from dawp.randomness import seeded

if TYPE_CHECKING:
    from dawp.config import Config

KIND, DENOISER = "diffusion", "denoiser"


class DiffusionModel:
    """The denoiser of a model file.

    Attributes:
        rate: sample rate in Hz.
        denoiser: maps noisy clips ``[N, T]`` and noise levels ``[N]`` to expected clean clips.

    Raises:
        BadInput: the file is not a valid model file of kind diffusion.
    """

    def __init__(self, path: Path) -> None:
        model = load_model(path)
        check_model(model, KIND, None)
        settings: DiffusionModelConfig = settings_of(model, DiffusionModelConfig)
        if model.networks.keys() != {DENOISER}:
            raise BadInput(f"weights must be a model with the network {DENOISER}, got others", code="unreadable_input")
        self.rate = model.rate
        self.denoiser = build_network(
            lambda: PreconditionedDenoiser(OctaveUNet.of(model.rate, settings)), model.networks[DENOISER]
        )


def diffusion(problem: Problem, config: Config) -> Tensor:
    """Return an estimate ``[T]`` of a trained diffusion model (`restore`).

    Raises:
        BadInput: the model has another sample rate than the clip.
    """
    model = _model(config)
    if model.rate != problem.sample_rate:
        raise BadInput(f"weights must be a model at {problem.sample_rate} Hz, got one at {model.rate} Hz")
    device, rng = pick_device(config.fit.device), seeded(config.fit.seed, "sampler")
    return restore(problem.to(device), model.denoiser.to(device), config.group(DiffusionConfig), rng).cpu()


def restore(problem: Problem, denoiser: Denoiser, config: DiffusionConfig, rng: torch.Generator) -> Tensor:
    """Return a signal ``[T]`` drawn from a diffusion model given the observation of a problem, or the mean of several.

    The clip is scaled to an RMS of 1. The sampler starts from the rough inverse of the forward model and noise, and
    follows the gradient of the squared distance of the observation (``Operator.distance``), or, for a noisy clip, of
    the distance beyond the noise (``noise.spectral_distance``, ``noise.recorded_distance``). Samples for which the
    observation is certain are those of the observation (``Operator.project``).

    Args:
        problem: to solve.
        denoiser: D, at the sample rate of the problem.
        config: of the sampler.
        rng: source of the noise.

    Raises:
        BadInput: the recordings of the noise cannot be read.
    """
    operator, observed = problem.operator, problem.observed.float()
    rough, known = operator.rough_inverse(observed), operator.known
    level = (rough if known is None else rough[known]).square().mean().sqrt().clamp(min=SMALLEST_RMS)
    places = operator.crop(torch.arange(operator.input_length(len(observed)), device=observed.device))
    start = observed.new_zeros(config.draws, operator.input_length(len(observed)))
    start[:, places] = rough / level
    if not isinstance(operator, Identity):
        guidance = distance_of(operator, observed / level)
    elif config.noise_recordings is None:
        guidance = spectral_distance(problem, float(level))
    else:
        guidance = recorded_distance(problem, float(level), config.noise_recordings, config, rng)
    drawn = sample(denoiser, start, config, rng, guidance).mean(dim=0)
    return operator.project(level * operator.crop(drawn), observed)


def check_weights(config: Config) -> None:
    """Check the model file.

    Raises:
        BadInput: it is not a valid model file of a diffusion model.
    """
    _model(config)


def _model(config: Config) -> DiffusionModel:
    path = config.group(TrainedConfig).get_weights()
    return _load(path, digest_of(path))


@lru_cache(maxsize=2)
def _load(path: Path, digest: str) -> DiffusionModel:
    return DiffusionModel(path)
