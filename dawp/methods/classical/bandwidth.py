"""Classical methods that extend the bandwidth."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from dawp.dsp.bandwidth import replicate_band
from dawp.operators.lowpass import LowPass
from dawp.problem import Problem


def band_replication(problem: Problem) -> Tensor:
    """Harmonics of the octave below the cutoff, with an extrapolated envelope (``dsp.bandwidth.replicate_band``)."""
    operator, observed = cast(LowPass, problem.operator), problem.observed
    high = replicate_band(observed, problem.sample_rate, operator.cutoff)
    return operator.project(observed + high, observed)


def sinc(problem: Problem) -> Tensor:
    """Sinc interpolation: the observation as it is."""
    return problem.observed
