"""Tests of methods other than the deep prior for restoration."""

import json

import pytest
import soundfile
import torch
from conftest import RATE, refused_as

import dawp
from dawp.methods import base


@pytest.fixture
def damaged(tmp_path):
    """Return clean stereo tones ``[T, 2]``, a mask of missing samples, and a file with gaps in one channel."""
    time = torch.arange(5 * RATE) / RATE
    tones = torch.stack([0.3 * torch.sin(2 * torch.pi * f * time) for f in (440.0, 997.0)], dim=1)
    missing = torch.zeros(tones.shape, dtype=torch.bool)
    for start in (0.7, 2.25, 2.6, 4.9):  # with blocks of 3 s, two of them lie where the blocks overlap
        missing[round(start * RATE) : round(start * RATE) + 80, 1] = True
    soundfile.write(tmp_path / "damaged.wav", torch.where(missing, 0, tones).numpy(), RATE, "FLOAT")
    return tones, missing, tmp_path / "damaged.wav"


@pytest.mark.slow
@pytest.mark.parametrize("method", [None, "janssen", "ar_mean"])
def test_a_method_fills_the_gaps_of_a_file_in_blocks(method, damaged, run_task, tmp_path):
    tones, missing, source = damaged
    output = tmp_path / "filled.wav"
    named = ["--method", method] if method else []
    flags = ["--restore", *named, "--block", "3", "--device", "cpu", "--workers", "1"]
    assert run_task("inpaint", *flags, "--source", str(source), "-o", str(output)).returncode == 0
    filled = torch.from_numpy(soundfile.read(output, dtype="float32")[0])
    error = (filled - tones)[missing].square().mean() / tones[missing].square().mean()
    assert 10 * torch.log10(error) < -40
    assert torch.equal(filled[~missing], tones[~missing])
    record = json.loads((tmp_path / "filled.wav.json").read_text())
    assert record["settings"]["method"] == (method or "auto")
    assert "epochs" not in record["settings"]
    assert all(epochs == [0, 0] for epochs in (block["epochs"] for block in record["blocks"]))


@pytest.mark.parametrize(
    "flags",
    [
        ["--restore", "--method", "log_mmse"],  # a method of another task
        ["--restore", "--method", "nothing"],
        ["--method", "janssen"],
    ],
)
def test_a_method_that_cannot_be_used_is_refused(flags, damaged, run_task, tmp_path):
    assert (
        run_task("inpaint", *flags, "--source", str(damaged[2]), "--output_dir", str(tmp_path / "runs")).returncode == 2
    )
    assert not (tmp_path / "runs").exists()


def test_a_method_registered_outside_the_package(monkeypatch, speech):
    monkeypatch.setitem(base.METHODS, "denoise", dict(base.METHODS["denoise"]))
    base.register(base.Method("half", "denoise", lambda problem: problem.observed / 2))
    restored = dawp.restore(speech, RATE, task="denoise", method="half")
    assert torch.allclose(restored, speech / 2, atol=1e-6)
    with pytest.raises(ValueError, match="half"):
        base.register(base.Method("half", "denoise", lambda problem: problem.observed))


def fails_with(error):
    def method(problem):
        raise error

    return method


@pytest.mark.parametrize(
    "broken",
    [
        lambda problem: problem.observed / 0,
        lambda problem: 1 / 0,
        lambda problem: problem.observed[:-5],
        lambda problem: problem.observed[None],
        fails_with(RuntimeError("first\nsecond")),
        fails_with(StopIteration()),
    ],
)
def test_a_method_that_fails_is_bad_input(broken, monkeypatch, speech):
    monkeypatch.setitem(base.METHODS, "denoise", {"broken": base.Method("broken", "denoise", broken)})
    with refused_as("job_failed", "broken") as refusal:
        dawp.restore(speech, RATE, task="denoise", method="broken")
    message = str(refusal.value)
    assert "\n" not in message
    assert not message.rstrip().endswith(":")


def test_a_missing_package_is_reported(monkeypatch, speech):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refused_as("missing_package", "nara_wpe"):
        dawp.restore(speech, RATE, task="dereverb", method="wpe")


@pytest.mark.parametrize("settings", [{}, {"samplerate": 8000, "fits": 3, "noise_profile": "0:0.2"}])
def test_settings_of_the_network_have_no_effect(settings, monkeypatch, speech):
    """The method receives the recording without high-pass, resampling or noise estimate."""
    seen = []

    def keep(problem):
        seen.append(problem)
        return problem.observed

    monkeypatch.setitem(base.METHODS, "denoise", {"keep": base.Method("keep", "denoise", keep)})
    assert torch.equal(dawp.restore(speech, RATE, task="denoise", method="keep", **settings), speech)
    (problem,) = seen
    assert (problem.sample_rate, problem.noise) == (RATE, None)
    assert torch.equal(problem.observed, speech)
