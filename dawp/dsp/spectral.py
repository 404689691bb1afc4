"""The mask: network and spectral gain put together, for noise that the network fits as fast as the sound.

White noise is hard to fit and the network's output has less of it; real noise lies at low frequencies, where the
network makes it as readily as speech. So the observed clip and the output are compared frequency by frequency. Where
the output has less noise it is trusted; what it has missed of the sound is brought back by a gain; and a second gain
takes out the noise that is left. Where more is removed than the noise, the output lacks sound: there, and without an
output that helps, the log-MMSE filter of the observed clip remains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Powers = NDArray[np.float64]  # [bins, frames]: squared magnitudes of an STFT
    Spectrum = NDArray[np.complex128]  # [bins, frames]

HOP_SECONDS = 0.008
OVERLAP = 4  # frames that each sample is in
SMALLEST_POWER = 1e-20

QUIET_SHARE = 0.3  # of the frames of a frequency that are taken for noise

NEIGHBOURHOOD_HZ, NEIGHBOURHOOD_SECONDS = 62.5, 0.032  # standard deviations
MAX_REMOVED = 1.2  # multiple of the mean noise power: its power in a neighbourhood varies

DECISION = 0.95  # weight of the frame before in the a-priori SNR (Ephraim and Malah 1984)
SMALLEST_PRIOR = 10**-2.5
LARGEST_POSTERIOR = 40.0


def mask(
    observed: Tensor, output: Tensor, sample_rate: int, floor_db: float, noise: Powers, noise_of_output: Powers
) -> Tensor:
    """The observed clip with its noise taken out, with the help of an output of the network.

    Args:
        observed: noisy clip ``[T]``.
        output: what the network made of it ``[T]``; ``observed`` itself for none.
        sample_rate: of both, in Hz.
        floor_db: gain in dB that no bin goes below.
        noise: power of the noise in each bin of ``analyse(observed, sample_rate)``.
        noise_of_output: the same for ``output``.

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
    """Return 1 where the power removed around a bin is at most 1.2 times that of the noise, and less elsewhere."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    frame_seconds = frame_hop(length, sample_rate) / sample_rate
    reach = (NEIGHBOURHOOD_HZ * 2 * (len(noise) - 1) / sample_rate, NEIGHBOURHOOD_SECONDS / frame_seconds)
    expected, found = (gaussian_filter(power, reach, mode="nearest") for power in (noise, removed))
    share: Powers = np.minimum(MAX_REMOVED * expected / np.maximum(found, SMALLEST_POWER), 1) ** 4
    return share


def two_step_gain(power: Powers, noise: Powers, floor: float, cleaner: Powers | None = None) -> Powers:
    """The log-MMSE gain with its a-priori SNR from what a first log-MMSE gain leaves (Plapous et al. 2006).

    Args:
        power: squared magnitudes ``[bins, frames]``.
        noise: power of the noise, of that shape.
        floor: smallest gain.
        cleaner: powers that the first gain is applied to; None for ``power``.
    """
    import numpy as np

    cleaner = power if cleaner is None else cleaner
    sound = log_mmse(cleaner, noise, floor) ** 2 * cleaner
    prior = np.maximum(sound / noise, SMALLEST_PRIOR)
    return np.maximum(spectral_gain(prior, power / noise), floor)


def analyse(waveform: Tensor, sample_rate: int, hop_seconds: float = HOP_SECONDS) -> Spectrum:
    """The STFT ``[bins, frames]`` of a waveform ``[T]``, with windows of four hops."""
    hop = frame_hop(len(waveform), sample_rate, hop_seconds)
    window = torch.hann_window(OVERLAP * hop, dtype=torch.float64)
    stft: Spectrum = torch.stft(waveform.cpu().double(), len(window), hop, window=window, return_complex=True).numpy()
    return stft


def synthesise(spectrum: Spectrum, sample_rate: int, length: int) -> Tensor:
    """The waveform ``[length]`` of an STFT that ``analyse`` made of one of that length, and that was changed since."""
    hop = frame_hop(length, sample_rate)
    window = torch.hann_window(OVERLAP * hop, dtype=torch.float64)
    return torch.istft(torch.from_numpy(spectrum), len(window), hop, window=window, length=length).float()


def frame_hop(length: int, sample_rate: int, hop_seconds: float = HOP_SECONDS) -> int:
    """Samples from frame to frame in the STFT of so many samples."""
    return max(1, min(round(hop_seconds * sample_rate), length // OVERLAP))


def log_mmse(power: Powers, noise: Powers, floor: float, decision: float = DECISION) -> Powers:
    """The log-MMSE gain of a spectrogram, its a-priori SNR by decision-directed smoothing (Ephraim and Malah 1985).

    Args:
        power: squared magnitudes ``[bins, frames]``.
        noise: power of the noise, of that shape.
        floor: smallest gain.
        decision: weight of the frame before in the a-priori SNR.
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
    """Gain of the log-spectral amplitude estimator at SNRs a priori and a posteriori, at most 1 (equation 20 there)."""
    import numpy as np
    from scipy.special import exp1

    share = prior / (1 + prior)
    exponent = np.maximum(share * np.minimum(posterior, LARGEST_POSTERIOR), 1e-8)
    gain: Powers = np.minimum(share * np.exp(exp1(exponent) / 2), 1)
    return gain


def quiet_power(power: Powers) -> NDArray[np.float64]:
    """The power ``[bins, 1]`` of noise by the quieter frames of each frequency, with no look at their neighbours."""
    import numpy as np

    # The quantile of exponentially distributed powers is this share of their mean.
    quantile: NDArray[np.float64] = np.quantile(power, QUIET_SHARE, axis=1, keepdims=True)
    power_of_quiet: NDArray[np.float64] = np.maximum(quantile / -np.log1p(-QUIET_SHARE), SMALLEST_POWER)
    return power_of_quiet
