"""All settings of a command. The defaults are preset "paper"."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dawp.errors import BadInput, printable
from dawp.groups import check_names, groups_of, names_of_corruption, parse_settings
from dawp.io.settings import ClipConfig
from dawp.methods.base import DEEP_PRIOR, METHODS, get_method, groups_of_methods
from dawp.methods.deep_prior.generators.settings import GeneratorConfig, group_name, groups_of_generators
from dawp.methods.deep_prior.settings import FitConfig
from dawp.methods.deep_prior.stopping.settings import StopConfig
from dawp.metrics.settings import MetricConfig
from dawp.parallel.settings import WorkConfig
from dawp.report.settings import ReportConfig
from dawp.restoration.settings import RestoreConfig
from dawp.runs.settings import RunConfig
from dawp.settings import Settings, flag_of
from dawp.tasks.base import PRESETS, QUICK, RESTORE, CorruptionConfig, Stage, get_task
from dawp.tasks.chain import STAGES, refused_stage

Group = TypeVar("Group", bound=Settings)

CORRUPT_ONLY = ("corrupt_only", "output", "output_format", "subtype", "clip_mode")
"""Settings of restored files that also apply to files that are only corrupted."""


@dataclass(frozen=True)
class Config:
    """All settings of one command, in groups."""

    task: str
    preset: str
    run: RunConfig
    restoration: RestoreConfig
    clip: ClipConfig
    corruption: CorruptionConfig
    generator: GeneratorConfig
    fit: FitConfig
    stop: StopConfig
    metrics: MetricConfig
    work: WorkConfig
    report: ReportConfig
    registered: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    """Groups of settings of the methods and generators that have their own, by the names of ``groups_of``."""

    @classmethod
    def of(cls, task: str, preset: str = "paper", **settings: Any) -> Config:
        """Return the settings of a preset, with some of them changed by name.

        Raises:
            BadInput: an unknown task, preset or setting, or a value out of bounds.

        Example:
            >>> Config.of("denoise", "fast", epochs=10).fit.epochs
            10
        """
        if preset not in PRESETS:
            raise BadInput(f"preset must be one of {', '.join(PRESETS)}, got {printable(preset)}")
        if preset == QUICK and not settings.get("restore"):
            raise BadInput("preset quick needs --restore")
        kind, groups = get_task(task), groups_of(task)
        check_names(settings, groups)
        values = {**_defaults(task, preset, settings), **settings}
        made: dict[str, Any] = {
            key: group(**{s.name: values[s.name] for s in dataclasses.fields(group) if s.name in values})
            for key, group in groups.items()
        }
        corruption, restoration = made["corruption"], made["restoration"]
        if not restoration.restore:
            corruption.check_experiment()
        elif settings.get("metrics") not in (None, kind.preset(preset).get("metrics")):  # which is for experiments
            made["metrics"].check_restoration()
        registered = {key: made.pop(key) for key in (*groups_of_methods(), *groups_of_generators())}
        config = cls(task=task, preset=preset, registered=registered, **made)
        config.stop.check_estimate(task, kind.estimates)
        if not kind.allows_highpass and config.fit.highpass != 0:
            got = flag_of("highpass", config.fit.highpass).removeprefix("--highpass ")
            raise BadInput(f"highpass must be 0 for the task {task}, got {got}")
        method = get_method(task, config.restoration.method)
        if method and method.needs and getattr(config.corruption, method.needs) is None:
            raise BadInput(f"method {method.name} needs --{method.needs}")
        for key in method.groups if method else ():
            config.registered[key].check_use()
        config.generator.kind.check_settings(config.generator_settings, config.clip.samplerate)
        methods = METHODS.get(task, {}).values()
        for name in sorted({name for other in methods for name in other.supports}):
            if getattr(corruption, name) not in (None, False) and not (method and name in method.supports):
                supporting = [other.name for other in methods if name in other.supports]
                raise BadInput(f"{name} needs method {' or '.join(supporting)}, got {config.restoration.method}")
        for stage in corruption.stages:
            config._check_stage(stage)
        return config

    @property
    def stages(self) -> list[Config]:
        """The settings of each stage of the restoration of a recording, in their order: one, or those of a chain."""
        if not self.corruption.stages or (self.restoration.restore and self.restoration.method != STAGES):
            return [self]
        return [self._restoration_of(stage) for stage in reversed(self.corruption.stages)]

    def _restoration_of(self, stage: Stage) -> Config:
        """Return the settings of the restoration by a task of a chain.

        Those of its corruption apply only if the recordings are restored: an experiment restores without them.
        """
        settings = parse_settings(stage.task, stage.settings)
        if not self.restoration.restore:
            omitted = names_of_corruption(stage.task)
            settings = {name: value for name, value in settings.items() if name not in omitted}
        work = {setting.name: getattr(self.work, setting.name) for setting in dataclasses.fields(self.work)}
        shared = {**work, "seed": self.fit.seed, "device": self.fit.device}
        preset = self.preset if self.preset == QUICK else RESTORE
        return Config.of(stage.task, preset, restore=True, **{**shared, **settings})

    def _check_stage(self, stage: Stage) -> None:
        """Check the settings of a stage of a chain.

        Raises:
            BadInput: a setting cannot be used in it.
        """
        try:
            restoration = self._restoration_of(stage)
            if restoration.corruption.output_rate is not None:
                raise BadInput("a stage cannot change the sample rate")
            effective = restoration.effective()
            settings = parse_settings(stage.task, stage.settings)
            corruption = {name: value for name, value in settings.items() if name in names_of_corruption(stage.task)}
            for name in settings.keys() - corruption:
                if name not in effective or name in ("output_format", "subtype", "clip_mode"):
                    raise BadInput(f"{name} has no effect in a stage")
            if not self.restoration.restore and Config.of(stage.task, **corruption).corruption.sources_are_corrupted:
                raise BadInput("the sources must be clean clips")
        except BadInput as refusal:
            raise refused_stage(stage, refusal) from None

    @property
    def groups(self) -> dict[str, Settings]:
        """All groups of settings, by the names of ``groups_of``."""
        return {key: self.registered.get(key) or getattr(self, key) for key in groups_of(self.task)}

    def group(self, kind: type[Group]) -> Group:
        """Return the settings of a class of ``registered``.

        Raises:
            LookupError: no registered method or generator has these settings.
        """
        found = [group for group in self.registered.values() if isinstance(group, kind)]
        if not found:
            raise LookupError(f"no registered method or generator has the settings {kind.__name__}")
        return found[0]

    @property
    def generator_settings(self) -> Settings:
        """The group that has the settings of the chosen generator."""
        return self.registered.get(group_name(self.generator.generator), self.generator)

    @property
    def estimates_noise(self) -> bool:
        """Whether a restoration estimates the noise from the recording around a block."""
        return self.stop.estimate_kind.needs_noise and self.restoration.method == DEEP_PRIOR

    @property
    def uses_operator(self) -> bool:
        """Whether the method of a restoration uses the forward model that the settings define."""
        method = get_method(self.task, self.restoration.method)
        return method is None or method.needs is not None

    def effective(self) -> dict[str, Any]:
        """Return the settings that have an effect in combination with the others, by name."""
        settings: dict[str, Any] = {"task": self.task}
        if self.restoration.corrupt_only:
            kept = {"source", "overwrite", "seed", "quiet", "json", *CORRUPT_ONLY}
            every = {name: value for group in self._used_groups() for name, value in dataclasses.asdict(group).items()}
            return settings | self.corruption.identity() | {name: every[name] for name in every if name in kept}
        if self.restoration.restore:
            return settings | self._effective_in_restoration()
        for group in self._used_groups():
            settings |= group.identity()
        return settings

    def _used_groups(self) -> list[Settings]:
        """Return the groups of settings without those of methods and generators that are not selected."""
        method = get_method(self.task, self.restoration.method)
        used = {group_name(self.generator.generator), *(method.groups if method else ())}
        return [group for key, group in self.groups.items() if key in used or key not in self.registered]

    def _effective_in_restoration(self) -> dict[str, Any]:
        """Return the settings that have an effect in a restoration: no clip is selected, corrupted or evaluated."""
        settings: dict[str, Any] = {}
        whole: tuple[type[Settings], ...] = (RestoreConfig, WorkConfig)
        single: tuple[str, ...] = ("source", "overwrite", "quiet", "json")
        if self.metrics.without_clean:
            single = (*single, "metrics")
        if self.restoration.method == DEEP_PRIOR:
            whole = (*whole, GeneratorConfig, type(self.generator_settings), FitConfig, StopConfig)
            single = (*single, "samplerate", "ema")
        method = get_method(self.task, self.restoration.method)
        if method:
            whole, single = (*whole, *method.groups.values()), (*single, *method.uses)
        for group in self._used_groups():
            if isinstance(group, CorruptionConfig):
                settings |= group.restore_identity(self.estimates_noise)
            else:
                kept = group.identity()
                settings |= {name: kept[name] for name in kept if isinstance(group, whole) or name in single}
        of_methods = {one.needs for one in METHODS.get(self.task, {}).values()}
        for name in self.corruption.restore_only:
            if name in of_methods and method and method.needs != name:
                settings.pop(name, None)
        if not get_task(self.task).has_strength:
            settings.pop("strength")
        if self.stages != [self]:
            for name in ("block", "overlap"):
                settings.pop(name)
            used = {name for stage in self.stages for name in stage.effective()}
            settings |= {name: getattr(self.fit, name) for name in ("seed", "device") if name in used}
        return settings


def _defaults(task: str, preset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a preset, the corruption and the method in use set differently from the defaults.

    Raises:
        BadInput: the task does not have the method, or a setting of the corruption is out of bounds.
    """
    kind = get_task(task)
    values = dict(kind.preset(preset))
    names = names_of_corruption(task)
    corruption = kind.settings(**{name: settings[name] for name in settings if name in names})
    if not settings.get("restore"):
        values.pop("method", None)
    elif corruption.default_method:
        values["method"] = corruption.default_method
    method = get_method(task, settings.get("method", values.get("method", DEEP_PRIOR)))
    return {**values, **(method.settings if method else {})}
