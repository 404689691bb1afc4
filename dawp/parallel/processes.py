"""Worker processes on this machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from typing import Any

import torch

from dawp import plugins
from dawp.devices import cores, limit_cores
from dawp.parallel.executor import Event, Executor, LogMessage, ProcessDied, Progress
from dawp.parallel.jobs import WorkItem
from dawp.parallel.remote import RemoteReporter, forward_logs, run_and_capture


class ProcessPool(Executor):
    """Worker processes, started on demand.

    Each process has its own pipe and shares no queue or lock with the others, so that killing it blocks no other one.

    Args:
        count: number of processes.
        threads: number of threads per process.
        gpus: GPUs to distribute among the processes, as named in CUDA_VISIBLE_DEVICES; empty to leave the choice to
            the job.
    """

    def __init__(self, count: int, threads: int, gpus: list[str]) -> None:
        self._count, self._threads, self._gpus = count, threads, gpus
        self._idle: list[_WorkerProcess] = []
        self._busy: dict[Any, tuple[_WorkerProcess, WorkItem]] = {}
        self._free_slots = set(range(count))

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self._idle, *(process for process, _ in self._busy.values())]:
            process.kill()

    @property
    def has_capacity(self) -> bool:
        return len(self._busy) < self._count

    def submit(self, item: WorkItem) -> None:
        process = self._idle.pop() if self._idle else self._start()
        self._busy[process.pipe] = process, item
        process.send(pickle.dumps((item.job.folder, item.job.function, item.part, item.job.args)))

    def events(self) -> Iterator[tuple[WorkItem, Event]]:
        for pipe in connection.wait(list(self._busy)):
            process, item = self._busy[pipe]
            try:
                event: Event = pickle.loads(process.pipe.recv_bytes())  # noqa: S301 - from our own worker
            except (EOFError, OSError, pickle.UnpicklingError):
                event = ProcessDied(process.describe_exit())
                self._free_slots.add(process.slot)
            if not isinstance(event, Progress | LogMessage):
                del self._busy[pipe]
                if not isinstance(event, ProcessDied):
                    self._idle.append(process)
            yield item, event

    def _start(self) -> _WorkerProcess:
        slot = self._free_slots.pop()
        core_limit = max(self._threads, cores() // self._count)
        if not self._gpus:
            return _WorkerProcess(slot, self._threads, core_limit)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = self._gpus[slot % len(self._gpus)]
        try:
            return _WorkerProcess(slot, self._threads, core_limit)
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


class _WorkerProcess:
    """A worker process and the parent's end of its pipe.

    Args:
        slot: index of the process in the pool; selects its GPU.
        threads: number of threads of PyTorch.
        core_limit: number of cores that the process and its child processes may use.
    """

    def __init__(self, slot: int, threads: int, core_limit: int) -> None:
        self.slot = slot
        context = multiprocessing.get_context("spawn")
        self.pipe, worker_pipe = context.Pipe()
        level = logging.getLogger("dawp").getEffectiveLevel()
        args = (worker_pipe, threads, core_limit, level)
        self._process = context.Process(target=_worker_main, args=args, daemon=True)
        with _sigint_blocked():
            self._process.start()
        worker_pipe.close()

    def send(self, request: bytes) -> None:
        """Send a request. A thread does it, because the pipe blocks until a starting process reads from it."""

        def send_request() -> None:
            with suppress(OSError):  # the process has died, which ``events`` detects
                self.pipe.send_bytes(request)

        threading.Thread(target=send_request, daemon=True).start()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def describe_exit(self) -> str:
        """Describe how the process ended, after the other end of the pipe was closed."""
        self._process.join(timeout=5)
        code = self._process.exitcode
        self.kill()
        if code is None or code >= 0:
            return f"worker process ended (exit code {code})"
        name = signal.Signals(-code).name
        return f"worker process was killed ({name}{', possibly out of memory' if name == 'SIGKILL' else ''})"


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Start child processes with SIGINT blocked, so that Ctrl-C reaches only this process.

    A Ctrl-C that arrives in this block is raised again at its end.
    """
    before = signal.getsignal(signal.SIGINT)
    if (
        not hasattr(signal, "pthread_sigmask")
        or threading.current_thread() is not threading.main_thread()
        or before is None
    ):
        yield
        return
    # Starting the first process also starts the resource tracker of multiprocessing, which would reset the mask.
    resource_tracker.ensure_running()
    received = []
    # The mask is inherited by the child, but only applies to this thread; other threads can still receive the signal.
    signal.signal(signal.SIGINT, lambda *args: received.append(args))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if received:
            signal.raise_signal(signal.SIGINT)


def _worker_main(pipe: connection.Connection, threads: int, core_limit: int, level: int) -> None:
    """Run one work item after another, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for platforms without pthread_sigmask
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    limit_cores(core_limit)
    lock = threading.Lock()

    def send(event: Event) -> None:
        with lock:
            pipe.send_bytes(pickle.dumps(event))

    forward_logs(send, level)
    plugins.load()
    while True:
        try:
            folder, function, part, args = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from the parent process
        except EOFError:
            return
        reporter = RemoteReporter(send)
        result = run_and_capture(function, folder, reporter, part, *args)
        reporter.flush()
        send(result)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)
