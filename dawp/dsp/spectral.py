"""Spectral gains, and the mask that combines the output of the network with them.

The network fits white noise slowly, so that its output contains less of it. Real noise is mostly at low frequencies,
where the network fits it as fast as speech. Therefore the mask compares the observed clip and the output at each
frequency. Where the output contains less noise, it is used; a first gain restores the sound that the output lacks, and
a second gain removes the remaining noise. Where this removes more than the power of the noise, or where the output
does not reduce the noise, the result is the log-MMSE estimate of the observed clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Powers = NDArray[np.float64]  # [bins, frames]: squared magnitudes of an STFT
    Spectrum = NDArray[np.complex128]  # [bins, frames]

HOP_SECONDS = 0.008
OVERLAP = 4  # frames per sample
SMALLEST_POWER = 1e-20

QUIET_SHARE = 0.3  # fraction of the frames of a frequency that count as noise

NEIGHBOURHOOD_HZ, NEIGHBOURHOOD_SECONDS = 62.5, 0.032  # standard deviations
MAX_REMOVED = 1.2  # multiple of the mean noise power: its power in a neighbourhood varies

DECISION = 0.95  # weight of the previous frame in the a-priori SNR (Ephraim and Malah 1984)
SMALLEST_PRIOR = 10**-2.5
LARGEST_POSTERIOR = 40.0


def mask(
    observed: Tensor, output: Tensor, sample_rate: int, floor_db: float, noise: Powers, noise_of_output: Powers
) -> Tensor:
    """Remove the noise from a clip with spectral gains and an output of the network.

    Args:
        observed: noisy clip ``[T]``.
        output: output of the network ``[T]``; ``observed`` for none.
        sample_rate: sample rate in Hz.
        floor_db: minimum gain in dB.
        noise: noise power in each bin of ``analyse(observed, sample_rate)``.
        noise_of_output: noise power in each bin of ``analyse(output, sample_rate)``.

    Returns:
        Estimate ``[T]``, on the CPU.
    """
    import numpy as np

    floor = 10 ** (floor_db / 20)
    noisy, made = analyse(observed, sample_rate), analyse(output, sample_rate)
    missed = noisy - made
    complete = made + log_mmse(np.abs(missed) ** 2, noise, floor) * missed
    trust = np.clip(1 - noise_of_output / noise, 0, 1)
    combined = noisy + trust * (complete - noisy)
    power = np.abs(noisy) ** 2
    filtered = two_step_gain(power, noise, floor) * noisy
    helped = two_step_gain(power, noise, floor, np.abs(combined) ** 2) * combined
    share = _not_more_than(noise, np.abs(noisy - helped) ** 2, sample_rate, len(observed))
    return synthesise(filtered + share * (helped - filtered), sample_rate, len(observed))


def _not_more_than(noise: Powers, removed: Powers, sample_rate: int, length: int) -> Powers:
    """Return a weight per bin: 1 if the power removed around it is at most 1.2 times that of the noise, less if not."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    frame_seconds = frame_hop(length, sample_rate) / sample_rate
    reach = (NEIGHBOURHOOD_HZ * 2 * (len(noise) - 1) / sample_rate, NEIGHBOURHOOD_SECONDS / frame_seconds)
    expected, found = (gaussian_filter(power, reach, mode="nearest") for power in (noise, removed))
    share: Powers = np.minimum(MAX_REMOVED * expected / np.maximum(found, SMALLEST_POWER), 1) ** 4
    return share


def two_step_gain(power: Powers, noise: Powers, floor: float, cleaner: Powers | None = None) -> Powers:
    """Return the log-MMSE gain with the a-priori SNR from a first log-MMSE gain (Plapous et al. 2006).

    Args:
        power: squared magnitudes ``[bins, frames]``.
        noise: noise power ``[bins, frames]``.
        floor: minimum gain.
        cleaner: squared magnitudes to apply the first gain to; None for ``power``.
    """
    import numpy as np

    cleaner = power if cleaner is None else cleaner
    sound = log_mmse(cleaner, noise, floor) ** 2 * cleaner
    prior = np.maximum(sound / noise, SMALLEST_PRIOR)
    return np.maximum(spectral_gain(prior, power / noise), floor)


def analyse(waveform: Tensor, sample_rate: int, hop_seconds: float = HOP_SECONDS) -> Spectrum:
    """Return the STFT with Hann windows of four hops.

    Args:
        waveform: ``[T]``.
        sample_rate: in Hz.
        hop_seconds: hop in seconds; shorter for a waveform shorter than a window (``frame_hop``).

    Returns:
        ``[bins, frames]``.
    """
    hop = frame_hop(len(waveform), sample_rate, hop_seconds)
    window = torch.hann_window(OVERLAP * hop, dtype=torch.float64)
    stft: Spectrum = torch.stft(waveform.cpu().double(), len(window), hop, window=window, return_complex=True).numpy()
    return stft


def synthesise(spectrum: Spectrum, sample_rate: int, length: int) -> Tensor:
    """Invert the STFT of ``analyse`` with the default hop.

    Args:
        spectrum: ``[bins, frames]``.
        sample_rate: in Hz.
        length: samples of the waveform.

    Returns:
        ``[length]``, float32.
    """
    hop = frame_hop(length, sample_rate)
    window = torch.hann_window(OVERLAP * hop, dtype=torch.float64)
    return torch.istft(torch.from_numpy(spectrum), len(window), hop, window=window, length=length).float()


def frame_hop(length: int, sample_rate: int, hop_seconds: float = HOP_SECONDS) -> int:
    """Return the hop in samples of the STFT of ``length`` samples at a sample rate in Hz: at most a quarter of them."""
    return max(1, min(round(hop_seconds * sample_rate), length // OVERLAP))


def log_mmse(power: Powers, noise: Powers, floor: float, decision: float = DECISION) -> Powers:
    """Return the log-MMSE gain with a decision-directed a-priori SNR (Ephraim and Malah 1985).

    Args:
        power: squared magnitudes ``[bins, frames]``.
        noise: noise power ``[bins, frames]``.
        floor: minimum gain.
        decision: weight of the previous frame in the a-priori SNR.
    """
    import numpy as np

    posterior = power / noise
    above = np.maximum(posterior - 1, 0)
    gains = np.empty_like(power)
    before = np.ones(len(power))
    for frame in range(power.shape[1]):
        prior = np.maximum(decision * before + (1 - decision) * above[:, frame], SMALLEST_PRIOR)
        gains[:, frame] = spectral_gain(prior, posterior[:, frame])
        if frame + 1 < power.shape[1]:
            before = gains[:, frame] ** 2 * power[:, frame] / noise[:, frame + 1]
    return np.maximum(gains, floor)


def spectral_gain(prior: Powers, posterior: Powers) -> Powers:
    """Return the gain of the log-spectral amplitude estimator, at most 1 (Ephraim and Malah 1985, equation 20)."""
    import numpy as np
    from scipy.special import exp1

    share = prior / (1 + prior)
    exponent = np.maximum(share * np.minimum(posterior, LARGEST_POSTERIOR), 1e-8)
    gain: Powers = np.minimum(share * np.exp(exp1(exponent) / 2), 1)
    return gain


def quiet_power(power: Powers) -> NDArray[np.float64]:
    """Estimate the noise power ``[bins, 1]`` from the quieter frames of each frequency separately."""
    import numpy as np

    # The quantile of exponentially distributed powers is this fraction of their mean.
    quantile: NDArray[np.float64] = np.quantile(power, QUIET_SHARE, axis=1, keepdims=True)
    power_of_quiet: NDArray[np.float64] = np.maximum(quantile / -np.log1p(-QUIET_SHARE), SMALLEST_POWER)
    return power_of_quiet


def decibels(power: Array) -> Array:
    """Return a power ``[...]`` in dB; the minimum power is 1e-20."""
    import numpy as np

    result: Array = 10 * np.log10(np.maximum(power, SMALLEST_POWER))
    return result


def ramp(value: Array, low: float, high: float) -> Array:
    """Return for values ``[...]`` 0 below ``low``, 1 above ``high``, and linear values between them."""
    import numpy as np

    result: Array = np.clip((value - low) / (high - low), 0, 1)
    return result
