"""A byte range of a sound file that libsndfile can decode after corrections."""

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
        prefix: bytes to insert before the segment.
        omitted: byte ranges of the file to leave out, in order.
        patches: replacement bytes by position in the file; positions precede all omitted ranges.
        frames: frames without the padding of the last block; None if the header does not state it.
        block_frames: frames in a compressed block.
        lacking: missing sound according to the header, relative to the sound in the file.
        seconds: length according to the positions in an Ogg stream; None for other formats.
        damaged: True if bytes are damaged; libsndfile may then count only intact frames.
        cut: True if the file ends within the sound and the header does not state how much is missing.
        understated: True if the header states less sound than the file contains.
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
        """Return the segment as a file: ``file`` itself if no corrections are needed, else a temporary copy.

        The copy is on disk, because Ctrl-C would be lost while libsndfile calls the methods of a Python object.
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
