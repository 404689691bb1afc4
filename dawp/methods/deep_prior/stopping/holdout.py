"""The stopping rule ``holdout``: the error on samples that are excluded from the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dawp.config import Config
from dawp.methods.deep_prior.fit import Epoch
from dawp.methods.deep_prior.stopping.blind import BlindStop
from dawp.problem import Problem

SMOOTHING = 0.98  # of the error on held-out samples, from epoch to epoch


class HoldoutStop(BlindStop):
    """Stops where the error on held-out samples is smallest.

    The squared error of the predicted clip after the rough inverse of the operator, smoothed over epochs like the
    running mean of outputs. The fit cannot learn the noise in samples that it does not use, so that the error rises
    once the output follows the noise.
    """

    changing = ("_smooth",)

    def __init__(self, problem: Problem, held_out: Tensor, generator: nn.Module | None, patience: int | None) -> None:
        super().__init__(generator, patience)
        self._places = held_out.nonzero()[:, 0]
        self._operator = problem.operator
        observed = self._operator.rough_inverse(problem.observed)
        self._target = observed[self._places]
        counted = observed if problem.mask is None else observed[problem.mask]
        self._scale = counted.square().mean()
        self._smooth = torch.zeros_like(self._scale)

    @classmethod
    def build(
        cls, problem: Problem, config: Config, held_out: Tensor | None, generator: nn.Module | None
    ) -> HoldoutStop:
        if held_out is None:
            raise ValueError("the rule needs held-out samples")
        return cls(problem, held_out, generator, config.stop.patience)

    def measure(self, step: Epoch) -> Tensor | None:
        predicted = self._operator.rough_inverse(step.prediction)
        error = (predicted[self._places] - self._target).square().mean() / self._scale
        self._smooth = torch.lerp(self._smooth, error, 1 - SMOOTHING)
        return self._smooth / (1 - SMOOTHING**step.epoch)


def hold_out(problem: Problem, share: float, rng: torch.Generator) -> Tensor:
    """Draw the samples to exclude from the loss: single samples, or runs as long as the gaps if there are any.

    Args:
        problem: on the CPU.
        share: of the known samples; at least one is drawn.
        rng: source of the draw.

    Returns:
        Bool ``[T]``.
    """
    counts = torch.ones(len(problem.observed), dtype=torch.bool) if problem.mask is None else problem.mask
    wanted = max(1, round(share * int(counts.sum())))
    # For gaps the error has to be that of runs of samples, not of single samples between known ones.
    lengths = sorted(stop - start for start, stop in problem.gaps)
    length = min(lengths[len(lengths) // 2], wanted) if lengths else 1
    while True:
        places = (counts.unfold(0, length, 1).sum(dim=1) == length).nonzero()[:, 0]
        if len(places):
            break
        length = max(1, length // 2)  # no run between the gaps is that long
    held = torch.zeros_like(counts)
    for start in places[torch.randperm(len(places), generator=rng)].tolist():
        if wanted < length / 2:
            break
        if not held[start : start + length].any():
            held[start : start + length] = True
            wanted -= length
    return held
