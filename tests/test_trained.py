"""Trained networks, where their packages are installed."""

import importlib.util

import pytest
import torch

from dawp.errors import BadInput
from dawp.methods import base
from dawp.methods.trained.speech import _by_frames
from dawp.metrics.functions import si_snr
from dawp.problem import Problem

NAMES = ["deepfilternet", "rnnoise"]


def method(name):
    return base.METHODS["denoise"][name]


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_refused_with_its_extra(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(BadInput, match=rf"^method {name} needs .*{method(name).package} \(pip install '\.\[peers\]'"):
        base.check_method("denoise", name)


def test_several_missing_packages_name_all_extras(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(BadInput, match=r"\.\[peers,baselines\]"):
        base.check_installed([method("rnnoise"), method("noisereduce"), method("deepfilternet")], "these need")


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("length", [64, 1000, 30000])
def test_frames_are_joined_and_the_delay_is_compensated(rate, length):
    time = torch.arange(length) / rate
    clip = torch.sin(2 * torch.pi * 500 * time) + 0.1
    delay, held = 700, [0.0] * 700

    def process(frame, output):  # a network that only delays
        held.extend(frame.tolist())
        output[:] = torch.tensor(held[: len(output)]).numpy()
        del held[: len(output)]

    estimate = _by_frames(Problem(clip, None, rate), process, 480, delay, 10.0)
    assert estimate.shape == clip.shape
    inner = slice(length // 4, 3 * length // 4)
    torch.testing.assert_close(estimate[inner], clip[inner], atol=0.05 if length < 1000 else 2e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_network_improves_noisy_speech(name, speech):
    pytest.importorskip(method(name).package)
    noisy = speech + 0.5 * speech.std() * torch.randn(len(speech), generator=torch.Generator().manual_seed(0))
    restored = method(name).restore(Problem(noisy, None, 16000))
    assert restored.shape == noisy.shape
    assert si_snr(restored, speech) > si_snr(noisy, speech) + 1
