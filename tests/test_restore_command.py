"""Tests of --restore through the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
import torch
from conftest import RATE, ROOT, TINY_FLAGS, environment, write_sound
from test_cli import refused

from dawp.io.audio import mark_missing
from dawp.restoration.block_cache import cache_folder

TINY = [
    "--restore",
    "--method",
    "deep_prior",
    *TINY_FLAGS[: TINY_FLAGS.index("--pesq_every")],
    "--device",
    "cpu",
    "--workers",
    "1",
]
"""Flags of a restoration with a network and a fit that take milliseconds per epoch."""


@pytest.fixture
def restore(run_task):
    def run(*flags, task="denoise", **how):
        return run_task(task, *TINY, *flags, tiny=False, **how)

    return run


def same_sound(path, other):
    """Return whether sample rate, channels, length, format and subtype agree."""
    about, about_other = soundfile.info(path), soundfile.info(other)
    names = ("samplerate", "channels", "frames", "format", "subtype")
    return [getattr(about, name) for name in names] == [getattr(about_other, name) for name in names]


def visible(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_one_recording_into_one_file(restore, tmp_path):
    write_sound(tmp_path / "old tape.wav", 0.1 * torch.randn(44100, 2), 44100, subtype="PCM_24")
    result = restore("--source", "old tape.wav", "-o", "restored.wav", "--block", "0.4", "--overlap", "0.1")
    assert result.returncode == 0, result.stderr
    assert same_sound(tmp_path / "restored.wav", tmp_path / "old tape.wav")
    assert visible(tmp_path) == ["old tape.wav", "restored.wav", "restored.wav.json"]
    assert not list(tmp_path.glob(".*"))
    assert result.stdout == "restored: restored.wav\n"
    assert "has no effect" not in result.stderr
    record = json.loads((tmp_path / "restored.wav.json").read_text())
    assert (record["sample_rate"], record["channels"], record["samples"]) == (44100, 2, 44100)
    assert (record["seed"], record["preset"], record["task"]) == (0, "restore", "denoise")
    assert [block["start"] for block in record["blocks"]] == sorted(block["start"] for block in record["blocks"])
    assert record["blocks"][-1]["stop"] == 44100
    assert all(1 <= epoch <= 3 for block in record["blocks"] for epoch in block["epochs"])
    assert record["settings"]["estimate"] == "mask"


def test_the_estimated_time_is_printed_after_a_few_epochs(restore, tmp_path):
    write_sound(tmp_path / "a.wav")
    result = restore("--source", "a.wav", "--epochs", "20")
    assert re.search(r"a\.wav: about \d s to go, less", result.stderr)
    assert (tmp_path / "restored" / "a.wav").exists()


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.flac", {"subtype": "PCM_16"}),
        ("a.ogg", {"subtype": "VORBIS"}),
        ("a.mp3", {"subtype": "MPEG_LAYER_III"}),
        ("a.aiff", {"subtype": "PCM_16"}),
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.wav", {"subtype": "PCM_16", "format": "WAVEX"}),
        ("a.caf", {"subtype": "ALAW"}),
    ],
)
def test_format_and_subtype_are_those_of_the_recording(restore, tmp_path, name, how):
    write_sound(tmp_path / name, 0.1 * torch.randn(22050, 2), 22050, **how)
    result = restore("--source", name, "-o", "out/")
    assert result.returncode == 0, result.stderr
    assert same_sound(tmp_path / "out" / name, tmp_path / name)


@pytest.mark.parametrize(
    ("flags", "name", "form"),
    [
        (["--output_format", "flac"], "a.flac", ("FLAC", "PCM_24")),
        (["--output_format", "ogg"], "a.ogg", ("OGG", "VORBIS")),
        (["--output_format", "wav", "--subtype", "pcm_16"], "a.wav", ("WAV", "PCM_16")),
        (["-o", "b.opus"], "b.opus", ("OGG", "OPUS")),
        (["-o", "b.flac", "--subtype", "PCM_16"], "b.flac", ("FLAC", "PCM_16")),
    ],
)
def test_format_and_subtype_can_be_chosen(restore, tmp_path, flags, name, form):
    write_sound(tmp_path / "a.wav", 0.1 * torch.randn(16000), subtype="FLOAT")
    result = restore("--source", "a.wav", *flags)
    assert result.returncode == 0, result.stderr
    path = tmp_path / name if "-o" in flags else tmp_path / "restored" / name
    about = soundfile.info(path)
    assert (about.format, about.subtype) == form
    assert (about.samplerate, about.frames) == (16000, 16000)


def test_a_folder_is_restored_into_a_mirrored_tree_once(restore, tmp_path):
    for name in ("in/a.wav", "in/deep/b.flac", "in/deep/er/c.wav"):
        write_sound(tmp_path / name)
    (tmp_path / "in" / "note.txt").write_text("no sound")
    result = restore("--source", "in", "-o", "out")
    assert result.returncode == 0, result.stderr
    sounds = [name for name in visible(tmp_path / "out") if not name.endswith(".json")]
    assert sounds == ["a.wav", "deep/b.flac", "deep/er/c.wav"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = restore("--source", "in", "-o", "out")
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    (tmp_path / "out" / "a.wav").unlink()
    assert restore("--source", "in", "-o", "out").returncode == 0
    changed = {path.name for path, was in before.items() if path.is_file() and path.stat().st_mtime_ns != was}
    assert changed == {"a.wav", "a.wav.json"}


def test_a_list_with_a_bad_recording_restores_the_others(restore, tmp_path):
    write_sound(tmp_path / "x" / "a.wav")
    write_sound(tmp_path / "y" / "a.wav")
    (tmp_path / "y" / "bad.wav").write_bytes(b"no sound at all")
    (tmp_path / "list.txt").write_text("x/a.wav\ny/bad.wav\n# a comment\ny/a.wav\nx/a.wav\n")
    result = restore("--source", "list.txt", "-o", "out")
    assert result.returncode == 3
    assert "bad.wav: cannot be read as sound" in result.stderr
    assert visible(tmp_path / "out") == ["x/a.wav", "x/a.wav.json", "y/a.wav", "y/a.wav.json"]


def test_the_second_recording_of_a_pair_is_restored(restore, tmp_path):
    write_sound(tmp_path / "clean.wav", 0.1 * torch.randn(8000))
    write_sound(tmp_path / "noisy.wav", 0.1 * torch.randn(8000))
    (tmp_path / "pairs.txt").write_text("clean.wav,noisy.wav\n")
    assert restore("--source", "pairs.txt", "-o", "out").returncode == 0
    assert visible(tmp_path / "out") == ["noisy.wav", "noisy.wav.json"]


def test_an_output_older_than_its_recording_is_reported(restore, tmp_path):
    for name in ("a", "b"):
        write_sound(tmp_path / "in" / f"{name}.wav")
    assert restore("--source", "in", "-o", "out").returncode == 0
    later = (tmp_path / "out" / "b.wav").stat().st_mtime + 5
    os.utime(tmp_path / "in" / "a.wav", (later, later))
    again = restore("--source", "in", "-o", "out")
    assert again.returncode == 0
    assert "a.wav: already exists, older than its recording (use --overwrite" in again.stderr
    assert "b.wav: already exists (use --overwrite" in again.stderr


def test_an_output_is_only_replaced_with_overwrite(restore, tmp_path):
    write_sound(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"precious")
    refused(restore("--source", "a.wav", "-o", "b.wav"), "b.wav: already exists", "--overwrite")
    assert (tmp_path / "b.wav").read_bytes() == b"precious"
    assert restore("--source", "a.wav", "-o", "b.wav", "--overwrite").returncode == 0
    assert same_sound(tmp_path / "b.wav", tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--source", "a.wav", "-o", "a.wav", "--overwrite"], ["a.wav", "cannot be an output"]),
        (["--source", "a.wav", "-o", "link.wav", "--overwrite"], ["link.wav", "cannot be an output"]),
        (["--source", "both", "-o", "b.wav"], ["--output must be a folder for 2 recordings, got b.wav"]),
        (["--source", "both", "-o", "note.txt"], ["--output must be a folder", "note.txt"]),
        (
            ["--source", "both", "-o", "out", "--output_format", "wav"],
            ["a.wav", "would be the output of both", "a.flac"],
        ),
        (["--source", "a.wav", "-o", "b.flac", "--output_format", "wav"], ["--output_format wav does not match"]),
        (["--source", "a.wav", "--output_format", "mp4"], ["--output_format must be one of wav, flac, ogg", "mp4"]),
        (["--source", "a.wav", "-o", "b.flac", "--subtype", "FLOAT"], ["subtype", "PCM_16", "FLOAT"]),
        (["--source", "a.wav", "--subtype", "nonsense"], ["subtype", "NONSENSE"]),
        (["--source", "a.wav", "--block", "0"], ["--block must be a number above 0", "got 0"]),
        (["--source", "a.wav", "--overlap", "3"], ["--overlap must be at most half the block of 4 s, got 3"]),
        (["--source", "a.wav", "--block", "0.001", "--overlap", "0"], ["block must have at least 64 samples"]),
        (["--source", "six.wav", "-o", "six.mp3"], ["six.mp3", "6 channels at 16000 Hz"]),
        (["--source", "a.wav", "-o", "b.m4a"], ["--output must be a folder, or a file", ".flac", "got b.m4a"]),
        (["--source", "a.wav", "-o", "note.txt/b.wav"], ["cannot be written", "not a folder"]),
        (["--source", "a.wav", "--lr", "1e30", "--epochs", "9"], ["a.wav", "the loss is not a finite number"]),
        (["--source", "nan.wav"], ["nan.wav: has samples that are NaN"]),
        (["--source", "silent.wav"], ["silent.wav: is silent"]),
        (["--source", "short.wav"], ["short.wav: must have at least 64 samples, got 20"]),
        (["--source", "missing.wav"], ["missing.wav: no such file"]),
        ([], ["source must "]),
        (["--source", "a.wav", "--device", "cuda:9"], ["device cuda:9 is not on this machine"]),
        (["--source", "a.wav", "--strength", "1.5"], ["--strength must be", "got 1.5"]),
        (["--source", "a.wav", "--strength", "-0.5"], ["--strength must be", "got -0.5"]),
        (["--source", "a.wav", "--strength", "half"], ["--strength must be", "got half"]),
        (["--source", "both", "--save_removed", "r.wav"], ["--save_removed must be a folder for 2", "got r.wav"]),
        (["--source", "a.wav", "--save_removed", "a.wav", "--overwrite"], ["--save_removed must not be", "a.wav"]),
        (["--source", "a.wav", "--save_removed", "link.wav", "--overwrite"], ["--save_removed must not be", "link"]),
        (["--source", "a.wav", "-o", "b.wav", "--save_removed", "b.wav"], ["--save_removed must not be", "b.wav"]),
        (["--source", "a.wav", "-o", "b.wav", "--save_removed", "both/../b.wav"], ["--save_removed must not be"]),
        (["--source", "both", "-o", "out", "--save_removed", "out"], ["--save_removed must not be", "out"]),
        (["--source", "a.wav", "--save_removed", "both/a.wav"], ["both/a.wav: already exists"]),
        (["--source", "a.wav", "--save_removed", "note.txt"], ["--save_removed must be a folder", "note.txt"]),
        (["--source", "a.wav", "--save_removed", "r.m4a"], ["--save_removed must be a folder", "r.m4a"]),
        (["--source", "a.wav", "--save_removed", "note.txt/r.wav"], ["cannot be written", "not a folder"]),
        (["--source", "six.wav", "--save_removed", "six.mp3"], ["six.mp3", "6 channels"]),
        (["--source", "a.wav", "--noise_profile", "0.9:0.2"], ["noise_profile", "0.9:0.2", "outside"]),
        (["--source", "a.wav", "--noise_profile", "0:0.5,2:1"], ["noise_profile", "2:1", "outside"]),
        (["--source", "a.wav", "--noise_profile", "0:0.05"], ["noise_profile", "0:0.05"]),
        (["--source", "a.wav", "--noise_profile", "start"], ["--noise_profile must be", "got start"]),
        (["--source", "a.wav", "--noise_profile=-1:1"], ["--noise_profile must", "got -1:1"]),
        (["--source", "a.wav", "--highpass", "low"], ["--highpass must be", "got low"]),
        (["--source", "a.wav", "--fits", "0"], ["--fits must be a whole number at least 1", "got 0"]),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(restore, tmp_path, flags, words):
    write_sound(tmp_path / "a.wav")
    write_sound(tmp_path / "both" / "a.wav")
    write_sound(tmp_path / "both" / "a.flac")
    write_sound(tmp_path / "nan.wav", torch.full((1000,), torch.nan), subtype="FLOAT")
    write_sound(tmp_path / "silent.wav", torch.zeros(1000))
    write_sound(tmp_path / "short.wav", torch.randn(20))
    write_sound(tmp_path / "six.wav", torch.randn(1000, 6))
    (tmp_path / "note.txt").write_text("a note")
    (tmp_path / "link.wav").symlink_to("a.wav")
    before = visible(tmp_path)
    result = restore(*flags)
    assert result.returncode == 2, result.stderr
    errors = [line for line in result.stderr.splitlines() if "error: " in line]
    assert len(errors) == 1
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in errors[0]
    assert visible(tmp_path) == before
    assert not list(tmp_path.rglob(".dawp*"))


def test_output_flags_need_restore(denoise, tmp_path):
    write_sound(tmp_path / "a.wav")
    refused(denoise("--source", "a.wav", "--save_removed", "b.wav"), "--save_removed", "needs --restore", "b.wav")
    assert visible(tmp_path) == ["a.wav"]
    refused(denoise("--source", "a.wav", "--noise_profile", "0:0.5"), "--noise_profile", "needs --restore")
    assert "--strength has no effect" in denoise("--source", "a.wav", "--strength", "0.5").stderr
    refused(denoise("--source", "a.wav", "-o", "b.wav"), "--output", "needs --restore")
    assert "--block has no effect" in denoise("--source", "a.wav", "--block", "2").stderr


def test_flags_of_the_experiment_have_no_effect(restore, tmp_path):
    write_sound(tmp_path / "a.wav")
    result = restore("--source", "a.wav", "--snr", "5", "--clip_length", "2")
    assert "--snr has no effect" in result.stderr
    assert "--clip_length has no effect" in result.stderr
    assert result.returncode == 0


# Strength and removed signal


def sound_of(path):
    return torch.from_numpy(soundfile.read(path, dtype="float64", always_2d=True)[0])


@pytest.mark.parametrize("task", ["denoise", "dereverb"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_strength_of_zero_returns_the_recording(restore, tmp_path, subtype, task):
    write_sound(tmp_path / "a.wav", 0.2 * torch.randn(22050, 2).clamp(-1, 1), 22050, subtype=subtype)
    flags = ("--strength", "0", "--samplerate", "16000", "--block", "0.6", "--overlap", "0.1")
    result = restore("--source", "a.wav", "-o", "b.wav", "--save_removed", "r.wav", *flags, task=task)
    assert result.returncode == 0, result.stderr
    assert torch.equal(sound_of(tmp_path / "b.wav"), sound_of(tmp_path / "a.wav"))
    assert not sound_of(tmp_path / "r.wav").any()
    assert "unchanged" in result.stderr
    assert json.loads((tmp_path / "b.wav.json").read_text())["removed"]["db"] is None


@pytest.mark.parametrize(
    ("subtype", "tolerance"), [("FLOAT", 1e-6), ("PCM_24", 1.01 * 2**-23), ("PCM_16", 1.01 * 2**-15)]
)
@pytest.mark.parametrize("task", ["denoise", "dereverb"])
def test_the_output_and_the_removed_signal_sum_to_the_recording(restore, tmp_path, subtype, tolerance, task):
    write_sound(tmp_path / "a.wav", 0.1 * torch.randn(22050, 2), 22050, subtype=subtype)
    flags = ("--block", "0.6", "--overlap", "0.1", "--strength", "0.7")
    result = restore("--source", "a.wav", "-o", "b.wav", "--save_removed", "deep/r.wav", *flags, task=task)
    assert result.returncode == 0, result.stderr
    assert same_sound(tmp_path / "deep" / "r.wav", tmp_path / "a.wav")
    recording, restored, removed = (sound_of(tmp_path / name) for name in ("a.wav", "b.wav", "deep/r.wav"))
    assert (restored + removed - recording).abs().max() < tolerance
    assert removed.std() > 0.005
    level = 10 * torch.log10(removed.square().sum() / recording.square().sum())
    facts = json.loads((tmp_path / "b.wav.json").read_text())["removed"]
    assert facts["db"] == pytest.approx(level.item(), abs=0.3)
    assert f": {facts['db']:.1f} dB (" in result.stderr


def test_the_removed_power_is_recorded_by_band(restore, tmp_path):
    frequencies = torch.fft.rfftfreq(3 * RATE, 1 / RATE)
    spectrum = torch.fft.rfft(torch.randn(3 * RATE)) * ((frequencies > 2000) & (frequencies < 5000))
    noise = torch.fft.irfft(spectrum)
    time = torch.arange(3 * RATE) / RATE
    sound = 0.1 * torch.sin(2 * torch.pi * 250 * time) + 0.1 * torch.sin(2 * torch.pi * 900 * time)
    write_sound(tmp_path / "a.wav", sound * (time > 1) + 0.05 * noise / noise.std(), subtype="FLOAT")
    flags = ("--noise_profile", "0.1:0.8", "--save_removed", "r.wav", "--block", "1.5", "--overlap", "0.2")
    result = restore("--source", "a.wav", "-o", "b.wav", *flags)
    assert result.returncode == 0, result.stderr
    facts = json.loads((tmp_path / "b.wav.json").read_text())["removed"]
    bands = [(band["from_hz"], band["to_hz"]) for band in facts["bands"]]
    assert bands == [(0, 100), (100, 400), (400, 1600), (1600, 6400), (6400, 8000)]
    recording, removed = (torch.fft.rfft(sound_of(tmp_path / name)[:, 0]).abs().square() for name in ("a.wav", "r.wav"))
    for band in facts["bands"]:
        inside = (frequencies >= band["from_hz"]) & (frequencies < band["to_hz"])
        expected = 10 * torch.log10(removed[inside].sum() / recording[inside].sum()).item()
        if removed[inside].sum() > 1e-3 * removed.sum():  # weaker bands contain spectral leakage
            assert band["db"] == pytest.approx(expected, abs=1)
    assert facts["bands"][3]["db"] > -2
    assert max(facts["bands"][1]["db"], facts["bands"][2]["db"]) < -15


def test_removing_most_of_a_recording_is_reported(restore, tmp_path):
    write_sound(tmp_path / "a.wav")
    for strength, has_warning in (("1", True), ("0.2", False)):
        flags = ("--noise_profile", "0:1", "--strength", strength)
        result = restore("--source", "a.wav", "-o", "b.wav", "--overwrite", *flags)
        assert result.returncode == 0, result.stderr
        warnings = [line for line in result.stderr.splitlines() if "warning" in line]
        assert [("b.wav" in line, "more than half" in line) for line in warnings] == [(True, True)] * has_warning


def test_no_removed_level_is_recorded_for_inpaint(restore, tmp_path):
    samples = 0.1 * torch.randn(16000)
    samples[5000:5100] = torch.nan
    write_sound(tmp_path / "a.wav", samples, subtype="FLOAT")
    result = restore("--source", "a.wav", "-o", "b.wav", "--save_removed", "r.wav", task="inpaint")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "b.wav.json").read_text())["removed"] is None
    removed = sound_of(tmp_path / "r.wav")[:, 0]
    assert removed.isfinite().all()
    assert removed.nonzero().min() >= 5000 - 8
    assert removed.nonzero().max() < 5100 + 8


def test_the_removed_signals_of_a_folder_mirror_its_tree(restore, tmp_path):
    for name in ("in/a.wav", "in/deep/b.flac"):
        write_sound(tmp_path / name)
    flags = ("--source", "in", "-o", "out", "--save_removed", "in/removed")
    result = restore(*flags)
    assert result.returncode == 0, result.stderr
    assert visible(tmp_path / "in" / "removed") == ["a.wav", "deep/b.flac"]
    assert same_sound(tmp_path / "in/removed/deep/b.flac", tmp_path / "in/deep/b.flac")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = restore(*flags)
    assert again.returncode == 0
    assert "nothing to do" in again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (tmp_path / "out" / "a.wav").unlink()
    refused(restore(*flags), "removed/a.wav: already exists")
    (tmp_path / "in" / "removed" / "a.wav").unlink()
    assert restore(*flags).returncode == 0
    assert (tmp_path / "in" / "removed" / "a.wav").exists()


def test_the_removed_signal_is_not_reported_for_an_existing_output(restore, tmp_path):
    write_sound(tmp_path / "a.wav")
    assert restore("--source", "a.wav", "-o", "out").returncode == 0
    result = restore("--source", "a.wav", "-o", "out", "--save_removed", "r.wav")
    assert result.returncode == 0
    assert "r.wav: is not written" in result.stderr
    assert not (tmp_path / "r.wav").exists()
    assert restore("--source", "a.wav", "-o", "out", "--save_removed", "r.wav", "--overwrite").returncode == 0
    first = (tmp_path / "r.wav").read_bytes()
    assert restore("--source", "a.wav", "-o", "out", "--save_removed", "r.wav", "--overwrite").returncode == 0
    assert (tmp_path / "r.wav").read_bytes() == first


def test_a_recording_shorter_than_the_noise_profile_is_skipped(restore, tmp_path):
    write_sound(tmp_path / "in" / "long.wav", 0.1 * torch.randn(2 * RATE))
    write_sound(tmp_path / "in" / "short.wav", 0.1 * torch.randn(RATE))
    result = restore("--source", "in", "-o", "out", "--noise_profile", "1.2:0.5", "--save_removed", "removed")
    assert result.returncode == 3
    assert "short.wav: noise_profile: 1.2:0.5" in result.stderr
    assert visible(tmp_path / "out") == ["long.wav", "long.wav.json"]
    assert visible(tmp_path / "removed") == ["long.wav"]


def test_rumble_is_removed_by_default(restore, tmp_path):
    time = torch.arange(3 * RATE) / RATE
    sound = 0.1 * torch.sin(2 * torch.pi * 440 * time)
    rumble = 0.2 * torch.sin(2 * torch.pi * 5 * time)
    write_sound(tmp_path / "a.wav", sound + rumble, subtype="FLOAT")
    left = {}
    for flags in ((), ("--highpass", "auto"), ("--highpass", "0")):
        assert restore("--source", "a.wav", "-o", "b.wav", "--overwrite", *flags).returncode == 0
        spectrum = torch.fft.rfft(sound_of(tmp_path / "b.wav")[:, 0]).abs().square()
        left[flags] = (spectrum[10:20].sum() / spectrum.sum()).item()
    assert left[()] == left["--highpass", "auto"] < 1e-3
    assert left["--highpass", "0"] > 0.5


def test_highpass_auto_is_refused_for_inpaint(restore, tmp_path):
    write_sound(tmp_path / "a.wav")
    refused(restore("--source", "a.wav", "--highpass", "auto", task="inpaint"), "--highpass", "auto", task="inpaint")
    assert visible(tmp_path) == ["a.wav"]


def test_outputs_of_unusual_names_stay_inside_the_output_folder(restore, tmp_path):
    name = "a\nb\x1b[31m.wav"
    write_sound(tmp_path / "x" / "outside.wav")
    write_sound(tmp_path / "x" / "in" / name)
    (tmp_path / "x" / "in" / "list.txt").write_text("../outside.wav\n../in/../outside.wav\n")
    assert restore("--source", "x/in/list.txt", "-o", "x/in/out").returncode == 0
    assert visible(tmp_path / "x" / "in" / "out") == ["outside.wav", "outside.wav.json"]
    result = restore("--source", f"x/in/{name}", "-o", "out")
    assert result.returncode == 0
    assert "\x1b" not in result.stderr + result.stdout
    assert visible(tmp_path / "out") == [name, f"{name}.json"]


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("channels", [2, 4])
def test_inpaint_fills_the_gaps_of_each_channel_and_keeps_all_other_samples(restore, tmp_path, channels, subtype):
    samples = (0.1 * torch.randn(16000, channels)).clamp(-1, 1)
    samples[samples == 0] = 0.1
    samples[5000:5100, 0] = 0
    samples[9000:9030, :2] = 0
    write_sound(tmp_path / "damaged.wav", samples, subtype=subtype)
    before = torch.from_numpy(soundfile.read(tmp_path / "damaged.wav", dtype="float32")[0])
    flags = ("--source", "damaged.wav", "--gaps", "auto", "--block", "0.5", "--overlap", "0.1")
    result = restore(*flags, "-o", "whole.wav", task="inpaint")
    assert result.returncode == 0, result.stderr
    whole = torch.from_numpy(soundfile.read(tmp_path / "whole.wav", dtype="float32")[0])
    missing = mark_missing(samples, RATE, 0.001).isnan()
    assert missing.sum(dim=0).tolist() == [130, 30, 0, 0][:channels]
    assert (whole[missing] != before[missing]).float().mean() > 0.95  # PCM_16 may round some to 0
    near = torch.nn.functional.max_pool1d(missing.T.float(), 17, 1, 8).T > 0
    assert torch.equal(whole[~near], before[~near])
    epochs = [block["epochs"] for block in json.loads((tmp_path / "whole.wav.json").read_text())["blocks"]]
    assert all(not any(block[2:]) for block in epochs)


def test_a_recording_without_drop_outs_is_copied(restore, tmp_path):
    write_sound(tmp_path / "a.mp3", 0.1 * torch.randn(16000, 2))
    for flags in ([], ["--gaps", "auto"]):
        result = restore("--source", "a.mp3", "-o", "whole.mp3", *flags, "--overwrite", task="inpaint")
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("a.mp3: no drop-outs") == 1
        assert result.stdout == "restored: whole.mp3\n"
        assert (tmp_path / "whole.mp3").read_bytes() == (tmp_path / "a.mp3").read_bytes()
    assert visible(tmp_path) == ["a.mp3", "whole.mp3", "whole.mp3.json"]
    assert not list(tmp_path.glob(".*"))
    record = json.loads((tmp_path / "whole.mp3.json").read_text())
    assert record["unchanged"] is True
    assert [block["epochs"] for block in record["blocks"]] == [[0, 0]]
    refused(restore("--source", "a.mp3", "-o", "whole.mp3", task="inpaint"), "--overwrite", task="inpaint")


def test_a_recording_without_drop_outs_keeps_its_samples_in_another_format(restore, tmp_path):
    samples = (0.1 * torch.randn(16000, 2)).clamp(-1, 1)
    write_sound(tmp_path / "a.wav", samples, subtype="PCM_16")
    flags = ("--source", "a.wav", "-o", "out", "--output_format", "flac", "--block", "0.3", "--overlap", "0.1")
    assert restore(*flags, task="inpaint").returncode == 0
    about = soundfile.info(tmp_path / "out" / "a.flac")
    assert (about.format, about.subtype) == ("FLAC", "PCM_16")
    before, after = (soundfile.read(path, dtype="int16")[0] for path in (tmp_path / "a.wav", tmp_path / "out/a.flac"))
    assert (before == after).all()


@pytest.mark.parametrize("by", ["folder", "list"])
def test_recordings_without_drop_outs_in_a_batch_are_copied(restore, tmp_path, by):
    samples = 0.1 * torch.randn(8000)
    write_sound(tmp_path / "in" / "intact.wav", samples)
    samples[4000:4050] = 0
    write_sound(tmp_path / "in" / "deep" / "damaged.wav", samples)
    (tmp_path / "in" / "list.txt").write_text("intact.wav\ndeep/damaged.wav\n")
    flags = ("--source", "in" if by == "folder" else "in/list.txt", "-o", "out", "--json")
    result = restore(*flags, task="inpaint")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"folder": "out", "done": 2, "skipped": 0, "failures": [], "failure_codes": []}
    copied = {
        name: (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
        for name in ("intact.wav", "deep/damaged.wav")
    }
    assert copied == {"intact.wav": True, "deep/damaged.wav": False}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = restore(*flags, task="inpaint")
    assert again.returncode == 0
    assert json.loads(again.stdout)["skipped"] == 2
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    (tmp_path / "out" / "intact.wav").unlink()
    assert restore(*flags, task="inpaint").returncode == 0
    assert (tmp_path / "out" / "intact.wav").exists()
    refused(restore("--source", "out", "-o", "more", task="inpaint"), "no sound files", task="inpaint")  # all restored


def test_inpaint_fills_named_gaps_of_the_recording(restore, tmp_path):
    samples = 0.1 * torch.randn(48000)
    write_sound(tmp_path / "a.wav", samples, subtype="FLOAT")
    assert restore("--source", "a.wav", "--gaps", "2.5:0.01", "-o", "b.wav", task="inpaint").returncode == 0
    changed = (torch.from_numpy(soundfile.read(tmp_path / "b.wav", dtype="float32")[0]) != samples).nonzero()
    assert 40000 - 8 <= changed.min() <= 40000
    assert 40159 <= changed.max() <= 40159 + 8
    refused(restore("--source", "a.wav", "--gaps", "3:1", task="inpaint"), "3:1 lies outside", task="inpaint")


def test_dereverb_restores_a_recording(restore, tmp_path):
    write_sound(tmp_path / "hall.wav")
    assert restore("--source", "hall.wav", "-o", "dry.flac", task="dereverb").returncode == 0
    assert soundfile.info(tmp_path / "dry.flac").frames == 16000
    assert json.loads((tmp_path / "dry.flac.json").read_text())["estimated"].keys() == {"rt60", "drr_db"}


def test_rescale_and_clamp(restore, tmp_path):
    samples = torch.randn(16000)
    samples /= samples.abs().max() / 2  # twice full scale
    samples[8000:8040] = torch.nan
    write_sound(tmp_path / "loud.wav", samples, subtype="FLOAT")
    flags = ("--source", "loud.wav", "--subtype", "PCM_16")
    softer = restore(*flags, "-o", "softer.wav", task="inpaint")
    assert "softer.wav: exceeds full scale by 6.02 dB: rescaled by -6.02 dB" in softer.stderr
    cut = restore(*flags, "-o", "cut.wav", "--clip_mode", "clamp", task="inpaint")
    assert "cut.wav: exceeds full scale by 6.02 dB: clamped" in cut.stderr
    expected = samples[:7900]
    softer, cut = (soundfile.read(tmp_path / name)[0][:7900] for name in ("softer.wav", "cut.wav"))
    assert torch.allclose(torch.from_numpy(softer).float(), expected / 2, atol=1e-4)
    assert torch.allclose(torch.from_numpy(cut).float(), expected.clamp(-1, 1), atol=1e-4)
    assert json.loads((tmp_path / "softer.wav.json").read_text())["gain"] == pytest.approx(0.5)


# Long recordings


def long_recording(path, seconds, rate=44100):
    rng = torch.Generator().manual_seed(0)
    return write_sound(path, 0.1 * torch.randn(round(seconds * rate), 2, generator=rng), rate)


def cached_blocks(folder):
    return sorted(folder.glob(".dawp-*/*/*.npz"))


@pytest.mark.slow
def test_a_killed_restoration_resumes_with_the_same_result(restore, tmp_path):
    long_recording(tmp_path / "long.wav", 60)
    flags = ("--source", "long.wav", "--epochs", "2", "--estimate", "output")
    uninterrupted = restore(*flags, "-o", "a.wav")
    assert uninterrupted.returncode == 0, uninterrupted.stderr
    assert same_sound(tmp_path / "a.wav", tmp_path / "long.wav")

    command = [sys.executable, str(ROOT / "denoise.py"), *TINY, *flags, "-o", "b.wav"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE)
    while len(cached_blocks(tmp_path)) < 5 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in cached_blocks(tmp_path)}
    assert 5 <= len(kept) < 17
    assert not (tmp_path / "b.wav").exists()

    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE)
    while len(cached_blocks(tmp_path)) < 12 and process.poll() is None:
        time.sleep(0.01)
    assert all(path.stat().st_mtime_ns == was for path, was in kept.items())  # not recomputed
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate()[1].decode()
    assert process.returncode == 130

    finished = restore(*flags, "-o", "b.wav")
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "b.wav").read_bytes() == (tmp_path / "a.wav").read_bytes()
    assert not list(tmp_path.glob(".dawp-*"))


def test_a_truncated_recording_is_restored_with_one_warning(restore, tmp_path):
    write_sound(tmp_path / "whole.mp3", 0.1 * torch.randn(32000, 2))
    content = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content[: len(content) * 2 // 3])
    result = restore("--source", "a.mp3", "-o", "a.wav", "--block", "0.5", "--overlap", "0.1")
    assert result.returncode == 0, result.stderr
    about = soundfile.info(tmp_path / "a.wav")
    assert 16000 < about.frames < 22000
    assert about.subtype == "PCM_16"
    assert result.stderr.count("a.mp3: ends early") == 1


@pytest.mark.parametrize("name", ["a.ogg", "gsm.wav", "unsized.wav", "damaged.flac"])
def test_sound_that_libsndfile_omits_is_restored(restore, tmp_path, name):
    how = {"subtype": "GSM610"} if name == "gsm.wav" else {}
    path = write_sound(tmp_path / name, 0.1 * torch.randn(8000), 8000, **how)
    content = bytearray(path.read_bytes())
    if name == "a.ogg":
        content *= 2
    elif name == "unsized.wav":
        content[40:44] = bytes(4)
    elif name == "damaged.flac":
        content[len(content) // 3] ^= 1
    path.write_bytes(content)
    result = restore("--source", name, "-o", "out.wav", "--samplerate", "none", "--block", "0.6", "--overlap", "0.1")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "out.wav.json").read_text())["samples"] == (16000 if name == "a.ogg" else 8000)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("workers", "longer", "faster"),  # with workers, the process that is measured computes no estimate
    [("1", 30, ("--samplerate", "16000")), ("2", 60, ("--estimate", "mean"))],
)
def test_memory_does_not_depend_on_the_length_of_the_recording(workers, longer, faster, tmp_path):
    peaks = {}
    short = 11  # seconds; same block size, and one block has a full context on both sides
    for seconds in (short, longer):
        long_recording(tmp_path / f"{seconds}.wav", seconds)
        # Not ru_maxrss, which a process inherits from its parent.
        code = (
            "import re, sys; sys.argv[0] = 'denoise.py'; from dawp.cli import main; code = main('denoise'); "
            r"print(re.search(r'VmHWM:\s+(\d+)', open('/proc/self/status').read())[1]); sys.exit(code)"
        )
        flags = [*TINY, "--epochs", "1", *faster, "--workers", workers]
        flags += ["--source", f"{seconds}.wav", "-o", f"out{seconds}.wav"]
        # Return large arrays to the system at once, so that the peak is that of simultaneous use.
        env = {**environment(), "PYTHONPATH": str(ROOT), "MALLOC_MMAP_THRESHOLD_": "65536"}
        command = [sys.executable, "-c", code, *flags]
        result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        peaks[seconds] = int(result.stdout.splitlines()[-1])
    samples = (longer - short) * 44100 * 2 * 4 / 1024  # additional kB of float32 in the longer one
    assert peaks[longer] - peaks[short] < samples / 4, peaks


def test_a_silent_noise_profile_is_refused(restore, tmp_path):
    samples = 0.1 * torch.randn(2 * RATE)
    samples[:RATE] = 0
    write_sound(tmp_path / "a.wav", samples)
    result = restore("--source", "a.wav", "-o", "b.wav", "--noise_profile", "0.2:0.5")
    assert result.returncode == 2
    assert "0.2:0.5" in result.stderr
    assert visible(tmp_path) == ["a.wav"]


def test_the_removed_signal_is_rewritten_after_an_interruption(restore, tmp_path):
    """The command may be interrupted between writing this file and the output."""
    write_sound(tmp_path / "a.wav", 0.1 * torch.randn(RATE))
    flags = ("--source", "a.wav", "-o", "b.wav", "--save_removed", "removed.wav")
    assert restore(*flags).returncode == 0
    expected = (tmp_path / "removed.wav").read_bytes()
    (tmp_path / "b.wav").unlink()
    (tmp_path / "b.wav.json").unlink()
    cache_folder(tmp_path / "b.wav").mkdir()
    assert restore(*flags).returncode == 0
    assert (tmp_path / "removed.wav").read_bytes() == expected
