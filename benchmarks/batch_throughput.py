"""Measure the clips per hour of ``denoise.py`` with 1, 2 and auto workers.

    python benchmarks/batch_throughput.py --clips 8 --flags "--preset fast"

The time is that of the whole command, including start-up and pictures. The single worker and its PESQ processes are
pinned to one core; the other runs use all cores. Each fit uses one thread, so that the results of all runs must be
equal; this is checked.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import machine, parser, report

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--clips", type=int, default=8, help="repetitions of each run")
    flags.add_argument("--flags", default="--preset fast", help="flags of denoise.py")
    flags.add_argument("--turns", type=int, default=1)
    args = flags.parse_args()
    taken: dict[str, list[float]] = {"1": [], "2": [], "auto": []}
    found = set()
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(args.turns):
            for workers, seconds in taken.items():
                print(f"{workers} workers, turn {turn + 1} ...", file=sys.stderr, flush=True)
                run = Path(folder) / f"{turn}"
                seconds.append(timed(args, workers, run))
                tables = sorted((run / "denoise" / workers).glob("*/metrics.csv"))
                found.add(tuple(table.read_text() for table in tables))
    medians = {workers: statistics.median(seconds) for workers, seconds in taken.items()}
    rows = [
        {
            "workers": "1, pinned to one core" if workers == "1" else workers,
            "s": seconds,
            "clips/h": 3600 * args.clips / seconds,
            "ratio": medians["1"] / seconds,
        }
        for workers, seconds in medians.items()
    ]
    same = "yes" if len(found) == 1 else "NO"
    report("batch_throughput", machine(), rows, args.json, clips=args.clips, flags=args.flags, same_numbers=same)


def timed(args: Any, workers: str, run: Path) -> float:
    """Return the duration of one run of the command in seconds."""
    command = [sys.executable, str(ROOT / "denoise.py"), *shlex.split(args.flags), "--workers", workers]
    command += [
        "--experiment_repetition",
        str(args.clips),
        "--threads",
        "1",
        "--output_dir",
        str(run),
        "--name",
        workers,
    ]

    def pin() -> None:
        if workers == "1":
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=pin)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
