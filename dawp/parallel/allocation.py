"""How many processes, threads and GPUs the fits of a command have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dawp.config import Config
from dawp.methods.deep_prior.fit import pick_device
from dawp.metrics import pesq_pool as listening


def allocate_workers(config: Config, fits: int) -> tuple[int, int]:
    """How many processes fit at the same time, and how many threads each fit has.

    The threads depend on how many fits a command has and not on how many processes do them, since rounding depends
    on the threads.
    """
    device = pick_device(config.fit.device)
    threads = config.work.threads or (torch.get_num_threads() if fits == 1 else 1)
    if config.work.workers is not None:
        return max(1, min(config.work.workers, fits)), threads
    gpus = max(1, len(visible_gpus(config))) * config.work.fits_per_gpu
    at_once = {"cpu": listening.cores() // threads, "cuda": gpus}
    return max(1, min(at_once.get(device.type, 1), fits)), threads


def visible_gpus(config: Config) -> list[str]:
    """The GPUs to go round among processes, as CUDA_VISIBLE_DEVICES names them; empty where one is chosen for all."""
    device = pick_device(config.fit.device)
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
