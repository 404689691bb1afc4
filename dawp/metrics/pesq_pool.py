"""Compute slow metrics in other processes: PESQ takes longer than an epoch of a small network."""

from __future__ import annotations

import atexit
import logging
import math
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from queue import SimpleQueue

import torch
from torch import Tensor

from dawp.devices import cores
from dawp.metrics import pesq_process
from dawp.metrics.base import Metric, UndefinedMetric
from dawp.plugins import import_object

log = logging.getLogger(__name__)

Measured = Tensor | Future[Tensor]  # a scalar, or a pending one


def compute(metric: Metric, estimate: Tensor, target: Tensor, sample_rate: int) -> float:
    """Compute a slow metric of waveforms ``[T]`` in this process.

    Raises:
        UndefinedMetric: the metric is not defined for these; the message gives the reason.
    """
    estimate, target, sample_rate = _prepare(metric, estimate, target, sample_rate)
    try:
        value = float(import_object(metric.function)(estimate.numpy(), target.numpy(), sample_rate))
    except Exception as error:  # functions from outside the package can raise anything
        raise UndefinedMetric(str(error)) from None
    if math.isnan(value):
        raise UndefinedMetric("its value is NaN")
    return value


def compute_later(metric: Metric, estimate: Tensor, target: Tensor, sample_rate: int) -> Future[Tensor]:
    """Compute a slow metric of waveforms ``[T]`` in another process.

    Returns:
        A Future of the value: a scalar, float64, on the CPU; NaN if the metric is not defined.
    """
    try:
        ready = _prepare(metric, estimate, target, sample_rate)
    except UndefinedMetric:
        none: Future[Tensor] = Future()
        none.set_result(torch.tensor(torch.nan, dtype=torch.float64))
        return none
    return _workers().submit(metric, *ready)


def resolve(value: Measured) -> Tensor:
    """Return a value; waits for a pending one."""
    return value.result() if isinstance(value, Future) else value


def _prepare(metric: Metric, estimate: Tensor, target: Tensor, sample_rate: int) -> tuple[Tensor, Tensor, int]:
    """Return the arguments of the function of a slow metric, on the CPU."""
    if metric.prepare:
        estimate, target, sample_rate = import_object(metric.prepare)(estimate, target, sample_rate)
    return estimate.detach().cpu().float(), target.detach().cpu().float(), sample_rate


class _Workers:
    """A thread for each core that passes waiting requests to a process.

    The threads are daemons, so that requests that still wait do not keep an interrupted command from ending. They end
    before the interpreter does: one that it stops inside torch would crash the whole process.
    """

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ended = False
        self._requests: SimpleQueue[tuple[Future[Tensor], tuple[Metric, Tensor, Tensor, int]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"metrics-{number}", daemon=True) for number in range(cores())
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, metric: Metric, estimate: Tensor, target: Tensor, sample_rate: int) -> Future[Tensor]:
        value: Future[Tensor] = Future()
        self._requests.put((value, (metric, estimate, target, sample_rate)))
        return value

    def end(self) -> None:
        self.ended = True
        for process in list(self.processes):
            process.kill()
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join(timeout=5)

    def _work(self) -> None:
        process: subprocess.Popen[bytes] | None = None
        while (request := self._requests.get()) and not self.ended:
            value, arguments = request
            answer = b""
            with suppress(OSError):  # of a process that has just ended, or cannot be started
                if process is None:
                    process = self._start()
                if not self.ended:
                    answer = _request(process, *arguments)
            if self.ended:
                break
            if len(answer) == pesq_process.ANSWER.size:
                value.set_result(torch.tensor(pesq_process.ANSWER.unpack(answer)[0], dtype=torch.float64))
                continue
            reason = "its process could not be started, or has ended"
            log.warning("%s is NaN for an estimate: %s", arguments[0].label, reason)
            value.set_result(torch.tensor(torch.nan, dtype=torch.float64))
            if process is not None:
                self._stop(process)
                process = None
        if process is not None:
            self._stop(process)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        self.processes.remove(process)
        process.kill()
        process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, pesq_process.__file__]
        paths = os.pathsep.join(filter(None, sys.path))  # finds the modules that this process finds
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}
        )
        self.processes.append(process)
        return process


def _request(
    process: subprocess.Popen[bytes], metric: Metric, estimate: Tensor, target: Tensor, sample_rate: int
) -> bytes:
    """Return a process's answer to a request; too few bytes if it has ended."""
    name = str(metric.function).encode()
    request = pesq_process.HEADER.pack(len(name), sample_rate, len(target)) + name
    request += b"".join(waveform.numpy().astype("<f4").tobytes() for waveform in (target, estimate))
    if not process.stdin or not process.stdout:
        return b""
    process.stdin.write(request)
    process.stdin.flush()
    return process.stdout.read(pesq_process.ANSWER.size)


@cache
def _workers() -> _Workers:
    workers = _Workers()
    atexit.register(workers.end)
    return workers


def _forget() -> None:
    """Start again in a forked process: it has none of its parent's threads, and does not use its processes."""
    if _workers.cache_info().currsize:
        atexit.unregister(_workers().end)
        _workers.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
