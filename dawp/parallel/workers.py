"""Many fits at once: jobs, shared out among processes of which any may die without the others.

A job works in a folder, tells how far it is, and returns a value. Whoever has several gives them to ``do``.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from dawp.config import Config
from dawp.errors import BadInput, FitDiverged
from dawp.methods.deep_prior.fit import pick_device
from dawp.methods.deep_prior.solver import progress_bar
from dawp.metrics import pesq_pool as listening

log = logging.getLogger(__name__)

TRIES = 2  # of a job whose process dies
TELL_EVERY = 0.2  # seconds between what a process tells of its progress
MOST_BARS = 16  # of single fits
WARM_UP, TIMED = 3, 10  # epochs before the time that all will take is told, and epochs that tell it


class Line(Protocol):
    """What a job says while it works; to the fits in it a progress bar."""

    def update(self, epochs: int) -> Any: ...

    def skip(self, epochs: int) -> Any:
        """Epochs that need not be done, or were done before."""

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> Any: ...

    def saved(self, path: Path) -> None:
        """A file in the job's folder is new and worth keeping, whatever becomes of the job."""


@dataclass(frozen=True, eq=False)
class Job:
    """Work for a process.

    Attributes:
        name: for messages and its bar.
        folder: where it works: it is there, and holds what an earlier try has left. None if it writes nothing.
        work: called as ``work(folder, line, part, *args)``, returns the job's value; a function of a module, so that
            another process can import it.
        args: whatever can be pickled.
        parts: that can be done ahead, at the same time: ``work`` is called with each ``part`` from 0, and then with
            None to do what is left and finish. With one part it is called with None alone.
    """

    name: str
    folder: Path | None
    work: Callable[..., Any]
    args: tuple[Any, ...]
    parts: int


class Done(NamedTuple):
    """A job that is over: its value, or why it has none."""

    job: Any
    value: Any
    error: BadInput | FitDiverged | None


class Task(NamedTuple):
    """A part of a job, and how often it was tried before."""

    job: Job
    part: int | None
    tried: int = 0


class Died(Exception):
    """The process of a task is gone; the text says how."""


def do(jobs: Iterable[Job], config: Config, fits: int, bars: Bars) -> Generator[Done, None, None]:
    """Do jobs, in any order, in as many processes as the settings and the machine allow, or in this one.

    Args:
        jobs: made one by one, when there is somebody free to take them.
        config: all settings.
        fits: of all jobs of the command, also of those that are done already: the numbers may depend on it.
        bars: to show how far they are.

    Yields:
        Each job when it is over. Whoever does not take all of them closes the iterator, which stops the others.

    Raises:
        Exception: what a job raised, other than BadInput and FitDiverged; the others are stopped.
    """
    if config.work.executor == "ray":
        from dawp.parallel.ray_cluster import Nodes

        with Nodes(config) as executor:
            yield from _shared_out(jobs, executor, bars)
        return
    workers, threads = shares(config, fits)
    if workers == 1:
        yield from _one_by_one(jobs, threads, bars)
    else:
        with Processes(workers, threads, _gpus(config)) as executor:
            yield from _shared_out(jobs, executor, bars)


def shares(config: Config, fits: int) -> tuple[int, int]:
    """How many processes fit at the same time, and how many threads each fit has.

    The threads depend on how many fits a command has and not on how many processes do them, since rounding depends
    on the threads.
    """
    device = pick_device(config.fit.device)
    threads = config.work.threads or (torch.get_num_threads() if fits == 1 else 1)
    if config.work.workers is not None:
        return max(1, min(config.work.workers, fits)), threads
    gpus = max(1, len(_gpus(config))) * config.work.fits_per_gpu
    at_once = {"cpu": listening.cores() // threads, "cuda": gpus}
    return max(1, min(at_once.get(device.type, 1), fits)), threads


def _gpus(config: Config) -> list[str]:
    """The GPUs to go round among processes, as CUDA_VISIBLE_DEVICES names them; empty where one is chosen for all."""
    device = pick_device(config.fit.device)
    if device.type != "cuda" or device.index is not None:
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]


class Bars:
    """The progress bars on standard error: one for all epochs, and one for each fit that is going on.

    Args:
        fits: to do.
        epochs: of each.
        title: of the bar for all; None for no bars. A single fit has one bar with its own title.
        forecast: also tell, after the first epochs, how long all will take.
    """

    def __init__(self, fits: int, epochs: int, title: str | None, forecast: bool = False) -> None:
        self._alone = fits == 1
        self._total, self._epochs, self._title = fits * epochs, epochs, title
        self._single = title is not None and not self._alone and sys.stderr.isatty()
        self._bar: Any = None
        self._passed_over = 0
        self._fits: dict[Task, Any] = {}
        self._counted: dict[Task, int] = {}
        self._done = 0
        self._forecast = forecast and title is not None
        self._began: tuple[float, int] | None = None

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        for task in list(self._counted):
            self.end(task)
        if self._bar is not None:
            self._bar.close()

    @property
    def _all(self) -> Any:
        """The bar for all epochs, shown when the first fit begins: what comes before may refuse the command."""
        if self._bar is None:
            self._bar = progress_bar(self._total, self._title)
            self._bar.update(self._passed_over)
        return self._bar

    def pass_over(self, fits: int) -> None:
        """Count fits that need not be done."""
        if self._bar is None:
            self._passed_over += fits * self._epochs
        else:
            self._bar.update(fits * self._epochs)

    def begin(self, task: Task) -> None:
        self._counted[task] = 0
        shown = self._all
        if self._alone:
            shown.set_description(task.job.name)
        elif self._single and len(self._fits) < MOST_BARS:
            taken = {bar.pos for bar in self._fits.values()}
            place = next(place for place in range(1, MOST_BARS + 1) if -place not in taken)
            title = task.job.name if task.part is None else f"{task.job.name}, fit {task.part + 1}"
            self._fits[task] = progress_bar(self._epochs, title, position=place, leave=False)

    def update(self, task: Task, epochs: int, values: Mapping[str, str], skipped: bool = False) -> None:
        bar = self._all if self._alone else self._fits.get(task)
        if bar is not None:
            bar.set_postfix(values, refresh=False)
            if bar is not self._all:
                bar.update(epochs)
        if task.part is None and task.job.parts > 1:
            return  # what was done ahead has been counted
        self._counted[task] += epochs
        self._all.update(epochs)
        if self._forecast and not skipped:
            self._tell_time(epochs)

    def end(self, task: Task, undone: bool = False) -> None:
        """A task is over; ``undone`` if it has to be done again."""
        bar = self._fits.pop(task, None)
        if bar is not None:
            bar.close()
        counted = self._counted.pop(task)
        if undone:
            self._all.update(-counted)

    def _tell_time(self, epochs: int) -> None:
        self._done += epochs
        now = time.perf_counter()
        if self._began is None:
            self._began = (now, self._done) if self._done >= WARM_UP else None
        elif self._done - self._began[1] >= TIMED:
            seconds = (now - self._began[0]) / (self._done - self._began[1]) * (self._all.total - self._all.n)
            log.info("%s: about %s to go, less where fits stop early", self._title, duration(seconds))
            self._forecast = False


def duration(seconds: float) -> str:
    """A time to wait, to two digits.

    Example:
        >>> duration(4000)
        '1 h 07 min'
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def threads_set(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Here:
    """The line of a job that is done in this process."""

    def __init__(self, bars: Bars, task: Task) -> None:
        self._bars, self._task = bars, task
        self._values: Mapping[str, str] = {}

    def update(self, epochs: int) -> None:
        self._bars.update(self._task, epochs, self._values)

    def skip(self, epochs: int) -> None:
        self._bars.update(self._task, epochs, self._values, skipped=True)

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> None:
        self._values = values

    def saved(self, path: Path) -> None:
        pass


def _one_by_one(jobs: Iterable[Job], threads: int, bars: Bars) -> Iterator[Done]:
    for job in jobs:
        task = Task(job, None if job.parts == 1 else 0)  # its epochs count, all of them
        bars.begin(task)
        try:
            with threads_set(threads):
                done = Done(job, job.work(job.folder, _Here(bars, task), None, *job.args), None)
        except (BadInput, FitDiverged) as refusal:
            done = Done(job, None, refusal)
        bars.end(task)
        yield done


class Executor(ABC):
    """Somebody who does tasks, several at the same time."""

    @abstractmethod
    def __enter__(self) -> Any: ...

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """Stop whatever is going on."""

    @property
    @abstractmethod
    def is_free(self) -> bool:
        """Whether one more task can be begun."""

    @abstractmethod
    def begin(self, task: Task) -> None: ...

    @abstractmethod
    def events(self) -> Iterator[tuple[Task, Event]]:
        """What the tasks that are going on have said since; waits for something."""


class Told(NamedTuple):
    """Epochs done or skipped since the last time, and what the bar shows beside them."""

    epochs: int
    values: Mapping[str, str]
    skipped: bool = False


class Said(NamedTuple):
    """A notice."""

    logger: str
    level: int
    text: str


class Returned(NamedTuple):
    """The value of ``work``."""

    value: Any


class Raised(NamedTuple):
    """What ``work`` raised, and where."""

    error: Exception
    where: str


Event = Told | Said | Returned | Raised | Died


def _shared_out(jobs: Iterable[Job], executor: Executor, bars: Bars) -> Iterator[Done]:
    coming = iter(jobs)
    waiting: deque[Task] = deque()
    parts_left: dict[Job, int] = {}
    failed: dict[Job, BadInput | FitDiverged] = {}
    going: set[Task] = set()

    def over(task: Task, undone: bool = False) -> None:
        going.discard(task)
        bars.end(task, undone)

    while True:
        while executor.is_free:
            if not waiting:
                job = next(coming, None)
                if job is None:
                    break
                if job.parts > 1:
                    parts_left[job] = job.parts
                waiting.extend(Task(job, part) for part in (range(job.parts) if job.parts > 1 else [None]))
            task = waiting.popleft()
            if task.job in failed:
                continue
            going.add(task)
            bars.begin(task)
            executor.begin(task)
        if not going:
            return
        for task, event in executor.events():
            match event:
                case Told(epochs, values, skipped):
                    bars.update(task, epochs, values, skipped)
                case Said(logger, level, text):
                    logging.getLogger(logger).log(level, "%s", text)
                case Returned(value):
                    over(task)
                    if task.part is None:
                        yield Done(task.job, value, None)
                        continue
                    parts_left[task.job] -= 1
                    if not parts_left[task.job]:
                        del parts_left[task.job]
                        waiting.appendleft(Task(task.job, None))
                case Died():
                    over(task, undone=True)
                    if task.job not in failed and task.tried + 1 < TRIES:
                        log.warning("%s: %s; it is tried once more", task.job.name, event)
                        waiting.appendleft(task._replace(tried=task.tried + 1))
                        continue
                    failed.setdefault(task.job, BadInput(f"{task.job.name}: {event}, for the second time"))
                case Raised(error, where):
                    over(task)
                    if isinstance(error, BadInput | FitDiverged):
                        failed.setdefault(task.job, error)
                    else:
                        if not isinstance(error, OSError):
                            log.error("%s: failed in its process\n%s", task.job.name, where)
                        raise error
            # One that has failed is over when nobody works in its folder any more.
            ended = isinstance(event, Returned | Died | Raised) and task.job in failed
            if ended and not any(other.job is task.job for other in going):
                parts_left.pop(task.job, None)
                yield Done(task.job, None, failed[task.job])


class Processes(Executor):
    """Processes on this machine, begun when they are needed.

    Each has a pipe of its own and nothing in common with the others, so that one that is killed holds up none.

    Args:
        count: of processes.
        threads: of each.
        gpus: names of those to go round among the processes; empty to choose none.
    """

    def __init__(self, count: int, threads: int, gpus: list[str]) -> None:
        self._count, self._threads, self._gpus = count, threads, gpus
        self._idle: list[_Process] = []
        self._busy: dict[Any, tuple[_Process, Task]] = {}
        self._places = set(range(count))

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self._idle, *(process for process, _ in self._busy.values())]:
            process.kill()

    @property
    def is_free(self) -> bool:
        return len(self._busy) < self._count

    def begin(self, task: Task) -> None:
        process = self._idle.pop() if self._idle else self._start()
        self._busy[process.pipe] = process, task
        process.ask(pickle.dumps((task.job.folder, task.job.work, task.part, task.job.args)))

    def events(self) -> Iterator[tuple[Task, Event]]:
        for pipe in connection.wait(list(self._busy)):
            process, task = self._busy[pipe]
            try:
                event: Event = pickle.loads(process.pipe.recv_bytes())  # noqa: S301 - from a process of our own
            except (EOFError, OSError, pickle.UnpicklingError):
                event = Died(process.ending())
                self._places.add(process.place)
            if not isinstance(event, Told | Said):
                del self._busy[pipe]
                if not isinstance(event, Died):
                    self._idle.append(process)
            yield task, event

    def _start(self) -> _Process:
        place = self._places.pop()
        listeners = max(self._threads, listening.cores() // self._count)
        if not self._gpus:
            return _Process(place, self._threads, listeners)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
        try:
            return _Process(place, self._threads, listeners)
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES")
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


class _Process:
    """One process, and this end of its pipe."""

    def __init__(self, place: int, threads: int, listeners: int) -> None:
        self.place = place
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        level = logging.getLogger("dawp").getEffectiveLevel()
        args = (theirs, threads, listeners, level)
        self._process = context.Process(target=_serve, args=args, daemon=True)
        with _interrupts_held():
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


class Far:
    """The line of a job, in the process that does it.

    Args:
        say: hands on what it says.
        saved: called with the path of a file that is worth keeping.
    """

    def __init__(self, say: Callable[[Told], Any], saved: Callable[[Path], Any] | None = None) -> None:
        self._say, self._saved = say, saved
        self._values: Mapping[str, str] = {}
        self._epochs, self._told = 0, 0.0

    def update(self, epochs: int) -> None:
        self._epochs += epochs
        now = time.monotonic()
        if now - self._told >= TELL_EVERY:
            self._told = now
            self.flush()

    def skip(self, epochs: int) -> None:
        self.flush()
        self._say(Told(epochs, self._values, skipped=True))

    def set_postfix(self, values: Mapping[str, str], refresh: bool = False) -> None:
        self._values = values

    def saved(self, path: Path) -> None:
        if self._saved:
            self._saved(path)

    def flush(self) -> None:
        if self._epochs:
            self._say(Told(self._epochs, self._values))
            self._epochs = 0


class Notices(logging.Handler):
    """Hands notices on."""

    def __init__(self, say: Callable[[Said], Any]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(Said(record.name, record.levelno, record.getMessage()))


def outcome(work: Callable[..., Any], *args: Any) -> Returned | Raised:
    """What comes of a piece of work."""
    try:
        return Returned(work(*args))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - just made
        except Exception:
            return Raised(RuntimeError(repr(error)), traceback.format_exc())
        return Raised(error, traceback.format_exc())


@contextmanager
def _interrupts_held() -> Iterator[None]:
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


def _serve(pipe: connection.Connection, threads: int, listeners: int, level: int) -> None:
    """The life of a process: one task after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it is not held
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    listening.share(listeners)
    lock = threading.Lock()

    def say(event: Event) -> None:
        with lock:
            pipe.send_bytes(pickle.dumps(event))

    logger = logging.getLogger("dawp")
    logger.handlers[:], logger.propagate = [Notices(say)], False
    logger.setLevel(level)
    while True:
        try:
            folder, work, part, args = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from the process that began this
        except EOFError:
            return
        line = Far(say)
        ended = outcome(work, folder, line, part, *args)
        line.flush()
        say(ended)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        connection.wait([parent.sentinel])
        os._exit(1)
