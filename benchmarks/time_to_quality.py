"""Seconds until the oracle SI-SNR, averaged over clips, reaches a target; for presets and variations of them.

    python benchmarks/time_to_quality.py --source FOLDER --targets 4.5 6 --variant fast --variant "fast lr=0.002"

Every clip gets noise as ``denoise.py`` gives it (repetition by repetition of one seed), so all variants see the
same corrupted clips. Seconds are those of the fit with SI-SNR and PSNR of every epoch, and with PESQ only of what is
taken at the end; compare them within one run.
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
    parser.add_argument("--source", type=Path, help="as for denoise.py; the bundled clips if left out")
    parser.add_argument("--targets", type=float, nargs="+", default=[4.0, 5.0, 6.0], help="SI-SNR in dB")
    parser.add_argument(
        "--variant", action="append", help='a preset and changed settings, as in "fast lr=0.002 crit=L1"; repeatable'
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
    common.tell("time_to_quality", common.machine(device), rows, args.json, clips=len(clips), noise="Gaussian, 2.5 dB")


def row(variant: str, clips: list[Any], targets: list[float]) -> dict[str, Any]:
    """One line of the table: a variant over all clips."""
    config = config_of(variant, pesq_every=10**9)
    curves, seconds, bests, epochs = [], [], [], []
    for index, (clip, rate) in enumerate(clips):
        problem = add_noise(clip, rate, config.corruption, seeded(config.fit.seed, "corruption", index))
        result = solve(problem, config, index)
        seconds.append(result.seconds / len(result.history.rows))
        bests.append(result.best["si_snr"].value)
        epochs.append(result.best["si_snr"].epoch or 0)
        curves.append(running_maximum(result.history.column("si_snr")))
    longest = max(len(curve) for curve in curves)  # one that was stopped early stays at its best
    padded = [curve + curve[-1:] * (longest - len(curve)) for curve in curves]
    means = [statistics.fmean(values) for values in zip(*padded, strict=True)]
    epoch_seconds = statistics.fmean(seconds)
    told = {
        "variant": variant,
        "best SI-SNR, mean": statistics.fmean(bests),
        "lowest": min(bests),
        "epoch": round(statistics.fmean(epochs)),
        "ms/epoch": 1000 * epoch_seconds,
    }
    for target in targets:
        reached = next((epoch for epoch, mean in enumerate(means, start=1) if mean >= target), None)
        told[f"s to {target:g} dB"] = "never" if reached is None else reached * epoch_seconds
    return told


def running_maximum(values: list[float]) -> list[float]:
    best, maxima = float("-inf"), []
    for value in values:
        best = max(best, value)  # NaN never is
        maxima.append(best)
    return maxima


if __name__ == "__main__":
    main()
