"""A range of a sound file that libsndfile decodes by itself, with what has to be corrected in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

COPIED_AT_ONCE = 1 << 20  # bytes


@dataclass(frozen=True)
class Segment:
    """One logical stream in a file: the whole file, except in chained Ogg files.

    Attributes:
        start: first byte.
        stop: the byte after the last one; None for the end of the file.
        prefix: bytes to insert before it.
        omitted: ranges of bytes in the file to leave out, in order.
        patches: bytes to write over the file's own, by position in the file before any omitted range.
        frames: frames without the padding of the last block; None if the header does not state it.
        block_frames: frames in a compressed block.
        lacking: sound that the header states and the file lacks, relative to the sound in the file.
        seconds: length by the positions in an Ogg stream; None for another format.
        damaged: bytes are damaged; libsndfile may count only what is left.
        cut: the file ends inside of the sound, and the header does not state how much is missing.
        understated: the header states less sound than there is.
    """

    start: int = 0
    stop: int | None = None
    prefix: bytes = b""
    omitted: tuple[tuple[int, int], ...] = ()
    patches: Mapping[int, bytes] = field(default_factory=dict)
    frames: int | None = None
    block_frames: int = 0
    lacking: float = 0.0
    seconds: float | None = None
    damaged: bool = False
    cut: bool = False
    understated: bool = False

    def corrected(self, file: IO[bytes]) -> IO[bytes]:
        """The segment as a file of its own: ``file`` itself if it can be read as it is, else a temporary copy.

        A copy on disk, since a Ctrl-C would be lost while libsndfile calls the methods of a Python object that
        corrects the bytes on the way.
        """
        if not (self.start or self.stop or self.prefix or self.omitted or self.patches):
            return file
        copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed by the caller)
        copy.write(self.prefix)
        end = file.seek(0, os.SEEK_END) if self.stop is None else self.stop
        starts = [self.start, *(stop for _, stop in self.omitted)]
        stops = [*(start for start, _ in self.omitted), end]
        for start, stop in zip(starts, stops, strict=True):
            file.seek(start)
            while part := file.read(max(0, min(stop - file.tell(), COPIED_AT_ONCE))):
                copy.write(part)
        for position, content in self.patches.items():
            copy.seek(len(self.prefix) + position - self.start)
            copy.write(content)
        copy.flush()
        return copy
