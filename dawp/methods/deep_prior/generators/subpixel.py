"""The U-Net with sub-pixel shuffling (``dawp.methods.trained.unet``) as a generator, without its additive connection.

The input is noise, which must not be added to the output.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from dawp.errors import BadInput
from dawp.methods.deep_prior.generators.generator import Generator
from dawp.methods.deep_prior.generators.settings import SubpixelConfig
from dawp.methods.trained.settings import UNetConfig
from dawp.methods.trained.unet import UNet
from dawp.methods.trained.unet_method import TrainedUNet, load_unet


class Subpixel(Generator):
    """The network, with random weights or those of a trained U-Net; z has as many samples as the clip.

    Args:
        config: ``subpixel_depth``, ``subpixel_channels``, ``subpixel_kernels`` and ``init``.

    Raises:
        BadInput: ``init`` is not a model file of such a network.

    Example:
        >>> import torch
        >>> generator = Subpixel(SubpixelConfig(subpixel_depth=2, subpixel_channels=4))
        >>> generator(torch.zeros(1, 1, 101), 101).shape
        torch.Size([1, 1, 101])
    """

    def __init__(self, config: SubpixelConfig) -> None:
        super().__init__()
        self.network = UNet(config.network, additive=False)
        if config.init is not None:
            self.network.load_state_dict(_first_weights(config.init, config.network).generator.state_dict())

    def _valid_length(self, length: int) -> int:
        return length

    def _generate(self, z: Tensor) -> Tensor:
        output: Tensor = self.network(z)
        return output


def check_init(config: SubpixelConfig, rate: int | None) -> None:
    """Check the model file of ``init``.

    Args:
        config: the settings of the generator.
        rate: working sample rate in Hz; None for that of the recording.

    Raises:
        BadInput: it is not a model file of such a network at this rate.
    """
    if config.init is None:
        return
    model = _first_weights(config.init, config.network)
    if rate != model.rate:
        got = "none" if rate is None else rate
        raise BadInput(f"samplerate must be that of the model of init, {model.rate}, got {got}")


def _first_weights(path: Path, config: UNetConfig) -> TrainedUNet:
    model = load_unet(path, None, "init")
    for name in ("depth", "channels", "kernels"):
        expected, got = getattr(model.settings, name), getattr(config, name)
        if expected != got:
            raise BadInput(f"subpixel_{name} must be that of the model of init, {expected}, got {got}")
    return model
