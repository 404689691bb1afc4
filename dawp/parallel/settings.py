"""Settings of the work: processes, threads, GPUs and checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dawp.settings import Settings, setting


@dataclass(frozen=True)
class WorkConfig(Settings):
    """Work: processes, threads, GPUs and checkpoints."""

    workers: int | None = setting(
        None,
        "number of parallel processes if there are several fits; does not affect the numbers",
        at_least=1,
        at_most=4096,
        none="one per processor core, or --fits_per_gpu per GPU",
        none_word="auto",
        brief="parallel processes",
    )
    threads: int | None = setting(
        None,
        "CPU threads per fit; affects rounding",
        at_least=1,
        at_most=4096,
        none="all cores for a single fit, 1 for several fits",
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
        "where to run fits: local, on this machine; ray, on a Ray cluster (extra cluster)",
        choices=("local", "ray"),
    )
    ray_address: str | None = setting(
        None,
        "the Ray cluster to connect to: auto, HOST:PORT or ray://HOST:PORT",
        none="that of RAY_ADDRESS or of this machine; if there is none, a cluster is started on this machine",
    )

    def identity(self) -> dict[str, Any]:
        without = "workers" if self.executor == "ray" else "ray_address"
        return {name: value for name, value in super().identity().items() if name != without}
