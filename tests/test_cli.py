"""Tests of the command line."""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
import soundfile
import torch
from conftest import ROOT, TINY_FLAGS, environment, numbers, repetitions, write_sound

from dawp.cli import get_parser, main
from dawp.groups import groups_of
from dawp.tasks.base import TASKS

SEED_COMMAND = (
    "--experiment_repetition 20 --show_every 250 --noise_class GAUSSIAN --noise_std 0.2 --snr 2.5 "
    "--depth 2 --lstm_layers 4 --source {source} --samplerate 16000 --clip_length 2"
).split()
"""The command line of the paper's repository."""


def refused(result, *words, task="denoise"):
    """Check for one line on standard error and exit code 2."""
    lines = result.stderr.splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith(f"{task}.py: error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in lines[0]
    assert result.stdout == ""


def test_one_file(denoise, tmp_path):
    write_sound(tmp_path / "my take.wav")
    result = denoise("--source", "my take.wav", "--report", "--pictures", real=True)
    assert result.returncode == 0, result.stderr
    (folder,) = repetitions(tmp_path / "evals")
    assert folder.name == "000_my_take"
    assert {path.name for path in folder.iterdir()} == {
        *("clean.wav", "corrupted.wav", "best_si_snr.wav", "best_psnr.wav", "best_pesq.wav"),
        *("restored.wav", "metrics.csv", "generator.pt", "curves.png", "spectrograms.png", "result.json"),
    }
    assert "SI-SNR (dB)" in result.stdout
    report = folder.parent.relative_to(tmp_path) / "report.html"
    assert result.stdout.endswith(f" {report}\n")
    assert (tmp_path / report).exists()
    assert "device: cpu" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr  # no colours without a terminal


def test_quiet_prints_one_line(denoise, tmp_path):
    write_sound(tmp_path / "a.wav")
    for flags in (("--quiet", "--report"), ("--quiet", "--no_report", "--name", "again")):
        result = denoise("--source", "a.wav", *flags)
        assert (result.returncode, result.stderr) == (0, "")
        (line,) = result.stdout.splitlines()
        assert (tmp_path / line / "000_a" / "result.json").exists()
        assert (tmp_path / line / "report.html").exists() == ("--no_report" not in flags)


def test_json_prints_one_object(denoise, tmp_path):
    write_sound(tmp_path / "a.wav")
    (tmp_path / "broken.wav").write_text("no sound")
    result = denoise("--source", ".", "--json", "--report")
    assert result.returncode == 3
    output = json.loads(result.stdout)
    assert output["summary"] == json.loads((tmp_path / output["folder"] / "summary.json").read_text())
    assert (output["done"], output["skipped"]) == (1, 0)
    assert "broken.wav" in output["failures"][0]
    assert (tmp_path / output["report"]).exists()
    result = denoise("--restore", "--source", "a.wav", "-o", "b.wav", "--json", "--quiet")
    output = json.loads(result.stdout)
    assert (output["folder"], output["done"]) == ("b.wav", 1)


def test_a_repeated_notice_is_printed_once_per_command(denoise, tmp_path):
    write_sound(tmp_path / "a.wav", 0.1 * torch.randn(24000, 2))
    write_sound(tmp_path / "b.wav", 0.1 * torch.randn(24000, 2))
    for _ in range(2):  # once in each command
        result = denoise("--source", ".", "--experiment_repetition", "4", "--clip_length", "0.5", "--overwrite")
        assert result.returncode == 0, result.stderr
        for name in ("a.wav", "b.wav"):
            assert result.stderr.count(f"{name}: 2 channels mixed down to one") == 1


def test_tensorboard_writes_a_folder_per_repetition_or_is_refused(denoise, tmp_path, monkeypatch):
    write_sound(tmp_path / "a.wav")
    result = denoise("--source", "a.wav", "--tensorboard", "tb", "--name", "run")
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "tb/denoise/run/000_a").glob("events.out.tfevents.*"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    assert main("denoise", [*TINY_FLAGS, "--source", "a.wav", "--tensorboard", "tb", "--name", "other"]) == 2
    assert not (tmp_path / "evals/denoise/other").exists()


def test_dereverb_one_file(run_task, tmp_path):
    write_sound(tmp_path / "a.wav")
    result = run_task("dereverb", "--source", "a.wav", "--rt60", "0.3", "--room_dim", "5,4,3", "--pictures")
    assert result.returncode == 0, result.stderr
    (folder,) = repetitions(tmp_path / "evals")
    assert folder.parent.parent.name == "dereverb"
    assert folder.parent.name.startswith("a-rt60-0.3s-paper-")
    assert {path.name for path in folder.iterdir()} == {
        *("clean.wav", "corrupted.wav", "best_si_snr.wav", "best_psnr.wav", "best_pesq.wav"),
        *("restored.wav", "metrics.csv", "generator.pt", "curves.png", "spectrograms.png", "result.json"),
        *("rir.wav", "room.png"),
    }
    facts = json.loads((folder / "result.json").read_text())
    assert facts["corruption"]["rt60"] == pytest.approx(0.3, rel=0.05)
    assert facts["corruption"]["room_dim"] == [5.0, 4.0, 3.0]
    assert facts["best"]["si_snr"]["gain"] == pytest.approx(facts["best"]["si_snr"]["value"] - facts["input"]["si_snr"])
    again = run_task("dereverb", "--source", "a.wav", "--rt60", "0.3", "--room_dim", "5,4,3")
    assert "nothing to do" in again.stderr


def test_inpaint_one_file(run_task, tmp_path):
    clip = write_sound(tmp_path / "a.wav", 0.1 * torch.randn(16000), subtype="FLOAT")
    result = run_task("inpaint", "--source", "a.wav", "--gap_ms", "5", "--n_gaps", "3", "--baselines", "--pictures")
    assert result.returncode == 0, result.stderr
    (folder,) = repetitions(tmp_path / "evals")
    assert folder.parent.name.startswith("a-gaps-3x5ms-paper-")
    names = ("gap_si_snr", "gap_psnr", "si_snr", "psnr", "pesq")
    assert {path.name for path in folder.iterdir()} == {
        *("clean.wav", "corrupted.wav", *(f"best_{name}.wav" for name in names if name != "pesq")),
        *("restored.wav", "baseline_linear.wav", "baseline_auto.wav", "baseline_janssen.wav", "gaps.png"),
        *("metrics.csv", "generator.pt", "curves.png", "spectrograms.png", "result.json"),
    } | {path.name for path in folder.glob("best_pesq.wav")}
    facts = json.loads((folder / "result.json").read_text())
    assert len(facts["corruption"]["gaps"]) == 3
    assert set(facts["restored"]["metrics"]) >= {"gap_si_snr", "gap_psnr", "si_snr", "psnr"}
    assert (facts["restored"]["epoch"], facts["input"]["gap_si_snr"]) == (3, None)
    header = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert header[:5] == ["epoch", "loss", "gap_si_snr", "gap_psnr", "si_snr"]
    assert "gap SI-SNR (dB)" in result.stdout
    assert "baseline janssen" in result.stdout
    restored, clean = (soundfile.read(folder / f"{name}.wav")[0] for name in ("restored", "clean"))
    assert 3 * 80 <= (restored != clean).sum() <= 3 * (80 + 16)
    assert (soundfile.read(clip)[0] == clean).all()


def test_inpaint_a_damaged_recording_without_a_clean_version(run_task, tmp_path):
    clip = 0.1 * torch.randn(16000)
    clip[8000:8040] = 0
    clip[12000:12010] = torch.nan
    write_sound(tmp_path / "damaged.wav", clip, subtype="FLOAT")
    result = run_task("inpaint", "--source", "damaged.wav", "--gaps", "auto", "--pictures")
    assert result.returncode == 0, result.stderr
    assert "no clean clip, so no metrics" in result.stdout
    (folder,) = repetitions(tmp_path / "evals")
    assert {path.name for path in folder.iterdir()} == {
        *("corrupted.wav", "restored.wav", "gaps.png"),
        *("metrics.csv", "generator.pt", "curves.png", "spectrograms.png", "result.json"),
    }
    facts = json.loads((folder / "result.json").read_text())
    assert facts["corruption"]["gaps"] == [[0.5, 0.0025], [0.75, 0.000625]]
    assert (facts["input"], facts["best"]) == ({}, {})
    restored = soundfile.read(folder / "restored.wav")[0]
    assert (abs(restored - clip.double().numpy())[:7990] == 0).all()
    assert restored[8000:8040].any()


def test_inpaint_a_pair(run_task, tmp_path):
    clip = 0.1 * torch.randn(16000)
    write_sound(tmp_path / "clean.wav", clip, subtype="FLOAT")
    clip[8000:8040] = 0
    write_sound(tmp_path / "damaged.wav", clip, subtype="FLOAT")
    (tmp_path / "pairs.txt").write_text("clean.wav,damaged.wav\n")
    assert run_task("inpaint", "--source", "pairs.txt").returncode == 0
    (folder,) = repetitions(tmp_path / "evals")
    facts = json.loads((folder / "result.json").read_text())
    assert facts["corruption"]["gaps"] == [[0.5, 0.0025]]
    assert facts["pair"] == "damaged.wav"
    assert facts["best"]["gap_psnr"]["epoch"] in (1, 2, 3)


def test_the_baselines_have_sounds_and_rows(run_task, tmp_path):
    write_sound(tmp_path / "a.wav")
    for task, names in (
        ("denoise", {"noisereduce", "noisereduce_stationary", "log_mmse", "wiener"}),
        ("dereverb", {"wpe"}),
    ):
        result = run_task(task, "--source", "a.wav", "--baselines", "--output_dir", task)
        assert result.returncode == 0, result.stderr
        (folder,) = repetitions(tmp_path / task)
        assert {path.stem.removeprefix("baseline_") for path in folder.glob("baseline_*.wav")} == names
        assert set(json.loads((folder / "result.json").read_text())["baselines"]) == names
        for name in names:
            assert f"baseline {name}\n" in result.stdout
            assert f"{name}_gain_psnr" in (folder.parent / "summary.csv").read_text()


def test_missing_packages_of_the_baselines_are_bad_input(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    write_sound(tmp_path / "a.wav")
    assert main("dereverb", [*TINY_FLAGS, "--source", "a.wav", "--baselines"]) == 2
    assert "--baselines need packages that are not installed: nara_wpe (pip install" in capsys.readouterr().err
    assert not (tmp_path / "evals").exists()


@pytest.mark.slow
def test_the_seed_command_twice(denoise, tmp_path):
    write_sound(tmp_path / "in" / "a.wav", 0.1 * torch.randn(40000))
    flags = [flag.format(source=tmp_path / "in") for flag in SEED_COMMAND]
    flags += ["--experiment_repetition", "2", "--epochs", "3", "--clip_length", "0.25", "--workers", "1"]
    first = denoise(*flags, tiny=False)
    assert first.returncode == 0, first.stderr
    folders = repetitions(tmp_path / "evals")
    assert [folder.name for folder in folders] == ["000_a", "001_a"]
    stamps = {path: path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()}
    second = denoise(*flags, tiny=False)
    assert second.returncode == 0
    assert "all 2 repetitions exist already, nothing to do" in second.stderr
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert second.stdout == first.stdout


def test_the_flags_of_the_seed_command_set_their_settings():
    given = vars(get_parser("denoise").parse_args([flag.format(source="x") for flag in SEED_COMMAND]))
    assert given["noise_std"] == 0.2
    assert given["experiment_repetition"] == 20
    assert (given["depth"], given["lstm_layers"], given["clip_length"]) == (2, 4, 2.0)


def test_flags_have_the_effect_of_their_names():
    """In the public code, --resample disables resampling and the description of --glu is inverted."""
    parse = get_parser("denoise").parse_args
    assert vars(parse([])) == {}
    assert parse(["--resample"]).resample is True
    assert parse(["--no_resample"]).resample is False
    assert parse(["--glu"]).glu is True
    assert parse(["-e", "7"]).epochs == 7
    assert parse(["--snr", "none"]).snr is None


@pytest.mark.parametrize("task", TASKS)
def test_help_all_shows_every_flag(task, capsys):
    with pytest.raises(SystemExit) as ended:
        get_parser(task).parse_args(["--help_all"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for group in groups_of(task).values():
        for setting in dataclasses.fields(group):
            assert f"--{setting.name} " in shown.replace("\n", " ")
    assert task != "denoise" or "none: the standard deviation of the noise is --noise_std" in " ".join(shown.split())


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("task", TASKS)
def test_help_is_one_screen_with_examples_that_parse(task, flag, capsys):
    with pytest.raises(SystemExit) as ended:
        get_parser(task).parse_args([flag])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 120
    examples = [line.split(f"python {task}.py ")[1] for line in lines if line.startswith("  python ")]
    assert len(examples) == 3
    for example in examples:
        assert "source" in vars(get_parser(task).parse_args(shlex.split(example)))
    shown = {word.strip(",") for line in lines for word in line.split()[:2] if word.startswith("--")}
    assert {"--source", "--restore", "--output", "--preset", "--help_all"} <= shown
    assert shown - {"--help"} <= set(get_parser(task)._option_string_actions)


def test_a_path_without_a_flag_is_the_source(denoise, tmp_path):
    parse = get_parser("denoise").parse_args
    for arguments in (["a b.wav", "--snr", "5"], ["--snr", "5", "a b.wav"], ["--snr", "5", "--", "a b.wav"]):
        assert vars(parse(arguments)) == vars(parse(["--source", "a b.wav", "--snr", "5"]))
    write_sound(tmp_path / "a.wav")
    for folder, flags in (("one", ["a.wav"]), ("two", ["--source", "a.wav"])):
        assert denoise(*flags, "--output_dir", folder).returncode == 0
    (one,), (two,) = (tmp_path.glob(f"{folder}/denoise/*") for folder in ("one", "two"))
    assert one.name == two.name
    assert numbers(one) == numbers(two)


@pytest.mark.parametrize("arguments", [["a.wav", "--source", "b.wav"], ["a.wav", "b.wav"], ["--source", "a", "b"]])
def test_a_second_source_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        get_parser("denoise").parse_args(arguments)
    assert ended.value.code == 2
    assert "one sound file, folder or list" in capsys.readouterr().err


def test_heavy_libraries_are_imported_lazily():
    heavy = "matplotlib librosa pesq scipy pandas sklearn numba pyroomacoustics noisereduce nara_wpe".split()
    code = f"import sys, dawp.cli; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_folder_a_list_and_a_list_of_pairs(denoise, tmp_path):
    write_sound(tmp_path / "in" / "deep" / "a b.wav")
    write_sound(tmp_path / "in" / "b.flac", rate=22050)
    (tmp_path / "in" / "notes.txt").write_text("no sound")
    noisy = 0.1 * torch.randn(16000) + torch.randn(16000, generator=torch.Generator().manual_seed(1)) * 0.1
    write_sound(tmp_path / "noisy" / "b.wav", noisy)
    (tmp_path / "list.txt").write_text("# comment\r\n\r\nin/deep/a b.wav,\r\nin/b.flac\r\n")
    (tmp_path / "pairs.txt").write_text("in/deep/a b.wav , noisy/b.wav\n")
    for source, names in (("in", {"a_b", "b"}), ("list.txt", {"a_b", "b"}), ("pairs.txt", {"a_b"})):
        result = denoise("--source", source, "--output_dir", f"out_{source}")
        assert result.returncode == 0, result.stderr
        folders = repetitions(tmp_path / f"out_{source}")
        assert {folder.name[4:] for folder in folders} == names
    assert json.loads((folders[0] / "result.json").read_text())["pair"] == "noisy/b.wav"


def test_without_a_source_the_bundled_clips_are_used(denoise, tmp_path):
    result = denoise("--clip_length", "0.5")
    assert result.returncode == 0, result.stderr
    assert {folder.name[4:] for folder in repetitions(tmp_path / "evals")} == {"speech", "singing", "guitar"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--source missing.wav", ["missing.wav", "no such file or folder"]),
        ("--source empty", ["empty", "no sound files"]),
        ("--source bad_list.txt", ["bad_list.txt line 2", "gone.wav"]),
        ("--source text.wav", ["text.wav", "cannot be read as sound"]),
        ("--source none.wav", ["none.wav", "no samples"]),
        ("--source one.wav", ["one.wav", "at least 64 samples, got 1"]),
        ("--source zeros.wav", ["zeros.wav", "silent"]),
        ("--source nan.wav", ["nan.wav", "NaN"]),
        ("--source pairs.txt", ["1.000 s", "1.020 s"]),
        ("--source good.wav --snr abc", ["--snr must be a number", "got abc"]),
        ("--source good.wav --depth 0", ["--depth must be", "got 0"]),
        ("--source good.wav --epochs 0", ["--epochs must be", "got 0"]),
        ("--source good.wav --lr -1", ["--lr must be", "got -1"]),
        ("--source good.wav --clip_length -2", ["--clip_length must be", "got -2"]),
        ("--source good.wav --noise_class PINK", ["--noise_class must be one of GAUSSIAN, UNIFORM", "got PINK"]),
        ("--source good.wav --frobnicate 3", ["--frobnicate"]),
        ("--source good.wav --epoch 3", ["--epoch:", "--epochs?"]),
        ("--source good.wav --sed=3", ["--sed:", "--seed?"]),
        ("good.wav long.wav", ["long.wav", "the source is one"]),
        ("--source good.wav long.wav", ["long.wav", "the source is one"]),
        ("--source tape.m4a", ["tape.m4a", ".m4a", "ffmpeg"]),
        ("--source only_m4a", ["only_m4a", "no sound files", "2 .m4a"]),
        ("--source good.wav --preset slow", ["slow", "paper", "fast"]),
        ("--source good.wav --device cuda:99", ["cuda:99", "not on this machine"]),
        ("--source good.wav --lstm_layers 1 --attention_layers 1", ["cannot both be used"]),
        ("--source good.wav --output_dir good.wav", ["good.wav", "cannot be written"]),
        ("--source good.wav --trim_start 1", ["good.wav", "trim_start must be below", "1.000 s, got 1 s"]),
        ("--source good.wav --noise_source gone", ["--noise_source must be a sound file or a folder", "got gone"]),
        ("--source good.wav --device a\\nb", ["--device must be", "got a\\nb"]),
        (f"--source {'a' * 300}.wav", ["File name too long"]),
        ("--source good.wav --name a/b", ["--name must be a plain folder name", "a/b"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(denoise, tmp_path, flags, words):
    write_sound(tmp_path / "good.wav")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad_list.txt").write_text("good.wav\ngone.wav\n")
    (tmp_path / "text.wav").write_text("Dear diary\n")
    (tmp_path / "only_m4a").mkdir()
    for name in ("tape.m4a", "only_m4a/a.m4a", "only_m4a/b.M4A"):
        (tmp_path / name).write_bytes(b"\0\0\0 ftypM4A ")
    for name, samples in {
        "none": torch.zeros(0),
        "one": torch.tensor([0.5]),
        "zeros": torch.zeros(16000),
        "nan": torch.full((16000,), torch.nan),
        "long": torch.rand(16320),
    }.items():
        write_sound(tmp_path / f"{name}.wav", samples, subtype="FLOAT")
    (tmp_path / "pairs.txt").write_text("good.wav,long.wav\n")
    before = sorted(tmp_path.rglob("*"))
    refused(denoise(*flags.split()), *words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("task", "flags", "words"),
    [
        ("dereverb", "--rt60 0", ["--rt60 must be a number above 0", "got 0"]),
        ("dereverb", "--rt60 -0.2", ["--rt60 must be a number above 0", "got -0.2"]),
        ("dereverb", "--rt60 abc", ["--rt60 must be a number", "got abc"]),
        ("dereverb", "--rt60 0.001", ["good.wav", "rt60 must be from ", "got 0.001 s"]),
        ("dereverb", "--room_dim 5,4", ["--room_dim must be three numbers X,Y,Z", "got 5,4"]),
        ("dereverb", "--room_dim 1,1,1", ["good.wav", "room_dim must ", "got 1,1,1"]),
        ("dereverb", "--room_dim 3,3,3 --source_pos 4,1,1", ["source_pos must ", "3 x 3 x 3 m, got 4,1,1"]),
        ("dereverb", "--rir_source zeros.wav", ["rir_source zeros.wav: "]),
        ("dereverb", "--rir_source nan.wav", ["nan.wav", "NaN"]),
        ("dereverb", "--rir_source gone.wav", ["--rir_source must be", "got gone.wav"]),
        ("dereverb", "--source zeros.wav", ["zeros.wav", "silent"]),
        ("dereverb", "--noise_class UNIFORM", ["--noise_class"]),
        ("inpaint", "--gap_ms 0", ["--gap_ms must be a number above 0 and at most 100", "got 0"]),
        ("inpaint", "--gap_ms 200", ["--gap_ms must be", "got 200"]),
        ("inpaint", "--gaps 0.99:0.02", ["good.wav", "0.99:0.02 lies outside the clip of 1 s"]),
        ("inpaint", "--gaps 0.1:0.2,0.2:0.2", ["--gaps must not overlap", "0.2:0.2"]),
        ("inpaint", "--gaps 0:5", ["good.wav", "0:5 lies outside the clip of 1 s"]),
        ("inpaint", "--gaps soon", ["--gaps must be auto or START:LENGTH", "got soon"]),
        ("inpaint", "--gaps auto", ["good.wav", "no drop-outs in this clip"]),
        ("inpaint", "--n_gaps 1000", ["good.wav", "n_gaps must be at most ", "got 1000"]),
        ("inpaint", "--clip_length 0.01 --gap_ms 5", ["good.wav", "gap_ms must ", "got 5 ms"]),
        ("inpaint", "--source zeros.wav", ["zeros.wav", "silent"]),
        ("inpaint", "--source nan.wav --gaps auto", ["nan.wav", "all samples are missing"]),
        ("dereverb", "--rt60 0.5 --room_dim 0.2,0.2,0.2", ["--room_dim must be three numbers X,Y,Z, each at least 1"]),
        ("dereverb", "--rt60 5", ["good.wav", "rt60 must be from ", "(ray_tracing", "got 5 s"]),
        (
            "inpaint",
            "--generator wavenet",
            ["--generator must be one of demucs, waveunet, spectrogram, subpixel", "got wavenet"],
        ),
    ],
)
def test_bad_input_of_the_other_tasks(run_task, tmp_path, task, flags, words):
    write_sound(tmp_path / "good.wav")
    write_sound(tmp_path / "zeros.wav", torch.zeros(16000))
    write_sound(tmp_path / "nan.wav", torch.full((16000,), torch.nan), subtype="FLOAT")
    before = sorted(tmp_path.rglob("*"))
    refused(run_task(task, "--source", "good.wav", "--clip_length", "0", *flags.split()), *words, task=task)
    assert sorted(tmp_path.rglob("*")) == before


def test_flags_without_effect_are_reported(run_task, tmp_path):
    write_sound(tmp_path / "a.wav")
    flags = ["--gaps", "0.5:0.01", "--n_gaps", 5, "--seed", 1, "--holdout", 0.1]
    result = run_task("inpaint", "--source", "a.wav", *flags)
    assert "--n_gaps has no effect with these settings" in result.stderr
    assert "--holdout has no effect with these settings" in result.stderr
    assert result.stderr.count("has no effect") == 2


def test_unusual_formats_are_accepted(denoise, tmp_path):
    """8 bits, stereo, another sample rate, and shorter than the clip length."""
    samples = 0.3 * torch.randn(8000, 2).clamp(-3, 3)
    write_sound(tmp_path / "odd.wav", samples, 22050, subtype="PCM_U8")
    result = denoise("--source", "odd.wav")
    assert result.returncode == 0, result.stderr
    for notice in ("2 channels mixed down", "resampled from 22050", "shorter than the clip length"):
        assert notice in result.stderr
    (folder,) = repetitions(tmp_path / "evals")
    assert soundfile.info(folder / "best_si_snr.wav").frames == round(8000 * 16000 / 22050)


def test_one_bad_recording_in_a_batch_is_skipped_with_exit_code_3(denoise, tmp_path):
    write_sound(tmp_path / "in" / "good.wav")
    write_sound(tmp_path / "in" / "zeros.wav", torch.zeros(16000))
    result = denoise("--source", "in")
    assert result.returncode == 3
    assert "zeros.wav: is silent" in result.stderr
    assert "SI-SNR" in result.stdout
    assert [folder.name[4:] for folder in repetitions(tmp_path / "evals")] == ["good"]


def test_other_settings_in_a_named_run_are_refused(denoise, tmp_path):
    write_sound(tmp_path / "a.wav")
    assert denoise("--source", "a.wav", "--name", "x").returncode == 0
    refused(denoise("--source", "a.wav", "--name", "x", "--seed", 5), "seed is 0 in the folder and 5 in this command")
    assert denoise("--source", "a.wav", "--name", "x", "--seed", 5, "--overwrite").returncode == 0


def test_a_refused_overwrite_keeps_the_old_run_and_prints_no_table(denoise, tmp_path):
    write_sound(tmp_path / "a.wav")
    write_sound(tmp_path / "zeros.wav", torch.zeros(16000))
    assert denoise("--source", "a.wav", "--name", "x").returncode == 0
    refused(denoise("--source", "zeros.wav", "--name", "x", "--overwrite"), "zeros.wav: is silent")
    assert (repetitions(tmp_path / "evals")[0] / "result.json").exists()


def test_the_same_command_twice_gives_the_same_metrics(denoise, tmp_path):
    write_sound(tmp_path / "a.wav")
    texts = []
    for output in ("one", "two"):
        assert denoise("--source", "a.wav", "--output_dir", output).returncode == 0
        (folder,) = repetitions(tmp_path / output)
        texts.append((folder / "metrics.csv").read_bytes())
    assert texts[0] == texts[1]


def test_a_diverging_fit_is_reported_with_exit_code_3(denoise, tmp_path):
    write_sound(tmp_path / "a.wav")
    result = denoise("--source", "a.wav", "--lr", "1e30", "--epochs", 40)
    assert result.returncode == 3
    assert "the loss is not a finite number" in result.stderr
    again = denoise("--source", "a.wav", "--lr", "1e30", "--epochs", 40)
    assert again.returncode == 3  # also for the finished run
    assert (repetitions(tmp_path / "evals")[0] / "result.json").exists()


def test_a_file_that_cannot_be_written_is_one_line_and_exit_code_1(tmp_path, monkeypatch, capsys):
    def full(path, *others):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("dawp.io.audio.write", full)
    monkeypatch.chdir(tmp_path)
    write_sound(tmp_path / "a.wav", 0.1 * torch.randn(40000))
    assert main("denoise", [*TINY_FLAGS, "--source", "a.wav"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("/000_a/clean.wav: No space left on device")
    assert not list(tmp_path.glob("evals/denoise/*/000_a"))


@pytest.mark.skipif(os.name != "posix", reason="needs a limit of the size of files")
@pytest.mark.parametrize(
    ("task", "flags", "limit", "name"),
    [
        ("denoise", ["--source", "a.wav"], 10_000, "000_a/clean.wav"),
        ("denoise", ["--source", "a.wav", "--restore", "-o", "b.wav"], 10_000, "000000.npz"),
        ("denoise", ["--source", "a.wav", "--restore", "-o", "b.wav", "--subtype", "DOUBLE"], 100_000, "b.wav"),
        ("inpaint", ["--source", "a.wav", "--restore", "-o", "b.wav"], 10_000, "b.wav"),
        ("inpaint", ["--source", "a.wav", "--restore", "-o", "b.flac"], 10_000, "b.flac"),
    ],
)
def test_a_full_disk_is_reported_with_the_name_of_the_file(run_task, tmp_path, task, flags, limit, name):
    """A limit on the file size simulates a full disk: writes fail in the same way."""
    import resource

    write_sound(tmp_path / "a.wav")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        result = run_task(task, *flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith(f"{name}: File too large")
    assert not list(tmp_path.rglob("*" + name.rpartition("/")[2]))  # no temporary file either


def test_unsupported_files_are_counted_once(denoise, tmp_path):
    write_sound(tmp_path / "in" / "a.wav")
    for name in ("b.m4a", "deep/c.M4A", "d.wma", "note.txt", ".hidden.m4a"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"x")
    result = denoise("--source", "in", "--noise_source", "in")
    assert result.returncode == 0
    (line,) = [line for line in result.stderr.splitlines() if ".m4a" in line]
    assert "2 .m4a, 1 .wma" in line


def test_a_warning_names_its_clip(denoise, tmp_path):
    for name in ("x/a.wav", "y/a.wav"):
        write_sound(tmp_path / "in" / name, 0.1 * torch.randn(3000))  # too short for PESQ
    result = denoise("--source", "in", "--clip_length", "0.1", "--experiment_repetition", 4)
    assert result.returncode == 0
    warned = sorted(line.split("warning: ")[1].split(": ")[0] for line in result.stderr.splitlines() if "PESQ" in line)
    assert warned == ["in/x/a.wav", "in/x/a.wav, clip 2", "in/y/a.wav", "in/y/a.wav, clip 2"]


def test_ctrl_c_while_torch_is_loaded(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", str(ROOT / "denoise.py")], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "| " in line and "torch" in line:  # torch is partly loaded
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_ctrl_c_keeps_finished_repetitions(tmp_path):
    for name in ("a", "b"):
        write_sound(tmp_path / "in" / f"{name}.wav")
    command = [sys.executable, str(ROOT / "denoise.py"), *TINY_FLAGS, "--source", "in", "--name", "x"]
    command += ["--epochs", "1000", "--pesq_every", "1000"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    run = tmp_path / "evals" / "denoise" / "x"
    deadline = time.monotonic() + 120
    while not list(run.glob("001_*/clean.wav")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    finished = [path for path in run.iterdir() if path.is_dir()]
    assert len(finished) == 1
    assert (finished[0] / "result.json").exists()
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]
    assert json.loads((run / "summary.json").read_text())["repetitions"] == 1


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("task", ["denoise", "dereverb", "inpaint"])
def test_the_shell_script_passes_source_and_flags(tmp_path, task):
    """scripts/TASK.sh runs the command of the paper; the first argument is the source, the others are flags."""
    write_sound(tmp_path / "my takes" / "a.wav")
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "scripts" / f"{task}.sh").write_bytes((ROOT / "scripts" / f"{task}.sh").read_bytes())
    for name, text in ((".venv/bin/python", 'printf "%s\\n" "$@"'), ("scripts/setup.sh", "true")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    run = subprocess.run(
        ["bash", f"scripts/{task}.sh", "my takes", "--epochs", "5"], cwd=tmp_path, capture_output=True, text=True
    )
    given = run.stdout.splitlines()
    assert given[0] == str(tmp_path / f"{task}.py")
    assert given[-2:] == ["--epochs", "5"]
    assert given[given.index("--source") + 1] == "my takes"
    get_parser(task).parse_args(given[1:])
    if task == "denoise":
        assert given[1:-2] == [flag.format(source="my takes") for flag in SEED_COMMAND]


@pytest.mark.parametrize(
    ("task", "flag", "owner"), [("denoise", "--clip_sdr", "declip"), ("inpaint", "--snr", "denoise")]
)
def test_the_hint_for_a_flag_of_another_task_names_that_task(task, flag, owner, capsys):
    with pytest.raises(SystemExit) as exit_status:
        get_parser(task).parse_args([flag, "5"])
    assert exit_status.value.code == 2
    assert capsys.readouterr().err.split()[-1] == owner
