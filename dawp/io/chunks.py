"""Sizes in the headers of uncompressed formats: WAV, RF64, W64, AIFF, CAF, AU and NIST SPHERE.

libsndfile believes the stated size of the sound: one that is too small hides sound, and in some formats one that is
too large makes the file unreadable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal

from dawp.io.segment import Segment

Order = Literal["little", "big"]

UNKNOWN_SIZE = 0x7FFFF000  # programs that cannot seek back to the header state this or more in a 32-bit size
MAX_CHUNKS = 10_000
SEARCHED_AT_ONCE = 1 << 16  # bytes
CHUNK_NAME = re.compile(rb"[\x20-\x7e]{4}")
KNOWN_CHUNKS = {b"LIST", b"bext", b"cue ", b"smpl", b"inst", b"fact", b"PEAK", b"JUNK", b"junk", b"PAD ", b"FLLR"}
KNOWN_CHUNKS |= {b"id3 ", b"ID3 ", b"iXML", b"axml", b"_PMX", b"MARK", b"INST", b"COMT", b"APPL", b"NAME", b"ANNO"}
TRAILERS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")  # tags that other programs append, which are no chunks
BLOCK_CODECS = {0x02, 0x11, 0x31}  # MS ADPCM, IMA ADPCM, GSM 6.10: an incomplete block decodes to garbage
SHORT_BLOCK = 160  # frames in a block of the other codecs that fill up the last one: G.721 and NMS ADPCM
W64_GUID = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of all chunks but the first, after their names


@dataclass(frozen=True)
class Data:
    """The part of a file that holds its sound.

    Attributes:
        start: position of the first byte of sound.
        stated: size of the sound in the header in bytes; None for a size that is left open.
        position: of the size in the header; None if libsndfile ignores it.
        width: of the size in the header in bytes.
        order: byte order.
        extra: bytes that the size in the header counts and that hold no sound.
        block: size of a compressed block in bytes.
        chunked: other chunks may follow.
        clipped: libsndfile reads sound whose size is too large or left open to the end of the file.
        frames: frames without the padding of the last block; None if the header does not state it.
        block_frames: frames in a compressed block.
    """

    start: int
    stated: int | None
    position: int | None
    width: int
    order: Order
    extra: int = 0
    block: int = 1
    chunked: bool = True
    clipped: bool = True
    frames: int | None = None
    block_frames: int = 0

    def segment(self, file: IO[bytes]) -> Segment:
        """The file with a size that agrees with the sound in it."""
        there = max(0, file.seek(0, os.SEEK_END) - self.start)
        if self.stated is None and not self.clipped:
            return Segment(patches=self._size(there))
        if self.stated is None or self.stated == there or there == 0:
            return self._segment()
        if self.stated > there:
            usable = there - there % self.block
            unknown = self.width == 4 and self.stated >= UNKNOWN_SIZE
            lacking = 0.0 if unknown or not usable else (self.stated - usable) / usable
            wrong = usable != there or not self.clipped
            return self._segment(patches=self._size(usable) if wrong else {}, lacking=lacking)
        if not self.chunked or _is_sound(file, self.start + self.stated, self.order, self.width):
            return Segment(patches=self._size(there), understated=True)
        stop = self.start + self.stated if self.position is None else None
        return self._segment(stop=stop)

    def _segment(self, **faults: Any) -> Segment:
        return Segment(frames=self.frames, block_frames=self.block_frames, **faults)

    def _size(self, size: int) -> dict[int, bytes]:
        if self.position is None:
            return {}
        largest = 256**self.width - 1
        return {self.position: min(size + self.extra, largest).to_bytes(self.width, self.order)}


def _is_sound(file: IO[bytes], stop: int, order: Order, width: int) -> bool:
    """Whether the sound goes on where it should end: neither a chunk, nor a tag, nor only zeros follow."""
    left = file.seek(0, os.SEEK_END) - stop
    for begin in (stop, stop + stop % 2):  # some programs leave out the byte that makes a size even
        file.seek(begin)
        head = file.read(4 + width)
        if len(head) < 4 + width or head.startswith(TRAILERS):
            return False
        if head[:4] in KNOWN_CHUNKS or (CHUNK_NAME.match(head) and int.from_bytes(head[4:], order) <= left):
            return False
        if head[4:].startswith(W64_GUID[:width]):
            return False
    file.seek(stop)
    while part := file.read(SEARCHED_AT_ONCE):
        if part.count(0) != len(part):
            return True
    return False


def find_data(file: IO[bytes]) -> Data | None:
    """The sound in a file of one of these formats; None for another format or a header without it."""
    file.seek(0)
    magic = file.read(12)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:] == b"WAVE":
        return _wav(file, "big" if magic[:4] == b"RIFX" else "little")
    if magic[:4] == b"FORM" and magic[8:] in (b"AIFF", b"AIFC"):
        return _aiff(file)
    if magic[:4] == b"riff":
        return _w64(file)
    if magic[:4] == b"caff":
        return _caf(file)
    if magic[:4] in (b".snd", b"dns."):
        return _au(file, "big" if magic[:4] == b".snd" else "little")
    return _nist(file) if magic[:7] == b"NIST_1A" else None


def chunks(file: IO[bytes], at: int, order: Order, width: int = 4) -> Iterator[tuple[bytes, int, int]]:
    """Name, position of the content and size of each chunk."""
    for _ in range(MAX_CHUNKS):
        file.seek(at)
        head = file.read(4 + width)
        size = int.from_bytes(head[4:], order)
        if len(head) < 4 + width:
            return
        yield head[:4], at + len(head), size
        at += len(head) + size + (size % 2 if width == 4 else 0)
        if at >= file.seek(0, os.SEEK_END):
            return


def _wav(file: IO[bytes], order: Order) -> Data | None:
    long_size: tuple[int, int] | None = None
    block, block_frames, frames = 1, SHORT_BLOCK, None
    for name, at, size in chunks(file, 12, order):
        file.seek(at)
        if name == b"ds64":
            long_size = int.from_bytes(file.read(16)[8:], "little"), at + 8
        elif name == b"fmt ":
            content = file.read(20)
            if int.from_bytes(content[:2], order) in BLOCK_CODECS:
                block = int.from_bytes(content[12:14], order) or 1
                block_frames = int.from_bytes(content[18:20], order)
        elif name == b"fact":
            frames = int.from_bytes(file.read(4), order)
        elif name == b"data":
            if long_size and size == 0xFFFFFFFF:
                return Data(at, *long_size, 8, "little", block=block)
            return Data(at, size, at - 4, 4, order, block=block, frames=frames, block_frames=block_frames)
    return None


def _aiff(file: IO[bytes]) -> Data | None:
    for name, at, size in chunks(file, 12, "big"):
        if name == b"SSND":
            return Data(at + 8, max(0, size - 8), at - 4, 4, "big", extra=8)
    return None


def _w64(file: IO[bytes]) -> Data | None:
    at, end = 40, file.seek(0, os.SEEK_END)
    for _ in range(MAX_CHUNKS):
        file.seek(min(at, end))
        head = file.read(24)
        size = int.from_bytes(head[16:], "little")
        if head[4:16] != W64_GUID or size < 24:
            return None
        if head[:4] == b"data":
            return Data(at + 24, size - 24, None, 8, "little")
        at += size + -size % 8
    return None


def _caf(file: IO[bytes]) -> Data | None:
    for name, at, size in chunks(file, 8, "big", width=8):
        if name == b"data":
            stated = None if size == (1 << 64) - 1 else max(0, size - 4)
            return Data(at + 4, stated, at - 8, 8, "big", extra=4, clipped=False)
    return None


def _au(file: IO[bytes], order: Order) -> Data:
    file.seek(4)
    start, size = (int.from_bytes(file.read(4), order) for _ in range(2))
    return Data(start, None if size == 0xFFFFFFFF else size, 8, 4, order, chunked=False, clipped=False)


def _nist(file: IO[bytes]) -> Data | None:
    file.seek(0)
    header = file.read(1024)
    numbers = {name: int(value) for name, value in re.findall(rb"(\w+) -i (\d{1,12})\s", header)}
    try:
        size = numbers[b"sample_count"] * numbers[b"channel_count"] * numbers[b"sample_n_bytes"]
        return Data(int(header[8:16]), size, None, 8, "little", chunked=False)
    except (KeyError, ValueError):
        return None
