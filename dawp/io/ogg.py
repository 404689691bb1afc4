"""Parse the pages of Ogg files (RFC 3533) to find damaged pages and chained streams.

libsndfile reads only the first of several chained streams.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import IO, NamedTuple

from dawp.io.segment import Segment

MAGIC, HEADER = b"OggS", 27
FIRST_PAGE = 0x02  # flag
SEARCHED_AT_ONCE = 1 << 16  # bytes
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Page(NamedTuple):
    """A page of a logical stream.

    Attributes:
        start: position of its first byte.
        stop: position after its last byte.
        is_first: True if it starts a logical stream.
        granule: end position of the page in the stream, in ticks of the codec's clock; -1 for none.
        serial: serial number of the logical stream.
        rate: ticks per second if the page is the first one of a known codec; otherwise 0.
    """

    start: int
    stop: int
    is_first: bool
    granule: int
    serial: int
    rate: int


def links(file: IO[bytes]) -> list[Segment]:
    """Return the logical streams of a chained file in order."""
    streams: list[list[Page]] = []
    for page in _pages(file):
        if not streams or (page.is_first and not streams[-1][-1].is_first):
            streams.append([])
        streams[-1].append(page)
    starts = [0, *(pages[0].start for pages in streams[1:])]
    size = file.seek(0, os.SEEK_END)
    stops = [*starts[1:], size]
    found = [_link(*link) for link in zip(streams, starts, stops, strict=True)] if streams else [Segment()]
    return [*found[:-1], replace(found[-1], stop=None)]


def _link(pages: list[Page], start: int, stop: int) -> Segment:
    """Return a logical stream, with its length according to the granule positions of its pages."""
    stream = [page for page in pages if page.serial == pages[0].serial]
    ticks, rate = max(page.granule for page in stream), pages[0].rate
    is_damaged = any(before.stop != after.start for before, after in pairwise(pages))
    cut = pages[-1].stop != stop
    return Segment(start, stop, seconds=ticks / rate if rate and ticks > 0 else None, damaged=is_damaged, cut=cut)


def _pages(file: IO[bytes]) -> Iterator[Page]:
    """Yield the intact pages of a file."""
    at: int | None = 0
    while at is not None:
        page = _page(file, at)
        if page:
            yield page
            at = page.stop
        else:
            at = _find_magic(file, at + 1)


def _find_magic(file: IO[bytes], at: int) -> int | None:
    """Return the position of the next page at or after ``at``; None if there is none."""
    file.seek(at)
    before = b""
    while part := file.read(SEARCHED_AT_ONCE):
        found = (before + part).find(MAGIC)
        if found >= 0:
            return at + found - len(before)
        at += len(part)
        before = part[-3:]
    return None


def _page(file: IO[bytes], at: int) -> Page | None:
    """Return the page at a position; None if there is none or its checksum does not match."""
    file.seek(at)
    head = file.read(HEADER)
    if len(head) < HEADER or head[:4] != MAGIC:
        return None
    lengths = file.read(head[26])
    size = sum(lengths)
    content = file.read(size)
    if len(lengths) < head[26] or len(content) < size:
        return None
    if _checksum(head[:22] + bytes(4) + head[26:] + lengths + content) != int.from_bytes(head[22:26], "little"):
        return None
    return Page(
        start=at,
        stop=at + HEADER + len(lengths) + size,
        is_first=bool(head[5] & FIRST_PAGE),
        granule=int.from_bytes(head[6:14], "little", signed=True),
        serial=int.from_bytes(head[14:18], "little"),
        rate=_clock(content),
    )


def _clock(content: bytes) -> int:
    """Return the granule ticks per second of a stream that starts with ``content``; 0 if unknown."""
    if content.startswith(b"\x01vorbis"):
        return int.from_bytes(content[12:16], "little")
    return 48000 if content.startswith(b"OpusHead") else 0


def _checksum(page: bytes) -> int:
    """Return the CRC-32 of the Ogg format: zlib's with the bits of each byte reversed and without inversions."""
    reflected = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reflected:032b}"[::-1], 2)
