"""Restore music with weak white, pink or brown noise, and count the recordings that become worse.

    python scripts/make_music.py evals/music
    python benchmarks/music_noise.py --source evals/music

A recording is worse if its SNR decreases by more than 0.1 dB. The output has one row for each colour and level of
noise, and a list of the recordings that are worse.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from variants import config_of

from dawp.io.audio import read_clip
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings
from dawp.randomness import seeded
from dawp.restoration.waveform import restore_waveform

EXPONENTS = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # exponents of 1 / f in the amplitude spectrum
LOWEST_HZ = 20.0
WORSE_DB = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="clean music, as for denoise.py")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each clip")
    parser.add_argument("--samplerate", type=int, help="sample rate in Hz (default: the recording's)")
    parser.add_argument("--snr", default="10,20,30,40", help="SNRs in dB")
    parser.add_argument("--colours", default=",".join(EXPONENTS), help="colours of the noise")
    parser.add_argument("--variant", default="restore", help='preset and changed settings, e.g. "restore block=2"')
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = list(clean_clips(args.source, args.seconds, args.samplerate))
    seconds = sum(len(clip) / rate for _, clip, rate in clips)
    print(f"{len(clips)} recordings, {seconds:.0f} s of sound, {args.variant}\n")
    print("| noise | SNR before | SNR after | lowest change | worse |")
    print("|---|---:|---:|---:|---:|")
    config = config_of(args.variant, restore=True)
    worse = []
    for colour in args.colours.split(","):
        for level in map(float, args.snr.split(",")):
            changes, after = [], []
            for index, (name, clip, rate) in enumerate(clips):
                noisy = clip + noise(colour, clip, rate, level, index)
                restored = restore_waveform(noisy[None], rate, config)[0]
                snr_before, snr_after = snr(noisy, clip), snr(restored, clip)
                after.append(snr_after)
                changes.append(snr_after - snr_before)
                if changes[-1] < -WORSE_DB:
                    worse.append(f"{name}, {colour} {level:g} dB: {snr_before:.2f} -> {snr_after:.2f}")
            count = sum(change < -WORSE_DB for change in changes)
            row = (
                f"{colour} | {level:.1f} | {statistics.fmean(after):.2f} | {min(changes):.2f} | {count} of {len(clips)}"
            )
            print(f"| {row} |", flush=True)
    print("\nworse: " + ("\n       ".join(worse) or "none"))


def clean_clips(source: Path, seconds: float, samplerate: int | None) -> Iterator[tuple[str, Tensor, int]]:
    """Yield the name, clip ``[T]`` and sample rate of each recording."""
    config = ClipConfig(samplerate=samplerate, clip_length=seconds, quiet_thresh=1)
    for recording in find_recordings(source):
        clip, _, rate = read_clip(recording, config)
        if clip is not None:  # a recording without a clean file has none
            yield recording.name, clip, rate


def noise(colour: str, clip: Tensor, rate: int, level: float, seed: int) -> Tensor:
    """Return coloured noise ``[T]``, ``level`` dB below the clip."""
    white = torch.randn(len(clip), generator=seeded(seed, f"{colour} noise"))
    frequencies = torch.fft.rfftfreq(len(clip), 1 / rate).clamp(min=LOWEST_HZ)
    coloured = torch.fft.irfft(torch.fft.rfft(white) * frequencies ** -EXPONENTS[colour], len(clip))
    return coloured * clip.norm() / coloured.norm() * 10 ** (-level / 20)


def snr(estimate: Tensor, clean: Tensor) -> float:
    """Return the ratio of the power of the clean clip to that of the error in dB."""
    return float(10 * torch.log10(clean.double().square().sum() / (estimate - clean).double().square().sum()))


if __name__ == "__main__":
    main()
