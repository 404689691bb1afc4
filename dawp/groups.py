"""The groups of settings of each task. They are defined beside the code that uses them."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dawp.errors import BadInput, printable
from dawp.io.settings import ClipConfig
from dawp.methods.base import groups_of_methods
from dawp.methods.deep_prior.generators.settings import GeneratorConfig, groups_of_generators
from dawp.methods.deep_prior.settings import FitConfig
from dawp.methods.deep_prior.stopping.settings import StopConfig
from dawp.metrics.settings import MetricConfig
from dawp.parallel.settings import WorkConfig
from dawp.report.settings import ReportConfig
from dawp.restoration.settings import RestoreConfig
from dawp.runs.settings import RunConfig
from dawp.settings import Settings, parse_value
from dawp.tasks.base import get_task

NOT_OF_THE_NUMBERS = tuple(
    setting.name for group in (WorkConfig, ReportConfig) for setting in dataclasses.fields(group)
)
"""Settings that affect no number, except by rounding."""

OF_THE_COMMAND = frozenset(
    (
        *(setting.name for group in (RunConfig, WorkConfig, ReportConfig) for setting in dataclasses.fields(group)),
        *("preset", "restore", "corrupt_only", "output", "save_removed", "device"),
    )
)
"""Flags that apply to all recordings of a command."""


def groups_of(task: str) -> dict[str, type[Settings]]:
    """Return the groups of settings of a task, by their names in ``Config``, in the order of the help.

    Raises:
        ValueError: two groups have a setting of one name.
    """
    groups: dict[str, type[Settings]] = {
        "run": RunConfig,
        "restoration": RestoreConfig,
        **groups_of_methods(),
        "clip": ClipConfig,
        "corruption": get_task(task).settings,
        "generator": GeneratorConfig,
        **groups_of_generators(),
        "fit": FitConfig,
        "stop": StopConfig,
        "metrics": MetricConfig,
        "work": WorkConfig,
        "report": ReportConfig,
    }
    names = Counter(setting.name for group in groups.values() for setting in dataclasses.fields(group))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"two groups of settings have {', '.join(twice)}")
    return groups


def names_of_corruption(task: str) -> set[str]:
    return {setting.name for setting in dataclasses.fields(get_task(task).settings)}


def check_names(names: Iterable[str], groups: Mapping[str, type[Settings]]) -> None:
    """Check that settings exist.

    Raises:
        BadInput: one does not.
    """
    known = {setting.name for group in groups.values() for setting in dataclasses.fields(group)}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise BadInput(f"there is no setting {printable(name)}" + (f": did you mean {near[0]}?" if near else ""))


def parse_settings(task: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Parse settings of one recording or one stage from text.

    Args:
        task: name of a registered task.
        texts: text of each setting, by name, as a flag takes it; ``true`` or ``false`` for a switch.

    Raises:
        BadInput: there is no such setting, or it applies to all recordings of a command.
    """
    for name in texts:
        if name in OF_THE_COMMAND:
            raise BadInput(f"{name} is a flag of the whole command")
    groups = groups_of(task)
    check_names(texts, groups)
    return {
        setting.name: parse_value(setting, group, texts[setting.name])
        for group in groups.values()
        for setting in dataclasses.fields(group)
        if setting.name in texts
    }
