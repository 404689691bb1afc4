"""Cache finished blocks on disk, so that an interrupted command can resume."""

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

from dawp.errors import printable
from dawp.io.files import atomic_write, exclusive_lock
from dawp.restoration.blocks import Block, RestoredBlock


def cache_folder(output: Path) -> Path:
    """Return the hidden folder beside an output with its finished blocks."""
    # A digest, because the name of the output may already have the maximum length of a file name.
    return output.parent / f".dawp-{hashlib.sha256(os.fsencode(output.name)).hexdigest()[:12]}"


@contextmanager
def open_cache(output: Path, identity: dict[str, Any], what: Path | None = None) -> Iterator[BlockCache]:
    """Lock the cache folder of an output, and open the cache for the given settings.

    Blocks of other settings stay in the folder. The folder is removed afterwards if it is empty.

    Args:
        output: the file that is restored.
        identity: everything that the restored samples depend on.
        what: path to name in messages; None for the output.

    Raises:
        BadInput: another command is restoring this output.
    """
    folder = cache_folder(output)
    settings = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    try:
        with exclusive_lock(folder, what or output):
            cache = BlockCache(folder / settings)
            try:
                yield cache
            finally:
                cache.remove_empty_folders()
    finally:
        with suppress(OSError):
            folder.rmdir()


class BlockCache:
    """A folder of finished blocks, one ``.npz`` file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)

    def checkpoint_folder(self, index: int, channel: int) -> Path:
        """Create and return the folder for the checkpoints of one channel of a block."""
        folder = self.folder / f"{index:06d}_{channel}"
        folder.mkdir(exist_ok=True)
        return folder

    def put(self, index: int, restored: RestoredBlock) -> None:
        """Store a block."""
        import numpy as np

        with atomic_write(self._path(index)) as temporary, temporary.open("wb") as file:
            np.savez(file, samples=restored.samples.numpy(), epochs=np.array(restored.epochs, dtype=np.int64))

    def get(self, index: int, block: Block, channels: int) -> RestoredBlock | None:
        """Return a stored block, or None if its file is missing, damaged or of another shape."""
        import numpy as np

        try:
            with np.load(self._path(index), allow_pickle=False) as file:
                samples, epochs = file["samples"], file["epochs"]
        except Exception:  # a damaged file can make its reader raise anything
            return None
        shapes = [(channels, block.stop - block.start), (channels,)]
        if [samples.shape, epochs.shape] != shapes or [samples.dtype, epochs.dtype] != [np.float32, np.int64]:
            return None
        return RestoredBlock(torch.from_numpy(samples), epochs.tolist()) if np.isfinite(samples).all() else None

    def samples(self, index: int, block: Block, channels: int) -> Tensor:
        """Return the samples ``[channels, stop - start]`` of a block that this command has stored or found.

        Raises:
            OSError: the file was deleted or damaged in the meantime.
        """
        restored = self.get(index, block, channels)
        if restored is None:
            raise OSError(
                f"{printable(self._path(index))}: was deleted or damaged; run the command again to recompute it"
            )
        return restored.samples

    def remove(self) -> None:
        """Delete all blocks and checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def remove_empty_folders(self) -> None:
        """Delete the folders of checkpoints, and the cache itself, where they are empty."""
        for folder in [*self.folder.glob("*_*/"), self.folder]:
            with suppress(OSError):
                folder.rmdir()

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"
