"""Run jobs in one or more processes. A process that dies does not affect the other jobs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator

from dawp.devices import pick_device
from dawp.errors import BadInput, FitDiverged
from dawp.parallel.allocation import allocate_workers, torch_threads, visible_gpus
from dawp.parallel.executor import Event, Executor, LogMessage, ProcessDied, Progress, Raised, Returned
from dawp.parallel.jobs import Job, JobResult, WorkItem
from dawp.parallel.processes import ProcessPool
from dawp.parallel.progress import LocalReporter, ProgressBars
from dawp.parallel.settings import WorkConfig

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 2  # of a work item whose process dies


def run_jobs(
    jobs: Iterable[Job], work: WorkConfig, device: str, fits: int, bars: ProgressBars
) -> Generator[JobResult, None, None]:
    """Run jobs in any order, in this process, in several local processes or on a Ray cluster.

    Args:
        jobs: consumed lazily, one job whenever a worker is free.
        work: executor, number of workers and threads.
        device: name of the device, as for ``pick_device``.
        fits: number of fits in all jobs of the command, including completed ones. The number of threads, and with it
            rounding, may depend on it.
        bars: progress bars.

    Yields:
        The result of each job as soon as it is available. Close the generator to stop the remaining jobs.

    Raises:
        BadInput: the device or the cluster is not available.
        Exception: an exception of a job other than BadInput and FitDiverged; the remaining jobs are stopped.
    """
    if work.executor == "ray":
        from dawp.parallel.ray_cluster import RayCluster

        with RayCluster(work, device) as executor:
            yield from schedule(jobs, executor, bars)
        return
    local_device = pick_device(device)
    workers, threads = allocate_workers(work, local_device, fits)
    if workers == 1:
        yield from _run_sequentially(jobs, threads, bars)
    else:
        with ProcessPool(workers, threads, visible_gpus(local_device)) as executor:
            yield from schedule(jobs, executor, bars)


def _run_sequentially(jobs: Iterable[Job], threads: int, bars: ProgressBars) -> Iterator[JobResult]:
    for job in jobs:
        item = WorkItem(job, None if job.parts == 1 else 0)  # with part 0, the bars count the epochs of all parts
        bars.start(item)
        try:
            with torch_threads(threads):
                result = JobResult(job, job.function(job.folder, LocalReporter(bars, item), None, *job.args), None)
        except (BadInput, FitDiverged) as error:
            result = JobResult(job, None, error)
        bars.end(item)
        yield result


def schedule(jobs: Iterable[Job], executor: Executor, bars: ProgressBars) -> Iterator[JobResult]:
    """Run jobs on an executor. Arguments, results and exceptions are those of ``run_jobs``.

    The parts of a job are submitted first, then its final step. A work item whose process dies is submitted once more.
    After a failure, the other parts of the job are not started.
    """
    schedule = _Schedule(jobs, executor, bars)
    while schedule.submit():
        for item, event in executor.events():
            result = schedule.handle(item, event)
            if result is not None:
                yield result


class _Schedule:
    """The work items that wait and run on an executor."""

    def __init__(self, jobs: Iterable[Job], executor: Executor, bars: ProgressBars) -> None:
        self._remaining, self._executor, self._bars = iter(jobs), executor, bars
        self._queue: deque[WorkItem] = deque()
        self._parts_left: dict[Job, int] = {}
        self._failed: dict[Job, BadInput | FitDiverged] = {}
        self._running: set[WorkItem] = set()

    def submit(self) -> bool:
        """Submit work items while the executor has capacity, and return whether any are running."""
        while self._executor.has_capacity:
            if not self._queue:
                job = next(self._remaining, None)
                if job is None:
                    break
                if job.parts > 1:
                    self._parts_left[job] = job.parts
                self._queue.extend(WorkItem(job, part) for part in (range(job.parts) if job.parts > 1 else [None]))
            item = self._queue.popleft()
            if item.job in self._failed:
                continue
            self._running.add(item)
            self._bars.start(item)
            self._executor.submit(item)
        return bool(self._running)

    def handle(self, item: WorkItem, event: Event) -> JobResult | None:
        """Handle an event of a work item, and return the result of its job if the job has ended.

        Raises:
            Exception: an exception of the job other than BadInput and FitDiverged.
        """
        match event:
            case Progress(epochs, values, skipped):
                self._bars.update(item, epochs, values, skipped)
                return None
            case LogMessage(logger, level, text):
                logging.getLogger(logger).log(level, "%s", text)
                return None
            case Returned(value):
                self._end(item)
                if item.part is None:
                    return JobResult(item.job, value, None)
                self._end_part(item.job)
            case ProcessDied():
                self._end(item, discard=True)
                if self._retry(item, event):
                    return None
            case Raised(error, traceback):
                self._end(item)
                if not isinstance(error, BadInput | FitDiverged):
                    if not isinstance(error, OSError):
                        log.error("%s: exception in a worker process\n%s", item.job.name, traceback)
                    raise error
                self._failed.setdefault(item.job, error)
        return self._failure(item.job)

    def _end(self, item: WorkItem, discard: bool = False) -> None:
        self._running.discard(item)
        self._bars.end(item, discard)

    def _end_part(self, job: Job) -> None:
        """Count a finished part of a job, and queue the final step after the last one."""
        self._parts_left[job] -= 1
        if not self._parts_left[job]:
            del self._parts_left[job]
            self._queue.appendleft(WorkItem(job, None))

    def _retry(self, item: WorkItem, event: ProcessDied) -> bool:
        """Queue a work item whose process died once more; otherwise note the failure and return False."""
        if item.job not in self._failed and item.failed_attempts + 1 < MAX_ATTEMPTS:
            log.warning("%s: %s; retrying once", item.job.name, event)
            self._queue.appendleft(item._replace(failed_attempts=item.failed_attempts + 1))
            return True
        failure = BadInput(f"{item.job.name}: {event}, attempt {MAX_ATTEMPTS}", code="job_failed")
        self._failed.setdefault(item.job, failure)
        return False

    def _failure(self, job: Job) -> JobResult | None:
        """Return the failure of a job once its last running part has ended, so that no process uses its folder."""
        if job not in self._failed or any(other.job is job for other in self._running):
            return None
        self._parts_left.pop(job, None)
        return JobResult(job, None, self._failed[job])
