"""Files made of chunks (WAV, RF64, W64, AIFF, CAF): list the chunks, and append new ones."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
W64_SUFFIX = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"  # after the four letters of a chunk
UNKNOWN_SIZE = 0xFFFFFFFF
MAX_TOTAL = {"<I": 2**32 - 2, ">I": 2**31 - 1}  # bytes that a size of the whole file can state


class Container(NamedTuple):
    """Layout of a chunked file.

    Attributes:
        family: files of one family have the same chunks.
        first: offset of the first chunk, in bytes.
        id_bytes: length of a chunk's identifier.
        size: format of a chunk's size.
        size_counts_header: the size includes the identifier and itself.
        align: chunks begin at multiples of this many bytes from the first one.
        total_at: offset of the size of the whole file; None if it is not stored.
        total: its format.
        total_excludes: bytes of the file that it does not count.
    """

    family: str
    first: int
    id_bytes: int
    size: str
    size_counts_header: bool
    align: int
    total_at: int | None
    total: str
    total_excludes: int

    @property
    def header(self) -> int:
        """Bytes before the content of a chunk."""
        return self.id_bytes + struct.calcsize(self.size)


RIFF = Container("RIFF", 12, 4, "<I", False, 2, 4, "<I", 8)
RF64 = RIFF._replace(total_at=20, total="<Q")
W64 = Container("RIFF", 40, 16, "<Q", True, 8, 16, "<Q", 0)
AIFF = Container("AIFF", 12, 4, ">I", False, 2, 4, ">I", 8)
CAF = Container("CAF", 8, 4, ">q", False, 1, None, "", 0)

CONTAINERS = {b"RIFF": RIFF, b"RF64": RF64, b"BW64": RF64, W64_RIFF[:4]: W64, b"FORM": AIFF, b"caff": CAF}
"""By the first four bytes of a file."""


class Chunk(NamedTuple):
    """Identifier of a chunk (four bytes), offset and length of its content."""

    id: bytes
    start: int
    size: int


def container_of(file: BinaryIO) -> Container | None:
    """Layout of an open file; None if it is not made of chunks."""
    file.seek(0)
    return CONTAINERS.get(file.read(4))


def chunks_of(file: BinaryIO) -> Iterator[Chunk]:
    """Chunks of an open file, up to the first that is damaged or exceeds the file; none for other files."""
    container = container_of(file)
    if container is None:
        return
    length = file.seek(0, os.SEEK_END)
    position, long_data = container.first, None
    while position + container.header <= length:
        file.seek(position)
        header = file.read(container.header)
        id_, (size,) = header[:4], struct.unpack(container.size, header[container.id_bytes :])
        if id_ == b"data" and size == UNKNOWN_SIZE and long_data is not None:
            size = long_data
        if container.size_counts_header:
            size -= container.header
        start = position + container.header
        if not all(0x20 <= letter < 0x7F for letter in id_) or not 0 <= size <= length - start:
            return
        yield Chunk(b"LIST" if id_ == b"list" else id_, start, size)
        if id_ == b"ds64" and size >= 16:
            file.seek(start + 8)
            (long_data,) = struct.unpack("<Q", file.read(8))
        position = container.first + _padded(start + size - container.first, container.align)


def append_chunks(path: Path, chunks: Sequence[tuple[bytes, bytes]]) -> bool:
    """Append chunks to a file, after its sound.

    Args:
        path: a whole file.
        chunks: identifier (four bytes) and content of each.

    Returns:
        False if the file would exceed the size its format can state; then it is unchanged.
    """
    with path.open("r+b") as file:
        container = container_of(file)
        if container is None:
            raise ValueError(f"{path}: is not made of chunks")
        end = max(container.first, *(chunk.start + chunk.size for chunk in chunks_of(file)))
        position = container.first + _padded(end - container.first, container.align)
        packed = b"".join(_packed(container, *chunk) for chunk in chunks)
        total = position + len(packed) - container.total_excludes
        if total > MAX_TOTAL.get(container.total, total):
            return False
        file.truncate(position)
        file.seek(position)
        file.write(packed)
        if container.total_at is not None:
            file.seek(container.total_at)
            file.write(struct.pack(container.total, total))
    return True


def replace_chunk(path: Path, id_: bytes, content: bytes) -> None:
    """Replace the content of a chunk before the sound, of whatever size; whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    try:
        with path.open("rb") as old, temporary.open("wb") as new:
            container = container_of(old)
            chunk = next((chunk for chunk in chunks_of(old) if chunk.id == id_), None)
            if container is None or chunk is None:
                raise ValueError(f"{path}: has no chunk {id_!r}")
            old.seek(0)
            new.write(old.read(chunk.start - container.header))
            new.write(_packed(container, id_, content))
            old.seek(container.first + _padded(chunk.start + chunk.size - container.first, container.align))
            shutil.copyfileobj(old, new)
            if container.total_at is not None:
                total = new.tell() - container.total_excludes
                new.seek(container.total_at)
                new.write(struct.pack(container.total, total))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _packed(container: Container, id_: bytes, content: bytes) -> bytes:
    size = len(content) + (container.header if container.size_counts_header else 0)
    if container is W64:
        id_ += W64_SUFFIX
    packed = id_ + struct.pack(container.size, size) + content
    return packed.ljust(_padded(len(packed), container.align), b"\0")


def _padded(size: int, align: int) -> int:
    return -(-size // align) * align
