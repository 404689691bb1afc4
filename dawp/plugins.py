"""Modules from outside the package that register tasks, methods and other parts."""

from __future__ import annotations

import importlib
import os
from typing import Any, TypeVar

from dawp.errors import BadInput, printable

Part = TypeVar("Part")

VARIABLE = "DAWP_PLUGINS"
"""Environment variable that names the modules, separated by commas. Worker processes inherit it."""


def load() -> None:
    """Import the modules that the environment variable ``DAWP_PLUGINS`` names; each registers its parts on import.

    Raises:
        BadInput: a module cannot be imported.
    """
    for name in filter(None, (name.strip() for name in os.environ.get(VARIABLE, "").split(","))):
        try:
            importlib.import_module(name)
        except Exception as error:  # a module from outside can raise anything
            reason = f"{type(error).__name__}: {error}"
            raise BadInput(
                f"{VARIABLE} must name modules that can be imported, got {printable(name)} ({reason})"
            ) from None


def add_part(parts: dict[str, Part], name: str, part: Part, kind: str) -> None:
    """Add a part to a registry.

    Args:
        parts: the registry, by name.
        name: of the part.
        part: the part.
        kind: the kind of part, for the message.

    Raises:
        ValueError: the name is taken.
    """
    if name in parts:
        raise ValueError(f"{kind} {name} is already registered")
    parts[name] = part


def import_object(reference: Any) -> Any:
    """Return the object that ``"module:name"`` refers to; other objects are returned unchanged."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
