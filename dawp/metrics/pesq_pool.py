"""PESQ while the fit goes on: it takes longer than an epoch of a small network, and runs in processes of its own."""

from __future__ import annotations

import atexit
import logging
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
from dawp.metrics.functions import NoPesq, for_pesq

log = logging.getLogger(__name__)

Measured = Tensor | Future[Tensor]  # a scalar, or one to come


def pesq_later(estimate: Tensor, target: Tensor, sample_rate: int) -> Future[Tensor]:
    """What ``metrics.pesq`` gives for waveforms ``[T]``, later: a scalar, float64, on the CPU; NaN if it has none.

    Raises:
        ValueError: the shapes differ.
    """
    try:
        ready = for_pesq(estimate, target, sample_rate)
    except NoPesq:
        none: Future[Tensor] = Future()
        none.set_result(torch.tensor(torch.nan, dtype=torch.float64))
        return none
    return _listeners().submit(*ready)


def now(value: Measured) -> Tensor:
    """A value, waited for if it is still to come."""
    return value.result() if isinstance(value, Future) else value


class _Listeners:
    """A thread for each core that feeds a process with what is waiting.

    The threads are daemons, so that nothing that still waits keeps an interrupted command from ending. They are seen
    off before the interpreter goes: one that it stops in the midst of torch takes the whole process down.
    """

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ended = False
        self._requests: SimpleQueue[tuple[Future[Tensor], tuple[Tensor, Tensor, int]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"listener-{number}", daemon=True) for number in range(cores())
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, estimate: Tensor, target: Tensor, sample_rate: int) -> Future[Tensor]:
        value: Future[Tensor] = Future()
        self._requests.put((value, (estimate, target, sample_rate)))
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
        while (asked := self._requests.get()) and not self.ended:
            value, request = asked
            answer = b""
            with suppress(OSError):  # of a process that has just gone, or cannot be started
                if process is None:
                    process = self._start()
                if not self.ended:
                    answer = _asked(process, *request)
            if self.ended:
                break
            if len(answer) == pesq_process.ANSWER.size:
                value.set_result(torch.tensor(pesq_process.ANSWER.unpack(answer)[0], dtype=torch.float64))
                continue
            log.warning("PESQ counts as NaN for an estimate: its process could not be started, or has ended")
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
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        self.processes.append(process)
        return process


def _asked(process: subprocess.Popen[bytes], estimate: Tensor, target: Tensor, sample_rate: int) -> bytes:
    """What a process answers to a request; too little if it has ended."""
    request = pesq_process.HEADER.pack(sample_rate, len(target))
    request += b"".join(waveform.numpy().astype("<f4").tobytes() for waveform in (target, estimate))
    if not process.stdin or not process.stdout:
        return b""
    process.stdin.write(request)
    process.stdin.flush()
    return process.stdout.read(pesq_process.ANSWER.size)


@cache
def _listeners() -> _Listeners:
    listeners = _Listeners()
    atexit.register(listeners.end)
    return listeners


def _forget() -> None:
    """A forked process has none of its parent's threads and leaves its processes alone."""
    if _listeners.cache_info().currsize:
        atexit.unregister(_listeners().end)
        _listeners.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
