"""The environment of a command: versions, seed and device."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from dawp.config import Config
from dawp.devices import pick_device
from dawp.methods.deep_prior.solver import describe

PACKAGES = (
    *("torch", "torchaudio", "numpy", "scipy", "librosa", "pesq", "julius", "soundfile", "pyroomacoustics"),
    *("noisereduce", "nara_wpe"),
)


def environment(config: Config, command: Sequence[str]) -> dict[str, Any]:
    """What is to be known of a command beside its settings: versions, seed, device."""
    return {
        "task": config.task,
        "preset": config.preset,
        "seed": config.fit.seed,
        "device": device_label(config),
        "command": list(command),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def check_device(config: Config) -> None:
    """Refuse a device that is not there; what the nodes of a cluster have is not known here."""
    if config.work.executor == "local":
        pick_device(config.fit.device)


def device_label(config: Config) -> str:
    """The device of a command, in words."""
    if config.work.executor == "ray":
        return f"{config.fit.device} of a Ray cluster's nodes"
    device = pick_device(config.fit.device)
    return describe(device) + (" (no CUDA here)" if config.fit.device == "auto" and device.type == "cpu" else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
