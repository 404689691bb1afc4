"""The base classes of tasks and their registry.

This module and those of the tasks load no signal processing, because the command line imports them for its help.
Functions that corrupt clips import it when they are called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from dawp.errors import BadInput, printable
from dawp.io.settings import LONGEST_CLIP
from dawp.plugins import add_part
from dawp.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dawp.dsp.hum import Hum
    from dawp.operators.base import Operator
    from dawp.problem import Problem

FAST = {
    "epochs": 500,
    "lr": 5e-3,
    "crit": "L2",
    "channels": 32,
    "lstm_layers": 0,
    "resample": False,
    "pesq_every": 10,
}
BLIND = {"samplerate": None, "stop": "holdout", "patience": 100}

RESTORE, QUICK = "restore", "quick"
PRESETS: dict[str, dict[str, Any]] = {"paper": {}, "fast": FAST, RESTORE: {**FAST, **BLIND}, QUICK: {}}
"""Settings of each preset that differ from the defaults (of quick: from restore), if a task does not define its own."""


class Stage(NamedTuple):
    """One task of a chain.

    Attributes:
        task: name of the task.
        settings: texts of its settings, by name.
        text: the stage as written, for messages.
    """

    task: str
    settings: Mapping[str, str]
    text: str


@dataclass(frozen=True)
class CorruptionConfig(Settings, ABC):
    """Settings of the corruption of clean clips.

    Attributes:
        restore_only: settings that only a restoration uses; they are refused without ``--restore``.
    """

    restore_only: ClassVar[tuple[str, ...]] = ()

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in super().identity().items() if name not in self.restore_only}

    def check_experiment(self) -> None:
        """Check that no setting is given that only a restoration uses.

        Raises:
            BadInput: there is one.
        """
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.name in self.restore_only and value != setting.default:
                raise BadInput(f"{setting.name} needs --restore, got {printable(value)}")

    @abstractmethod
    def label(self) -> str:
        """Return a few readable words for the name of a run."""

    def restore_identity(self, estimates_noise: bool) -> dict[str, Any]:
        """Return the settings that a restored recording depends on.

        Args:
            estimates_noise: whether the noise is estimated (``Config.estimates_noise``).
        """
        return {}

    @property
    def sources_are_corrupted(self) -> bool:
        """Whether a single recording is corrupted, so that there is no clean clip."""
        return False

    @property
    def missing(self) -> float | None:
        """Minimum seconds of zeros in a corrupted recording that are a gap; None if the task has no gaps."""
        return None

    @property
    def given(self) -> list[tuple[float, float]]:
        """Start and length in seconds of each missing interval in the settings."""
        return []

    @property
    def profile(self) -> list[tuple[float, float]]:
        """Start and length in seconds of each interval of a recording that contains only noise."""
        return []

    @property
    def min_seconds(self) -> Mapping[str, float]:
        """Duration in seconds of the shortest recording on which a setting has an effect, by its name."""
        return {}

    @property
    def default_method(self) -> str | None:
        """Method of ``--restore`` if the settings determine one; otherwise None."""
        return None

    @property
    def output_rate(self) -> int | None:
        """Sample rate in Hz of restored recordings; None for that of the recording."""
        return None

    @property
    def stages(self) -> list[Stage]:
        """The tasks of a chain, in the order of the corruption; empty for other tasks."""
        return []

    @property
    def sources(self) -> list[Path]:
        """The files and folders in the settings."""
        return [value for value in vars(self).values() if isinstance(value, Path)]

    def check_files(self) -> None:
        """Check the files that only a restoration reads.

        Raises:
            BadInput: one of them cannot be used.
        """

    def operator_index(self, channel: int, channels: int) -> int:
        """Return the index of the operator of a channel of a recording."""
        return 0

    def operator(self, sample_rate: int, index: int) -> Operator | None:
        """Return a forward model that the settings define for recordings; None if they define none.

        Args:
            sample_rate: in Hz.
            index: as ``operator_index`` returns it.
        """
        return None

    def for_marked(self) -> CorruptionConfig:
        """Return the settings for a clip in which every missing sample is NaN."""
        return self


def adopt_unchanged(observed: Tensor, clean: Tensor | None, sample_rate: int, config: CorruptionConfig) -> Problem:
    """Return the problem of a corrupted clip ``[T]`` and its clean version ``[T]`` or None, both unchanged."""
    from dawp.problem import Problem

    return Problem(observed, clean, sample_rate)


@dataclass(frozen=True)
class Task:
    """A kind of corruption, with its settings and functions.

    Attributes:
        name: as on the command line and in run folders.
        about: one line for the help.
        settings: class of the settings of the corruption.
        corrupt: returns the problem of a clean clip ``[T]``: ``corrupt(clean, sample_rate, config, rng)``.
        adopt: returns the problem of a corrupted clip ``[T]`` and its clean version or None:
            ``adopt(observed, clean, sample_rate, config)``.
        examples: arguments of commands, for the help.
        presets: presets of ``PRESETS`` with other settings for this task, by name.
        estimates: values of ``--estimate`` that the task allows beside those for all tasks.
        is_local: whether only some samples are damaged, and a restoration returns the others unchanged. It reports
            their number.
        inspect: ``inspect(parts, sample_rate, name, config)`` returns the settings for a recording of consecutive parts
            ``[channels, n]`` before it is split into blocks, or None to leave it unchanged; None to use the settings
            as they are.
        allows_highpass: whether a high-pass before the fit makes sense.
        describe: ``describe(waveform, sample_rate, config)`` returns quantities estimated from a channel ``[T]`` of a
            recording, by name, NaN where one cannot be estimated; they are logged and written to the record of a
            restoration. None for no quantities.
        quantities: label and unit of each of them, by name, for the log.
        find_hum: ``find_hum(read, power, frames, sample_rate, config)`` returns the hum of each channel of a recording
            (``dsp.hum.Hum``), None for a channel without hum; it is subtracted before the recording is split into
            blocks. None, or a result of None, to leave hum in the recording.
        has_strength: whether a restored recording can be blended with the recording (``--strength``).
        corrupt_pair: returns the problem of a clean clip ``[T]`` and a corrupted version of it that is corrupted
            further: ``corrupt_pair(clean, observed, sample_rate, config, rng)``; None if ``corrupt`` changes the clean
            clip by a gain only.
    """

    name: str
    about: str
    settings: type[CorruptionConfig]
    corrupt: Callable[[Tensor, int, Any, torch.Generator], Problem]
    adopt: Callable[[Tensor, Tensor | None, int, Any], Problem] = adopt_unchanged
    examples: Sequence[str] = ("clean/", "clean.wav --preset fast", "damaged.wav --restore -o restored.wav")
    presets: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    estimates: tuple[str, ...] = ()
    is_local: bool = False
    inspect: Callable[[Iterable[Tensor], int, str, Any], Any] | None = None
    allows_highpass: bool = True
    has_strength: bool = True
    describe: Callable[[Tensor, int, Any], dict[str, float]] | None = None
    quantities: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    find_hum: Callable[[Callable[[int, int], Tensor], Tensor, int, int, Any], list[Hum | None] | None] | None = None
    corrupt_pair: Callable[[Tensor, Tensor, int, Any, torch.Generator], Problem] | None = None

    def preset(self, name: str) -> dict[str, Any]:
        """Return the settings of a preset that differ from the defaults."""
        if name == QUICK:
            return {**self.preset(RESTORE), **self.presets.get(QUICK, PRESETS[QUICK])}
        return self.presets.get(name, PRESETS[name])


TASKS: dict[str, Task] = {}
"""The registered tasks, by name."""


def register(task: Task) -> None:
    """Add a task to the registry, for the command line and the library.

    Raises:
        ValueError: there is a task of that name.
    """
    add_part(TASKS, task.name, task, "task")


def get_task(name: str) -> Task:
    """Return a registered task.

    Raises:
        BadInput: there is none of that name.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise BadInput(f"task must be one of {', '.join(TASKS)}, got {printable(name)}")
    return TASKS[name]


def make_problem(
    task: str,
    clean: Tensor | None,
    corrupted: Tensor | None,
    sample_rate: int,
    config: CorruptionConfig,
    rng: torch.Generator,
) -> Problem:
    """Return the problem of a clean clip, a corrupted clip, or a pair.

    Args:
        task: name of a task.
        clean: ``[T]``, or None.
        corrupted: ``[T]``, sample-aligned with ``clean``; None to corrupt it.
        sample_rate: in Hz.
        config: the task's corruption.
        rng: source of its random draws.

    Raises:
        BadInput: a clip is silent, or cannot be corrupted as configured.
    """
    if corrupted is not None:
        return get_task(task).adopt(corrupted, clean, sample_rate, config)
    if clean is None:
        raise BadInput("a problem needs a clean clip or a corrupted one")
    return get_task(task).corrupt(clean, sample_rate, config, rng)


def parse_intervals(name: str, text: str, expected: str) -> list[tuple[float, float]]:
    """Parse ``START:LENGTH,START:LENGTH,...`` as start and length in seconds of each interval.

    Raises:
        BadInput: the text has another format; the message names the setting.
    """
    try:
        pairs = [tuple(float(number) for number in interval.split(":")) for interval in text.split(",")]
        intervals = [(start, length) for start, length in pairs]
    except ValueError:
        intervals = []
    if not intervals or not all(abs(number) <= LONGEST_CLIP for pair in intervals for number in pair):  # nor NaN
        raise BadInput(f"{name} must be {expected} in seconds, got {printable(text)}")
    return intervals
