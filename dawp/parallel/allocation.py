"""Allocation of processes, threads and GPUs to fits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dawp.devices import cores
from dawp.parallel.settings import WorkConfig


def allocate_workers(work: WorkConfig, device: torch.device, fits: int) -> tuple[int, int]:
    """Return the number of processes that run fits in parallel, and the number of threads per fit.

    The number of threads depends on the number of fits and not on the number of processes, because rounding depends on
    the number of threads.

    Args:
        work: the settings of parallel work.
        device: the device of the fits.
        fits: number of fits of the command, including those that are already complete.
    """
    threads = work.threads or (torch.get_num_threads() if fits == 1 else 1)
    if work.workers is not None:
        return max(1, min(work.workers, fits)), threads
    gpus = max(1, len(visible_gpus(device))) * work.fits_per_gpu
    parallel = {"cpu": cores() // threads, "cuda": gpus}
    return max(1, min(parallel.get(device.type, 1), fits)), threads


def visible_gpus(device: torch.device) -> list[str]:
    """Return the GPUs to distribute among processes, as named in CUDA_VISIBLE_DEVICES.

    Empty if ``device`` is not a GPU or is one specific GPU.
    """
    if device.type != "cuda" or device.index is not None:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Set the number of threads of PyTorch, and restore it on exit."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
