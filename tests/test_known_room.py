"""Dereverberation with a known impulse response."""

import itertools
import json

import pytest
import soundfile
import torch
from conftest import RATE, write_sound
from torch import Tensor

import dawp
from dawp.errors import BadInput
from dawp.io.impulse_response import read_impulse_response
from dawp.io.sources import SAMPLES
from dawp.methods import base
from dawp.methods.classical import deconvolution
from dawp.metrics.functions import si_snr
from dawp.operators.convolution import Convolution, fft_size
from dawp.operators.identity import Identity
from dawp.randomness import seeded
from dawp.simulate.rooms import simulate_response

METHODS = [deconvolution.least_squares, deconvolution.inverse_filter]


def decaying(seconds: float = 0.1, rate: int = RATE, seed: int = 0, delay: int = 20) -> Tensor:
    """An impulse response: a direct path of gain 0.5, and noise that decays by 60 dB."""
    length = round(seconds * rate)
    response = 0.06 * torch.randn(length, generator=seeded(seed, "response")) * torch.logspace(0, -3, length)
    response[: delay + 1] = 0
    response[delay] = 0.5
    return response


def convolved(dry: Tensor, response: Tensor, delay: int | None = None) -> Tensor:
    """A dry clip in the room, aligned by the direct path: the peak of the response, if no delay is given."""
    delay = int(response.abs().argmax()) if delay is None else delay
    size = len(dry) + len(response)
    wet = torch.fft.irfft(torch.fft.rfft(dry, size) * torch.fft.rfft(response, size), size)
    return wet[delay : delay + len(dry)]


def noisy(clip: Tensor, snr: float) -> Tensor:
    noise = torch.randn(len(clip), generator=seeded(0, "noise"))
    return clip + noise * clip.norm() / noise.norm() * 10 ** (-snr / 20)


def gain(estimate: Tensor, wet: Tensor, dry: Tensor) -> float:
    """Improvement of the SI-SNR in dB."""
    return (si_snr(estimate, dry) - si_snr(wet, dry)).item()


def sample(name: str) -> Tensor:
    return torch.from_numpy(soundfile.read(SAMPLES / f"{name}.wav", dtype="float32")[0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("length", [64, 65, 1000, RATE])
def test_the_estimate_has_the_length_of_the_recording(method, length, speech):
    response = decaying()
    wet = convolved(speech, response)[:length] + 1e-3
    estimate = method(wet, Convolution(response / 0.5, 20), RATE)
    assert estimate.shape == wet.shape
    assert estimate.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_the_estimate_is_the_dry_clip_at_the_level_of_the_direct_path(method, speech):
    response = decaying()
    wet = convolved(speech, response)
    estimate = method(wet, Convolution(response / 0.5, 20), RATE)
    error = (estimate - 0.5 * speech).norm() / (0.5 * speech).norm()
    assert error < 0.06
    assert gain(estimate, wet, speech) > 15


def test_least_squares_needs_no_silence_before_the_recording():
    """The recording starts within the sound: only least squares accounts for the reverberation of what came before."""
    response = decaying(0.4)
    dry = sample("guitar")
    wet, dry = convolved(dry, response)[RATE:], dry[RATE:]
    system = Convolution(response / 0.5, 20)
    errors = [
        (method(wet, system, RATE)[:2000] - 0.5 * dry[:2000]).norm().item()
        for method in (deconvolution.least_squares, deconvolution.inverse_filter)
    ]
    assert errors[0] < 0.8 * errors[1]


def test_least_squares_solves_the_normal_equations():
    response, wet = decaying(0.01, delay=5).double(), torch.randn(300, generator=seeded(0, "wet"), dtype=torch.float64)
    system = Convolution(response, 5)
    estimate = deconvolution.least_squares(wet, system, RATE, iterations=300)
    length = system.input_length(300)
    size = fft_size(length)
    eye = torch.eye(size, dtype=torch.float64)
    matrix = torch.stack([system(row) for row in eye[:, :length]], dim=1)
    spectrum = torch.fft.rfft(response, size)
    weight = deconvolution.regularisation(spectrum, RATE, deconvolution.noise_to_signal(wet, RATE, len(spectrum)))
    circulant = torch.fft.irfft(weight[:, None] * torch.fft.rfft(eye, dim=0), size, dim=0)
    expected = torch.linalg.solve(matrix.T @ matrix + circulant, matrix.T @ wet)
    torch.testing.assert_close(estimate, system.crop(expected[:length]), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("snr", [40, 30, 10, 0])
@pytest.mark.parametrize("name", ["speech", "guitar"])
def test_noise_and_an_inexact_response_never_make_the_clip_worse(method, snr, name):
    response, dry = decaying(0.4), sample(name)
    wet = noisy(convolved(dry, response), snr)
    error = torch.randn(len(response), generator=seeded(1, "error")) * response.abs()
    inexact = response + 0.01 * error * response.norm() / error.norm()
    estimate = method(wet, Convolution(inexact / inexact[20], 20), RATE)
    assert gain(estimate, wet, dry) > 0


@pytest.fixture(scope="module")
def room():
    return simulate_response(0.5, RATE, seeded(0, "room"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["speech", "singing", "guitar"])
def test_a_simulated_room_is_removed(name, room):
    dry = sample(name)
    response = room.whole.float()
    wet = convolved(dry, response, room.delay)
    system = Convolution(response, room.delay)
    for method in METHODS:
        assert gain(method(wet, system, RATE), wet, dry) > 20
    # As a part of a longer recording.
    estimate = deconvolution.least_squares(wet[RATE:], system, RATE)
    assert gain(estimate, wet[RATE:], dry[RATE:]) > 10


@pytest.fixture
def dereverb(run_task, tmp_path):
    """Run dereverb.py --restore on ``wet.wav`` with ``hall.wav``, and return the process and the restored samples."""

    def run(*flags: object):
        output = tmp_path / "out.wav"
        paths = ["--source", tmp_path / "wet.wav", "--rir", tmp_path / "hall.wav", "-o", output]
        process = run_task("dereverb", "--restore", *paths, "--workers", "1", *flags, tiny=False)
        if process.returncode:
            return process, None
        return process, torch.from_numpy(soundfile.read(output, dtype="float32", always_2d=True)[0].T)

    return run


@pytest.mark.parametrize(("flags", "excess"), [([], 1.3), (["--method", "inverse_filter"], 3)])
def test_blocks_have_no_audible_seams(flags, excess, dereverb, tmp_path):
    response = decaying(0.4)
    dry = 0.5 * torch.cat([sample("guitar"), sample("singing")])
    write_sound(tmp_path / "wet.wav", convolved(dry, response), subtype="FLOAT")
    write_sound(tmp_path / "hall.wav", response, subtype="FLOAT")
    whole = (dereverb("--block", "10", *flags)[1][0] - 0.5 * dry).square()
    process, restored = dereverb("--block", "1", "--overlap", "0.1", "--overwrite", *flags)
    assert process.returncode == 0
    record = json.loads((tmp_path / "out.wav.json").read_text())
    assert record["settings"]["method"] == (flags[1] if flags else "least_squares")
    error = (restored[0] - 0.5 * dry).square()
    seams = [(after["start"], before["stop"]) for before, after in itertools.pairwise(record["blocks"])]
    assert len(seams) >= 5
    for start, stop in seams:
        assert error[start:stop].mean() < excess * whole[start:stop].mean()
    assert error.mean() < 0.01 * (0.5 * dry).square().mean()


def test_each_channel_has_its_own_response(dereverb, tmp_path, speech):
    responses = [decaying(seed=0, delay=20), decaying(seed=1, delay=35)]
    wet = torch.stack([convolved(speech, response) for response in responses])
    write_sound(tmp_path / "wet.wav", wet.T, subtype="FLOAT")
    write_sound(tmp_path / "hall.wav", torch.stack(responses).T, subtype="FLOAT")
    _, restored = dereverb()
    for channel, before in zip(restored, wet, strict=True):
        assert gain(channel, before, speech) > 10
    write_sound(tmp_path / "hall.wav", responses[0], subtype="FLOAT")
    _, restored = dereverb("--overwrite")
    assert gain(restored[0], wet[0], speech) > 10
    assert gain(restored[1], wet[1], speech) < 5


def test_identical_channels_with_different_responses_are_restored_separately(dereverb, tmp_path, speech):
    responses = torch.stack([decaying(seed=0), decaying(seed=1)])
    write_sound(tmp_path / "wet.wav", convolved(speech, responses[0]).expand(2, -1).T, subtype="FLOAT")
    write_sound(tmp_path / "hall.wav", responses.T, subtype="FLOAT")
    _, restored = dereverb()
    assert not torch.allclose(restored[0], restored[1], atol=1e-2)


def test_a_response_at_another_rate_is_resampled(dereverb, tmp_path, speech):
    response = torch.zeros(1200)
    response[60], response[540], response[1020] = 0.5, 0.3, -0.2  # reflections after 10 and 20 ms
    echo = torch.zeros(400)
    echo[20], echo[180], echo[340] = 0.5, 0.3, -0.2
    wet = convolved(speech, echo)
    write_sound(tmp_path / "wet.wav", wet, subtype="FLOAT")
    write_sound(tmp_path / "hall.wav", response, rate=48000, subtype="FLOAT")
    _, restored = dereverb()
    assert gain(restored[0], wet, speech) > 10


def test_the_end_of_a_response_without_energy_is_cut(tmp_path):
    response = torch.cat([decaying(), torch.zeros(5 * RATE)])
    path = write_sound(tmp_path / "hall.wav", response, subtype="FLOAT")
    read = read_impulse_response(path)
    assert read.shape[1] <= len(decaying())
    torch.testing.assert_close(read[0], response[: read.shape[1]])


@pytest.mark.parametrize("samples", [torch.zeros(1000), torch.full((1000,), torch.nan), torch.ones(11 * RATE)])
def test_a_file_that_is_no_response_is_refused(samples, dereverb, tmp_path, speech):
    write_sound(tmp_path / "wet.wav", speech, subtype="FLOAT")
    write_sound(tmp_path / "hall.wav", samples, subtype="FLOAT")
    process, _ = dereverb()
    assert process.returncode == 2
    assert "--rir must" in process.stderr
    assert not (tmp_path / "out.wav").exists()


def test_a_response_that_is_missing_or_not_needed_is_refused(dereverb, tmp_path, speech, run_task):
    write_sound(tmp_path / "wet.wav", speech, subtype="FLOAT")
    assert dereverb()[0].returncode == 2
    write_sound(tmp_path / "hall.wav", decaying(), subtype="FLOAT")
    source = ["--source", tmp_path / "wet.wav", "--workers", "1"]
    assert run_task("dereverb", *source, "--rir", tmp_path / "hall.wav").returncode == 2
    without = run_task("dereverb", "--restore", *source, "--method", "least_squares", tiny=False)
    assert without.returncode == 2
    assert "least_squares needs --rir" in without.stderr
    with pytest.raises(BadInput, match="rir"):
        dawp.dereverb(speech, RATE, rir=tmp_path / "hall.wav")


def test_a_method_that_does_not_need_the_response_does_not_get_it(tmp_path, speech, monkeypatch):
    """Nor the context that an inversion needs: the result is that without the response."""
    seen = []

    def keep(problem):
        seen.append(problem)
        return problem.observed

    monkeypatch.setitem(base.METHODS, "dereverb", {"keep": base.Method("keep", "dereverb", keep)})
    write_sound(tmp_path / "rir.wav", decaying())
    restored = dawp.restore(speech, RATE, "dereverb", method="keep", block=0.5, overlap=0.1, rir=tmp_path / "rir.wav")
    torch.testing.assert_close(restored, speech, rtol=0, atol=1e-6)
    assert seen
    assert all(isinstance(problem.operator, Identity) for problem in seen)
    assert all(len(problem.observed) <= 0.6 * RATE for problem in seen)


def test_a_waveform_in_memory(tmp_path, speech):
    response = decaying()
    path = write_sound(tmp_path / "hall.wav", response, subtype="FLOAT")
    wet = convolved(speech, response)
    restored = dawp.restore(wet, RATE, task="dereverb", rir=path)
    assert gain(restored, wet, speech) > 10
    half = dawp.restore(wet, RATE, task="dereverb", rir=path, strength=0.5)
    torch.testing.assert_close(half, (wet + restored) / 2)


@pytest.mark.slow
def test_the_network_is_fitted_through_the_room(tmp_path):
    response = torch.rand(1000, generator=seeded(0, "response")) * torch.logspace(0, -2, 1000)
    response[0] = 2.0
    path = write_sound(tmp_path / "hall.wav", response, subtype="FLOAT")
    dry = sample("guitar")[:4000]
    wet = convolved(dry, response)
    settings = {"epochs": 300, "patience": None, "channels": 16, "depth": 3}
    restored = dawp.restore(wet, RATE, task="dereverb", rir=path, method="deep_prior", **settings)
    assert gain(restored, wet, dry) > 15
