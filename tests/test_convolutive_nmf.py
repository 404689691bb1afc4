import numpy as np
import pytest

from dawp.dsp.convolutive_nmf import _response_sums, convolve, correlate, early_gain, factorise

HOP = 0.008


def notes(bins=40, frames=300, seed=0):
    """Return magnitudes ``[bins, frames]`` of notes of 80 ms, each with one of four spectra, and pauses of 160 ms."""
    rng = np.random.default_rng(seed)
    levels = np.zeros((4, frames))
    for start in range(0, frames, 30):
        levels[rng.integers(4), start : start + 10] = rng.uniform(0.5, 1)
    return (rng.uniform(0.05, 1, (bins, 4)) @ levels).astype(np.float32)


def decay(rt60, bins=40, taps=20):
    """Return responses ``[bins, taps]`` of magnitudes that decay by 60 dB in ``rt60`` seconds."""
    return np.tile(10 ** (-3 * HOP * np.arange(taps) / rt60), (bins, 1)).astype(np.float32)


def divergence(observed, model):
    return float((observed * np.log(np.maximum(observed, 1e-9) / model) - observed + model).sum())


def test_convolution_and_correlation_agree_with_their_definitions():
    rng = np.random.default_rng(0)
    source, response = rng.random((3, 12)), rng.random((3, 5))
    for index in range(3):
        expected = np.convolve(source[index], response[index])[:12]
        np.testing.assert_allclose(convolve(source, response)[index], expected, atol=2e-6)
        expected = np.convolve(source[index, ::-1], response[index])[:12][::-1]
        np.testing.assert_allclose(correlate(source, response)[index], expected, atol=2e-6)


@pytest.mark.parametrize("frames", [3, 5, 12])
def test_sums_of_responses_are_the_correlation_of_ones(frames):
    response = np.random.default_rng(0).random((3, 5))
    ones = np.ones((3, frames))
    np.testing.assert_allclose(
        _response_sums(response[:, :frames], frames), correlate(ones, response[:, :frames]), 1e-5
    )


def test_more_rounds_reduce_the_divergence():
    observed = convolve(notes(), decay(0.5))
    observed = observed / observed.mean()
    models = [convolve(*factorise(observed, HOP, 0.5, rounds)) for rounds in (1, 5, 30)]
    divergences = [divergence(observed, model) for model in models]
    assert divergences == sorted(divergences, reverse=True)
    assert divergences[-1] < 0.1 * divergences[0]


def test_responses_start_at_one_and_decrease():
    source, response = factorise(convolve(notes(), decay(0.5)), HOP, 0.5)
    assert source.min() >= 0
    np.testing.assert_allclose(response[:, 0], 1)
    assert np.diff(response, axis=1).max() <= 0


def test_reverberation_is_attenuated_more_than_the_notes():
    dry = notes()
    wet = convolve(dry, decay(0.8))
    gain = early_gain(wet, HOP, 0.8, -18)
    sounding = dry.sum(axis=0) > 0.1
    late = ~(np.convolve(sounding, np.ones(5))[: len(sounding)] > 0)  # more than 24 ms after the end of a note
    assert np.median(gain[:, sounding]) > 0.8
    assert np.median(gain[:, late]) < 0.4
    assert np.linalg.norm(gain * wet - dry) < 0.5 * np.linalg.norm(wet - dry)


def test_the_gain_lies_between_the_floor_and_one_and_does_not_depend_on_the_level():
    wet = convolve(notes(), decay(0.5))
    gain = early_gain(wet, HOP, 0.5, -12)
    assert gain.min() >= 10 ** (-12 / 20)
    assert gain.max() <= 1
    np.testing.assert_allclose(early_gain(1024 * wet, HOP, 0.5, -12), gain, atol=1e-5)


def test_a_silent_segment_and_silent_bins():
    wet = convolve(notes(8, frames=1900), decay(0.5, 8))
    wet[:, 950:] = 0
    wet[5] = 0
    assert np.isfinite(early_gain(wet, HOP, 0.5, -18)).all()


@pytest.mark.parametrize("shape", [(769, 40), (1, 50), (257, 3), (5, 1)])
def test_other_sizes(shape):
    gain = early_gain(np.random.default_rng(0).random(shape), HOP, 0.5, -18)
    assert gain.shape == shape
    assert np.isfinite(gain).all()
    assert np.isfinite(early_gain(np.zeros(shape), HOP, 0.5, -18)).all()


def test_long_recordings_are_processed_in_segments():
    wet = convolve(notes(8, frames=1900), decay(0.5, 8))
    gain = early_gain(wet, HOP, 0.5, -18)
    np.testing.assert_allclose(gain[:, :950], early_gain(wet[:, :950], HOP, 0.5, -18), atol=1e-5)
