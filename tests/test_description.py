"""Quantities that are estimated from a recording before it is restored."""

import logging
import math
from dataclasses import replace

import pytest
import torch
from conftest import SAMPLES
from torchaudio.functional import fftconvolve

from dawp.config import Config
from dawp.io.audio import read
from dawp.restoration.blocks import Sound
from dawp.restoration.description import describe
from dawp.tasks.base import TASKS

RATE = 16000
CONFIG = Config.of("dereverb", "restore", restore=True)


def sound(samples):
    return Sound("a", RATE, samples.square().mean(dim=1), samples.shape[1], lambda start, stop: samples[:, start:stop])


@pytest.fixture
def toy(monkeypatch):
    """Describe a channel by its maximum, and by NaN."""
    monkeypatch.setitem(
        TASKS,
        "dereverb",
        replace(TASKS["dereverb"], describe=lambda wave, rate, config: {"peak": float(wave.max()), "none": math.nan}),
    )


@pytest.mark.parametrize(
    ("seconds", "expected"), [(20, 19), (30, 29), (50, (29 + 49) / 2), (500, (29 + 186 + 342 + 499) / 4)]
)
def test_the_median_over_sections(toy, seconds, expected):
    ramp = (torch.arange(seconds * RATE) // RATE).float()[None]
    estimated = describe(sound(ramp), CONFIG)
    assert estimated["peak"] == pytest.approx(expected, abs=1)
    assert estimated["none"] is None


def test_the_median_over_channels(toy):
    assert describe(sound(torch.tensor([[1.0], [5.0], [2.0]]).expand(3, RATE)), CONFIG)["peak"] == 2


def test_tasks_without_quantities():
    assert describe(sound(torch.ones(1, RATE)), Config.of("denoise", "restore", restore=True)) == {}


def test_a_room_is_described_and_logged(caplog):
    speech = read(SAMPLES / "speech.wav", RATE)
    time = torch.arange(RATE) / RATE
    tail = torch.randn(RATE, generator=torch.Generator().manual_seed(0)) * 10 ** (-3 * time / 0.5)
    tail[:32] = 0
    tail *= 1 / tail.norm()
    tail[0] = 1
    with caplog.at_level(logging.INFO, "dawp.restoration.description"):
        estimated = describe(sound(fftconvolve(speech, tail)[None, : len(speech)]), CONFIG)
    assert estimated["rt60"] == pytest.approx(0.5, abs=0.15)
    assert estimated["drr_db"] == pytest.approx(0, abs=6)
    assert f"RT60 {estimated['rt60']:.2g} s, direct-to-reverberant ratio {estimated['drr_db']:.2g} dB" in caplog.text
