"""Gaps in one channel that the other channels predict."""

import numpy as np
import pytest
import torch
from conftest import RATE
from scipy.signal import lfilter
from test_gap_filling import mask_of, resonant_noise, snr

import dawp
from dawp.dsp import gaps

STARTS = range(4000, 28_000, 3000)
LENGTH = 160


def damaged(channel):
    """A channel ``[T]`` without 10 ms in several places, and the mask ``[T]``."""
    mask = mask_of(len(channel), *((start, start + LENGTH) for start in STARTS))
    return np.where(mask, channel, 0), mask


def mean_snr(filled, clean):
    return np.mean([snr(filled[start : start + LENGTH], clean[start : start + LENGTH]) for start in STARTS])


@pytest.mark.parametrize("delay", [0, 7, -40])
def test_a_copy_at_another_level_and_delay_fills_a_gap(delay):
    source = resonant_noise(2.0)
    clean, other = source[100:30_100], 0.3 * source[100 - delay : 30_100 - delay]
    observed, mask = damaged(clean)
    alone = gaps.auto(observed, mask, RATE)
    across = gaps.auto(observed, mask, RATE, others=other[None])
    assert mean_snr(across, clean) > mean_snr(alone, clean) + 40
    assert np.array_equal(across[mask], observed[mask])


def test_the_sum_of_a_common_and_an_own_part_is_filled_better():
    """The other channel is the common part through a filter."""
    common, own = resonant_noise(2.0), resonant_noise(2.0, seed=1)
    clean, other = common + 0.1 * own, lfilter([0.5, 0.4, -0.2], [1.0], common) + 0.1 * resonant_noise(2.0, seed=2)
    observed, mask = damaged(clean)
    alone = gaps.auto(observed, mask, RATE)
    across = gaps.auto(observed, mask, RATE, others=other[None])
    assert mean_snr(across, clean) > mean_snr(alone, clean) + 3


@pytest.mark.parametrize("seed", [1, 2])
def test_an_independent_channel_does_no_harm(seed):
    clean, other = resonant_noise(2.0), resonant_noise(2.0, seed=seed)
    observed, mask = damaged(clean)
    alone = gaps.auto(observed, mask, RATE)
    across = gaps.auto(observed, mask, RATE, others=other[None])
    assert mean_snr(across, clean) > mean_snr(alone, clean) - 0.1


def test_a_gap_in_all_channels_is_filled_as_in_one():
    clean = resonant_noise(2.0)
    observed, mask = damaged(clean)
    other = np.where(mask, 0.5 * clean, np.nan)
    assert np.array_equal(gaps.auto(observed, mask, RATE, others=other[None]), gaps.auto(observed, mask, RATE))


def test_a_restoration_uses_the_other_channel():
    source = torch.from_numpy(resonant_noise(2.0)).float()
    stereo = torch.stack([source, 0.5 * source])
    missing = torch.zeros(stereo.shape, dtype=torch.bool)
    missing[0, 16_000:16_160] = True
    restored = dawp.restore(torch.where(missing, torch.nan, stereo), RATE, task="inpaint")
    assert torch.equal(restored[~missing], stereo[~missing])
    assert snr(restored[missing].numpy(), stereo[missing].numpy()) > 60
