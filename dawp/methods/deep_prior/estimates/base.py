"""The registry of estimates that ``--estimate`` selects.

This module loads no signal processing: the command line reads it for its help.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dawp.metrics.base import MEAN, OUTPUT
from dawp.plugins import add_part, import_object

if TYPE_CHECKING:
    from torch import Tensor

    from dawp.problem import Problem


@dataclass(frozen=True)
class EstimateKind:
    """An estimate of the clean clip at the stop.

    Attributes:
        name: as on the command line.
        about: one line for the help.
        source: the estimate of the epoch that it uses, ``OUTPUT`` or ``MEAN`` (the output if ``--ema`` is 0); those
            of several fits are averaged.
        function: maps the problem (as the network is fitted to it), the average ``[T]`` and the settings
            (``StopConfig``) to the estimate ``[T]``; None for the average itself. As ``"module:function"`` it is
            imported when it is needed.
        settings: settings of the stop that only ``function`` uses.
        all_tasks: whether every task allows it; otherwise only a task that names it.
        needs_noise: whether it uses the noise of the recording around a block, in restorations.
        without_fit: maps a problem and the settings to an estimate ``[T]`` that needs no fit, or to None.
    """

    name: str
    about: str
    source: str = MEAN
    function: str | Callable[[Problem, Tensor, Any], Tensor] | None = None
    settings: tuple[str, ...] = ()
    all_tasks: bool = True
    needs_noise: bool = False
    without_fit: str | Callable[[Problem, Any], Tensor | None] | None = None

    def make(self, problem: Problem, average: Tensor, config: Any) -> Tensor:
        """Return the estimate ``[T]`` at the stop."""
        if self.function is None:
            return average
        estimate: Tensor = import_object(self.function)(problem, average, config)
        return estimate

    def make_without_fit(self, problem: Problem, config: Any) -> Tensor | None:
        """Return an estimate ``[T]`` that needs no fit; None if the problem has to be fitted."""
        if self.without_fit is None:
            return None
        estimate: Tensor | None = import_object(self.without_fit)(problem, config)
        return estimate


ESTIMATES: dict[str, EstimateKind] = {}
"""The registered estimates, by name."""


def register(kind: EstimateKind) -> None:
    """Add an estimate to the registry, for the command line and fits.

    Raises:
        ValueError: there is an estimate of that name.
    """
    add_part(ESTIMATES, kind.name, kind, "estimate")


for _kind in (
    EstimateKind("output", "the output", source=OUTPUT),
    EstimateKind("mean", "the running mean of outputs, if --ema is not 0"),
    EstimateKind(
        name="mask",
        about="spectral gains, applied to the running mean and the corrupted clip (noise only)",
        function="dawp.methods.deep_prior.estimates.mask:apply_mask",
        settings=("mask_floor",),
        all_tasks=False,
        needs_noise=True,
        without_fit="dawp.methods.deep_prior.estimates.mask:mask_without_fit",
    ),
):
    register(_kind)
