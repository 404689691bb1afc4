"""Settings of the stop."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from dawp.errors import BadInput
from dawp.methods.deep_prior.estimates.base import ESTIMATES, EstimateKind
from dawp.methods.deep_prior.stopping.base import RULES, StopRule
from dawp.settings import Settings, setting


@dataclass(frozen=True)
class StopConfig(Settings):
    """Stop: the early-stopping rule and the estimate at the stop. Both work without the clean clip."""

    stop: str = setting(
        "wmv",
        lambda: "early-stopping rule: " + "; ".join(f"{name}, {rule.about}" for name, rule in RULES.items()),
        choices=lambda: RULES,
        brief="early-stopping rule",
    )
    holdout: float = setting(
        0.02, "share of the samples that --stop holdout excludes from the loss", above=0, at_most=0.5
    )
    patience: int | None = setting(
        None,
        "epochs without an improvement after the stop that end the fit (checked every 50 epochs on CUDA)",
        at_least=1,
        at_most=10**7,
        none="all epochs are run",
    )
    estimate: str = setting(
        "mean",
        lambda: "estimate at the stop: " + "; ".join(f"{name}, {kind.about}" for name, kind in ESTIMATES.items()),
        choices=lambda: ESTIMATES,
    )
    fits: int = setting(
        1,
        "number of independent fits (different initialisations) whose estimates are averaged",
        at_least=1,
        at_most=1000,
    )
    mask_floor: float = setting(
        -18.0, "smallest gain of the mask in dB: how much of the noise remains", at_least=-100, at_most=0
    )

    @property
    def rule(self) -> StopRule:
        """The stopping rule."""
        return RULES[self.stop]

    @property
    def estimate_kind(self) -> EstimateKind:
        """The estimate at the stop."""
        return ESTIMATES[self.estimate]

    def check_estimate(self, task: str, allowed: Collection[str]) -> None:
        """Check that a task allows the estimate.

        Args:
            task: name of the task, for the message.
            allowed: estimates that the task allows beside those for all tasks.

        Raises:
            BadInput: it does not.
        """
        names = [name for name, kind in ESTIMATES.items() if kind.all_tasks or name in allowed]
        if self.estimate not in names:
            raise BadInput(f"estimate must be one of {', '.join(names)} for the task {task}, got {self.estimate}")

    def identity(self) -> dict[str, Any]:
        """Return the settings that the rule and the estimate depend on."""
        parts: list[StopRule | EstimateKind] = [*RULES.values(), *ESTIMATES.values()]
        unused = {name for part in parts for name in part.settings}
        unused -= {*self.rule.settings, *self.estimate_kind.settings}
        return {name: value for name, value in super().identity().items() if name not in unused}
