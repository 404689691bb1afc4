"""The method ``unet``: a trained U-Net restores a recording."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dawp.devices import pick_device
from dawp.errors import BadInput, printable
from dawp.io import audio
from dawp.methods.trained.settings import TrainedConfig, UNetModelConfig
from dawp.methods.trained.unet import Discriminator, UNet, refine
from dawp.methods.trained.weights import SMALLEST_RMS, Model, build_network, load_networks, settings_of
from dawp.problem import Problem
from dawp.tasks.chain import ChainConfig

if TYPE_CHECKING:
    from dawp.config import Config

log = logging.getLogger(__name__)

KIND = "unet"
GENERATOR, DISCRIMINATOR = "generator", "discriminator"


class TrainedUNet:
    """The networks of a model file.

    Args:
        model: of kind unet.
        setting: name of the setting that names the file, for messages.

    Attributes:
        rate: sample rate of the model in Hz.
        corruption: settings of the corruption that it was trained on.
        settings: of the networks.
        generator: the U-Net.
        discriminator: for collaborative sampling; None without it.

    Raises:
        BadInput: the model has no such networks.
    """

    def __init__(self, model: Model, setting: str = "weights") -> None:
        self.rate, self.corruption = model.rate, model.facts.get("corruption", {})
        self.settings: UNetModelConfig = settings_of(model, UNetModelConfig, setting)
        wanted = {GENERATOR, DISCRIMINATOR} if self.settings.collab else {GENERATOR}
        if model.networks.keys() != wanted:
            raise BadInput(
                f"{setting} must be a model with the networks {', '.join(sorted(wanted))}, got others",
                code="unreadable_input",
            )
        self.generator = build_network(lambda: UNet(self.settings), model.networks[GENERATOR], setting)
        self.discriminator: Discriminator | None = None
        if self.settings.collab:
            self.discriminator = build_network(
                lambda: Discriminator(self.settings, self.settings.conditional), model.networks[DISCRIMINATOR], setting
            )

    def restore(self, observed: Tensor, device: torch.device) -> Tensor:
        """Return the estimate ``[T]`` of a clip ``[T]`` at the rate of the model."""
        level = observed.square().mean().sqrt().clamp(min=SMALLEST_RMS)
        y = (observed / level).to(device)[None, None]
        generator = self.generator.to(device)
        if self.discriminator is None:
            with torch.no_grad():
                estimate = generator(y)
        else:
            settings = self.settings
            discriminator = self.discriminator.to(device)
            estimate = refine(generator, discriminator, y, settings.collab_steps, settings.collab_rate)
        restored: Tensor = estimate[0, 0].cpu() * level
        return restored


def unet(problem: Problem, config: Config) -> Tensor:
    """Return the estimate ``[T]`` of a U-Net trained for the task (``dawp.methods.trained.unet``).

    A recording of another rate than the model's is resampled for the network, and the change that the network makes is
    resampled back, so that frequencies beyond those of the model stay as they are.
    """
    network = _network(config)
    observed, rate = problem.observed.cpu(), problem.sample_rate
    resampled = audio.resample(observed, rate, network.rate)
    restored = network.restore(resampled, pick_device(config.fit.device))
    if rate == network.rate:
        return restored
    log.info("the model works at %d Hz; frequencies above %d Hz are unchanged", network.rate, network.rate // 2)
    change = audio.resample(restored - resampled, network.rate, rate)
    return observed + change[: len(observed)]


def check_weights(config: Config, sample_rate: int | None = None) -> None:
    """Check the model file. A U-Net restores recordings of any sample rate.

    Raises:
        BadInput: it is not a valid model file of a U-Net for the task, or for the tasks of the chain.
    """
    network = _network(config)
    stages = [stage.task for stage in config.corruption.stages]
    if stages:
        trained = network.corruption.get("corrupt") if isinstance(network.corruption, dict) else None
        if [stage.task for stage in ChainConfig(corrupt=str(trained)).stages] != stages:
            raise BadInput(
                f"weights must be a model for the tasks {', '.join(stages)}, got one for {printable(trained)}"
            )


def _network(config: Config) -> TrainedUNet:
    return load_unet(config.group(TrainedConfig).get_weights(), config.task)


def load_unet(path: Path, task: str | None, setting: str = "weights") -> TrainedUNet:
    """Return the networks of a model file of a U-Net for a task, None for any (``weights.load_networks``)."""
    return load_networks(path, KIND, TrainedUNet, task, setting)
