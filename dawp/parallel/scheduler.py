"""Jobs, shared out among processes of which any may die without the others."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator

from dawp.config import Config
from dawp.errors import BadInput, FitDiverged
from dawp.parallel.allocation import _gpus, shares, threads_set
from dawp.parallel.executor import Died, Executor, Raised, Returned, Said, Told
from dawp.parallel.jobs import Done, Job, Task
from dawp.parallel.processes import Processes
from dawp.parallel.progress import Bars, _Here

log = logging.getLogger(__name__)

TRIES = 2  # of a job whose process dies


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
