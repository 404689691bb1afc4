"""Finished blocks in a hidden folder beside the output, for a command that goes on with them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dawp.errors import shown
from dawp.io.files import held, whole
from dawp.restoration.blocks import Block, Restored


def _kept_folder(output: Path) -> Path:
    """The hidden folder of an output's finished blocks."""
    # Named by a digest, since the output's own name may be as long as names can be.
    return output.parent / f".dawp-{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:12]}"


@contextmanager
def _kept_for(output: Path, identity: dict[str, Any]) -> Iterator[_Kept]:
    """The finished blocks of an output in a hidden folder beside it, which other commands keep out of meanwhile.

    The folder is gone afterwards unless it holds blocks: those of other settings stay for the command that made them.
    """
    folder = _kept_folder(output)
    settings = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    try:
        with held(folder, output):
            kept = _Kept(folder / settings)
            try:
                yield kept
            finally:
                kept.tidy()
    finally:
        with suppress(OSError):
            folder.rmdir()


class _Kept:
    """Finished blocks in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)

    def workplace(self, index: int, channel: int) -> Path:
        """A folder for the checkpoints of one channel of a block."""
        folder = self.folder / f"{index:06d}_{channel}"
        folder.mkdir(exist_ok=True)
        return folder

    def tidy(self) -> None:
        """Take away the folders in which nothing is."""
        for folder in [*self.folder.glob("*_*/"), self.folder]:
            with suppress(OSError):
                folder.rmdir()

    def put(self, index: int, done: Restored) -> None:
        import numpy as np

        with whole(self._path(index)) as temporary, temporary.open("wb") as file:
            np.savez(file, samples=done.samples.numpy(), epochs=np.array(done.epochs, dtype=np.int64))

    def get(self, index: int, block: Block, channels: int) -> Restored | None:
        """A block that was put in, now or by an earlier command; None if it is not there whole."""
        import numpy as np

        try:
            with np.load(self._path(index), allow_pickle=False) as file:
                samples, epochs = file["samples"], file["epochs"]
        except Exception:  # whatever a damaged file makes of its reader
            return None
        wanted = [(channels, block.stop - block.start), (channels,)]
        if [samples.shape, epochs.shape] != wanted or [samples.dtype, epochs.dtype] != [np.float32, np.int64]:
            return None
        return Restored(torch.from_numpy(samples), epochs.tolist()) if np.isfinite(samples).all() else None

    def again(self, index: int, block: Block, channels: int) -> Tensor:
        """The samples of a block that this command has put in or found."""
        done = self.get(index, block, channels)
        if done is None:
            raise OSError(f"{shown(self._path(index))}: is gone; the same command makes it anew")
        return done.samples

    def remove(self) -> None:
        """Take the blocks away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"
