"""Remove simulated rooms whose impulse response is unknown, and check that dry recordings stay unchanged.

    python benchmarks/reverberation.py --source speech/ --dry music/

Puts dry speech into simulated rooms and restores it with WPE of nara_wpe and with the methods of the toolkit. Prints
PESQ and SI-SNR against the direct sound, the lowest change of PESQ, the error of the estimated RT60, and the time. The
dry recordings are restored as they are: the SNR is that of the output against the recording.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import common
import soundfile
import torch
from torch import Tensor
from torchaudio.functional import fftconvolve

from dawp.dsp.reverberation import estimate_rt60
from dawp.dsp.spectral import HOP_SECONDS, analyse
from dawp.io import audio
from dawp.io.sources import sounds_at
from dawp.methods.base import METHODS
from dawp.metrics.functions import pesq, si_snr
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.simulate.rooms import Response, simulate_response

RATE = 16000
RAY_TRACED_RT60 = 0.8  # seconds; longer ones need too many image sources
DRY_SNR = 25.0  # dB


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, default=Path("dawp/samples/speech.wav"), help="dry speech")
    parser.add_argument("--dry", type=Path, nargs="*", default=[], help="dry recordings to restore as they are")
    parser.add_argument("--rt60", default="0.2,0.3,0.5,0.7,1.0", help="reverberation times in seconds")
    parser.add_argument("--rooms", type=int, default=3, help="rooms of each reverberation time")
    parser.add_argument("--methods", default="wpe,wpe_late", help="methods of dereverb.py to compare")
    parser.add_argument("--quick", action="store_true", help="one room of 0.3 and 0.7 s and two clips")
    args = parser.parse_args()
    torch.set_num_threads(1)
    methods = args.methods.split(",")
    paths = sounds_at(args.source)
    if args.quick:
        args.rt60, args.rooms, paths = "0.3,0.7", 1, paths[:2]
    clips = [audio.read(path, RATE) for path in paths]
    rows = []
    for rt60 in map(float, args.rt60.split(",")):
        rooms = [
            simulate_response(rt60, RATE, seeded(index, "room"), ray_tracing=rt60 > RAY_TRACED_RT60)
            for index in range(args.rooms)
        ]
        rows.append({"recordings": f"RT60 {rt60:g} s", **measure(clips, rooms, methods)})
    dry = [path for source in args.dry for path in sounds_at(source)]
    if dry:
        rows.append({"recordings": "dry", **measure_dry(dry[:2] if args.quick else dry, methods[-1])})
    common.report("reverberation", common.machine(), rows, args.json, clips=len(clips), rooms=args.rooms)


def measure(clips: list[Tensor], rooms: list[Response], methods: list[str]) -> dict[str, Any]:
    """Return the means over clips and rooms: PESQ and SI-SNR before and after each method, RT60 error and time."""
    values, errors, sound = defaultdict(list), [], 0.0
    for clip in clips:
        for room in rooms:
            wet, direct = (fftconvolve(clip.double(), h)[room.delay :][: len(clip)] for h in (room.whole, room.direct))
            wet, direct = wet.float(), direct.float()
            sound += len(wet) / RATE
            power = abs(analyse(wet, RATE)) ** 2
            errors.append(abs(estimate_rt60(power, RATE, HOP_SECONDS) - room.facts["rt60"]))
            values["PESQ"].append(pesq(wet, direct, RATE).item())
            values["SI-SNR"].append(si_snr(wet, direct).item())
            for name in methods:
                estimate, seconds = restore(wet, RATE, name)
                values[f"{name} s/s"].append(seconds)
                values[f"{name} PESQ"].append(pesq(estimate, direct, RATE).item())
                values[f"{name} SI-SNR"].append(si_snr(estimate, direct).item())
    row: dict[str, Any] = {name: statistics.fmean(values[name]) for name in ("PESQ", "SI-SNR")}
    for name in methods:
        changes = [after - before for after, before in zip(values[f"{name} PESQ"], values["PESQ"], strict=True)]
        row[f"{name}: PESQ"] = statistics.fmean(values[f"{name} PESQ"])
        row[f"{name}: lowest change"] = min(changes)
        row[f"{name}: SI-SNR"] = statistics.fmean(values[f"{name} SI-SNR"])
        row[f"{name}: s/s"] = sum(values[f"{name} s/s"]) / sound
    return {**row, "RT60 error": statistics.fmean(errors)}


def measure_dry(paths: list[Path], method: str) -> dict[str, Any]:
    """Restore dry recordings at their own rate; return how many are unchanged, and the lowest SNR of the others."""
    ratios = []
    for path in paths:
        rate = soundfile.info(path).samplerate
        recording = audio.read(path, rate)
        estimate, _ = restore(recording, rate, method)
        if not torch.equal(estimate, recording):
            ratio = 10 * torch.log10(recording.square().sum() / (estimate - recording).square().sum()).item()
            ratios.append(ratio)
            print(f"{path.name}: SNR {ratio:.1f} dB", flush=True)
    unchanged = f"{len(paths) - len(ratios)} of {len(paths)}"
    lowest = min(ratios, default=None)
    below = sum(ratio < DRY_SNR for ratio in ratios)
    return {"unchanged": unchanged, "lowest SNR": lowest, f"below {DRY_SNR:g} dB": str(below)}


def restore(waveform: Tensor, rate: int, method: str) -> tuple[Tensor, float]:
    """Return the estimate of a method and the seconds it took."""
    began = time.perf_counter()
    estimate = METHODS["dereverb"][method].restore(Problem(waveform, None, rate))
    return estimate, time.perf_counter() - began


if __name__ == "__main__":
    main()
