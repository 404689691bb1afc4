"""Test whether fluctuations of the output's STFT between epochs distinguish noise from sound.

    python benchmarks/fluctuation.py --source PAIRS

This is the idea of Michelashvili and Wolf (Speech Denoising by Accumulating Per-Frequency Modeling Fluctuations, 2019).
The noise of each frequency is the median power of the half of its bins with the largest fluctuations; a log-MMSE filter
removes it. For comparison, the half is drawn at random, or is the half with the least power, which needs no network.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from variants import config_of

from dawp.dsp import spectral
from dawp.errors import BadInput
from dawp.io.audio import read_clip
from dawp.io.settings import ClipConfig
from dawp.io.sources import find_recordings
from dawp.methods.deep_prior.fit import Fit
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.solver import prefilter
from dawp.metrics.functions import pesq, si_snr
from dawp.problem import Problem
from dawp.randomness import seeded

FIRST_EPOCH, SMOOTHING, FLOOR = 50, (1, 2), 0.25
Scores = NDArray[np.float64]  # [bins, frames]; higher values indicate noise


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="list of clean,noisy pairs")
    parser.add_argument("--variant", default="restore epochs=200", help="a preset and changed settings")
    args = parser.parse_args()
    rows: dict[str, list[tuple[float, float]]] = {}
    try:
        config = config_of(args.variant)
        for recording in find_recordings(args.source):
            clip = ClipConfig(samplerate=None, clip_length=0, quiet_thresh=1)
            clean, noisy, rate = read_clip(recording, clip)
            if clean is None or noisy is None:
                raise BadInput("source must be a list of clean,noisy pairs")
            observed = prefilter(noisy, rate, config)
            power = np.abs(spectral.analyse(observed, rate)) ** 2
            random_scores = np.random.default_rng(0).random(power.shape)
            scores = {
                "the half that moves most": fluctuation(Problem(observed, None, rate), args.variant),
                "a random half": random_scores,
                "the half with the least power": -gaussian_filter(power, SMOOTHING),
            }
            estimates = {"corrupted": noisy, "high-pass alone": observed}
            estimates |= {name: filtered(observed, rate, score) for name, score in scores.items()}
            for name, estimate in estimates.items():
                metrics = float(si_snr(estimate, clean)), float(pesq(estimate, clean, rate))
                rows.setdefault(name, []).append(metrics)
    except BadInput as refusal:
        parser.error(str(refusal))
    print(f"{'SI-SNR':>7} {'PESQ':>5}  noise by")
    for name, values in rows.items():
        si_snrs, pesqs = zip(*values, strict=True)
        print(f"{statistics.fmean(si_snrs):>7.2f} {statistics.fmean(pesqs):>5.2f}  {name}")


def fluctuation(problem: Problem, variant: str) -> Scores:
    """Sum the relative change of each bin's magnitude over epochs."""
    config = config_of(variant)
    generator = build(config.generator, seeded(config.fit.seed, "weights"), config.generator_settings)
    total, previous = 0.0, None
    for step in Fit(problem, generator, config.fit, seeded(config.fit.seed, "input")):
        if step.epoch >= FIRST_EPOCH:
            current = np.abs(spectral.analyse(step.output, problem.sample_rate))
            if previous is not None:
                total = total + np.abs(current - previous) / (current + previous + 1e-12)
            previous = current
    scores: Scores = gaussian_filter(np.asarray(total), SMOOTHING)
    return scores


def filtered(observed: Tensor, rate: int, score: Scores) -> Tensor:
    """Apply the log-MMSE filter with the median power of the bins with the larger scores as noise."""
    spectrum = spectral.analyse(observed, rate)
    power = np.abs(spectrum) ** 2
    chosen = np.where(score >= np.median(score, axis=1, keepdims=True), power, np.nan)
    noise = np.nanmedian(chosen, axis=1, keepdims=True) / np.log(2) + 1e-20  # exponentially distributed powers
    gain = spectral.log_mmse(power, np.broadcast_to(noise, power.shape), FLOOR)
    return spectral.synthesise(gain * spectrum, rate, len(observed))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
