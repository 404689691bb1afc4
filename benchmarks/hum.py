"""Measure the removal of mains hum: the SNR before and after, and how many recordings without hum are changed.

    python benchmarks/hum.py --source speech/ singing/ instruments/ --clean music/

Hum with 30 harmonics and a drifting fundamental is added to each clean recording. The SNR is that of the hum, without
other noise; "hum" is the removal of the hum only, the other columns are restorations with it and without it. A
recording is a false alarm if hum is found in it without hum.
"""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor

import dawp
from dawp.dsp.hum import Hum, find_hum
from dawp.io.audio import read_clip
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings
from dawp.simulate.hum import draw_hum

LEVELS = "0,10,20"


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="folders of clean recordings")
    parser.add_argument("--clean", type=Path, nargs="*", default=[], help="more folders, for false alarms only")
    parser.add_argument("--seconds", type=float, default=10.0, help="maximum length of each clip")
    parser.add_argument("--levels", default=LEVELS, help="SNR of the hum in dB")
    parser.add_argument("--method", default="log_mmse", help="denoising method; none to remove the hum only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure(source, read(source, args.seconds), mains, float(level), args.method)
        for source in args.source
        for mains in (50.0, 60.0)
        for level in args.levels.split(",")
    ]
    clips = [clip for source in (*args.source, *args.clean) for clip in read(source, args.seconds)]
    alarms = sum(find(clip, rate) is not None for clip, rate in clips)
    common.report("hum", common.machine(), rows, args.json, clean_clips=len(clips), false_alarms=alarms)


def read(source: Path, seconds: float) -> list[tuple[Tensor, int]]:
    """Return the clips ``[T]`` of a folder that are long enough for the detection, and their sample rates."""
    clips = []
    for recording in find_recordings(source):
        clip, _, rate = read_clip(recording, ClipConfig(samplerate=None, clip_length=seconds, quiet_thresh=1))
        if clip is not None and len(clip) > 2.5 * rate:
            clips.append((clip, rate))
    return clips


def measure(source: Path, clips: list[tuple[Tensor, int]], mains: float, level: float, method: str) -> dict[str, Any]:
    """Return a row of the table."""
    results: dict[str, list[float]] = {name: [] for name in ("hum", method, f"hum and {method}")}
    found, elapsed = 0, 0.0
    for number, (clean, rate) in enumerate(clips):
        hum = draw_hum(len(clean), rate, mains, torch.Generator().manual_seed(number))
        noisy = (clean + hum * clean.double().square().mean().sqrt() * 10 ** (-level / 20)).float()
        start = time.perf_counter()
        estimate = find(noisy, rate)
        without = noisy if estimate is None else noisy - estimate.samples(0, len(noisy)).float()
        elapsed += time.perf_counter() - start
        found += estimate is not None
        results["hum"].append(snr(clean, without))
        if method != "none":
            for name, setting in ((method, "none"), (f"hum and {method}", "auto")):
                results[name].append(snr(clean, dawp.restore(noisy, rate, method=method, hum=setting)))
    seconds = sum(len(clip) / rate for clip, rate in clips)
    return {
        "kind": f"{source.parent.name}/{source.name}",
        "mains in Hz": round(mains),
        "SNR": level,
        "clips": len(clips),
        "found": found,
        **{name: round(statistics.fmean(values), 2) for name, values in results.items() if values},
        "s per s": float(f"{elapsed / seconds:.2g}"),
    }


def find(waveform: Tensor, rate: int) -> Hum | None:
    """Return the hum of a waveform ``[T]``."""
    power = waveform.double().square().mean()[None]
    return find_hum(lambda start, stop: waveform[None, start:stop], power, len(waveform), rate)[0]


def snr(clean: Tensor, estimate: Tensor) -> float:
    """Return the signal-to-noise ratio in dB."""
    error = float((estimate - clean).double().square().sum())
    return 10 * math.log10(float(clean.double().square().sum()) / max(error, 1e-30))


if __name__ == "__main__":
    main()
