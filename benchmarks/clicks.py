"""Compare the removal of clicks: precision, recall, SNR in dB, and seconds per second of sound.

    python benchmarks/clicks.py --source speech/ music/ --unclicked speech/ drums/

Clicks are added to each recording of ``--source`` as by ``python -m dawp declick``. Each source is a kind of sound with
its own rows. A click is found if one of its samples is; a find is right if a click is within 4 samples. "True places"
fills the clicks where they are. Recordings of ``--unclicked`` are processed as they are: SNR of the output against the
input. ``adeclick`` is the filter of FFmpeg, where the program is installed; its finds are the samples that it changes.
SoX has no filter against clicks. Seconds are processor time.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import common
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

from dawp.dsp import gaps
from dawp.dsp.clicks import detect_clicks
from dawp.io.audio import read_clip, true_runs
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings
from dawp.simulate.records import draw_clicks

NEAR = 4  # samples
CHANGED = 1e-6  # of a peak of 1
LONGEST = 0.00136  # seconds


class Result(NamedTuple):
    """The output of a method, the samples that it found, and the processor time in seconds."""

    output: Tensor
    found: Tensor
    seconds: float


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, nargs="*", default=[], help="files, lists or folders to add clicks to")
    parser.add_argument("--unclicked", type=Path, nargs="*", default=[], help="files, lists or folders without clicks")
    parser.add_argument("--seconds", type=float, default=5.0, help="maximum length of each clip")
    parser.add_argument("--densities", default="100,1000,5000", help="clicks per minute")
    parser.add_argument("--level", type=float, default=10.0, help="median peak in dB relative to the RMS")
    parser.add_argument("--every", type=int, default=1, help="use every n-th recording")
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in ("dawp", "adeclick") if name == "dawp" or shutil.which("ffmpeg")]
    warm = torch.rand(20000)
    declick(warm, 44100, None)  # compiles
    rows: list[dict[str, Any]] = []
    for source in args.source:
        clips = read(source, args.seconds)[:: args.every]
        for density in (float(text) for text in args.densities.split(",")):
            problems = [(clean, rate, *add_clicks(clean, rate, density, args.level)) for clean, rate in clips]
            for name in (*names, "true places"):
                rows.append(clicked_row(source, density, name, problems))
    if rows:
        common.report("clicks", common.machine(), rows, args.json, seconds=args.seconds, level=args.level)
    rows = []
    for source in args.unclicked:
        clips = read(source, args.seconds)[:: args.every]
        rows.extend(unclicked_row(source, name, clips) for name in names)
    if rows:
        path = args.json and args.json.with_stem(f"{args.json.stem}-unclicked")
        common.report("clicks-unclicked", common.machine(), rows, path, seconds=args.seconds)


def read(source: Path, seconds: float) -> list[tuple[Tensor, int]]:
    """Return the clips ``[T]`` of a source with a peak of 1, and their sample rates."""
    clips = []
    for recording in find_recordings(source):
        clip, _, rate = read_clip(recording, ClipConfig(samplerate=None, clip_length=seconds, quiet_thresh=1))
        if clip is not None:
            clips.append((clip / clip.abs().max(), rate))
    return clips


def add_clicks(clean: Tensor, rate: int, density: float, level: float) -> tuple[Tensor, Tensor]:
    """Return a clip ``[T]`` with clicks, and where they are."""
    clicks = draw_clicks(len(clean), rate, density, LONGEST, torch.Generator().manual_seed(0))
    amplitude = float(clean.square().mean().sqrt()) * 10 ** (level / 20)
    return (clean + amplitude * clicks.samples).float(), clicks.places


def clicked_row(
    source: Path, density: float, name: str, problems: list[tuple[Tensor, int, Tensor, Tensor]]
) -> dict[str, Any]:
    """Return the row of a method on clips with clicks: means over the clips."""
    values = []
    for clean, rate, observed, places in problems:
        result = METHODS[name](observed, rate, places)
        length = len(clean) / rate
        scores = (*found_right(places, result.found), snr(clean, observed), snr(clean, result.output))
        values.append((*scores, result.seconds / length))
    columns = ("recall", "precision", "SNR before", "SNR after", "s per s")
    means = {column: _mean([row[i] for row in values]) for i, column in enumerate(columns)}
    worse = sum(row[3] < row[2] for row in values)
    return {"kind": _kind(source, len(problems)), "clicks/min": density, "method": name, **means, "worse": worse}


def unclicked_row(source: Path, name: str, clips: list[tuple[Tensor, int]]) -> dict[str, Any]:
    """Return the row of a method on clips without clicks."""
    results = [METHODS[name](clip, rate, None) for clip, rate in clips]
    levels = [snr(clip, result.output) for (clip, _), result in zip(clips, results, strict=True)]
    minutes = sum(len(clip) / rate for clip, rate in clips) / 60
    finds = sum(len(true_runs(result.found)) for result in results)
    return {
        "kind": _kind(source, len(clips)),
        "method": name,
        "finds/min": round(finds / minutes, 1),
        "unchanged": f"{sum(math.isinf(level) for level in levels)} of {len(levels)}",
        "lowest SNR after": round(min(levels), 1),
        "s per s": _mean(
            [result.seconds * rate / len(clip) for (clip, rate), result in zip(clips, results, strict=True)]
        ),
    }


def found_right(places: Tensor, found: Tensor) -> tuple[float, float]:
    """Return the share of the clicks that are found, and that of the finds that are clicks."""
    near = F.max_pool1d(places.float()[None], 2 * NEAR + 1, 1, NEAR)[0] > 0
    recall = statistics.fmean(bool(found[start:stop].any()) for start, stop in true_runs(places))
    finds = true_runs(found)
    return recall, statistics.fmean(bool(near[start:stop].any()) for start, stop in finds) if finds else math.nan


def snr(clean: Tensor, estimate: Tensor) -> float:
    """Return the signal-to-noise ratio in dB."""
    error = float((estimate - clean).double().square().sum())
    return 10 * math.log10(float(clean.double().square().sum()) / error) if error else math.inf


def declick(observed: Tensor, rate: int, places: Tensor | None) -> Result:
    """Find and fill clicks as ``python -m dawp declick --restore`` does."""
    start = _processor_time()
    found = detect_clicks(observed, rate)
    output = gaps.ar_frames(observed, ~found, rate)
    return Result(output, found, _processor_time() - start)


def true_places(observed: Tensor, rate: int, places: Tensor | None) -> Result:
    """Fill the clicks where they are."""
    start = _processor_time()
    found = torch.zeros(len(observed), dtype=torch.bool) if places is None else places
    return Result(gaps.ar_frames(observed, ~found, rate), found, _processor_time() - start)


def adeclick(observed: Tensor, rate: int, places: Tensor | None) -> Result:
    """Run the filter of FFmpeg."""
    scale = float(observed.abs().max())
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{name}.wav" for name in ("in", "out")]
        soundfile.write(paths[0], (observed / scale).numpy(), rate, "FLOAT")
        start = _processor_time()
        command = ["ffmpeg", "-v", "error", "-i", paths[0], "-af", "adeclick", "-c:a", "pcm_f32le", paths[1]]
        subprocess.run(command, check=True)
        seconds = _processor_time() - start
        output = torch.from_numpy(soundfile.read(paths[1], dtype="float32")[0]) * scale
    output = F.pad(output, (0, max(0, len(observed) - len(output))))[: len(observed)]
    return Result(output, (output - observed).abs() > CHANGED * scale, seconds)


def _processor_time() -> float:
    """Return the processor time in seconds of this process and its children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _mean(values: list[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(f"{statistics.fmean(known):.3g}") if known else math.nan


def _kind(source: Path, count: int) -> str:
    return f"{source.stem}, {count}"


METHODS = {"dawp": declick, "adeclick": adeclick, "true places": true_places}


if __name__ == "__main__":
    main()
