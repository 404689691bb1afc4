"""Settings of the training of networks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dawp.errors import BadInput, printable
from dawp.io.settings import MIN_LENGTH
from dawp.settings import Settings, setting
from dawp.tasks.base import TASKS, CorruptionConfig, get_task
from dawp.training import kinds  # noqa: F401 (registers the kinds of models)
from dawp.training.base import ModelKind, get_kind


@dataclass(frozen=True)
class DataConfig(Settings):
    """Data: the clean recordings, and the windows that are cut from them."""

    data: Path | None = setting(
        None,
        "clean recordings to train on: a folder, searched recursively, a list or a file",
        none="required",
        brief="folder of clean recordings",
    )
    samplerate: int = setting(
        16000,
        "sample rate of the model in Hz; recordings of other rates are resampled",
        at_least=1000,
        at_most=192000,
        brief="sample rate of the model in Hz",
    )
    window: int = setting(
        8192, "samples of a window, the input of a training step", at_least=MIN_LENGTH, at_most=2**22, short="-w"
    )
    stride: int = setting(
        4096, "samples between the starts of successive windows of a clip", at_least=1, at_most=2**22, short="-s"
    )
    windows_per_clip: int = setting(
        4, "successive windows that are cut from each corrupted clip", at_least=1, at_most=1024
    )
    batch: int = setting(16, "windows of a step, on each device", at_least=1, at_most=2**16, short="-b")
    train_n: int | None = setting(
        None, "number of recordings to train on", at_least=1, none="all that are not held out"
    )
    test_n: int | None = setting(
        None, "number of recordings that are held out for the metrics", at_least=1, none="one in ten, at least one"
    )
    test_clips: int = setting(8, "clips of the held-out recordings for the metrics", at_least=1, at_most=10000)
    test_seconds: float = setting(2.0, "seconds of each of these clips", at_least=0.01, at_most=600)
    data_workers: int = setting(
        0, "processes that draw and corrupt the clips; 0 for the process of the training", at_least=0, at_most=256
    )

    def get_source(self) -> Path:
        """Return the source of the recordings.

        Raises:
            BadInput: there is none.
        """
        if self.data is None:
            raise BadInput("data must be a folder of clean recordings, got none")
        return self.data


@dataclass(frozen=True)
class TaskConfig(Settings):
    """Task: the corruption that the model learns to remove."""

    task: str = setting(
        "denoise",
        "task whose corruption is applied to the clips; chain for several",
        choices=lambda: TASKS,
        short="-t",
        brief="task whose corruption the model learns to remove",
    )


@dataclass(frozen=True)
class LoopConfig(Settings):
    """Loop: the steps of the training, and its files."""

    output: Path = setting(
        Path("model.pt"),
        "model file; its model card, losses and checkpoint are written beside it",
        short="-o",
        brief="model file to write",
    )
    steps: int = setting(10000, "number of steps, one batch each", at_least=1, at_most=10**9, brief="number of steps")
    epochs: int | None = setting(
        None,
        "number of passes over all windows of the recordings instead of --steps",
        at_least=1,
        at_most=10**6,
        none="--steps applies",
        short="-e",
    )
    scheduler: str = setting(
        "none", "schedule of the learning rates: constant, or a cosine from the start to 0", choices=("none", "cosine")
    )
    average: float = setting(
        0.999,
        "decay of the moving average of the weights that is saved; 0 saves the latest weights",
        at_least=0,
        below=1,
    )
    evaluate_every: int = setting(
        1000, "steps between evaluations on the held-out recordings", at_least=1, at_most=10**9
    )
    log_every: int = setting(10, "steps between logged losses", at_least=1, at_most=10**9)
    checkpoint_every: float = setting(
        300.0, "seconds between checkpoints, which --resume continues from", at_least=0, at_most=86400
    )
    resume: bool = setting(
        False, "continue from the checkpoint beside the model file", brief="continue from a checkpoint"
    )
    load: Path | None = setting(
        None, "model file with the first weights, of the same kind and settings", none="random weights"
    )
    overwrite: bool = setting(False, "replace an existing model file and checkpoint")
    tensorboard: Path | None = setting(None, "folder for the losses and metrics in TensorBoard", none="not written")
    device: str = setting("auto", "auto (CUDA if available, otherwise the CPU), cpu, cuda, cuda:N or mps")
    devices: int = setting(1, "number of devices, each with batches of its own", at_least=1, at_most=1024)
    precision: str = setting(
        "32-true", "floating-point precision of the training", choices=("32-true", "16-mixed", "bf16-mixed")
    )
    seed: int = setting(0, "seed of every random draw", at_least=0, at_most=2**63 - 1)
    quiet: bool = setting(False, "show only warnings and errors, and print only the path of the model", short="-q")
    json: bool = setting(False, "print the results as one JSON object")

    FREE = frozenset(
        ("output", "evaluate_every", "checkpoint_every", "resume", "overwrite", "tensorboard", "quiet", "json")
    )
    """Settings that the weights do not depend on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume and self.overwrite:
            raise BadInput("resume cannot be combined with --overwrite, which deletes the checkpoint")

    def identity(self) -> dict[str, Any]:
        kept = {name: value for name, value in super().identity().items() if name not in self.FREE}
        if self.scheduler == "none":  # a finished training may be continued for more steps
            del kept["steps"], kept["epochs"]
        return kept


@dataclass(frozen=True)
class TrainingConfig:
    """All settings of a training, in groups.

    Attributes:
        kind: of the model.
        data: the recordings and windows.
        model: settings of the kind.
        loop: the steps and files.
        task: name of the task that corrupts the clips; None if none does.
        corruption: its settings.
    """

    kind: ModelKind
    data: DataConfig
    model: Settings
    loop: LoopConfig
    task: str | None = None
    corruption: CorruptionConfig | None = None

    @classmethod
    def of(cls, kind: str, **settings: Any) -> TrainingConfig:
        """Return the settings of a kind of model, with some of them changed by name.

        Raises:
            BadInput: an unknown kind, task or setting, or a value out of bounds.
        """
        found = get_kind(kind)
        task = settings.get("task", TaskConfig.task) if found.corrupts else None
        groups = groups_of(found, task)
        names = {field.name: key for key, group in groups.items() for field in dataclasses.fields(group)}
        for name in settings:
            if name not in names:
                raise BadInput(f"there is no setting {printable(name)}")
        values = {**{name: value for name, value in found.defaults.items() if name in names}, **settings}
        made: dict[str, Any] = {
            key: group(**{name: value for name, value in values.items() if names[name] == key})
            for key, group in groups.items()
        }
        made.pop("task", None)
        if "steps" in settings and settings.get("epochs") is not None:
            raise BadInput(f"epochs cannot be combined with --steps, got {settings['epochs']}")
        corruption = made.get("corruption")
        if corruption is not None:
            corruption.check_experiment()
            if corruption.sources_are_corrupted:
                raise BadInput(f"the task {task} must corrupt clean recordings: its settings describe corrupted ones")
        made["data"].get_source()
        return cls(kind=found, task=task, **made)

    def identity(self) -> dict[str, Any]:
        """Return the settings that the weights depend on."""
        values = {"kind": self.kind.name, "task": self.task}
        for group in (self.data, self.model, self.loop, self.corruption):
            values |= group.identity() if group else {}
        values.pop("data_workers")
        return values


def groups_of(kind: ModelKind, task: str | None) -> dict[str, type[Settings]]:
    """Return the groups of settings of a training, in the order of the help.

    Raises:
        BadInput: there is no such task.
        ValueError: two groups have a setting of one name.
    """
    groups: dict[str, type[Settings]] = {"data": DataConfig}
    if task is not None:
        groups |= {"task": TaskConfig, "corruption": get_task(task).settings}
    groups |= {"model": kind.settings, "loop": LoopConfig}
    names = [field.name for group in groups.values() for field in dataclasses.fields(group)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two groups of settings have {', '.join(twice)}")
    return groups
