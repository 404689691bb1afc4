"""The training loop, which all kinds of models share."""

from __future__ import annotations

import csv
import importlib.util
import logging
import math
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dawp.devices import memory_as_bad_input, pick_device
from dawp.errors import BadInput, FitDiverged, printable
from dawp.io.files import atomic_write, check_writable, exclusive_lock
from dawp.methods.trained.weights import Model, check_model, load_model, save_model
from dawp.parallel.progress import progress_bar
from dawp.randomness import seeded
from dawp.report import tensorboard
from dawp.training.card import write_card
from dawp.training.checkpoint import load_checkpoint, save_checkpoint
from dawp.training.data import Recordings, Windows, held_out_clips, split
from dawp.training.losses_plot import draw_losses
from dawp.training.settings import TrainingConfig
from dawp.training.trainer import Batch, Trainer

log = logging.getLogger(__name__)

HELD_OUT = "held_out_"
"""Prefix of the columns with metrics of the held-out recordings."""

CACHE = "samples-"
"""Start of the names of the temporary folders of decoded samples."""

Row = dict[str, float]
Weights = dict[str, dict[str, Tensor]]
"""Weights of each network by name, by the name of the network."""


@dataclass(frozen=True)
class Files:
    """The files of a training, beside the model file."""

    model: Path

    def beside(self, suffix: str) -> Path:
        """Return a file whose name starts with that of the model."""
        return self.model.with_name(f"{self.model.stem}{suffix}")

    @property
    def folder(self) -> Path:
        """The folder of the checkpoint, which is locked during a training."""
        return self.beside("_training")

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def losses(self) -> Path:
        return self.beside("_losses.csv")

    @property
    def plot(self) -> Path:
        return self.beside("_losses.png")

    @property
    def card(self) -> Path:
        return self.beside("_card.json")


def train(config: TrainingConfig, progress: bool = False) -> dict[str, Any]:
    """Train a model, and write the model file, its card, the losses and their plot.

    Step s draws from generators that are seeded by the seed and s alone, so that a training that is resumed from a
    checkpoint has the same losses as one that was not interrupted.

    Args:
        config: all settings.
        progress: show a progress bar on standard error.

    Returns:
        The content of the model card.

    Raises:
        BadInput: the data, the device or an output cannot be used, or there is no checkpoint to resume from.
        FitDiverged: a loss is not finite.
    """
    files = Files(config.loop.output)
    _check(config, files)
    fabric = _fabric(config)
    is_main = os.environ.get("LOCAL_RANK", "0") == "0"  # of the processes that Fabric launches, before it does
    state = load_checkpoint(files.checkpoint, config) if config.loop.resume else None
    weights = None if config.loop.load is None else _first_weights(config.loop.load, config)
    training_paths, test_paths = split(_source(config), config)
    with (
        memory_as_bad_input(printable(files.model), "window"),
        _lock(files, is_main),
        tempfile.TemporaryDirectory(prefix=CACHE, dir=files.folder) as cache,
    ):
        fabric.launch()
        training = Recordings(training_paths, config.data.samplerate, Path(cache, "training"))
        held_out = Recordings(test_paths, config.data.samplerate, Path(cache, "held_out"))
        run = _Training(config, fabric, training, held_out, weights)
        if state is not None:
            run.resume(state)
        run.run(files, progress and is_main)
        return write_card(files.card, config, run.trainer, run.rows, training, held_out, run.seconds, is_main)


class _Training:
    """A training in progress."""

    def __init__(
        self, config: TrainingConfig, fabric: Any, training: Recordings, held_out: Recordings, weights: Weights | None
    ) -> None:
        self.config, self._fabric = config, fabric
        self._windows = Windows(training, config, fabric.global_rank)
        self.steps = config.loop.steps
        if config.loop.epochs is not None:
            self.steps = config.loop.epochs * self._windows.steps_per_epoch()
        torch.manual_seed(_torch_seed(config, "weights", 0))
        self.trainer: Trainer = config.kind.build(config)
        if weights is not None:
            self.trainer.load_weights(weights)
        self.trainer.setup(fabric)
        self._schedulers = self._make_schedulers()
        self._clips = [self._moved(clip) for clip in held_out_clips(held_out, config)]
        self.step = 0
        self.rows: list[Row] = []
        self.seconds = 0.0

    def run(self, files: Files, progress: bool) -> None:
        """Run the steps that are left, and write the files."""
        loop = self.config.loop
        batches = DataLoader(
            self._windows,
            batch_size=None,
            sampler=range(self.step + 1, self.steps + 1),
            num_workers=self.config.data.data_workers,
        )
        began = saved = time.monotonic()
        earlier = self.seconds
        with (
            progress_bar(self.steps, files.model.name if progress else None, "step") as bar,
            self._writer() as writer,
            _interrupt_after_step() as is_interrupted,
        ):
            bar.update(self.step)
            if not self.rows:
                self._log({"step": 0, **self._evaluate()}, writer)
            for batch in batches:
                self.step += 1
                losses = self._one_step(self._moved(batch))
                row: Row = {}
                if self.step % loop.log_every == 0 or self.step == self.steps:
                    row = {name: float(value) for name, value in losses.items()}
                    self._check_finite(row)
                    bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()}, refresh=False)
                if self.step % loop.evaluate_every == 0 or self.step == self.steps:
                    row |= self._evaluate()
                if row:
                    self._log({"step": self.step, **row}, writer)
                bar.update(1)
                self.seconds = earlier + time.monotonic() - began
                is_due = time.monotonic() - saved >= loop.checkpoint_every and self.step < self.steps
                if is_due or is_interrupted():
                    self._check_finite({name: float(value) for name, value in losses.items()})
                    self._save(files)
                    saved = time.monotonic()
                if is_interrupted():
                    raise KeyboardInterrupt
        self._save(files)
        if self._fabric.is_global_zero:
            draw_losses(files.plot, self.rows, HELD_OUT)
            save_model(files.model, self.model())

    def model(self) -> Model:
        """Return the model in its present state."""
        config, trainer = self.config, self.trainer
        return Model(
            config.kind.name,
            config.task,
            config.data.samplerate,
            trainer.model_settings(),
            {name: network.state_dict() for name, network in trainer.saved_networks().items()},
            {"corruption": _plain(config.corruption.identity()) if config.corruption else {}, "steps": self.step},
        )

    def resume(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint.

        Raises:
            BadInput: the training had other recordings, or has had more steps.
        """
        if state["step"] > self.steps:
            raise BadInput(f"steps must be at least {state['step']}, those of the checkpoint, got {self.steps}")
        if state["recordings"] != self._windows.identity():
            raise BadInput("resume must have the recordings of its checkpoint, got a folder with other ones")
        self.trainer.load_state(state["trainer"])
        for scheduler, values in zip(self._schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(values)
        self.step, self.rows, self.seconds = state["step"], state["rows"], state["seconds"]

    def _one_step(self, batch: Batch) -> dict[str, Tensor]:
        config, rank = self.config, self._fabric.global_rank
        torch.manual_seed(_torch_seed(config, f"step on device {rank}", self.step))  # of dropout
        for network in self.trainer.networks.values():
            network.train()
        losses = self.trainer.step(batch, seeded(config.loop.seed, f"losses on device {rank}", self.step))
        self.trainer.update_averages()
        for scheduler in self._schedulers:
            scheduler.step()
        return losses

    def _evaluate(self) -> Row:
        """Return the metrics on the held-out recordings, by the names of their columns."""
        trainer = self.trainer
        for network in trainer.networks.values():
            network.eval()
        with torch.no_grad():
            metrics = trainer.evaluate(self._clips, seeded(self.config.loop.seed, "evaluation"))
        return {f"{HELD_OUT}{name}": float(value) for name, value in metrics.items()}

    def _save(self, files: Files) -> None:
        if not self._fabric.is_global_zero:
            return
        state = {
            "recordings": self._windows.identity(),
            "step": self.step,
            "rows": self.rows,
            "seconds": self.seconds,
            "trainer": self.trainer.state(),
            "schedulers": [scheduler.state_dict() for scheduler in self._schedulers],
        }
        save_checkpoint(files.checkpoint, state, self.config)
        write_losses(files.losses, self.rows)

    def _log(self, row: Row, writer: Any) -> None:
        self.rows.append(row)
        if writer is not None:
            for name, value in row.items():
                if name != "step" and math.isfinite(value):
                    writer.add_scalar(name, value, int(row["step"]))

    def _check_finite(self, losses: Row) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise FitDiverged(f"the loss {name} is not a finite number at step {self.step}")

    def _make_schedulers(self) -> list[Any]:
        if self.config.loop.scheduler == "none":
            return []
        return [
            torch.optim.lr_scheduler.CosineAnnealingLR(getattr(optimizer, "optimizer", optimizer), self.steps)
            for optimizer in self.trainer.optimizers.values()
        ]

    def _moved(self, batch: Batch) -> Batch:
        return Batch(*(self._fabric.to_device(tensor) for tensor in batch))

    @contextmanager
    def _writer(self) -> Iterator[Any]:
        """Yield a TensorBoard writer, or None."""
        folder = self.config.loop.tensorboard
        if folder is None or not self._fabric.is_global_zero:
            yield None
            return
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(folder / self.config.loop.output.stem), purge_step=self.step + 1) as writer:
            yield writer


def write_losses(path: Path, rows: Sequence[Row]) -> None:
    """Write the losses and metrics of the logged steps as CSV; empty fields have no value."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def _check(config: TrainingConfig, files: Files) -> None:
    """Check the outputs and packages before any data is read."""
    loop = config.loop
    if importlib.util.find_spec("lightning_fabric") is None:
        raise BadInput(
            "training requires the package lightning-fabric: run pip install '.[train]' in the toolkit's folder",
            code="missing_package",
        )
    if loop.tensorboard is not None:
        tensorboard.check_installed()
    if files.model.is_dir() or not files.model.name:
        raise BadInput(f"output must be a file, got the folder {printable(files.model)}")
    check_writable(files.model.resolve().parent)
    existing = [path for path in (files.model, files.checkpoint) if path.exists()]
    if existing and not (loop.resume or loop.overwrite):
        raise BadInput(
            f"output must be a new file, got {printable(existing[0])} (--resume continues, --overwrite replaces)",
            code="output_exists",
        )


@contextmanager
def _lock(files: Files, is_main: bool) -> Iterator[None]:
    """Lock the folder of the checkpoint, which is created, and delete the samples that a killed training left there."""
    if not is_main:
        yield
        return
    files.folder.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive_lock(files.folder, files.model):
            for folder in files.folder.glob(f"{CACHE}*"):
                shutil.rmtree(folder, ignore_errors=True)
            yield
    finally:
        with suppress(OSError):
            files.folder.rmdir()  # if nothing was written


@contextmanager
def _interrupt_after_step() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed; pressed again, it interrupts at once."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, previous)


def _source(config: TrainingConfig) -> Path:
    if config.data.data is None:
        raise BadInput("data must be a folder of clean recordings, got none")
    return config.data.data


def _fabric(config: TrainingConfig) -> Any:
    """Return the devices and the precision of the training."""
    from lightning_fabric import Fabric

    for name in ("lightning_fabric", "lightning_utilities"):
        logging.getLogger(name).setLevel(logging.WARNING)
    loop = config.loop
    device = pick_device(loop.device)
    devices: Any = loop.devices
    if device.index is not None:
        devices = [device.index]
        if loop.devices != 1:
            raise BadInput(f"devices must be 1 for a single device {loop.device}, got {loop.devices}")
    if device.type == "cuda" and device.index is None and loop.devices > torch.cuda.device_count():
        raise BadInput(
            f"devices must be at most {torch.cuda.device_count()} on this machine, got {loop.devices}",
            code="unavailable",
        )
    precision: Any = loop.precision
    return Fabric(accelerator=device.type, devices=devices, precision=precision)


def _first_weights(path: Path, config: TrainingConfig) -> Weights:
    """Return the weights of a model file to start from.

    Raises:
        BadInput: the model is of another kind, rate or settings.
    """
    model = load_model(path, "load")
    check_model(model, config.kind.name, None, "load")
    if model.rate != config.data.samplerate:
        raise BadInput(f"load must be a model at {config.data.samplerate} Hz, got one at {model.rate} Hz")
    return model.networks


def _torch_seed(config: TrainingConfig, purpose: str, step: int) -> int:
    return int(torch.randint(2**62, (), generator=seeded(config.loop.seed, purpose, step)))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return settings as values that a model file may contain."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
