"""Parse the headers of uncompressed formats: chunks of WAV, RF64, W64, AIFF and CAF files, and the sound data.

libsndfile trusts the data size in the header: a size that is too small hides sound, and in some formats a size that is
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

UNKNOWN_SIZE = 0x7FFFF000  # programs that cannot seek back to the header write at least this as a 32-bit size
MAX_CHUNKS = 10_000
SEARCHED_AT_ONCE = 1 << 16  # bytes
CHUNK_NAME = re.compile(rb"[\x20-\x7e]{4}")
KNOWN_CHUNKS = {b"data", b"SSND", b"LIST", b"bext", b"cue ", b"smpl", b"inst", b"fact", b"PEAK", b"JUNK", b"junk"}
KNOWN_CHUNKS |= {b"PAD ", b"FLLR", b"id3 ", b"ID3 ", b"iXML", b"axml", b"_PMX"}
KNOWN_CHUNKS |= {b"MARK", b"INST", b"COMT", b"APPL", b"NAME", b"ANNO"}
TRAILERS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")  # tags appended by other programs, not chunks
BLOCK_CODECS = {0x02, 0x11, 0x31}  # MS ADPCM, IMA ADPCM, GSM 6.10: an incomplete block decodes to garbage
SHORT_BLOCK = 160  # frames in a block of the other codecs that pad the last block: G.721 and NMS ADPCM
W64_SUFFIX = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # follows the name of most chunks
W64_LIST_SUFFIX = bytes.fromhex("2f91cf11a5d628db04c10000")


class Container(NamedTuple):
    """Layout of a chunked file format.

    Attributes:
        family: formats of one family have the same chunks.
        order: byte order.
        first: position of the first chunk.
        width: bytes of the size field of a chunk.
        suffixes: possible bytes after the four letters of a chunk's name.
        counts_header: the size of a chunk includes its header.
        align: chunks start at multiples of this many bytes.
        total_at: position of the file size field; None if there is none.
        total_width: bytes of the file size field.
        total_excludes: bytes that are not counted in the file size.
        max_total: largest file size that programs accept.
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
        """Return the start of the next chunk if the content of a chunk ends at ``position``."""
        return -(-position // self.align) * self.align

    def pack(self, name: bytes, content: bytes) -> bytes:
        """Return the bytes of a chunk."""
        size = len(content) + self.counts_header * self.header
        packed = name + self.suffixes[0] + size.to_bytes(self.width, self.order) + content
        return packed.ljust(self.pad(len(packed)), b"\0")

    def write_total(self, file: IO[bytes], total: int) -> None:
        """Write the file size, without the bytes it does not count."""
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
"""Layouts by the first four bytes of a file and the four bytes after its size."""


class Chunk(NamedTuple):
    """A chunk of a file.

    Attributes:
        name: four bytes.
        start: position of the content.
        size: bytes of content according to the header; may exceed the file.
        size_at: position of the size field.
        width: bytes of the size field.
    """

    name: bytes
    start: int
    size: int
    size_at: int
    width: int

    @property
    def is_open(self) -> bool:
        """True if the header does not state the size."""
        return self.size == (1 << 8 * self.width) - 1


def container_of(file: IO[bytes]) -> Container | None:
    """Return the layout of an open file; None if it is not a chunked format."""
    file.seek(0)
    magic = file.read(12)
    if magic[:4] in (b"riff", b"caff"):
        return W64 if magic[:4] == b"riff" else CAF
    return CONTAINERS.get((magic[:4], magic[8:]))


def chunks_of(file: IO[bytes]) -> Iterator[Chunk]:
    """Yield the chunks of an open file in order, up to the first damaged one.

    The last chunk may exceed the file. A file without chunks yields none.
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
    """Return the chunk after a content that ends at ``stop``; None if there is none."""
    # Some programs omit the padding byte.
    return _chunk_at(file, container, container.pad(stop)) or _chunk_at(file, container, stop)


def _chunk_at(file: IO[bytes], container: Container, at: int) -> Chunk | None:
    """Return the chunk at a position; None if there is none, or if its name is unknown and it exceeds the file."""
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
        path: an intact file.
        chunks: name (four bytes) and content of each chunk.

    Returns:
        False if the file would exceed the largest size of its format; the file is then unchanged.
    """
    with path.open("r+b") as file:
        container = container_of(file)
        if container is None:
            raise ValueError(f"{path}: is not a chunked format")
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
    """Replace the content of a chunk before the sound atomically; the size may change."""
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


# Sound data


@dataclass(frozen=True)
class Data:
    """Location of the sound data in a file.

    Attributes:
        start: position of the first byte of sound.
        stated: bytes of sound according to the header; None if the header does not state it.
        position: position of the size field; None if libsndfile ignores it.
        width: bytes of the size field.
        order: byte order of the size field.
        container: layout of the file if other chunks may follow; None for other formats.
        extra: bytes counted by the size field that are not sound.
        block: bytes of a compressed block.
        clipped: if the size is too large or open, libsndfile reads to the end of the file.
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
        """Return the segment of the file, with patches so that the stated size matches the sound."""
        present = max(0, file.seek(0, os.SEEK_END) - self.start)
        if self.stated is None and not self.clipped:
            return Segment(patches=self._size(present))
        if self.stated is None or self.stated == present or present == 0:
            return self._segment()
        if self.stated > present:
            usable = present if self.position is None else present - present % self.block
            unknown = self.width == 4 and self.stated >= UNKNOWN_SIZE
            lacking = 0.0 if unknown or not usable else (self.stated - usable) / usable
            wrong = usable != present or not self.clipped
            return self._segment(patches=self._size(usable) if wrong else {}, lacking=lacking)
        stop = self.start + self.stated
        if self.container is None or _is_sound(file, self.container, stop):
            return Segment(patches=self._size(present), understated=True)
        return self._segment(stop=stop if self.position is None else None)

    def _segment(self, **faults: Any) -> Segment:
        return Segment(frames=self.frames, block_frames=self.block_frames, **faults)

    def _size(self, size: int) -> dict[int, bytes]:
        if self.position is None:
            return {}
        largest = 256**self.width - 1
        return {self.position: min(size + self.extra, largest).to_bytes(self.width, self.order)}


def _is_sound(file: IO[bytes], container: Container, stop: int) -> bool:
    """Return whether sound follows its stated end: no chunk, no tag and not only zeros."""
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
    """Find the sound data of a file; None for other formats and for a header without sound data."""
    container = container_of(file)
    if container is not None:
        return _find_chunk(file, container)
    file.seek(0)
    magic = file.read(7)
    if magic[:4] in (b".snd", b"dns."):
        return _au(file, "big" if magic[:4] == b".snd" else "little")
    return _nist(file) if magic == b"NIST_1A" else None


def _find_chunk(file: IO[bytes], container: Container) -> Data | None:
    """Find the sound data of a chunked file."""
    order = container.order
    block, block_frames, frames = 1, SHORT_BLOCK, None
    for chunk in chunks_of(file):
        file.seek(chunk.start)
        field: tuple[int | None, int, Order, Container] = chunk.size_at, chunk.width, order, container
        if chunk.name == b"SSND":
            return Data(chunk.start + 8, max(0, chunk.size - 8), *field, extra=8)
        if chunk.name == b"data" and container is CAF:
            stated = None if chunk.is_open else max(0, chunk.size - 4)
            return Data(chunk.start + 4, stated, *field, extra=4, clipped=False)
        if chunk.name == b"data":
            field = None if container is W64 else chunk.size_at, *field[1:]
            return Data(chunk.start, chunk.size, *field, block=block, frames=frames, block_frames=block_frames)
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
