"""Wave-U-Net, the paper's baseline for inpainting (section 5; Stoller et al. 2018, arXiv:1806.03185, model M1).

    z -> (convolution, decimate) x L -> convolution -> (interpolate, concatenate, convolution) x L -> 1x1 -> waveform

Each level of the decoder concatenates the features of the encoder's level. The paper reports that it has a weak prior.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dawp.methods.deep_prior.generators.generator import Generator
from dawp.methods.deep_prior.generators.settings import WaveUNetConfig

DOWN_KERNEL, UP_KERNEL = 15, 5  # Stoller et al., section 3.1: f_d and f_u
SLOPE = 0.2  # of the LeakyReLU below zero, as in TensorFlow, which their model was made with


class WaveUNet(Generator):
    """Level l of L has ``config.waveunet_filters`` * l channels; z has a multiple of 2 ** L samples.

    Convolutions are padded with zeros to keep the length, decimation keeps every second sample, interpolation is
    linear.

    Args:
        config: ``waveunet_levels``, ``waveunet_filters`` and ``waveunet_output``; the defaults are Stoller et al.'s.

    Example:
        >>> generator = WaveUNet(WaveUNetConfig(waveunet_levels=3, waveunet_filters=4))
        >>> z = torch.zeros(1, 1, generator.valid_length(1000))
        >>> generator(z, 1000).shape
        torch.Size([1, 1, 1000])
    """

    def __init__(self, config: WaveUNetConfig) -> None:
        super().__init__()
        self.levels = config.waveunet_levels
        self.bounded = config.waveunet_output == "tanh"
        widths = [config.waveunet_filters * level for level in range(1, self.levels + 1)]
        self.down = nn.ModuleList(
            _convolution(c_in, c_out, DOWN_KERNEL) for c_in, c_out in zip([1, *widths[:-1]], widths, strict=True)
        )
        deepest = widths[-1] + config.waveunet_filters
        self.bottom = _convolution(widths[-1], deepest, DOWN_KERNEL)
        below = [*widths[1:], deepest]
        self.up = nn.ModuleList(
            _convolution(c_below + c_twin, c_twin, UP_KERNEL)
            for c_below, c_twin in reversed(list(zip(below, widths, strict=True)))
        )
        self.last = nn.Conv1d(widths[0] + 1, 1, 1)

    def gain_for(self, waveform: Tensor) -> Tensor:
        """Return the RMS of a waveform ``[T]``, or its peak if the output layer is a tanh, whose range is limited."""
        return waveform.abs().amax() if self.bounded else super().gain_for(waveform)

    def _valid_length(self, length: int) -> int:
        step: int = 2**self.levels
        return -(-length // step) * step

    def _generate(self, z: Tensor) -> Tensor:
        x, twins = z, []
        for down in self.down:
            x = down(x)
            twins.append(x)  # (B, channels, frames)
            x = x[..., ::2]
        x = self.bottom(x)
        for up in self.up:
            x = up(torch.cat([_doubled(x), twins.pop()], dim=1))
        x = self.last(torch.cat([x, z], dim=1))
        return torch.tanh(x) if self.bounded else x


def _doubled(x: Tensor) -> Tensor:
    """Return twice as many frames ``[..., 2 n]``: those of x at the positions that decimation keeps, and means between.

    ``torch.nn.functional.interpolate`` without ``align_corners`` would delay each level by half a frame.
    """
    between = F.interpolate(x, size=2 * x.shape[-1] - 1, mode="linear", align_corners=True)
    return F.pad(between, (0, 1), mode="replicate")


def _convolution(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(c_in, c_out, kernel, padding=kernel // 2), nn.LeakyReLU(SLOPE))
