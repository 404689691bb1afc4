"""Seconds until the oracle SI-SNR, averaged over clips, reaches a target; for presets and variations of them.

    python benchmarks/time_to_quality.py --source FOLDER --targets 4.5 6 --variant fast --variant "fast lr=0.002"

Every clip gets noise as ``denoise.py`` gives it (repetition by repetition of one seed), so all variants see the
same corrupted clips. Seconds are those of the fit with SI-SNR and PSNR, without PESQ; compare them within one run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from variants import config_of

from dawp.audio import read_clip
from dawp.config import ClipConfig
from dawp.corruptions import add_noise
from dawp.errors import BadInput
from dawp.randomness import seeded
from dawp.solver import solve
from dawp.sources import find_recordings


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, help="as for denoise.py; the bundled clips if left out")
    parser.add_argument("--targets", type=float, nargs="+", default=[4.0, 5.0, 6.0], help="SI-SNR in dB")
    parser.add_argument(
        "--variant", action="append", help='a preset and changed settings, as in "fast lr=0.002 crit=L1"; repeatable'
    )
    args = parser.parse_args()
    try:
        clips = [read_clip(recording, ClipConfig())[::2] for recording in find_recordings(args.source)]
        print(f"{len(clips)} clips, Gaussian noise at 2.5 dB")
        targets = "".join(f"  s to {target:g} dB" for target in args.targets)
        print(f"{'mean best':>9} {'epoch':>6} {'lowest':>6} {'ms/epoch':>8}{targets}  variant")
        for variant in args.variant or ["fast"]:
            print(row(variant, clips, args.targets), flush=True)
    except BadInput as refusal:
        parser.error(str(refusal))


def row(variant: str, clips: list[Any], targets: list[float]) -> str:
    """One line of the table: a variant over all clips."""
    config = config_of(variant, pesq_every=10**9)
    curves, seconds, bests, epochs = [], [], [], []
    for index, (clip, rate) in enumerate(clips):
        problem = add_noise(clip, rate, config.corruption, seeded(config.fit.seed, "corruption", index))
        began = time.perf_counter()
        result = solve(problem, config, index)
        seconds.append((time.perf_counter() - began) / config.fit.epochs)
        bests.append(result.best["si_snr"].value)
        epochs.append(result.best["si_snr"].epoch or 0)
        curves.append(running_maximum(result.history.column("si_snr")))
    means = [statistics.fmean(values) for values in zip(*curves, strict=True)]
    epoch_seconds = statistics.fmean(seconds)
    text = f"{statistics.fmean(bests):>9.2f} {statistics.fmean(epochs):>6.0f} {min(bests):>6.2f}"
    text += f" {1000 * epoch_seconds:>8.1f}"
    for target in targets:
        reached = next((epoch for epoch, mean in enumerate(means, start=1) if mean >= target), None)
        text += f"{'never' if reached is None else f'{reached * epoch_seconds:.1f}':>{len(f'  s to {target:g} dB')}}"
    return f"{text}  {variant}"


def running_maximum(values: list[float]) -> list[float]:
    best, maxima = float("-inf"), []
    for value in values:
        best = max(best, value)  # NaN never is
        maxima.append(best)
    return maxima


if __name__ == "__main__":
    main()
