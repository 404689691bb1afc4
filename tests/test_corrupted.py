"""Tests of --corrupt_only, which writes corrupted copies of clean recordings."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, ROOT, call_main, environment, write_sound

from dawp.config import Config
from dawp.randomness import seeded
from dawp.tasks.base import make_problem


@pytest.fixture
def clean(tmp_path):
    """Write a folder of clean recordings of several rates, lengths, channels and formats."""
    noise = torch.randn(30000, 2, generator=torch.Generator().manual_seed(2)) * torch.tensor([0.2, 0.05])
    write_sound(tmp_path / "clean" / "a.wav", noise[:, 0], subtype="PCM_16")
    write_sound(tmp_path / "clean" / "sub" / "b.flac", noise, 44100, subtype="PCM_24")
    write_sound(tmp_path / "clean" / "one side.wav", noise * torch.tensor([1.0, 0.0]), 8000, subtype="FLOAT")
    return tmp_path / "clean"


def corrupt(folder, *flags, task="chain"):
    return call_main(task, ["--corrupt_only", *map(str, flags)], folder)


CHAIN = ("--corrupt", "declip:clip_sdr=8 | denoise:snr=20")


def test_the_copies_have_the_names_and_the_whole_sound(clean, tmp_path):
    process = corrupt(tmp_path, "--source", "clean", "-o", "bad", *CHAIN)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "corrupted: bad\n"
    for name in ("a.wav", "sub/b.flac", "one side.wav"):
        before, after = (soundfile.info(tmp_path / folder / name) for folder in ("clean", "bad"))
        for fact in ("samplerate", "channels", "frames", "format", "subtype"):
            assert getattr(before, fact) == getattr(after, fact)
    files = sorted(path.relative_to(tmp_path / "bad").as_posix() for path in (tmp_path / "bad").rglob("*.*"))
    assert files == ["a.wav", "one side.wav", "sub/b.flac"]


def test_the_channels_keep_their_balance_and_silence(clean, tmp_path):
    assert corrupt(tmp_path, "--source", "clean", "-o", "bad", *CHAIN).returncode == 0
    samples, _ = soundfile.read(tmp_path / "bad" / "sub" / "b.flac")
    assert np.std(samples[:, 0]) / np.std(samples[:, 1]) == pytest.approx(4, rel=0.05)
    samples, _ = soundfile.read(tmp_path / "bad" / "one side.wav")
    assert samples[:, 0].any()
    assert not samples[:, 1].any()


def test_one_channel_is_corrupted_as_in_an_experiment(clean, tmp_path):
    flags = ("--source", "clean/a.wav", "-o", "bad.wav", "--subtype", "FLOAT", "--seed", 0)
    assert corrupt(tmp_path, *flags, "--snr", 3, task="denoise").returncode == 0
    waveform = torch.from_numpy(soundfile.read(clean / "a.wav", dtype="float32")[0])
    config = Config.of("denoise", snr=3)
    expected = make_problem("denoise", waveform, None, RATE, config.corruption, seeded(0, "corruption", 0)).observed
    assert np.array_equal(soundfile.read(tmp_path / "bad.wav", dtype="float32")[0], expected.numpy())


def test_the_seed_decides_the_samples(clean, tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        assert corrupt(tmp_path, "--source", "clean", "-o", name, *CHAIN, "--seed", seed).returncode == 0
    one, again, other = ((tmp_path / name / "sub" / "b.flac").read_bytes() for name in ("one", "again", "other"))
    assert one == again != other


def test_nothing_is_overwritten(clean, tmp_path):
    flags = ("--source", "clean", "-o", "bad", *CHAIN)
    write_sound(tmp_path / "bad" / "sub" / "b.flac")
    before = (tmp_path / "bad" / "sub" / "b.flac").read_bytes()
    process = corrupt(tmp_path, *flags)
    assert (process.returncode, process.stdout) == (2, "")
    assert [path.name for path in (tmp_path / "bad").iterdir()] == ["sub"]
    assert (tmp_path / "bad" / "sub" / "b.flac").read_bytes() == before
    assert corrupt(tmp_path, *flags, "--overwrite").returncode == 0
    assert (tmp_path / "bad" / "sub" / "b.flac").read_bytes() != before
    assert corrupt(tmp_path, "--source", "clean/a.wav", "-o", "clean/a.wav", "--overwrite", *CHAIN).returncode == 2


@pytest.mark.parametrize(
    ("flags", "task"),
    [
        ((), "chain"),
        (("-o", "out", "--restore"), "chain"),
        (("-o", "out", "--corrupt", "denoise:snr=x"), "chain"),
        (("-o", "out", "--gaps", "auto"), "inpaint"),
        (("-o", "out", "--source", "pairs.txt"), "denoise"),
        (("-o", "out", "--rir", "clean/a.wav"), "dereverb"),
        (("-o", "out", "--output_format", "mp4"), "denoise"),
    ],
)
def test_bad_commands_are_refused(flags, task, clean, tmp_path):
    (tmp_path / "pairs.txt").write_text("clean/a.wav,clean/a.wav\n")
    process = corrupt(tmp_path, "--source", "clean", *flags, task=task)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_unusable_recordings_are_reported_and_skipped(clean, tmp_path):
    write_sound(clean / "silent.wav", torch.zeros(RATE))
    (clean / "text.wav").write_text("no sound")
    process = corrupt(tmp_path, "--source", "clean", "-o", "bad", *CHAIN, "--json")
    assert process.returncode == 3, process.stderr
    outcome = json.loads(process.stdout)
    assert outcome["done"] == 3
    assert outcome["failure_codes"] == ["unusable_recording", "unreadable_input"]


def test_flags_without_an_effect_are_reported(clean, tmp_path):
    process = corrupt(tmp_path, "--source", "clean", "-o", "bad", *CHAIN, "--epochs", 3, "--clip_length", 1)
    assert "--epochs has no effect" in process.stderr
    assert "--clip_length has no effect" in process.stderr
    assert "--corrupt has no effect" not in process.stderr
    assert "--output has no effect" not in process.stderr


@pytest.mark.slow
def test_the_script_corrupts_a_folder(clean, tmp_path):
    for name, text in (("scripts/setup.sh", "true"), (".venv/bin/python", f'exec "{sys.executable}" "$@"')):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
    (tmp_path / "scripts" / "degrade.sh").write_bytes((ROOT / "scripts" / "degrade.sh").read_bytes())

    def degrade(*arguments):
        command = ["bash", "scripts/degrade.sh", *arguments]
        variables = {**environment(), "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)

    done = degrade("clean", "bad copies", "declip:clip_sdr=8 | denoise:snr=20", "--seed", "4")
    assert done.returncode == 0, done.stderr
    assert len([*(tmp_path / "bad copies").rglob("*.*")]) == 3
    assert degrade("clean", "bad copies").returncode == 2
    assert degrade("clean", "bad copies", "denoise").returncode == 2
