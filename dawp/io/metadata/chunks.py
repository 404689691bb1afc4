"""Chunks of WAV, AIFF and CAF files."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from dawp.errors import printable
from dawp.io.chunks import Container, Order, append_chunks, chunks_of, replace_chunk
from dawp.io.metadata.id3 import parse_id3, split_id3, to_id3_bytes
from dawp.io.metadata.model import (
    DEFAULT_MASKS,
    LAYOUT,
    MAX_BYTES,
    Extra,
    Metadata,
    decode_text,
    is_default,
    merge_tags,
    reason,
)

log = logging.getLogger(__name__)

EXTENSIBLE = 0xFFFE
SUBFORMAT = b"\0\0\0\0\x10\0\x80\0\0\xaa\x00\x38\x9b\x71"  # of WAVE_FORMAT_EXTENSIBLE, after the format's two bytes
CHANNEL_BITMAP = 1 << 16  # kCAFChannelLayoutTag_UseChannelBitmap
DEFAULT_LAYOUT_TAGS = {100 << 16 | 1, 101 << 16 | 2, 113 << 16 | 3, 121 << 16 | 6}  # of CAF: as in DEFAULT_MASKS

INFO = {
    **{"INAM": "TITLE", "IART": "ARTIST", "IPRD": "ALBUM", "ICRD": "DATE", "IGNR": "GENRE", "ITRK": "TRACKNUMBER"},
    **{"IPRT": "TRACKNUMBER", "ICMT": "COMMENT", "ICOP": "COPYRIGHT", "ISFT": "ENCODER", "IMUS": "COMPOSER"},
    **{"IENG": "ENGINEER", "ITCH": "ENCODED-BY", "ILNG": "LANGUAGE", "IKEY": "KEYWORDS", "ISBJ": "SUBJECT"},
    **{"IMED": "MEDIA", "ISRC": "SOURCE", "IARL": "ARCHIVALLOCATION", "ICMS": "COMMISSIONED"},
}
"""Tag of each entry in a WAV file's LIST INFO; ``ISRC`` is a source, not the recording code of that name."""

AIFF_TEXT = {"NAME": "TITLE", "AUTH": "ARTIST", "ANNO": "COMMENT", "(c) ": "COPYRIGHT"}
CAF_INFO = {"track number": "TRACKNUMBER", "comments": "COMMENT", "year": "DATE"}  # others have the tag's name

STRUCTURE = {
    "RIFF": {b"fmt ", b"data", b"fact", b"PEAK", b"ds64", b"JUNK", b"junk", b"PAD ", b"FLLR", b"slnt"},
    "AIFF": {b"COMM", b"SSND", b"FVER", b"PEAK", b"FLLR"},
    "CAF": {b"desc", b"data", b"pakt", b"kuki", b"peak", b"free", b"ovvw", b"edct"},
}
STRUCTURE["RIFX"] = STRUCTURE["RIFF"]
"""Chunks of the audio itself, by family."""

STALE = {b"MD5 ", b"levl"}  # describe samples that a restoration changes
CHUNK_NAMES = {
    **{b"cue ": "cue markers", b"smpl": "sampler loops", b"MARK": "markers", b"COMT": "timed comments"},
    **{
        b"adtl": "marker labels",
        b"MD5 ": "MD5 checksum",
        b"levl": "peak envelope",
        b"_PMX": "XMP",
        b"mark": "markers",
        b"regn": "regions",
    },
}


@dataclass
class _Found:
    """The metadata read from the chunks of a file so far."""

    tags: list[tuple[str, str]] = field(default_factory=list)
    id3_tags: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    extras: list[Extra] = field(default_factory=list)
    channels: int = 0
    mask: int | None = None


def read_chunks(file: BinaryIO, container: Container, path: Path) -> Metadata:
    found = _Found()
    total = 0
    for chunk in chunks_of(file):
        file.seek(chunk.start)
        if chunk.name in (b"fmt ", b"COMM", b"desc"):
            found.channels, found.mask = _format_chunk(chunk.name, file.read(min(chunk.size, 64)), container.order)
        if chunk.name in STRUCTURE[container.family]:
            continue
        name = _name_of(chunk.name)
        if total + chunk.size > MAX_BYTES:
            log.warning("%s: metadata of over %.0f MiB: %s ignored", printable(path), MAX_BYTES / 2**20, name)
            continue
        total += chunk.size
        content = file.read(chunk.size)
        try:
            if len(content) < chunk.size:
                raise ValueError("the file ends in it")
            _add_chunk(found, container.family, chunk.name, content)
        except Exception as error:  # readers of damaged metadata raise errors of any type
            log.warning("%s: %s cannot be read (%s)", printable(path), name, reason(error))
    tags = merge_tags(found.id3_tags, (tag for tag in found.tags if tag[1]))
    return Metadata(tags, tuple(found.pictures), tuple(found.extras), found.mask)


def _add_chunk(found: _Found, family: str, id_: bytes, content: bytes) -> None:
    extra = Extra("" if id_ in STALE else family, _name_of(id_, content), id_ + content)
    if id_ in (b"id3 ", b"ID3 "):
        tags, pictures, extras = split_id3(parse_id3(io.BytesIO(content)))
        found.id3_tags += tags
        found.pictures += pictures
        found.extras += extras
    elif id_ in (b"chan", b"CHAN"):
        mask = _mask_of_layout(content, found.channels)
        if mask is None:
            found.extras.append(extra._replace(name=LAYOUT))
        else:
            found.mask = mask
    elif family == "CAF" and id_ == b"info":
        found.tags += _caf_tags(content)
    elif copied := [*_copied_tags(family, id_, content)]:
        found.tags += copied
        found.extras.append(extra._replace(name=""))
    else:
        found.extras.append(extra)


def _name_of(id_: bytes, content: bytes = b"") -> str:
    if id_ == b"LIST":
        id_ = content[:4]
    return CHUNK_NAMES.get(id_) or printable(id_.decode("ascii", errors="replace").strip())


def _format_chunk(id_: bytes, content: bytes, order: Order) -> tuple[int, int | None]:
    """Return the number of channels and the mask of a format chunk."""
    if id_ == b"desc":
        return (int.from_bytes(content[24:28], "big"), None)
    if id_ == b"COMM":
        return (int.from_bytes(content[:2], "big"), None)
    extensible = len(content) >= 40 and int.from_bytes(content[:2], order) == EXTENSIBLE
    return int.from_bytes(content[2:4], order), int.from_bytes(content[20:24], order) if extensible else None


def _mask_of_layout(content: bytes, channels: int) -> int | None:
    """Return the mask of the layout chunk of a CAF or AIFF file; None if no mask describes it."""
    tag, bitmap = struct.unpack(">II", content[:8])
    if tag == CHANNEL_BITMAP:
        return int(bitmap)
    return DEFAULT_MASKS.get(channels) if tag in DEFAULT_LAYOUT_TAGS and tag & 0xFFFF == channels else None


def _info_tags(content: bytes, order: Order) -> Iterator[tuple[str, str]]:
    position = 4
    while position + 8 <= len(content):
        id_, size = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], order)
        text = decode_text(content[position + 8 : position + 8 + size])
        if text and id_.isascii():
            yield INFO.get(id_.decode(), id_.decode()), text
        position += 8 + size + size % 2


def _caf_tags(content: bytes) -> Iterator[tuple[str, str]]:
    words = content[4:].split(b"\0")
    for name, text in zip(words[::2], words[1::2], strict=False):
        if name:
            tag = decode_text(name)
            yield CAF_INFO.get(tag, tag.upper()), decode_text(text)


def write_chunks(path: Path, metadata: Metadata, family: str, channels: int) -> list[str]:
    chunks = [(extra.data[:4], extra.data[4:]) for extra in metadata.extras if extra.kind == family]
    copied = [tag for id_, content in chunks for tag in _copied_tags(family, id_, content)]
    frames = [extra for extra in metadata.extras if extra.kind == "ID3"]
    lost: list[str] = []
    if family == "CAF":
        lost += ["pictures"] * bool(metadata.pictures)
        if metadata.tags:
            chunks.append((b"info", _caf_info(metadata.tags)))
    elif frames or metadata.pictures or not set(metadata.tags) <= set(copied):
        if not copied:
            chunks += _text_chunks(family, metadata.tags)
        chunks.append((b"id3 " if family == "RIFF" else b"ID3 ", to_id3_bytes(metadata)))
    if family != "RIFF" and not is_default(metadata.channel_mask, channels):
        layout = struct.pack(">III", CHANNEL_BITMAP, metadata.channel_mask, 0)
        chunks.insert(0, (b"chan" if family == "CAF" else b"CHAN", layout))
    if chunks and not append_chunks(path, chunks):
        lost += [_name_of(*chunk) for chunk in chunks]
    return lost


def _copied_tags(family: str, id_: bytes, content: bytes) -> Iterable[tuple[str, str]]:
    """Return the tags in a copied chunk."""
    if family in ("RIFF", "RIFX") and id_ == b"LIST" and content[:4] == b"INFO":
        return _info_tags(content, "little" if family == "RIFF" else "big")
    name = AIFF_TEXT.get(id_.decode()) if family == "AIFF" else None
    return [(name, decode_text(content))] if name else []


def _text_chunks(family: str, tags: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Return text chunks for programs that do not read ID3, with the first value of each tag."""
    first = dict(reversed([*tags]))
    first.setdefault("COMMENT", first.get("DESCRIPTION", ""))  # the name in FLAC files
    if family == "AIFF":
        return [(id_.encode(), first[name].encode()) for id_, name in AIFF_TEXT.items() if first.get(name)]
    entries = b""
    for name, text in sorted(first.items()):
        id_ = next((id_ for id_, tag in INFO.items() if tag == name), None)
        if id_ and text:
            content = text.encode() + b"\0"
            entries += id_.encode() + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return [(b"LIST", b"INFO" + entries)] if entries else []


def _caf_info(tags: Sequence[tuple[str, str]]) -> bytes:
    names = {tag: name for name, tag in CAF_INFO.items()}
    texts: dict[str, list[str]] = {}
    for name, text in tags:
        texts.setdefault(names.get(name, name.lower()), []).append(text.replace("\0", " "))
    return struct.pack(">I", len(texts)) + b"".join(
        f"{name}\0{'; '.join(values)}\0".encode() for name, values in texts.items()
    )


def write_mask(path: Path, mask: int | None, channels: int) -> None:
    """Write the channel mask into the format chunk of a WAV file."""
    with path.open("r+b") as file:
        chunk = next(chunk for chunk in chunks_of(file) if chunk.name == b"fmt ")
        file.seek(chunk.start)
        content = file.read(chunk.size)
        if int.from_bytes(content[:2], "little") == EXTENSIBLE:
            if mask is not None:
                file.seek(chunk.start + 20)
                file.write(struct.pack("<I", mask))
            return
    if not is_default(mask, channels) and chunk.size in (16, 18):
        extension = struct.pack("<HHI", 22, int.from_bytes(content[14:16], "little"), mask) + content[:2] + SUBFORMAT
        replace_chunk(path, b"fmt ", struct.pack("<H", EXTENSIBLE) + content[2:16] + extension)
