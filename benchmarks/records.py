"""Restore simulated records: remove the clicks, then the noise. SNR in dB, and a picture of the spectrograms.

    python benchmarks/records.py --source recordings/ --picture records.png

Clicks, crackle, hiss and rumble of a record of 78 rpm are added to each recording, which is restored by
``python -m dawp declick --restore`` and then by ``denoise.py --restore --method nmf`` (``--method``).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import clicks
import common
import numpy as np
import torch
from torch import Tensor

import dawp
from dawp.config import Config
from dawp.tasks.base import make_problem

RPM = "78"
STEPS = ("clean", "record", "denoised only", "declicked", "declicked, denoised")


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, required=True, help="files, list or folder of clean recordings")
    parser.add_argument("--seconds", type=float, default=6.0, help="maximum length of each clip")
    parser.add_argument("--clicks", type=float, default=600.0, help="clicks per minute")
    parser.add_argument("--crackle", type=float, default=30.0, help="SNR of the crackle in dB")
    parser.add_argument("--hiss", type=float, default=20.0, help="SNR of the hiss in dB")
    parser.add_argument("--rumble", type=float, default=20.0, help="SNR of the rumble in dB")
    parser.add_argument("--method", default="nmf", help="method of denoise.py")
    parser.add_argument("--picture", type=Path, help="file for the spectrograms")
    args = parser.parse_args()
    torch.set_num_threads(1)
    noise = {name: getattr(args, name) for name in ("clicks", "crackle", "hiss", "rumble")}
    rows, pictures = [], []
    for index, (clean, rate) in enumerate(clicks.read(args.source, args.seconds)):
        config = Config.of("declick", rpm=RPM, **noise)
        problem = make_problem("declick", clean, None, rate, config.corruption, torch.Generator().manual_seed(index))
        start = os.times()
        sounds = steps(clean, problem.observed, rate, args.method)
        seconds = (os.times().user - start.user) * rate / len(clean)
        snrs = {name: round(clicks.snr(clean, sounds[name]), 1) for name in STEPS[1:]}
        rows.append({"recording": index + 1, "Hz": rate, **snrs, "s per s": float(f"{seconds:.2g}")})
        pictures.append((sounds, rate))
    rows.append(
        {"recording": "mean", **{name: round(float(np.mean([row[name] for row in rows])), 1) for name in STEPS[1:]}}
    )
    common.report("records", common.machine(), rows, args.json, rpm=RPM, **noise, method=args.method)
    if args.picture:
        draw(pictures, args.picture)
        print(f"written: {args.picture}")


def steps(clean: Tensor, record: Tensor, rate: int, method: str) -> dict[str, Tensor]:
    """Return the sounds of each step, by name."""
    declicked = dawp.restore(record, rate, task="declick", rpm=RPM)
    sounds = (
        clean,
        record,
        dawp.restore(record, rate, task="denoise", method=method),
        declicked,
        dawp.restore(declicked, rate, task="denoise", method=method),
    )
    return dict(zip(STEPS, sounds, strict=True))


def draw(pictures: list[tuple[dict[str, Tensor], int]], path: Path) -> None:
    """Draw the spectrograms of each recording (a row) at each step (a column), 80 dB below the largest value."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from scipy.signal import stft

    size = (3.4 * len(STEPS), 2.4 * len(pictures))
    figure, axes = plt.subplots(len(pictures), len(STEPS), figsize=size, squeeze=False, layout="constrained")
    for row, (sounds, rate) in zip(axes, pictures, strict=True):
        highest = None
        for axis, (name, sound) in zip(row, sounds.items(), strict=True):
            frequencies, times, spectrum = stft(sound.numpy(), rate, nperseg=2 ** round(math.log2(0.03 * rate)))
            level = 20 * np.log10(np.abs(spectrum) + 1e-9)
            highest = float(level.max()) if highest is None else highest
            axis.pcolormesh(times, frequencies / 1000, level, vmin=highest - 80, vmax=highest, rasterized=True)
            axis.set(title=name, xlabel="s", ylabel="kHz", ylim=(0, min(10, rate / 2000)))
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
