"""Classical methods that undo clipping."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from dawp.dsp import declipping
from dawp.operators.clipping import Clipping
from dawp.problem import Problem


def social_sparsity(problem: Problem) -> Tensor:
    """Structured sparsity of a Gabor frame (``dsp.declipping.social_sparsity``)."""
    return declipping.social_sparsity(problem.observed, cast(Clipping, problem.operator), problem.sample_rate)


def a_spade(problem: Problem) -> Tensor:
    """Analysis sparsity in each frame (``dsp.declipping.a_spade``)."""
    return declipping.a_spade(problem.observed, cast(Clipping, problem.operator), problem.sample_rate)


def sparse_mean(problem: Problem) -> Tensor:
    """Weighted mean of social sparsity and A-SPADE, or autoregression (``dsp.declipping.sparse_mean``)."""
    return declipping.sparse_mean(problem.observed, cast(Clipping, problem.operator), problem.sample_rate)
