"""Measure the time until the oracle SI-SNR, averaged over clips, reaches a target, for presets with changed settings.

    python benchmarks/time_to_quality.py --source FOLDER --targets 4.5 6 --variant fast --variant "fast lr=0.002"

The noise is that of ``denoise.py`` (one repetition per clip, one seed), so that all variants fit the same corrupted
clips. The time includes SI-SNR and PSNR in every epoch, and PESQ only for the final estimates; compare times within one
run only.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import common
from variants import config_of

from dawp.devices import pick_device
from dawp.errors import BadInput
from dawp.io.audio import read_clip
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings
from dawp.methods.deep_prior.solver import solve
from dawp.randomness import seeded
from dawp.tasks.denoise import add_noise


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, help="as for denoise.py (default: the bundled clips)")
    parser.add_argument("--targets", type=float, nargs="+", default=[4.0, 5.0, 6.0], help="SI-SNR in dB")
    parser.add_argument(
        "--variant", action="append", help='preset and changed settings, e.g. "fast lr=0.002 crit=L1"; repeatable'
    )
    args = parser.parse_args()
    try:
        clips = [read_clip(recording, ClipConfig())[::2] for recording in find_recordings(args.source)]
        rows = []
        for variant in args.variant or ["fast", "paper"]:
            print(f"{variant} ...", file=sys.stderr, flush=True)
            rows.append(row(variant, clips, args.targets))
    except BadInput as refusal:
        parser.error(str(refusal))
    device = str(pick_device("auto"))
    common.report(
        "time_to_quality", common.machine(device), rows, args.json, clips=len(clips), noise="Gaussian, 2.5 dB"
    )


def row(variant: str, clips: list[Any], targets: list[float]) -> dict[str, Any]:
    """Return the row of a variant: means over all clips."""
    config = config_of(variant, pesq_every=10**9)
    curves, seconds, bests, epochs = [], [], [], []
    for index, (clip, rate) in enumerate(clips):
        problem = add_noise(clip, rate, config.corruption, seeded(config.fit.seed, "corruption", index))
        result = solve(problem, config, index)
        seconds.append(result.seconds / len(result.history.rows))
        bests.append(result.best["si_snr"].value)
        epochs.append(result.best["si_snr"].epoch or 0)
        curves.append(running_maximum(result.history.column("si_snr")))
    longest = max(len(curve) for curve in curves)  # a fit that stops early keeps its best value
    padded = [curve + curve[-1:] * (longest - len(curve)) for curve in curves]
    means = [statistics.fmean(values) for values in zip(*padded, strict=True)]
    epoch_seconds = statistics.fmean(seconds)
    values = {
        "variant": variant,
        "best SI-SNR, mean": statistics.fmean(bests),
        "lowest": min(bests),
        "epoch": round(statistics.fmean(epochs)),
        "ms/epoch": 1000 * epoch_seconds,
    }
    for target in targets:
        reached = next((epoch for epoch, mean in enumerate(means, start=1) if mean >= target), None)
        values[f"s to {target:g} dB"] = "never" if reached is None else reached * epoch_seconds
    return values


def running_maximum(values: list[float]) -> list[float]:
    best, maxima = float("-inf"), []
    for value in values:
        best = max(best, value)  # ignores NaN
        maxima.append(best)
    return maxima


if __name__ == "__main__":
    main()
