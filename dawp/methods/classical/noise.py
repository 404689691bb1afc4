"""Classical methods against noise."""

from __future__ import annotations

import torch
from torch import Tensor

from dawp.dsp import spectral
from dawp.problem import Problem

NOISEREDUCE_SIZE, NOISEREDUCE_SMOOTHING_HZ = 1024, 500  # its own settings, where the clip is long enough
LOG_MMSE_DECISION = 0.98  # Ephraim and Malah's own
WIENER_FRAME = 512  # samples
WIENER_QUIET_SHARE = 0.3


def noisereduce(problem: Problem, stationary: bool = False) -> Tensor:
    """Spectral gating by the package noisereduce, with its default settings."""
    from noisereduce import reduce_noise

    observed = problem.observed.numpy()
    n_fft = min(NOISEREDUCE_SIZE, len(observed))
    smoothing = max(NOISEREDUCE_SMOOTHING_HZ, 2 * problem.sample_rate / n_fft)  # of two bins at least
    return torch.from_numpy(
        reduce_noise(observed, problem.sample_rate, stationary=stationary, n_fft=n_fft, freq_mask_smooth_hz=smoothing)
    )


def noisereduce_stationary(problem: Problem) -> Tensor:
    """Spectral gating by noisereduce with one threshold per frequency for the whole clip."""
    return noisereduce(problem, stationary=True)


def log_mmse(problem: Problem) -> Tensor:
    """Log-MMSE filter (Ephraim and Malah 1985), with the noise of the quieter 30 % of the frames per frequency."""
    import numpy as np

    spectrum = spectral.analyse(problem.observed, problem.sample_rate)
    power = np.abs(spectrum) ** 2
    noise = np.broadcast_to(spectral.quiet_power(power), power.shape)
    gain = spectral.log_mmse(power, noise, floor=0.0, decision=LOG_MMSE_DECISION)
    return spectral.synthesise(gain * spectrum, problem.sample_rate, len(problem.observed))


def wiener(problem: Problem) -> Tensor:
    """Iterative Wiener filter on an all-pole model of speech (Lim and Oppenheim 1978), by pyroomacoustics.

    Its estimate of the noise comes from the quietest 30 % of the frames.
    """
    from pyroomacoustics.denoise import apply_iterative_wiener

    observed = problem.observed.double()
    rng = torch.Generator().manual_seed(0)  # of a dither far below hearing: the library divides by a frame's energy
    observed = observed + 1e-6 * observed.std() * torch.randn(len(observed), generator=rng, dtype=observed.dtype)
    delay = WIENER_FRAME // 2  # of the library's overlapping frames
    padded = torch.nn.functional.pad(observed, (0, 2 * WIENER_FRAME))
    frames = padded[: max(len(observed), WIENER_FRAME)].unfold(0, WIENER_FRAME, delay)
    threshold = frames.var(dim=1, correction=0).quantile(WIENER_QUIET_SHARE).item()
    filtered = apply_iterative_wiener(padded.numpy(), frame_len=WIENER_FRAME, thresh=threshold)
    return torch.from_numpy(filtered)[delay : delay + len(observed)]
