"""Tests of the removal of mains hum."""

import json
import math

import pytest
import soundfile
import torch
from conftest import refused_as

import dawp
from dawp.__main__ import main
from dawp.config import Config
from dawp.dsp.hum import find_hum
from dawp.simulate.hum import draw_hum

RATE = 8000
QUICK = {"method": "log_mmse"}


def sound(seconds=8.0, rate=RATE, seed=0):
    """Return notes of random pitches with pauses between them, over weak noise, with an RMS of 0.1."""
    rng = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    waveform = 0.003 * torch.randn(len(time), generator=rng, dtype=torch.float64)
    for start in torch.arange(0.2, seconds - 0.5, 0.6).tolist():
        pitch = 120 * 2 ** (2 * float(torch.rand(1, generator=rng)))
        local = (time - start).clamp(min=0)
        note = sum(torch.sin(2 * math.pi * pitch * k * local) / k for k in range(1, 9))
        waveform = waveform + note * (1 - torch.exp(-50 * local)) * torch.exp(-12 * local)
    return 0.1 * waveform / waveform.square().mean().sqrt()


def humming(clean, snr, mains=50.0, rate=RATE, seed=1):
    hum = draw_hum(len(clean), rate, mains, torch.Generator().manual_seed(seed))
    return clean + hum * clean.square().mean().sqrt() * 10 ** (-snr / 20)


def found(waveform, rate=RATE, mains=None):
    channels = torch.as_tensor(waveform).reshape(-1, waveform.shape[-1])
    power = channels.double().square().mean(dim=1)
    return find_hum(lambda start, stop: channels[:, start:stop], power, channels.shape[1], rate, mains)


def removed(waveform, rate=RATE, mains=None):
    (hum,) = found(waveform, rate, mains)
    return waveform if hum is None else waveform - hum.samples(0, len(waveform))


def snr(clean, estimate):
    return 10 * math.log10(float(clean.square().sum() / (estimate - clean).square().sum()))


@pytest.mark.parametrize(("mains", "rate"), [(50.0, 8000), (60.0, 8000), (50.0, 44100), (60.0, 44100)])
@pytest.mark.parametrize(("level", "gain"), [(0.0, 10.0), (15.0, 5.0)])
def test_hum_is_removed(level, gain, mains, rate):
    clean = sound(6.0, rate)
    noisy = humming(clean, level, mains, rate)
    (hum,) = found(noisy, rate)
    assert hum.fundamental == pytest.approx(mains, abs=0.6)
    assert snr(clean, removed(noisy, rate)) > level + gain


def test_the_drift_of_the_fundamental_is_followed():
    clean, rng = sound(20.0), torch.Generator().manual_seed(3)
    noisy = clean + 0.05 * draw_hum(len(clean), RATE, 50.0, rng, drift=0.4)
    (hum,) = found(noisy)
    assert hum.frequency.max() - hum.frequency.min() > 0.3
    assert snr(clean, removed(noisy)) > snr(clean, noisy) + 10


def tone(frequency, seconds=8.0, harmonics=12):
    time = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    return sum(torch.cos(2 * math.pi * frequency * k * time + k) / k for k in range(1, harmonics + 1)) / 10


@pytest.mark.parametrize("frequency", [25.0, 30.0, 49.0, 51.9, 55.0, 61.7, 65.4, 75.0, 98.0, 200.0])
@pytest.mark.parametrize("background", ["silence", "noise", "notes"])
def test_other_drones_are_left(frequency, background):
    drone = tone(frequency)
    if background == "noise":
        drone = drone + 0.01 * torch.randn(len(drone), generator=torch.Generator().manual_seed(0), dtype=drone.dtype)
    if background == "notes":
        drone = drone + sound()
    assert found(drone) == [None]


def test_sounds_without_hum_are_left(speech):
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(8 * RATE, generator=rng, dtype=torch.float64)
    time = torch.arange(8 * RATE, dtype=torch.float64) / RATE
    beats = torch.exp(-(time % 0.5) * 40) * torch.sin(2 * math.pi * 50 * (time % 0.5))
    impulse = torch.zeros(8 * RATE)
    impulse[RATE] = 1
    for waveform in (sound(), noise, beats, impulse, torch.ones(8 * RATE), torch.zeros(8 * RATE)):
        assert found(waveform) == [None]
    assert found(speech, 16000) == [None]


def test_a_drone_alone_is_left_at_the_frequency_of_the_mains():
    assert found(tone(50.0)) == [None]
    assert found(tone(50.0), mains=50.0) != [None]


def test_hum_that_starts_late_is_removed_from_there():
    clean = sound(12.0)
    noisy, start = humming(clean, 0.0), 5 * RATE
    noisy[:start] = clean[:start]
    result = removed(noisy)
    assert snr(clean[: start - RATE], result[: start - RATE]) > 25
    assert snr(clean[start + 3 * RATE :], result[start + 3 * RATE :]) > 10


@pytest.mark.parametrize("length", [64, RATE // 10, 2 * RATE])
@pytest.mark.parametrize("mains", [None, 50.0])
def test_short_clips_are_left(length, mains):
    assert found(humming(sound(), 0.0)[:length], mains=mains) == [None]


def test_a_low_sample_rate_is_refused_quietly():
    assert found(humming(sound(), 0.0), rate=900) == [None]


def test_each_channel_has_its_own_hum():
    left, right = sound(seed=4), sound(seed=5)
    noisy = torch.stack([humming(left, 5.0), right, torch.zeros_like(right), humming(right, 5.0, 60.0)])
    hums = found(noisy)
    assert [hum and round(hum.fundamental / 10) for hum in hums] == [5, None, None, 6]


def test_the_hum_of_a_part_is_that_of_the_whole():
    (hum,) = found(humming(sound(), 0.0))
    whole = hum.samples(0, 8 * RATE)
    for start, stop in ((0, 1), (0, 700), (8000, 8001), (12345, 23456), (8 * RATE - 64, 8 * RATE)):
        assert torch.allclose(hum.samples(start, stop), whole[start:stop], rtol=0, atol=1e-9)


def test_only_hum_of_the_given_mains_is_removed():
    noisy = humming(sound(), 0.0)
    assert found(noisy, mains=60.0) == [None] or snr(noisy, removed(noisy, mains=60.0)) > 10
    assert snr(sound(), removed(noisy, mains=50.0)) > 10


def test_a_restoration_removes_the_hum_in_all_blocks():
    clean = sound(10.0)
    noisy = humming(clean, 0.0).float()
    kept, without = (dawp.restore(noisy, RATE, **QUICK, block=3.0, hum=hum).double() for hum in ("none", "auto"))
    assert snr(clean, without) > snr(clean, kept) + 5
    assert torch.equal(dawp.restore(noisy, RATE, **QUICK, hum="auto", strength=0.0), noisy)


def test_a_recording_without_hum_is_restored_as_before():
    clean = sound().float()
    results = [dawp.restore(clean, RATE, **QUICK, hum=hum) for hum in ("none", "auto")]
    assert torch.equal(*results)


def test_the_record_describes_the_hum(tmp_path):
    left, right = sound(seed=4), sound(seed=5)
    noisy = torch.stack([humming(left, 5.0), right])
    soundfile.write(tmp_path / "in.wav", noisy.T.numpy(), RATE, "FLOAT")
    command = [
        "denoise",
        str(tmp_path / "in.wav"),
        "--restore",
        "--method",
        "log_mmse",
        "-o",
        str(tmp_path / "out.wav"),
    ]
    assert main(command) == 0
    record = json.loads((tmp_path / "out.wav.json").read_text())
    (entry,) = record["hum"]
    assert entry["channel"] == 1
    assert entry["fundamental_hz"] == pytest.approx(50, abs=0.6)
    assert entry["harmonics"] > 5
    assert entry["level_dbfs"] == pytest.approx(-20 - 5, abs=1)
    assert record["settings"]["hum"] == "auto"


def test_hum_is_a_setting_of_restorations():
    assert "hum" not in Config.of("denoise", "restore", hum="auto").effective()
    with refused_as("invalid_setting", "hum"):
        Config.of("denoise", "restore", hum="50")
    assert Config.of("denoise", "restore", restore=True).effective()["hum"] == "auto"


@pytest.mark.parametrize("value", ["55", "", "AUTO", 50])
def test_other_values_are_refused(value):
    with pytest.raises(dawp.BadInput, match=r"^hum must"):
        Config.of("denoise", hum=value)


@pytest.mark.parametrize(("hum", "seconds", "is_short"), [("50", 2.4, True), ("auto", 2.4, True), ("50", 2.6, False)])
def test_the_record_names_a_recording_too_short_for_hum(hum, seconds, is_short, tmp_path, capsys):
    soundfile.write(tmp_path / "in.wav", humming(sound(), 5.0)[: round(seconds * RATE)].numpy(), RATE, "FLOAT")
    flags = [str(tmp_path / "in.wav"), "--restore", "--method", "log_mmse", "--hum", hum]
    assert main(["denoise", *flags, "-o", str(tmp_path / "out.wav")]) == 0
    record = json.loads((tmp_path / "out.wav.json").read_text())
    assert record.get("too_short_for") == (["hum"] if is_short else None)
    assert ("--hum 50" in capsys.readouterr().err) == (is_short and hum == "50")
