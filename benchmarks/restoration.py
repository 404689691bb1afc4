"""Evaluate restorations against the clean recordings, for presets with changed settings.

    python benchmarks/restoration.py --source PAIRS --variant restore --variant "restore block=2"

The source is a list of clean,noisy pairs, or clean recordings, to which white noise is added at --snr. Whole recordings
are used unless --seconds is given. The last column is the time per second of sound; compare it within one run only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from torch import Tensor
from variants import config_of

from dawp.errors import BadInput
from dawp.io.audio import read_clip
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings
from dawp.methods import baselines
from dawp.metrics.functions import pesq, si_snr
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.restoration.waveform import restore_waveform
from dawp.tasks.base import make_problem


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, help="as for denoise.py (default: the bundled clips)")
    parser.add_argument("--snr", type=float, default=2.5, help="SNR for clean recordings in dB")
    parser.add_argument("--seconds", type=float, default=0.0, help="length of each clip; 0 for whole recordings")
    parser.add_argument("--samplerate", type=int, help="sample rate in Hz (default: the recording's)")
    parser.add_argument("--baselines", action="store_true", help="also evaluate the classical methods")
    parser.add_argument(
        "--variant", action="append", help='preset and changed settings, e.g. "restore block=2"; repeatable'
    )
    args = parser.parse_args()
    try:
        problems = list(make_problems(args.source, args.snr, args.seconds, args.samplerate))
        print(f"{len(problems)} recordings, {sum(map(seconds_of, problems)):.0f} s of sound")
        print(f"{'SI-SNR':>7} {'lowest':>7} {'PESQ':>6} {'s per s':>8}  estimate")
        print(row("corrupted", problems, [problem.observed for problem in problems]))
        if args.baselines:
            estimates = [baselines.run("denoise", problem) for problem in problems]
            for name in estimates[0]:
                print(row(f"baseline {name}", problems, [by_name[name] for by_name in estimates]), flush=True)
        for variant in args.variant or ["restore"]:
            config = config_of(variant, restore=True)
            began = time.perf_counter()
            restored = [restore_waveform(p.observed[None], p.sample_rate, config)[0] for p in problems]
            cost = (time.perf_counter() - began) / sum(map(seconds_of, problems))
            print(row(variant, problems, restored, cost), flush=True)
    except BadInput as refusal:
        parser.error(str(refusal))


def make_problems(source: Path | None, snr: float, seconds: float, samplerate: int | None) -> list[Problem]:
    """Return a problem for each recording, with the noise of the pair or with white noise."""
    config = config_of("restore", snr=snr, clip_length=seconds, quiet_thresh=1, samplerate=samplerate)
    clip = ClipConfig(samplerate=samplerate, clip_length=seconds, quiet_thresh=1)
    problems = []
    for index, recording in enumerate(find_recordings(source)):
        clean, corrupted, rate = read_clip(recording, clip)
        rng = seeded(config.fit.seed, "corruption", index)
        problems.append(make_problem("denoise", clean, corrupted, rate, config.corruption, rng))
    return problems


def seconds_of(problem: Problem) -> float:
    return len(problem.observed) / problem.sample_rate


def row(title: str, problems: list[Problem], estimates: list[Tensor], cost: float | None = None) -> str:
    """Return a line of the table for an estimate of each problem."""
    values = [float(si_snr(e, p.clean)) for e, p in zip(estimates, problems, strict=True)]
    quality = [float(pesq(e, p.clean, p.sample_rate)) for e, p in zip(estimates, problems, strict=True)]
    valid = [value for value in quality if value == value]
    mean_quality = f"{statistics.fmean(valid):.2f}" if valid else "-"
    seconds = "" if cost is None else f"{cost:.1f}"
    return f"{statistics.fmean(values):>7.2f} {min(values):>7.2f} {mean_quality:>6} {seconds:>8}  {title}"


if __name__ == "__main__":
    main()
