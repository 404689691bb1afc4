"""The stopping rule ``wmv``: the windowed moving variance of the outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dawp.config import Config
from dawp.methods.deep_prior.fit import Epoch
from dawp.methods.deep_prior.stopping.blind import BlindStop
from dawp.problem import Problem

WINDOW = 50  # epochs of outputs whose variance is computed
MAX_SAMPLES = 32768  # of an output that the variance is computed from
MIN_VARIANCE = 1e-6  # relative: less is rounding
MIN_LIKENESS = 0.01  # squared correlation with the clip: a smaller one means that nothing has been learnt
NO_LIKENESS = 1e-12  # less is rounding


class VarianceStop(BlindStop):
    """Stops where the windowed moving variance of the outputs is smallest (Wang et al. 2023, arXiv:2112.06074, ES-WMV).

    With x_n the output of epoch n and W = 50 (or all epochs of a shorter fit), the quantity is

        v_n = mean over k of |x_k - m_n|^2 / |m_n|^2,   m_n = mean over k of x_k,   k = n - W + 1, ..., n

    The outputs of successive epochs differ while the signal is learnt, are similar once it is learnt, and differ again
    when they follow the noise. The division by the power of the mean excludes outputs next to silence. Outputs can also
    be constant before anything is learnt: if the squared correlation of their mean with the clip is below 0.01, the
    quantity is its reciprocal, and patience waits. (Good outputs have such a correlation too if the noise is 20 dB
    above the signal.) For a long clip the variance is computed from about 32,768 samples.
    """

    changing = ("_outputs", "_sum", "_powers")

    def __init__(self, problem: Problem, epochs: int, generator: nn.Module | None, patience: int | None) -> None:
        super().__init__(generator, patience)
        self._window = min(WINDOW, epochs)
        self._stride = -(-len(problem.observed) // MAX_SAMPLES)
        samples = problem.operator.rough_inverse(problem.observed)[:: self._stride]
        self._outputs = samples.new_zeros(self._window, len(samples))
        self._sum = torch.zeros_like(samples)
        self._powers = samples.new_zeros(self._window)
        counts = torch.ones_like(samples, dtype=torch.bool) if problem.mask is None else problem.mask[:: self._stride]
        self._counted = counts.nonzero()[:, 0]
        self._clip = samples[self._counted] - samples[self._counted].mean()
        is_constant = not self._clip.square().mean() > NO_LIKENESS * samples.square().mean()
        self._least_likeness = 0.0 if is_constant else MIN_LIKENESS

    @classmethod
    def build(
        cls, problem: Problem, config: Config, held_out: Tensor | None, generator: nn.Module | None
    ) -> VarianceStop:
        return cls(problem, config.fit.epochs, generator, config.stop.patience)

    def is_over(self, epoch: int) -> bool:
        return super().is_over(epoch) and self._best.value < 1 / MIN_LIKENESS

    def measure(self, step: Epoch) -> Tensor | None:
        place, output = step.epoch % self._window, step.output[:: self._stride]
        self._sum += output - self._outputs[place]
        self._outputs[place] = output
        self._powers[place] = output.square().mean()
        if place == 0:  # removes the accumulated rounding errors
            self._sum = self._outputs.sum(dim=0)
        if step.epoch < self._window:
            return None
        mean = self._sum / self._window
        power_of_mean = mean.square().mean()
        variance = ((self._powers.mean() - power_of_mean) / power_of_mean).clamp_min(MIN_VARIANCE)
        likeness = self._likeness(mean)
        return torch.where(likeness < self._least_likeness, 1 / likeness, variance)

    def _likeness(self, output: Tensor) -> Tensor:
        """Squared correlation with the clip, gaps left out."""
        counted = output[self._counted]
        around_zero = counted - counted.mean()
        powers = around_zero.square().sum() * self._clip.square().sum()
        share = (around_zero @ self._clip).square() / powers.clamp_min(torch.finfo(powers.dtype).tiny)
        return share.clamp_min(NO_LIKENESS)
