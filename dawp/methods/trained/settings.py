"""Settings of the methods with trained networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dawp.errors import BadInput, printable
from dawp.settings import Settings, setting

MAX_KERNEL = 511


@dataclass(frozen=True)
class TrainedConfig(Settings):
    """Trained networks: the model file of the methods that need one."""

    weights: Path | None = setting(
        None,
        "model file of a trained network (--method unet or diffusion), written by python -m dawp train",
        none="required by these methods",
        brief="model file of a trained network",
    )

    def identity(self) -> dict[str, Any]:
        """Return the settings that the numbers depend on: the content of the model file instead of its path."""
        if self.weights is None:
            return {"weights": None}
        from dawp.methods.trained.weights import digest_of

        return {"weights": digest_of(self.weights)}

    def check_use(self) -> None:
        """Check that there is a model file.

        Raises:
            BadInput: there is none.
        """
        self.get_weights()

    def get_weights(self) -> Path:
        """Return the model file.

        Raises:
            BadInput: there is none.
        """
        if self.weights is None:
            raise BadInput("--weights must be the model file of a trained network, got none")
        return self.weights


@dataclass(frozen=True)
class UNetConfig(Settings):
    """U-Net: the network."""

    depth: int = setting(
        6, "blocks that halve the rate, and as many that double it", at_least=1, at_most=12, short="-d"
    )
    channels: int = setting(24, "channels of the first block; block l has l times as many", at_least=2, at_most=1024)
    kernels: str = setting(
        "9", "odd kernel sizes of the convolutions, separated by commas; several sizes share the channels of a block"
    )
    dropout: float = setting(0.0, "probability of the dropout in the blocks that double the rate", at_least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_kernels("kernels", self.kernels, self.channels)


@dataclass(frozen=True)
class UNetModelConfig(UNetConfig):
    """U-Net: the network and the refinement of its estimates."""

    conditional: bool = setting(False, "give the discriminator the corrupted clip as well")
    collab: bool = setting(
        False,
        "collaborative sampling: train a discriminator on refined estimates as well, save it in the model file, and "
        "refine the estimates of a restoration by its gradient",
    )
    collab_steps: int = setting(5, "steps of the refinement", at_least=1, at_most=1000)
    collab_rate: float = setting(
        0.05, "size of a step of the refinement, relative to the activations", above=0, at_most=10
    )


def parse_kernels(name: str, text: str, channels: int) -> list[int]:
    """Parse kernel sizes separated by commas.

    Args:
        name: of the setting, for messages.
        text: the sizes.
        channels: of the first block, at least as many as sizes.

    Raises:
        BadInput: a size is not an odd number from 1 to 511, or there are more sizes than channels.
    """
    parts = text.split(",")
    sizes = [int(part) for part in parts if part.strip().isdecimal() and len(part) < 9]
    if len(sizes) < len(parts) or any(size % 2 == 0 or size > MAX_KERNEL for size in sizes) or len(sizes) > channels:
        raise BadInput(
            f"{name} must be odd numbers from 1 to {MAX_KERNEL}, separated by commas, at most {channels} of them, "
            f"got {printable(text)}"
        )
    return sizes
