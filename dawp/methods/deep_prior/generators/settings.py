"""Settings of the generators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dawp.errors import BadInput
from dawp.settings import Settings, setting


@dataclass(frozen=True)
class GeneratorConfig(Settings):
    """Generator: the network."""

    generator: str = setting(
        "demucs",
        "the paper's waveform Demucs, or its baseline Wave-U-Net with settings of its own",
        choices=("demucs", "waveunet"),
    )
    depth: int = setting(2, "convolution blocks in the encoder, and in the decoder", at_least=1, at_most=8)
    channels: int = setting(
        64, "channels of the first block; each further block has twice as many", at_least=2, at_most=4096
    )
    lstm_layers: int = setting(4, "layers of the bidirectional LSTM at the bottom; 0 for none", at_least=0, at_most=64)
    attention_layers: int = setting(
        0, "layers of a transformer encoder in the LSTM's place (with --lstm_layers 0)", at_least=0, at_most=64
    )
    attention_heads: int = setting(2, "attention heads of each transformer layer", at_least=1, at_most=1024)
    glu: bool = setting(False, "gated linear units in place of the ReLU after the 1x1 and context convolutions")
    skip: bool = setting(False, "skip connections between encoder and decoder")
    resample: bool = setting(True, "run the network at twice the sample rate")
    waveunet_levels: int = setting(
        12, "levels of the Wave-U-Net, each at half the rate of the one above", at_least=1, at_most=16
    )
    waveunet_filters: int = setting(
        24, "channels that each level of the Wave-U-Net has more than the one above", at_least=1, at_most=4096
    )
    waveunet_output: str = setting("tanh", "end of the Wave-U-Net", choices=("tanh", "linear"))

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
        waveunet = self.generator == "waveunet"
        return {
            name: value
            for name, value in super().identity().items()
            if (name == "generator" or name.startswith("waveunet") == waveunet)
            and (name != "attention_heads" or self.attention_layers)
        }
