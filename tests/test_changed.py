"""Tests of the count of changed samples."""

import pytest
import torch

from dawp.restoration.changed import count

RATE = 16000  # Hz; up to 8 unchanged samples within a region


def pieces(removed, size):
    return ((torch.zeros_like(part), part) for part in torch.split(removed, size, dim=1))


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_regions_are_counted_for_each_channel_and_across_parts(size):
    removed = torch.zeros(2, 1000)
    removed[0, 100:150] = 0.1
    removed[0, 120:128] = 0  # 8 unchanged samples do not end a region
    removed[0, 158] = 1e-9
    removed[0, 168:170] = -1.0  # 9 unchanged samples do
    removed[1, 100] = 0.5
    changed = count(pieces(removed, size), RATE)
    assert (changed.samples, changed.regions) == (50 - 8 + 1 + 2 + 1, 3)
    assert changed.first == 100 / RATE
    assert changed.share == pytest.approx(changed.samples / 2000)


def test_the_first_and_the_last_sample_can_be_changed():
    removed = torch.zeros(1, 64)
    removed[0, 0] = removed[0, 63] = 1.0
    changed = count(pieces(removed, 64), RATE)
    assert (changed.samples, changed.regions, changed.first) == (2, 2, 0.0)


def test_an_unchanged_recording_has_no_first_region():
    changed = count(pieces(torch.zeros(1, 64), 10), RATE)
    assert (changed.samples, changed.regions, changed.first, changed.share) == (0, 0, None, 0.0)
