"""Tests of the error codes: their documentation, and the JSON object of a command that fails."""

import json
import pickle
import re
import sys
from typing import get_args

import pytest
import torch
from conftest import ROOT, refused_as, write_sound

from dawp import __main__, plugins
from dawp.errors import BadInput, ErrorCode, FitDiverged, with_context
from dawp.paper import command
from dawp.problem import Problem
from dawp.report import tensorboard

CODES = get_args(ErrorCode)


def check_json(output, errors, code, *words):
    """Check for the JSON object of an error on standard output, and its line on standard error."""
    facts = json.loads(output)
    assert facts["code"] == code
    assert errors.splitlines()[-1].endswith(facts["error"])
    for word in words:
        assert word in facts["error"]
    return facts


def test_the_table_of_codes_is_complete():
    page = (ROOT / "docs" / "outputs.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| code \| meaning \|\n\|---\|---\|\n((?:\|.*\n?)+)", page, re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(CODES)


def test_every_code_is_used():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "dawp").rglob("*.py") if path.name != "errors.py"]
    used = {code for text in sources for code in CODES if f'"{code}"' in text}
    assert used == set(CODES)


def test_a_failure_keeps_its_code_with_context_and_between_processes():
    failure = with_context(BadInput("is silent", code="unusable_recording"), "a.wav")
    copy = pickle.loads(pickle.dumps(failure))
    assert (str(copy), copy.code) == ("a.wav: is silent", "unusable_recording")
    diverged = pickle.loads(pickle.dumps(with_context(FitDiverged("epoch 3"), "a.wav")))
    assert (type(diverged), str(diverged), diverged.code) == (FitDiverged, "a.wav: epoch 3", "fit_diverged")
    assert BadInput("text").code == "invalid_setting"


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ("--epoch 3", "invalid_setting"),
        ("--snr loud", "invalid_setting"),
        ("--source a.wav other", "invalid_setting"),
        ("--source none.wav", "not_found"),
        ("--source empty", "not_found"),
        ("--source a.wav --noise_source none.wav", "not_found"),
        ("--source broken.wav", "unreadable_input"),
        ("--source tape.m4a", "unreadable_input"),
        ("--source list.txt", "invalid_list"),
        ("--source missing.txt", "not_found"),
        ("--source pair.txt", "mismatched_pair"),
        ("--source silent.wav", "unusable_recording"),
        ("--source a.wav --device cuda:99", "unavailable"),
        ("--source a.wav --output_dir a.wav", "io_error"),
        ("--source a.wav --restore -o other.wav", "output_exists"),
        ("--source silent.wav --restore -o new.wav", "unusable_recording"),
    ],
)
def test_a_command_that_fails_prints_json(denoise, tmp_path, flags, code):
    for name, seconds in (("a.wav", 0.5), ("other.wav", 0.3)):
        write_sound(tmp_path / name, 0.1 * torch.randn(int(16000 * seconds)))
    write_sound(tmp_path / "silent.wav", torch.zeros(8000))
    (tmp_path / "empty").mkdir()
    for name, text in (
        ("broken.wav", "no sound"),
        ("tape.m4a", "no sound"),
        ("list.txt", "a.wav,other.wav,a.wav\n"),
        ("missing.txt", "none.wav\n"),
        ("pair.txt", "a.wav,other.wav\n"),
    ):
        (tmp_path / name).write_text(text)
    result = denoise(*flags.split(), "--json")
    assert result.returncode == 2, result.stderr
    check_json(result.stdout, result.stderr, code)
    plain = denoise(*flags.split())
    assert (plain.returncode, plain.stdout) == (2, "")


def test_a_run_with_other_settings_has_a_code(denoise, tmp_path):
    write_sound(tmp_path / "a.wav")
    assert denoise("--source", "a.wav", "--name", "x").returncode == 0
    result = denoise("--source", "a.wav", "--name", "x", "--seed", 5, "--json")
    check_json(result.stdout, result.stderr, "output_exists", "seed")


@pytest.mark.parametrize("restores", [False, True])
def test_each_recording_that_fails_has_a_code(denoise, tmp_path, restores):
    write_sound(tmp_path / "in" / "a.wav", 0.1 * torch.randn(8000))
    write_sound(tmp_path / "in" / "silent.wav", torch.zeros(8000))
    (tmp_path / "in" / "broken.wav").write_text("no sound")
    flags = ("--restore", "--method", "log_mmse", "-o", "out") if restores else ()
    result = denoise("--source", "in", "--json", *flags)
    assert result.returncode == 3, result.stderr
    outcome = json.loads(result.stdout)
    codes = dict(zip(outcome["failures"], outcome["failure_codes"], strict=True))
    (silent,) = [code for line, code in codes.items() if "silent.wav" in line]
    (broken,) = [code for line, code in codes.items() if "broken.wav" in line]
    assert (silent, broken) == ("unusable_recording", "unreadable_input")
    assert "code" not in outcome


def test_a_fit_that_diverges_has_a_code(denoise, tmp_path):
    write_sound(tmp_path / "a.wav")
    for _ in range(2):  # the second command reports the failure of the first one
        result = denoise("--source", "a.wav", "--lr", "1e30", "--epochs", 20, "--json")
        assert json.loads(result.stdout)["failure_codes"] == ["fit_diverged"]


def test_unknown_tasks_and_modules_have_a_code(capsys, monkeypatch):
    assert __main__.main(["nonsense", "--json"]) == 2
    check_json(*capsys.readouterr(), "invalid_setting", "nonsense")
    monkeypatch.setenv(plugins.VARIABLE, "no_such_module")
    assert __main__.main(["denoise", "--json"]) == 2
    check_json(*capsys.readouterr(), "invalid_setting", "no_such_module")


def test_a_study_that_fails_prints_json(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(["table3", "--clips", "0", "--json"]) == 2
    check_json(*capsys.readouterr(), "invalid_setting", "clips")
    assert command.main(["table3", "--finished_only", "--json"]) == 2
    check_json(*capsys.readouterr(), "not_found")


def test_waveforms_and_packages_have_codes(monkeypatch):
    with refused_as("unusable_recording", "silent"):
        Problem(torch.zeros(100), None, 16000)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with refused_as("missing_package", "tensorboard"):
        tensorboard.check_installed()
