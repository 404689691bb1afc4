"""Compare a trained diffusion model with other methods on held-out recordings of its sample rate.

    python benchmarks/trained_diffusion.py --weights model.pt --source held_out/ --training training/

The tasks are gaps of 50 ms, clipping to an SDR of 5 dB, a low-pass at a quarter of the sample rate, and noise of
records (hiss and crackle of equal power) at an SNR of 10 dB. Each method restores the same clips by ``dawp.restore``.
``snr`` is that of the samples that the corruption changed, ``lsd`` the log-spectral distance, both means over the
clips.

A second table compares samples of the model with the training recordings: the log-spectral distance in dB of each
segment of eight frames (0.3 s at 8 kHz) from the nearest segment of the training recordings; the RMS difference in dB
between the mean power in bands of a third of an octave of all samples and that of the training recordings; and the
spectral flatness in dB, which is low for tones. One in ten training recordings is left out of the training segments
and has a row of its own. Shaped noise has the mean spectrum of the training recordings.
``--picture`` draws spectrograms of the samples.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor

import dawp
from dawp.config import Config
from dawp.dsp.constant_q import ConstantQ
from dawp.dsp.lowpass import convolve, low_pass
from dawp.io import audio
from dawp.io.sources import find_recordings
from dawp.methods.trained.diffusion.method import DiffusionModel, load_diffusion
from dawp.methods.trained.diffusion.sampler import sample
from dawp.methods.trained.diffusion.settings import DiffusionConfig
from dawp.metrics.functions import lsd, snr
from dawp.simulate.records import draw_crackle, draw_hiss
from dawp.tasks.base import make_problem

METHODS = {
    "inpaint": ("linear", "janssen", "auto", "deep_prior", "diffusion"),
    "declip": ("sparse_mean", "a_spade", "social_sparsity", "deep_prior", "diffusion"),
    "bandwidth": ("sinc", "band_replication", "diffusion"),
    "denoise": ("log_mmse", "nmf", "deep_prior", "diffusion"),
}
GAP_SECONDS, GAP_EVERY = 0.05, 0.4
CLIP_SDR, NOISE_SNR = 5.0, 10.0
FRAME = 512  # samples
SEGMENT = 8  # frames
FRAME_FLOOR = 1e-6  # power of a bin relative to the mean power of a signal


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="model file")
    parser.add_argument("--source", type=Path, required=True, help="folder of held-out recordings")
    parser.add_argument("--training", type=Path, help="folder of the training recordings, for the second table")
    parser.add_argument("--clips", type=int, default=8, help="number of clips, one from each recording")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each clip and sample")
    parser.add_argument("--start", type=float, default=20.0, help="start of each clip in its recording, in seconds")
    parser.add_argument("--tasks", default=",".join(METHODS), help="tasks to compare; none for the second table only")
    parser.add_argument("--methods", help="methods to compare; all if omitted")
    parser.add_argument("--epochs", type=int, default=300, help="epochs of the deep prior")
    parser.add_argument("--sampling_steps", type=int, default=DiffusionConfig().sampling_steps, help="of the sampler")
    parser.add_argument("--draws", type=int, default=DiffusionConfig().draws, help="signals that are averaged")
    parser.add_argument("--picture", type=Path, help="file for spectrograms of samples")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = load_diffusion(args.weights)
    clips = [
        clip / clip.abs().max() / 2 for clip in read(args.source, model.rate, args.start, args.seconds)[: args.clips]
    ]
    compare("inpaint", "linear", clips[:1], model.rate, args)  # loads the modules, whose time does not count
    rows = []
    wanted = args.methods.split(",") if args.methods else [name for names in METHODS.values() for name in names]
    for task in args.tasks.split(",") if args.tasks else ():
        for name in METHODS[task]:
            if name in wanted:
                rows.append(compare(task, name, clips, model.rate, args))
                print(rows[-1], flush=True)
    about = {"clips": len(clips), "seconds": args.seconds, "rate": model.rate, "sampling_steps": args.sampling_steps}
    about["draws"] = args.draws
    if rows:
        common.report("trained_diffusion", common.machine(), rows, args.json, **about, epochs=args.epochs)
    if args.training:
        path = args.json and args.json.with_name(f"{args.json.stem}_samples.json")
        rows = compare_samples(model, clips, args)
        common.report("trained_diffusion_samples", common.machine(), rows, path, **about)


def read(source: Path, rate: int, start: float, seconds: float) -> list[Tensor]:
    """Return a clip ``[T]`` of each recording of a folder."""
    paths = sorted(found.clean for found in find_recordings(source) if found.clean)
    first, length = round(start * rate), round(seconds * rate)
    return [audio.read(path, rate)[first : first + length] for path in paths]


def corrupt(task: str, clean: Tensor, rate: int, index: int) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return a corrupted clip ``[T]``, which samples it changed, and the settings that describe it."""
    rng = torch.Generator().manual_seed(index)
    if task == "inpaint":
        missing = torch.zeros(len(clean), dtype=torch.bool)
        gap, every = round(GAP_SECONDS * rate), round(GAP_EVERY * rate)
        for start in range(every // 2, len(clean) - gap, every):
            missing[start : start + gap] = True
        return clean.masked_fill(missing, torch.nan), missing, {}
    if task == "declip":
        problem = make_problem(task, clean, None, rate, Config.of(task, clip_sdr=CLIP_SDR).corruption, rng)
        return problem.observed, problem.observed != clean, {"clip_level": problem.facts["clip_level"]}
    whole = torch.ones(len(clean), dtype=torch.bool)
    if task == "bandwidth":
        return convolve(clean, low_pass("fir", rate / 4, rate)), whole, {"cutoff": rate / 4}
    noise = (draw_hiss(len(clean), rate, rng) + draw_crackle(len(clean), rate, rng)).float()
    return clean + noise * (clean.norm() / noise.norm() * 10 ** (-NOISE_SNR / 20)), whole, {}


def compare(task: str, name: str, clips: Sequence[Tensor], rate: int, args: Any) -> dict[str, Any]:
    """Return the row of a method: the mean SNR and LSD before and after the restoration."""
    values: dict[str, list[float]] = {"snr before": [], "snr": [], "lsd before": [], "lsd": []}
    seconds = 0.0
    for index, clean in enumerate(clips):
        observed, changed, settings = corrupt(task, clean, rate, index)
        if name == "diffusion":
            settings |= {"weights": args.weights, "device": "cpu"}
            settings |= {"sampling_steps": args.sampling_steps, "draws": args.draws}
        elif name == "deep_prior":
            settings |= {"epochs": args.epochs, "device": "cpu"}
        start = time.perf_counter()
        restored = dawp.restore(observed, rate, task=task, method=name, **settings)
        seconds += time.perf_counter() - start
        for suffix, waveform in ((" before", observed.nan_to_num()), ("", restored)):
            values[f"snr{suffix}"].append(float(snr(waveform[changed], clean[changed])))
            values[f"lsd{suffix}"].append(float(lsd(waveform, clean, rate)))
    means = {column: round(statistics.fmean(found), 2) for column, found in values.items()}
    duration = sum(map(len, clips)) / rate
    return {"task": task, "method": name, **means, "s per s": float(f"{seconds / duration:.2g}")}


def compare_samples(model: DiffusionModel, clips: Sequence[Tensor], args: Any) -> list[dict[str, Any]]:
    """Return the distances of samples, held-out clips and white noise from the training recordings."""
    length = round(args.seconds * model.rate)
    training = read(args.training, model.rate, args.start, args.seconds)
    nearest = segments([clip for index, clip in enumerate(training) if index % 10])
    target = spectrum(training, model.rate)
    rng = torch.Generator().manual_seed(0)
    config = DiffusionConfig(sampling_steps=args.sampling_steps)
    drawn = sample(model.denoiser, torch.zeros(len(clips), length), config, rng)
    noise = torch.randn(len(clips), length, generator=rng)
    sets = {
        "other training recordings": training[::10],
        "held-out recordings": list(clips),
        "samples": list(drawn),
        "shaped noise": [shaped_noise(one, training) for one in noise],
        "white noise": list(noise),
    }
    if args.picture:
        draw(sets["samples"], sets["held-out recordings"], model.rate, args.picture)
    return [
        {
            "signals": name,
            "number": len(signals),
            "nearest segment": nearest_distance(segments(signals), nearest),
            "bands": distance(spectrum(signals, model.rate), target),
            "flatness": round(statistics.fmean(map(flatness, signals)), 1),
        }
        for name, signals in sets.items()
    ]


def segments(signals: Sequence[Tensor]) -> Tensor:
    """Return the log spectra of all segments in dB ``[segments, bins * frames]``, each signal with a power of 1."""
    levels = [10 * (power_of(signal) + FRAME_FLOOR).log10() for signal in signals]
    return torch.cat([level.T.unfold(0, SEGMENT, 1).flatten(1) for level in levels])


def nearest_distance(found: Tensor, others: Tensor) -> float:
    """Return the mean over segments ``[segments, N]`` of the RMS difference from the nearest of other segments."""
    return round(float(torch.cdist(found, others).amin(dim=1).mean() / math.sqrt(found.shape[1])), 2)


def shaped_noise(noise: Tensor, signals: Sequence[Tensor]) -> Tensor:
    """Return noise ``[T]`` with the mean power spectrum of signals ``[T]``, smoothed over 16 bins."""
    power = torch.stack([torch.fft.rfft(signal / signal.norm()).abs().square() for signal in signals]).mean(dim=0)
    smooth = torch.nn.functional.avg_pool1d(power[None], 17, 1, 8, count_include_pad=False)[0]
    return torch.fft.irfft(torch.fft.rfft(noise) * smooth.sqrt(), len(noise))


def power_of(signal: Tensor) -> Tensor:
    """Return the power of the bins ``[bins, frames]`` of a signal ``[T]``, relative to its mean power."""
    window = torch.hann_window(FRAME)
    power = torch.stft(signal, FRAME, FRAME // 2, window=window, return_complex=True).abs().square()
    return power / power.mean()


def spectrum(signals: Sequence[Tensor], rate: int) -> Tensor:
    """Return the mean power of signals in bands of a third of an octave in dB, each signal with the same power."""
    powers = [torch.cat([grid.abs().square().sum(dim=1) for grid in bands_of(x, rate)]) for x in signals]
    return 10 * torch.log10(torch.stack(powers).mean(dim=0))


def bands_of(signal: Tensor, rate: int) -> list[Tensor]:
    """Return the coefficients ``[3, frames]`` of each octave above 60 Hz, of a signal with a power of 1."""
    transform = ConstantQ(rate, int(math.log2(rate / 2 / 60)), 3)
    return transform.analyse(signal / signal.norm())[:-1]


def flatness(signal: Tensor) -> float:
    """Return the spectral flatness in dB, the mean over frames: low for tones."""
    power = power_of(signal) + 1e-10
    return float((10 * (power.log10().mean(dim=0) - power.mean(dim=0).log10())).mean())


def distance(one: Tensor, other: Tensor) -> float:
    """Return the RMS difference of two spectra in dB."""
    return round(float((one - other).square().mean().sqrt()), 2)


def draw(samples: Sequence[Tensor], held_out: Sequence[Tensor], rate: int, path: Path) -> None:
    """Draw spectrograms of four samples above those of four held-out clips."""
    from matplotlib import pyplot as plt

    columns = min(4, len(samples))
    figure, axes = plt.subplots(2, columns, figsize=(2.6 * columns, 4.4), sharex=True, sharey=True, squeeze=False)
    for row, (title, signals) in enumerate((("sample", samples), ("held out", held_out))):
        for axis, signal in zip(axes[row], signals, strict=False):
            peak = signal / signal.abs().max()
            axis.specgram(peak.numpy(), NFFT=512, noverlap=384, Fs=rate, vmin=-120, vmax=-40)
            axis.set_title(title, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("s")
    for axis in axes[:, 0]:
        axis.set_ylabel("Hz")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
