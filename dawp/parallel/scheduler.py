"""Run jobs in one or more processes. A process that dies does not affect the other jobs."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator

from dawp.devices import pick_device
from dawp.errors import BadInput, FitDiverged
from dawp.parallel.allocation import allocate_workers, torch_threads, visible_gpus
from dawp.parallel.executor import Executor, LogMessage, ProcessDied, Progress, Raised, Returned
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
    remaining = iter(jobs)
    queue: deque[WorkItem] = deque()
    parts_left: dict[Job, int] = {}
    failed: dict[Job, BadInput | FitDiverged] = {}
    running: set[WorkItem] = set()

    def end(item: WorkItem, discard: bool = False) -> None:
        running.discard(item)
        bars.end(item, discard)

    while True:
        while executor.has_capacity:
            if not queue:
                job = next(remaining, None)
                if job is None:
                    break
                if job.parts > 1:
                    parts_left[job] = job.parts
                queue.extend(WorkItem(job, part) for part in (range(job.parts) if job.parts > 1 else [None]))
            item = queue.popleft()
            if item.job in failed:
                continue
            running.add(item)
            bars.start(item)
            executor.submit(item)
        if not running:
            return
        for item, event in executor.events():
            match event:
                case Progress(epochs, values, skipped):
                    bars.update(item, epochs, values, skipped)
                case LogMessage(logger, level, text):
                    logging.getLogger(logger).log(level, "%s", text)
                case Returned(value):
                    end(item)
                    if item.part is None:
                        yield JobResult(item.job, value, None)
                        continue
                    parts_left[item.job] -= 1
                    if not parts_left[item.job]:
                        del parts_left[item.job]
                        queue.appendleft(WorkItem(item.job, None))
                case ProcessDied():
                    end(item, discard=True)
                    if item.job not in failed and item.failed_attempts + 1 < MAX_ATTEMPTS:
                        log.warning("%s: %s; retrying once", item.job.name, event)
                        queue.appendleft(item._replace(failed_attempts=item.failed_attempts + 1))
                        continue
                    failed.setdefault(
                        item.job, BadInput(f"{item.job.name}: {event}, attempt {MAX_ATTEMPTS}", code="job_failed")
                    )
                case Raised(error, traceback):
                    end(item)
                    if isinstance(error, BadInput | FitDiverged):
                        failed.setdefault(item.job, error)
                    else:
                        if not isinstance(error, OSError):
                            log.error("%s: exception in a worker process\n%s", item.job.name, traceback)
                        raise error
            # Report a failed job only after its last running part has ended: no process uses its folder any more.
            has_ended = isinstance(event, Returned | ProcessDied | Raised)
            if has_ended and item.job in failed and not any(other.job is item.job for other in running):
                parts_left.pop(item.job, None)
                yield JobResult(item.job, None, failed[item.job])
