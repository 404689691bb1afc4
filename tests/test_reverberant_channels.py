"""Dereverberation of recordings with several channels."""

import numpy as np
import pytest
import torch
from conftest import SAMPLES
from test_dereverberation import RATE, autoregressive, changing_noise, decibels, in_room, room

import dawp
from dawp.config import Config
from dawp.dsp.dereverberation import dereverberate, predict_reverberation
from dawp.dsp.spectral import analyse
from dawp.errors import BadInput
from dawp.io.audio import read
from dawp.metrics.functions import si_snr


@pytest.fixture(scope="module")
def dry_speech():
    return read(SAMPLES / "speech.wav", RATE)


@pytest.fixture(scope="module")
def microphones(dry_speech):
    """Speech at two microphones in one room."""
    return torch.stack([in_room(dry_speech, room(0.5, reverberant_db=3, seed=seed)) for seed in (0, 1)])


# Joint prediction


def test_joint_prediction_agrees_with_nara_wpe():
    nara = pytest.importorskip("nara_wpe.wpe")
    source = changing_noise(6, 800)
    observed = np.stack([autoregressive(source, 4, 2, seed) for seed in (1, 2)])
    expected = nara.wpe(observed.swapaxes(0, 1), taps=5, delay=2, iterations=2).swapaxes(0, 1)
    residual = observed - predict_reverberation(observed, 5, 2, 2, smooth=False, joint=True)
    np.testing.assert_allclose(residual, expected, atol=1e-4 * np.abs(expected).max())


def test_channels_are_predicted_separately_or_jointly():
    observed = np.stack([autoregressive(changing_noise(6, 400), 4, 2, seed) for seed in (1, 2)])
    separate = predict_reverberation(observed)
    for channel, prediction in zip(observed, separate, strict=True):
        np.testing.assert_array_equal(predict_reverberation(channel), prediction)
    np.testing.assert_array_equal(predict_reverberation(observed[:1], joint=True), separate[:1])
    assert decibels(separate, predict_reverberation(observed, joint=True) - separate) < 20


def test_joint_prediction_with_a_silent_channel():
    observed = np.stack([autoregressive(changing_noise(6, 400), 4, 2), np.zeros((6, 400))])
    prediction = predict_reverberation(observed, taps=8, joint=True)
    assert not prediction[1].any()
    assert decibels(prediction[0], prediction[0] - predict_reverberation(observed[0], taps=8)) > 20


@pytest.mark.slow
def test_two_microphones_are_better_than_one(microphones, dry_speech):
    gains = {}
    for joint in (False, True):
        estimates = dereverberate(microphones, RATE, joint=joint)
        gains[joint] = (
            si_snr(estimates, dry_speech.expand(2, -1)) - si_snr(microphones, dry_speech.expand(2, -1))
        ).min()
    assert gains[True] > gains[False] + 0.5


# The stereo image


def test_one_channel_is_processed_as_mono(microphones):
    torch.testing.assert_close(dereverberate(microphones[:1], RATE)[0], dereverberate(microphones[0], RATE))


def test_the_ratio_of_the_channels_is_kept(microphones):
    """Of a source between the loudspeakers: the channels differ only in level."""
    estimate = dereverberate(torch.stack([microphones[0], 0.2 * microphones[0]]), RATE)
    torch.testing.assert_close(estimate[1], 0.2 * estimate[0], atol=1e-5, rtol=1e-3)
    assert not torch.equal(estimate[0], microphones[0])


def test_the_gain_is_the_same_in_all_channels(microphones):
    soft = torch.stack([microphones[0], 0.01 * microphones[1]])
    estimate = dereverberate(soft, RATE, predict=False)
    alone = dereverberate(microphones[1], RATE, predict=False)
    assert si_snr(100 * estimate[1], alone) < 40
    before, after = (np.stack([analyse(channel, RATE) for channel in pair]) for pair in (soft, estimate))
    gains = (np.abs(after) ** 2).sum(axis=2) / (np.abs(before) ** 2).sum(axis=2)
    assert np.abs(10 * np.log10(gains[0] / gains[1]))[8:128].mean() < 1.5


# Recordings


@pytest.mark.parametrize("joint", [False, True])
def test_restore_uses_all_channels(microphones, joint):
    pair = microphones[:, : 2 * RATE]
    settings = {"joint_channels": True} if joint else {}
    restored = dawp.restore(pair, RATE, task="dereverb", **settings)
    torch.testing.assert_close(restored, dereverberate(pair, RATE, joint=joint), atol=1e-4, rtol=1e-3)


def test_joint_channels_needs_a_method_that_uses_them():
    assert Config.of("dereverb", "restore", restore=True, joint_channels=True).effective()["joint_channels"]
    assert "joint_channels" not in Config.of("dereverb", "restore", restore=True).effective()
    for settings in (
        {"method": "late_suppression"},
        {"method": "deep_prior"},
        {"restore": False, "method": "deep_prior"},
    ):
        with pytest.raises(BadInput, match=r"^joint_channels"):
            Config.of("dereverb", "restore", **{"restore": True, "joint_channels": True, **settings})
