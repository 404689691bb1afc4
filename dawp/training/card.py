"""The model card: data, settings, versions and metrics of a trained model."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dawp
from dawp.io.files import write_json
from dawp.methods.trained.weights import digest_of, parameters
from dawp.training.data import Recordings
from dawp.training.settings import TrainingConfig
from dawp.training.trainer import Trainer

PACKAGES = ("torch", "torchaudio", "numpy", "scipy", "lightning-fabric")


def write_card(
    path: Path,
    config: TrainingConfig,
    trainer: Trainer,
    rows: Sequence[Mapping[str, float]],
    training: Recordings,
    held_out: Recordings,
    device: str,
    seconds: float,
    write: bool = True,
) -> dict[str, Any]:
    """Write the model card as JSON, and return its content.

    Args:
        path: of the card.
        config: all settings.
        trainer: the trained networks.
        rows: the logged losses and metrics; the last one has the metrics of the saved model.
        training: the recordings that the model was trained on.
        held_out: those of the metrics.
        device: that was used, as ``cpu`` or ``cuda:0``.
        seconds: time of the training.
        write: whether the file is written.
    """
    networks = {name: network.state_dict() for name, network in trainer.saved_networks().items()}
    card = {
        "model": config.loop.output.name,
        "digest": digest_of(config.loop.output),
        "kind": config.kind.name,
        "task": config.task,
        "rate": config.data.samplerate,
        "parameters": {name: parameters(tensors) for name, tensors in networks.items()},
        "data": {
            "folder": config.data.data,
            "training": {"recordings": len(training.paths), "hours": round(training.hours, 4)},
            "held_out": {
                "recordings": len(held_out.paths),
                "hours": round(held_out.hours, 4),
                "files": [found.name for found in held_out.paths],
            },
        },
        "settings": {**config.identity(), "device": device},
        "steps": int(rows[-1]["step"]) if rows else 0,
        "seconds": round(seconds, 1),
        "metrics": {name: value for name, value in (rows[-1] if rows else {}).items() if name != "step"},
        "before_training": {name: value for name, value in (rows[0] if rows else {}).items() if name != "step"},
        "versions": {
            "dawp": dawp.__version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    if write:
        write_json(path, card)
    return card


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
