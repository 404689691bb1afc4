"""Read and write the metadata of files of every format."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import BinaryIO

from dawp.errors import printable
from dawp.io.chunks import container_of, find_data
from dawp.io.metadata.chunks import read_chunks, write_chunks, write_mask
from dawp.io.metadata.id3 import read_mp3, to_id3
from dawp.io.metadata.model import LAYOUT, MAX_BYTES, Metadata, decode_text, is_default, reason
from dawp.io.metadata.vorbis import read_flac, read_ogg, write_flac, write_ogg

log = logging.getLogger(__name__)

AU_HEADER = 24  # bytes before the annotation

KINDS = {
    **{"WAV": ("RIFF", "ID3"), "WAVEX": ("RIFF", "ID3"), "RF64": ("RIFF", "ID3")},
    **{"AIFF": ("AIFF", "ID3"), "CAF": ("CAF",), "FLAC": ("FLAC",), "OGG": ("OGG",), "MP3": ("ID3",)},
}
"""Kinds of extras of each format. Formats that are missing hold no metadata."""


def read_metadata(path: Path) -> Metadata:
    """Read all metadata of an audio file; skip damaged metadata with a warning.

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
    except Exception as error:  # readers of damaged metadata raise errors of any type
        log.warning("%s: metadata cannot be read (%s)", printable(path), reason(error))
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
        return read_chunks(file, container, path)
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    if head == b"OggS":
        return read_ogg(file)
    if head == b"fLaC" or (head[:3] == b"ID3" and path.suffix.lower() == ".flac"):
        return read_flac(file)
    if head in (b".snd", b"dns."):
        return _read_au(file)
    return read_mp3(file, path)


def _read_au(file: BinaryIO) -> Metadata:
    """Read the annotation between header and samples."""
    data = find_data(file)
    file.seek(AU_HEADER)
    text = decode_text(file.read(min(data.start, MAX_BYTES) - AU_HEADER)) if data and data.start > AU_HEADER else ""
    return Metadata((("COMMENT", text),) if text else ())


def write_metadata(path: Path, metadata: Metadata, format: str, channels: int) -> list[str]:
    """Write metadata into a finished audio file without changing its samples.

    Args:
        path: a file without metadata.
        metadata: to write.
        format: libsndfile's name of its format.
        channels: number of channels.

    Returns:
        Names of the metadata that the format cannot hold.

    Raises:
        OSError: the file cannot be written.
    """
    kinds = KINDS.get(format, ())
    extras = [extra for extra in metadata.extras if extra.kind in kinds]
    lost = [extra.name for extra in metadata.extras if extra.kind not in kinds and extra.name]
    held = dataclasses.replace(metadata, extras=tuple(extras))
    if format in ("WAV", "WAVEX", "RF64", "AIFF", "CAF"):
        lost += write_chunks(path, held, "RIFF" if "RIFF" in kinds else format, channels)
    elif format == "FLAC":
        lost += write_flac(path, held, channels)
    elif format == "OGG":
        lost += write_ogg(path, held)
    elif format == "MP3":
        if held.tags or held.pictures or held.extras:
            to_id3(held).save(path)
    else:  # W64 allows chunks, but libsndfile reads data after the samples as samples
        lost += sorted({name.lower() for name, _ in held.tags}) + ["pictures"] * bool(held.pictures)
    if format in ("WAV", "WAVEX", "RF64", "W64"):
        write_mask(path, metadata.channel_mask, channels)
    elif format in ("OGG", "MP3", "AU", "NIST") and not is_default(metadata.channel_mask, channels):
        lost.append(LAYOUT)
    return list(dict.fromkeys(lost))
