"""Tests of reading damaged sound files and files with wrong headers."""

import io
import logging
import struct

import numpy as np
import pytest
import soundfile
from conftest import RATE

from dawp.errors import BadInput
from dawp.io import audio
from dawp.io.formats import FORMATS
from dawp.io.reader import Reader

W64_GUID = bytes.fromhex("f3acd3118cd100c04f8edb8a")


def sound(frames=3 * RATE, channels=1):
    """Return a tone with weak noise; no two parts are equal, and none is silent."""
    seconds = np.arange(frames) / RATE
    noise = np.random.default_rng(0).standard_normal(frames)
    samples = 0.3 * np.sin(2 * np.pi * 440 * seconds) + 0.05 * noise
    return np.stack([samples, *[-samples] * (channels - 1)], axis=1)


def encoded(form, subtype=None, samples=None, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, sound() if samples is None else samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def read(path):
    with Reader(path) as file:
        return np.concatenate(list(file.blocks(10_000)))


def warnings(caplog):
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def with_size(content, name, size, form="<I", offset=4):
    """Change the size of a chunk in a file."""
    changed = bytearray(content)
    struct.pack_into(form, changed, content.index(name) + offset, size)
    return bytes(changed)


def correlation(samples, expected):
    return np.corrcoef(samples.ravel(), expected.ravel())[0, 1]


# Intact files


def writable():
    for form in sorted({*FORMATS.values(), "WAVEX"}):
        for subtype in soundfile.available_subtypes(form):
            for channels in (1, 2):
                try:
                    yield f"{form}-{subtype}-{channels}", encoded(form, subtype, sound(5000, channels))
                except soundfile.LibsndfileError:
                    continue


WRITABLE = [pytest.param(content, id=name) for name, content in writable() if "DWVW_12" not in name]


@pytest.mark.parametrize("content", WRITABLE)
def test_every_encoding_that_can_be_written_is_read(tmp_path, caplog, content):
    (tmp_path / "x").write_bytes(content)
    with Reader(tmp_path / "x") as file:
        samples = np.concatenate(list(file.blocks(700)))
        assert (len(samples), file.channels) == (file.frames, samples.shape[1])
        assert np.array_equal(file.read(1234, 4321), samples[1234:4321])
        assert np.array_equal(file.read(0, 10), samples[:10])
    assert 5000 <= len(samples) < 5000 + 1105  # the padding of an IMA ADPCM block may count
    assert np.isfinite(samples).all()
    assert not warnings(caplog)


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "GSM610"), ("WAV", "MS_ADPCM"), ("WAV", "NMS_ADPCM_16"), ("W64", "GSM610")],
)
def test_the_padding_of_the_last_block_is_not_read(tmp_path, form, subtype):
    (tmp_path / "x").write_bytes(encoded(form, subtype, sound(10_000)))
    assert len(read(tmp_path / "x")) == 10_000


def test_a_whole_block_of_padding_is_not_read(tmp_path):
    content = encoded("WAV", "GSM610", sound(6400))
    (tmp_path / "x.wav").write_bytes(with_size(content, b"fact", 6080, offset=8))
    assert len(read(tmp_path / "x.wav")) == 6080


def test_all_sound_is_read_with_a_wrong_number_of_frames(tmp_path):
    for channels in (1, 2):
        (tmp_path / "x.wav").write_bytes(encoded("WAV", "IMA_ADPCM", sound(400, channels)))
        assert len(read(tmp_path / "x.wav")) >= 400


def test_reading_forward_and_backward(tmp_path):
    (tmp_path / "x.flac").write_bytes(encoded("FLAC", "PCM_24"))
    whole = read(tmp_path / "x.flac")
    with Reader(tmp_path / "x.flac") as file:
        for start, stop in [(0, 100), (90, 20_000), (40_000, 60_000), (5, 6), (47_999, 48_000), (48_000, 50_000)]:
            assert np.array_equal(file.read(start, stop), whole[start:stop])


# Sizes


AIFF_SSND, RF64_DS64 = (b"SSND", ">I", 4), (b"ds64", "<Q", 16)


@pytest.mark.parametrize("size", [0, 1000])
@pytest.mark.parametrize(
    ("form", "where"),
    [
        ("WAV", (b"data", "<I", 4)),
        ("RF64", RF64_DS64),
        ("AIFF", AIFF_SSND),
        ("CAF", (b"data", ">q", 4)),
        ("AU", (b".snd", ">I", 8)),
    ],
)
def test_all_sound_is_read_with_a_size_that_is_too_small(tmp_path, caplog, form, where, size):
    content = encoded(form, "PCM_16")
    (tmp_path / "x").write_bytes(with_size(content, where[0], size, *where[1:]))
    (tmp_path / "intact").write_bytes(content)
    assert np.array_equal(read(tmp_path / "x"), read(tmp_path / "intact"))
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize(
    ("form", "where", "size"),
    [
        ("WAV", (b"data", "<I", 4), 0xFFFFFFFF),
        ("WAV", (b"data", "<I", 4), 0x7FFFFFFF),
        ("AIFF", AIFF_SSND, 0xFFFFFFFF),
        ("CAF", (b"data", ">q", 4), -1),
        ("AU", (b".snd", ">I", 8), 0xFFFFFFFF),
        ("AU", (b".snd", ">I", 8), 0x7FFFFFFF),
    ],
)
def test_an_open_size_is_not_a_fault(tmp_path, caplog, form, where, size):
    (tmp_path / "x").write_bytes(with_size(encoded(form, "PCM_16"), where[0], size, *where[1:]))
    assert len(read(tmp_path / "x")) == 3 * RATE
    assert not warnings(caplog)


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU", "NIST"])
def test_a_truncated_file_is_read_to_its_end(tmp_path, caplog, form):
    content = encoded(form, "PCM_16")
    (tmp_path / "x").write_bytes(content[: len(content) // 2])
    (tmp_path / "intact").write_bytes(content)
    samples = read(tmp_path / "x")
    assert RATE < len(samples) < 2 * RATE
    assert np.array_equal(samples, read(tmp_path / "intact")[: len(samples)])
    (warning,) = warnings(caplog)
    assert f"{3 - len(samples) / RATE:.3f} s" in warning.getMessage()


@pytest.mark.parametrize(
    "after",
    [
        b"LIST\x04\0\0\0INFO",
        b"LIST\xff\0\0\0INFOISFT",
        b"TAG" + b"x" * 125,
        bytes(1000),
    ],
    ids=["chunk", "truncated chunk", "tag", "zeros"],
)
def test_data_after_the_sound_are_not_read_as_sound(tmp_path, caplog, after):
    (tmp_path / "x.wav").write_bytes(encoded("WAV", "PCM_16") + after)
    assert len(read(tmp_path / "x.wav")) == 3 * RATE
    assert not warnings(caplog)


def test_a_chunk_after_the_sound_of_a_w64_file_is_not_read_as_sound(tmp_path):
    chunk = b"junk" + W64_GUID + struct.pack("<Q", 24 + 64) + bytes(range(64))
    (tmp_path / "x.w64").write_bytes(encoded("W64", "PCM_16") + chunk)
    assert len(read(tmp_path / "x.w64")) == 3 * RATE


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_a_truncated_block_is_not_decoded(tmp_path, subtype):
    content = encoded("WAV", subtype)
    (tmp_path / "intact").write_bytes(content)
    whole = read(tmp_path / "intact")
    for cut in (101, 102, 115):
        (tmp_path / "x").write_bytes(content[: len(content) // 2 + cut])
        samples = read(tmp_path / "x")
        assert len(samples) > RATE
        assert np.array_equal(samples, whole[: len(samples)])


# FLAC


def test_a_flac_file_without_a_length(tmp_path, caplog):
    content = bytearray(encoded("FLAC", "PCM_16"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "x.flac").write_bytes(content)
    with Reader(tmp_path / "x.flac") as file:
        assert file.stated_frames == file.frames == 3 * RATE
    assert not warnings(caplog)
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    assert RATE // 2 < len(read(tmp_path / "cut.flac")) < 2 * RATE
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("channels", [1, 2])
def test_damaged_frames_of_a_flac_file_become_silence_of_equal_length(tmp_path, caplog, channels):
    content = bytearray(encoded("FLAC", "PCM_16", sound(channels=channels)))
    (tmp_path / "intact.flac").write_bytes(content)
    content[len(content) // 2] ^= 4
    (tmp_path / "x.flac").write_bytes(content)
    samples, intact = read(tmp_path / "x.flac"), read(tmp_path / "intact.flac")
    assert samples.shape == intact.shape
    damaged = np.flatnonzero((samples != intact).any(axis=1))
    assert 0 < len(damaged) <= 4096
    assert not samples[damaged].any()
    assert len(warnings(caplog)) == 1


def test_a_truncated_flac_file(tmp_path, caplog):
    content = encoded("FLAC", "PCM_16")
    (tmp_path / "intact.flac").write_bytes(content)
    (tmp_path / "x.flac").write_bytes(content[: len(content) // 2])
    samples = read(tmp_path / "x.flac")
    assert len(samples) > RATE
    assert np.array_equal(samples, read(tmp_path / "intact.flac")[: len(samples)])
    (warning,) = warnings(caplog)
    assert f"{3 - len(samples) / RATE:.3f} s" in warning.getMessage()


# MP3


def frames_of(content):
    """Return the start of each frame of an MP3 file with constant bit rate and no padding (16 kHz)."""
    first = content.index(b"\xff\xf3")
    kbps = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    starts = [first]
    while starts[-1] + 4 < len(content) and content[starts[-1]] == 0xFF:
        starts.append(starts[-1] + 72 * kbps[content[starts[-1] + 2] >> 4] * 1000 // RATE)
    return starts[:-1]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_truncated_mp3_file_gives_the_same_sound_each_time(tmp_path, caplog, share):
    content = encoded("MP3")
    (tmp_path / "intact.mp3").write_bytes(content)
    (tmp_path / "x.mp3").write_bytes(content[: int(share * len(content))])
    first = read(tmp_path / "x.mp3")
    for _ in range(3):
        np.full(len(first) * 4, 0.5, dtype=np.float32)  # memory that may be reused
        assert np.array_equal(read(tmp_path / "x.mp3"), first)
    assert (share - 0.15) * 3 * RATE < len(first) < share * 3 * RATE + 1152
    assert correlation(first, read(tmp_path / "intact.mp3")[: len(first)]) > 0.99
    (warning,) = warnings(caplog)
    assert f"{len(first) / RATE:.2f} s" in warning.getMessage()
    assert f"{3 - len(first) / RATE:.3f} s" in warning.getMessage()


def test_an_mp3_file_without_a_frame_count_is_read_completely(tmp_path, caplog):
    """Without a frame count, libsndfile estimates it from the size of the first frame."""
    quiet, loud = 1e-4 * sound(), sound()
    content = encoded("MP3", samples=np.concatenate([quiet, loud]))
    starts = frames_of(content)
    assert content[starts[0] : starts[1]].find(b"Info") > 0 or content[starts[0] : starts[1]].find(b"Xing") > 0
    (tmp_path / "x.mp3").write_bytes(content[starts[1] :])
    assert 6 * RATE <= len(read(tmp_path / "x.mp3")) < 6 * RATE + 3 * 1152
    assert not warnings(caplog)


def test_concatenated_mp3_files_are_read_completely(tmp_path):
    (tmp_path / "x.mp3").write_bytes(2 * encoded("MP3"))
    samples = read(tmp_path / "x.mp3")
    assert 6 * RATE <= len(samples) < 6 * RATE + 3 * 1152


def test_bytes_between_the_frames_of_an_mp3_file_are_skipped(tmp_path, capfd):
    content = encoded("MP3")
    (tmp_path / "intact.mp3").write_bytes(content)
    starts = frames_of(content)
    at = starts[len(starts) // 2]
    junk = np.random.default_rng(0).bytes(200_000)
    (tmp_path / "x.mp3").write_bytes(content[:at] + junk + content[at:])
    assert np.array_equal(read(tmp_path / "x.mp3"), read(tmp_path / "intact.mp3"))
    assert capfd.readouterr().err == ""  # the decoder prints messages


# Ogg


def ogg_pages(content):
    starts = []
    at = content.find(b"OggS")
    while at >= 0:
        starts.append(at)
        count = content[at + 26]
        at = content.find(b"OggS", at + 27 + count + sum(content[at + 27 : at + 27 + count]))
    return [*starts, len(content)]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_all_streams_of_a_chained_ogg_file_are_read(tmp_path, caplog, subtype):
    short, long = (encoded("OGG", subtype, sound(frames)) for frames in (RATE, 2 * RATE))
    for name, content in {"short": short, "long": long, "chained": short + long + short}.items():
        (tmp_path / name).write_bytes(content)
    expected = np.concatenate([read(tmp_path / name) for name in ("short", "long", "short")])
    assert np.array_equal(read(tmp_path / "chained"), expected)
    with Reader(tmp_path / "chained") as file:
        assert file.stated_frames == pytest.approx(4 * RATE, abs=1000)
        assert file.frames == 4 * RATE
    assert not warnings(caplog)


def test_a_stream_with_other_channels_is_left_out_with_a_warning(tmp_path, caplog):
    (tmp_path / "x.ogg").write_bytes(encoded("OGG") + encoded("OGG", samples=sound(RATE, 2)) + encoded("OGG"))
    assert len(read(tmp_path / "x.ogg")) == 6 * RATE
    (warning,) = warnings(caplog)
    assert "1.00 s" in warning.getMessage()


@pytest.mark.parametrize("page", [2, 3, -2])
@pytest.mark.parametrize("how", ["zeroed", "one bit"])
def test_damaged_pages_of_an_ogg_file_are_reported_as_missing(tmp_path, caplog, page, how):
    content = bytearray(encoded("OGG", samples=sound(6 * RATE)))
    starts = ogg_pages(content)[:-1]
    begin, end = starts[page], [*starts, len(content)][starts.index(starts[page]) + 1]
    if how == "zeroed":
        content[begin:end] = bytes(end - begin)
    else:
        content[(begin + end) // 2] ^= 1
    (tmp_path / "x.ogg").write_bytes(content)
    samples = read(tmp_path / "x.ogg")
    assert 4 * RATE < len(samples) < 6 * RATE
    (warning,) = warnings(caplog)
    assert f"{6 - len(samples) / RATE:.3f} s" in warning.getMessage()


def test_a_truncated_ogg_file(tmp_path, caplog):
    content = encoded("OGG")
    (tmp_path / "x.ogg").write_bytes(content[: len(content) * 2 // 3])
    assert RATE / 2 < len(read(tmp_path / "x.ogg")) < 3 * RATE
    assert len(warnings(caplog)) == 1


# Unreadable files and callers


def test_a_file_without_sound_is_bad_input(tmp_path):
    for content in (b"", b"OggS", b"RIFF", b"no sound at all\n", encoded("OGG")[:100], encoded("MP3")[:50]):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(BadInput, match=r"cannot be read as sound|contains no samples"):
            audio.read(tmp_path / "x", RATE)


def test_a_fault_is_reported_once(tmp_path, caplog):
    content = encoded("WAV")
    (tmp_path / "x.wav").write_bytes(content[:50_000])
    for _ in range(3):
        audio.read(tmp_path / "x.wav", RATE)
    assert len(warnings(caplog)) == 1


@pytest.mark.parametrize("name", sorted({*FORMATS.values()}))
def test_any_damage_gives_reproducible_samples_or_bad_input(tmp_path, name):
    rng = np.random.default_rng(sum(name.encode()))
    content = encoded(name, samples=sound(8000))
    for _ in range(15):
        changed = bytearray(content)
        for at in rng.integers(0, len(content), size=4):
            changed[at if rng.random() < 0.5 else at % 100] = int(rng.integers(256))
        (tmp_path / "x").write_bytes(changed[: int(rng.integers(len(content) // 2, len(content) + 1))])
        try:
            first = read(tmp_path / "x")
        except (BadInput, ValueError):  # ValueError: no blocks
            continue
        assert np.array_equal(read(tmp_path / "x"), first, equal_nan=True)
