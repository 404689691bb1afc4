"""A U-Net on the octaves of a constant-Q transform."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dawp.dsp.constant_q import ConstantQ
from dawp.methods.trained.diffusion.edm import SIGMA_DATA
from dawp.methods.trained.diffusion.settings import DiffusionModelConfig

EMBEDDING = 64  # features of the noise level
GROUPS = 4  # of the group normalisation
FOLD = 2  # adjacent frames that are the channels of one column
INPUTS, OUTPUTS = 5 * FOLD, 2 * FOLD  # channels


class OctaveUNet(nn.Module):
    """A U-Net whose levels are the octaves of a constant-Q transform, with the noise level as a second input.

    The highest octave enters at the first level. Each further level has half the frames of the level above: its octave
    is added to the downsampled features of the octaves above it. The decoder returns each octave at its own level.
    Bands an octave apart have the same row in all levels, so that features of harmonics meet, and convolutions along
    the bands wrap around: the band after the highest one is the first of the next octave, which lies in the same row.
    The last level contains the linear bands below the lowest octave.

    The levels of music span a large range. A coefficient c therefore also enters as ``c / sqrt(|c|^2 + s^2)`` and
    ``ln(1 + |c|^2 / s^2) / 4``, with s the noise level of the scaled input.

    The transform and its inverse are part of the network, which maps waveforms to waveforms, as in Moliner et al.
    (ICASSP 2023, section 4.1).

    Args:
        sample_rate: in Hz.
        octaves: number of octaves.
        bands: number of bands of an octave.
        width: channels of the first level; they grow by the square root of 2 from level to level, up to 4 times.
        blocks: residual blocks of each level of the encoder, and of the decoder.
    """

    @classmethod
    def of(cls, sample_rate: int, config: DiffusionModelConfig) -> OctaveUNet:
        """Return the network of a sample rate and settings."""
        return cls(sample_rate, config.octaves, config.bands, config.width, config.blocks)

    def __init__(self, sample_rate: int, octaves: int, bands: int, width: int, blocks: int = 1) -> None:
        super().__init__()
        self.transform = ConstantQ(sample_rate, octaves, bands)
        widths = [GROUPS * round(width * min(2 ** (level / 2), 4) / GROUPS) for level in range(octaves + 1)]
        pairs = list(zip([widths[0], *widths], widths, strict=False))
        self.embedding = nn.Sequential(nn.Linear(EMBEDDING, EMBEDDING), nn.SiLU(), nn.Linear(EMBEDDING, EMBEDDING))
        self.positions = nn.ParameterList([nn.Parameter(torch.zeros(size, bands, 1)) for size in widths])
        self.inputs = nn.ModuleList([nn.Conv2d(INPUTS, size, 1) for size in widths])
        self.downs = nn.ModuleList([nn.Conv2d(above, size, (1, 2), (1, 2)) for above, size in pairs[1:-1]])
        self.downs.append(nn.Conv2d(*pairs[-1], 1))
        self.ups = nn.ModuleList([nn.Conv2d(size, above, 1) for above, size in pairs[1:]])
        self.joins = nn.ModuleList([nn.Conv2d(2 * size, size, 1) for size in widths[:-1]])
        self.encoders = nn.ModuleList([_blocks(size, blocks) for size in widths])
        self.decoders = nn.ModuleList([_blocks(size, blocks) for size in widths])
        self.outputs = nn.ModuleList([nn.Conv2d(size, OUTPUTS, 1) for size in widths])
        for output in self.outputs:
            for parameter in output.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Return the output ``[N, T]`` for clips ``[N, T]`` and their ``c_noise`` ``[N]``."""
        embedding = self._embed(noise)
        size = -(-x.shape[-1] // (FOLD * self.transform.hops[-1])) * FOLD * self.transform.hops[-1]
        level_of_noise = (4 * noise).exp()[:, None, None] / SIGMA_DATA
        level_of_noise = level_of_noise / (1 + level_of_noise.square()).sqrt()
        grids = [
            _to_channels(grid, level_of_noise) for grid in self.transform.analyse(F.pad(x, (0, size - x.shape[-1])))
        ]
        features: list[Tensor] = []
        for level, grid in enumerate(grids):
            h = self.inputs[level](grid) + self.positions[level]
            if level:
                h = h + self.downs[level - 1](features[-1])
            h = _apply(self.encoders[level], h, embedding)
            features.append(h)
        outputs: list[Tensor] = []
        for level in reversed(range(len(grids))):
            if level < len(grids) - 1:
                up = self.ups[level](h)
                factor = grids[level].shape[-1] // up.shape[-1]
                h = self.joins[level](torch.cat([features[level], up.repeat_interleave(factor, dim=-1)], dim=1))
            h = _apply(self.decoders[level], h, embedding)
            outputs.append(_from_channels(self.outputs[level](h)))
        return self.transform.synthesise(outputs[::-1], size)[..., : x.shape[-1]]

    def _embed(self, noise: Tensor) -> Tensor:
        """Return Fourier features ``[N, EMBEDDING]`` of ``c_noise``."""
        frequencies = 2 ** torch.linspace(-3, 2, EMBEDDING // 2, dtype=noise.dtype, device=noise.device)
        phases = 2 * math.pi * noise[:, None] * frequencies
        features: Tensor = self.embedding(torch.cat([phases.sin(), phases.cos()], dim=1))
        return features


def _to_channels(grid: Tensor, level: Tensor) -> Tensor:
    """Return coefficients ``[N, bands, frames]`` as real channels ``[N, INPUTS, bands, frames / FOLD]``.

    Args:
        grid: the coefficients.
        level: of the noise, ``[N, 1, 1]``.
    """
    power = grid.real.square() + grid.imag.square() + level.square()
    compressed = grid * power.rsqrt()
    loudness = (power / level.square()).log() / 4
    parts = [grid.real, grid.imag, compressed.real, compressed.imag, loudness]
    stacked = torch.stack(parts, dim=-1)
    return stacked.reshape(*grid.shape[:-1], -1, INPUTS).movedim(-1, 1)


def _from_channels(channels: Tensor) -> Tensor:
    """Return coefficients ``[N, bands, frames]`` of real channels ``[N, OUTPUTS, bands, frames / FOLD]``."""
    last = channels.movedim(1, -1)
    return torch.view_as_complex(last.reshape(*last.shape[:-1], FOLD, 2).contiguous()).flatten(-2)


def _apply(blocks: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
    for block in cast(nn.ModuleList, blocks):
        h = block(h, embedding)
    return h


def _blocks(width: int, count: int) -> nn.ModuleList:
    return nn.ModuleList([_Block(width, 2**number) for number in range(count)])


class _Block(nn.Module):
    """Two convolutions with group normalisation, modulated by the noise level, and an additive skip connection."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.modulation = nn.Linear(EMBEDDING, 2 * width)
        self.first = _BandConvolution(width, (1, dilation))
        self.second = _BandConvolution(width, (2, 3 * dilation))
        nn.init.zeros_(self.second.convolution.weight)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = F.silu(torch.addcmul(shift, self.norm(x), 1 + scale))
        output: Tensor = x + self.second(F.silu(self.first(h)))
        return output


class _BandConvolution(nn.Module):
    """A convolution of 3 bands and 3 frames that wraps around along the bands."""

    def __init__(self, width: int, dilation: tuple[int, int]) -> None:
        super().__init__()
        self.reach = dilation[0]
        self.convolution = nn.Conv2d(width, width, 3, padding=(0, dilation[1]), dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        wrapped = torch.cat([x[..., -self.reach :, :], x, x[..., : self.reach, :]], dim=-2)
        output: Tensor = self.convolution(wrapped)
        return output
