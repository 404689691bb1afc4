"""Processor cores and accelerators of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from dawp.errors import BadInput, printable

_core_limit: int | None = None


def pick_device(name: str) -> torch.device:
    """Return the device ``auto`` (CUDA if available, else the CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        BadInput: no device has that name, or this machine does not have it. There is no silent fallback.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if name not in ("cpu", "cuda", "mps") and not (kind == "cuda" and index.isdecimal()):
        raise BadInput(f"device must be auto, cpu, cuda, cuda:N or mps, got {printable(name)}")
    present = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= present:
        raise BadInput(
            f"device {name} is not on this machine, which has {present} of that kind; auto falls back",
            code="unavailable",
        )
    return torch.device(name)


def cores() -> int:
    """Return the number of processor cores that this process may use.

    The affinity of the process, the limits of its container and ``limit_cores`` are taken into account.
    """
    return _core_limit or _machine_cores()


def limit_cores(count: int) -> None:
    """Set the number of cores that this process may use, such as its share among several workers."""
    global _core_limit
    _core_limit = count


@cache
def _machine_cores() -> int:
    from joblib import cpu_count

    return int(cpu_count())


@contextmanager
def memory_as_bad_input(what: str, length_setting: str) -> Iterator[None]:
    """Raise BadInput if memory runs out, so that only one recording fails.

    Args:
        what: the recording, for the message.
        length_setting: name of the setting that limits the length of the signal.

    Raises:
        BadInput: out of memory. The CPU allocator of PyTorch raises a plain RuntimeError.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
            hint = f"a shorter {length_setting} or a smaller network needs less"
            raise BadInput(f"{what}: out of memory; {hint}", code="out_of_memory") from None
        raise
