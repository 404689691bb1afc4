"""Remove simulated rooms whose impulse response is unknown, and check that dry recordings stay unchanged.

    python benchmarks/reverberation.py --source speech/ --dry music/
    python benchmarks/reverberation.py --source speech/ --noise 20 --rooms 1
    python benchmarks/reverberation.py --source pairs.txt --noise 20 --real --rooms 1
    python benchmarks/reverberation.py --source speech/ --microphones 2 --rt60 0.3,0.7 --rooms 1 --methods wpe_late
    python benchmarks/reverberation.py --source music/ --seconds 6 --rt60 0.3,0.7 --rooms 1 --methods wpe_late

Puts dry speech into simulated rooms and restores it with WPE of nara_wpe and with the methods of the toolkit. Prints
PESQ, SI-SNR and ESTOI against the direct sound without noise, the lowest change of PESQ and of SI-SNR of a clip, the
number of clips that are unchanged, the processor time per second of sound, and the mean absolute error of the estimated
RT60. The dry recordings are restored as they are: the SNR is that of the output against the recording. With several
microphones, 10 cm apart, the methods restore the first one from all, jointly.

The responses are simulated once for all clips and methods; everything runs in one process, with one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import soundfile
import torch
from torch import Tensor
from torchaudio.functional import fftconvolve

from dawp.dsp.dereverberation import rt60_in_noise
from dawp.dsp.noise import noise_floor
from dawp.dsp.spectral import HOP_SECONDS, analyse
from dawp.io import audio
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings, sounds_at
from dawp.methods.base import METHODS
from dawp.metrics.functions import pesq, si_snr
from dawp.metrics.intelligibility import estoi_score
from dawp.problem import Problem
from dawp.randomness import seeded
from dawp.simulate.rooms import Response, simulate_response

RATE = 16000
RAY_TRACED_RT60 = 0.8  # seconds; longer ones need too many image sources
DRY_SNR = 25.0  # dB
MICROPHONE_DISTANCE = 0.1  # metres
METRICS = ("PESQ", "SI-SNR", "ESTOI")

Values = dict[str, list[float]]


@dataclass(frozen=True)
class Mixture:
    """A clip in a room: the reverberant channels ``[channels, T]`` and the direct sound ``[T]`` of the first one."""

    wet: Tensor
    direct: Tensor
    rt60: float


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    methods = args.methods.split(",")
    clips = read_clips(args.source, args.real, args.seconds)[: 2 if args.quick else None]
    rows = []
    for rt60 in map(float, args.rt60.split(",")):
        values: dict[str, Values] = {name: defaultdict(list) for name in ("reverberant", *methods)}
        for index in range(args.rooms):
            start, room = time.perf_counter(), simulate_room(rt60, index, args.microphones)
            for number, (clip, noise) in enumerate(clips):
                noise = white_noise(clip, number, args.microphones) if noise is None else noise
                measure(mixture(clip, room, noise, args.noise), methods, values)
            print(f"RT60 {rt60:g} s, room {index + 1}: {time.perf_counter() - start:.0f} s", flush=True)
        rows += [row(f"RT60 {rt60:g} s", name, values) for name in values]
    dry = [path for source in args.dry for path in sounds_at(source)]
    if dry:
        rows.append(measure_dry(dry[:2] if args.quick else dry, methods[-1]))
    more = {} if args.noise is None else {"noise": f"{args.noise:g} dB"}
    common.report("reverberation", common.machine(), rows, args.json, clips=len(clips), rooms=args.rooms, **more)


def arguments() -> argparse.Namespace:
    parser = common.parser(__doc__)
    parser.add_argument(
        "--source", type=Path, default=Path("dawp/samples/speech.wav"), help="dry speech, as for dereverb.py"
    )
    parser.add_argument("--dry", type=Path, nargs="*", default=[], help="dry recordings to restore as they are")
    parser.add_argument("--rt60", default="0.2,0.3,0.5,0.7,1.0", help="reverberation times in seconds")
    parser.add_argument("--rooms", type=int, default=3, help="rooms of each reverberation time")
    parser.add_argument("--methods", default="wpe,wpe_late", help="methods of dereverb.py to compare")
    parser.add_argument("--noise", type=float, help="add noise, this many dB below the reverberant clips")
    parser.add_argument(
        "--real", action="store_true", help="use the noise of a list of clean,noisy pairs instead of white noise"
    )
    parser.add_argument("--microphones", type=int, default=1, help="microphones in a row, 10 cm apart")
    parser.add_argument("--seconds", type=float, help="use the first seconds of each clip")
    parser.add_argument("--quick", action="store_true", help="one room of 0.3 and 0.7 s and two clips")
    args = parser.parse_args()
    if args.real and args.microphones > 1:
        parser.error(f"--real requires one microphone, got {args.microphones}")
    if args.quick:
        args.rt60, args.rooms = "0.3,0.7", 1
    return args


def read_clips(source: Path, real: bool, seconds: float | None) -> list[tuple[Tensor, Tensor | None]]:
    """Return the dry clips ``[T]``, each with the noise of its pair ``[1, T]`` if ``real``, otherwise None."""
    length = round(seconds * RATE) if seconds else None
    if not real:
        return [(audio.read(path, RATE)[:length], None) for path in sounds_at(source)]
    config = ClipConfig(samplerate=RATE, clip_length=seconds or 0.0, quiet_thresh=1)
    pairs = [audio.read_clip(recording, config)[:2] for recording in find_recordings(source)]
    return [(clean, (noisy - clean)[None]) for clean, noisy in pairs if clean is not None and noisy is not None]


def white_noise(clip: Tensor, seed: int, microphones: int) -> Tensor:
    """Return noise ``[microphones, T]`` of the length of a clip."""
    return torch.randn(microphones, len(clip), generator=seeded(seed, "noise"))


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


def mixture(clip: Tensor, room: list[Response], noise: Tensor, noise_db: float | None) -> Mixture:
    """Put a clip into a room, and add the noise ``[channels, T]`` at a level in dB if it is given."""
    first = room[0]
    wet = torch.stack([_convolved(clip, response.whole, first.delay) for response in room])
    if noise_db is not None:
        wet = wet + noise * (wet.norm() / noise.norm() * 10 ** (-noise_db / 20))
    return Mixture(wet, _convolved(clip, first.direct, first.delay), first.facts["rt60"])


def _convolved(clip: Tensor, response: Tensor, delay: int) -> Tensor:
    return fftconvolve(clip.double(), response)[delay:][: len(clip)].float()


def measure(mixed: Mixture, methods: list[str], values: dict[str, Values]) -> None:
    """Append the metrics of a reverberant clip and of the estimate of each method to ``values``."""
    wet, direct = mixed.wet, mixed.direct
    before = evaluate(wet[0], direct, values["reverberant"])
    values["reverberant"]["RT60 error"].append(abs(estimated_rt60(wet[0]) - mixed.rt60))
    for name in methods:
        estimate, seconds = restore(wet[0], RATE, name, wet[1:])
        after = evaluate(estimate, direct, values[name])
        for metric in METRICS:
            values[name][f"change of {metric}"].append(after[metric] - before[metric])
        values[name]["unchanged"].append(torch.equal(estimate, wet[0]))
        values[name]["s per s"].append(seconds / len(direct) * RATE)


def evaluate(estimate: Tensor, direct: Tensor, values: Values) -> dict[str, float]:
    """Return the metrics of an estimate, and append them to ``values``."""
    scores = (pesq(estimate, direct, RATE).item(), si_snr(estimate, direct).item(), _estoi(estimate, direct))
    metrics = dict(zip(METRICS, scores, strict=True))
    for name, value in metrics.items():
        values[name].append(value)
    return metrics


def _estoi(estimate: Tensor, direct: Tensor) -> float:
    return estoi_score(estimate.numpy(), direct.numpy(), RATE)


def estimated_rt60(waveform: Tensor) -> float:
    """Return the blind estimate of the RT60 in seconds."""
    power = abs(analyse(waveform, RATE)[None]) ** 2
    return rt60_in_noise(power, noise_floor(power[0], RATE, HOP_SECONDS)[0][None], RATE, HOP_SECONDS)


def row(recordings: str, name: str, values: dict[str, Values]) -> dict[str, Any]:
    """Return the row of a method: means over the clips, and the lowest changes of a clip."""
    mine = values[name]
    result: dict[str, Any] = {"recordings": recordings, "method": name}
    for metric in METRICS:
        result[metric] = statistics.fmean(mine[metric])
        if changes := mine.get(f"change of {metric}"):
            result[f"lowest change of {metric}"] = min(changes)
    if name == "reverberant":
        return {**result, "RT60 error": statistics.fmean(mine["RT60 error"])}
    return {**result, "unchanged": str(sum(mine["unchanged"])), "s per s": statistics.fmean(mine["s per s"])}


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
    return {
        "recordings": "dry",
        "method": method,
        "unchanged": f"{len(paths) - len(ratios)} of {len(paths)}",
        "lowest SNR": min(ratios, default=None),
        f"below {DRY_SNR:g} dB": str(sum(ratio < DRY_SNR for ratio in ratios)),
    }


def restore(waveform: Tensor, rate: int, method: str, others: Tensor | None = None) -> tuple[Tensor, float]:
    """Return the estimate of a method, jointly with other channels if there are any, and the processor time in s."""
    several = others is not None and len(others) > 0
    problem = Problem(waveform, None, rate, others=others if several else None, joint_channels=several)
    start = time.process_time()
    estimate = METHODS["dereverb"][method].restore(problem)
    return estimate, time.process_time() - start


if __name__ == "__main__":
    main()
