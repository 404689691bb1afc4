"""Tests of the levels of the removed signal."""

import json
import math

import pytest
import torch

from dawp.io.files import json_text
from dawp.restoration.removed import BAND_EDGES, difference, measure

RATE = 16000
EDGES = [*BAND_EDGES, RATE / 2]


def band_noise(low, high, seconds=4.0, rate=RATE):
    """Return band-limited noise ``[T]`` with standard deviation 1."""
    length = round(seconds * rate)
    spectrum = torch.fft.rfft(torch.randn(length, dtype=torch.float64))
    frequencies = torch.fft.rfftfreq(length, 1 / rate)
    noise = torch.fft.irfft(spectrum * ((frequencies >= low) & (frequencies < high)), length)
    return (noise / noise.std()).float()


def band_power(wave, low, high, rate=RATE):
    """Return the power of the whole signal between two frequencies (Parseval)."""
    spectrum = torch.fft.rfft(wave.double()).abs().square()
    frequencies = torch.fft.rfftfreq(wave.shape[-1], 1 / rate)
    return spectrum[..., (frequencies >= low) & (frequencies < high)].sum()


def measured(recording, restored, rate=RATE, piece=5000):
    pieces = torch.split(restored, piece, dim=1)
    return measure(difference(iter(pieces), lambda start, stop: recording[:, start:stop]), rate)


def test_the_difference_is_the_recording_minus_the_restored_one():
    recording, restored = torch.randn(2, 1000), torch.randn(2, 1000)
    pairs = list(difference(iter(torch.split(restored, 300, dim=1)), lambda a, b: recording[:, a:b]))
    assert torch.equal(torch.cat([pair[0] for pair in pairs], dim=1), recording)
    assert torch.equal(torch.cat([pair[1] for pair in pairs], dim=1), recording - restored)


def test_missing_samples_count_as_silence():
    recording, restored = torch.tensor([[0.5, torch.nan, torch.inf]]), torch.tensor([[0.5, 0.25, -0.25]])
    ((_, removed),) = difference(iter([restored]), lambda a, b: recording[:, a:b])
    assert removed.tolist() == [[0.0, -0.25, 0.25]]


@pytest.mark.parametrize("channels", [1, 2])
def test_levels_agree_with_the_power_of_the_whole_signal(channels):
    sound = torch.stack([0.1 * band_noise(20, 8000) for _ in range(channels)])
    noise = torch.stack([0.05 * band_noise(450, 1500) for _ in range(channels)])
    removed = measured(sound + noise, sound)
    assert removed.total_db == pytest.approx(
        10 * math.log10(noise.square().sum() / (sound + noise).square().sum()), abs=0.3
    )
    assert removed.bands == [(0, 100), (100, 400), (400, 1600), (1600, 6400), (6400, 8000)]
    expected = 10 * torch.log10(band_power(noise, 400, 1600) / band_power(sound + noise, 400, 1600))
    assert removed.band_db[2] == pytest.approx(expected.item(), abs=0.3)
    assert max(removed.band_db[:2] + removed.band_db[3:]) < -25


@pytest.mark.parametrize("band", range(5))
def test_noise_is_measured_in_its_band(band):
    low, high = EDGES[band], EDGES[band + 1]
    width = high - low
    sound = torch.stack([0.1 * band_noise(0, 8000)])
    noise = torch.stack([0.1 * band_noise(low + 0.2 * width, high - 0.2 * width)])
    levels = measured(sound + noise, sound).band_db
    expected = 10 * torch.log10(band_power(noise, low, high) / band_power(sound + noise, low, high)).item()
    assert levels[band] == pytest.approx(expected, abs=0.5)
    assert max(levels[:band] + levels[band + 1 :]) < levels[band] - 15


@pytest.mark.parametrize("piece", [1, 100, 4096, 5000, 64000])
def test_levels_do_not_depend_on_the_length_of_the_parts(piece):
    length = 3000 if piece == 1 else 64000
    recording, restored = torch.randn(1, length), 0.5 * torch.randn(1, length)
    in_pieces, whole = measured(recording, restored, piece=piece), measured(recording, restored, piece=length)
    assert [in_pieces.total_db, *in_pieces.band_db] == pytest.approx([whole.total_db, *whole.band_db])


@pytest.mark.parametrize("length", [64, 4095, 4096, 4097])
@pytest.mark.parametrize("rate", [1000, 8000, 192000])
def test_any_length_and_rate(length, rate):
    recording = torch.randn(2, length)
    removed = measured(recording, 0.5 * recording, rate)
    assert removed.total_db == pytest.approx(-6.02, abs=0.01)
    assert removed.bands[0][0] == 0
    assert removed.bands[-1][1] == rate / 2
    assert all(low < high for low, high in removed.bands)


def test_nothing_removed():
    recording = torch.randn(1, 10000)
    removed = measured(recording, recording)
    assert str(removed) == "unchanged"
    assert not removed.is_suspicious
    assert json.loads(json_text(removed.to_dict()))["db"] is None


def test_a_silent_recording_has_no_levels():
    removed = measured(torch.zeros(1, 10000), torch.zeros(1, 10000))
    assert str(removed) == "unchanged"
    assert not removed.is_suspicious


def test_the_text_names_the_level_and_the_bands():
    sound, noise = 0.1 * band_noise(20, 8000), 0.1 * band_noise(450, 1500)
    removed = measured((sound + noise)[None], sound[None])
    assert f"{removed.total_db:.1f} dB" in str(removed)
    assert f"400 to 1600 Hz {removed.band_db[2]:.1f} dB" in str(removed)


@pytest.mark.parametrize(("share", "is_suspicious"), [(0.4, False), (0.6, True)])
def test_more_than_half_of_the_power_is_suspicious(share, is_suspicious):
    kept, gone = math.sqrt(1 - share) * band_noise(150, 7000), math.sqrt(share) * band_noise(150, 7000)
    assert measured((kept + gone)[None], kept[None]).is_suspicious == is_suspicious


def test_removed_rumble_is_not_suspicious():
    sound, rumble = 0.1 * band_noise(150, 7000), band_noise(5, 60)
    removed = measured((sound + rumble)[None], sound[None])
    assert removed.total_db > -1
    assert not removed.is_suspicious
