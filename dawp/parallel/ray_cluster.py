"""Run jobs on a Ray cluster. The nodes need the package installed, but no shared disk.

The driver sends each job with its checkpoints, and stores the files that the job writes in the job's folder on the
driver as soon as they are complete. If a node fails, another one resumes the job from the last checkpoint.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dawp import plugins
from dawp.devices import limit_cores
from dawp.errors import BadInput, printable
from dawp.io.files import RESULT, atomic_write
from dawp.openmp import openmp_variables
from dawp.parallel.executor import Event, Executor, ProcessDied, Raised, Returned
from dawp.parallel.jobs import WorkItem
from dawp.parallel.remote import RemoteReporter, forward_logs, run_and_capture
from dawp.parallel.settings import WorkConfig

log = logging.getLogger(__name__)

POLL_INTERVAL = 0.5  # seconds between reads of the mailbox
CONNECT_TIMEOUT = 10  # seconds

Files = dict[str, bytes]
"""File contents, by path relative to a job's folder."""


class FilesWritten(NamedTuple):
    """New files in a job's folder on a node."""

    files: Files


class RayCluster(Executor):
    """The nodes of an existing Ray cluster, or of one started on this machine until the executor is closed.

    The number of parallel work items is limited by the GPUs of the cluster if fits use them, and by its CPUs.

    Args:
        work: the address of the cluster, the number of threads per fit and of fits per GPU.
        device: auto, cpu or cuda; auto uses GPUs if the cluster has some.

    Raises:
        BadInput: Ray is not installed, no cluster responds, or no node has the resources for one fit.
    """

    def __init__(self, work: WorkConfig, device: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # disable telemetry
        try:
            import ray
        except ImportError:
            raise BadInput(
                "executor ray needs the package ray: pip install '.[cluster]'", code="missing_package"
            ) from None
        if device not in ("auto", "cpu", "cuda"):
            raise BadInput(f"device must be auto, cpu or cuda on a Ray cluster, got {printable(device)}")
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
                given = address or os.environ.get("RAY_ADDRESS") or "none"
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise BadInput(
                    f"ray_address must be the address of a Ray cluster, got {printable(given)}: {printable(reason)}",
                    code="unavailable",
                ) from None
            self._started = True
        use_gpus = self._device == "cuda" or (self._device == "auto" and ray.cluster_resources().get("GPU"))
        gpus = 1 / self._settings.fits_per_gpu if use_gpus else 0
        self._required: dict[str, float] = {"CPU": self._threads, **({"GPU": gpus} if gpus else {})}
        for kind, required in self._required.items():
            largest = max((node["Resources"].get(kind, 0) for node in self._alive_nodes()), default=0)
            if largest < required:
                raise BadInput(
                    f"a fit needs {required:g} {kind}, the largest node of the Ray cluster has {largest:g}",
                    code="unavailable",
                )
        log.info("Ray cluster: nodes: %d, parallel fits: %d", len(self._alive_nodes()), self._capacity())
        driver_node = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._mailbox = ray.remote(num_cpus=0, scheduling_strategy=driver_node)(Mailbox).remote()
        environment = {
            "env_vars": openmp_variables()
        }  # a node loads PyTorch before it calls a function of this package
        self._run = ray.remote(num_cpus=self._threads, num_gpus=gpus, max_retries=0, runtime_env=environment)(
            _run_on_node
        )
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # the cluster may be gone
            for reference in self._running:
                self._ray.cancel(reference, force=True)
            self._ray.kill(self._mailbox)
        if self._started:
            self._ray.shutdown()

    @property
    def has_capacity(self) -> bool:
        return len(self._running) < max(1, self._capacity())

    def submit(self, item: WorkItem) -> None:
        self._submitted += 1
        job = item.job
        files = _read_files(job.folder, job.checkpoints(job.folder, item.part)) if job.folder else {}
        level = logging.getLogger("dawp").getEffectiveLevel()
        has_folder = job.folder is not None
        reference = self._run.remote(
            *(self._mailbox, self._submitted, self._threads, level),
            *(has_folder, files, job.function, item.part, job.args),
        )
        self._running[reference] = self._submitted, item

    def events(self) -> Iterator[tuple[WorkItem, Event]]:
        ray = self._ray
        finished, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=POLL_INTERVAL)
        items = dict(self._running.values())
        try:
            messages = ray.get(self._mailbox.take.remote())
        except ray.exceptions.RayError as error:
            reason = f"the Ray cluster does not respond ({type(error).__name__})"
            raise BadInput(
                f"{reason}; run the same command again to resume on another cluster", code="unavailable"
            ) from None
        for number, message in messages:
            event = pickle.loads(message)  # noqa: S301 - from our own worker
            if number not in items:
                continue
            if isinstance(event, FilesWritten):
                _write_files(items[number].job.folder, event.files)
            else:
                yield items[number], event
        for reference in finished:
            _, item = self._running.pop(reference)
            try:
                result, files = ray.get(reference)
            except ray.exceptions.RayTaskError as error:  # before the job started, e.g. another version of the package
                text = str(error)
                reason = (text.strip().splitlines() or [type(error).__name__])[-1]
                yield (
                    item,
                    Raised(
                        BadInput(f"{item.job.name}: a node cannot run it: {printable(reason)}", code="job_failed"), text
                    ),
                )
                continue
            except ray.exceptions.RayError as error:
                node_died = isinstance(error, ray.exceptions.NodeDiedError)
                reason = "node was lost" if node_died else f"worker process died ({type(error).__name__})"
                yield item, ProcessDied(reason)
                continue
            _write_files(item.job.folder, files)
            yield item, result

    def _alive_nodes(self) -> list[Any]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _capacity(self) -> int:
        """Return the number of work items that the nodes can run in parallel."""
        return sum(
            min(int(node["Resources"].get(kind, 0) / required + 1e-6) for kind, required in self._required.items())
            for node in self._alive_nodes()
        )


def _check_reachable(address: str | None) -> None:
    """Fail early if nothing listens at the address: Ray retries for minutes and then ends the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT):
            pass


class Mailbox:
    """Collects the events of all work items: an actor on the driver's node."""

    def __init__(self) -> None:
        self._messages: list[tuple[int, bytes]] = []

    def put(self, number: int, message: bytes) -> None:
        self._messages.append((number, message))

    def take(self) -> list[tuple[int, bytes]]:
        messages, self._messages = self._messages, []
        return messages


def _run_on_node(
    mailbox: Any,
    number: int,
    threads: int,
    level: int,
    has_folder: bool,
    files: Files,
    function: Callable[..., Any],
    part: int | None,
    args: tuple[Any, ...],
) -> tuple[Event, Files]:
    """Run a work item on a node. Return its result, and the files that it wrote or changed."""
    import ray

    def send(event: Any) -> Any:
        return mailbox.put.remote(number, pickle.dumps(event))

    torch.set_num_threads(threads)
    limit_cores(threads)
    forward_logs(send, level)
    plugins.load()
    with tempfile.TemporaryDirectory(prefix="dawp-") as temporary:
        folder = Path(temporary)
        _write_files(folder, files)
        reporter = RemoteReporter(send, lambda path: send(FilesWritten(_read_files(folder, [path]))))
        result = run_and_capture(function, folder if has_folder else None, reporter, part, *args)
        reporter.flush()
        # Wait for a last message, so that all earlier ones have arrived.
        ray.get(mailbox.put.remote(number, pickle.dumps(FilesWritten({}))))
        written = _read_files(folder, folder.rglob("*")) if isinstance(result, Returned) else {}
        written = {name: content for name, content in written.items() if files.get(name) != content}
    return result, written


def _read_files(folder: Path, paths: Iterable[Path]) -> Files:
    """Read files of a folder. The file that marks a job as finished comes last."""
    existing = sorted((path for path in paths if path.is_file()), key=lambda path: (path.name == RESULT, path))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in existing}


def _write_files(folder: Path | None, files: Files) -> None:
    """Write files into a folder in the given order, each atomically.

    Raises:
        BadInput: a path is outside the folder.
    """
    for name, content in files.items():
        if folder is None or Path(name).is_absolute() or ".." in Path(name).parts:
            raise BadInput(f"a job wrote {printable(name)}, which is outside its folder", code="job_failed")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
