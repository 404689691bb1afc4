"""Read sound files of all formats that libsndfile supports, up to the actual end of their sound.

libsndfile trusts headers: it may report frames that it cannot decode, and omit existing ones. Therefore a file is
always decoded forward from its start, which every encoding supports and which is reproducible.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

from dawp.errors import BadInput, ErrorCode, printable
from dawp.io import mp3, ogg
from dawp.io.chunks import find_data
from dawp.io.segment import Segment
from dawp.io.sources import unread_reason

log = logging.getLogger(__name__)

Array = Any  # np.ndarray, float32 [n, channels]; numpy is imported where it is needed

PADDED = ("IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32")
MAX_ESTIMATE_ERROR = 2304  # frames; libsndfile estimates the length of MPEG audio without a length header


class Reader:
    """A sound file opened for reading; a context manager.

    Faults of the file are logged in one warning when the end of its sound is reached.

    Args:
        path: path of the file.

    Attributes:
        rate: sample rate in Hz.
        channels: number of channels.
        format: libsndfile's name of the format.
        subtype: libsndfile's name of the encoding.

    Raises:
        BadInput: the file does not exist or cannot be read as sound.
    """

    def __init__(self, path: Path) -> None:
        from dawp.io.decoder import ForwardFile

        self._path = path
        self._copy: tuple[int, IO[bytes]] | None = None
        self._frames: int | None = None
        with _as_bad_input(path), ExitStack() as stack:
            # Open the file here, because soundfile does not accept every valid file name. Pass the descriptor to
            # libsndfile, because Ctrl-C would be lost while it calls the methods of a Python file.
            self._file = stack.enter_context(path.open("rb"))
            stack.callback(self._drop_copy)
            self._segments = _segments(self._file)
            with ForwardFile(self._part(0)) as first:
                self.rate, self.channels = int(first.samplerate), int(first.channels)
                self.format, self.subtype = str(first.format), str(first.subtype)
                self._claimed = first.claimed_frames
            self._stack = stack.pop_all()
        self._rewind()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._decoder.close()
        self._stack.close()

    @property
    def stated_frames(self) -> int:
        """Number of frames according to the header, which may be wrong; the decoded number if there is none."""
        if len(self._segments) > 1:
            return round(self.rate * sum(segment.seconds or 0 for segment in self._segments))
        return self.frames if self._claimed is None else self._claimed

    @property
    def frames(self) -> int:
        """Number of frames that can be decoded; decodes the file unless its end has been reached."""
        if self._frames is None:
            for _ in self.blocks(1 << 16):
                pass
        return self._frames or 0

    def blocks(self, size: int) -> Iterator[Array]:
        """Yield all frames as float32 arrays ``[n, channels]``, where n is ``size`` except in the last one."""
        start = 0
        while len(block := self.read(start, start + size)):
            yield block
            start += len(block)

    def read(self, start: int, stop: int) -> Array:
        """Return the frames from ``start`` to ``stop`` as float32 ``[n, channels]``; fewer at the end of the sound.

        Successive calls should move forward or overlap; otherwise the file is decoded again from its start.

        Raises:
            BadInput: the file cannot be read.
        """
        import numpy as np

        if start < self._begin:
            self._decoder.close()
            self._rewind()
        with _as_bad_input(self._path):
            while self._end < stop and (piece := next(self._decoder, None)) is not None:
                self._pieces.append(piece)
                self._end += len(piece)
                self._forget(start)
        self._forget(start)
        parts, at = [np.zeros((0, self.channels), dtype=np.float32)], self._begin
        for piece in self._pieces:
            parts.append(piece[max(0, start - at) : max(0, stop - at)])
            at += len(piece)
        return np.concatenate(parts)

    def _forget(self, start: int) -> None:
        """Drop the pieces that end before ``start``."""
        while self._pieces and self._begin + len(self._pieces[0]) <= start:
            self._begin += len(self._pieces.popleft())

    def _rewind(self) -> None:
        self._pieces: deque[Array] = deque()
        self._begin = self._end = 0
        self._decoder = self._decode()

    def _decode(self) -> Generator[Array, None, None]:
        """Yield all frames in pieces."""
        faults = _Faults()
        decoded = 0
        for index in range(len(self._segments)):
            for samples in self._decode_segment(index, faults):
                decoded += len(samples)
                yield samples
        self._frames = decoded
        if decoded and (text := faults.describe(decoded, self.rate)):
            _warn_once(f"{printable(self._path)}: {text}")

    def _decode_segment(self, index: int, faults: _Faults) -> Iterator[Array]:
        """Yield the frames of one segment in pieces and add its faults to ``faults``."""
        from dawp.io.decoder import ForwardFile, decode

        segment, part = self._segments[index], self._part(index)
        with ForwardFile(part) as sound:
            claimed = sound.claimed_frames
            if (sound.samplerate, sound.channels) != (self.rate, self.channels):
                faults.left_out += claimed / sound.samplerate if claimed else 0
                return
        limit = self._limit(segment, claimed)
        decoded = 0
        with closing(decode(part, limit)) as pieces:
            for samples, is_damaged in pieces:
                decoded += len(samples)
                faults.replaced += len(samples) if is_damaged else 0
                faults.is_cut |= is_damaged and not len(samples)
                yield samples
        missing = self._expected(segment, claimed if limit is None else limit) - decoded
        is_estimate = self.subtype.startswith("MPEG") and (self.format, self.subtype) != ("MP3", "MPEG_LAYER_III")
        faults.missing += missing if missing > (MAX_ESTIMATE_ERROR if is_estimate else 0) else 0
        faults.is_cut |= segment.cut
        faults.is_understated |= segment.understated

    def _limit(self, segment: Segment, claimed: int | None) -> int | None:
        """Return the number of frames without the padding of the last block; None if unknown."""
        frames = segment.frames
        if self.subtype not in PADDED or not frames or not claimed or frames * self.channels == claimed:
            return None  # libsndfile itself states the frames of IMA ADPCM divided by the number of channels
        return frames if 0 < claimed - frames <= segment.block_frames else None

    def _expected(self, segment: Segment, claimed: int | None) -> float:
        """Return the number of frames that a segment should have; 0 if unknown."""
        if segment.damaged and segment.seconds:
            return max(claimed or 0, segment.seconds * self.rate)
        return (claimed or 0) * (1 + segment.lacking)

    def _part(self, index: int) -> IO[bytes]:
        """Return a segment as a file that libsndfile can read; keep the last temporary copy."""
        if self._copy and self._copy[0] == index:
            return self._copy[1]
        part = self._segments[index].corrected(self._file)
        if part is not self._file:
            self._drop_copy()
            self._copy = index, part
        return part

    def _drop_copy(self) -> None:
        if self._copy:
            self._copy[1].close()
            self._copy = None


@dataclass
class _Faults:
    """Faults of a file.

    Attributes:
        missing: frames stated by the headers that cannot be decoded.
        replaced: damaged frames replaced by zeros.
        left_out: seconds of sound whose sample rate or number of channels differs from the first segment.
        is_cut: the file ends within the sound, or at a damaged frame.
        is_understated: the header states less sound than the file contains.
    """

    missing: float = 0.0
    replaced: int = 0
    left_out: float = 0.0
    is_cut: bool = False
    is_understated: bool = False

    def describe(self, decoded: int, rate: int) -> str:
        """Describe all faults in one line; empty if there are none."""
        length = f"{decoded / rate:.2f} s"
        texts = []
        if self.missing >= 1:
            texts.append(f"ends early, at {length}: {self.missing / rate:.3f} s are missing or damaged")
        elif self.is_cut:
            texts.append(f"ends early, at {length}: the rest is missing")
        if self.replaced:
            texts.append(f"{self.replaced / rate:.3f} s are damaged and replaced by silence")
        if self.left_out:
            texts.append(f"{self.left_out:.2f} s with another sample rate or number of channels are left out")
        if self.is_understated:
            texts.append(f"the header states less than the {length} of sound in the file; all of it is read")
        return "; ".join(texts)


def _segments(file: IO[bytes]) -> list[Segment]:
    """Return the segments of a file to decode in order."""
    file.seek(0)
    magic = file.read(4)
    if magic == b"OggS":
        return ogg.links(file)
    if data := find_data(file):
        return [data.segment(file)]
    return [mp3.corrected(file) if magic[:3] == b"ID3" or magic[:1] == b"\xff" else Segment()]


@cache
def _warn_once(message: str) -> None:
    """Log a warning once per process: a recording may be read several times."""
    log.warning("%s", message)


@contextmanager
def _as_bad_input(path: Path) -> Iterator[None]:
    """Convert errors of reading a sound file to BadInput."""
    import soundfile

    try:
        yield
    except BadInput:
        raise
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        why = getattr(error, "error_string", error)  # without the number of the descriptor
        reason = unread_reason(path) or f"cannot be read as sound ({printable(why)})"
        code: ErrorCode = "not_found" if isinstance(error, FileNotFoundError) else "unreadable_input"
        raise BadInput(f"{printable(path)}: {reason}", code=code) from None
