"""The base class of the networks, losses and metrics that the training loop needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dawp.errors import BadInput
from dawp.settings import Settings

if TYPE_CHECKING:
    from dawp.training.settings import TrainingConfig


class Batch(NamedTuple):
    """Clips of one length.

    Attributes:
        clean: ``[B, T]``.
        observed: the corrupted clips ``[B, T]``; the clean ones if no task corrupts them.
    """

    clean: Tensor
    observed: Tensor


class Trainer(ABC):
    """A kind of model in training.

    A subclass creates its networks and optimizers in ``__init__``. ``setup`` moves them to the device and wraps them,
    so that they must be called as ``self.networks[name](...)``, and losses be differentiated by ``self.backward``.

    Args:
        config: all settings.

    Attributes:
        networks: every network, by name.
        optimizers: every optimizer, by the name of its network.
        averages: moving averages of the weights of the networks that ``averaged`` names.
        averaged: names of the networks whose average is evaluated and saved.
        model_class: class of the settings from which the saved networks are built again, a base of that of the kind.
        rate: sample rate of the model in Hz.
    """

    averaged: Sequence[str] = ()
    model_class: type[Settings]

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.rate = config.data.samplerate
        self.networks: dict[str, nn.Module] = {}
        self.optimizers: dict[str, Any] = {}
        self.averages: dict[str, AveragedModel] = {}
        self.fabric: Any = None

    @abstractmethod
    def step(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """Update the networks by one batch, and return the losses.

        Args:
            batch: on the device.
            rng: source of random draws, on the CPU. The global random state of torch is seeded for each step, too.

        Returns:
            Detached scalars by name; the same names in every step.
        """

    @abstractmethod
    def evaluate(self, clips: Sequence[Batch], rng: torch.Generator) -> dict[str, float]:
        """Return metrics of the averaged networks on held-out clips, by name; the networks are in evaluation mode.

        Args:
            clips: one clip each, ``[1, T]``, on the device.
            rng: source of random draws, the same in every evaluation.
        """

    def model_settings(self) -> dict[str, Any]:
        """Return the settings from which the saved networks are built again; values are numbers, text or None."""
        return {field.name: getattr(self.config.model, field.name) for field in fields(self.model_class)}

    def saved_networks(self) -> dict[str, nn.Module]:
        """Return the networks of the model file, by name: by default those that are averaged."""
        return {name: self.network(name) for name in self.averaged}

    def network(self, name: str) -> nn.Module:
        """Return the average of a network if there is one, otherwise the network itself, both without wrappers."""
        if name in self.averages:
            averaged: nn.Module = self.averages[name].module
            return averaged
        return _unwrapped(self.networks[name])

    def setup(self, fabric: Any) -> None:
        """Move networks and optimizers to the device, and start the averages."""
        self.fabric = fabric
        decay = self.config.loop.average
        for name in self.averaged if decay else ():
            self.averages[name] = AveragedModel(self.networks[name], fabric.device, multi_avg_fn=_moving_average(decay))
            self.averages[name].eval().requires_grad_(False)
        for name, network in self.networks.items():
            self.networks[name] = fabric.setup_module(network)
        for name, optimizer in self.optimizers.items():
            self.optimizers[name] = fabric.setup_optimizers(optimizer)

    def update_averages(self) -> None:
        """Add the current weights to the moving averages."""
        for name, average in self.averages.items():
            average.update_parameters(_unwrapped(self.networks[name]))

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss."""
        self.fabric.backward(loss)

    def limit_gradients(self, name: str, norm: float) -> None:
        """Limit the norm of the gradient of a network. If it is not finite, neither are the losses of later steps."""
        self.fabric.clip_gradients(self.networks[name], self.optimizers[name], max_norm=norm, error_if_nonfinite=False)

    def state(self) -> dict[str, Any]:
        """Return everything that later steps depend on; tensors are not copied."""
        return {
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "averages": {name: average.state_dict() for name, average in self.averages.items()},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state``."""
        for part in ("networks", "optimizers", "averages"):
            for name, values in state[part].items():
                getattr(self, part)[name].load_state_dict(values)

    def load_weights(self, networks: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Start from the weights of a model file; called before ``setup``. Networks without weights stay random.

        Raises:
            BadInput: the weights do not fit a network.
        """
        for name in self.networks.keys() & networks.keys():
            expected = {key: tensor.shape for key, tensor in self.networks[name].state_dict().items()}
            if expected != {key: tensor.shape for key, tensor in networks[name].items()}:
                raise BadInput(f"load must be a model with the settings of this training, got another {name}")
            self.networks[name].load_state_dict(networks[name])


def _unwrapped(network: nn.Module) -> nn.Module:
    """Return a network without the wrapper of Fabric."""
    plain: nn.Module = getattr(network, "module", network)
    return plain


def _moving_average(decay: float) -> Any:
    """Return an exponential moving average for ``AveragedModel``.

    After n steps its decay is ``min(decay, (1 + n) / (10 + n))``, so that it soon forgets the first weights.
    """

    def update(averaged: Any, current: Any, steps: Any) -> None:
        n = int(steps)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
