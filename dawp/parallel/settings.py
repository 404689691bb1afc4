"""Settings of the work: processes, threads, GPUs and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dawp.settings import Settings, setting


@dataclass(frozen=True)
class WorkConfig(Settings):
    """Work: how fits share processor cores, GPUs and machines, and what an interruption costs."""

    workers: int | None = setting(
        None,
        "processes that fit at the same time, where there are several fits to do; the numbers do not depend on it",
        at_least=1,
        at_most=4096,
        none="as many as the processor cores, or --fits_per_gpu for each GPU, allow",
        none_word="auto",
        brief="parallel processes",
    )
    threads: int | None = setting(
        None,
        "processor threads of each fit; rounding depends on it",
        at_least=1,
        at_most=4096,
        none="all cores for a single fit, 1 where there are several to do",
        none_word="auto",
    )
    fits_per_gpu: int = setting(1, "fits that share a GPU", at_least=1, at_most=256)
    checkpoint_every: float | None = setting(
        60.0,
        "seconds between checkpoints of a fit, from which the same command resumes after an interruption; "
        "the interval is at least 20 times the time to write one",
        above=0,
        at_most=1e6,
        none="no checkpoints",
    )
    executor: str = setting(
        "local",
        "where fits are done: local, on this machine; ray, on a Ray cluster (extra cluster)",
        choices=("local", "ray"),
    )
    ray_address: str | None = setting(
        None,
        "the Ray cluster to connect to: auto, HOST:PORT or ray://HOST:PORT",
        none="that of RAY_ADDRESS or of this machine, else one is started here",
    )

    def identity(self) -> dict[str, Any]:
        without = "workers" if self.executor == "ray" else "ray_address"
        return {name: value for name, value in super().identity().items() if name != without}
