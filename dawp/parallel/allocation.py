"""How many processes, threads and GPUs the fits of a command have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dawp.config import WorkConfig
from dawp.devices import cores


def allocate_workers(work: WorkConfig, device: torch.device, fits: int) -> tuple[int, int]:
    """How many processes fit at the same time, and how many threads each fit has.

    The threads depend on how many fits a command has and not on how many processes do them, since rounding depends
    on the threads.
    """
    threads = work.threads or (torch.get_num_threads() if fits == 1 else 1)
    if work.workers is not None:
        return max(1, min(work.workers, fits)), threads
    gpus = max(1, len(visible_gpus(device))) * work.fits_per_gpu
    at_once = {"cpu": cores() // threads, "cuda": gpus}
    return max(1, min(at_once.get(device.type, 1), fits)), threads


def visible_gpus(device: torch.device) -> list[str]:
    """The GPUs to go round among processes, as CUDA_VISIBLE_DEVICES names them; empty where one is chosen for all."""
    if device.type != "cuda" or device.index is not None:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
