"""Settings of the generators."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dawp.errors import BadInput, printable
from dawp.methods.deep_prior.generators.base import GENERATORS, GeneratorKind, register
from dawp.methods.trained.settings import UNetConfig, parse_kernels
from dawp.settings import Settings, setting


@dataclass(frozen=True)
class DemucsConfig(Settings):
    """Demucs: the paper's network."""

    depth: int = setting(2, "convolution blocks in the encoder, and in the decoder", at_least=1, at_most=8)
    channels: int = setting(
        64, "channels of the first block; each further block has twice as many", at_least=2, at_most=4096
    )
    lstm_layers: int = setting(4, "layers of the bidirectional LSTM at the bottom; 0 for none", at_least=0, at_most=64)
    attention_layers: int = setting(
        0, "layers of a transformer encoder instead of the LSTM (with --lstm_layers 0)", at_least=0, at_most=64
    )
    attention_heads: int = setting(2, "attention heads of each transformer layer", at_least=1, at_most=1024)
    glu: bool = setting(False, "gated linear units instead of the ReLU after the 1x1 and context convolutions")
    skip: bool = setting(False, "skip connections between encoder and decoder")
    resample: bool = setting(True, "run the network at twice the sample rate")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lstm_layers and self.attention_layers:
            raise BadInput(
                f"lstm_layers ({self.lstm_layers}) and attention_layers ({self.attention_layers}) "
                "cannot both be used: set one of them to 0"
            )
        width = self.channels * 2 ** (self.depth - 1)
        if self.attention_layers and width % self.attention_heads:
            raise BadInput(
                f"attention_heads must divide the {width} channels at the bottom, got {self.attention_heads}"
            )

    def identity(self) -> dict[str, Any]:
        values = super().identity()
        if not self.attention_layers:
            values.pop("attention_heads")
        return values


@dataclass(frozen=True)
class WaveUNetConfig(Settings):
    """Wave-U-Net: the paper's baseline."""

    waveunet_levels: int = setting(
        12, "levels of the Wave-U-Net, each at half the rate of the one above", at_least=1, at_most=16
    )
    waveunet_filters: int = setting(
        24, "channels that each level of the Wave-U-Net has more than the one above", at_least=1, at_most=4096
    )
    waveunet_output: str = setting("tanh", "end of the Wave-U-Net", choices=("tanh", "linear"))


@dataclass(frozen=True)
class SpectrogramConfig(Settings):
    """Spectrogram: a two-dimensional network that generates an STFT."""

    spectrogram_network: str = setting(
        "harmonic",
        "two-dimensional network: harmonic convolutions, hourglass with narrow skip connections (Deep Image Prior), "
        "transposed convolutions (dcgan), or convolutions dilated in time",
        choices=("harmonic", "hourglass", "dcgan", "dilated"),
    )
    spectrogram_channels: int = setting(
        16, "channels of each layer of the spectrogram network", at_least=1, at_most=1024
    )
    spectrogram_window: int = setting(
        512, "window of the STFT in samples, a multiple of 4; the hop is a quarter of it", at_least=16, at_most=2**16
    )
    spectrogram_harmonics: int = setting(5, "harmonics of each harmonic convolution", at_least=1, at_most=64)
    spectrogram_anchor: int = setting(
        2, "a frequency is this harmonic in the harmonic convolutions", at_least=1, at_most=64
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spectrogram_window % 4:
            raise BadInput(f"spectrogram_window must be a multiple of 4, got {self.spectrogram_window}")

    def identity(self) -> dict[str, Any]:
        values = super().identity()
        if self.spectrogram_network != "harmonic":
            del values["spectrogram_harmonics"], values["spectrogram_anchor"]
        return values


@dataclass(frozen=True)
class SubpixelConfig(Settings):
    """Sub-pixel U-Net: the network of python -m dawp train unet, here untrained."""

    subpixel_depth: int = setting(
        6, "blocks of the sub-pixel U-Net that halve the rate, and as many that double it", at_least=1, at_most=12
    )
    subpixel_channels: int = setting(
        24, "channels of its first block; block l has l times as many", at_least=2, at_most=1024
    )
    subpixel_kernels: str = setting(
        "9", "odd kernel sizes of its convolutions, separated by commas; several sizes share the channels of a block"
    )
    init: Path | None = setting(
        None,
        "model file of a trained U-Net with the first weights of the sub-pixel U-Net, of the same depth, channels and "
        "kernels",
        none="random weights",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_kernels("subpixel_kernels", self.subpixel_kernels, self.subpixel_channels)

    @property
    def network(self) -> UNetConfig:
        """The settings of the network."""
        return UNetConfig(self.subpixel_depth, self.subpixel_channels, self.subpixel_kernels)

    def identity(self) -> dict[str, Any]:
        """Return the settings that the numbers depend on: the content of the model file instead of its path."""
        values = super().identity()
        if self.init is None:
            del values["init"]
        else:
            from dawp.methods.trained.weights import digest_of

            values["init"] = digest_of(self.init)
        return values


@dataclass(frozen=True)
class _Choice(Settings):
    generator: str = setting(
        "demucs",
        lambda: "network: " + "; ".join(f"{name}, {kind.about}" for name, kind in GENERATORS.items()),
        choices=lambda: GENERATORS,
    )


@dataclass(frozen=True)
class GeneratorConfig(SubpixelConfig, SpectrogramConfig, WaveUNetConfig, DemucsConfig, _Choice):
    """Generator: the network."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init is not None and self.generator != "subpixel":
            raise BadInput(f"init must be none for the generator {self.generator}, got {printable(self.init)}")

    @property
    def kind(self) -> GeneratorKind:
        """The chosen generator."""
        return GENERATORS[self.generator]

    def identity(self) -> dict[str, Any]:
        """Return the name of the chosen generator and, if they are in this group, its settings."""
        names = {"generator"}
        values = super().identity()
        if self.kind.settings is not None and isinstance(self, self.kind.settings):
            names |= {field.name for field in fields(self.kind.settings)}
        return {name: value for name, value in values.items() if name in names}


def groups_of_generators() -> dict[str, type[Settings]]:
    """Return the settings of the generators that are not part of ``GeneratorConfig``, by the names of their groups."""
    return {
        group_name(name): kind.settings
        for name, kind in GENERATORS.items()
        if kind.settings is not None and not issubclass(GeneratorConfig, kind.settings)
    }


def group_name(generator: str) -> str:
    """Return the name of the group of settings of a generator that has its own."""
    return f"generator_{generator}"


for _kind in (
    GeneratorKind(
        name="demucs",
        about="the paper's waveform Demucs",
        network="dawp.methods.deep_prior.generators.demucs:Demucs",
        settings=DemucsConfig,
    ),
    GeneratorKind(
        name="waveunet",
        about="its baseline Wave-U-Net",
        network="dawp.methods.deep_prior.generators.waveunet:WaveUNet",
        settings=WaveUNetConfig,
    ),
    GeneratorKind(
        name="spectrogram",
        about="an untrained 2-D network and an inverse STFT",
        network="dawp.methods.deep_prior.generators.spectrogram:Spectrogram",
        settings=SpectrogramConfig,
    ),
    GeneratorKind(
        name="subpixel",
        about="a U-Net with sub-pixel shuffling",
        network="dawp.methods.deep_prior.generators.subpixel:Subpixel",
        settings=SubpixelConfig,
        check="dawp.methods.deep_prior.generators.subpixel:check_init",
    ),
):
    register(_kind)
