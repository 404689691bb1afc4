import numpy as np
import pytest
import torch
from conftest import TINY, refused_as

import dawp
from dawp.config import Config
from dawp.methods.deep_prior.generators.registry import build


def test_denoise_returns_a_result(speech):
    result = dawp.denoise(speech, sample_rate=16000, **TINY)
    assert result.best["si_snr"].waveform.shape == speech.shape
    assert result.input["si_snr"] == pytest.approx(2.5, abs=0.1)
    assert len(result.history.rows) == 3
    assert "SI-SNR (dB)" in str(result)


def test_arrays_and_one_channel_tensors_give_equal_results(speech):
    values = [
        dawp.denoise(form, **TINY).history.rows
        for form in (
            *(speech, speech[None], speech.numpy(), speech.double().numpy(), speech.numpy().astype(">f4")),
            np.flip(np.flip(speech.numpy()).copy()),  # negative stride
        )
    ]
    assert all(value == values[0] for value in values)


def test_a_caller_without_gradients(speech):
    with torch.no_grad():
        assert len(dawp.denoise(speech, **TINY).history.rows) == 3
    with torch.inference_mode():
        assert len(dawp.denoise(speech, **TINY).history.rows) == 3


def test_a_pair(speech):
    noisy = speech + 0.05 * torch.randn(len(speech))
    result = dawp.denoise(speech, corrupted=noisy, **TINY)
    assert torch.equal(result.problem.observed, noisy)


def test_the_seed_determines_the_result(speech):
    first, again, other = (dawp.denoise(speech, seed=seed, **TINY) for seed in (1, 1, 2))
    assert first.history.rows == again.history.rows
    assert first.history.rows != other.history.rows


def test_other_sample_rates_are_not_resampled(speech):
    result = dawp.denoise(speech, sample_rate=8000, **TINY)
    assert result.problem.sample_rate == 8000
    assert len(result.best["psnr"].waveform) == len(speech)


@pytest.mark.parametrize(
    ("waveform", "settings", "message"),
    [
        (torch.zeros(2, 1000), {}, r"waveform must be one channel, of shape \[T\] or \[1, T\], got \[2, 1000\]"),
        (np.zeros(1000, dtype=np.int16), {}, "floating-point samples"),
        (torch.zeros(63), {}, "waveform must have .* got 63"),
        (torch.zeros(1000), {}, "silent"),
        (torch.full((1000,), torch.nan), {}, "waveform must be finite"),
        (torch.ones(1000), {"clip_length": 1.0}, "clip_length is a setting of the command line"),
        (torch.ones(1000), {"output_dir": "x"}, "output_dir is a setting of the command line"),
        (torch.ones(1000), {"learning_rate": 1.0}, "there is no setting learning_rate"),
        (torch.ones(1000), {"corrupted": torch.zeros(1001)}, r"one shape \[T\], got observed \[1001\], clean \[1000\]"),
        (torch.ones(1000), {"corrupted": torch.ones(1000)}, "nothing to restore"),
        (torch.ones(1000), {"corrupted": torch.zeros(1000)}, "corrupted clip is silent"),
        (torch.zeros(1000), {"corrupted": torch.ones(1000)}, "clean clip is silent"),
        (torch.full((1000,), torch.inf), {}, "waveform must be finite, got NaN or infinite"),
        (np.ones(1000, dtype=np.longdouble), {}, "got ndarray of float128"),
        ([[1.0], [1.0, 2.0]], {}, "must be a tensor or an array of numbers"),
        (torch.ones(1000), {"sample_rate": 0}, "sample_rate must be a whole number at least 1000"),
        (torch.ones(1000), {"sample_rate": "x"}, "sample_rate must be"),
        ("speech.wav", {}, "waveform must be a tensor or an array of numbers, got str of"),
        (None, {}, "waveform must be a tensor or an array of numbers, got NoneType of"),
    ],
)
def test_bad_input_is_a_value_error(waveform, settings, message):
    with pytest.raises(ValueError, match=message):
        dawp.denoise(waveform, **{**TINY, **settings})


def test_dereverb(speech):
    result = dawp.dereverb(speech, rt60=0.3, **TINY)
    assert result.problem.facts["rt60"] == pytest.approx(0.3, rel=0.05)
    assert result.best["si_snr"].waveform.shape == speech.shape
    assert result.restored.waveform.shape == speech.shape
    assert torch.equal(dawp.dereverb(speech, corrupted=0.5 * speech, **TINY).problem.observed, 0.5 * speech)


def test_inpaint(speech):
    result = dawp.inpaint(speech, gap_ms=5, n_gaps=4, baselines=True, **TINY)
    assert list(result.best)[:2] == ["gap_si_snr", "gap_psnr"]
    assert len(result.problem.gaps) == 4
    outside = result.problem.blend == 0
    assert torch.equal(result.restored.waveform[outside], speech[outside])
    assert result.restored.values["gap_psnr"] == pytest.approx(result.history.rows[-1]["ema_gap_psnr"], abs=1e-3)
    assert set(result.baselines) == {"linear", "janssen", "auto"}
    assert "baseline janssen" in str(result)


def test_inpaint_a_damaged_waveform(speech):
    damaged = speech.clone()
    damaged[4000:4020] = torch.nan
    damaged[8000:8032] = 0
    alone = dawp.inpaint(damaged, gaps="auto", **TINY)
    pair = dawp.inpaint(speech, corrupted=damaged, **TINY)
    assert alone.problem.gaps == pair.problem.gaps == [(4000, 4020), (8000, 8032)]
    assert (alone.best, alone.input) == ({}, {})
    assert torch.equal(alone.restored.waveform, pair.restored.waveform)
    assert alone.restored.waveform.isfinite().all()
    assert str(alone) == "no clean clip, so no metrics"
    for array in (damaged.numpy(), damaged[None]):
        assert torch.equal(dawp.inpaint(array, gaps="auto", **TINY).restored.waveform, alone.restored.waveform)
    with refused_as("unusable_recording", "waveform .*NaN"):
        dawp.inpaint(damaged, **TINY)
    with refused_as("unusable_recording", "waveform .*NaN"):
        dawp.denoise(damaged, **TINY)


def test_the_last_weights_reproduce_the_restored_waveform(speech):
    damaged = speech.clone()
    damaged[4000:4020] = torch.nan
    result = dawp.inpaint(damaged, gaps="auto", ema=0.0, **TINY)
    generator = build(Config.of("inpaint", **TINY).generator, torch.Generator())
    generator.load_state_dict(result.generator["state_dict"])
    output = generator(result.generator["z"], len(speech))[0, 0]
    torch.testing.assert_close(result.problem.estimate(output), result.restored.waveform)
