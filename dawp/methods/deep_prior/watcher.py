"""The interface of all watchers of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

State = Mapping[str, Any]
"""The state of a watcher during a fit: tensors, not copied, in dicts and lists."""


class Watcher(Protocol):
    """An object that is updated at each epoch of a fit, and is resumed with it."""

    def state(self) -> State: ...

    def resume(self, state: State) -> None: ...
