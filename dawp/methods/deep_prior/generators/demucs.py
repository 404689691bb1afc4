"""The waveform Demucs without skip connections (paper section 2; Défossez et al. 2019, arXiv:1911.13254).

An encoder of strided convolutions, a sequence model at the bottom, a mirrored decoder:

    z -> [x2] -> encoder -> LSTM | transformer | nothing -> decoder -> [/2] -> waveform

The paper removes the skip connections, because with them the network copies the corruption at every depth, and uses
only 2 blocks, so that the network still learns.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from julius.resample import ResampleFrac
from torch import Tensor, nn

from dawp.methods.deep_prior.generators import lstm
from dawp.methods.deep_prior.generators.generator import Generator, centre_trim
from dawp.methods.deep_prior.generators.settings import DemucsConfig

# The paper's architecture itself (section 2.1: "a kernel of size 8 with a step of 4"), not settings of it.
KERNEL_SIZE = 8
STRIDE = 4
CONTEXT = 3  # kernel of the decoder's convolutions
GROWTH = 2  # channels double from block to block
RESCALE = 0.1  # reference standard deviation of the convolutions' first weights


class Demucs(Generator):
    """Encoder, sequence model and decoder. The length of z is such that no layer drops samples.

    Args:
        config: the architecture; its defaults are the paper's (Conv + LSTM, 1,697,537 parameters).

    Example:
        >>> generator = Demucs(DemucsConfig(depth=2, lstm_layers=0))
        >>> z = torch.zeros(1, 1, generator.valid_length(1000))
        >>> generator(z, 1000).shape
        torch.Size([1, 1, 1000])
    """

    def __init__(self, config: DemucsConfig) -> None:
        super().__init__()
        self.depth = config.depth
        self.skip = config.skip
        self.resample = config.resample
        widths = [config.channels * GROWTH**block for block in range(config.depth)]
        inputs = [1, *widths[:-1]]
        self.encoder = nn.ModuleList(
            _encoder_block(c_in, c_out, config.glu) for c_in, c_out in zip(inputs, widths, strict=True)
        )
        self.bottom = _bottom(widths[-1], config)
        # The outermost block comes last and ends without a ReLU: a waveform has both signs.
        self.decoder = nn.ModuleList(
            _decoder_block(c_out, c_in, config.glu, last=c_in == 1)
            for c_in, c_out in reversed(list(zip(inputs, widths, strict=True)))
        )
        _rescale_convolutions(self)

    def _valid_length(self, length: int) -> int:
        if self.resample:
            length *= 2
        for _ in range(self.depth):
            length = max(1, math.ceil((length - KERNEL_SIZE) / STRIDE) + 1) + CONTEXT - 1
        for _ in range(self.depth):
            length = (length - 1) * STRIDE + KERNEL_SIZE
        return length // 2 if self.resample else length

    def _generate(self, z: Tensor) -> Tensor:
        x: Tensor = z
        if self.resample:
            x = _resampler(1, 2, x.device)(x)
        saved = []
        for encode in self.encoder:
            x = encode(x)  # (B, channels, frames)
            saved.append(x)
        x = self.bottom(x)
        for decode in self.decoder:
            if self.skip:
                x = x + centre_trim(saved.pop(), x.shape[-1])
            x = decode(x)
        if self.resample:
            x = _resampler(2, 1, x.device)(x)
        return x


@cache
def _resampler(old_rate: int, new_rate: int, device: torch.device) -> ResampleFrac:
    """Return the resampler of a device from a cache: copying its kernel from the CPU makes the host wait for a GPU.

    It is not a submodule, because the state of the network contains only weights.
    """
    return ResampleFrac(old_rate, new_rate).to(device)


class _BLSTM(nn.Module):
    """Bidirectional LSTM over the frames, then a linear layer back to the number of channels."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers=layers, bidirectional=True)
        self.linear = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(2, 0, 1)  # (frames, B, channels)
        x = self.linear(lstm.outputs(self.lstm, x))
        return x.permute(1, 2, 0)


class _Transformer(nn.Module):
    """Transformer encoder over the frames instead of the LSTM (paper section 6).

    There is no dropout, because the output of an epoch must depend only on the weights and ``z``.
    """

    def __init__(self, channels: int, layers: int, heads: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(channels, heads, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.encoder(x.permute(2, 0, 1))
        return y.permute(1, 2, 0)


def _encoder_block(c_in: int, c_out: int, glu: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(c_in, c_out, KERNEL_SIZE, STRIDE),
        nn.ReLU(),
        nn.Conv1d(c_out, (2 if glu else 1) * c_out, 1),
        _activation(glu),
    )


def _decoder_block(c_in: int, c_out: int, glu: bool, last: bool) -> nn.Sequential:
    layers = [
        nn.Conv1d(c_in, (2 if glu else 1) * c_in, CONTEXT),
        _activation(glu),
        nn.ConvTranspose1d(c_in, c_out, KERNEL_SIZE, STRIDE),
    ]
    return nn.Sequential(*layers) if last else nn.Sequential(*layers, nn.ReLU())


def _activation(glu: bool) -> nn.Module:
    return nn.GLU(dim=1) if glu else nn.ReLU()


def _bottom(channels: int, config: DemucsConfig) -> nn.Module:
    if config.attention_layers:
        return _Transformer(channels, config.attention_layers, config.attention_heads)
    if config.lstm_layers:
        return _BLSTM(channels, config.lstm_layers)
    return nn.Identity()


@torch.no_grad()
def _rescale_convolutions(module: nn.Module) -> None:
    """Rescale the initial weights of each convolution halfway (in dB) to a standard deviation of 0.1."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
            scale = (layer.weight.std() / RESCALE) ** 0.5
            layer.weight /= scale
            if layer.bias is not None:
                layer.bias /= scale
