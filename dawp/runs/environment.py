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
    """Return what reproducing a command needs beside its settings: versions, seed and device."""
    return {
        "task": config.task,
        "preset": config.preset,
        "seed": config.fit.seed,
        "device": device_label(config),
        "command": list(command),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
    }


def check_device(config: Config) -> None:
    """Check that the device is available; the nodes of a cluster are not checked.

    Raises:
        BadInput: it is not.
    """
    if config.work.executor == "local":
        pick_device(config.fit.device)


def device_label(config: Config) -> str:
    """Return a description of the device of a command."""
    if config.work.executor == "ray":
        return f"{config.fit.device} of a Ray cluster's nodes"
    device = pick_device(config.fit.device)
    return describe(device) + (" (no CUDA here)" if config.fit.device == "auto" and device.type == "cpu" else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
