"""Test every cell of the table in docs/formats.md. DAWP_UPDATE_DOCS=1 updates the table."""

import difflib
import os
import struct
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT
from mutagen.flac import Picture

from dawp.errors import BadInput
from dawp.io import audio
from dawp.io.formats import FORMATS, Form, form_of, write
from dawp.io.metadata.files import read_metadata
from dawp.io.metadata.model import Extra, Metadata
from dawp.io.sources import SOUND_SUFFIXES

DOCUMENT = ROOT / "docs" / "formats.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
RATE = 48000
OTHERS = (".m4a", ".aac", ".wma")
SUBTYPES = sorted(soundfile.available_subtypes())
MASK, CHANNELS = 0xB, 3

COVER = Picture()
COVER.type, COVER.mime, COVER.data = 3, "image/png", b"\x89PNG"
TAGS = (("TITLE", "a"), ("ISRC", "XX1234567890"), ("REPLAYGAIN_TRACK_GAIN", "-3 dB"))
SEVERAL = (("ARTIST", "b"), ("ARTIST", "c"))
PRIVATE_FRAME = b"ID3\4\0\0" + b"\0\0\0\x0d" + b"PRIV" + b"\0\0\0\x03" + b"\0\0" + b"o\0x"
CUE_SHEET = b"\5" + bytes(128 + 8 + 1 + 258) + b"\1" + struct.pack(">QB", 2000, 255) + bytes(12 + 1 + 13 + 1)

FEATURES = {
    "tags": Metadata(tags=TAGS),
    "several values of a tag": Metadata(tags=SEVERAL),
    "pictures": Metadata(pictures=(COVER.write(),)),
    "bext, iXML and other chunks": Metadata(extras=(Extra("RIFF", "bext", b"bext" + bytes(602)),)),
    "cue markers with labels": Metadata(
        extras=(
            Extra("RIFF", "cue markers", b"cue " + struct.pack("<IIIIIII", 1, 1, 9, 0x61746164, 0, 0, 9)),
            Extra("RIFF", "marker labels", b"LIST" + b"adtl" + b"labl" + struct.pack("<II", 6, 1) + b"a\0"),
        )
    ),
    "MARK, COMT and other chunks": Metadata(extras=(Extra("AIFF", "markers", b"MARK" + bytes(2)),)),
    "mark, regn and other chunks": Metadata(extras=(Extra("CAF", "markers", b"mark" + bytes(8)),)),
    "cue sheet, application data": Metadata(extras=(Extra("FLAC", "cue sheet", CUE_SHEET),)),
    "all ID3 frames": Metadata(extras=(Extra("ID3", "ID3 PRIV", PRIVATE_FRAME),)),
}


def copied(source: Path, output: Path, metadata: Metadata | None = None) -> bool:
    """Write a recording's samples and metadata to an output; return False if the format does not support them."""
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    facts = soundfile.info(source)
    pieces = torch.from_numpy(samples.T.copy())
    try:
        form = form_of(output, Form(facts.format, facts.subtype), None, rate, len(pieces), len(samples))
        write(output, lambda: iter([pieces]), rate, form, "rescale", metadata or read_metadata(source))
    except BadInput:
        return False
    return True


def source(folder: Path, channels: int = 1) -> Path:
    path = folder / f"{channels}.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal((2000, channels)), RATE, "PCM_16")
    return path


def holds(path: Path, wanted: Metadata) -> bool:
    found = read_metadata(path)
    return all(set(getattr(wanted, what)) <= set(getattr(found, what)) for what in ("tags", "pictures", "extras"))


def is_read(suffix: str, path: Path) -> bool:
    try:
        return suffix in SOUND_SUFFIXES and len(audio.read(path, RATE)) > 0
    except BadInput:
        return False


def sample_types(suffix: str, folder: Path) -> list[str]:
    types = []
    for subtype in SUBTYPES:
        output = folder / f"type{suffix}"
        try:
            form = form_of(output, Form("WAV", "PCM_16"), subtype, RATE, 1, 2000)
            write(output, lambda: iter([torch.zeros(1, 2000)]), RATE, form, "rescale")
        except BadInput:
            continue
        types.append(subtype)
    return types


def row(suffix: str, folder: Path) -> tuple[str, ...]:
    """Return the cells of a format except the first."""
    plain = folder / f"plain{suffix}"
    if suffix not in FORMATS:
        return ("no", "no", "", "", "")
    written = copied(source(folder), plain)
    kept = []
    for name, metadata in FEATURES.items():
        first, again = folder / f"first{suffix}", folder / f"again{suffix}"
        copied(source(folder), first, metadata)
        if holds(first, metadata) and copied(first, again) and holds(again, metadata):
            kept.append(name)
    masked, again = folder / f"mask{suffix}", folder / f"mask_again{suffix}"
    keeps_mask = (
        copied(source(folder, CHANNELS), masked, Metadata(channel_mask=MASK))
        and copied(masked, again)
        and read_metadata(again).channel_mask == MASK
    )
    yes = {True: "yes", False: "no"}
    types = ", ".join(sample_types(suffix, folder))
    return (yes[is_read(suffix, plain)], yes[written], types, "; ".join(kept) or "none", yes[keeps_mask])


def table(folder: Path) -> str:
    header = ("Suffix", "Read", "Written", "Sample types", "Metadata kept", "Channel mask kept")
    rows = [(suffix, row(suffix, folder)) for suffix in (*sorted(FORMATS, key=FORMATS.__getitem__), *OTHERS)]
    merged = [(" ".join(f"`{suffix}`" for suffix, _ in same), *cells) for cells, same in groupby(rows, lambda r: r[1])]
    lines = [header, ("---",) * len(header), *merged]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


@pytest.mark.slow
def test_the_table_of_formats_agrees_with_the_code(tmp_path):
    document = DOCUMENT.read_text(encoding="utf-8")
    before, rest = document.split(BEGIN)
    after = rest.split(END)[1]
    found = f"{before}{BEGIN}{table(tmp_path)}{END}{after}"
    if os.environ.get("DAWP_UPDATE_DOCS"):
        DOCUMENT.write_text(found, encoding="utf-8")
    changes = "\n".join(difflib.unified_diff(document.splitlines(), found.splitlines(), "docs/formats.md", "measured"))
    assert found == DOCUMENT.read_text(encoding="utf-8"), f"{changes}\nDAWP_UPDATE_DOCS=1 writes the table again"
