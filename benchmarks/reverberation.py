"""Remove simulated rooms whose impulse response is unknown, and check that dry recordings stay unchanged.

    python benchmarks/reverberation.py --source speech/ --dry music/
    python benchmarks/reverberation.py --source speech/ --noise 20 --rt60 0.3,0.7 --rooms 1
    python benchmarks/reverberation.py --source speech/ --microphones 2 --rt60 0.3,0.7 --rooms 1
    python benchmarks/reverberation.py --source music/ --seconds 6 --rt60 0.3,0.7 --rooms 1

Puts dry speech into simulated rooms and restores it with WPE of nara_wpe and with the methods of the toolkit. Prints
PESQ and SI-SNR against the direct sound, the lowest changes, the error of the estimated RT60, and the time. The dry
recordings are restored as they are: the SNR is that of the output against the recording. With several microphones, 10
cm apart, the methods restore the first one from all, jointly.
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
MICROPHONE_DISTANCE = 0.1  # metres


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, default=Path("dawp/samples/speech.wav"), help="dry speech")
    parser.add_argument("--dry", type=Path, nargs="*", default=[], help="dry recordings to restore as they are")
    parser.add_argument("--rt60", default="0.2,0.3,0.5,0.7,1.0", help="reverberation times in seconds")
    parser.add_argument("--rooms", type=int, default=3, help="rooms of each reverberation time")
    parser.add_argument("--methods", default="wpe,wpe_late", help="methods of dereverb.py to compare")
    parser.add_argument("--noise", type=float, help="add white noise, this many dB below the reverberant clips")
    parser.add_argument("--microphones", type=int, default=1, help="microphones in a row, 10 cm apart")
    parser.add_argument("--seconds", type=float, help="use the first seconds of each clip")
    parser.add_argument("--quick", action="store_true", help="one room of 0.3 and 0.7 s and two clips")
    args = parser.parse_args()
    torch.set_num_threads(1)
    methods = args.methods.split(",")
    paths = sounds_at(args.source)
    if args.quick:
        args.rt60, args.rooms, paths = "0.3,0.7", 1, paths[:2]
    length = round(args.seconds * RATE) if args.seconds else None
    clips = [audio.read(path, RATE)[:length] for path in paths]
    rows = []
    for rt60 in map(float, args.rt60.split(",")):
        rooms = [simulate_room(rt60, index, args.microphones) for index in range(args.rooms)]
        rows.append({"recordings": f"RT60 {rt60:g} s", **measure(clips, rooms, methods, args.noise)})
    dry = [path for source in args.dry for path in sounds_at(source)]
    if dry:
        rows.append({"recordings": "dry", **measure_dry(dry[:2] if args.quick else dry, methods[-1])})
    common.report("reverberation", common.machine(), rows, args.json, clips=len(clips), rooms=args.rooms)


def simulate_room(rt60: float, seed: int, microphones: int) -> list[Response]:
    """Return the responses of a room at each microphone."""
    rays = rt60 > RAY_TRACED_RT60
    responses = [simulate_response(rt60, RATE, seeded(seed, "room"), ray_tracing=rays)]
    facts = responses[0].facts
    for number in range(1, microphones):
        x, y, z = facts["mic_pos"]
        places = facts["room_dim"], facts["source_pos"], (x + number * MICROPHONE_DISTANCE, y, z)
        responses.append(simulate_response(rt60, RATE, seeded(seed, "room"), *map(tuple, places), ray_tracing=rays))
    return responses


def measure(
    clips: list[Tensor], rooms: list[list[Response]], methods: list[str], noise_db: float | None = None
) -> dict[str, Any]:
    """Return the means over clips and rooms: PESQ and SI-SNR before and after each method, RT60 error and time."""
    values, errors, sound = defaultdict(list), [], 0.0
    for number, clip in enumerate(clips):
        for responses in rooms:
            first = responses[0]
            wet = torch.stack([_convolved(clip, response.whole, first.delay) for response in responses])
            direct = _convolved(clip, first.direct, first.delay)
            if noise_db is not None:
                noise = torch.randn(wet.shape, generator=seeded(number, "noise"))
                wet = wet + noise * (wet.norm() / noise.norm() * 10 ** (-noise_db / 20))
            sound += len(clip) / RATE
            power = abs(analyse(wet[0], RATE)) ** 2
            errors.append(abs(estimate_rt60(power, RATE, HOP_SECONDS) - first.facts["rt60"]))
            values["PESQ"].append(pesq(wet[0], direct, RATE).item())
            values["SI-SNR"].append(si_snr(wet[0], direct).item())
            for name in methods:
                estimate, seconds = restore(wet[0], RATE, name, wet[1:])
                values[f"{name} s/s"].append(seconds)
                values[f"{name} PESQ"].append(pesq(estimate, direct, RATE).item())
                values[f"{name} SI-SNR"].append(si_snr(estimate, direct).item())
                values[f"{name} unchanged"].append(torch.equal(estimate, wet[0]))
    row: dict[str, Any] = {name: statistics.fmean(values[name]) for name in ("PESQ", "SI-SNR")}
    for name in methods:
        for metric in ("PESQ", "SI-SNR"):
            after, before = values[f"{name} {metric}"], values[metric]
            row[f"{name}: {metric}"] = statistics.fmean(after)
            row[f"{name}: lowest change of {metric}"] = min(a - b for a, b in zip(after, before, strict=True))
        row[f"{name}: unchanged"] = str(sum(values[f"{name} unchanged"]))
        row[f"{name}: s/s"] = sum(values[f"{name} s/s"]) / sound
    return {**row, "RT60 error": statistics.fmean(errors)}


def _convolved(clip: Tensor, response: Tensor, delay: int) -> Tensor:
    return fftconvolve(clip.double(), response)[delay:][: len(clip)].float()


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


def restore(waveform: Tensor, rate: int, method: str, others: Tensor | None = None) -> tuple[Tensor, float]:
    """Return the estimate of a method, jointly with other channels if there are any, and the seconds it took."""
    several = others is not None and len(others) > 0
    problem = Problem(waveform, None, rate, others=others if several else None, joint_channels=several)
    began = time.perf_counter()
    estimate = METHODS["dereverb"][method].restore(problem)
    return estimate, time.perf_counter() - began


if __name__ == "__main__":
    main()
