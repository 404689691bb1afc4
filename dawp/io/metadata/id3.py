"""ID3 and APE tags."""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from dawp.errors import printable
from dawp.io.metadata.model import MAX_BYTES, Extra, Metadata, merge_tags
from dawp.io.mp3 import ID3_HEADER, id3_size

log = logging.getLogger(__name__)

ID3_TEXT = {
    **{"TIT2": "TITLE", "TPE1": "ARTIST", "TALB": "ALBUM", "TDRC": "DATE", "TCON": "GENRE", "TRCK": "TRACKNUMBER"},
    **{"TCOP": "COPYRIGHT", "TSSE": "ENCODER", "TCOM": "COMPOSER", "TENC": "ENCODED-BY", "TLAN": "LANGUAGE"},
    **{"TMED": "MEDIA", "TSRC": "ISRC", "TPE2": "ALBUMARTIST", "TPE3": "CONDUCTOR", "TPOS": "DISCNUMBER"},
    **{"TIT1": "GROUPING", "TIT3": "SUBTITLE", "TBPM": "BPM", "TEXT": "LYRICIST", "TPUB": "ORGANIZATION"},
    **{"TDOR": "ORIGINALDATE", "TCMP": "COMPILATION", "TSOA": "ALBUMSORT", "TSOP": "ARTISTSORT", "TSOT": "TITLESORT"},
}
ID3_COMMENTS = {"COMM": "COMMENT", "USLT": "LYRICS"}


def read_mp3(file: BinaryIO, path: Path) -> Metadata:
    from mutagen.apev2 import APENoHeaderError, APEv2
    from mutagen.id3 import ID3NoHeaderError

    size = id3_size(file.read(ID3_HEADER))
    if size > MAX_BYTES:
        log.warning("%s: metadata of %.0f MiB are ignored", printable(path), size / 2**20)
        return Metadata()
    tags: list[tuple[str, str]] = []
    with suppress(APENoHeaderError):
        file.seek(0)
        for name, value in APEv2(file).items():
            if value.kind == 0:  # text
                tags += [({"YEAR": "DATE", "TRACK": "TRACKNUMBER"}.get(name.upper(), name.upper()), v) for v in value]
    try:
        file.seek(0)
        from_id3, pictures, extras = split_id3(parse_id3(file))
    except ID3NoHeaderError:
        return Metadata(tuple(tags))
    return Metadata(merge_tags(from_id3, tags), tuple(pictures), tuple(extras))


def parse_id3(file: BinaryIO) -> Any:
    from mutagen.id3 import ID3

    return ID3(file, known_frames=_uncompressed_frames())


@functools.cache
def _uncompressed_frames() -> dict[str, Any]:
    """Return frame classes that skip compressed frames, since a small one can fill the memory."""
    from mutagen.id3 import Frame, Frames, Frames_2_2

    def guarded(kind: Any) -> Any:
        def from_data(_: Any, header: Any, flags: int, data: bytes) -> Any:
            if flags & (Frame.FLAG24_COMPRESS if header.version >= (2, 4) else Frame.FLAG23_COMPRESS):
                raise NotImplementedError  # mutagen keeps the frame undecoded
            return kind._fromData(header, flags, data)

        return type(kind.__name__, (kind,), {"_fromData": classmethod(from_data)})

    return {**Frames_2_2, **{name: guarded(kind) for name, kind in Frames.items()}}


def split_id3(id3: Any) -> tuple[list[tuple[str, str]], list[bytes], list[Extra]]:
    """Return tags, pictures and the remaining frames of an ID3 tag."""
    from mutagen.flac import Picture

    tags: list[tuple[str, str]] = []
    pictures: list[bytes] = []
    extras = [Extra("", f"ID3 {printable(frame[:4].decode('latin-1'))}", b"") for frame in id3.unknown_frames]
    for frame in id3.values():
        name = frame.FrameID
        if name in ID3_TEXT or name == "TXXX":
            tag = ID3_TEXT.get(name) or frame.desc.upper()
            tags += [(tag, str(text)) for text in (frame.genres if name == "TCON" else frame.text)]
        elif name in ID3_COMMENTS and not frame.desc:
            texts = frame.text if isinstance(frame.text, list) else [frame.text]
            tags += [(ID3_COMMENTS[name], str(text)) for text in texts]
        elif name == "APIC" and frame.mime != "-->":
            picture = Picture()
            picture.type, picture.mime, picture.desc, picture.data = frame.type, frame.mime, frame.desc, frame.data
            pictures.append(picture.write())
        else:
            extras.append(Extra("ID3", f"ID3 {printable(name)}", _id3_bytes([frame])))
    return tags, pictures, extras


def to_id3(metadata: Metadata) -> Any:
    """Return metadata as an ID3 tag."""
    from mutagen import id3
    from mutagen.flac import Picture

    tag = id3.ID3()
    for extra in metadata.extras:
        if extra.kind == "ID3":
            for frame in parse_id3(io.BytesIO(extra.data)).values():
                tag.add(frame)
    values: dict[str, list[str]] = {}
    for name, text in metadata.tags:
        values.setdefault(name, []).append(text)
    frames = {name: frame for frame, name in ID3_TEXT.items()}
    for name, texts in values.items():
        if name in frames:
            tag.add(getattr(id3, frames[name])(encoding=3, text=texts))
        elif name == "COMMENT":
            tag.add(id3.COMM(encoding=3, lang="XXX", desc="", text=texts))
        elif name == "LYRICS":
            tag.add(id3.USLT(encoding=3, lang="XXX", desc="", text="\n\n".join(texts)))
        else:
            tag.add(id3.TXXX(encoding=3, desc=name, text=texts))
    for number, block in enumerate(metadata.pictures):
        picture = Picture(block)
        desc = picture.desc + " " * sum(Picture(other).desc == picture.desc for other in metadata.pictures[:number])
        tag.add(id3.APIC(encoding=3, mime=picture.mime, type=picture.type, desc=desc, data=picture.data))
    return tag


def to_id3_bytes(metadata: Metadata) -> bytes:
    return _id3_bytes(to_id3(metadata).values())


def _id3_bytes(frames: Iterable[Any]) -> bytes:
    from mutagen.id3 import ID3

    tag, buffer = ID3(), io.BytesIO()
    for frame in frames:
        tag.add(frame)
    tag.save(buffer, padding=lambda _: 0)
    return buffer.getvalue()
