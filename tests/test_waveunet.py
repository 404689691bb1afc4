import pytest
import torch
from conftest import TINY, refused_as

import dawp
from dawp.methods.deep_prior.fit import Fit
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.methods.deep_prior.generators.waveunet import WaveUNet, _doubled
from dawp.methods.deep_prior.settings import FitConfig
from dawp.problem import Problem
from dawp.randomness import seeded

SMALL = {"waveunet_levels": 3, "waveunet_filters": 4}


def small(**settings):
    return WaveUNet(GeneratorConfig(generator="waveunet", **{**SMALL, **settings}))


def test_the_number_of_parameters_agrees_with_the_wave_u_net_paper():
    """Computed from Table 1 of Stoller et al. (12 levels of 24 l channels, kernels 15 and 5), with one output."""
    down = sum((24 * (level - 1) or 1) * 24 * level * 15 + 24 * level for level in range(1, 13))
    bottom = 288 * 312 * 15 + 312
    up = sum(24 * (2 * level + 1) * 24 * level * 5 + 24 * level for level in range(1, 13))
    last = 25 + 1
    generator = build(GeneratorConfig(generator="waveunet"), seeded(0, "weights"))
    assert sum(parameter.numel() for parameter in generator.parameters()) == down + bottom + up + last == 10_263_002


def test_the_intermediate_shapes_agree_with_the_wave_u_net_paper():
    """Table 1: 16384 samples become 4 frames of 288 channels, 312 in the bottleneck, 24 at the end of the decoder."""
    generator = WaveUNet(GeneratorConfig(generator="waveunet"))
    shapes = {}
    watched = {"down": generator.down[-1], "bottom": generator.bottom, "up": generator.up[-1], "last": generator.last}
    for name, module in watched.items():
        module.register_forward_hook(lambda _, given, made, name=name: shapes.update({name: (*made.shape[1:],)}))
    with torch.no_grad():
        generator(torch.zeros(1, 1, 16384), 16384)
    assert shapes == {"down": (288, 8), "bottom": (312, 4), "up": (24, 16384), "last": (1, 16384)}


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_the_output_has_the_requested_length(levels):
    generator = small(waveunet_levels=levels)
    for length in (*range(64, 100), 1000, 1001, 4095):
        assert generator(torch.zeros(1, 1, generator.valid_length(length)), length).shape == (1, 1, length)


def test_too_short_is_refused():
    with refused_as("unusable_recording", "64 samples.* 63"):
        small().valid_length(63)


def test_tanh_is_bounded_by_the_peak_and_linear_is_not():
    loud = torch.sin(torch.arange(800) / 7) * torch.linspace(0.1, 3, 800)
    bounded, linear = small(), small(waveunet_output="linear")
    assert bounded.gain_for(loud) == loud.abs().max()
    assert linear.gain_for(loud) == pytest.approx(loud.square().mean().sqrt().item())
    for generator in (bounded, linear):
        generator.gain.fill_(2.0)
        with torch.no_grad():
            generator.last.bias.fill_(1000.0)
            peak = generator(torch.randn(1, 1, 800), 800).max().item()
        assert peak == pytest.approx(2.0) if generator is bounded else peak > 1000


def test_decimation_and_interpolation_preserve_timing():
    """A slow sine is not shifted by any number of levels."""
    slow = torch.sin(torch.arange(4096) / 4096 * 2 * torch.pi)[None, None]
    for levels in (1, 4, 7):
        x = slow
        for _ in range(levels):
            x = x[..., ::2]
        for _ in range(levels):
            x = _doubled(x)
        inside = slice(256, -256)
        torch.testing.assert_close(
            x[..., inside], slow[..., inside], atol=6e-3, rtol=0
        )  # the error of linear interpolation


def test_an_impulse_in_the_input_noise_keeps_its_position():
    """Skip connections and trimming do not shift an impulse in the input noise."""
    torch.manual_seed(0)
    generator, length = small(waveunet_output="linear"), 401
    z = torch.zeros(1, 1, generator.valid_length(length))
    there = z.clone()
    there[..., z.shape[-1] // 2] = 1
    with torch.no_grad():
        difference = (generator(there, length) - generator(z, length))[0, 0].square()
    centre = (difference * torch.arange(length)).sum() / difference.sum()
    assert abs(centre.item() - length / 2) < 6


def test_a_fit_approaches_the_clip(speech):
    problem = Problem(speech, None, 16000)
    generator = build(GeneratorConfig(generator="waveunet", **SMALL), seeded(0, "weights"))
    losses = [step.loss.item() for step in Fit(problem, generator, FitConfig(epochs=60, lr=3e-3), seeded(0, "input"))]
    assert losses[-1] < 0.9 * losses[0]


def test_the_waveunet_works_for_all_tasks(speech):
    for solve in (dawp.denoise, dawp.dereverb, dawp.inpaint):
        result = solve(speech, **{**TINY, **SMALL, "generator": "waveunet"})
        assert result.best["si_snr"].waveform.shape == speech.shape
        assert "up.0.0.weight" in result.generator["state_dict"]
