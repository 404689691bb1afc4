"""Jobs, shared out among processes of which any may die without the others."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator

from dawp.config import WorkConfig
from dawp.devices import pick_device
from dawp.errors import BadInput, FitDiverged
from dawp.parallel.allocation import allocate_workers, torch_threads, visible_gpus
from dawp.parallel.executor import Executor, LogMessage, ProcessDied, Progress, Raised, Returned
from dawp.parallel.jobs import Job, JobResult, WorkItem
from dawp.parallel.processes import ProcessPool
from dawp.parallel.progress import LocalReporter, ProgressBars

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 2  # of a job whose process dies


def run_jobs(
    jobs: Iterable[Job], work: WorkConfig, device: str, fits: int, bars: ProgressBars
) -> Generator[JobResult, None, None]:
    """Do jobs, in any order, in as many processes as the settings and the machine allow, or in this one.

    Args:
        jobs: made one by one, when there is somebody free to take them.
        work: how the jobs share this machine, or a cluster.
        device: name of the device, as for ``pick_device``.
        fits: of all jobs of the command, also of those that are done already: the numbers may depend on it.
        bars: to show how far they are.

    Yields:
        Each job when it is over. Whoever does not take all of them closes the iterator, which stops the others.

    Raises:
        Exception: what a job raised, other than BadInput and FitDiverged; the others are stopped.
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
        task = WorkItem(job, None if job.parts == 1 else 0)  # its epochs count, all of them
        bars.start(task)
        try:
            with torch_threads(threads):
                done = JobResult(job, job.work(job.folder, LocalReporter(bars, task), None, *job.args), None)
        except (BadInput, FitDiverged) as refusal:
            done = JobResult(job, None, refusal)
        bars.end(task)
        yield done


def schedule(jobs: Iterable[Job], executor: Executor, bars: ProgressBars) -> Iterator[JobResult]:
    coming = iter(jobs)
    waiting: deque[WorkItem] = deque()
    parts_left: dict[Job, int] = {}
    failed: dict[Job, BadInput | FitDiverged] = {}
    going: set[WorkItem] = set()

    def over(task: WorkItem, discard: bool = False) -> None:
        going.discard(task)
        bars.end(task, discard)

    while True:
        while executor.has_capacity:
            if not waiting:
                job = next(coming, None)
                if job is None:
                    break
                if job.parts > 1:
                    parts_left[job] = job.parts
                waiting.extend(WorkItem(job, part) for part in (range(job.parts) if job.parts > 1 else [None]))
            task = waiting.popleft()
            if task.job in failed:
                continue
            going.add(task)
            bars.start(task)
            executor.submit(task)
        if not going:
            return
        for task, event in executor.events():
            match event:
                case Progress(epochs, values, skipped):
                    bars.update(task, epochs, values, skipped)
                case LogMessage(logger, level, text):
                    logging.getLogger(logger).log(level, "%s", text)
                case Returned(value):
                    over(task)
                    if task.part is None:
                        yield JobResult(task.job, value, None)
                        continue
                    parts_left[task.job] -= 1
                    if not parts_left[task.job]:
                        del parts_left[task.job]
                        waiting.appendleft(WorkItem(task.job, None))
                case ProcessDied():
                    over(task, discard=True)
                    if task.job not in failed and task.failed_attempts + 1 < MAX_ATTEMPTS:
                        log.warning("%s: %s; it is tried once more", task.job.name, event)
                        waiting.appendleft(task._replace(failed_attempts=task.failed_attempts + 1))
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
            ended = isinstance(event, Returned | ProcessDied | Raised) and task.job in failed
            if ended and not any(other.job is task.job for other in going):
                parts_left.pop(task.job, None)
                yield JobResult(task.job, None, failed[task.job])
