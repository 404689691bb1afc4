"""Metadata of audio files: tags, pictures, broadcast and marker chunks, channel layout.

Tags have the names of Vorbis comments in every format, pictures the form of FLAC's picture block. What only one family
of files can hold is copied as it is between files of that family: positions in samples stay valid, because a restored
file has the rate and the length of its recording.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import logging
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from dawp.errors import printable
from dawp.io.chunks import Container, Order, append_chunks, chunks_of, container_of, find_data, replace_chunk
from dawp.io.mp3 import ID3_HEADER, id3_size

log = logging.getLogger(__name__)

MAX_BYTES = 64 * 1024 * 1024  # of all metadata of a file
MAX_FLAC_BLOCK = 2**24 - 1  # bytes
AU_HEADER = 24  # bytes before the annotation

LAYOUT = "channel layout"
MASK_TAG = "WAVEFORMATEXTENSIBLE_CHANNEL_MASK"
PICTURE_TAG = "METADATA_BLOCK_PICTURE"
DEFAULT_MASKS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
"""Layout of a file without a mask, by number of channels: that of FLAC (RFC 9639, section 9.1.3) and Vorbis."""

SIDES = {0x600: 0x30}  # side and back speakers are one pair where a format has no masks
VORBIS_ORDER = {3: (0, 2, 1), 5: (0, 2, 1, 3, 4), 6: (0, 2, 1, 4, 5, 3), 7: (0, 2, 1, 5, 6, 4, 3)}
VORBIS_ORDER[8] = (0, 2, 1, 6, 7, 4, 5, 3)
"""For each channel in the order of Vorbis and Opus, its place in the order of a mask (Vorbis I, section 4.3.9)."""

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

ID3_TEXT = {
    **{"TIT2": "TITLE", "TPE1": "ARTIST", "TALB": "ALBUM", "TDRC": "DATE", "TCON": "GENRE", "TRCK": "TRACKNUMBER"},
    **{"TCOP": "COPYRIGHT", "TSSE": "ENCODER", "TCOM": "COMPOSER", "TENC": "ENCODED-BY", "TLAN": "LANGUAGE"},
    **{"TMED": "MEDIA", "TSRC": "ISRC", "TPE2": "ALBUMARTIST", "TPE3": "CONDUCTOR", "TPOS": "DISCNUMBER"},
    **{"TIT1": "GROUPING", "TIT3": "SUBTITLE", "TBPM": "BPM", "TEXT": "LYRICIST", "TPUB": "ORGANIZATION"},
    **{"TDOR": "ORIGINALDATE", "TCMP": "COMPILATION", "TSOA": "ALBUMSORT", "TSOP": "ARTISTSORT", "TSOT": "TITLESORT"},
}
ID3_COMMENTS = {"COMM": "COMMENT", "USLT": "LYRICS"}

STRUCTURE = {
    "RIFF": {b"fmt ", b"data", b"fact", b"PEAK", b"ds64", b"JUNK", b"junk", b"PAD ", b"FLLR", b"slnt"},
    "AIFF": {b"COMM", b"SSND", b"FVER", b"PEAK", b"FLLR"},
    "CAF": {b"desc", b"data", b"pakt", b"kuki", b"peak", b"free", b"ovvw", b"edct"},
}
STRUCTURE["RIFX"] = STRUCTURE["RIFF"]
"""Chunks that belong to the sound, by family."""

STALE = {b"MD5 ", b"levl"}  # describe the samples of the recording, which are others in a restored file
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
FLAC_NAMES = {2: "application data", 5: "cue sheet"}

KINDS = {
    **{"WAV": ("RIFF", "ID3"), "WAVEX": ("RIFF", "ID3"), "RF64": ("RIFF", "ID3")},
    **{"AIFF": ("AIFF", "ID3"), "CAF": ("CAF",), "FLAC": ("FLAC",), "OGG": ("OGG",), "MP3": ("ID3",)},
}
"""Kinds of extras that each format holds; the formats that are not here hold no metadata."""

LEVELS = re.compile("REPLAYGAIN_|R128_|ID3 RVA|ID3 RGAD")


class Extra(NamedTuple):
    """Metadata that only one kind of file holds.

    Attributes:
        kind: family of chunks, ``FLAC`` or ``ID3``; empty or ``RIFX`` (big-endian) for what no restored file may hold.
        name: for messages; empty if the tags say the same.
        data: identifier and content of a chunk, code and content of a FLAC block, or an ID3 tag of one frame.
    """

    kind: str
    name: str
    data: bytes


@dataclass(frozen=True)
class Metadata:
    """What a file holds beside its samples.

    Attributes:
        tags: names (as in Vorbis comments, upper case) and values; a name may come several times.
        pictures: FLAC picture blocks.
        extras: what only one kind of file holds.
        channel_mask: speakers of the channels as in WAVE_FORMAT_EXTENSIBLE; None if not stated.
        vorbis_order: the channels are in the order of Vorbis, not of the mask.
    """

    tags: tuple[tuple[str, str], ...] = ()
    pictures: tuple[bytes, ...] = ()
    extras: tuple[Extra, ...] = ()
    channel_mask: int | None = None
    vorbis_order: bool = False

    def without_levels(self) -> tuple[Metadata, list[str]]:
        """The metadata without ReplayGain and its kin, which a changed level makes wrong; and what they are called."""
        tags = tuple(tag for tag in self.tags if not LEVELS.match(tag[0]))
        extras = tuple(extra for extra in self.extras if not LEVELS.match(extra.name))
        lost = ["ReplayGain (the level has changed)"] if (tags, extras) != (self.tags, self.extras) else []
        return dataclasses.replace(self, tags=tags, extras=extras), lost

    def channel_order(self, format: str, channels: int) -> list[int] | None:
        """For each channel of a file to write, the channel of the recording; None if the order is the same.

        Args:
            format: libsndfile's name of the format to write.
            channels: how many.
        """
        to_vorbis, order = format == "OGG", VORBIS_ORDER.get(channels)
        if order is None or to_vorbis == self.vorbis_order:
            return None
        if self.channel_mask is not None and _without_sides(self.channel_mask) != _without_sides(
            DEFAULT_MASKS[channels]
        ):
            return None
        return list(order) if to_vorbis else [order.index(place) for place in range(channels)]


# Read


def read_metadata(path: Path) -> Metadata:
    """Read all metadata of an audio file; damaged metadata are left out, with a warning.

    Args:
        path: a file that the sound library can read.

    Raises:
        OSError: the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            found = _read(file, path)
    except OSError:
        raise
    except Exception as error:  # whatever damaged metadata make of their reader
        log.warning("%s: metadata cannot be read (%s)", printable(path), _reason(error))
        return Metadata()
    size = sum(len(name) + len(text) for name, text in found.tags)
    size += sum(map(len, found.pictures)) + sum(len(extra.data) for extra in found.extras)
    if size > MAX_BYTES:
        log.warning("%s: metadata of %.0f MiB are ignored", printable(path), size / 2**20)
        return dataclasses.replace(found, tags=(), pictures=(), extras=())
    return found


def _read(file: BinaryIO, path: Path) -> Metadata:
    container = container_of(file)
    if container is not None:
        return _read_chunks(file, container, path)
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    if head == b"OggS":
        return _read_ogg(file)
    if head == b"fLaC" or (head[:3] == b"ID3" and path.suffix.lower() == ".flac"):
        return _read_flac(file)
    if head in (b".snd", b"dns."):
        return _read_au(file)
    return _read_mp3(file, path)


@dataclass
class _Found:
    """What the chunks of a file have given so far."""

    tags: list[tuple[str, str]] = field(default_factory=list)
    id3_tags: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    extras: list[Extra] = field(default_factory=list)
    channels: int = 0
    mask: int | None = None


def _read_chunks(file: BinaryIO, container: Container, path: Path) -> Metadata:
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
            _take_chunk(found, container.family, chunk.name, content)
        except Exception as error:  # whatever damaged metadata make of their reader
            log.warning("%s: %s cannot be read (%s)", printable(path), name, _reason(error))
    tags = _merged(found.id3_tags, (tag for tag in found.tags if tag[1]))
    return Metadata(tags, tuple(found.pictures), tuple(found.extras), found.mask)


def _take_chunk(found: _Found, family: str, id_: bytes, content: bytes) -> None:
    extra = Extra("" if id_ in STALE else family, _name_of(id_, content), id_ + content)
    if id_ in (b"id3 ", b"ID3 "):
        tags, pictures, extras = _from_id3(_parsed_id3(io.BytesIO(content)))
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


def _merged(tags: list[tuple[str, str]], others: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Tags, and those of ``others`` that have other names."""
    names = {name for name, _ in tags}
    return (*tags, *(tag for tag in others if tag[0] not in names))


def _name_of(id_: bytes, content: bytes = b"") -> str:
    if id_ == b"LIST":
        id_ = content[:4]
    return CHUNK_NAMES.get(id_) or printable(id_.decode("ascii", errors="replace").strip())


def _reason(error: Exception) -> str:
    return printable(error) or type(error).__name__


def _format_chunk(id_: bytes, content: bytes, order: Order) -> tuple[int, int | None]:
    """Number of channels and mask."""
    if id_ == b"desc":
        return (int.from_bytes(content[24:28], "big"), None)
    if id_ == b"COMM":
        return (int.from_bytes(content[:2], "big"), None)
    extensible = len(content) >= 40 and int.from_bytes(content[:2], order) == EXTENSIBLE
    return int.from_bytes(content[2:4], order), int.from_bytes(content[20:24], order) if extensible else None


def _mask_of_layout(content: bytes, channels: int) -> int | None:
    """Mask of the layout chunk of a CAF or AIFF file; None if a mask cannot say it."""
    tag, bitmap = struct.unpack(">II", content[:8])
    if tag == CHANNEL_BITMAP:
        return int(bitmap)
    return DEFAULT_MASKS.get(channels) if tag in DEFAULT_LAYOUT_TAGS and tag & 0xFFFF == channels else None


def _info_tags(content: bytes, order: Order) -> Iterator[tuple[str, str]]:
    position = 4
    while position + 8 <= len(content):
        id_, size = content[position : position + 4], int.from_bytes(content[position + 4 : position + 8], order)
        text = _text(content[position + 8 : position + 8 + size])
        if text and id_.isascii():
            yield INFO.get(id_.decode(), id_.decode()), text
        position += 8 + size + size % 2


def _caf_tags(content: bytes) -> Iterator[tuple[str, str]]:
    words = content[4:].split(b"\0")
    for name, text in zip(words[::2], words[1::2], strict=False):
        if name:
            tag = _text(name)
            yield CAF_INFO.get(tag, tag.upper()), _text(text)


def _text(content: bytes) -> str:
    """Text up to its first zero byte, in UTF-8 or else as Windows writes it."""
    content = content.split(b"\0", 1)[0]
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _parsed_id3(file: BinaryIO) -> Any:
    from mutagen.id3 import ID3

    return ID3(file, known_frames=_uncompressed_frames())


@functools.cache
def _uncompressed_frames() -> dict[str, Any]:
    """Frame classes that leave compressed frames unread: those of a small tag can fill the memory."""
    from mutagen.id3 import Frame, Frames, Frames_2_2

    def guarded(kind: Any) -> Any:
        def from_data(_: Any, header: Any, flags: int, data: bytes) -> Any:
            if flags & (Frame.FLAG24_COMPRESS if header.version >= (2, 4) else Frame.FLAG23_COMPRESS):
                raise NotImplementedError
            return kind._fromData(header, flags, data)

        return type(kind.__name__, (kind,), {"_fromData": classmethod(from_data)})

    return {**Frames_2_2, **{name: guarded(kind) for name, kind in Frames.items()}}


def _read_mp3(file: BinaryIO, path: Path) -> Metadata:
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
        from_id3, pictures, extras = _from_id3(_parsed_id3(file))
    except ID3NoHeaderError:
        return Metadata(tuple(tags))
    return Metadata(_merged(from_id3, tags), tuple(pictures), tuple(extras))


def _from_id3(id3: Any) -> tuple[list[tuple[str, str]], list[bytes], list[Extra]]:
    """Tags, pictures and the remaining frames of an ID3 tag."""
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


def _read_flac(file: BinaryIO) -> Metadata:
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


def _read_ogg(file: BinaryIO) -> Metadata:
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
    """Tags, pictures and channel mask of Vorbis comments."""
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


def _read_au(file: BinaryIO) -> Metadata:
    """The annotation between header and samples."""
    data = find_data(file)
    file.seek(AU_HEADER)
    text = _text(file.read(min(data.start, MAX_BYTES) - AU_HEADER)) if data and data.start > AU_HEADER else ""
    return Metadata((("COMMENT", text),) if text else ())


# Write


def write_metadata(path: Path, metadata: Metadata, format: str, channels: int) -> list[str]:
    """Write metadata into a finished audio file; its samples stay as they are.

    Args:
        path: the file, which has no metadata yet.
        metadata: what it is to hold.
        format: libsndfile's name of its format.
        channels: how many it has.

    Returns:
        Names of what the format cannot hold.

    Raises:
        OSError: the file cannot be written.
    """
    kinds = KINDS.get(format, ())
    extras = [extra for extra in metadata.extras if extra.kind in kinds]
    lost = [extra.name for extra in metadata.extras if extra.kind not in kinds and extra.name]
    held = dataclasses.replace(metadata, extras=tuple(extras))
    if format in ("WAV", "WAVEX", "RF64", "AIFF", "CAF"):
        lost += _write_chunks(path, held, "RIFF" if "RIFF" in kinds else format, channels)
    elif format == "FLAC":
        lost += _write_flac(path, held, channels)
    elif format == "OGG":
        lost += _write_ogg(path, held)
    elif format == "MP3":
        if held.tags or held.pictures or held.extras:
            _id3_of(held).save(path)
    else:  # W64 could have chunks, but libsndfile takes what follows the sound for sound
        lost += sorted({name.lower() for name, _ in held.tags}) + ["pictures"] * bool(held.pictures)
    if format in ("WAV", "WAVEX", "RF64", "W64"):
        _write_mask(path, metadata.channel_mask, channels)
    elif format in ("OGG", "MP3", "AU", "NIST") and not _is_default(metadata.channel_mask, channels):
        lost.append(LAYOUT)
    return list(dict.fromkeys(lost))


def _is_default(mask: int | None, channels: int) -> bool:
    """Whether a file without a mask says the same: a mask of no speaker says nothing of one or two channels."""
    return mask is None or mask == DEFAULT_MASKS.get(channels) or (mask == 0 and channels <= 2)


def _without_sides(mask: int) -> int:
    """A mask whose only surround speakers are at the sides, with these at the back."""
    return mask & ~0x600 | 0x30 if mask & 0x630 == 0x600 else mask


def _write_chunks(path: Path, metadata: Metadata, family: str, channels: int) -> list[str]:
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
        chunks.append((b"id3 " if family == "RIFF" else b"ID3 ", _id3_bytes_of(metadata)))
    if family != "RIFF" and not _is_default(metadata.channel_mask, channels):
        layout = struct.pack(">III", CHANNEL_BITMAP, metadata.channel_mask, 0)
        chunks.insert(0, (b"chan" if family == "CAF" else b"CHAN", layout))
    if chunks and not append_chunks(path, chunks):
        lost += [_name_of(*chunk) for chunk in chunks]
    return lost


def _copied_tags(family: str, id_: bytes, content: bytes) -> Iterable[tuple[str, str]]:
    """Tags that a copied chunk holds already."""
    if family in ("RIFF", "RIFX") and id_ == b"LIST" and content[:4] == b"INFO":
        return _info_tags(content, "little" if family == "RIFF" else "big")
    name = AIFF_TEXT.get(id_.decode()) if family == "AIFF" else None
    return [(name, _text(content))] if name else []


def _text_chunks(family: str, tags: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Plain text chunks for the programs that do not read ID3: the first value of each tag that they have."""
    first = dict(reversed([*tags]))
    first.setdefault("COMMENT", first.get("DESCRIPTION", ""))  # what FLAC files call a comment
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


def _write_mask(path: Path, mask: int | None, channels: int) -> None:
    """State the channel mask in the format chunk of a WAV file."""
    with path.open("r+b") as file:
        chunk = next(chunk for chunk in chunks_of(file) if chunk.name == b"fmt ")
        file.seek(chunk.start)
        content = file.read(chunk.size)
        if int.from_bytes(content[:2], "little") == EXTENSIBLE:
            if mask is not None:
                file.seek(chunk.start + 20)
                file.write(struct.pack("<I", mask))
            return
    if not _is_default(mask, channels) and chunk.size in (16, 18):
        extension = struct.pack("<HHI", 22, int.from_bytes(content[14:16], "little"), mask) + content[:2] + SUBFORMAT
        replace_chunk(path, b"fmt ", struct.pack("<H", EXTENSIBLE) + content[2:16] + extension)


def _id3_of(metadata: Metadata) -> Any:
    """An ID3 tag."""
    from mutagen import id3
    from mutagen.flac import Picture

    tag = id3.ID3()
    for extra in metadata.extras:
        if extra.kind == "ID3":
            for frame in _parsed_id3(io.BytesIO(extra.data)).values():
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


def _id3_bytes_of(metadata: Metadata) -> bytes:
    return _id3_bytes(_id3_of(metadata).values())


def _id3_bytes(frames: Iterable[Any]) -> bytes:
    from mutagen.id3 import ID3

    tag, buffer = ID3(), io.BytesIO()
    for frame in frames:
        tag.add(frame)
    tag.save(buffer, padding=lambda _: 0)
    return buffer.getvalue()


def _vorbis(metadata: Metadata) -> tuple[list[tuple[str, str]], list[str]]:
    """Vorbis comments, and the names that they cannot have."""
    valid = re.compile("[ -<>-}]+")
    comments = [tag for tag in metadata.tags if valid.fullmatch(tag[0])]
    return comments, sorted({printable(name.lower()) for name, _ in metadata.tags if not valid.fullmatch(name)})


def _write_flac(path: Path, metadata: Metadata, channels: int) -> list[str]:
    from mutagen.flac import FLAC, MetadataBlock, Picture

    comments, lost = _vorbis(metadata)
    mask = metadata.channel_mask
    if mask is not None and not (channels <= 2 and _is_default(mask, channels)):
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


def _write_ogg(path: Path, metadata: Metadata) -> list[str]:
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
    """Derive the serial number of an Ogg file from its content: libsndfile draws one, and the file differs each time.

    Files that differ need different numbers, since they may be joined into one.
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
