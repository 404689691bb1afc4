"""ProcessPool on this machine."""

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

from dawp.devices import cores, limit_cores
from dawp.parallel.executor import Event, Executor, LogMessage, ProcessDied, Progress
from dawp.parallel.jobs import WorkItem
from dawp.parallel.remote import LogForwarder, RemoteReporter, run_and_capture


class ProcessPool(Executor):
    """ProcessPool on this machine, begun when they are needed.

    Each has a pipe of its own and nothing in common with the others, so that one that is killed holds up none.

    Args:
        count: of processes.
        threads: of each.
        gpus: names of those to go round among the processes; empty to choose none.
    """

    def __init__(self, count: int, threads: int, gpus: list[str]) -> None:
        self._count, self._threads, self._gpus = count, threads, gpus
        self._idle: list[_WorkerProcess] = []
        self._busy: dict[Any, tuple[_WorkerProcess, WorkItem]] = {}
        self._places = set(range(count))

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self._idle, *(process for process, _ in self._busy.values())]:
            process.kill()

    @property
    def has_capacity(self) -> bool:
        return len(self._busy) < self._count

    def submit(self, task: WorkItem) -> None:
        process = self._idle.pop() if self._idle else self._start()
        self._busy[process.pipe] = process, task
        process.ask(pickle.dumps((task.job.folder, task.job.work, task.part, task.job.args)))

    def events(self) -> Iterator[tuple[WorkItem, Event]]:
        for pipe in connection.wait(list(self._busy)):
            process, task = self._busy[pipe]
            try:
                event: Event = pickle.loads(process.pipe.recv_bytes())  # noqa: S301 - from a process of our own
            except (EOFError, OSError, pickle.UnpicklingError):
                event = ProcessDied(process.ending())
                self._places.add(process.place)
            if not isinstance(event, Progress | LogMessage):
                del self._busy[pipe]
                if not isinstance(event, ProcessDied):
                    self._idle.append(process)
            yield task, event

    def _start(self) -> _WorkerProcess:
        place = self._places.pop()
        listeners = max(self._threads, cores() // self._count)
        if not self._gpus:
            return _WorkerProcess(place, self._threads, listeners)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
        try:
            return _WorkerProcess(place, self._threads, listeners)
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


class _WorkerProcess:
    """One process, and this end of its pipe."""

    def __init__(self, place: int, threads: int, listeners: int) -> None:
        self.place = place
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        level = logging.getLogger("dawp").getEffectiveLevel()
        args = (theirs, threads, listeners, level)
        self._process = context.Process(target=_worker_main, args=args, daemon=True)
        with _sigint_blocked():
            self._process.start()
        theirs.close()

    def ask(self, request: bytes) -> None:
        """Send a request, in a thread: one that is still starting does not hold up the others."""

        def send_it() -> None:
            with suppress(OSError):  # it has died, and will be found dead
                self.pipe.send_bytes(request)

        threading.Thread(target=send_it, daemon=True).start()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def ending(self) -> str:
        """How it ended, in words, given that its pipe is closed at the other end."""
        self._process.join(timeout=5)
        code = self._process.exitcode
        self.kill()
        if code is None or code >= 0:
            return f"its process has ended (exit code {code})"
        name = signal.Signals(-code).name
        return f"its process was killed ({name}{', perhaps for want of memory' if name == 'SIGKILL' else ''})"


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """A process that is begun meanwhile leaves a Ctrl-C to the command, which gets its own afterwards."""
    before = signal.getsignal(signal.SIGINT)
    if (
        not hasattr(signal, "pthread_sigmask")
        or threading.current_thread() is not threading.main_thread()
        or before is None
    ):
        yield
        return
    # A helper of multiprocessing's, begun with the first process, would take the mask away.
    resource_tracker.ensure_running()
    came = []
    # The mask is for the process to inherit. It holds up this thread alone: a Ctrl-C may come by any other of it.
    signal.signal(signal.SIGINT, lambda *what: came.append(what))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _worker_main(pipe: connection.Connection, threads: int, listeners: int, level: int) -> None:
    """The life of a process: one task after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it is not held
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    limit_cores(listeners)
    lock = threading.Lock()

    def say(event: Event) -> None:
        with lock:
            pipe.send_bytes(pickle.dumps(event))

    logger = logging.getLogger("dawp")
    logger.handlers[:], logger.propagate = [LogForwarder(say)], False
    logger.setLevel(level)
    while True:
        try:
            folder, work, part, args = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from the process that began this
        except EOFError:
            return
        line = RemoteReporter(say)
        ended = run_and_capture(work, folder, line, part, *args)
        line.flush()
        say(ended)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)
