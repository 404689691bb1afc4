"""Compare the methods that extend the bandwidth: log-spectral distance in dB, and seconds per second of sound.

    python benchmarks/bandwidth.py --source music.txt --rate 16000
    python benchmarks/bandwidth.py --source speech/ --samplerate 16000 --rate 8000

    python benchmarks/bandwidth.py --source music.txt --detect

Each recording is low-passed at half of ``--rate``, reduced to that rate and interpolated back. The columns are the
log-spectral distance over all frequencies and above the cutoff, both lower if better, and the largest change in dB of
the level of a band of 100 Hz below the cutoff. ``sinc`` is the input of the other methods, ``cubic`` a cubic spline
through the samples at the low rate. ``copies`` and ``noise`` are band replication with other signals to shape: shifted
copies of the octave below the cutoff, and white noise. ``deep_prior`` is fitted through the filter, and its stop does
not use the clean clip.

With ``--detect`` the cutoff of each recording is detected instead, unfiltered and low-passed by each filter at 10, 20
and 30 % of its sample rate and rounded to 16 bits. The columns are the number of clips, of detected cutoffs, and of
those within 5 and 10 % of the true one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.signal import welch
from torch import Tensor

import dawp
from dawp.dsp.bandwidth import find_cutoff, replicate_band
from dawp.dsp.lowpass import convolve, low_pass, resample_steeply
from dawp.io.audio import read_clip
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings
from dawp.methods.base import METHODS as REGISTERED
from dawp.metrics.functions import lsd
from dawp.problem import Problem
from dawp.tasks.bandwidth import BandwidthConfig
from dawp.tasks.base import make_problem

BAND = 100.0  # Hz
SHARES = (0.1, 0.2, 0.3)  # of the sample rate


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, required=True, help="clean recordings")
    parser.add_argument("--seconds", type=float, default=2.0, help="maximum length of each clip")
    parser.add_argument("--samplerate", type=int, help="sample rate of the clips (default: that of the recording)")
    parser.add_argument("--rate", type=int, default=16000, help="sample rate of the corrupted clips")
    parser.add_argument("--methods", default=",".join(METHODS), help="methods to compare")
    parser.add_argument("--detect", action="store_true", help="evaluate the detection of the cutoff")
    parser.add_argument("--every", type=int, default=1, help="use every n-th recording")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = read(args.source, args.seconds, args.samplerate)[:: args.every]
    if args.detect:
        common.report("cutoffs", common.machine(), detection(clips), args.json, seconds=args.seconds)
        return
    rows: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    for method in args.methods.split(","):
        of_method = []
        for name, clean, rate in clips:
            problem = make_problem("bandwidth", clean, None, rate, BandwidthConfig(rate=args.rate), torch.Generator())
            start = time.perf_counter()
            estimate = METHODS[method](problem, args.rate)
            seconds = (time.perf_counter() - start) / (len(clean) / rate)
            of_method.append({"recording": name, "method": method, **values(estimate, problem), "s per s": seconds})
        rows += of_method
        numbers = [key for key in of_method[0] if key not in ("recording", "method")]
        mean = {key: statistics.fmean(row[key] for row in of_method) for key in numbers}
        means.append({"recording": f"mean of {len(clips)}", "method": method, **mean})
    common.report("bandwidth", common.machine(), [*rows, *means], args.json, seconds=args.seconds, rate=args.rate)


def read(source: Path, seconds: float, rate: int | None) -> list[tuple[str, Tensor, int]]:
    """Return the name, the clip ``[T]`` and the sample rate of each recording."""
    clips = []
    for recording in find_recordings(source):
        clip, _, own = read_clip(recording, ClipConfig(samplerate=rate, clip_length=seconds, quiet_thresh=1))
        if clip is not None:
            clips.append((recording.path.stem, clip, own))
    return clips


def detection(clips: list[tuple[str, Tensor, int]]) -> list[dict[str, Any]]:
    """Return a row for the unfiltered clips and for each filter, and print the cutoffs of the unfiltered clips."""
    found = {name: find_cutoff([clean[None]], rate) for name, clean, rate in clips}
    print(", ".join(f"{name} {cutoff:.0f} Hz" for name, cutoff in found.items() if cutoff))
    rows: list[dict[str, Any]] = [
        {"filter": "none", "clips": len(clips), "found": sum(cutoff is not None for cutoff in found.values())}
    ]
    for kind in ("fir", "chebyshev", "butterworth", "biquad"):
        errors = []
        for _, clean, rate in clips:
            for cutoff in (share * rate for share in SHARES):
                low = (convolve(clean, low_pass(kind, cutoff, rate)) * 2**15).round() / 2**15
                detected = find_cutoff([low[None]], rate)
                errors.append(None if detected is None else abs(detected / cutoff - 1))
        known = [error for error in errors if error is not None]
        within = {f"within {bound:.0%}": sum(error <= bound for error in known) for bound in (0.05, 0.1)}
        rows.append({"filter": kind, "clips": len(errors), "found": len(known), **within})
    return rows


def values(estimate: Tensor, problem: Problem) -> dict[str, float]:
    """Return the columns of one estimate ``[T]``."""
    if problem.clean is None:
        raise ValueError("the clip has no clean version to compare with")
    rate, cutoff = problem.sample_rate, problem.facts["cutoff_hz"]
    bands = [levels(waveform, rate, cutoff) for waveform in (estimate, problem.observed)]
    return {
        "LSD": float(lsd(estimate, problem.clean, rate)),
        "LSD above": float(lsd(estimate, problem.clean, rate, cutoff)),
        "change below": float(np.abs(bands[0] - bands[1]).max()),
    }


def levels(waveform: Tensor, rate: int, cutoff: float) -> Any:
    """Return the level in dB of each band below a cutoff."""
    frequencies, power = welch(waveform.double().numpy(), rate, nperseg=2048)
    edges = np.arange(0, cutoff - BAND, BAND)
    sums = [power[(frequencies >= edge) & (frequencies < edge + BAND)].sum() for edge in edges]
    return 10 * np.log10(np.maximum(sums, 1e-20))


def _registered(name: str) -> Callable[[Problem, int], Tensor]:
    def method(problem: Problem, rate: int) -> Tensor:
        return problem.estimate(REGISTERED["bandwidth"][name].restore(problem))

    return method


def _replicated(excitation: Callable[[Tensor, int, float], Tensor]) -> Callable[[Problem, int], Tensor]:
    def method(problem: Problem, rate: int) -> Tensor:
        observed, cutoff = problem.observed, problem.facts["cutoff_hz"]
        source = excitation(observed.double(), problem.sample_rate, cutoff)
        return problem.estimate(observed + replicate_band(observed, problem.sample_rate, cutoff, source))

    return method


def copies(samples: Tensor, rate: int, cutoff: float) -> Tensor:
    """Return the octave below the cutoff, shifted up by its width once, twice, and so on up to half the rate."""
    spectrum = torch.fft.rfft(samples)
    bins = rate / len(samples)
    first, last = round(cutoff / 2 / bins), round(0.97 * cutoff / bins)
    octave = spectrum[first:last]
    tiled = octave.repeat(len(spectrum) // len(octave) + 1)
    return torch.fft.irfft(torch.cat([torch.zeros_like(spectrum[:last]), tiled])[: len(spectrum)], len(samples))


def white_noise(samples: Tensor, rate: int, cutoff: float) -> Tensor:
    """Return Gaussian noise."""
    return torch.randn(len(samples), generator=torch.Generator().manual_seed(0), dtype=samples.dtype)


def _cubic(problem: Problem, rate: int) -> Tensor:
    samples = resample_steeply(problem.observed, problem.sample_rate, rate)
    spline = CubicSpline(np.arange(len(samples)) / rate, samples.double().numpy())
    return torch.from_numpy(spline(np.arange(len(problem.observed)) / problem.sample_rate)).float()


def _deep_prior(problem: Problem, rate: int) -> Tensor:
    cutoff = problem.facts["cutoff_hz"]
    length = len(problem.observed) / problem.sample_rate
    settings: dict[str, Any] = {"method": "deep_prior", "cutoff": cutoff, "block": max(4.0, length)}
    return dawp.restore(problem.observed, problem.sample_rate, "bandwidth", **settings)


METHODS: dict[str, Callable[[Problem, int], Tensor]] = {
    "sinc": _registered("sinc"),
    "cubic": _cubic,
    "copies": _replicated(copies),
    "noise": _replicated(white_noise),
    "band_replication": _registered("band_replication"),
    "deep_prior": _deep_prior,
}


if __name__ == "__main__":
    main()
