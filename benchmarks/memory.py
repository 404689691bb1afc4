"""Measure the peak memory by length of the clip, for presets with changed settings.

    python benchmarks/memory.py --seconds 1 2 4 8 --variant paper --variant fast

Each row is measured in a separate process with three epochs and all metrics, without the processes that compute PESQ.
The first column is the memory of Python and torch before the fit.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import torch
from common import machine, parser, report
from variants import config_of

from dawp.devices import pick_device
from dawp.methods.deep_prior.solver import solve
from dawp.randomness import seeded
from dawp.tasks.denoise import add_noise

RATE = 16000
MB = 1e6


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument(
        "--seconds", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0, 16.0], help="lengths of the clip"
    )
    flags.add_argument("--variant", action="append", help='e.g. "fast lr=0.002"; repeatable (default: paper, fast)')
    flags.add_argument("--measure", help="internal: measure one variant and print its memory as JSON")
    args = flags.parse_args()
    if args.measure:
        print(json.dumps(measure_memory(args.measure, args.seconds[0])))
        return
    rows = []
    for variant in args.variant or ["paper", "fast"]:
        for seconds in args.seconds:
            print(f"{variant}, {seconds:g} s ...", file=sys.stderr, flush=True)
            command = [sys.executable, __file__, "--measure", variant, "--seconds", str(seconds)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows.append({"variant": variant, "clip s": seconds, **json.loads(printed)})
    report("memory", machine(str(pick_device("auto"))), rows, args.json)


def measure_memory(variant: str, seconds: float) -> dict[str, float]:
    config = config_of(variant, epochs=3)
    length = round(seconds * RATE)
    clean = torch.sin(torch.arange(length) / 20) * torch.linspace(0.1, 0.5, length) + 0.01 * torch.randn(length)
    problem = add_noise(clean, RATE, config.corruption, seeded(0, "corruption"))
    device = pick_device(config.fit.device)
    before = peak()
    solve(problem, config)
    memory = {"MB before": before, "MB at most": peak()}
    if device.type == "cuda":
        memory["GPU MB at most"] = torch.cuda.max_memory_allocated(device) / MB
    return memory


def peak() -> float:
    """Return the largest resident memory of this process so far in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


if __name__ == "__main__":
    main()
