"""Training of networks: data, loop, checkpoints, losses."""

import csv
import hashlib
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, environment, refused_as, write_sound

from dawp.training import command
from dawp.training.data import Recordings, Windows, draw_clip, split
from dawp.training.settings import TrainingConfig

pytest.importorskip("lightning_fabric")

SIZE = ["--depth", "2", "--channels", "4", "--window", "256", "--stride", "128", "--batch", "4"]
LOOP = ["--log_every", "1", "--evaluate_every", "4", "--test_clips", "2", "--test_seconds", "0.1", "--device", "cpu"]
FLAGS = ["--task", "bandwidth", "--rate", "8000", *SIZE, *LOOP, "--quiet"]


@pytest.fixture
def recordings(tmp_path):
    """Return a folder with three recordings of harmonic sounds."""
    folder = tmp_path / "clean"
    time_axis = torch.arange(16000) / 16000
    for index, pitch in enumerate((310, 420, 530)):
        partials = [torch.sin(2 * math.pi * pitch * (k + 1) * time_axis) / (k + 1) for k in range(14)]
        write_sound(folder / f"{index}.wav", 0.2 * sum(partials))
    return folder


def train(*flags):
    return command.main(["unet", *map(str, flags)])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_training_writes_the_model_its_card_and_the_losses(recordings, tmp_path, capsys):
    flags = [*FLAGS, "--steps", 6, "--average", 0.5, "--device", "auto" if not torch.cuda.is_available() else "cpu"]
    assert train("--data", recordings, *flags, "-o", tmp_path / "model.pt") == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "model.pt")
    rows = rows_of(tmp_path / "model_losses.csv")
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3, 4, 5, 6]
    assert [bool(row["held_out_snr_unet"]) for row in rows] == [True, False, False, False, True, False, True]
    assert all(float(row["l2"]) > 0 for row in rows[1:])
    card = json.loads((tmp_path / "model_card.json").read_text())
    assert card["kind"] == "unet"
    assert card["task"] == "bandwidth"
    assert card["rate"] == 16000
    assert card["data"]["training"]["recordings"] == 2
    assert card["data"]["held_out"]["recordings"] == 1
    assert card["data"]["training"]["hours"] == pytest.approx(2 / 3600, abs=1e-4)
    assert card["metrics"]["held_out_snr_unet"] == pytest.approx(float(rows[-1]["held_out_snr_unet"]))
    assert card["settings"]["device"] == "cpu"
    assert (tmp_path / "model_losses.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_killed_training_resumes_with_the_same_losses(recordings, tmp_path):
    flags = ["--data", str(recordings), *FLAGS, "--steps", "40", "--checkpoint_every", "0", "--dropout", "0.2"]
    flags += ["--gan", "0.01", "--ae", "0.01", "--scheduler", "cosine"]
    assert train(*flags, "-o", tmp_path / "whole.pt") == 0
    killed = [sys.executable, "-m", "dawp", "train", "unet", *flags, "-o", str(tmp_path / "killed.pt")]
    process = subprocess.Popen(
        killed, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    losses = tmp_path / "killed_losses.csv"
    while not (losses.exists() and len(rows_of(losses)) > 10):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed.pt").exists()
    assert 10 < len(rows_of(losses)) < 41
    assert train(*flags, "--resume", "-o", tmp_path / "killed.pt") == 0
    assert losses.read_text() == (tmp_path / "whole_losses.csv").read_text()
    cards = [json.loads((tmp_path / f"{name}_card.json").read_text()) for name in ("whole", "killed")]
    assert cards[0]["metrics"] == cards[1]["metrics"]


@pytest.mark.slow
def test_an_interrupted_training_resumes_with_the_same_losses(recordings, tmp_path):
    flags = ["--data", str(recordings), *FLAGS, "--steps", "60"]
    interrupted = [sys.executable, "-m", "dawp", "train", "unet", *flags, "-o", str(tmp_path / "a.pt")]
    folder = tmp_path / "a_training"
    process = subprocess.Popen([*interrupted, "--steps", "1000000"], cwd=ROOT, env=environment())
    while not list(folder.glob("samples-*/held_out")):
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert [path.name for path in folder.iterdir()] == ["checkpoint"]
    steps = len(rows_of(tmp_path / "a_losses.csv")) + 5
    assert train(*flags, "--steps", steps, "--resume", "-o", tmp_path / "a.pt") == 0
    assert train(*flags, "--steps", steps, "-o", tmp_path / "b.pt") == 0
    assert (tmp_path / "a_losses.csv").read_text() == (tmp_path / "b_losses.csv").read_text()
    assert train(*flags, "--steps", 3, "--resume", "-o", tmp_path / "a.pt") == 2  # has had more


def test_samples_of_a_killed_training_are_deleted(recordings, tmp_path):
    (tmp_path / "a_training/samples-old").mkdir(parents=True)
    assert train("--data", recordings, *FLAGS, "--steps", 1, "-o", tmp_path / "a.pt") == 0
    assert [path.name for path in (tmp_path / "a_training").iterdir()] == ["checkpoint"]


def test_a_diverging_training_ends_in_one_line(recordings, tmp_path, capsys):
    assert train("--data", recordings, *FLAGS, "--steps", 40, "--lr_g", 1000, "-o", tmp_path / "a.pt") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "a.pt").exists()


@pytest.mark.parametrize("content", [b"", b"text", [1, 2], {"format": 2}], ids=["empty", "text", "list", "format"])
def test_a_sealed_file_that_is_no_checkpoint_is_refused(content, recordings, tmp_path, capsys):
    if not isinstance(content, bytes):
        file = io.BytesIO()
        torch.save(content, file)
        content = file.getvalue()
    (tmp_path / "a_training").mkdir()
    (tmp_path / "a_training/checkpoint").write_bytes(hashlib.sha256(content).digest() + content)
    assert train("--data", recordings, *FLAGS, "--resume", "-o", tmp_path / "a.pt") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_is_created_before_a_refusal(recordings, tmp_path):
    for flags in (["--resume"], ["--load", tmp_path / "none.pt"]):
        assert train("--data", recordings, *FLAGS, *flags, "-o", tmp_path / "a.pt") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["clean"]


def test_resuming_with_other_settings_is_refused(recordings, tmp_path, capsys):
    flags = ["--data", recordings, *FLAGS, "-o", tmp_path / "model.pt", "--steps", 2]
    assert train(*flags) == 0
    assert train(*flags, "--resume", "--lr_g", 0.5) == 2
    assert "lr_g" in capsys.readouterr().err
    assert train(*flags) == 2
    assert "model.pt" in capsys.readouterr().err


@pytest.mark.parametrize("held_out", [False, True])
def test_resuming_with_other_recordings_is_refused(held_out, recordings, tmp_path, capsys):
    flags = ["--data", recordings, *FLAGS, "-o", tmp_path / "model.pt"]
    assert train(*flags, "--steps", 2) == 0
    capsys.readouterr()
    training, test = split(recordings, config_of(recordings))
    for path in test if held_out else training:
        write_sound(path, torch.rand(8000))
    assert train(*flags, "--steps", 4, "--resume") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert ("held-out" in err) == held_out


@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_the_first_process_prints_the_result(rank, recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", rank)  # as the processes of several devices have it
    monkeypatch.setattr(command, "_train", lambda config: {"metrics": {"loss": 1.0}, "steps": 1, "seconds": 1.0})
    assert train("--data", recordings, *FLAGS, "-o", tmp_path / "model.pt") == 0
    assert bool(capsys.readouterr().out) == (rank == "0")


def test_more_steps_continue_a_finished_training(recordings, tmp_path):
    flags = ["--data", recordings, *FLAGS, "-o", tmp_path / "model.pt"]
    assert train(*flags, "--steps", 2) == 0
    assert train(*flags, "--steps", 4, "--resume") == 0
    assert train("--data", recordings, *FLAGS, "--steps", 4, "-o", tmp_path / "whole.pt") == 0
    resumed, whole = (rows_of(tmp_path / f"{name}_losses.csv") for name in ("model", "whole"))
    assert [row["l2"] for row in resumed] == [row["l2"] for row in whole]


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        ([], "data"),
        (["--data", "nowhere"], "nowhere"),
        (["--data", "CLEAN", "--test_n", "3"], "test_n"),
        (["--data", "CLEAN", "--train_n", "3"], "train_n"),
        (["--data", "CLEAN", "--kernels", "8"], "kernels"),
        (["--data", "CLEAN", "--load", "no.pt"], "no.pt"),
        (["--data", "CLEAN", "--resume"], "resume"),
        (["--data", "CLEAN", "--resume", "--overwrite"], "resume"),
        (["--data", "CLEAN", "--steps", "3", "--epochs", "2"], "epochs"),
        (["--data", "CLEAN", "-o", "sound.wav"], "sound.wav"),
        (["--data", "CLEAN", "--snr", "3"], "--snr"),
        (["--data", "CLEAN", "--device", "cuda:99"], "cuda:99"),
    ],
)
def test_bad_settings_are_refused_in_one_line(flags, value, recordings, tmp_path, capsys):
    flags = [str(recordings) if flag == "CLEAN" else flag for flag in flags]
    try:
        code = train("--steps", 1, *FLAGS, "-o", tmp_path / "model.pt", *flags)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert value in lines[0]
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.slow
def test_processes_draw_the_same_windows(recordings, tmp_path):
    flags = ["--data", recordings, *FLAGS, "--steps", 3]
    assert train(*flags, "-o", tmp_path / "own.pt") == 0
    assert train(*flags, "-o", tmp_path / "other.pt", "--data_workers", 1) == 0
    assert (tmp_path / "own_losses.csv").read_text() == (tmp_path / "other_losses.csv").read_text()


@pytest.mark.slow
def test_tensorboard_receives_the_losses(recordings, tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    flags = ["--data", recordings, *FLAGS, "--steps", 3, "--tensorboard", tmp_path / "board"]
    assert train(*flags, "-o", tmp_path / "model.pt") == 0
    events = event_accumulator.EventAccumulator(str(tmp_path / "board" / "model")).Reload()
    rows = rows_of(tmp_path / "model_losses.csv")
    assert [event.value for event in events.Scalars("l2")] == pytest.approx([float(row["l2"]) for row in rows[1:]])


def config_of(recordings, **settings):
    defaults = {"window": 256, "stride": 128, "batch": 4, "task": "bandwidth", "rate": 8000}
    return TrainingConfig.of("unet", data=recordings, **{**defaults, **settings})


def test_a_batch_depends_on_the_seed_and_the_step_alone(recordings, tmp_path):
    config = config_of(recordings)
    clean = Recordings(sorted(recordings.iterdir()), 16000, tmp_path / "cache")
    windows = Windows(clean, config)
    first, again = windows[3], Windows(clean, config)[3]
    assert torch.equal(first.clean, again.clean)
    assert torch.equal(first.observed, again.observed)
    assert first.clean.shape == (4, 256)
    assert not torch.equal(first.clean, windows[4].clean)
    assert not torch.equal(first.clean, Windows(clean, config, rank=1)[3].clean)


def test_windows_are_cut_at_the_stride_from_corrupted_clips(recordings, tmp_path):
    config = config_of(recordings)
    clean = Recordings(sorted(recordings.iterdir()), 16000, tmp_path / "cache")
    batch = Windows(clean, config)[1]
    assert torch.equal(batch.clean[0, 128:], batch.clean[1, :128])
    spectrum = torch.fft.rfft((batch.observed * torch.hann_window(256)).double()).abs()
    assert spectrum[:, 80:].max() < 0.01 * spectrum.max()  # nothing above 5 kHz
    assert not torch.equal(batch.clean, batch.observed)


def test_silence_is_not_drawn(tmp_path):
    loud = torch.cat([torch.zeros(16000), 0.1 * torch.randn(2000), torch.zeros(16000)])
    path = write_sound(tmp_path / "a.wav", loud)
    silent = write_sound(tmp_path / "b.wav", torch.zeros(16000))
    dither = write_sound(tmp_path / "c.wav", (torch.rand(16000) - torch.rand(16000)) / 2**15)
    clean = Recordings([path, silent, dither], 16000, tmp_path / "cache")
    assert clean.paths == [path]
    config = config_of(tmp_path)
    for seed in range(20):
        clip, _ = draw_clip(clean, 512, config, torch.Generator().manual_seed(seed))
        assert clip.square().mean().sqrt() > 1e-4


def test_the_held_out_recordings_are_the_same_for_every_seed(tmp_path):
    for index in range(20):
        write_sound(tmp_path / f"{index:02d}.wav")
    training, held_out = split(tmp_path, config_of(tmp_path))
    assert len(held_out) == 2
    assert len(set(training) | set(held_out)) == 20
    assert split(tmp_path, config_of(tmp_path))[1] == held_out
    assert {tuple(split(tmp_path, config_of(tmp_path, seed=seed))[1]) for seed in range(4)} == {tuple(held_out)}
    with refused_as("invalid_setting", "test_n"):
        split(tmp_path, config_of(tmp_path, test_n=20))


def test_the_first_weights_come_from_a_model(recordings, tmp_path, capsys):
    flags = ["--data", recordings, *FLAGS, "--steps", 3]
    assert train(*flags, "-o", tmp_path / "first.pt", "--average", 0) == 0
    assert train(*flags, "-o", tmp_path / "second.pt", "--load", tmp_path / "first.pt") == 0
    first, second = (rows_of(tmp_path / f"{name}_losses.csv") for name in ("first", "second"))
    assert second[0]["held_out_snr_unet"] == first[-1]["held_out_snr_unet"]
    assert train(*flags, "-o", tmp_path / "other.pt", "--load", tmp_path / "first.pt", "--channels", 6) == 2
    assert "load" in capsys.readouterr().err


def test_the_help_lists_the_kinds_and_the_flags_of_the_task(capsys):
    assert command.main(["--help"]) == 0
    assert "unet" in capsys.readouterr().out
    assert command.main(["nonsense"]) == 2
    with pytest.raises(SystemExit, match="0"):
        command.main(["unet", "--task", "declip", "--help"])
    out = capsys.readouterr().out
    assert "--clip_sdr" in out
    assert "--snr" not in out


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [("denoise", "hum", "50"), ("denoise", "noise_profile", "0:1"), ("bandwidth", "target_rate", 48000)],
)
def test_settings_of_restorations_are_refused(task, name, value, tmp_path, capsys):
    with refused_as("invalid_setting", name):
        TrainingConfig.of("unet", data=tmp_path, task=task, **{name: value})
    with pytest.raises(SystemExit, match="2"):
        train("--task", task, f"--{name}", value)
    assert f"--{name}" in capsys.readouterr().err


def test_the_help_loads_no_torch():
    code = "import sys\nfrom dawp.__main__ import main\nmain(['train', '--help'])\nsys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(ROOT), capture_output=True).returncode == 0


def test_a_training_out_of_memory_is_refused_in_one_line(recordings, tmp_path, capsys, monkeypatch):
    def allocate(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 11313696000000 bytes.")

    monkeypatch.setattr("dawp.training.unet.UNet.__init__", allocate)
    assert train("--data", recordings, *FLAGS, "-o", tmp_path / "a.pt") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["clean"]
