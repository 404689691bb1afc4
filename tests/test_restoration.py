"""Tests of restoration in blocks; test_restore_command.py tests the command line."""

import logging
import os
import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, SAMPLES, TINY, refused_as, write_sound

import dawp
from dawp.config import Config
from dawp.errors import BadInput
from dawp.io.audio import mark_missing
from dawp.io.sources import find_recordings
from dawp.metrics.functions import si_snr
from dawp.restoration import channels, file_restoration
from dawp.restoration.block_cache import BlockCache
from dawp.restoration.blocks import Block, RestoredBlock, Sound, overlap_add, split_blocks
from dawp.restoration.context import read_marked
from dawp.restoration.files import run
from dawp.restoration.targets import plan_targets

SMALL = {**TINY, "epochs": 2, "method": "deep_prior"}


def settings(task="denoise", **changed):
    return Config.of(task, "restore", restore=True, **changed)


# Blocks


@pytest.mark.parametrize("frames", [64, 1000, 1001, 4000, 16000, 16001, 99999, 160000])
@pytest.mark.parametrize(("block", "overlap"), [(0.25, 0.05), (1.0, 0.5), (0.5, 0.0), (600.0, 0.5)])
def test_blocks_are_equal_cover_the_recording_and_overlap(frames, block, overlap):
    blocks = split_blocks(frames, 4000, settings(block=block, overlap=overlap))
    assert (blocks[0].start, blocks[-1].stop) == (0, frames)
    sizes = {b.stop - b.start for b in blocks}
    assert len(sizes) == 1
    assert sizes.pop() <= round(block * 4000)
    for before, after in pairwise(blocks):
        assert before.stop - after.start >= round(overlap * 4000)
        assert after.start > before.start
    assert all(a.stop <= c.start for a, c in zip(blocks, blocks[2:], strict=False)) or overlap == block / 2


def test_a_recording_as_long_as_a_block_is_one_block():
    assert split_blocks(4000, 4000, settings(block=1.0)) == [Block(0, 4000)]
    assert len(split_blocks(4001, 4000, settings(block=1.0))) == 2


def test_a_block_of_too_few_samples_is_refused():
    with pytest.raises(BadInput, match=r"^block must have at least 64 samples, got 0.01 s at 4000 Hz"):
        split_blocks(4000, 4000, settings(block=0.01, overlap=0.0))


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.5])
def test_overlap_add_of_blocks_reproduces_the_waveform(overlap):
    waveform = torch.randn(2, 12345)
    blocks = split_blocks(12345, 4000, settings(block=1.0, overlap=overlap))
    again = torch.cat(list(overlap_add((b, waveform[:, b.start : b.stop]) for b in blocks)), dim=1)
    assert again.shape == waveform.shape
    assert (again - waveform).abs().max() < 1e-6


def test_the_cross_fade_is_linear_and_its_gains_sum_to_one():
    ones, zeros = torch.ones(1, 10), torch.zeros(1, 10)
    joined = torch.cat(list(overlap_add([(Block(0, 10), ones), (Block(6, 16), zeros)])), dim=1)[0]
    assert joined.tolist() == pytest.approx([1.0] * 6 + [0.8, 0.6, 0.4, 0.2] + [0.0] * 6)


@pytest.mark.slow
def test_the_error_at_the_seams_is_no_larger_than_elsewhere():
    time = torch.arange(4 * RATE) / RATE
    clean = sum(0.1 * torch.sin(2 * torch.pi * f * time + f) for f in (220.0, 331.0, 787.0, 1319.0))
    noisy = clean + 0.1 * torch.randn(len(clean))
    estimates = {
        estimate: dawp.restore(noisy, RATE, block=1.2, overlap=0.25, estimate=estimate, epochs=300)
        for estimate in ("mean", "mask")
    }
    blocks = split_blocks(len(clean), RATE, settings(block=1.2, overlap=0.25))
    assert len(blocks) == 4
    seams = torch.zeros(len(clean), dtype=torch.bool)
    for before, after in pairwise(blocks):
        seams[after.start - 80 : before.stop + 80] = True
    for restored in estimates.values():
        assert si_snr(restored, clean) > si_snr(noisy, clean) + 5
        error = restored - clean
        assert error[seams].square().mean() <= error[~seams].square().mean()
        steps = error.diff().abs()  # a click would stand out among the steps from sample to sample
        at_seams = torch.cat([steps[b.start - 2 : b.start + 2] for b in blocks[1:]])
        assert at_seams.max() <= steps[~seams[1:]].max()


# Waveforms


def test_a_waveform_is_restored_without_a_clean_version(speech):
    for waveform in (speech, speech[None], torch.stack([speech, -speech]), speech.numpy().astype("float64")):
        restored = dawp.restore(waveform, RATE, **SMALL, block=0.6, overlap=0.1)
        assert tuple(restored.shape) == tuple(waveform.shape)
        assert restored.dtype == torch.float32
        assert restored.isfinite().all()


def test_the_same_call_gives_the_same_samples(speech):
    noisy = speech + 0.05 * torch.randn(len(speech))  # a network is fitted only to noisy blocks
    first, second = (dawp.restore(noisy, RATE, **SMALL, block=0.6, overlap=0.1) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, dawp.restore(noisy, RATE, **SMALL, block=0.6, overlap=0.1, seed=1))


def test_a_mono_recording_in_a_stereo_file_stays_mono(speech):
    restored = dawp.restore(torch.stack([speech, speech]), RATE, **SMALL)
    assert torch.equal(restored[0], restored[1])


def test_a_silent_channel_stays_silent(speech):
    restored = dawp.restore(torch.stack([speech, 0 * speech]), RATE, **SMALL)
    assert restored[0].any()
    assert not restored[1].any()


def test_the_output_is_band_limited_to_the_working_rate():
    waveform = torch.randn(48000)
    restored = dawp.restore(waveform, 48000, samplerate=16000, **SMALL, estimate="output")
    assert len(restored) == 48000
    spectrum = torch.fft.rfft(restored * torch.hann_window(48000)).abs().square()
    assert spectrum[8500:].sum() < 1e-4 * spectrum.sum()
    at_own_rate = dawp.restore(waveform, 48000, **SMALL, estimate="output")
    spectrum = torch.fft.rfft(at_own_rate * torch.hann_window(48000)).abs().square()
    assert spectrum[8500:].sum() > 0.1 * spectrum.sum()


def test_a_waveform_without_a_gap_is_unchanged(speech):
    waveform = speech.clone()
    restored = dawp.restore(waveform, RATE, "inpaint", block=0.3, overlap=0.1, **SMALL)
    assert torch.equal(restored, speech)
    restored[:] = 0
    assert torch.equal(waveform, speech)


def near(missing):
    """Return a mask ``[channels, T]`` of the samples in a gap or in the cross-fade of 0.5 ms on either side."""
    return torch.nn.functional.max_pool1d(missing.float(), 2 * 8 + 1, 1, 8) > 0


def test_gaps_are_filled_and_nothing_else_is_changed():
    waveform = torch.randn(2, 8000)
    waveform[:, 3990:4010] = torch.nan  # in the overlap of two blocks
    waveform[1, 100:120] = torch.nan
    waveform[0, 6000:6020] = 0
    missing = waveform.isnan()
    missing[0, 6000:6020] = True
    restored = dawp.restore(waveform, RATE, "inpaint", block=0.3, overlap=0.1, **SMALL)
    assert restored.isfinite().all()
    assert restored[missing].abs().min() > 0
    assert torch.equal(restored[~near(missing)], waveform[~near(missing)])


def test_named_gaps_are_filled_in_every_channel():
    waveform = torch.randn(2, 8000)
    waveform[1, 100:120] = torch.nan
    missing = waveform.isnan()
    missing[:, 4000:4080] = True
    restored = dawp.restore(waveform, RATE, "inpaint", gaps="0.25:0.005", **SMALL)
    assert (restored[:, 4000:4080] != waveform[:, 4000:4080]).all()
    assert torch.equal(restored[~near(missing)], waveform[~near(missing)])


def test_equal_channels_stay_equal_outside_the_gaps_of_one():
    waveform = torch.randn(1, 8000).repeat(2, 1)
    waveform[:, 4000:4020] = 0
    waveform[1, 4000:4020] = torch.nan  # the same drop-out, as zeros and as NaN
    restored = dawp.restore(waveform, RATE, "inpaint", **SMALL)
    assert torch.equal(restored[0], restored[1])
    waveform[0, 4000:4020] = torch.tensor([0.5, 0]).repeat(10)  # sound
    restored = dawp.restore(waveform, RATE, "inpaint", **SMALL)
    assert torch.equal(restored[0], waveform[0])
    assert restored[1, 4000:4020].all()


def test_infinite_samples_are_missing_and_do_not_hide_drop_outs():
    waveform = 0.1 * torch.randn(8000)
    waveform[1000] = torch.inf
    waveform[4000:4040] = 0
    restored = dawp.restore(waveform, RATE, "inpaint", **SMALL)
    assert restored.isfinite().all()
    assert restored[4000:4040].all()


def test_gaps_are_filled_at_the_rate_of_the_recording():
    waveform = 0.1 * torch.randn(48000)
    waveform[24000:24100] = torch.nan
    restored = dawp.restore(waveform, 48000, "inpaint", samplerate=16000, **SMALL)
    assert restored.isfinite().all()
    assert torch.equal(restored[:23900], waveform[:23900])
    assert torch.equal(restored[24200:], waveform[24200:])


def test_drop_outs_do_not_depend_on_the_blocks():
    waveform = 0.1 * torch.randn(2, 16000)
    for start, length in ((500, 100), (3180, 60), (7990, 40), (12000, 1500)):
        waveform[start % 2, start : start + length] = 0
    waveform[0, 9000] = torch.inf
    config = settings("inpaint", block=0.25, overlap=0.05)
    power = waveform.nan_to_num(posinf=0).double().square().mean(dim=1)
    sound = Sound("a", RATE, power, 16000, lambda start, stop: waveform[:, start:stop])
    found = torch.zeros(2, 16000, dtype=torch.bool)
    for block in split_blocks(16000, RATE, config):
        found[:, block.start : block.stop] |= read_marked(sound, config.corruption, block).isnan()
    assert torch.equal(found, mark_missing(waveform.T, RATE, 0.001).isnan().T)
    assert found.sum() == 100 + 60 + 40 + 1500 + 1


@pytest.mark.parametrize(
    ("waveform", "given", "words"),
    [
        (torch.randn(3, 2, 1000), {}, r"waveform must have the shape \[T\] or \[channels, T\], got \[3, 2, 1000\]"),
        (torch.randn(10), {}, "waveform must have .* got 10"),
        (torch.zeros(1000), {}, "waveform: is silent"),
        (torch.full((1000,), torch.nan), {}, "waveform must be finite"),
        (torch.tensor(1.0), {}, r"waveform must have the shape \[T\] or \[channels, T\], got \[\]"),
        (
            torch.randn(1000),
            {"task": ["denoise"]},
            "task must be one of bandwidth, chain, declick, declip, denoise, dereverb, inpaint, got",
        ),
        (torch.full((1000,), torch.nan), {"task": "inpaint"}, "waveform: is silent, all samples are zero or missing"),
        (torch.randn(1000), {"task": "inpaint", "gaps": "0.01:0.00001"}, "gaps: 0.01:1e-05 .* 16000 Hz"),
        (torch.randn(100), {"sample_rate": 16000, "samplerate": 8000}, "waveform: block must have at least 64 samples"),
        (
            torch.randn(1000),
            {"task": "upscale"},
            "task must be one of bandwidth, chain, declick, declip, denoise, dereverb, inpaint, got upscale",
        ),
        (torch.randn(1000), {"task": "inpaint", "gaps": "1:0.1"}, "waveform: gaps: 1:0.1 lies outside"),
        (torch.randn(1000), {"task": "inpaint", "highpass": 20.0}, "highpass must be 0 for the task inpaint, got 20"),
        (
            torch.randn(1000),
            {"task": "dereverb", "estimate": "mask"},
            "estimate must be one of output, mean for",
        ),
        (torch.randn(1000), {"output": "a.wav"}, "output is a setting of the command line"),
        (
            torch.randn(1000),
            {"overlap": 3.0},
            "overlap must be at most half the block of 4 s, got 3",
        ),
        (torch.randn(1000), {"sample_rate": None}, "sample_rate must be a whole number, got None"),
    ],
)
def test_unusable_waveforms_and_settings_are_refused(waveform, given, words):
    with pytest.raises(BadInput, match=words):
        dawp.restore(waveform, **given)


def test_a_setting_without_effect_is_reported(speech, caplog):
    with caplog.at_level(logging.WARNING, "dawp"):
        dawp.restore(speech, RATE, **SMALL, snr=5.0)
    assert "snr has no effect" in caplog.text


def test_a_diverged_fit_raises(speech):
    noisy = speech + 0.05 * torch.randn(len(speech))
    with pytest.raises(dawp.FitDiverged):
        dawp.restore(noisy, RATE, **{**SMALL, "epochs": 5}, lr=1e30)


# Strength, noise profile and blocks without a fit


def tones(seconds, rate=RATE, noise=0.005):
    """Return two tones in white noise ``[T]``, and the tones alone."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    clean = (0.3 * torch.sin(2 * torch.pi * 440 * time) + 0.1 * torch.sin(2 * torch.pi * 1000 * time)).float()
    return clean + noise * torch.randn(len(clean)), clean


@pytest.fixture
def no_fit(monkeypatch):
    """Fail if a network is fitted."""

    def solve(*_):
        raise AssertionError("a network was fitted")

    monkeypatch.setattr(channels, "solve", solve)


@pytest.mark.parametrize("task", ["denoise", "dereverb"])
def test_strength_mixes_the_recording_and_the_result(speech, task):
    noisy = torch.stack([speech, speech.flip(0)]) + 0.05 * torch.randn(2, len(speech))
    settings = {**SMALL, "method": "deep_prior", "block": 0.6, "overlap": 0.1}
    nothing, half, all_ = (
        dawp.restore(noisy, RATE, task, **settings, strength=strength) for strength in (0.0, 0.5, 1.0)
    )
    assert torch.equal(nothing, noisy)
    torch.testing.assert_close(half, (noisy + all_) / 2, atol=1e-6, rtol=0)
    assert torch.equal(all_, dawp.restore(noisy, RATE, task, **settings))
    assert not torch.equal(all_, noisy)


def test_strength_of_zero_returns_the_recording_at_a_lower_working_rate(speech):
    assert torch.equal(dawp.restore(speech, RATE, samplerate=8000, strength=0.0, **SMALL), speech)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_out_of_range_is_refused(speech, strength):
    with pytest.raises(BadInput, match=f"strength must be .*, got {strength}"):
        dawp.restore(speech, RATE, strength=strength)


def test_strength_has_no_effect_for_inpaint(caplog):
    waveform = 0.1 * torch.randn(8000)
    waveform[4000:4040] = torch.nan
    with caplog.at_level(logging.WARNING, "dawp"):
        half, whole = (dawp.restore(waveform, RATE, "inpaint", **SMALL, **how) for how in ({"strength": 0.5}, {}))
    assert "strength has no effect" in caplog.text
    assert torch.equal(half, whole)


def test_blocks_without_a_fit_agree_with_a_single_block(no_fit):
    noisy, clean = tones(12)
    blocks = dawp.restore(noisy, RATE, **SMALL, block=2.0, overlap=0.25)
    whole = dawp.restore(noisy, RATE, **SMALL, block=12.0)
    noise = (noisy - clean).square().mean().sqrt()
    assert (whole - clean).square().mean().sqrt() < 0.5 * noise
    difference = (blocks - whole).abs()
    assert difference.square().mean().sqrt() < 0.1 * noise
    assert difference.max() < noise  # a jump at a seam would stand out


@pytest.mark.parametrize("block", [4.0, 1.0])
def test_at_a_lower_working_rate_the_result_is_aligned_and_as_long(no_fit, block):
    time = torch.arange(100_001) / 44100
    sound = 0.3 * torch.sin(2 * torch.pi * 440 * time) * torch.exp(-5 * (time % 0.5))
    noisy = sound + 0.002 * torch.randn(len(time))
    restored = dawp.restore(noisy, 44100, samplerate=16000, block=block, overlap=0.2, **SMALL)
    assert restored.shape == noisy.shape
    spectra = [torch.fft.rfft(wave, 2 * len(time)) for wave in (restored, sound)]
    assert torch.fft.irfft(spectra[0] * spectra[1].conj()).argmax() == 0
    assert (restored - sound).square().mean() < (noisy - sound).square().mean()


@pytest.mark.parametrize("name", ["speech", "singing", "guitar"])
def test_a_clean_recording_is_hardly_changed(no_fit, name):
    samples, rate = soundfile.read(SAMPLES / f"{name}.wav", dtype="float32")
    clean = torch.from_numpy(samples)
    nearly_clean = clean + 1e-3 * clean.std() * torch.randn(len(clean))
    for recording in (clean, nearly_clean):
        change = dawp.restore(recording, rate, **SMALL) - recording
        assert change.square().sum() < 1e-6 * recording.square().sum()


@pytest.mark.parametrize("frequencies", [(82.0,), (440.0,), (220.0, 331.0, 787.0, 1319.0), (55.0, 7000.0)])
def test_clean_tones_are_hardly_changed(no_fit, frequencies):
    time = torch.arange(4 * RATE) / RATE
    clean = sum(0.1 * torch.sin(2 * torch.pi * f * time + f) for f in frequencies)
    nearly_clean = clean + 1e-3 * clean.std() * torch.randn(len(clean))
    for recording in (clean, nearly_clean):
        change = dawp.restore(recording, RATE, **SMALL) - recording
        assert change.square().sum() < 1e-6 * recording.square().sum()


def noise_then_sound(band=None):
    """Return one second of noise followed by three seconds of tones in noise ``[T]``, and the tones alone."""
    time = torch.arange(4 * RATE) / RATE
    sound = 0.1 * torch.sin(2 * torch.pi * 440 * time) + 0.1 * torch.sin(2 * torch.pi * 1300 * time)
    sound[:RATE] = 0
    noise = torch.randn(4 * RATE)
    if band:
        spectrum, frequencies = torch.fft.rfft(noise), torch.fft.rfftfreq(4 * RATE, 1 / RATE)
        noise = torch.fft.irfft(spectrum * ((frequencies > band[0]) & (frequencies < band[1])))
    return sound + 0.03 * noise / noise.std(), sound


@pytest.mark.parametrize("band", [None, (2000, 3000), (500, 900)])
def test_noise_in_the_profile_is_removed(band):
    noisy, sound = noise_then_sound(band)
    restored = dawp.restore(noisy, RATE, **SMALL, noise_profile="0.1:0.8")
    before, after = ((wave - sound).square().sum() for wave in (noisy, restored))
    assert 10 * torch.log10(before / after) > 8
    assert restored[RATE // 10 : -RATE].isfinite().all()
    assert restored[2000:14000].std() < 0.2 * noisy[2000:14000].std()


def test_a_tone_in_the_noise_profile_is_removed():
    time = torch.arange(4 * RATE) / RATE
    hum = 0.1 * sum(torch.sin(2 * torch.pi * f * time) for f in (300.0, 900.0, 1500.0))
    sound = 0.2 * torch.sin(2 * torch.pi * 600 * time) * (time > 1)
    recording = hum + sound
    restored = dawp.restore(recording, RATE, **SMALL, noise_profile="0:1")
    assert (restored - sound)[:RATE].square().mean() < 0.05 * hum.square().mean()
    assert (restored - sound).square().mean() < 0.2 * hum.square().mean()


def test_noise_intervals_may_be_in_any_order():
    noisy, _ = noise_then_sound()
    one, other = (
        dawp.restore(noisy, RATE, **SMALL, noise_profile=intervals) for intervals in ("0:0.3,0.5:0.4", "0.5:.4, 0:0.3")
    )
    assert torch.equal(one, other)


def test_each_channel_has_its_own_noise():
    noisy, _ = noise_then_sound()
    quiet = 0.1 * noisy
    together = dawp.restore(torch.stack([noisy, quiet]), RATE, **SMALL, noise_profile="0:1")
    alone = [dawp.restore(wave, RATE, **SMALL, noise_profile="0:1") for wave in (noisy, quiet)]
    assert torch.equal(together, torch.stack(alone))


def test_a_noise_profile_is_measured_at_the_working_rate():
    noisy, sound = noise_then_sound()
    restored = dawp.restore(noisy, RATE, **SMALL, noise_profile="0.1:0.8", samplerate=8000)
    assert restored.shape == noisy.shape
    assert (restored - sound).square().sum() < 0.2 * (noisy - sound).square().sum()


def test_running_out_of_memory_names_the_setting_of_blocks(monkeypatch):
    def solve(*_):
        raise MemoryError

    monkeypatch.setattr(channels, "solve", solve)
    with refused_as("out_of_memory", "block"):
        dawp.restore(torch.randn(1000), RATE, **SMALL)


@pytest.mark.parametrize("intervals", ["0:0.05", "3.5:1", "0:1,9:1", "4:1"])
def test_unusable_noise_intervals_are_refused(intervals):
    noisy, _ = noise_then_sound()
    with pytest.raises(BadInput, match="noise_profile: .*" + intervals.split(",")[-1]):
        dawp.restore(noisy, RATE, **SMALL, noise_profile=intervals)


@pytest.mark.parametrize("intervals", ["", "1", "a:b", "0:1,", "0:1:2", "0;1", "-1:1", "0:0", "0:-1", "nan:1", "0:inf"])
def test_malformed_noise_intervals_are_refused(speech, intervals):
    with pytest.raises(BadInput, match="noise_profile must"):
        dawp.restore(speech, RATE, noise_profile=intervals)


@pytest.mark.parametrize("how", [{"task": "dereverb"}, {"task": "inpaint"}, {"estimate": "mean"}])
def test_a_noise_profile_needs_the_mask(speech, how, caplog):
    if "task" in how:
        with pytest.raises(BadInput, match="there is no setting noise_profile"):
            dawp.restore(speech, RATE, **SMALL, **how, noise_profile="0:0.5")
        return
    with caplog.at_level(logging.WARNING, "dawp"):
        dawp.restore(speech, RATE, **SMALL, **how, noise_profile="0:0.5")
    assert "noise_profile has no effect" in caplog.text


def test_a_high_pass_above_half_the_rate_is_refused():
    with pytest.raises(BadInput, match="highpass must be below half the sample rate of 1000 Hz, got 600"):
        dawp.restore(torch.randn(2000), 1000, **SMALL, highpass=600.0)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_long_gap_is_left_silent_with_a_warning(channels, caplog):
    waveform = 0.1 * torch.randn(channels, 16000)
    waveform[0, 4000:12000] = torch.nan
    with caplog.at_level(logging.WARNING, "dawp"):
        restored = dawp.restore(waveform, RATE, "inpaint", block=0.1, overlap=0.01, **SMALL)
    assert restored.isfinite().all()
    assert not restored[0, 6000:10000].any()
    assert "the block has no known sample, so the gap is set to zero" in caplog.text


def test_a_gap_in_a_silent_channel_gives_no_warning(caplog):
    waveform = torch.stack([torch.randn(8000), torch.zeros(8000)])
    with caplog.at_level(logging.WARNING, "dawp"):
        restored = dawp.restore(waveform, RATE, "inpaint", gaps="0.25:0.005", **SMALL)
    assert not restored[1].any()
    assert not [record for record in caplog.records if record.name.startswith("dawp.restoration")]


# Files


def test_a_damaged_cached_block_is_recomputed(tmp_path):
    cache = BlockCache(tmp_path / "cache")
    done = RestoredBlock(torch.randn(2, 100), [3, 4])
    cache.put(0, done)
    there = cache.get(0, Block(50, 150), 2)
    assert torch.equal(there.samples, done.samples)
    assert there.epochs == [3, 4]
    assert cache.get(0, Block(50, 151), 2) is None
    assert cache.get(1, Block(0, 100), 2) is None
    path = tmp_path / "cache" / "000000.npz"
    whole = path.read_bytes()
    for damaged in (whole[:200], b"", b"PK\x03\x04" + bytes(200), whole.replace(b"PK\x01\x02", b"PK\x01\xff")):
        path.write_bytes(damaged)
        assert cache.get(0, Block(50, 150), 2) is None
    directory = whole.index(b"PK\x01\x02")
    for place, value in ((10, 99), (8, 1)):  # an unknown compression; encrypted
        path.write_bytes(whole[: directory + place] + bytes([value]) + whole[directory + place + 1 :])
        assert cache.get(0, Block(50, 150), 2) is None
    np.save(path.with_suffix(".npy"), np.zeros((2, 100), dtype=np.float32))
    path.with_suffix(".npy").rename(path)
    assert cache.get(0, Block(50, 150), 2) is None


@pytest.mark.parametrize(
    "arrays",
    [
        {"samples": np.array([{"a": 1}], dtype=object), "epochs": np.array([1])},  # would have to be unpickled
        {"samples": np.full((1, 1), np.nan, dtype=np.float32), "epochs": np.array([1])},
        {"samples": np.zeros((1, 1), dtype=np.float32), "epochs": np.array(["many"])},
        {"samples": np.zeros((1, 1), dtype=np.float32), "epochs": np.array([1, 2])},
        {"samples": np.zeros((1, 1), dtype=np.float32)},
    ],
)
def test_a_cached_block_with_unexpected_arrays_is_recomputed(tmp_path, arrays):
    cache = BlockCache(tmp_path / "cache")
    np.savez(tmp_path / "cache" / "000000.npz", **arrays)
    assert cache.get(0, Block(0, 1), 1) is None


class Stopped(Exception):
    """Interrupts a restoration."""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Restore ``a.wav`` into ``out.wav`` in this process; call a function after ``after`` blocks."""

    def restore(after=None, happening=None, **changed):
        made = []
        real = channels.restore_channel

        def counted(*arguments):
            index = arguments[-2]
            if after is not None and index >= after:
                happening()
            made.append(index)
            return real(*arguments)

        monkeypatch.setattr(channels, "restore_channel", counted)
        where = {"source": tmp_path / "a.wav", "output": tmp_path / "out.wav", "block": 0.3, "overlap": 0.05}
        config = settings(**{**SMALL, **where, **changed})
        try:
            run(config, find_recordings(config.run.source, True))
        finally:
            monkeypatch.setattr(channels, "restore_channel", real)
        return made

    return restore


def stop():
    raise Stopped


@pytest.mark.parametrize("fits", [1, 2])
def test_a_failed_recording_does_not_stop_the_others(tmp_path, fits):
    wild = torch.randn(8000)
    wild[6000:] = 0
    write_sound(tmp_path / "in/a.wav", wild)
    write_sound(tmp_path / "in/b.wav", torch.randn(8000))
    where = {"source": tmp_path / "in", "output": tmp_path / "out", "block": 0.1, "overlap": 0.01}
    config = settings(**{**SMALL, **where, "lr": 1e30, "fits": fits, "epochs": 20})
    outcome = run(config, find_recordings(config.run.source, True))
    assert outcome.done == 0
    assert [("a.wav" in line, "b.wav" in line) for line in outcome.failures] == [(True, False), (False, True)]
    assert outcome.failure_codes == ["fit_diverged"] * 2
    assert not list(tmp_path.glob("out/.*"))


def cached_blocks(folder):
    return sorted(path.name for path in folder.glob(".dawp-*/*/*.npz"))


def test_an_interrupted_restoration_resumes_with_the_next_block(command, tmp_path):
    write_sound(tmp_path / "a.wav")
    assert command() == [0, 1, 2, 3]
    uninterrupted = (tmp_path / "out.wav").read_bytes()
    (tmp_path / "out.wav").unlink()
    with pytest.raises(Stopped):
        command(2, stop)
    assert cached_blocks(tmp_path) == ["000000.npz", "000001.npz"]
    assert command() == [2, 3]
    assert (tmp_path / "out.wav").read_bytes() == uninterrupted
    assert not list(tmp_path.glob(".*"))


def test_cached_blocks_belong_to_their_settings_and_recording(command, tmp_path):
    write_sound(tmp_path / "a.wav")
    with pytest.raises(Stopped):
        command(2, stop)
    assert command(seed=1, output=tmp_path / "other.wav") == [0, 1, 2, 3]
    assert command(seed=1, save_removed=tmp_path / "gone.wav") == [0, 1, 2, 3]
    assert (tmp_path / "out.wav").read_bytes() == (tmp_path / "other.wav").read_bytes()
    assert cached_blocks(tmp_path) == ["000000.npz", "000001.npz"]  # other settings do not remove cached blocks
    for changed in ({"strength": 0.5}, {"noise_profile": "0:0.5"}, {"highpass": 30.0}):
        assert command(overwrite=True, **changed) == [0, 1, 2, 3]
    assert cached_blocks(tmp_path) == ["000000.npz", "000001.npz"]
    write_sound(tmp_path / "a.wav", 0.1 * torch.randn(RATE))
    assert command(overwrite=True) == [0, 1, 2, 3]


def test_cached_blocks_do_not_depend_on_output_settings(command, tmp_path):
    write_sound(tmp_path / "a.wav")
    with pytest.raises(Stopped):
        command(2, stop)
    assert command(save_removed=tmp_path / "gone.wav", subtype="FLOAT", clip_mode="clamp", strength=1) == [2, 3]


def test_a_second_command_for_the_same_output_is_refused(command, tmp_path):
    write_sound(tmp_path / "a.wav")
    refusals = []

    def meanwhile():
        if not refusals:
            for changed in ({}, {"seed": 1}):
                outcome = run(
                    settings(**SMALL, source=tmp_path / "a.wav", output=tmp_path / "out.wav", **changed),
                    find_recordings(tmp_path / "a.wav", True),
                )
                refusals.extend(outcome.failures)

    assert command(1, meanwhile) == [0, 1, 2, 3]
    assert len(refusals) == 2
    assert all(f"out.wav: is in use by process {os.getpid()} on " in refusal for refusal in refusals)


def test_an_output_written_meanwhile_by_another_command_is_kept(command, tmp_path, monkeypatch):
    write_sound(tmp_path / "a.wav")
    real = file_restoration.sha256_of

    def slow(path):  # between the check for the output and the lock
        (tmp_path / "out.wav").write_bytes(b"another's")
        return real(path)

    monkeypatch.setattr(file_restoration, "sha256_of", slow)
    assert command() == []
    assert (tmp_path / "out.wav").read_bytes() == b"another's"


def test_a_json_file_that_is_not_a_record_is_not_replaced(command, tmp_path):
    write_sound(tmp_path / "a.wav")
    record = tmp_path / "out.wav.json"
    record.write_text("precious")
    with refused_as("output_exists", r"out\.wav\.json: "):
        command()
    assert record.read_text() == "precious"
    command(overwrite=True)
    (tmp_path / "out.wav").unlink()
    command()  # a restoration record is replaced


def test_restored_files_are_not_restored_again(command, tmp_path):
    write_sound(tmp_path / "a.wav")
    command()
    assert [recording.path.name for recording in find_recordings(tmp_path)] == ["a.wav"]


def test_failures_name_the_recording_and_leave_no_files(tmp_path, caplog):
    write_sound(tmp_path / "a.wav")
    config = settings(**{**SMALL, "epochs": 5}, source=tmp_path / "a.wav", output=tmp_path / "b.wav", lr=1e30)
    outcome = run(config, find_recordings(config.run.source, True))
    assert re.search(r"a\.wav: 0\.00 to 1\.00 s: the loss is not a finite number", outcome.failures[0])
    for changed, words in (
        ({"samplerate": 15999}, r"a\.wav: cannot be resampled from 16000 to 15999 Hz"),
        ({"samplerate": 1000, "block": 0.05, "overlap": 0.0}, r"a\.wav: block must have at least 64 samples"),
        ({"output": tmp_path / ("x" * 250 + ".wav")}, "the file name must have at most"),
        ({"output": tmp_path / "a.wav" / "b.wav"}, "not a folder"),
    ):
        config = settings(**{**SMALL, "source": tmp_path / "a.wav", "output": tmp_path / "b.wav", **changed})
        try:
            (failure,) = run(config, find_recordings(config.run.source, True)).failures
        except BadInput as refusal:
            failure = str(refusal)
        assert re.search(words, failure)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_tags_and_format_are_those_of_the_recording(command, tmp_path):
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        file.title, file.artist = "Old tape", "Nobody"
        file.write(torch.randn(RATE).numpy() / 10)
    command(source=path, output=tmp_path / "b.flac")
    with soundfile.SoundFile(tmp_path / "b.flac") as file:
        assert (file.title, file.artist) == ("Old tape", "Nobody")


def test_recordings_of_very_low_rates_are_refused():
    with refused_as("unusable_recording", r"^a: must have a sample rate of at least 1000 Hz, got 40"):
        Sound("a", 40, torch.ones(1), 1000, lambda start, stop: torch.zeros(1, stop - start))


def with_loud_fits(monkeypatch, level):
    """Replace the estimate of every fit by the constant ``level``."""

    def solve(problem, *_):
        return SimpleNamespace(
            error=None, restored=SimpleNamespace(waveform=torch.full_like(problem.observed, level), epoch=1)
        )

    monkeypatch.setattr(channels, "solve", solve)


@pytest.mark.parametrize("level", [-3.0, 3.0])
@pytest.mark.parametrize("working_rate", [None, RATE // 2])
def test_intact_samples_are_exact_if_a_filled_sample_exceeds_full_scale(
    command, tmp_path, monkeypatch, level, working_rate
):
    samples = (0.9 * torch.rand(2, 4000) * 2**15).round() / 2**15
    samples[0, 2000:2040] = 0
    write_sound(tmp_path / "a.wav", samples.T)
    with_loud_fits(monkeypatch, level)
    command(task="inpaint", samplerate=working_rate, min_gap_ms=1)
    restored = torch.from_numpy(soundfile.read(tmp_path / "out.wav", dtype="float32")[0].T.copy())
    changed = (restored != samples).nonzero()
    assert set(changed[:, 0].tolist()) == {0}
    assert 1980 <= changed[:, 1].min() <= changed[:, 1].max() < 2060
    assert restored[0, 2010:2030].abs().min() > 0.999


def test_filled_samples_do_not_exceed_the_loudest_intact_one(monkeypatch):
    with_loud_fits(monkeypatch, 5.0)
    waveform = 3 * torch.rand(1, 4000)
    waveform[0, 100] = -3.5
    waveform[0, 2000:2040] = torch.nan
    restored = dawp.restore(waveform, RATE, "inpaint", **SMALL)
    assert restored.abs().max() == restored[0, 2010] == 3.5
    raw = dawp.restore(waveform, RATE, "inpaint", raw_output=True, **SMALL)
    assert (raw == 5).all()


def test_equal_channels_with_gaps_are_fitted_once(monkeypatch):
    fits = []
    real = channels.solve
    monkeypatch.setattr(channels, "solve", lambda *given: fits.append(1) or real(*given))
    waveform = 0.1 * torch.randn(4000)
    waveform[2000:2040] = torch.nan
    restored = dawp.restore(torch.stack([waveform, waveform]), RATE, "inpaint", **SMALL)
    assert len(fits) == 1
    assert torch.equal(restored[0], restored[1])


@pytest.mark.parametrize("output", ["out", "in/out"])
@pytest.mark.parametrize("removed", ["removed", "in/removed"])
def test_the_removed_signals_mirror_the_tree_of_the_recordings(tmp_path, output, removed):
    for name in ("in/a.wav", "in/b/a.wav", f"{removed}/earlier.wav", f"{output}/earlier.wav"):
        write_sound(tmp_path / name)
    config = settings(source=tmp_path / "in", output=tmp_path / output, save_removed=tmp_path / removed)
    jobs = plan_targets(config, find_recordings(tmp_path / "in", True))
    assert [job.removed for job in jobs] == [tmp_path / removed / "a.wav", tmp_path / removed / "b/a.wav"]


def test_outputs_mirror_the_tree_of_the_recordings(tmp_path):
    for name in ("a.wav", "b/a.wav", "b/c/d.flac"):
        write_sound(tmp_path / "in" / name)
    config = settings(source=tmp_path / "in", output=tmp_path / "in" / "out")
    write_sound(tmp_path / "in" / "out" / "earlier.wav")
    jobs = plan_targets(config, find_recordings(tmp_path / "in", True))
    assert [job.output.relative_to(tmp_path / "in" / "out").as_posix() for job in jobs] == [
        "a.wav",
        "b/a.wav",
        "b/c/d.flac",
    ]
