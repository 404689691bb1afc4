"""Compare trained U-Nets with sinc interpolation and band replication: SNR and log-spectral distance in dB.

    scripts/make_training_data.sh pieces/ --minutes 6 --seed 1
    python benchmarks/trained.py --source pieces/ --weights model.pt --samplerate 16000 --rate 8000

Each clip is reduced to ``--rate`` and interpolated back, which is the input of all methods. The columns are the SNR and
its gain (higher is better), the log-spectral distance over all frequencies and above half of ``--rate`` (lower is
better), and the seconds per second of sound. All estimates keep the band of the input below the cutoff. ``--clips`` are
taken from each recording, evenly spaced. Several model files are separated by commas.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor

from dawp.io import audio
from dawp.io.sources import find_recordings
from dawp.methods.base import METHODS
from dawp.methods.trained.unet_method import load_unet
from dawp.metrics.functions import lsd, snr
from dawp.problem import Problem
from dawp.tasks.bandwidth import BandwidthConfig
from dawp.tasks.base import make_problem

TASK = "bandwidth"


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, required=True, help="clean recordings")
    parser.add_argument("--weights", default="", help="model files of trained U-Nets, separated by commas")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each clip")
    parser.add_argument("--clips", type=int, default=4, help="clips of each recording")
    parser.add_argument("--samplerate", type=int, default=16000, help="sample rate of the clips")
    parser.add_argument("--rate", type=int, default=8000, help="sample rate of the corrupted clips")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = read(args.source, args.seconds, args.clips, args.samplerate)
    config = BandwidthConfig(rate=args.rate)
    problems = [make_problem(TASK, clip, None, args.samplerate, config, torch.Generator()) for clip in clips]
    methods = {name: METHODS[TASK][name].restore for name in ("sinc", "band_replication")}
    methods |= {path: _trained(Path(path)) for path in filter(None, args.weights.split(","))}
    rows = [{"method": name, **mean_of(method, problems)} for name, method in methods.items()]
    common.report("trained", common.machine(), rows, args.json, clips=len(clips), seconds=args.seconds)


def read(source: Path, seconds: float, count: int, rate: int) -> list[Tensor]:
    """Return evenly spaced clips ``[T]`` of the recordings that are long enough."""
    clips = []
    size = round(seconds * rate)
    for recording in find_recordings(source):
        samples = audio.read(recording.path, rate)
        starts = torch.linspace(0, len(samples) - size, count + 2)[1:-1].long() if len(samples) >= size else ()
        clips += [samples[start : start + size] for start in starts]
    return [clip for clip in clips if clip.any()]


def mean_of(method: Callable[[Problem], Tensor], problems: list[Problem]) -> dict[str, Any]:
    """Return the mean of each column over all clips."""
    rows = []
    for problem in problems:
        start = time.perf_counter()
        estimate = problem.estimate(method(problem))
        seconds = (time.perf_counter() - start) / (len(estimate) / problem.sample_rate)
        clean, rate = problem.clean, problem.sample_rate
        if clean is None:
            raise ValueError("the clip has no clean version to compare with")
        rows.append(
            {
                "SNR": float(snr(estimate, clean)),
                "SNR gain": float(snr(estimate, clean) - snr(problem.observed, clean)),
                "LSD": float(lsd(estimate, clean, rate)),
                "LSD above": float(lsd(estimate, clean, rate, problem.facts["cutoff_hz"])),
                "s per s": seconds,
            }
        )
    return {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}


def _trained(path: Path) -> Callable[[Problem], Tensor]:
    network = load_unet(path, TASK)

    def method(problem: Problem) -> Tensor:
        if problem.sample_rate != network.rate:
            raise ValueError(f"the model works at {network.rate} Hz, got clips at {problem.sample_rate} Hz")
        return network.restore(problem.observed, torch.device("cpu"))

    return method


if __name__ == "__main__":
    main()
