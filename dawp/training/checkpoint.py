"""Checkpoints of a training."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dawp.errors import BadInput, printable
from dawp.io.files import atomic_write
from dawp.training.settings import TrainingConfig

FORMAT = 1
SEAL = hashlib.sha256().digest_size


def save_checkpoint(path: Path, state: Mapping[str, Any], config: TrainingConfig) -> None:
    """Write the state of a training atomically, with the settings that it depends on."""
    content = io.BytesIO()  # a full disk is an OSError then, which torch.save would make a RuntimeError
    torch.save({**state, "format": FORMAT, "settings": _text(config)}, content)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(content.getbuffer()).digest())
        file.write(content.getbuffer())


def load_checkpoint(path: Path, config: TrainingConfig) -> dict[str, Any]:
    """Return the state of a training.

    Raises:
        BadInput: there is no checkpoint, it is damaged, or it belongs to other settings.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(
            f"resume must have a checkpoint to continue from, got none at {printable(path)}", code="not_found"
        ) from None
    seal, content = content[:SEAL], content[SEAL:]
    if seal != hashlib.sha256(content).digest():
        raise BadInput(
            f"resume must have an intact checkpoint, got a damaged one at {printable(path)}", code="damaged_results"
        )
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # torch raises errors of many types
        raise BadInput(
            f"resume must have a valid checkpoint, got {printable(path)} ({type(error).__name__})",
            code="damaged_results",
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise BadInput(
            f"resume must have a checkpoint of format {FORMAT}, got another one at {printable(path)}",
            code="damaged_results",
        )
    saved, current = json.loads(state["settings"]), json.loads(_text(config))
    differing = sorted(name for name in saved.keys() | current.keys() if saved.get(name) != current.get(name))
    if differing:
        raise BadInput(f"resume must have the settings of its checkpoint, got other values of {', '.join(differing)}")
    return state


def _text(config: TrainingConfig) -> str:
    return json.dumps(config.identity(), default=str)
