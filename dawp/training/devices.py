"""The devices and the processes of a training. The import of this module loads no PyTorch."""

from __future__ import annotations

import logging
import os
from typing import Any

from dawp.errors import BadInput
from dawp.training.settings import LoopConfig


def is_first_process() -> bool:
    """Return whether this is the first of the processes that Fabric launches, one for each device."""
    return os.environ.get("LOCAL_RANK", "0") == "0"  # also before Fabric launches the others


def make_fabric(loop: LoopConfig) -> Any:
    """Return the devices and the precision of the training as ``lightning_fabric.Fabric``.

    Raises:
        BadInput: a device is not available.
    """
    import torch
    from lightning_fabric import Fabric

    from dawp.devices import pick_device

    for name in ("lightning_fabric", "lightning_utilities"):
        logging.getLogger(name).setLevel(logging.WARNING)
    device = pick_device(loop.device)
    devices: Any = loop.devices
    if device.index is not None:
        devices = [device.index]
        if loop.devices != 1:
            raise BadInput(f"devices must be 1 for a single device {loop.device}, got {loop.devices}")
    if device.type == "cuda" and device.index is None and loop.devices > torch.cuda.device_count():
        raise BadInput(
            f"devices must be at most {torch.cuda.device_count()} on this machine, got {loop.devices}",
            code="unavailable",
        )
    precision: Any = loop.precision
    return Fabric(accelerator=device.type, devices=devices, precision=precision)
