"""Compare the methods that undo clipping: gain in SDR in dB, and seconds per second of sound.

    python benchmarks/clipping.py --source speech/ singing/ instruments/

Each recording is scaled to a peak of 1 and clipped at the level that gives the SDR of the column. Each source is a kind
of sound with its own rows. The column "mean" is the mean of the levels, and the last column the time of all levels.
``adeclip`` is the filter of FFmpeg, where the program is installed. ``deep_prior`` is preset ``fast`` with the number
of epochs of ``--epochs``, at the hold-out stop, without the clean clip. ``janssen`` and ``ar_frames`` fill the clipped
samples like gaps and move them to the clipping level if they lie below it.
"""

from __future__ import annotations

import functools
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import soundfile
import torch
from torch import Tensor

from dawp.config import Config
from dawp.dsp import declipping
from dawp.dsp.clipping import clip_to_sdr
from dawp.io.audio import read_clip
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings
from dawp.methods.classical.gaps import ar_frames, janssen
from dawp.methods.deep_prior.solver import solve
from dawp.operators.clipping import Clipping
from dawp.operators.mask import Mask
from dawp.problem import Problem

LEVELS = "1,3,5,7,10,15,20"


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="folders of clean recordings")
    parser.add_argument("--seconds", type=float, default=5.0, help="maximum length of each clip")
    parser.add_argument("--levels", default=LEVELS, help="SDR of the clipped clips in dB")
    parser.add_argument("--methods", default=",".join(METHODS), help="methods to compare")
    parser.add_argument("--epochs", type=int, default=300, help="epochs of the deep prior")
    parser.add_argument("--every", type=int, default=1, help="use every n-th recording")
    args = parser.parse_args()
    torch.set_num_threads(1)
    METHODS["deep_prior"] = functools.partial(_deep_prior, epochs=args.epochs)
    levels = [float(level) for level in args.levels.split(",")]
    methods = [name for name in args.methods.split(",") if name != "adeclip" or shutil.which("ffmpeg")]
    rows: list[dict[str, Any]] = []
    for source in args.source:
        clips = read(source, args.seconds)[:: args.every]
        for method in methods:
            row: dict[str, Any] = {"kind": f"{source.parent.name}/{source.name}", "method": method, "clips": len(clips)}
            start = time.perf_counter()
            for level in levels:
                row[f"{level:g} dB"] = round(
                    statistics.fmean(gain(clip, rate, level, method) for clip, rate in clips), 2
                )
            row["mean"] = round(statistics.fmean(row[f"{level:g} dB"] for level in levels), 2)
            seconds = sum(len(clip) / rate for clip, rate in clips) * len(levels)
            row["s per s"] = float(f"{(time.perf_counter() - start) / seconds:.2g}")
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    common.report("clipping", common.machine(), rows, args.json, seconds=args.seconds)


def read(source: Path, seconds: float) -> list[tuple[Tensor, int]]:
    """Return the clips ``[T]`` of a folder with a peak of 1, and their sample rates."""
    clips = []
    for recording in find_recordings(source):
        clip, _, rate = read_clip(recording, ClipConfig(samplerate=None, clip_length=seconds, quiet_thresh=1))
        if clip is not None:
            clips.append((clip / clip.abs().max(), rate))
    return clips


def gain(clean: Tensor, rate: int, level: float, method: str) -> float:
    """Return the increase of the SDR in dB."""
    threshold = clip_to_sdr(clean, level)
    observed = clean.clamp(-threshold, threshold)
    estimate = METHODS[method](observed, Clipping(clean > threshold, clean < -threshold), rate)
    return sdr(estimate, clean) - sdr(observed, clean)


def sdr(estimate: Tensor, clean: Tensor) -> float:
    """Return the signal-to-distortion ratio in dB."""
    error = float((estimate - clean).double().square().sum())
    return 10 * math.log10(float(clean.double().square().sum()) / max(error, 1e-30))


def _fill(fill: Callable[[Problem], Tensor], observed: Tensor, operator: Clipping, rate: int) -> Tensor:
    filled = fill(Problem(observed, None, rate, Mask(~operator.clipped)))
    return operator.project(filled.to(observed.dtype), observed)


def _deep_prior(observed: Tensor, operator: Clipping, rate: int, epochs: int) -> Tensor:
    config = Config.of("declip", "fast", epochs=epochs, stop="holdout", device="cpu", pesq_every=epochs)
    restored = solve(Problem(observed, None, rate, operator), config).restored
    return observed if restored is None else operator.project(restored.waveform.to(observed.dtype), observed)


def _adeclip(observed: Tensor, operator: Clipping, rate: int) -> Tensor:
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{name}.wav" for name in ("in", "out")]
        soundfile.write(paths[0], 0.99 * (observed / observed.abs().max()).numpy(), rate, "FLOAT")
        codec = ("-c:a", "pcm_f32le")
        subprocess.run(["ffmpeg", "-v", "error", "-i", paths[0], "-af", "adeclip", *codec, paths[1]], check=True)
        restored = torch.from_numpy(soundfile.read(paths[1], dtype="float32")[0]) / 0.99 * observed.abs().max()
    return torch.nn.functional.pad(restored, (0, max(0, len(observed) - len(restored))))[: len(observed)]


METHODS: dict[str, Callable[[Tensor, Clipping, int], Tensor]] = {
    "adeclip": _adeclip,
    "janssen": functools.partial(_fill, janssen),
    "ar_frames": functools.partial(_fill, ar_frames),
    "a_spade": declipping.a_spade,
    "sparse_mean": declipping.sparse_mean,
    "social_sparsity": declipping.social_sparsity,
    "deep_prior": functools.partial(_deep_prior, epochs=300),
}


if __name__ == "__main__":
    main()
