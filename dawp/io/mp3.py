"""Correct the headers of MP3 files.

libsndfile reads the number of frames that the header states; without a header it estimates the number.
"""

from __future__ import annotations

import os
from typing import IO, NamedTuple

from dawp.io.segment import Segment

HEADER, ID3_HEADER = 4, 10  # bytes
SEARCHED = 1 << 17  # the first frame must start within this many bytes
SEARCHED_AT_ONCE = 1 << 14
IN_A_ROW = 3  # consecutive frames required to recognise the first one
KBPS = {  # bit rates of Layer III for MPEG-1 (True) and MPEG-2 (False); 0 for a free or forbidden bit rate
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version: MPEG-1, 2, 2.5
COUNT_STATED, SIZE_STATED = 0x01, 0x02  # flags of an Xing header
VBRI_START, VBRI_COUNT = 36, 14


class Frame(NamedTuple):
    """Header of a frame.

    Attributes:
        size: bytes of the frame.
        kind: version and rate, common to all frames of a recording.
        side_info: bytes between the header and the sound.
    """

    size: int
    kind: tuple[int, int]
    side_info: int


def corrected(file: IO[bytes]) -> Segment:
    """Return the whole file as a segment whose header states the actual number of frames."""
    start = _first_frame(file)
    if start is None:
        return Segment()
    head = _bytes(file, start, HEADER)
    frame = _parse(head)
    if frame is None:
        return Segment()
    count, junk = _count(file, start, frame.kind)
    content = _bytes(file, start, frame.size)
    xing = HEADER + frame.side_info
    if content[xing : xing + 4] in (b"Xing", b"Info"):
        flags = int.from_bytes(content[xing + 4 : xing + 8], "big")
        position = xing + 8 if flags & COUNT_STATED else None
    elif content[VBRI_START : VBRI_START + 4] == b"VBRI":
        flags, position = 0, VBRI_START + VBRI_COUNT
    else:
        tag = _bytes(file, 0, start)
        return Segment(start, prefix=tag + _info_frame(head, frame, count), omitted=junk)
    patches = {}
    understated = position is not None and _number(content, position) < count - 1
    if position is not None and understated:
        patches[start + position] = (count - 1).to_bytes(4, "big")
    size = file.seek(0, os.SEEK_END) - start - sum(after - before for before, after in junk)
    wrong_by = abs(_number(content, position + 4) - size) if position is not None and flags & SIZE_STATED else 0
    if position is not None and 100 * wrong_by > size:  # the decoder would print a warning
        patches[start + position + 4] = size.to_bytes(4, "big")
    return Segment(omitted=junk, patches=patches, understated=understated)


def _number(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "big")


def _bytes(file: IO[bytes], at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _parse(head: bytes) -> Frame | None:
    """Parse a Layer III frame header; None if it is invalid."""
    if len(head) < HEADER or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, rate_index = head[1] >> 3 & 3, head[2] >> 2 & 3
    if version not in RATES or rate_index == 3:
        return None
    is_mpeg1, is_mono = version == 3, head[3] >> 6 == 3
    kbps, rate = KBPS[is_mpeg1][head[2] >> 4], RATES[version][rate_index]
    if kbps == 0:
        return None
    size = (144 if is_mpeg1 else 72) * kbps * 1000 // rate + (head[2] >> 1 & 1)
    side_info = (17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17)
    return Frame(size, (version, rate), side_info)


def id3_size(head: bytes) -> int:
    """Return the size in bytes of the ID3v2 tag that starts with ``head``, with its header; 0 if there is none."""
    if len(head) < ID3_HEADER or head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:ID3_HEADER]:
        size = size << 7 | byte & 0x7F
    return ID3_HEADER + size


def _first_frame(file: IO[bytes]) -> int | None:
    """Return the position of the first frame; None if there is none."""
    at = 0
    while size := id3_size(_bytes(file, at, ID3_HEADER)):
        at += size
    return _find_frame(file, at, None, SEARCHED)


def _find_frame(file: IO[bytes], at: int, kind: tuple[int, int] | None, limit: int | None = None) -> int | None:
    """Return the position of the first frame at or after ``at`` that is followed by others."""
    end = None if limit is None else at + limit
    while (end is None or at < end) and (part := _bytes(file, at, SEARCHED_AT_ONCE)):
        found = part.find(b"\xff")
        while found >= 0:
            if _is_run(file, at + found, kind):
                return at + found
            found = part.find(b"\xff", found + 1)
        at += len(part)
    return None


def _is_run(file: IO[bytes], at: int, kind: tuple[int, int] | None) -> bool:
    for _ in range(IN_A_ROW):
        frame = _parse(_bytes(file, at, HEADER))
        if frame is None or frame.kind != (kind or frame.kind):
            return False
        kind = frame.kind
        at += frame.size
    return True


def _count(file: IO[bytes], start: int, kind: tuple[int, int]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Return the number of frames and the byte ranges between them that belong to no frame."""
    count, at = 0, start
    junk: list[tuple[int, int]] = []
    while True:
        frame = _parse(_bytes(file, at, HEADER))
        if frame is not None and frame.kind == kind:
            count += 1
            at += frame.size
            continue
        found = _find_frame(file, at + 1, kind)
        if found is None:
            return count, tuple(junk)
        junk.append((at, found))
        at = found


def _info_frame(head: bytes, frame: Frame, count: int) -> bytes:
    """Return a silent frame that states the number of frames after it."""
    header = bytes((head[0], head[1] | 1, head[2] & ~2, head[3]))  # no checksum, no padding
    info = b"Info" + COUNT_STATED.to_bytes(4, "big") + count.to_bytes(4, "big")
    size = frame.size - (head[2] >> 1 & 1)
    return (header + bytes(frame.side_info) + info).ljust(size, b"\0")
