"""Test that metadata of a recording are kept in the restored file or reported as lost."""

import json
import logging
import os
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE
from mutagen.aiff import AIFF
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, COMM, ID3, PRIV, TIT2, TRCK, TSRC, TXXX
from mutagen.mp3 import MP3
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from dawp.io.chunks import chunks_of, replace_chunk
from dawp.io.formats import Form, form_of, write
from dawp.io.metadata import chunks as chunk_metadata
from dawp.io.metadata import files
from dawp.io.metadata.files import read_metadata
from dawp.io.metadata.model import DEFAULT_MASKS, Extra, Metadata

TAGS = {
    "TITLE": ["Réel 12"],
    "ARTIST": ["Choir", "Organ"],
    "ALBUM": ["Tapes"],
    "DATE": ["1987-03-12"],
    "GENRE": ["folk"],
    "TRACKNUMBER": ["3"],
    "ISRC": ["XX1234567890"],
    "COMPOSER": ["Anon"],
    "COMMENT": ["tape 12"],
    "REPLAYGAIN_TRACK_GAIN": ["-3.00 dB"],
    "ARCHIVE BOX": ["17"],
}
EVERY_OUTPUT = ("wav", "rf64", "w64", "aiff", "caf", "flac", "ogg", "opus", "mp3", "au", "sph")


def png():
    """Return a PNG picture of one pixel."""

    def part(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(bytes(4))) + part(b"IEND", b"")


def picture():
    made = Picture()
    made.type, made.mime, made.desc, made.data = 3, "image/png", "front", png()
    made.width = made.height = 1
    return made


def bext():
    fields = struct.pack(
        "<256s32s32s10s8sQH", b"Reel 12", b"NAGRA-D", b"REF1", b"1987-03-12", b"12:00:00", 345600000, 1
    )
    return fields + bytes(254) + b"A=PCM,F=16000,W=16,M=mono\r\n"


CUE = struct.pack("<IIIIIII", 1, 1, 500, 0x61746164, 0, 0, 500)
LABEL = b"adtl" + b"labl" + struct.pack("<I", 11) + struct.pack("<I", 1) + b"chorus\0" + b"\0"
INFO = b"INFO" + b"INAM" + struct.pack("<I", 5) + b"R\xe9el\0" + b"\0" + b"IPRT" + struct.pack("<I", 4) + b"3/9\0"
RIFF_CHUNKS = {b"bext": bext(), b"cue ": CUE, b"iXML": b"<BWFXML/>", b"smpl": bytes(36)}
RIFF_LISTS = [LABEL, INFO]


def sound(path, channels=1, frames=2000, subtype=None, format=None):
    samples = 0.1 * np.random.default_rng(1).standard_normal((frames, channels))
    soundfile.write(path, samples, RATE, subtype, format=format)
    return path


def with_chunks(path, chunks, big=False):
    """Add chunks after the sound of a WAV or AIFF file."""
    order = ">" if big else "<"
    data = path.read_bytes()
    for name, content in chunks:
        data += name + struct.pack(order + "I", len(content)) + content + b"\0" * (len(content) % 2)
    path.write_bytes(data[:4] + struct.pack(order + "I", len(data) - 8) + data[8:])
    return path


def broadcast(path):
    return with_chunks(sound(path), [*RIFF_CHUNKS.items(), *((b"LIST", content) for content in RIFF_LISTS)])


def tagged_flac(path):
    flac = FLAC(sound(path))
    for name, values in TAGS.items():
        flac[name] = values
    flac.add_picture(picture())
    flac.save()
    return path


def masked(path, mask, channels, subtype="PCM_16"):
    data = bytearray(sound(path, channels, subtype=subtype, format="WAVEX").read_bytes())
    data[40:44] = struct.pack("<I", mask)
    path.write_bytes(data)
    return path


def copied(source, output, scale=1.0, metadata=None, subtype=None):
    """Write a recording like a restoration, with unchanged samples."""
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    facts = soundfile.info(source)
    form = form_of(output, Form(facts.format, facts.subtype), subtype, rate, samples.shape[1], len(samples))
    pieces = torch.from_numpy(scale * samples.T)
    write(output, lambda: iter([pieces]), rate, form, "rescale", metadata or read_metadata(source))
    return output


def chunks(path):
    with path.open("rb") as file:
        found = []
        for chunk in chunks_of(file):
            file.seek(chunk.start)
            found.append((chunk.name, file.read(chunk.size)))
    return found


def values(path):
    """Return the values of all tags by name."""
    found = {}
    for name, text in read_metadata(path).tags:
        found.setdefault(name, []).append(text)
    return found


# Chunks of WAV and AIFF


@pytest.mark.parametrize("suffix", ["wav", "rf64"])
def test_broadcast_chunks_markers_and_labels_are_copied_exactly(tmp_path, suffix, caplog):
    output = copied(broadcast(tmp_path / "a.wav"), tmp_path / f"b.{suffix}")
    found = chunks(output)
    for name, content in RIFF_CHUNKS.items():
        assert (name, content) in found
    assert [content for name, content in found if name == b"LIST"] == RIFF_LISTS
    assert "not kept" not in caplog.text
    assert values(output) == {"TITLE": ["Réel"], "TRACKNUMBER": ["3/9"]}


def test_other_formats_keep_the_tags_of_a_broadcast_file_and_report_the_rest(tmp_path, caplog):
    output = copied(broadcast(tmp_path / "a.wav"), tmp_path / "b.flac")
    assert FLAC(output).tags.as_dict() == {"title": ["Réel"], "tracknumber": ["3/9"]}
    (line,) = (record.message for record in caplog.records if "not kept" in record.message)
    assert all(name in line for name in ("bext", "cue markers", "marker labels", "iXML", "sampler loops"))


def test_a_checksum_of_the_recordings_samples_is_not_kept(tmp_path, caplog):
    source = with_chunks(sound(tmp_path / "a.wav"), [(b"MD5 ", bytes(16)), (b"cart", bytes(64))])
    names = [name for name, _ in chunks(copied(source, tmp_path / "b.wav"))]
    assert b"cart" in names
    assert b"MD5 " not in names
    assert "MD5" in caplog.text


def test_markers_and_texts_of_an_aiff_file_are_copied_exactly(tmp_path):
    mark = struct.pack(">HHI", 1, 1, 500) + b"\x06chorus\0"
    comments = struct.pack(">HIHH", 1, 0, 0, 4) + b"warm"
    added = [(b"NAME", b"Reel 12"), (b"AUTH", b"Choir"), (b"ANNO", b"tape 12"), (b"MARK", mark), (b"COMT", comments)]
    source = with_chunks(sound(tmp_path / "a.aiff", subtype="PCM_16"), added, big=True)
    assert set(added) <= set(chunks(copied(source, tmp_path / "b.aiff")))
    flac = FLAC(copied(source, tmp_path / "b.flac"))
    assert flac.tags.as_dict() == {"title": ["Reel 12"], "artist": ["Choir"], "comment": ["tape 12"]}


def test_markers_follow_8_bit_sound_of_an_odd_number_of_samples(tmp_path):
    mark = struct.pack(">HHI", 1, 1, 500) + b"\x06chorus\0"
    source = with_chunks(sound(tmp_path / "a.aiff", subtype="PCM_16"), [(b"MARK", mark)], big=True)
    samples = torch.from_numpy(soundfile.read(source, dtype="float32")[0])[None, :1999]
    output = tmp_path / "b.aiff"
    write(output, lambda: iter([samples]), RATE, Form("AIFF", "PCM_S8"), "rescale", read_metadata(source))
    assert (b"MARK", mark) in chunks(output)
    assert soundfile.info(output).frames == 1999


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24"])
def test_chunks_follow_sounds_of_an_odd_number_of_bytes(tmp_path, subtype):
    source = with_chunks(sound(tmp_path / "a.wav", frames=2000, subtype="PCM_16"), [(b"iXML", b"<odd/>!")])
    samples = torch.from_numpy(soundfile.read(source, dtype="float32")[0])[None, :1999]
    output = tmp_path / "b.wav"
    write(output, lambda: iter([samples]), RATE, Form("WAV", subtype), "rescale", read_metadata(source))
    assert (b"iXML", b"<odd/>!") in chunks(output)
    assert soundfile.info(output).frames == 1999
    assert int.from_bytes(output.read_bytes()[4:8], "little") == output.stat().st_size - 8


def test_the_chunks_of_a_w64_file_are_kept_in_a_wav_file(tmp_path):
    path = sound(tmp_path / "a.w64")
    suffix = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    with path.open("ab") as file:
        file.write(b"bext" + suffix + struct.pack("<Q", 24 + len(bext())) + bext() + bytes(-len(bext()) % 8))
    assert (b"bext", bext()) in chunks(copied(path, tmp_path / "b.wav", metadata=read_metadata(path)))


def test_a_big_endian_wav_file_keeps_its_tags_and_names_its_chunks(tmp_path, caplog):
    path = tmp_path / "a.wav"
    samples = np.random.default_rng(1).uniform(-0.1, 0.1, (2000, 2))
    soundfile.write(path, samples, RATE, "PCM_16", endian="BIG")
    assert path.read_bytes()[:4] == b"RIFX"
    layout = struct.pack(">HHIIHHHHIIHH", 0xFFFE, 2, RATE, 4 * RATE, 4, 16, 22, 16, 0x600, 1, 0, 16)
    replace_chunk(path, b"fmt ", layout + b"\x80\0\0\xaa\0\x38\x9b\x71")
    with_chunks(path, [(b"bext", bext()), (b"LIST", b"INFO" + b"INAM" + struct.pack(">I", 5) + b"Reel\0\0")], big=True)
    output = copied(path, tmp_path / "b.wav")
    assert values(output) == {"TITLE": ["Reel"]}
    assert read_metadata(output).channel_mask == 0x600
    assert "not kept: bext" in caplog.text


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_chunks_are_not_searched_within_the_sound(tmp_path, size):
    path = sound(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    data[40:44] = struct.pack("<I", size)
    path.write_bytes(data)
    assert read_metadata(path) == Metadata()


def test_a_chunk_without_padding_byte_does_not_hide_others(tmp_path):
    path = sound(tmp_path / "a.wav")
    chunks = b"iXML" + struct.pack("<I", 3) + b"<x>" + b"bext" + struct.pack("<I", len(bext())) + bext()
    with path.open("ab") as file:
        file.write(chunks)
    assert [extra.name for extra in read_metadata(path).extras] == ["iXML", "bext"]


def test_a_truncated_chunk_is_reported(tmp_path, caplog):
    path = with_chunks(sound(tmp_path / "a.wav"), [(b"bext", bext())])
    path.write_bytes(path.read_bytes()[:-50])
    assert read_metadata(path).extras == ()
    assert "bext" in caplog.text


# Tags and pictures


def id3_of(path):
    return {"wav": WAVE, "aiff": AIFF, "mp3": MP3}[path.suffix[1:]](path).tags


@pytest.mark.parametrize("suffix", ["wav", "aiff", "mp3"])
def test_vorbis_comments_become_id3_frames(tmp_path, suffix):
    tags = id3_of(copied(tagged_flac(tmp_path / "a.flac"), tmp_path / f"b.{suffix}"))
    expected = {"TIT2": "TITLE", "TPE1": "ARTIST", "TDRC": "DATE", "TRCK": "TRACKNUMBER", "TSRC": "ISRC"}
    for frame, name in {**expected, "TCOM": "COMPOSER"}.items():
        assert [str(text) for text in tags[frame].text] == TAGS[name]
    assert tags["COMM::XXX"].text == TAGS["COMMENT"]
    assert tags["TXXX:REPLAYGAIN_TRACK_GAIN"].text == TAGS["REPLAYGAIN_TRACK_GAIN"]
    assert tags["APIC:front"].data == png()
    assert tags["APIC:front"].type == 3


@pytest.mark.parametrize(("suffix", "kind"), [("ogg", OggVorbis), ("opus", OggOpus), ("flac", FLAC)])
def test_tags_and_picture_in_formats_with_vorbis_comments(tmp_path, suffix, kind):
    found = kind(copied(tagged_flac(tmp_path / "a.flac"), tmp_path / f"b.{suffix}"))
    assert {name: found.tags[name] for name in TAGS} == TAGS
    if suffix == "flac":
        assert found.pictures[0].write() == picture().write()
    else:
        assert found.tags["METADATA_BLOCK_PICTURE"]


@pytest.mark.parametrize("suffix", ["wav", "rf64", "aiff", "flac", "ogg", "opus", "mp3"])
def test_tags_and_picture_are_kept_in_every_format_and_back(tmp_path, suffix):
    there = copied(tagged_flac(tmp_path / "a.flac"), tmp_path / f"b.{suffix}")
    again = copied(there, tmp_path / f"c.{suffix}")
    back = copied(again, tmp_path / "d.flac")
    assert values(there) == values(again) == values(back) == TAGS
    (found,) = FLAC(back).pictures
    assert (found.type, found.mime, found.desc, found.data) == (3, "image/png", "front", png())


def test_a_caf_file_keeps_tags_and_reports_the_rest(tmp_path, caplog):
    there = copied(tagged_flac(tmp_path / "a.flac"), tmp_path / "b.caf")
    assert "pictures" in caplog.text
    assert values(copied(there, tmp_path / "c.caf")) == {**TAGS, "ARTIST": ["Choir; Organ"]}


@pytest.mark.parametrize("suffix", ["au", "sph", "w64"])
def test_formats_without_tags_report_them(tmp_path, suffix, caplog):
    copied(tagged_flac(tmp_path / "a.flac"), tmp_path / f"b.{suffix}")
    assert all(name in caplog.text for name in ("title", "isrc", "pictures"))


@pytest.mark.parametrize("suffix", ["mp3", "wav", "aiff"])
def test_frames_specific_to_id3_are_kept_in_id3_and_reported_elsewhere(tmp_path, suffix, caplog):
    source = sound(tmp_path / "a.mp3")
    tag = ID3()
    for frame in (
        TIT2(encoding=1, text="Réel"),
        TRCK(encoding=0, text="3/9"),
        TSRC(encoding=0, text="XX1234567890"),
        TXXX(encoding=3, desc="REPLAYGAIN_TRACK_GAIN", text="-3 dB"),
        COMM(encoding=3, lang="eng", desc="", text="tape 12"),
        APIC(encoding=3, mime="image/png", type=3, desc="", data=png()),
        PRIV(owner="archive", data=b"\0\1"),
    ):
        tag.add(frame)
    tag.save(source, v2_version=3)
    tags = id3_of(copied(source, tmp_path / f"b.{suffix}", subtype=None if suffix == "mp3" else "PCM_16"))
    assert tags.getall("PRIV")[0].data == b"\0\1"
    assert tags["TRCK"].text == ["3/9"]
    assert "not kept" not in caplog.text
    flac = FLAC(copied(source, tmp_path / "b.flac", subtype="PCM_16"))
    assert flac["TITLE"] == ["Réel"]
    assert flac["COMMENT"] == ["tape 12"]
    assert flac.pictures[0].data == png()
    assert "PRIV" in caplog.text


@pytest.mark.parametrize(("version", "flag"), [(3, 0x80), (4, 0x08)])
def test_compressed_frames_are_reported_and_never_expanded(tmp_path, version, flag, caplog):
    body = struct.pack(">I", 1 << 20) + zlib.compress(bytes(1 << 20))
    size = bytes([0, 0, len(body) >> 7, len(body) & 0x7F]) if version == 4 else struct.pack(">I", len(body))
    frames = b"PRIV" + size + bytes([0, flag]) + body + b"TIT2" + b"\0\0\0\2" + bytes(2) + b"\0a"
    tag = b"ID3" + bytes([version, 0, 0, 0, 0, len(frames) >> 7, len(frames) & 0x7F]) + frames
    source = with_chunks(sound(tmp_path / "a.wav"), [(b"id3 ", tag)])
    assert values(source) == {"TITLE": ["a"]}
    assert all(len(extra.data) < 2000 for extra in read_metadata(source).extras)
    copied(source, tmp_path / "b.wav")
    assert "not kept: ID3 PRIV" in caplog.text


def test_cue_sheet_and_application_data_of_flac(tmp_path):
    source = tagged_flac(tmp_path / "a.flac")
    flac = FLAC(source)
    block = module_block(2, b"dawp" + b"anything")
    flac.metadata_blocks.append(block)
    flac.save()
    again = FLAC(copied(source, tmp_path / "b.flac"))
    assert [found.write() for found in again.metadata_blocks if found.code == 2] == [b"dawpanything"]


def module_block(code, content):
    from mutagen.flac import MetadataBlock

    block = MetadataBlock(content)
    block.code = code
    return block


def test_replaygain_is_dropped_and_reported_if_the_level_changes(tmp_path, caplog):
    output = copied(tagged_flac(tmp_path / "a.flac"), tmp_path / "b.flac", scale=20)
    assert "REPLAYGAIN_TRACK_GAIN" not in values(output)
    assert values(output)["TITLE"] == TAGS["TITLE"]
    assert "not kept: ReplayGain" in caplog.text


# Channel layouts

MASKS = [(0xB, 3), (0x603, 4), (0x1, 1), (0x60F, 6), (0x33, 4), (0x0, 4), (0x7, 3)]


@pytest.mark.parametrize(("mask", "channels"), MASKS)
@pytest.mark.parametrize("suffix", ["wav", "rf64", "w64", "flac", "caf", "aiff"])
def test_channel_masks_are_kept(tmp_path, suffix, mask, channels, caplog):
    source = masked(tmp_path / "a.wav", mask, channels)
    output = copied(source, tmp_path / f"b.{suffix}")
    default = DEFAULT_MASKS[channels]
    assert (read_metadata(output).channel_mask if mask != default else default) == mask
    assert (soundfile.read(output)[0] == soundfile.read(source)[0]).all()
    back = copied(output, tmp_path / "c.wav")
    assert (read_metadata(back).channel_mask if mask != default else default) == mask
    assert "not kept" not in caplog.text


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="needs ffprobe")
@pytest.mark.parametrize("suffix", ["wav", "rf64", "w64", "flac", "caf", "aiff"])
def test_other_programs_read_the_channel_masks(tmp_path, suffix):
    for (mask, channels), name in {(0xB, 3): "2.1", (0x603, 4): "quad(side)", (0x60F, 6): "5.1(side)"}.items():
        output = copied(masked(tmp_path / "a.wav", mask, channels), tmp_path / f"{mask}.{suffix}")
        command = ["ffprobe", "-v", "error", "-show_streams", "-of", "json", str(output)]
        probe = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert probe["streams"][0]["channel_layout"] == name


@pytest.mark.parametrize("suffix", ["ogg", "opus", "au"])
def test_formats_without_masks_report_a_layout_other_than_their_default(tmp_path, suffix, caplog):
    copied(masked(tmp_path / "a.wav", 0x3, 2), tmp_path / f"a.{suffix}")
    assert "channel layout" not in caplog.text
    copied(masked(tmp_path / "b.wav", 0x603, 4), tmp_path / f"b.{suffix}")
    assert "channel layout" in caplog.text


def tones(path, **how):
    """Write six channels with one tone each."""
    time = np.arange(RATE // 2) / RATE
    samples = np.stack([0.2 * np.sin(2 * np.pi * 100 * (channel + 1) * time) for channel in range(6)], axis=1)
    soundfile.write(path, samples, RATE, **how)
    return path


def pitches(samples):
    spectrum = np.abs(np.fft.rfft(samples[:8000], axis=0))
    return [round(pitch * RATE / 8000, -2) for pitch in spectrum.argmax(axis=0).tolist()]


def test_channels_are_in_the_order_of_each_format(tmp_path):
    source = tones(tmp_path / "a.wav", format="WAVEX", subtype="PCM_16")
    in_order = [100, 200, 300, 400, 500, 600]
    there = copied(source, tmp_path / "b.ogg")
    assert pitches(soundfile.read(there)[0]) == [100, 300, 200, 500, 600, 400]  # Vorbis: L C R Ls Rs LFE
    assert pitches(soundfile.read(copied(there, tmp_path / "c.wav"))[0]) == in_order
    assert pitches(soundfile.read(copied(there, tmp_path / "c.ogg"))[0]) == [100, 300, 200, 500, 600, 400]
    assert pitches(soundfile.read(copied(source, tmp_path / "c.flac"))[0]) == in_order


@pytest.mark.parametrize("channels", range(1, 9))
def test_the_channel_order_of_vorbis_is_reversible(channels):
    there = Metadata().channel_order("OGG", channels) or range(channels)
    back = Metadata(vorbis_order=True).channel_order("WAV", channels) or range(channels)
    assert [list(there)[place] for place in back] == list(range(channels))


# Samples, bytes and bad input


@pytest.mark.parametrize("suffix", EVERY_OUTPUT)
def test_metadata_do_not_change_the_samples_and_files_are_reproducible(tmp_path, suffix):
    source = tagged_flac(tmp_path / "a.flac")
    first, again = copied(source, tmp_path / f"b.{suffix}"), copied(source, tmp_path / f"c.{suffix}")
    plain = copied(source, tmp_path / f"d.{suffix}", metadata=Metadata())
    assert (soundfile.read(first)[0] == soundfile.read(plain)[0]).all()
    assert soundfile.info(first).frames == soundfile.info(plain).frames
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("suffix", ["ogg", "opus"])
def test_ogg_files_of_other_sounds_can_be_joined(tmp_path, suffix):
    one = copied(sound(tmp_path / "a.wav", frames=40000), tmp_path / f"a.{suffix}")
    other = copied(sound(tmp_path / "b.wav", frames=30000), tmp_path / f"b.{suffix}")
    serials = {path.read_bytes()[14:18] for path in (one, other)}
    assert len(serials) == 2
    assert soundfile.read(one)[0].shape == (40000,)


def damaged():
    """Yield files with damaged metadata and readable sound."""
    rng = np.random.default_rng(2)
    noise = rng.bytes(400)
    yield "a.wav", [(b"id3 ", b"ID3\4\0\0\0\0\x7f\x7f" + noise)]
    yield "a.wav", [(b"id3 ", b"ID3\4\0\0\0\0\0\x20TIT2" + noise)]
    yield "a.wav", [(b"LIST", b"INFO" + noise)]
    yield "a.wav", [(b"LIST", b"INFO" + b"INAM\xff\xff\xff\xff" + noise)]
    yield "a.wav", [(b"bext", b""), (b"cue ", noise), (b"LIST", b""), (b"LIST", b"adtl")]
    yield "a.aiff", [(b"NAME", noise), (b"MARK", b""), (b"ID3 ", noise), (b"CHAN", b"\0")]


@pytest.mark.parametrize(("name", "added"), list(damaged()))
@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "mp3"])
def test_damaged_metadata_do_not_stop_a_restoration(tmp_path, name, added, suffix):
    source = with_chunks(sound(tmp_path / name, subtype="PCM_16"), added, big=name.endswith("aiff"))
    output = copied(source, tmp_path / f"b.{suffix}")
    assert soundfile.info(output).frames == 2000
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "wav", "caf"])
def test_changed_bytes_do_not_stop_the_reading(tmp_path, suffix):
    path = copied(tagged_flac(tmp_path / "a.flac"), tmp_path / f"b.{suffix}")
    whole = path.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(256)
        path.write_bytes(data[: rng.integers(1, len(data))])
        assert isinstance(read_metadata(path), Metadata)


def test_metadata_that_would_make_the_file_unreadable_are_left_out(tmp_path, caplog):
    cue_sheet_without_tracks = b"\5" + bytes(396)
    metadata = Metadata(extras=(Extra("FLAC", "cue sheet", cue_sheet_without_tracks),))
    output = copied(sound(tmp_path / "a.wav"), tmp_path / "b.flac", metadata=metadata)
    assert soundfile.info(output).frames == 2000
    assert "metadata cannot be written" in caplog.text


def test_a_failure_of_the_tag_library_keeps_the_sound(tmp_path, monkeypatch, caplog):
    source = tagged_flac(tmp_path / "a.flac")

    def spoil(path, *_):
        path.write_bytes(b"spoilt")
        raise IndexError

    monkeypatch.setattr(files, "write_flac", spoil)
    output = copied(source, tmp_path / "b.flac")
    assert soundfile.info(output).frames == 2000
    assert "metadata cannot be written" in caplog.text


def test_metadata_beyond_a_limit_are_left_out_with_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(chunk_metadata, "MAX_BYTES", 1000)
    source = with_chunks(sound(tmp_path / "a.wav"), [(b"iXML", bytes(1500)), (b"cart", bytes(100))])
    assert [extra.data[:4] for extra in read_metadata(source).extras] == [b"cart"]
    assert "iXML" in caplog.text
    flac = tagged_flac(tmp_path / "b.flac")
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    assert read_metadata(flac) == Metadata()


def test_names_of_lost_metadata_are_printable(tmp_path, caplog):
    source = sound(tmp_path / "a.flac")
    flac = FLAC(source)
    flac["A\x1f"[:1]] = ["b"]
    flac.tags.append(("NAME \x7d", "x\x1b[31m"))
    flac.save()
    with caplog.at_level(logging.WARNING):
        copied(source, tmp_path / "b.au")
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg"])
def test_metadata_are_kept_for_any_file_name(tmp_path, suffix):
    source = tagged_flac(tmp_path / "a.flac")
    output = copied(source, tmp_path / f"{os.fsdecode(bytes([0xFF, 0x0A]))}.{suffix}")
    assert values(output)["ISRC"] == TAGS["ISRC"]


@pytest.mark.parametrize("suffix", EVERY_OUTPUT)
def test_a_file_without_metadata_has_none(tmp_path, suffix):
    found = read_metadata(copied(sound(tmp_path / "a.wav"), tmp_path / f"b.{suffix}"))
    assert [name for name, _ in found.tags if name != "ENCODER"] == []  # libsndfile adds it to Ogg files
    assert (found.pictures, found.extras, found.channel_mask in (None, 0x4)) == ((), (), True)
