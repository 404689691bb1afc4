"""Chains: several corruptions in order, and the restoration by their tasks in the reverse order."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dawp.errors import BadInput, printable, with_context
from dawp.settings import parse_value, setting
from dawp.tasks.base import BLIND, FAST, TASKS, CorruptionConfig, Stage, Task, get_task, register

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dawp.problem import Problem

STAGES = "stages"
"""The method that restores a chain by the methods of its tasks."""

EXPECTED = "TASK:SETTING=VALUE,... | TASK:SETTING=VALUE,..."


@dataclass(frozen=True)
class ChainConfig(CorruptionConfig):
    """Chain: the corruptions of clean clips, or of recordings, in order."""

    corrupt: str = setting(
        "dereverb | denoise",
        f"tasks in the order of their corruptions, with settings of each, as {EXPECTED}; with --restore the tasks "
        "restore in the reverse order",
        brief="corruptions in order: TASK:SETTING=VALUE,... | ...",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.corruptions()

    @property
    def stages(self) -> list[Stage]:
        return [_parse_stage(text.strip()) for text in self.corrupt.split("|")]

    def corruptions(self) -> list[tuple[Task, CorruptionConfig]]:
        """Return each task, in order, with the settings of its corruption.

        Raises:
            BadInput: a stage has no such task, or a setting of its corruption is out of bounds.
        """
        found = []
        for stage in self.stages:
            task = get_task(stage.task)
            fields = {field.name: field for field in dataclasses.fields(task.settings)}
            texts = {name: text for name, text in stage.settings.items() if name in fields}
            values = {name: parse_value(fields[name], task.settings, text) for name, text in texts.items()}
            try:
                found.append((task, task.settings(**values)))
            except BadInput as refusal:
                raise refused_stage(stage, refusal) from None
        return found

    @property
    def sources(self) -> list[Path]:
        return [path for _, corruption in self.corruptions() for path in corruption.sources]

    def restore_identity(self, estimates_noise: bool) -> dict[str, Any]:
        return {"corrupt": self.corrupt}

    def label(self) -> str:
        return "-".join(f"{task.name}-{corruption.label()}" for task, corruption in self.corruptions())


def refused_stage(stage: Stage, refusal: BadInput) -> BadInput:
    """Return the refusal of a chain for that of the settings of a stage."""
    return BadInput(
        f"corrupt must have valid settings in each stage, got {printable(stage.text)} ({refusal})", code=refusal.code
    )


def _parse_stage(text: str) -> Stage:
    """Parse ``TASK:SETTING=VALUE,...``. A value may contain commas, such as ``room_dim=5,4,3``.

    A task is named by its name, or by the title of its settings, such as ``noise``.

    Raises:
        BadInput: the text has another format, or there is no such task.
    """
    name, colon, rest = (part.strip() for part in text.partition(":"))
    names = {task.settings.describe()[0].lower(): task.name for task in TASKS.values()}
    names |= {task: task for task in TASKS}
    names = {alias: task for alias, task in names.items() if task != CHAIN.name}
    if name not in names:
        raise BadInput(
            f"corrupt must be {EXPECTED}, with the tasks {', '.join(names)}, got {printable(text) or 'an empty stage'}"
        )
    settings: dict[str, str] = {}
    latest = ""
    for part in rest.split(",") if colon else ():
        key, equals, value = part.partition("=")
        key = key.strip()
        if equals and key.isidentifier() and key not in settings:
            settings[latest := key] = value.strip()
        elif latest and not equals:
            settings[latest] += f",{part.strip()}"
        else:
            raise BadInput(f"corrupt must be {EXPECTED}, got {printable(text)}")
    return Stage(names[name], settings, text)


def corrupt_in_order(clean: Tensor, sample_rate: int, config: ChainConfig, rng: torch.Generator) -> Problem:
    """Corrupt a clean clip by each task in order.

    Each task corrupts the output of the one before. The clean clip of the problem is the one that each task would
    return for the clean clip alone: scaled as its input is, and with the direct path of a room.

    Args:
        clean: clip ``[T]``.
        sample_rate: its rate in Hz.
        config: the chain.
        rng: source of the random draws of all tasks, in order.

    Returns:
        The problem, without a forward model. Its facts are those of the tasks, with number and name of the task.

    Raises:
        BadInput: a task cannot corrupt its input.
    """
    from dawp.problem import Problem

    observed, facts = clean, dict[str, Any]()
    for number, (task, corruption) in enumerate(config.corruptions(), start=1):
        try:
            if number > 1 and task.corrupt_pair:
                problem = task.corrupt_pair(clean, observed, sample_rate, corruption, rng)
            else:
                problem = task.corrupt(observed, sample_rate, corruption, rng)
        except BadInput as refusal:
            raise with_context(refusal, f"stage {number}, {task.name}") from None
        if problem.clean is None:
            raise BadInput(f"corrupt must corrupt clean clips, got {printable(config.corrupt)}")
        is_scaled = number > 1 and not task.corrupt_pair
        clean = clean * _gain(observed, problem.clean) if is_scaled else problem.clean
        observed = problem.observed
        facts |= {f"{number}_{task.name}_{name}": value for name, value in problem.facts.items()}
    return Problem(observed, clean, sample_rate, facts=facts)


def _gain(waveform: Tensor, scaled: Tensor) -> float:
    """Return the gain g that minimises ``|scaled - g waveform|``."""
    waveform, scaled = waveform.double(), scaled.double()
    return float((waveform @ scaled) / (waveform @ waveform))


CHAIN = Task(
    name="chain",
    about="Corrupt clean recordings by several tasks in order, or restore damaged ones by the tasks in reverse order.",
    settings=ChainConfig,
    examples=(
        'damaged.wav --restore --corrupt "denoise:method=nmf | declip" -o restored.wav',
        'clean/ --corrupt "dereverb:rt60=0.3 | denoise:snr=10" --preset fast --baselines',
        'clean.wav --corrupt "denoise:noise_source=hiss.wav | declip:clip_sdr=7" --preset fast',
    ),
    corrupt=corrupt_in_order,
    presets={"restore": {**FAST, **BLIND, "method": STAGES}},
    has_strength=False,
)
register(CHAIN)
