"""The registry of the kinds of models that can be trained.

This module loads no network: the command line reads it for its help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dawp.errors import BadInput, printable
from dawp.plugins import add_part, import_object
from dawp.settings import Settings


@dataclass(frozen=True)
class ModelKind:
    """A kind of model that can be trained.

    Attributes:
        name: as on the command line and in the model file.
        about: one line for the help.
        settings: class of its settings, whose fields are flags.
        trainer: class of its networks, losses and metrics, a subclass of ``training.trainer.Trainer``; its only
            argument is a ``TrainingConfig``. As ``"module:Class"`` it is imported when it is needed.
        corrupts: whether the clips are corrupted by a task, whose settings are flags, too.
        defaults: settings of the data and of the loop whose defaults differ for this kind, by name.
    """

    name: str
    about: str
    settings: type[Settings]
    trainer: str | type[Any]
    corrupts: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def build(self, config: Any) -> Any:
        """Return the ``Trainer``, with random weights from torch's global random state.

        Args:
            config: all settings (``training.settings.TrainingConfig``).
        """
        return import_object(self.trainer)(config)


KINDS: dict[str, ModelKind] = {}
"""The registered kinds of models, by name."""


def register(kind: ModelKind) -> None:
    """Add a kind of model to the registry, for ``python -m dawp train``.

    Raises:
        ValueError: there is a kind of that name.
    """
    add_part(KINDS, kind.name, kind, "kind of model")


def get_kind(name: str) -> ModelKind:
    """Return a registered kind of model.

    Raises:
        BadInput: there is none of that name.
    """
    if name not in KINDS:
        raise BadInput(f"kind must be one of {', '.join(KINDS)}, got {printable(name)}")
    return KINDS[name]
