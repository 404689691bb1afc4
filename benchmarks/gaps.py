"""Compare the methods for filling gaps: SNR in dB over the missing samples, and seconds per gap.

    python scripts/make_music.py evals/music
    python benchmarks/gaps.py --source evals/music --gaps 80

Gaps of equal length are cut into each recording at random positions outside silence, all at the same time. Each
subfolder of the source is a kind of sound with its own rows. The last columns are the times.
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

from dawp.dsp import gaps
from dawp.io.audio import read_clip
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings
from dawp.methods.classical.gaps import janssen
from dawp.operators.mask import Mask
from dawp.problem import Problem
from dawp.randomness import seeded

LENGTHS = "1,2,5,10,20,50,80"
MARGIN_SECONDS = 0.05  # between gaps, and from the ends
MAX_TRIES = 2000


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="folders of clean recordings")
    parser.add_argument("--seconds", type=float, default=10.0, help="maximum length of each clip")
    parser.add_argument("--lengths", default=LENGTHS, help="lengths of the gaps in milliseconds")
    parser.add_argument("--gaps", type=int, default=48, help="number of gaps of each length and kind")
    parser.add_argument("--level", type=float, default=-20.0, help="minimum level in a gap in dB relative to the clip")
    parser.add_argument("--methods", default=f"janssen,{','.join(gaps.METHODS)}", help="methods to compare")
    parser.add_argument("--every", type=int, default=1, help="use every n-th recording")
    parser.add_argument("--skip", type=int, default=0, help="number of recordings to leave out")
    parser.add_argument("--seed", type=int, default=0, help="seed of the positions")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lengths = [float(length) for length in args.lengths.split(",")]
    rows: list[dict[str, Any]] = []
    for source in args.source:
        clips = read(source, args.seconds)[args.skip :: args.every]
        for name, recordings in by_kind(clips).items():
            results = {
                length: measure(recordings, length, args.gaps, args.level, args.methods.split(","), args.seed)
                for length in lengths
            }
            for method in args.methods.split(","):
                row: dict[str, Any] = {"kind": name, "method": method}
                for length, result in results.items():
                    row[f"{length:g} ms"] = round(result[method][0], 2)
                for length, result in results.items():
                    row[f"s/gap, {length:g} ms"] = float(f"{result[method][1]:.2g}")
                rows.append(row)
    common.report("gaps", common.machine(), rows, args.json, gaps=args.gaps, level=args.level, seed=args.seed)


Clip = tuple[str, Tensor, int]


def read(source: Path, seconds: float) -> list[Clip]:
    """Return the name, clip ``[T]`` and sample rate of each recording."""
    clips = []
    for recording in find_recordings(source):
        clip, _, rate = read_clip(recording, ClipConfig(samplerate=None, clip_length=seconds, quiet_thresh=1))
        if clip is not None:
            clips.append((f"{source.name}/{recording.name}", clip, rate))
    return clips


def by_kind(clips: list[Clip]) -> dict[str, list[Clip]]:
    """Group clips by folder."""
    kinds: dict[str, list[Clip]] = {}
    for clip in clips:
        kinds.setdefault(str(Path(clip[0]).parent), []).append(clip)
    return kinds


def measure(
    clips: list[Clip], milliseconds: float, count: int, level: float, methods: list[str], seed: int
) -> dict[str, tuple[float, float]]:
    """Return the mean SNR in dB over gaps of one length, and the seconds per gap, by method."""
    snrs: dict[str, list[float]] = {method: [] for method in methods}
    seconds = dict.fromkeys(methods, 0.0)
    filled = 0
    for index, (name, clip, rate) in enumerate(clips):
        length = max(1, round(milliseconds / 1000 * rate))
        share = (index + 1) * count // len(clips) - index * count // len(clips)
        starts = draw_starts(clip, rate, length, share, level, seed, f"{name} {milliseconds}")
        filled += len(starts)
        mask = torch.ones(len(clip), dtype=torch.bool)
        for start in starts:
            mask[start : start + length] = False
        observed = torch.where(mask, clip, 0)
        for method in methods:
            start = time.perf_counter()
            estimate = FUNCTIONS[method](observed, mask, rate)
            seconds[method] += time.perf_counter() - start
            snrs[method] += [snr(estimate[s : s + length], clip[s : s + length]) for s in starts]
    return {method: (statistics.fmean(snrs[method]), seconds[method] / filled) for method in methods}


def draw_starts(clip: Tensor, rate: int, length: int, count: int, level: float, seed: int, name: str) -> list[int]:
    """Draw the first samples of gaps that do not overlap and are loud enough."""
    rng = seeded(seed, f"gaps {name}")
    margin = round(MARGIN_SECONDS * rate)
    starts: list[int] = []
    threshold = float(clip.double().square().mean()) * 10 ** (level / 10)
    for _ in range(MAX_TRIES):
        if len(starts) == count or len(clip) < length + 2 * margin + 1:
            break
        start = int(torch.randint(margin, len(clip) - length - margin, (), generator=rng))
        if all(abs(start - other) >= length + margin for other in starts):
            inside = clip[start : start + length].double()
            if float(inside.square().mean()) > threshold:
                starts.append(start)
    return sorted(starts)


def snr(estimate: Tensor, clean: Tensor) -> float:
    """Return the ratio of the power of the clean samples to that of the error in dB."""
    error = (estimate.double() - clean.double()).square().sum().clamp(min=1e-30)
    return float(10 * torch.log10(clean.double().square().sum() / error))


def _janssen(observed: Tensor, mask: Tensor, rate: int) -> Tensor:
    return janssen(Problem(observed, None, rate, Mask(mask)))


FUNCTIONS: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {"janssen": _janssen, **gaps.METHODS}


if __name__ == "__main__":
    main()
