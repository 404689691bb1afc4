import math
import os
from pathlib import Path

import pytest
import soundfile
import torch
from conftest import refused_as, write_sound

from dawp.errors import BadInput
from dawp.io.audio import level_dbfs, read, read_clip, resample, write
from dawp.io.settings import ClipConfig
from dawp.io.sources import Recording


def tone(seconds, rate=16000, hertz=440.0, level=0.5):
    return level * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def clip_of(path, segment_index=0, corrupted=None, **settings):
    return read_clip(Recording(path, corrupted), ClipConfig(**settings), segment_index)[:2]


def test_write_then_read_gives_the_same_samples(tmp_path):
    waveform = torch.randn(1000) * 2  # beyond full scale too
    write(tmp_path / "x.wav", waveform, 16000)
    assert torch.equal(read(tmp_path / "x.wav", 16000), waveform)
    assert soundfile.info(tmp_path / "x.wav").subtype == "FLOAT"
    assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_sample_rates_are_resampled(tmp_path, rate):
    waveform = read(write_sound(tmp_path / "x.wav", tone(1, rate), rate), 16000)
    assert len(waveform) == 16000
    inner = slice(1000, -1000)
    torch.testing.assert_close(waveform[inner], tone(1)[inner], atol=2e-3, rtol=0)


def test_stereo_is_mixed_down_and_logged(tmp_path, caplog):
    path = write_sound(tmp_path / "x.wav", torch.stack([tone(1), 0 * tone(1)], dim=1), subtype="FLOAT")
    with caplog.at_level("INFO", logger="dawp"):
        torch.testing.assert_close(read(path, 16000), tone(1) / 2)
    assert "x.wav: 2 channels mixed down to one" in caplog.text


def test_long_files_are_read_in_blocks_without_a_seam(tmp_path, monkeypatch):
    monkeypatch.setattr("dawp.io.audio.READ_FRAMES", 300)
    waveform = torch.randn(1000)
    write(tmp_path / "x.wav", waveform, 16000)
    assert torch.equal(read(tmp_path / "x.wav", 16000), waveform)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE"])
def test_sample_types(tmp_path, subtype):
    waveform = read(write_sound(tmp_path / "x.wav", tone(0.1), subtype=subtype), 16000)
    torch.testing.assert_close(waveform, tone(0.1), atol=1 / 127, rtol=0)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "aiff", "mp3"])
def test_formats(tmp_path, suffix):
    waveform = read(write_sound(tmp_path / f"x.{suffix}", tone(0.5)), 16000)
    assert len(waveform) >= 8000
    assert level_dbfs(waveform[1000:7000]) == pytest.approx(level_dbfs(tone(0.5)), abs=0.5)


def test_a_name_with_undecodable_bytes(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))
    write_sound(tmp_path / "x.wav", tone(0.1)).rename(path)
    assert len(read(path, 16000)) == 1600


def test_rates_with_a_small_common_divisor_are_refused(tmp_path):
    """The filters from 44099 to 16000 Hz would need gigabytes of memory."""
    for rate in (44099, 2147483629):
        path = write_sound(tmp_path / "x.wav", tone(0.01), rate)
        with pytest.raises(BadInput, match=rf"x\.wav: .* {rate} to 16000 Hz"):
            read(path, 16000)


def test_level_of_known_signals():
    assert level_dbfs(torch.ones(100)) == pytest.approx(0)
    assert level_dbfs(tone(1)) == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=1e-3)
    assert level_dbfs(torch.zeros(10)) == -math.inf


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (torch.zeros(0), "no samples"),
        (torch.tensor([0.5]), "at least 64 samples, got 1$"),
        (torch.zeros(16000), "silent"),
        (torch.full((16000,), torch.nan), "NaN or infinite"),
        (torch.full((16000,), torch.inf), "NaN or infinite"),
    ],
)
def test_unusable_files(tmp_path, samples, message):
    path = write_sound(tmp_path / "x.wav", samples, subtype="FLOAT")
    with refused_as("unusable_recording", f"x.wav.*{message}"):
        clip_of(path)


def test_a_text_renamed_to_wav(tmp_path):
    (tmp_path / "x.wav").write_text("no sound at all\n")
    with refused_as("unreadable_input", r"x\.wav: "):
        clip_of(tmp_path / "x.wav")


def test_clip_length_and_trim_start(tmp_path):
    ramp = torch.linspace(0.1, 0.9, 48000)
    path = write_sound(tmp_path / "x.wav", ramp, subtype="FLOAT")
    torch.testing.assert_close(clip_of(path, clip_length=1.0, trim_start=0.5)[0], ramp[8000:24000])
    torch.testing.assert_close(clip_of(path, clip_length=0.0, trim_start=0.5)[0], ramp[8000:])
    with refused_as("unusable_recording", "64 samples, got 0$"):
        clip_of(path, clip_length=1e-5)
    with pytest.raises(BadInput, match=r"trim_start must be below .* 3.000 s, got 3 s$"):
        clip_of(path, trim_start=3.0)


def test_a_shorter_recording_is_used_whole_and_logged(tmp_path, caplog):
    path = write_sound(tmp_path / "x.wav", tone(1))
    with caplog.at_level("INFO", logger="dawp"):
        assert len(clip_of(path)[0]) == 16000
    assert "x.wav: 1.000 s is shorter than the clip length of 2 s" in caplog.text


def test_the_segment_index_selects_among_the_segments_that_are_loud_enough(tmp_path):
    seconds = [tone(1, hertz=200), tone(1, hertz=300, level=1e-4), tone(1, hertz=400), tone(1, hertz=500)]
    path = write_sound(tmp_path / "x.wav", torch.cat(seconds), subtype="FLOAT")
    chosen = [clip_of(path, index, clip_length=1.0)[0] for index in range(4)]
    for clip, expected in zip(chosen, [seconds[0], seconds[2], seconds[3], seconds[0]], strict=True):
        torch.testing.assert_close(clip, expected)


def test_silence_is_defined_by_level_relative_to_the_recording(tmp_path):
    """Faint noise is silence in a recording with a tone, but not in a recording of faint noise only."""
    hiss = torch.randn(16000) * 1e-4
    path = write_sound(tmp_path / "x.wav", torch.cat([hiss, tone(1)]), subtype="FLOAT")
    torch.testing.assert_close(clip_of(path, clip_length=1.0)[0], tone(1))
    faint = write_sound(tmp_path / "y.wav", hiss, subtype="FLOAT")
    torch.testing.assert_close(clip_of(faint, clip_length=1.0)[0], hiss)


def test_quiet_thresh_is_the_largest_fraction_of_silence(tmp_path):
    path = write_sound(tmp_path / "x.wav", torch.cat([tone(0.7), torch.zeros(4800)]), subtype="FLOAT")
    assert len(clip_of(path, clip_length=1.0, quiet_thresh=0.31)[0]) == 16000
    with refused_as("unusable_recording", r"quiet_thresh must be at least 0\.3\d* .*got 0.29"):
        clip_of(path, clip_length=1.0, quiet_thresh=0.29)


def test_a_pair_gives_the_same_segment_of_both(tmp_path):
    """The silence filter of the public code could misalign clean and noisy segments."""
    clean = torch.cat([torch.zeros(16000), tone(1), tone(1, hertz=600)])
    noisy = clean + 0.1 * torch.randn(len(clean))
    paths = [write_sound(tmp_path / f"{n}.wav", w, subtype="FLOAT") for n, w in (("clean", clean), ("noisy", noisy))]
    first, second = clip_of(paths[0], 0, paths[1], clip_length=1.0)
    torch.testing.assert_close(first, clean[16000:32000])
    torch.testing.assert_close(second, noisy[16000:32000])


def test_a_pair_of_two_rates_is_aligned(tmp_path):
    clean = write_sound(tmp_path / "clean.wav", tone(1))
    noisy = write_sound(tmp_path / "noisy.wav", tone(1, 44100), 44100)
    first, second = clip_of(clean, 0, noisy)
    assert first.shape == second.shape
    torch.testing.assert_close(first[1000:-1000], second[1000:-1000], atol=2e-3, rtol=0)


def test_a_pair_may_differ_by_ten_milliseconds_and_no_more(tmp_path):
    clean = write_sound(tmp_path / "clean.wav", tone(1))
    close = write_sound(tmp_path / "close.wav", 0.9 * tone(1.01))
    assert [len(clip) for clip in clip_of(clean, 0, close)] == [16000, 16000]
    far = write_sound(tmp_path / "far.wav", tone(1.02))
    with refused_as("mismatched_pair", r"10 ms.*, got 1.000 s and 1.020 s"):
        clip_of(clean, 0, far)


def test_without_a_working_rate_each_recording_keeps_its_sample_rate(tmp_path):
    samples = torch.randn(44100)
    path = write_sound(tmp_path / "a.wav", samples, 44100, subtype="FLOAT")
    clean, corrupted, rate = read_clip(Recording(path), ClipConfig(samplerate=None, clip_length=0))
    assert (rate, corrupted) == (44100, None)
    assert torch.equal(clean, samples)


def test_resampling_marks_samples_near_a_missing_one_as_missing():
    waveform = torch.randn(48000)
    waveform[24000:24010] = torch.nan
    resampled = resample(waveform, 48000, 16000)
    assert resampled.isnan().nonzero()[:, 0].tolist() == list(range(8000 - 7, 8004 + 7))
    expected = resample(waveform.nan_to_num(), 48000, 16000)
    assert torch.equal(resampled[resampled.isfinite()], expected[resampled.isfinite()])
    assert resample(waveform, 48000, 48000) is waveform
    waveform[10] = torch.inf
    assert not resample(waveform, 48000, 16000)[:5].isfinite().all()
    assert resample(torch.stack([waveform, waveform]), 48000, 16000)[0, 8000].isnan()


def test_a_pair_with_a_silent_file_is_refused(tmp_path):
    clean, noisy = write_sound(tmp_path / "clean.wav", tone(1)), write_sound(tmp_path / "noisy.wav", torch.zeros(16000))
    with refused_as("unusable_recording", r"noisy\.wav: is silent"):
        clip_of(clean, 0, noisy)


def test_resampling_a_long_waveform_gives_the_exact_length():
    frames = 400_003  # the length after resampling is not representable in float32
    resampled = resample(torch.ones(frames), 1000, 44100)
    assert len(resampled) == math.ceil(frames * 44.1)
    assert len(resample(resampled, 44100, 1000)) >= frames
