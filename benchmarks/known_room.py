"""Remove simulated rooms whose impulse response is known.

    python benchmarks/known_room.py

Puts the bundled clips into simulated rooms, adds white noise and an error to the impulse response, and restores them
with each method. Prints the SI-SNR to the dry clip before and after: means over rooms and clips, and the lowest gain.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import common
import torch
from torch import Tensor

from dawp.io import audio
from dawp.io.sources import sounds_at
from dawp.methods.classical import deconvolution
from dawp.metrics.functions import si_snr
from dawp.operators.convolution import Convolution
from dawp.randomness import seeded
from dawp.simulate.rooms import simulate_response

METHODS = {"least_squares": deconvolution.least_squares, "inverse_filter": deconvolution.inverse_filter}
RATE = 16000


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--source", type=Path, default=Path("dawp/samples"), help="dry clip, or folder of dry clips")
    parser.add_argument("--rt60", default="0.3,0.5,0.7", help="reverberation times in seconds")
    parser.add_argument("--rooms", type=int, default=3, help="rooms of each reverberation time")
    parser.add_argument("--start", type=float, default=1.0, help="seconds left out of each reverberant clip")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = [audio.read(path, RATE) for path in sounds_at(args.source)]
    rows = []
    for rt60 in map(float, args.rt60.split(",")):
        rooms = [simulate_response(rt60, RATE, seeded(index, "room")) for index in range(args.rooms)]
        systems = [Convolution(room.whole.float(), room.delay) for room in rooms]
        for case, snr, error in (
            ("clean", None, 0.0),
            ("noise 40 dB", 40.0, 0.0),
            ("noise 30 dB", 30.0, 0.0),
            ("response error 1 %", None, 0.01),
        ):
            rows.append({"RT60": str(rt60), "case": case, **measure(clips, systems, snr, error, args.start)})
    about = common.machine()
    common.report("known_room", about, rows, args.json, rooms=args.rooms, clips=len(clips), start=args.start)


def measure(
    clips: list[Tensor], systems: list[Convolution], snr: float | None, error: float, start: float
) -> dict[str, float]:
    """Return the mean SI-SNR before and after each method, its lowest gain, and its seconds per second of sound."""
    before, after = [], {name: [] for name in METHODS}
    seconds, sound = dict.fromkeys(METHODS, 0.0), 0.0
    for index, (dry, system) in enumerate((clip, system) for clip in clips for system in systems):
        wet = noisy(reverberant(dry, system), snr, index)
        wet, clean = (waveform[round(start * RATE) :] for waveform in (wet, dry))
        inexact = Convolution(disturbed(system.response, error, index), system.delay)
        before.append(si_snr(wet, clean).item())
        sound += len(wet) / RATE
        for name, method in METHODS.items():
            began = time.perf_counter()
            estimate = method(wet, inexact, RATE)
            seconds[name] += time.perf_counter() - began
            after[name].append(si_snr(estimate, clean).item())
    row = {"reverberant": statistics.fmean(before)}
    for name, values in after.items():
        row[name] = statistics.fmean(values)
        row[f"{name}, lowest gain"] = min(value - own for value, own in zip(values, before, strict=True))
        row[f"{name}, s/s"] = seconds[name] / sound
    return row


def reverberant(dry: Tensor, system: Convolution) -> Tensor:
    """Return a dry clip ``[T]`` in a room, aligned by the direct path."""
    size = len(dry) + len(system.response)
    wet = torch.fft.irfft(torch.fft.rfft(dry, size) * torch.fft.rfft(system.response, size), size)
    return wet[system.delay : system.delay + len(dry)]


def noisy(clip: Tensor, snr: float | None, seed: int) -> Tensor:
    """Return a clip with white noise at an SNR in dB; None for no noise."""
    if snr is None:
        return clip
    noise = torch.randn(len(clip), generator=seeded(seed, "noise"))
    return clip + noise * clip.norm() / noise.norm() * 10 ** (-snr / 20)


def disturbed(response: Tensor, error: float, seed: int) -> Tensor:
    """Return a response with random errors in proportion to each sample, of a norm relative to its own."""
    errors = torch.randn(len(response), generator=seeded(seed, "error")) * response.abs()
    return response + error * errors * response.norm() / errors.norm()


if __name__ == "__main__":
    main()
