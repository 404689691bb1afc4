"""Compare methods that remove noise, by kind of sound and of noise.

    python scripts/make_music.py evals/music
    python benchmarks/noise.py --sound speech=CLEAN --sound music=evals/music --pairs PAIRS --quick

Prints the mean SI-SNR in dB over recordings and levels, PESQ of speech, and the processor time of each method. Real
noise is the difference of the pairs; it is also mixed with the other sounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from common import machine, parser, report
from music_noise import EXPONENTS, noise
from torch import Tensor
from variants import config_of

from dawp.config import Config
from dawp.errors import BadInput
from dawp.io.audio import read_clip
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings
from dawp.methods.base import METHODS
from dawp.metrics.functions import pesq, si_snr
from dawp.randomness import seeded
from dawp.restoration.waveform import restore_waveform

Pair = tuple[Tensor, Tensor]  # clean and noisy clip [T]

RESTORE = "restore"  # the preset, with the deep prior
SPEECH = "speech"
NOISES = (*EXPONENTS, "hum", "unsteady", "real")
HUM_HZ, HARMONICS = 50.0, 12
LEVEL_DB, LEVEL_HZ = 10.0, 1.0  # standard deviation and highest frequency of the level of unsteady noise
QUICK = {"seconds": 2.0, "recordings": 1, "snr": "5"}


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument(
        "--sound", action="append", default=[], metavar="KIND=SOURCE", help="clean recordings, as for denoise.py"
    )
    flags.add_argument("--pairs", type=Path, help="list of clean,noisy pairs of speech")
    flags.add_argument("--noises", default=",".join(NOISES), help="kinds of noise; real needs --pairs")
    flags.add_argument("--snr", default="0,5,10,20", help="levels of the noise in dB")
    flags.add_argument("--methods", help="default: restore and all methods whose packages are installed")
    flags.add_argument("--seconds", type=float, default=4.0, help="length of each clip; pairs are used whole")
    flags.add_argument("--recordings", type=int, default=10, help="maximum number of recordings of each kind")
    flags.add_argument("--samplerate", type=int, default=16000, help="in Hz")
    flags.add_argument("--quick", action="store_true", help=f"reduced size: {QUICK}, one pair")
    args = flags.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    torch.set_num_threads(1)
    methods = args.methods.split(",") if args.methods else installed()
    try:
        configs = {name: config_for(name) for name in methods}
        pairs = clips(args.pairs, 0.0, args.samplerate, 1 if args.quick else None) if args.pairs else []
        real = [(noisy - clean) for clean, noisy in pairs]
        rows, seconds = [], dict.fromkeys(methods, 0.0)
        total = 0.0
        levels = [float(level) for level in args.snr.split(",")]
        for sound, kind, mixtures in conditions(args, levels, pairs, real):
            rows += measure(sound, kind, mixtures, args.samplerate, configs, seconds)
            total += sum(len(clean) for clean, _ in mixtures) / args.samplerate
    except BadInput as refusal:
        flags.error(str(refusal))
    rows.append({"sound": "all", "noise": "all", "metric": "s per s"} | {m: seconds[m] / total for m in methods})
    size = {"recordings": args.recordings, "clip s": args.seconds, "SNR": args.snr, "pairs": len(pairs)}
    report("noise", machine(), rows, args.json, **size, total=f"{total:.0f} s")


def installed() -> list[str]:
    """Return the names of the methods whose packages are installed."""
    usable = [
        name for name, method in METHODS["denoise"].items() if method.package is None or find_spec(method.package)
    ]
    return [RESTORE, *usable]


def config_for(name: str) -> Config:
    """Return the settings of a method."""
    return config_of("restore", restore=True) if name == RESTORE else config_of(f"restore method={name}", restore=True)


def clips(source: Path, seconds: float, rate: int, count: int | None) -> list[Pair]:
    """Return the clean and the noisy clip of the first recordings of a source; both are equal if there is no pair."""
    config = ClipConfig(samplerate=rate, clip_length=seconds, quiet_thresh=1)
    found = []
    for recording in find_recordings(source)[:count]:
        clean, noisy, _ = read_clip(recording, config)
        if clean is not None:
            found.append((clean, clean if noisy is None else noisy))
    return found


def conditions(
    args, levels: list[float], pairs: list[Pair], real: list[Tensor]
) -> Iterator[tuple[str, str, list[Pair]]]:  # type: ignore[no-untyped-def]
    """Yield the kind of sound, the kind of noise and the clips of each row."""
    if pairs:
        yield SPEECH, "recorded", pairs
    for named in args.sound:
        sound, _, source = named.partition("=")
        sounds = clips(Path(source), args.seconds, args.samplerate, args.recordings)
        for kind in args.noises.split(","):
            if kind != "real" or real:
                mixtures = [
                    (clean, clean + noise_of(kind, clean, args.samplerate, level, index, real))
                    for level in levels
                    for index, (clean, _) in enumerate(sounds)
                ]
                yield sound, kind, mixtures


def noise_of(kind: str, clean: Tensor, rate: int, level: float, index: int, real: list[Tensor]) -> Tensor:
    """Return noise ``[T]``, ``level`` dB below the clip."""
    if kind in EXPONENTS:
        return noise(kind, clean, rate, level, index)
    length = len(clean)
    seconds = torch.arange(length) / rate
    if kind == "hum":
        phases = 2 * torch.pi * torch.rand(HARMONICS, generator=seeded(index, "hum"))
        made = sum(
            torch.sin(2 * torch.pi * HUM_HZ * k * seconds + phase) / k
            for k, phase in enumerate(phases.tolist(), start=1)
        )
    elif kind == "unsteady":
        level_db = torch.fft.rfft(torch.randn(length, generator=seeded(index, "level")))
        level_db[torch.fft.rfftfreq(length, 1 / rate) > LEVEL_HZ] = 0
        level_db = torch.fft.irfft(level_db, length)
        made = noise("pink", clean, rate, 0, index) * 10 ** (LEVEL_DB / 20 * level_db / level_db.std())
    elif kind == "real":
        other = real[(index + 1) % len(real)]  # from another pair, if the clips are those of the pairs
        made = other.repeat(-(-length // len(other)))[:length]
    else:
        raise BadInput(f"noises must be some of {', '.join(NOISES)}, got {kind}")
    return made * clean.norm() / made.norm() * 10 ** (-level / 20)


def measure(
    sound: str, kind: str, mixtures: list[Pair], rate: int, configs: dict[str, Config], seconds: dict[str, float]
) -> list[dict[str, object]]:
    """Return the rows of one kind of sound and of noise; add the processor time of each method to ``seconds``."""
    estimates = {"noisy": [noisy for _, noisy in mixtures]}
    for name, config in configs.items():
        start = time.process_time()
        estimates[name] = [restore_waveform(noisy[None], rate, config)[0] for _, noisy in mixtures]
        seconds[name] += time.process_time() - start
    head = {"sound": sound, "noise": kind}
    rows: list[dict[str, object]] = [head | {"metric": "SI-SNR"}, head | {"metric": "PESQ"}]
    for name, restored in estimates.items():
        scored = [(estimate, clean) for estimate, (clean, _) in zip(restored, mixtures, strict=True)]
        rows[0][name] = statistics.fmean(float(si_snr(*pair)) for pair in scored)
        if sound == SPEECH:
            values = [value for pair in scored if (value := float(pesq(*pair, rate))) == value]
            rows[1][name] = statistics.fmean(values) if values else None
    print(f"{sound}, {kind} noise: {len(mixtures)} clips", flush=True)
    return rows if sound == SPEECH else rows[:1]


if __name__ == "__main__":
    main()
