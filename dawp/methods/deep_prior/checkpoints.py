"""Checkpoints: the state of a fit in a file, from which an interrupted fit resumes with the same numbers."""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from dawp.config import Config
from dawp.errors import printable
from dawp.io.files import atomic_write
from dawp.problem import Problem

log = logging.getLogger(__name__)

SUFFIX = ".checkpoint"
FORMAT = 3  # of the state: another number makes older files those of another fit
SEAL = hashlib.sha256().digest_size  # bytes before the content
MAX_OVERHEAD = 1 / 20  # share of a fit's time that its checkpoints may take


class Checkpoint:
    """The file of one fit.

    Args:
        path: the file, in an existing folder.
        every: seconds between checkpoints; None for no checkpoints during the fit.
        digest: identifies the fit, from ``fit_digest``.
        saved: called with the path after each write.
    """

    def __init__(
        self, path: Path, every: float | None, digest: str, saved: Callable[[Path], None] | None = None
    ) -> None:
        self._path, self._every, self._digest, self._saved = path, every, digest, saved
        self._latest = time.monotonic()
        self._cost = 0.0

    def load(self) -> Mapping[str, Any] | None:
        """Return the latest state, or None. A file that cannot be used is renamed, with a warning."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        seal, content = content[:SEAL], content[SEAL:]
        why = "damaged"
        if seal == hashlib.sha256(content).digest():  # torch.load does not verify the content
            with suppress(pickle.UnpicklingError):  # the file was never a checkpoint
                state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
                if state["digest"] == self._digest:
                    return state
                why = "of another fit"
        aside = self._path.with_name(f"{self._path.name}.unusable")
        log.warning("%s is %s and was renamed to %s: the fit restarts", printable(self._path), why, aside.name)
        self._path.replace(aside)
        return None

    @property
    def is_due(self) -> bool:
        if self._every is None:
            return False
        return time.monotonic() - self._latest >= max(self._every, self._cost / MAX_OVERHEAD)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the saved state."""
        began = time.monotonic()
        content = io.BytesIO()  # a full disk is an OSError then, which torch.save would make a RuntimeError
        torch.save({**state, "digest": self._digest}, content)
        with atomic_write(self._path) as temporary, temporary.open("wb") as file:
            file.write(hashlib.sha256(content.getbuffer()).digest())
            file.write(content.getbuffer())
        if self._saved:
            self._saved(self._path)
        self._latest = time.monotonic()
        self._cost = self._latest - began


class Checkpoints:
    """The checkpoints of all fits of one problem, in a folder.

    Args:
        folder: an existing folder.
        saved: called with the path of a file after each write.
    """

    def __init__(self, folder: Path, saved: Callable[[Path], None] | None = None) -> None:
        self._folder, self._saved = folder, saved

    def of(self, number: int, problem: Problem, config: Config, repetition: int) -> Checkpoint:
        """The checkpoint of one of the fits."""
        path = path_of(self._folder, number)
        return Checkpoint(path, config.work.checkpoint_every, fit_digest(problem, config, repetition), self._saved)


def path_of(folder: Path, number: int) -> Path:
    """The file of one of the fits."""
    return folder / f"fit_{number}{SUFFIX}"


def found(folder: Path, number: int | None = None) -> list[Path]:
    """Return the checkpoints in a folder, or only that of fit ``number``; hidden temporary files are not included."""
    names = "*" if number is None else path_of(folder, number).stem
    return sorted(path for path in folder.glob(f"{names}{SUFFIX}") if not path.name.startswith("."))


def clear(folder: Path) -> None:
    """Delete the checkpoints of fits that are no longer needed."""
    for path in found(folder):
        path.unlink(missing_ok=True)


def fit_digest(problem: Problem, config: Config, repetition: int) -> str:
    """Return a digest, in 16 characters, of everything that the numbers of a fit depend on."""
    network = (config.generator, config.generator_settings)
    settings = (config.task, network, config.fit, config.stop, config.metrics, repetition)
    environment = (FORMAT, torch.__version__, problem.observed.device.type)
    digest = hashlib.sha256(repr((settings, environment)).encode())
    digest.update(problem.operator.digest().encode())
    for waveform in (problem.observed, problem.clean, problem.blend):
        if waveform is not None:
            digest.update(waveform.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
