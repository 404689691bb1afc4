"""Compare a variance model by an untrained network with NMF: benchmarks/restoration.py with one more method.

    python benchmarks/variance_prior.py --source PAIRS --seconds 3 --variant "restore method=variance_prior"

The STFT is modelled as Y ~ N(0, Vs + Vn). Vn is the noise estimate, and the prior SNR Vs / Vn = exp(G(x)) is the output
of a network that is fitted to this recording alone. The network predicts each bin from others: its input x is the noisy
spectrogram without random patches, and its loss is that of the bins in the patches. Recordings of up to 10 s.
"""

from __future__ import annotations

import numpy as np
import restoration
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dawp.dsp import nmf
from dawp.dsp.blind_highpass import blind_high_pass, power_response
from dawp.dsp.filters import remove_rumble
from dawp.dsp.noise import estimate_noise
from dawp.dsp.spectral import SMALLEST_POWER, analyse, log_mmse, synthesise
from dawp.methods.base import NOISE_SETTINGS, Method, register
from dawp.methods.deep_prior.fit import Adam
from dawp.methods.deep_prior.generators.spectrogram_networks import INPUT_CHANNELS, Hourglass
from dawp.problem import Problem

Powers = NDArray[np.float64]  # [bins, frames]

CHANNELS, STEPS, LEARNING_RATE = 16, 200, 0.01
HIDDEN = 0.2  # approximate share of the bins in patches
PATCH = (3, 5)  # bins and frames: the windows of the STFT overlap, so the noise of nearer bins is correlated
LOG_SNR_RANGE = (-12.0, 18.0)
FIRST_AVERAGED = 0.5  # of the steps


def variance_prior(problem: Problem) -> Tensor:
    """Return the estimate ``[T]``: that of ``nmf.reduce_noise`` with the network instead of the factorisations."""
    rate, floor = problem.sample_rate, 10 ** (nmf.FLOOR_DB / 20)
    filtered, unfiltered = blind_high_pass(problem.observed, rate), remove_rumble(problem.observed, rate)
    noise = power_response(unfiltered, filtered, rate) * estimate_noise(unfiltered, rate)
    noise = np.maximum(noise, SMALLEST_POWER)
    spectrum = analyse(filtered, rate)
    power = np.abs(spectrum) ** 2
    ratio = power / noise
    first = log_mmse(power, noise, floor, nmf.DECISION)
    two_step = np.maximum(nmf.gain_at(first**2 * ratio, ratio), floor)
    modelled = np.maximum(network_gain(ratio, np.random.default_rng((0, 0))), floor)
    gain = (1 - nmf.NMF_SHARE) * two_step + nmf.NMF_SHARE * modelled
    return synthesise(gain * spectrum, rate, len(filtered))


def network_gain(ratio: Powers, rng: np.random.Generator) -> Powers:
    """Return the log-spectral amplitude gain at the prior SNR of the network.

    Args:
        ratio: power divided by the power of the noise ``[bins, frames]``.
        rng: draws the weights and the patches.

    Returns:
        Gain ``[bins, frames]``, at most 1.
    """
    limited = torch.from_numpy(np.clip(ratio, nmf.MIN_RATIO, nmf.MAX_RATIO).astype(np.float32))
    return nmf.gain_at(predict_snr(limited, int(rng.integers(2**62))).double().numpy(), ratio)


def predict_snr(ratio: Tensor, seed: int) -> Tensor:
    """Fit the network and return its prior SNR of each bin.

    With R the ratio, the loss is the mean over the hidden bins of the negative log-likelihood, which differs from the
    Itakura-Saito divergence by a constant:

        log(1 + exp(G)) + R / (1 + exp(G)).

    Args:
        ratio: positive, ``[bins, frames]``.
        seed: of the weights and the patches.

    Returns:
        Mean of the predictions of each bin while it was hidden, over the second half of the steps, ``[bins, frames]``.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(seed)
        network = Hourglass(CHANNELS, 1)
        optimizer = Adam(network.parameters(), LEARNING_RATE)
        image = torch.zeros(1, INPUT_CHANNELS, *ratio.shape)  # the other channels are not used
        level = ratio.log1p()
        total, count = torch.zeros_like(ratio), torch.zeros_like(ratio)
        for step in range(STEPS):
            hidden = patches(ratio.shape, rng)
            image[0, 0], image[0, 1] = torch.where(hidden, 0.0, level), hidden
            log_snr = network(image)[0, 0].clamp(*LOG_SNR_RANGE)
            model = 1 + log_snr.exp()
            loss = (model.log() + ratio / model)[hidden].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step >= FIRST_AVERAGED * STEPS:
                total += torch.where(hidden, model.detach() - 1, 0.0)
                count += hidden
    return torch.where(count == 0, (ratio - 1).clamp(min=0), total / count.clamp(min=1))


def patches(shape: torch.Size, rng: torch.Generator) -> Tensor:
    """Return random patches, which may overlap, ``[bins, frames]``; at least one bin is hidden."""
    rows, columns = PATCH
    centres = (torch.rand(shape, generator=rng) < HIDDEN / (rows * columns)).float()
    centres.view(-1)[int(torch.randint(centres.numel(), (), generator=rng))] = 1
    return F.max_pool2d(centres[None, None], PATCH, stride=1, padding=(rows // 2, columns // 2))[0, 0] > 0


if __name__ == "__main__":
    register(Method("variance_prior", "denoise", variance_prior, settings=NOISE_SETTINGS, context=3.0))
    restoration.main()
