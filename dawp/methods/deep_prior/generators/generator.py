"""The base class of networks: interface, gain and output length."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn, ones

from dawp.errors import BadInput
from dawp.io.settings import MIN_LENGTH


class Generator(nn.Module, ABC):
    """Base of the networks ``z [B, 1, valid_length(T)] -> waveform [B, 1, T]``, for every T of at least 64 samples.

    The buffer ``gain``, initially 1, scales the output, so that a fit can normalise the level of the clip.
    """

    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", ones(()))

    def valid_length(self, length: int) -> int:
        """Return the number of samples of input noise for ``length`` samples of output.

        Raises:
            BadInput: ``length`` is under 64 samples.
        """
        if length < MIN_LENGTH:
            raise BadInput(f"the clip must have at least {MIN_LENGTH} samples, got {length}", code="unusable_recording")
        return self._valid_length(length)

    def gain_for(self, waveform: Tensor) -> Tensor:
        """Return the gain for a target waveform ``[T]``, by default its RMS."""
        return waveform.square().mean().sqrt()

    def forward(self, z: Tensor, length: int) -> Tensor:
        """Generate ``length`` samples from the input noise.

        Args:
            z: input noise ``[B, 1, valid_length(length)]``.
            length: samples of output, T.

        Returns:
            Waveform ``[B, 1, T]``.
        """
        return self.gain * centre_trim(self._generate(z), length)

    @abstractmethod
    def _valid_length(self, length: int) -> int:
        """``valid_length`` of a length that is long enough."""

    @abstractmethod
    def _generate(self, z: Tensor) -> Tensor:
        """The waveform ``[B, 1, at least T]`` before gain and trim."""


def centre_trim(x: Tensor, length: int) -> Tensor:
    """Return the middle ``length`` samples of the last axis; if the surplus is odd, one more is cut on the right."""
    start = (x.shape[-1] - length) // 2
    return x[..., start : start + length]
