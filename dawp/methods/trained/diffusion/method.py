"""The method ``diffusion``: a signal drawn from a trained diffusion model under the observation."""

from __future__ import annotations

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
from dawp.methods.trained.weights import SMALLEST_RMS, Model, build_network, load_networks, settings_of
from dawp.operators.identity import Identity
from dawp.problem import Problem
from dawp.randomness import seeded

if TYPE_CHECKING:
    from dawp.config import Config

KIND, DENOISER = "diffusion", "denoiser"


class DiffusionModel:
    """The denoiser of a model file.

    Args:
        model: of kind diffusion.
        setting: name of the setting that names the file, for messages.

    Attributes:
        rate: sample rate in Hz.
        denoiser: maps noisy clips ``[N, T]`` and noise levels ``[N]`` to expected clean clips.

    Raises:
        BadInput: the model has no such network.
    """

    def __init__(self, model: Model, setting: str = "weights") -> None:
        settings: DiffusionModelConfig = settings_of(model, DiffusionModelConfig, setting)
        if model.networks.keys() != {DENOISER}:
            raise BadInput(
                f"{setting} must be a model with the network {DENOISER}, got others", code="unreadable_input"
            )
        self.rate = model.rate
        self.denoiser = build_network(
            lambda: PreconditionedDenoiser(OctaveUNet.of(model.rate, settings)), model.networks[DENOISER], setting
        )


def diffusion(problem: Problem, config: Config) -> Tensor:
    """Return an estimate ``[T]`` of a trained diffusion model (`restore`).

    Raises:
        BadInput: the model has another sample rate than the clip.
    """
    model = check_weights(config, problem.sample_rate)
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


def check_weights(config: Config, sample_rate: int | None = None) -> DiffusionModel:
    """Return the denoiser of the model file.

    Raises:
        BadInput: it is not a valid model file of a diffusion model, or the model has another sample rate in Hz.
    """
    model = load_diffusion(config.group(TrainedConfig).get_weights())
    if sample_rate not in (None, model.rate):
        raise BadInput(f"weights must be a model at {sample_rate} Hz, got one at {model.rate} Hz")
    return model


def load_diffusion(path: Path) -> DiffusionModel:
    """Return the denoiser of a model file of a diffusion model (``weights.load_networks``)."""
    return load_networks(path, KIND, DiffusionModel)
