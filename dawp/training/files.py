"""The files of a training: the model file and the files beside it."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dawp.errors import BadInput, printable
from dawp.io.files import check_writable, exclusive_lock
from dawp.report import tensorboard
from dawp.training.settings import LoopConfig

SAMPLES = "samples-"
"""Start of the names of the temporary folders of decoded samples."""


MODEL_SUFFIX = ".pt"


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


def check_outputs(loop: LoopConfig, files: Files) -> None:
    """Check the outputs and packages before any data is read.

    Raises:
        BadInput: a package is missing, or the output is a folder, is not named as a model file or exists already.
        OSError: the folder of the output cannot be written.
    """
    if importlib.util.find_spec("lightning_fabric") is None:
        raise BadInput(
            "training requires the package lightning-fabric: run pip install '.[train]' in the toolkit's folder",
            code="missing_package",
        )
    if loop.tensorboard is not None:
        tensorboard.check_installed()
    if files.model.is_dir() or not files.model.name:
        raise BadInput(f"output must be a file, got the folder {printable(files.model)}")
    if files.model.suffix != MODEL_SUFFIX:
        raise BadInput(f"output must end in {MODEL_SUFFIX}, got {printable(files.model)}")
    check_writable(files.model.resolve().parent)
    existing = [path for path in (files.model, files.checkpoint) if path.exists()]
    if existing and not (loop.resume or loop.overwrite):
        raise BadInput(
            f"output must be a new file, got {printable(existing[0])} (--resume continues, --overwrite replaces)",
            code="output_exists",
        )


@contextmanager
def lock(files: Files, is_main: bool) -> Iterator[None]:
    """Lock the folder of the checkpoint, which is created, and delete the samples that a killed training left there."""
    if not is_main:
        yield
        return
    files.folder.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive_lock(files.folder, files.model):
            for folder in files.folder.glob(f"{SAMPLES}*"):
                shutil.rmtree(folder, ignore_errors=True)
            yield
    finally:
        with suppress(OSError):
            files.folder.rmdir()  # if nothing was written
