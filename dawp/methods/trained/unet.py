"""A convolutional U-Net on waveforms with sub-pixel shuffling (Kuleshov et al. 2017, arXiv:1708.00853; Kim and Sathe
2019, arXiv:1903.09027).

    y -> (convolution, PReLU, halve) x N -> bottleneck -> (convolution, dropout, PReLU, double, stack) x N -> last -> +y

Halving moves pairs of successive samples into channels, and doubling is its inverse. Each block of the second half
concatenates its output with the input of the block of the same rate in the first half.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dawp.methods.trained.settings import UNetConfig, parse_kernels


def halve(x: Tensor) -> Tensor:
    """Return ``[B, 2 C, T / 2]``, with samples 2 t and 2 t + 1 of ``[B, C, T]`` as channels at time t."""
    batch, channels, length = x.shape
    return x.view(batch, channels, length // 2, 2).transpose(2, 3).reshape(batch, 2 * channels, length // 2)


def double(x: Tensor) -> Tensor:
    """Return ``[B, C / 2, 2 T]``: the inverse of ``halve``."""
    batch, channels, length = x.shape
    return x.view(batch, channels // 2, 2, length).transpose(2, 3).reshape(batch, channels // 2, 2 * length)


class Convolution(nn.Module):
    """Convolutions of several kernel sizes side by side, ``[B, c_in, T] -> [B, c_out, T]``."""

    def __init__(self, c_in: int, c_out: int, kernels: Sequence[int]) -> None:
        super().__init__()
        shares = [c_out // len(kernels) + (index < c_out % len(kernels)) for index in range(len(kernels))]
        self.parts = nn.ModuleList(
            nn.Conv1d(c_in, share, kernel, padding=kernel // 2) for share, kernel in zip(shares, kernels, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs = [part(x) for part in self.parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


class Down(nn.Module):
    """Convolution, PReLU and halving, ``[B, c_in, T] -> [B, c_out, T / 2]``; c_out is even."""

    def __init__(self, c_in: int, c_out: int, kernels: Sequence[int], normalize: bool = False) -> None:
        super().__init__()
        half = c_out // 2
        norm = [nn.BatchNorm1d(half)] if normalize else []
        self.layers = nn.Sequential(Convolution(c_in, half, kernels), *norm, nn.PReLU(half))

    def forward(self, x: Tensor) -> Tensor:
        return halve(self.layers(x))


class Up(nn.Module):
    """Convolution, dropout, PReLU and doubling, ``[B, c_in, T] -> [B, c_out, 2 T]``."""

    def __init__(self, c_in: int, c_out: int, kernels: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(Convolution(c_in, 2 * c_out, kernels), nn.Dropout(dropout), nn.PReLU(2 * c_out))

    def forward(self, x: Tensor) -> Tensor:
        return double(self.layers(x))


def widths(config: UNetConfig) -> list[int]:
    """Return the channels after each block of the first half, all even."""
    return [2 * -(-config.channels * level // 2) for level in range(1, config.depth + 1)]


class UNet(nn.Module):
    """The network ``y [B, 1, T] -> estimate [B, 1, T]``, for every T.

    Args:
        config: depth, channels, kernel sizes and dropout.
        additive: whether y is added to the output. A new network with this connection returns y.

    Example:
        >>> network = UNet(UNetConfig(depth=2, channels=4))
        >>> network(torch.zeros(1, 1, 101)).shape
        torch.Size([1, 1, 101])
    """

    def __init__(self, config: UNetConfig, additive: bool = True) -> None:
        super().__init__()
        kernels = parse_kernels("kernels", config.kernels, config.channels)
        after = widths(config)
        before = [1, *after[:-1]]
        self.depth, self.additive = config.depth, additive
        self.down = nn.ModuleList(Down(*pair, kernels) for pair in zip(before, after, strict=True))
        self.bottleneck = nn.Sequential(
            Convolution(after[-1], after[-1], kernels), nn.Dropout(config.dropout), nn.PReLU(after[-1])
        )
        inputs = [after[-1], *(2 * width for width in reversed(before[1:]))]
        outputs = [*reversed(before[1:]), after[0]]
        self.up = nn.ModuleList(
            Up(c_in, c_out, kernels, config.dropout) for c_in, c_out in zip(inputs, outputs, strict=True)
        )
        self.last = nn.Conv1d(after[0] + 1, 1, kernels[0], padding=kernels[0] // 2)
        if additive:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, y: Tensor) -> Tensor:
        return self.decode(*self.encode(y))

    def encode(self, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the activations of the bottleneck ``[B, C, F]`` and the inputs of all blocks of the first half.

        The first of these is y, padded with zeros to a multiple of ``2 ** depth`` samples.
        """
        step = 2**self.depth
        x, inputs = F.pad(y, (0, -y.shape[-1] % step)), []
        for down in self.down:
            inputs.append(x)
            x = down(x)
        return self.bottleneck(x), [*inputs, y]

    def decode(self, hidden: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        """Return the estimate ``[B, 1, T]`` from the output of ``encode``."""
        *inputs, y = inputs
        x = hidden
        for up, skip in zip(self.up, reversed(inputs), strict=True):
            x = torch.cat([up(x), skip], dim=1)
        output: Tensor = self.last(x)[..., : y.shape[-1]]
        return y + output if self.additive else output


class Discriminator(nn.Module):
    """The first half of the U-Net with batch normalisation, a mean over time and a linear layer.

    Args:
        config: depth, channels and kernel sizes.
        conditional: whether it also receives the corrupted clip.

    Returns:
        Logit ``[B]`` that a clip ``[B, 1, T]`` is clean; its sigmoid is the probability.
    """

    def __init__(self, config: UNetConfig, conditional: bool = False) -> None:
        super().__init__()
        kernels = parse_kernels("kernels", config.kernels, config.channels)
        after = widths(config)
        self.step, self.conditional = 2**config.depth, conditional
        self.down = nn.Sequential(
            *(Down(*pair, kernels, normalize=True) for pair in zip([1 + conditional, *after[:-1]], after, strict=True))
        )
        self.linear = nn.Linear(after[-1], 1)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        if self.conditional:
            x = torch.cat([x, observed], dim=1)
        x = F.pad(x, (0, -x.shape[-1] % self.step))
        logit: Tensor = self.linear(self.down(x).mean(dim=-1))[:, 0]
        return logit


class Autoencoder(nn.Module):
    """An autoencoder: the two halves of the U-Net without skip connections.

    A clip of T samples has a code of about T / 4 values. The code is a feature for a perceptual loss.

    Args:
        config: depth, channels and kernel sizes.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        kernels = parse_kernels("kernels", config.kernels, config.channels)
        after = widths(config)
        self.step = 2**config.depth
        code = max(len(kernels), self.step // 4)
        pairs = zip([1, *after[:-1]], after, strict=True)
        self.down = nn.Sequential(*(Down(*pair, kernels) for pair in pairs), Convolution(after[-1], code, kernels))
        outputs = [*reversed(after[:-1]), after[0]]
        pairs = zip([code, *outputs[:-1]], outputs, strict=True)
        self.up = nn.Sequential(*(Up(*pair, kernels, 0.0) for pair in pairs))
        self.last = nn.Conv1d(after[0], 1, kernels[0], padding=kernels[0] // 2)

    def encode(self, x: Tensor) -> Tensor:
        """Return the code ``[B, C, F]`` of a clip ``[B, 1, T]``."""
        code: Tensor = self.down(F.pad(x, (0, -x.shape[-1] % self.step)))
        return code

    def forward(self, x: Tensor) -> Tensor:
        decoded: Tensor = self.last(self.up(self.encode(x)))
        return decoded[..., : x.shape[-1]]


def refine(generator: UNet, discriminator: Discriminator, observed: Tensor, steps: int, rate: float) -> Tensor:
    """Refine the estimate of a generator by the gradient of the discriminator (Liu et al. 2020, arXiv:1902.00813).

    The activations h of the bottleneck follow the gradient of the discriminator's logit,

        h <- h + rate * rms(h) * g / rms(g),   g = d log D(G(h)) / d h,

    and the generator's second half maps them to the estimate.

    Args:
        generator: G; its weights are not changed.
        discriminator: D; its weights are not changed.
        observed: ``[B, 1, T]``.
        steps: number of steps.
        rate: size of a step relative to the RMS of the activations.

    Returns:
        ``[B, 1, T]``, detached.
    """
    with torch.no_grad():
        hidden, inputs = generator.encode(observed)
    with torch.enable_grad():
        for _ in range(steps):
            hidden.requires_grad_()
            logit = discriminator(generator.decode(hidden, inputs), observed)
            (gradient,) = torch.autograd.grad(F.logsigmoid(logit).sum(), hidden)
            size = _rms(hidden.detach()) / _rms(gradient).clamp(min=1e-20)
            hidden = hidden.detach() + rate * size * gradient
    with torch.no_grad():
        return generator.decode(hidden.detach(), inputs)


def _rms(x: Tensor) -> Tensor:
    """Return the RMS of each item of a batch, ``[B, 1, 1]``."""
    return x.square().mean(dim=(1, 2), keepdim=True).sqrt()
