"""The registry of stopping rules, which select an epoch without the clean clip.

This module loads no signal processing: the command line reads it for its help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dawp.metrics.base import COLUMNS, Measurement
from dawp.plugins import add_part, import_object


@dataclass(frozen=True)
class StopRule:
    """A stopping rule: the epoch at which a quantity is smallest.

    Attributes:
        name: as on the command line and in result.json, and the column of metrics.csv that has the quantity.
        about: the quantity, for the help.
        stop: class of the watcher that computes the quantity, a subclass of ``stopping.blind.BlindStop``. As
            ``"module:Class"`` it is imported when it is needed.
        label: of the quantity in plots; the name if empty.
        has_curve: whether metrics.csv has the quantity, and the report its curve.
        holds_out: whether the rule excludes the share ``--holdout`` of the samples from the loss.
        has_patience: whether ``--patience`` ends the fit after the stop.
        is_free: whether the rule is also watched beside another one, if a clean clip evaluates its estimate. A rule
            that holds out samples changes the fit and is not free.
    """

    name: str
    about: str
    stop: str | type[Any]
    label: str = ""
    has_curve: bool = True
    holds_out: bool = False
    has_patience: bool = True
    is_free: bool = False

    def __post_init__(self) -> None:
        if self.is_free and self.holds_out:
            raise ValueError(f"{self.name}: a rule that holds out samples is not free")

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings of stopping rules that this one depends on."""
        return (*(("holdout",) if self.holds_out else ()), *(("patience",) if self.has_patience else ()))

    def load(self) -> type[Any]:
        """Return the class of the watcher."""
        stop: type[Any] = import_object(self.stop)
        return stop


RULES: dict[str, StopRule] = {}
"""The registered stopping rules, by name."""


def register(rule: StopRule) -> None:
    """Add a stopping rule to the registry, for the command line, fits and the report.

    Raises:
        ValueError: there is a rule of that name, or a column of metrics.csv has it.
    """
    if rule.name in COLUMNS or Measurement.parse(rule.name).is_known:
        raise ValueError(f"{rule.name} is a reserved name")
    add_part(RULES, rule.name, rule, "stopping rule")


for _rule in (
    StopRule(
        name="wmv",
        about="smallest windowed moving variance of the outputs",
        stop="dawp.methods.deep_prior.stopping.wmv:VarianceStop",
        label="moving variance",
        is_free=True,
    ),
    StopRule(
        name="holdout",
        about="smallest error on samples excluded from the loss",
        stop="dawp.methods.deep_prior.stopping.holdout:HoldoutStop",
        label="held-out error",
        holds_out=True,
    ),
    StopRule(
        name="epochs",
        about="the last epoch",
        stop="dawp.methods.deep_prior.stopping.last_epoch:LastEpoch",
        has_curve=False,
        has_patience=False,
    ),
):
    register(_rule)
