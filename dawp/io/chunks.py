"""Headers of uncompressed formats: the chunks of WAV, RF64, W64, AIFF and CAF files, and where the sound of a file is.

libsndfile believes the stated size of the sound: one that is too small hides sound, and in some formats one that is
too large makes the file unreadable.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from dawp.io.segment import Segment

Order = Literal["little", "big"]

UNKNOWN_SIZE = 0x7FFFF000  # programs that cannot seek back to the header state this or more in a 32-bit size
MAX_CHUNKS = 10_000
SEARCHED_AT_ONCE = 1 << 16  # bytes
CHUNK_NAME = re.compile(rb"[\x20-\x7e]{4}")
KNOWN_CHUNKS = {b"data", b"SSND", b"LIST", b"bext", b"cue ", b"smpl", b"inst", b"fact", b"PEAK", b"JUNK", b"junk"}
KNOWN_CHUNKS |= {b"PAD ", b"FLLR", b"id3 ", b"ID3 ", b"iXML", b"axml", b"_PMX"}
KNOWN_CHUNKS |= {b"MARK", b"INST", b"COMT", b"APPL", b"NAME", b"ANNO"}
TRAILERS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")  # tags that other programs append, which are no chunks
BLOCK_CODECS = {0x02, 0x11, 0x31}  # MS ADPCM, IMA ADPCM, GSM 6.10: an incomplete block decodes to garbage
SHORT_BLOCK = 160  # frames in a block of the other codecs that fill up the last one: G.721 and NMS ADPCM
W64_SUFFIX = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of most chunks, after their names
W64_LIST_SUFFIX = bytes.fromhex("2f91cf11a5d628db04c10000")


class Container(NamedTuple):
    """Layout of a file that is made of chunks.

    Attributes:
        family: files of one family have the same chunks.
        order: byte order.
        first: position of the first chunk.
        width: of a chunk's size in bytes.
        suffixes: what may follow the four letters of a chunk's name.
        counts_header: the size includes the name and itself.
        align: chunks begin at multiples of this many bytes.
        total_at: position of the size of the whole file; None if it is not stored.
        total_width: its width in bytes.
        total_excludes: bytes of the file that it does not count.
        max_total: the largest that programs accept.
    """

    family: str
    order: Order
    first: int
    width: int = 4
    suffixes: tuple[bytes, ...] = (b"",)
    counts_header: bool = False
    align: int = 2
    total_at: int | None = 4
    total_width: int = 4
    total_excludes: int = 8
    max_total: int = 2**32 - 2

    @property
    def header(self) -> int:
        """Bytes before the content of a chunk."""
        return 4 + len(self.suffixes[0]) + self.width

    def pad(self, position: int) -> int:
        """Where the next chunk begins if the content of one ends at ``position``."""
        return -(-position // self.align) * self.align

    def pack(self, name: bytes, content: bytes) -> bytes:
        """A chunk."""
        size = len(content) + self.counts_header * self.header
        packed = name + self.suffixes[0] + size.to_bytes(self.width, self.order) + content
        return packed.ljust(self.pad(len(packed)), b"\0")

    def write_total(self, file: IO[bytes], total: int) -> None:
        """State the size of the whole file, without what it does not count."""
        if self.total_at is not None:
            file.seek(self.total_at)
            file.write(total.to_bytes(self.total_width, self.order))


RIFF = Container("RIFF", "little", 12)
RIFX = RIFF._replace(family="RIFX", order="big")
RF64 = RIFF._replace(total_at=20, total_width=8, max_total=2**63)
W64 = Container("RIFF", "little", 40, 8, (W64_SUFFIX, W64_LIST_SUFFIX), True, 8, 16, 8, 0, 2**63)
AIFF = Container("AIFF", "big", 12, max_total=2**31 - 1)
CAF = Container("CAF", "big", 8, 8, align=1, total_at=None, max_total=2**63)

CONTAINERS = {
    **{(b"RIFF", b"WAVE"): RIFF, (b"RIFX", b"WAVE"): RIFX, (b"RF64", b"WAVE"): RF64, (b"BW64", b"WAVE"): RF64},
    **{(b"FORM", b"AIFF"): AIFF, (b"FORM", b"AIFC"): AIFF},
}
"""By the first four bytes of a file and those after its size."""


class Chunk(NamedTuple):
    """A chunk of a file.

    Attributes:
        name: four bytes.
        start: position of the content.
        size: of the content in bytes, by the header; it may exceed the file.
        size_at: position of the size.
        width: of the size in bytes.
    """

    name: bytes
    start: int
    size: int
    size_at: int
    width: int

    @property
    def is_open(self) -> bool:
        """The size is left open."""
        return self.size == (1 << 8 * self.width) - 1


def container_of(file: IO[bytes]) -> Container | None:
    """Layout of an open file; None if it is not made of chunks."""
    file.seek(0)
    magic = file.read(12)
    if magic[:4] in (b"riff", b"caff"):
        return W64 if magic[:4] == b"riff" else CAF
    return CONTAINERS.get((magic[:4], magic[8:]))


def chunks_of(file: IO[bytes]) -> Iterator[Chunk]:
    """Chunks of an open file in order, up to the first damaged one; none of a file that is not made of chunks.

    The last one may exceed the file.
    """
    container = container_of(file)
    if container is None:
        return
    chunk = _chunk_at(file, container, container.first)
    long_size: Chunk | None = None
    for _ in range(MAX_CHUNKS):
        if chunk is None:
            return
        if chunk.name == b"data" and chunk.width == 4 and chunk.is_open and long_size is not None:
            file.seek(long_size.start + 8)
            chunk = chunk._replace(size=int.from_bytes(file.read(8), "little"), size_at=long_size.start + 8, width=8)
        yield chunk
        if chunk.name == b"ds64":
            long_size = chunk
        chunk = _chunk_after(file, container, chunk.start + chunk.size)


def _chunk_after(file: IO[bytes], container: Container, stop: int) -> Chunk | None:
    """The chunk that follows a content that ends at ``stop``; None if there is none."""
    # Some programs leave out the byte that makes a size even.
    return _chunk_at(file, container, container.pad(stop)) or _chunk_at(file, container, stop)


def _chunk_at(file: IO[bytes], container: Container, at: int) -> Chunk | None:
    """The chunk at a position; None if there is none, or one of an unknown name that exceeds the file."""
    length = file.seek(0, os.SEEK_END)
    if at + container.header > length:
        return None
    file.seek(at)
    head = file.read(container.header)
    name, start = head[:4], at + container.header
    size = int.from_bytes(head[-container.width :], container.order) - container.counts_header * container.header
    if size < 0 or not CHUNK_NAME.match(name) or not head[4:].startswith(container.suffixes):
        return None
    if container is W64 and name == b"list":
        name = b"LIST"
    if start + size > length and name not in KNOWN_CHUNKS:
        return None
    return Chunk(name, start, size, start - container.width, container.width)


# Write


def append_chunks(path: Path, chunks: Sequence[tuple[bytes, bytes]]) -> bool:
    """Append chunks to a file, after its sound.

    Args:
        path: a whole file.
        chunks: name (four bytes) and content of each.

    Returns:
        False if the file would exceed the size its format can state; then it is unchanged.
    """
    with path.open("r+b") as file:
        container = container_of(file)
        if container is None:
            raise ValueError(f"{path}: is not made of chunks")
        position = container.pad(max(container.first, *(chunk.start + chunk.size for chunk in chunks_of(file))))
        packed = b"".join(container.pack(*chunk) for chunk in chunks)
        total = position + len(packed) - container.total_excludes
        if total > container.max_total:
            return False
        file.truncate(position)
        file.seek(position)
        file.write(packed)
        container.write_total(file, total)
    return True


def replace_chunk(path: Path, name: bytes, content: bytes) -> None:
    """Replace the content of a chunk before the sound, of whatever size; whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        with path.open("rb") as old, temporary.open("wb") as new:
            container = container_of(old)
            chunk = next((chunk for chunk in chunks_of(old) if chunk.name == name), None)
            if container is None or chunk is None:
                raise ValueError(f"{path}: has no chunk {name!r}")
            old.seek(0)
            new.write(old.read(chunk.start - container.header))
            new.write(container.pack(name, content))
            old.seek(container.pad(chunk.start + chunk.size))
            shutil.copyfileobj(old, new)
            container.write_total(new, new.tell() - container.total_excludes)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# The sound


@dataclass(frozen=True)
class Data:
    """The part of a file that holds its sound.

    Attributes:
        start: position of the first byte of sound.
        stated: size of the sound in the header in bytes; None for a size that is left open.
        position: of the size in the header; None if libsndfile ignores it.
        width: of the size in the header in bytes.
        order: byte order of the size.
        container: layout of a file in which other chunks may follow; None for another file.
        extra: bytes that the size in the header counts and that hold no sound.
        block: size of a compressed block in bytes.
        clipped: libsndfile reads sound whose size is too large or left open to the end of the file.
        frames: frames without the padding of the last block; None if the header does not state it.
        block_frames: frames in a compressed block.
    """

    start: int
    stated: int | None
    position: int | None
    width: int
    order: Order
    container: Container | None = None
    extra: int = 0
    block: int = 1
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
            usable = there if self.position is None else there - there % self.block
            unknown = self.width == 4 and self.stated >= UNKNOWN_SIZE
            lacking = 0.0 if unknown or not usable else (self.stated - usable) / usable
            wrong = usable != there or not self.clipped
            return self._segment(patches=self._size(usable) if wrong else {}, lacking=lacking)
        stop = self.start + self.stated
        if self.container is None or _is_sound(file, self.container, stop):
            return Segment(patches=self._size(there), understated=True)
        return self._segment(stop=stop if self.position is None else None)

    def _segment(self, **faults: Any) -> Segment:
        return Segment(frames=self.frames, block_frames=self.block_frames, **faults)

    def _size(self, size: int) -> dict[int, bytes]:
        if self.position is None:
            return {}
        largest = 256**self.width - 1
        return {self.position: min(size + self.extra, largest).to_bytes(self.width, self.order)}


def _is_sound(file: IO[bytes], container: Container, stop: int) -> bool:
    """Whether the sound goes on where it should end: neither a chunk, nor a tag, nor only zeros follow."""
    if _chunk_after(file, container, stop):
        return False
    for begin in (stop, container.pad(stop)):
        file.seek(begin)
        head = file.read(container.header)
        if len(head) < container.header or head.startswith(TRAILERS):
            return False
    file.seek(stop)
    while part := file.read(SEARCHED_AT_ONCE):
        if part.count(0) != len(part):
            return True
    return False


def find_data(file: IO[bytes]) -> Data | None:
    """The sound in a file of one of these formats; None for another format or a header without it."""
    container = container_of(file)
    if container is not None:
        return _find_chunk(file, container)
    file.seek(0)
    magic = file.read(7)
    if magic[:4] in (b".snd", b"dns."):
        return _au(file, "big" if magic[:4] == b".snd" else "little")
    return _nist(file) if magic == b"NIST_1A" else None


def _find_chunk(file: IO[bytes], container: Container) -> Data | None:
    """The sound in a file that is made of chunks."""
    order = container.order
    block, block_frames, frames = 1, SHORT_BLOCK, None
    for chunk in chunks_of(file):
        file.seek(chunk.start)
        place: tuple[int | None, int, Order, Container] = chunk.size_at, chunk.width, order, container
        if chunk.name == b"SSND":
            return Data(chunk.start + 8, max(0, chunk.size - 8), *place, extra=8)
        if chunk.name == b"data" and container is CAF:
            stated = None if chunk.is_open else max(0, chunk.size - 4)
            return Data(chunk.start + 4, stated, *place, extra=4, clipped=False)
        if chunk.name == b"data":
            place = None if container is W64 else chunk.size_at, *place[1:]
            return Data(chunk.start, chunk.size, *place, block=block, frames=frames, block_frames=block_frames)
        if chunk.name == b"fmt ":
            content = file.read(20)
            if int.from_bytes(content[:2], order) in BLOCK_CODECS:
                block = int.from_bytes(content[12:14], order) or 1
                block_frames = int.from_bytes(content[18:20], order)
        elif chunk.name == b"fact":
            frames = int.from_bytes(file.read(4), order)
    return None


def _au(file: IO[bytes], order: Order) -> Data:
    file.seek(4)
    start, size = (int.from_bytes(file.read(4), order) for _ in range(2))
    return Data(start, None if size == 0xFFFFFFFF else size, 8, 4, order, clipped=False)


def _nist(file: IO[bytes]) -> Data | None:
    file.seek(0)
    header = file.read(1024)
    numbers = {name: int(value) for name, value in re.findall(rb"(\w+) -i (\d{1,12})\s", header)}
    try:
        size = numbers[b"sample_count"] * numbers[b"channel_count"] * numbers[b"sample_n_bytes"]
        return Data(int(header[8:16]), size, None, 8, "little")
    except (KeyError, ValueError):
        return None
