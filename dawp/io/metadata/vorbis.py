"""Vorbis comments: FLAC and Ogg files."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from dawp.errors import printable
from dawp.io.metadata.model import Extra, Metadata, is_default

MAX_FLAC_BLOCK = 2**24 - 1  # bytes
MASK_TAG = "WAVEFORMATEXTENSIBLE_CHANNEL_MASK"
PICTURE_TAG = "METADATA_BLOCK_PICTURE"
FLAC_NAMES = {2: "application data", 5: "cue sheet"}


def read_flac(file: BinaryIO) -> Metadata:
    from mutagen.flac import FLAC

    flac = FLAC(file)
    tags, pictures, mask = _from_vorbis(flac.tags or [])
    pictures = [*(picture.write() for picture in flac.pictures), *pictures]
    extras = tuple(
        Extra("FLAC", FLAC_NAMES[block.code], bytes([block.code]) + block.write())
        for block in [*flac.metadata_blocks]
        if block.code in FLAC_NAMES
    )
    return Metadata(tuple(tags), tuple(pictures), extras, mask)


def read_ogg(file: BinaryIO) -> Metadata:
    found = _ogg_file(file)
    if found is None:
        return Metadata()
    tags, pictures, mask = _from_vorbis(found.tags or [])
    return Metadata(tuple(tags), tuple(pictures), (), mask, vorbis_order="FLAC" not in type(found).__name__)


def _ogg_file(file: BinaryIO) -> Any:
    import mutagen
    from mutagen.oggflac import OggFLAC
    from mutagen.oggopus import OggOpus
    from mutagen.oggvorbis import OggVorbis

    return mutagen.File(file, options=[OggVorbis, OggOpus, OggFLAC])


def _from_vorbis(comments: Iterable[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[bytes], int | None]:
    """Return tags, pictures and channel mask of Vorbis comments."""
    tags: list[tuple[str, str]] = []
    pictures: list[bytes] = []
    mask: int | None = None
    for name, text in comments:
        name = name.upper()
        if name == PICTURE_TAG:
            with suppress(ValueError):
                pictures.append(base64.b64decode(text))
        elif name == MASK_TAG:
            with suppress(ValueError):
                mask = int(text, 0) & 0xFFFFFFFF
        else:
            tags.append((name, text))
    return tags, pictures, mask


def _vorbis(metadata: Metadata) -> tuple[list[tuple[str, str]], list[str]]:
    """Return Vorbis comments, and the names that are not valid in them."""
    valid = re.compile("[ -<>-}]+")
    comments = [tag for tag in metadata.tags if valid.fullmatch(tag[0])]
    return comments, sorted({printable(name.lower()) for name, _ in metadata.tags if not valid.fullmatch(name)})


def write_flac(path: Path, metadata: Metadata, channels: int) -> list[str]:
    from mutagen.flac import FLAC, MetadataBlock, Picture

    comments, lost = _vorbis(metadata)
    mask = metadata.channel_mask
    if mask is not None and not (channels <= 2 and is_default(mask, channels)):
        comments.append((MASK_TAG, f"0x{mask:X}"))
    pictures = [block for block in metadata.pictures if len(block) <= MAX_FLAC_BLOCK]
    lost += ["pictures"] * (len(pictures) < len(metadata.pictures))
    if not (comments or pictures or metadata.extras):
        return lost
    flac = FLAC(path)
    if flac.tags is None:
        flac.add_tags()
    flac.tags[:] = comments
    for block in pictures:
        flac.add_picture(Picture(block))
    for extra in metadata.extras:
        block = MetadataBlock(extra.data[1:])
        block.code = extra.data[0]
        flac.metadata_blocks.append(block)
    flac.save()
    return lost


def write_ogg(path: Path, metadata: Metadata) -> list[str]:
    comments, lost = _vorbis(metadata)
    comments += [(PICTURE_TAG, base64.b64encode(block).decode()) for block in metadata.pictures]
    if comments:
        with path.open("r+b") as file:
            ogg = _ogg_file(file)
            ogg.tags[:] = comments
            file.seek(0)
            ogg.save(file)
    return lost


def set_serial(path: Path) -> None:
    """Set the serial number of an Ogg file to a checksum of its content, so that the same audio gives the same file.

    libsndfile draws a random number. Different files need different numbers, because they may be concatenated.
    """
    checksum = 0
    with path.open("r+b") as file:
        for page in _pages(file):
            checksum = zlib.crc32(b"".join(page.packets), checksum)
        for page in _pages(file):
            page.serial = checksum
            file.seek(page.offset)
            file.write(page.write())


def _pages(file: BinaryIO) -> Iterator[Any]:
    from mutagen.ogg import OggPage

    file.seek(0)
    with suppress(EOFError):
        while True:
            yield OggPage(file)
