"""Two-dimensional networks that map noise to an image of a spectrogram."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INPUT_CHANNELS = 8
SLOPE = 0.2  # of the LeakyReLU below zero
NARROW = 4  # channels of a skip connection (Ulyanov et al. 2018, supplementary material: 4 or none)
LEVELS = 4  # of the hourglass and of the DCGAN: 1/16 of the bins and of the frames
DILATIONS = (1, 2, 4, 8, 16)  # in frames
HARMONIC_LAYERS = 4


class ImageNetwork(nn.Module):
    """Base of the networks ``z [B, *input_shape(bins, frames)] -> image [B, outputs, bins, frames]``.

    The image may be larger if the network has a step, by less than ``2**LEVELS`` bins and frames.
    """

    @staticmethod
    def input_shape(bins: int, frames: int) -> tuple[int, int, int]:
        """Return the channels, rows and columns of the input noise for an image."""
        return INPUT_CHANNELS, bins, frames


class Hourglass(ImageNetwork):
    """An encoder and a decoder with narrow skip connections (Deep Image Prior, Ulyanov et al. 2018).

    Each level halves both axes by a convolution with stride 2, and doubles them again by bilinear interpolation.

    Args:
        channels: of each level.
        outputs: channels of the image.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        inputs = [INPUT_CHANNELS, *[channels] * (LEVELS - 1)]
        self.down = nn.ModuleList(_block(c_in, channels, stride=2) for c_in in inputs)
        self.skip = nn.ModuleList(nn.Conv2d(c_in, NARROW, 1) for c_in in inputs)
        self.up = nn.ModuleList(_block(channels + NARROW, channels) for _ in inputs)
        self.last = nn.Conv2d(channels, outputs, 1)

    def forward(self, z: Tensor) -> Tensor:
        x, skipped = z, []
        for down, skip in zip(self.down, self.skip, strict=True):
            skipped.append(skip(x))
            x = down(x)
        for up in self.up:
            twin = skipped.pop()
            x = F.interpolate(x, size=twin.shape[-2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([x, twin], dim=1))
        image: Tensor = self.last(x)
        return image


class DCGAN(ImageNetwork):
    """Transposed convolutions with stride 2 on coarse noise (Radford et al. 2016, arXiv:1511.06434, Figure 1).

    The coarse noise may have more frames than the image needs; the image is as large as the noise allows.

    Args:
        channels: of the last layer; each layer before it has twice as many, at most eight times.
        outputs: channels of the image.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        widths = [INPUT_CHANNELS, *(channels * min(2**level, 8) // 2 for level in range(LEVELS, 0, -1))]
        self.up = nn.Sequential(
            *(
                nn.Sequential(nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1), _norm(c_out), nn.ReLU())
                for c_in, c_out in pairwise(widths)
            )
        )
        self.last = nn.Conv2d(widths[-1], outputs, 3, padding=1)

    @staticmethod
    def input_shape(bins: int, frames: int) -> tuple[int, int, int]:
        step = 2**LEVELS
        return INPUT_CHANNELS, -(-bins // step), -(-frames // step)

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.last(self.up(z))
        return image


class Dilated(ImageNetwork):
    """Residual convolutions at full resolution, dilated in time by 1, 2, 4, 8 and 16 frames.

    Args:
        channels: of each layer.
        outputs: channels of the image.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(INPUT_CHANNELS, channels, 1)
        self.layers = nn.ModuleList(_block(channels, channels, dilation=dilation) for dilation in DILATIONS)
        self.last = nn.Conv2d(channels, outputs, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z)
        for layer in self.layers:
            x = x + layer(x)
        image: Tensor = self.last(x)
        return image


class Harmonic(ImageNetwork):
    """Harmonic convolutions at full resolution (Zhang et al. 2020).

    Args:
        channels: of each layer.
        outputs: channels of the image.
        harmonics: K of ``HarmonicConv2d``.
        anchor: n of ``HarmonicConv2d``.
    """

    def __init__(self, channels: int, outputs: int, harmonics: int, anchor: int) -> None:
        super().__init__()
        widths = [INPUT_CHANNELS, *[channels] * HARMONIC_LAYERS]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(HarmonicConv2d(c_in, c_out, harmonics, anchor), _norm(c_out), nn.LeakyReLU(SLOPE))
                for c_in, c_out in pairwise(widths)
            )
        )
        self.last = nn.Conv2d(channels, outputs, 1)

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = self.last(self.layers(z))
        return image


class HarmonicConv2d(nn.Module):
    """A convolution over the harmonics of each frequency and over time.

    With K harmonics, the anchor n and kernels w of 3 frames,

        Y(f, t) = sum over k = 1..K and s = -1..1 of w(k, s) X(k f / n, t + s).

    X is interpolated linearly between bins, and is 0 above the last one. With n > 1, f is the n-th harmonic of f / n.
    Zhang, Z., et al. (2020), Deep Audio Priors Emerge From Harmonic Convolutional Networks, ICLR, section 3.
    """

    def __init__(self, c_in: int, c_out: int, harmonics: int, anchor: int) -> None:
        super().__init__()
        self.harmonics, self.anchor = harmonics, anchor
        self.mix = nn.Conv2d(c_in * harmonics, c_out, (1, 3), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        below, above, fraction = _positions(x.shape[-2], self.harmonics, self.anchor, x.device)
        padded = F.pad(x, (0, 0, 0, 1))
        lower, upper = (padded.index_select(-2, near.flatten()) for near in (below, above))
        stretched = torch.lerp(lower, upper, fraction)  # (B, C, K * bins, frames)
        mixed: Tensor = self.mix(stretched.reshape(len(x), -1, *x.shape[-2:]))
        return mixed


@cache
def _positions(bins: int, harmonics: int, anchor: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the bins below and above k f / n, ``[harmonics, bins]``, and the fraction between.

    The fraction is a column ``[harmonics * bins, 1]``.
    """
    position = torch.arange(1, harmonics + 1)[:, None] * torch.arange(bins) / anchor
    below = position.floor().long()
    fraction = (position - below).float()
    return (
        below.clamp(max=bins).to(device),
        (below + 1).clamp(max=bins).to(device),
        fraction.flatten()[:, None].to(device),
    )


def _block(c_in: int, c_out: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution, dilated along time, a normalisation and an activation."""
    convolution = nn.Conv2d(c_in, c_out, 3, stride, padding=(1, dilation), dilation=(1, dilation))
    return nn.Sequential(convolution, _norm(c_out), nn.LeakyReLU(SLOPE))


def _norm(channels: int) -> nn.GroupNorm:
    """Normalise each channel over the image, as batch normalisation does for one image."""
    return nn.GroupNorm(channels, channels)
