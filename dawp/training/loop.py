"""The training loop, which all kinds of models share."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dawp.devices import memory_as_bad_input
from dawp.errors import BadInput, printable
from dawp.methods.trained.weights import Model, check_model, load_model, save_model
from dawp.parallel.progress import progress_bar
from dawp.randomness import seeded
from dawp.training.card import write_card
from dawp.training.checkpoint import load_checkpoint, save_checkpoint
from dawp.training.data import Recordings, Windows, held_out_clips, split
from dawp.training.devices import is_first_process, make_fabric
from dawp.training.files import SAMPLES, Files, check_outputs, lock
from dawp.training.interrupt import interrupt_after_step
from dawp.training.losses import HELD_OUT, Row, check_finite, draw_losses, open_tensorboard, write_losses
from dawp.training.settings import TrainingConfig
from dawp.training.trainer import Batch, Trainer

Weights = dict[str, dict[str, Tensor]]
"""Weights of each network by name, by the name of the network."""


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
    check_outputs(config.loop, files)
    fabric = make_fabric(config.loop)
    is_first = is_first_process()
    state = load_checkpoint(files.checkpoint, config) if config.loop.resume else None
    weights = None if config.loop.load is None else _first_weights(config.loop.load, config)
    training_paths, test_paths = split(config.data.get_source(), config)
    with (
        memory_as_bad_input(printable(files.model), "window"),
        lock(files, is_first),
        tempfile.TemporaryDirectory(prefix=SAMPLES, dir=files.folder) as folder,
    ):
        fabric.launch()
        training = Recordings(training_paths, config.data.samplerate, Path(folder, "training"))
        held_out = Recordings(test_paths, config.data.samplerate, Path(folder, "held_out"))
        run = _Training(config, fabric, training, held_out, weights)
        if state is not None:
            run.resume(state)
        run.run(files, progress and is_first)
        return write_card(
            files.card,
            config,
            run.trainer,
            run.rows,
            training,
            held_out,
            str(fabric.device),
            run.seconds,
            is_first,
        )


class _Training:
    """A training in progress."""

    def __init__(
        self, config: TrainingConfig, fabric: Any, training: Recordings, held_out: Recordings, weights: Weights | None
    ) -> None:
        self.config, self._fabric = config, fabric
        self._recordings = {"recordings": training.identity(), "held_out": held_out.identity()}
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
            open_tensorboard(self._curves(), self.step + 1) as add_to_curves,
            interrupt_after_step() as is_interrupted,
        ):
            bar.update(self.step)
            if not self.rows:
                self.rows.append({"step": 0, **self._evaluate()})
                add_to_curves(self.rows[-1])
            for batch in batches:
                self.step += 1
                losses = self._one_step(self._moved(batch))
                row: Row = {}
                if self.step % loop.log_every == 0 or self.step == self.steps:
                    row = check_finite(losses, self.step)
                    bar.set_postfix({name: f"{value:.3g}" for name, value in row.items()}, refresh=False)
                if self.step % loop.evaluate_every == 0 or self.step == self.steps:
                    row |= self._evaluate()
                if row:
                    self.rows.append({"step": self.step, **row})
                    add_to_curves(self.rows[-1])
                bar.update(1)
                self.seconds = earlier + time.monotonic() - began
                is_due = time.monotonic() - saved >= loop.checkpoint_every and self.step < self.steps
                if is_due or is_interrupted():
                    check_finite(losses, self.step)
                    self._save(files)
                    saved = time.monotonic()
                if is_interrupted():
                    raise KeyboardInterrupt
        self._save(files)
        if self._fabric.is_global_zero:
            draw_losses(files.plot, self.rows)
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
        for name, found in self._recordings.items():
            if state.get(name, found) != found:  # checkpoints of earlier versions have no held-out recordings
                kind = "held-out recordings" if name == "held_out" else "recordings"
                raise BadInput(f"resume must have the {kind} of its checkpoint, got a folder with other ones")
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

    def _curves(self) -> Path | None:
        """Return the folder of the curves for TensorBoard, which the first process writes."""
        folder = self.config.loop.tensorboard
        return folder / self.config.loop.output.stem if folder and self._fabric.is_global_zero else None

    def _save(self, files: Files) -> None:
        if not self._fabric.is_global_zero:
            return
        state = {
            **self._recordings,
            "step": self.step,
            "rows": self.rows,
            "seconds": self.seconds,
            "trainer": self.trainer.state(),
            "schedulers": [scheduler.state_dict() for scheduler in self._schedulers],
        }
        save_checkpoint(files.checkpoint, state, self.config)
        write_losses(files.losses, self.rows)

    def _make_schedulers(self) -> list[Any]:
        if self.config.loop.scheduler == "none":
            return []
        return [
            torch.optim.lr_scheduler.CosineAnnealingLR(getattr(optimizer, "optimizer", optimizer), self.steps)
            for optimizer in self.trainer.optimizers.values()
        ]

    def _moved(self, batch: Batch) -> Batch:
        return Batch(*(self._fabric.to_device(tensor) for tensor in batch))


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
