"""A Ray cluster as the place where fits are done. Its nodes need the toolkit installed, and no shared disk.

The command that drives the run stays on its machine. It sends each job with the checkpoints that the job's folder
holds, and writes what the job writes into that folder, checkpoint by checkpoint: whatever becomes of a node, the job
goes on elsewhere from where it was.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dawp.config import WorkConfig
from dawp.devices import limit_cores
from dawp.errors import BadInput, shown
from dawp.io.files import RESULT, whole
from dawp.parallel.executor import Event, Executor, ProcessDied, Raised, Returned
from dawp.parallel.jobs import WorkItem
from dawp.parallel.remote import LogForwarder, RemoteReporter, run_and_capture

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.5  # seconds between looks at what the tasks have said
CONNECT_TIMEOUT = 10  # seconds to wait for a cluster to answer

Files = dict[str, bytes]
"""Contents, by names relative to a job's folder."""


class FilesWritten(NamedTuple):
    """Files that are new in a job's folder."""

    files: Files


class RayCluster(Executor):
    """The nodes of a Ray cluster: one that is there, or one that is started on this machine for the command.

    As many tasks are begun as the cluster's processors, or its GPUs where it has some, can take.

    Raises:
        BadInput: Ray is not installed, no cluster answers, or it cannot take a single fit.
    """

    def __init__(self, work: WorkConfig, device: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        try:
            import ray
        except ImportError:
            raise BadInput("executor ray needs the package ray: pip install '.[cluster]'") from None
        if device not in ("auto", "cpu", "cuda"):
            raise BadInput(f"device must be auto, cpu or cuda on a Ray cluster, got {shown(device)}")
        self._ray: Any = ray
        self._settings, self._device = work, device
        self._threads = work.threads or 1
        self._running: dict[Any, tuple[int, WorkItem]] = {}
        self._submitted = 0
        self._started = False

    def __enter__(self) -> RayCluster:
        ray = self._ray
        if not ray.is_initialized():
            address = self._settings.ray_address
            try:
                _check_reachable(address or os.environ.get("RAY_ADDRESS"))
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                asked = address or os.environ.get("RAY_ADDRESS") or "none"
                why = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise BadInput(f"ray_address must be that of a Ray cluster, got {shown(asked)}: {shown(why)}") from None
            self._started = True
        has = ray.cluster_resources()
        device = self._device
        gpus = 1 / self._settings.fits_per_gpu if device == "cuda" or (device == "auto" and has.get("GPU")) else 0
        self._needs: dict[str, float] = {"CPU": self._threads, **({"GPU": gpus} if gpus else {})}
        for kind, needed in self._needs.items():
            largest = max((node["Resources"].get(kind, 0) for node in self._alive_nodes()), default=0)
            if largest < needed:
                raise BadInput(f"a fit needs {needed:g} {kind}, and the Ray cluster's largest node has {largest:g}")
        log.info("Ray cluster: nodes: %d, fits at the same time: %d", len(self._alive_nodes()), self._capacity())
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()
        self._work = ray.remote(num_cpus=self._threads, num_gpus=gpus, max_retries=0)(_run_on_node)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # of a cluster that is gone
            for reference in self._running:
                self._ray.cancel(reference, force=True)
            self._ray.kill(self._mailbox)
        if self._started:
            self._ray.shutdown()

    @property
    def has_capacity(self) -> bool:
        return len(self._running) < max(1, self._capacity())

    def submit(self, task: WorkItem) -> None:
        self._submitted += 1
        job, files = task.job, {}
        if job.folder:
            files = _read_files(job.folder, job.checkpoints(job.folder, task.part))
        level = logging.getLogger("dawp").getEffectiveLevel()
        name = job.folder is not None
        reference = self._work.remote(
            self._mailbox, self._submitted, self._threads, level, name, files, job.work, task.part, job.args
        )
        self._running[reference] = self._submitted, task

    def events(self) -> Iterator[tuple[WorkItem, Event]]:
        ray = self._ray
        ended, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=POLL_INTERVAL)
        tasks = dict(self._running.values())
        try:
            letters = ray.get(self._mailbox.take.remote())
        except ray.exceptions.RayError as error:
            why = f"the Ray cluster does not answer any more ({type(error).__name__})"
            raise BadInput(f"{why}; the same command goes on with another") from None
        for number, said in letters:
            event = pickle.loads(said)  # noqa: S301 - from a task of our own
            if number not in tasks:
                continue
            if isinstance(event, FilesWritten):
                _write_files(tasks[number].job.folder, event.files)
            else:
                yield tasks[number], event
        for reference in ended:
            _, task = self._running.pop(reference)
            try:
                came, files = ray.get(reference)
            except ray.exceptions.RayTaskError as error:  # before it could begin: another version of the toolkit, say
                text = str(error)
                last = (text.strip().splitlines() or [type(error).__name__])[-1]
                yield task, Raised(BadInput(f"{task.job.name}: a node cannot do it: {shown(last)}"), text)
                continue
            except ray.exceptions.RayError as error:
                lost = isinstance(error, ray.exceptions.NodeDiedError)
                why = "its node is lost" if lost else f"its process has died ({type(error).__name__})"
                yield task, ProcessDied(why)
                continue
            _write_files(task.job.folder, files)
            yield task, came

    def _alive_nodes(self) -> list[Any]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _capacity(self) -> int:
        """Tasks that the nodes can do at the same time."""
        return sum(
            min(int(node["Resources"].get(kind, 0) / needed + 1e-6) for kind, needed in self._needs.items())
            for node in self._alive_nodes()
        )


def _check_reachable(address: str | None) -> None:
    """Fail early where nobody listens: Ray itself tries for minutes, and then ends the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT):
            pass


class Mailbox:
    """Where the tasks leave what they have to say: an actor on the driver's node."""

    def __init__(self) -> None:
        self._letters: list[tuple[int, bytes]] = []

    def put(self, number: int, said: bytes) -> None:
        self._letters.append((number, said))

    def take(self) -> list[tuple[int, bytes]]:
        letters, self._letters = self._letters, []
        return letters


def _run_on_node(
    post: Any,
    number: int,
    threads: int,
    level: int,
    has_folder: bool,
    files: Files,
    work: Callable[..., Any],
    part: int | None,
    args: tuple[Any, ...],
) -> tuple[Event, Files]:
    """One task, on whatever node: what came of it, and the files that it has written."""
    import ray

    def say(event: Any) -> Any:
        return post.put.remote(number, pickle.dumps(event))

    torch.set_num_threads(threads)
    limit_cores(threads)
    logger = logging.getLogger("dawp")
    logger.handlers[:], logger.propagate = [LogForwarder(say)], False
    logger.setLevel(level)
    with tempfile.TemporaryDirectory(prefix="dawp-") as place:
        folder = Path(place)
        _write_files(folder, files)
        line = RemoteReporter(say, lambda path: say(FilesWritten(_read_files(folder, [path]))))
        came = run_and_capture(work, folder if has_folder else None, line, part, *args)
        line.flush()
        ray.get(post.put.remote(number, pickle.dumps(FilesWritten({}))))  # so that all that was said before is there
        written = _read_files(folder, folder.rglob("*")) if isinstance(came, Returned) else {}
        written = {name: content for name, content in written.items() if files.get(name) != content}
    return came, written


def _read_files(folder: Path, paths: Any) -> Files:
    """Files of a folder, with the one that says that all is there at the end."""
    there = sorted((path for path in paths if path.is_file()), key=lambda path: (path.name == RESULT, path))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in there}


def _write_files(folder: Path | None, files: Files) -> None:
    """Write files into a folder, in their order, each whole."""
    for name, content in files.items():
        if folder is None or Path(name).is_absolute() or ".." in Path(name).parts:
            raise BadInput(f"a task has written {shown(name)}, which is not in its folder")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary:
            temporary.write_bytes(content)
