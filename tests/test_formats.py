import io
import math
import struct
import time
from contextlib import suppress

import pytest
import soundfile
import torch
from conftest import RATE, refused_as

from dawp.errors import BadInput
from dawp.io import formats
from dawp.io.formats import FORMATS, Form, form_of, write
from dawp.io.metadata.model import Metadata
from dawp.io.sources import SOUND_SUFFIXES


def written(path, pieces, form, clip_mode="rescale", tags=None):
    return write(path, lambda: iter(pieces), RATE, form, clip_mode, Metadata(tuple((tags or {}).items())))


def test_every_suffix_of_a_recording_has_a_format():
    assert set(FORMATS) == SOUND_SUFFIXES


# Choice of the format


def chosen(tmp_path, name, recording, subtype=None, rate=RATE, channels=2, frames=1000):
    return form_of(tmp_path / name, recording, subtype, rate, channels, frames)


@pytest.mark.parametrize(
    ("name", "recording", "subtype", "expected"),
    [
        ("a.wav", Form("WAV", "PCM_24"), None, Form("WAV", "PCM_24")),
        ("a.wav", Form("WAVEX", "PCM_16"), None, Form("WAVEX", "PCM_16")),
        ("a.wav", Form("FLAC", "PCM_24"), None, Form("WAV", "PCM_24")),
        ("a.flac", Form("WAV", "DOUBLE"), None, Form("FLAC", "PCM_24")),
        ("a.flac", Form("WAV", "ALAW"), None, Form("FLAC", "PCM_16")),
        ("a.ogg", Form("WAV", "PCM_16"), None, Form("OGG", "VORBIS")),
        ("a.OGG", Form("OGG", "VORBIS"), None, Form("OGG", "VORBIS")),
        ("a.opus", Form("WAV", "PCM_16"), None, Form("OGG", "OPUS")),
        ("a.wav", Form("WAV", "PCM_16"), "float", Form("WAV", "FLOAT")),
        ("a.caf", Form("CAF", "ALAC_20"), None, Form("CAF", "PCM_24")),
        ("a.aiff", Form("AIFF", "DWVW_24"), None, Form("AIFF", "PCM_24")),
    ],
)
def test_format_and_sample_type(tmp_path, name, recording, subtype, expected):
    assert chosen(tmp_path, name, recording, subtype) == expected


def test_a_wav_file_that_would_be_too_long_for_its_format_becomes_rf64(tmp_path):
    hours = 4 * 3600 * 48000
    assert chosen(tmp_path, "a.wav", Form("WAV", "PCM_16"), rate=48000, frames=hours).format == "RF64"
    assert chosen(tmp_path, "a.flac", Form("WAV", "PCM_16"), rate=48000, frames=hours).format == "FLAC"


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.flac", 48000, 10), ("a.mp3", 96000, 2), ("a.mp3", 48000, 6), ("a.opus", 44100, 2)],
)
def test_unsupported_rates_and_channels_are_refused(tmp_path, name, rate, channels):
    with pytest.raises(BadInput, match=f"{name}: .* {channels} channels at {rate} Hz"):
        chosen(tmp_path, name, Form("WAV", "PCM_16"), rate=rate, channels=channels)
    assert not list(tmp_path.iterdir())


def test_an_unsupported_subtype_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"subtype of .*a\.flac must be one of .*PCM_24.*, got FLOAT"):
        chosen(tmp_path, "a.flac", Form("WAV", "PCM_16"), "FLOAT")


def kinds_of_recordings():
    """Yield the form and channels of every kind of mono and stereo file that libsndfile writes."""
    for container in sorted({*FORMATS.values(), "WAVEX"}):
        for subtype in soundfile.available_subtypes(container):
            for channels in (1, 2):
                with suppress(soundfile.SoundFileError):
                    soundfile.SoundFile(io.BytesIO(), "w", RATE, channels, subtype, format=container).close()
                    yield Form(container, subtype), channels


@pytest.mark.parametrize(
    ("form", "channels"), [pytest.param(*kind, id=f"{'-'.join(kind[0])}-{kind[1]}") for kind in kinds_of_recordings()]
)
def test_the_output_of_any_kind_of_recording_can_be_read(tmp_path, form, channels):
    suffix = next(suffix for suffix, container in FORMATS.items() if container == form.format.removesuffix("EX"))
    path = tmp_path / f"a{'.opus' if form.subtype == 'OPUS' else suffix}"
    samples = torch.sin(torch.arange(RATE) * torch.tensor([[0.1], [0.2]])[:channels]).double() / 4
    samples += 0.05 * torch.randn_like(samples)
    written(path, [samples], form_of(path, form, None, RATE, channels, RATE))
    with soundfile.SoundFile(path) as file:
        reread = torch.from_numpy(file.read(RATE, always_2d=True).T.copy())
    assert torch.nn.functional.cosine_similarity(reread, samples, dim=1).min() > 0.9


# Samples


def test_rescale_scales_the_whole_file_to_full_scale(tmp_path):
    pieces = [torch.full((2, 100), 0.5), torch.full((2, 100), -2.0)]
    assert written(tmp_path / "a.wav", pieces, Form("WAV", "PCM_24")) == 0.5
    samples = soundfile.read(tmp_path / "a.wav")[0]
    assert samples[:100] == pytest.approx(0.25, abs=1e-6)
    assert samples[100:] == pytest.approx(-1, abs=1e-6)


def test_clamp_limits_samples_to_full_scale(tmp_path):
    pieces = [torch.tensor([[0.5, 2.0, -3.0, 1.0]])]
    assert written(tmp_path / "a.wav", pieces, Form("WAV", "PCM_16"), "clamp") == 1
    assert soundfile.read(tmp_path / "a.wav")[0] == pytest.approx([0.5, 1, -1, 1], abs=1e-4)


def test_float_samples_have_no_full_scale(tmp_path):
    assert written(tmp_path / "a.wav", [torch.tensor([[0.5, 2.0, -3.0]])], Form("WAV", "FLOAT")) == 1
    assert soundfile.read(tmp_path / "a.wav")[0].tolist() == [0.5, 2.0, -3.0]


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_U8", 8), ("PCM_16", 16), ("PCM_24", 24)])
def test_samples_are_rounded_to_the_nearest_step(tmp_path, subtype, bits):
    samples = (0.1 * torch.randn(1, 20000)).double()
    written(tmp_path / "a.wav", [samples], Form("WAV", subtype))
    steps = 2 ** (bits - 1)
    error = (torch.from_numpy(soundfile.read(tmp_path / "a.wav")[0]) - samples[0]) * steps
    assert error.abs().max() <= 0.5 + 1e-6
    assert abs(error.mean()) < 0.02
    assert math.sqrt(error.square().mean()) == pytest.approx(1 / math.sqrt(12), rel=0.03)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24"])
def test_reading_and_writing_preserves_the_samples(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", (0.1 * torch.randn(1000)).numpy(), RATE, subtype=subtype)
    samples = torch.from_numpy(soundfile.read(tmp_path / "a.wav", dtype="float32")[0])[None]
    written(tmp_path / "b.wav", [samples], Form("WAV", subtype))
    again = torch.from_numpy(soundfile.read(tmp_path / "b.wav", dtype="float32")[0])[None]
    assert torch.equal(samples, again)


@pytest.mark.parametrize(
    "form", [Form("WAV", "FLOAT"), Form("AIFF", "FLOAT"), Form("WAVEX", "DOUBLE"), Form("FLAC", "PCM_16")]
)
def test_equal_samples_give_equal_files_at_any_time(tmp_path, form):
    pieces = [0.1 * torch.randn(2, 500)]
    written(tmp_path / "a", pieces, form)
    time.sleep(1.1)  # the header states the time in seconds
    written(tmp_path / "b", pieces, form)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert soundfile.info(tmp_path / "a").frames == 500


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_U8", "ULAW", "ALAW", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("container", ["AIFF", "WAV", "CAF", "AU"])
def test_an_odd_number_of_bytes_keeps_the_number_of_frames(tmp_path, container, subtype, channels):
    if not soundfile.check_format(container, subtype):
        pytest.skip(f"{container} has no {subtype}")
    samples = 0.1 * torch.randn(channels, 65)
    written(tmp_path / "a", [samples[:, :30], samples[:, 30:]], Form(container, subtype))
    sound, _ = soundfile.read(tmp_path / "a", always_2d=True)
    assert sound.shape == (65, channels)
    assert torch.from_numpy(sound.T.copy()) == pytest.approx(samples, abs=0.02)


def test_sound_that_looks_like_a_header_is_unchanged(tmp_path):
    words = struct.unpack("<8h", b"PEAK" + b"\x01\x02\x03\x04" * 3)
    samples = torch.tensor([[0.0] * 10 + [word / 2**15 for word in words] + [0.0] * 10], dtype=torch.float64)
    for form in (Form("WAV", "PCM_16"), Form("AU", "PCM_16")):
        written(tmp_path / "a", [samples], form)
        assert torch.equal(torch.from_numpy(soundfile.read(tmp_path / "a")[0]), samples[0])


@pytest.mark.parametrize(
    "form",
    [
        Form("WAV", "PCM_16"),
        Form("FLAC", "PCM_16"),
        Form("OGG", "VORBIS"),
        Form("MP3", "MPEG_LAYER_III"),
        Form("AU", "PCM_16"),
    ],
)
def test_tags_are_kept_by_formats_that_support_them(tmp_path, form):
    written(tmp_path / "a", [0.1 * torch.randn(1, 16000)], form, tags={"TITLE": "Old tape", "ARTIST": "Nöbody"})
    with soundfile.SoundFile(tmp_path / "a") as file:
        assert file.title == ("" if form.format == "AU" else "Old tape")


def test_a_write_error_of_the_library_leaves_no_file(tmp_path, monkeypatch):
    import soundfile as library

    def refuse(*given, **named):
        raise library.LibsndfileError(1, "Error opening 3: ")

    monkeypatch.setattr(library, "SoundFile", refuse)
    with refused_as("io_error", r"a\.wav: .* WAV PCM_16 \(Format not recognised\.?\)"):
        formats.write(tmp_path / "a.wav", lambda: iter([torch.zeros(1, 10)]), RATE, Form("WAV", "PCM_16"), "clamp")
    assert not list(tmp_path.iterdir())


# Conversion between formats


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_can_be_written_as_every_other_and_read_back(tmp_path, suffix):
    sources = [Form(form, sub) for form in {*FORMATS.values(), "WAVEX"} for sub in soundfile.available_subtypes(form)]
    tone = 0.25 * torch.sin(torch.arange(5000) * 0.05).repeat(2, 1).T
    for form in {form_of(tmp_path / f"a{suffix}", source, None, 48000, 2, 5000) for source in sources}:
        file = io.BytesIO()
        soundfile.write(file, tone.numpy(), 48000, form.subtype, format=form.format)
        file.seek(0)
        with soundfile.SoundFile(file) as again:
            assert (again.format, again.subtype, again.channels) == (form.format, form.subtype, 2)
            assert again.read(2000).std() == pytest.approx(float(tone[:2000].std()), rel=0.1)


@pytest.mark.parametrize(
    ("source", "suffix", "expected"),
    [
        ("MPEG_LAYER_III", ".wav", "PCM_16"),
        ("VORBIS", ".wav", "PCM_16"),
        ("GSM610", ".wav", "PCM_16"),  # one channel only
        ("DWVW_12", ".aiff", "PCM_16"),
        ("DOUBLE", ".flac", "PCM_24"),
        ("FLOAT", ".sph", "PCM_32"),
        ("ALAC_24", ".wav", "PCM_24"),
        ("PCM_S8", ".wav", "PCM_16"),
        ("MPEG_LAYER_II", ".mp3", "MPEG_LAYER_III"),
    ],
)
def test_an_unsupported_subtype_is_replaced_by_a_lossless_one(tmp_path, source, suffix, expected):
    assert chosen(tmp_path, f"a{suffix}", Form("WAV", source)).subtype == expected


def test_a_subtype_that_is_listed_but_cannot_be_written_is_refused(tmp_path):
    for subtype in ("MPEG_LAYER_III", "GSM610"):
        with pytest.raises(BadInput, match=f"WAV {subtype} .* 2 channels at {RATE} Hz"):
            chosen(tmp_path, "a.wav", Form("WAV", "PCM_16"), subtype)
