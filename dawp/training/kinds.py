"""The kinds of models of the toolkit. This module loads no network: the command line reads it for its help."""

from __future__ import annotations

from dawp.training.base import ModelKind, register
from dawp.training.settings_diffusion import DiffusionTrainingConfig
from dawp.training.settings_unet import UNetTrainingConfig

for _kind in (
    ModelKind(
        name="unet",
        about="Convolutional U-Net with sub-pixel shuffling, for one task and one sample rate.",
        settings=UNetTrainingConfig,
        trainer="dawp.training.unet:UNetTrainer",
    ),
    ModelKind(
        name="diffusion",
        about="Diffusion model of clean recordings on a constant-Q transform, for all tasks at one sample rate.",
        settings=DiffusionTrainingConfig,
        trainer="dawp.training.diffusion:DiffusionTrainer",
        corrupts=False,
        defaults={"batch": 8, "windows_per_clip": 1},
    ),
):
    register(_kind)
