"""A generator of the complex spectrogram: an untrained two-dimensional network and an inverse STFT.

z -> network -> complex image [bins, frames] -> squared magnitudes, modulation -> inverse STFT -> waveform
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from dawp.methods.deep_prior.generators.generator import Generator
from dawp.methods.deep_prior.generators.settings import SpectrogramConfig
from dawp.methods.deep_prior.generators.spectrogram_networks import (
    DCGAN,
    Dilated,
    Harmonic,
    Hourglass,
    ImageNetwork,
)

OVERLAP = 4  # frames per sample
NETWORKS: dict[str, type[Hourglass | DCGAN | Dilated]] = {
    "hourglass": Hourglass,
    "dcgan": DCGAN,
    "dilated": Dilated,
}


class Spectrogram(Generator):
    """The network generates a complex number c for each bin k and frame t, and the bin is ``c |c|``.

    Thus the range of levels in dB that the network has to generate is half that of the spectrogram. The phase of c
    refers to the beginning of the clip and not to that of the frame: a steady tone at the centre of a bin has a
    constant c, and other tones rotate slowly.

    Args:
        config: the network and the STFT.

    Example:
        >>> generator = Spectrogram(SpectrogramConfig(spectrogram_channels=4))
        >>> z = torch.zeros(1, 1, generator.valid_length(1000))
        >>> generator(z, 1000).shape
        torch.Size([1, 1, 1000])
    """

    def __init__(self, config: SpectrogramConfig) -> None:
        super().__init__()
        self.size = config.spectrogram_window
        self.hop = self.size // OVERLAP
        self.bins = self.size // 2 + 1
        self.network = _network(config)

    def _valid_length(self, length: int) -> int:
        return math.prod(self.network.input_shape(self.bins, -(-length // self.hop) + 1))

    def _generate(self, z: Tensor) -> Tensor:
        channels, rows, _ = self.network.input_shape(self.bins, 1)
        image = self.network(z.reshape(len(z), channels, rows, -1))[..., : self.bins, :]
        root = torch.view_as_complex(image.permute(0, 2, 3, 1).contiguous())
        spectrum = root * root.abs() * _rotation(self.bins, root.shape[-1], root.device)
        window = _window(self.size, root.device)
        return torch.istft(spectrum, self.size, self.hop, window=window, normalized=True)[:, None]


def _network(config: SpectrogramConfig) -> ImageNetwork:
    channels = config.spectrogram_channels
    if config.spectrogram_network == "harmonic":
        return Harmonic(channels, 2, config.spectrogram_harmonics, config.spectrogram_anchor)
    return NETWORKS[config.spectrogram_network](channels, 2)


@cache
def _window(size: int, device: torch.device) -> Tensor:
    return torch.hann_window(size).to(device)


@cache
def _rotation(bins: int, frames: int, device: torch.device) -> Tensor:
    """Return the phase that bin k would have in frame t if it were 0 at the beginning of the clip, ``[bins, frames]``.

    ``torch.istft`` counts the phase from the beginning of the frame, two hops before its centre.
    """
    quarter = torch.arange(bins)[:, None] * (torch.arange(frames) - OVERLAP // 2) % OVERLAP
    return torch.tensor([1, 1j, -1, -1j], dtype=torch.complex64)[quarter].to(device)
