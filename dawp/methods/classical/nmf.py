"""Noise reduction by factorisations of the spectrogram of the recording itself."""

from __future__ import annotations

from torch import Tensor

from dawp.dsp import nmf as factorisation
from dawp.problem import Problem


def nmf(problem: Problem) -> Tensor:
    """Return the estimate ``[T]`` by a mean of gains, see ``dawp.dsp.nmf``; the clip itself if it has no noise."""
    noise = None if problem.noise is None else problem.noise.numpy()
    return factorisation.reduce_noise(problem.observed, problem.sample_rate, noise)
