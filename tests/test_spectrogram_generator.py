"""The generator ``spectrogram`` and its networks."""

import math

import pytest
import torch
from conftest import TINY, refused_as

import dawp
from dawp.methods.deep_prior.fit import Fit
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.methods.deep_prior.generators.spectrogram import Spectrogram
from dawp.methods.deep_prior.generators.spectrogram_networks import HarmonicConv2d
from dawp.methods.deep_prior.settings import FitConfig
from dawp.problem import Problem
from dawp.randomness import seeded

NETWORKS = ["hourglass", "dcgan", "dilated", "harmonic"]
SMALL = {"spectrogram_channels": 4, "spectrogram_window": 64}


def small(**settings):
    return GeneratorConfig(generator="spectrogram", **{**SMALL, **settings})


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("window", [16, 64, 512])
def test_the_output_has_the_requested_length(network, window):
    generator = Spectrogram(small(spectrogram_network=network, spectrogram_window=window))
    for length in (64, 65, 127, 128, 1000, 1001):
        z = torch.randn(1, 1, generator.valid_length(length))
        output = generator(z, length)
        assert output.shape == (1, 1, length)
        assert output.std() > 0


def test_too_short_is_refused():
    with refused_as("unusable_recording", "64 samples.* 63"):
        Spectrogram(small()).valid_length(63)


def test_a_window_that_four_hops_do_not_fill_is_refused():
    with refused_as("invalid_setting", "^spectrogram_window .*66"):
        small(spectrogram_window=66)


def image_of(waveform, size):
    """Compute the image of a waveform ``[T]``, of whole hops, by sums over samples: ``[1, 2, bins, frames]``.

    The phases are those of complex exponentials that are 1 at the first sample of the clip.
    """
    hop, half = size // 4, size // 2
    padded = torch.nn.functional.pad(waveform, (half, half)).to(torch.complex128)
    time = torch.arange(-half, len(waveform) + half, dtype=torch.float64)
    window = torch.hann_window(size, dtype=torch.float64)
    cycles = torch.arange(half + 1)[:, None] * time / size
    demodulated = padded * torch.exp(-2j * math.pi * cycles)
    bins = (demodulated.unfold(1, size, hop) * window).sum(dim=-1) / math.sqrt(size)
    image = torch.view_as_real(bins / bins.abs().sqrt().clamp(min=1e-12))
    return image.permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("size", [16, 64])
def test_the_image_of_a_waveform_gives_the_waveform(size):
    waveform = torch.randn(640)
    generator = Spectrogram(small(spectrogram_window=size))
    generator.network.forward = lambda z: image_of(waveform, size)
    made = generator(torch.zeros(1, 1, generator.valid_length(640)), 640)[0, 0]
    torch.testing.assert_close(made, waveform, atol=1e-5, rtol=0)


def test_a_tone_in_the_centre_of_a_bin_has_a_constant_image():
    tone = torch.cos(2 * math.pi * 5 / 64 * torch.arange(1024) + 0.3)
    inside = image_of(tone, 64)[0, :, 5, 4:-4]
    torch.testing.assert_close(inside, inside[:, :1].expand_as(inside), atol=1e-3, rtol=0)


def slow_harmonic_convolution(layer, x):
    """The sum in the docstring of HarmonicConv2d, one product after the other."""
    channels, bins, frames = x.shape
    weight = layer.mix.weight[:, :, 0].unflatten(1, (channels, layer.harmonics))  # (out, in, harmonics, 3)
    made = layer.mix.bias.detach().clone()[:, None, None].repeat(1, bins, frames)
    for f in range(bins):
        for k in range(1, layer.harmonics + 1):
            below, part = divmod(k * f / layer.anchor, 1)
            here, above = (x[:, int(b)] if b < bins else torch.zeros(channels, frames) for b in (below, below + 1))
            row = torch.nn.functional.pad((1 - part) * here + part * above, (1, 1))
            for t in range(frames):
                made[:, f, t] += torch.einsum("oit,it->o", weight[:, :, k - 1], row[:, t : t + 3])
    return made


@pytest.mark.parametrize(("harmonics", "anchor"), [(1, 1), (3, 1), (4, 3)])
def test_the_harmonic_convolution_is_the_sum_over_harmonics(harmonics, anchor):
    layer, x = HarmonicConv2d(2, 3, harmonics, anchor), torch.randn(2, 13, 4)
    with torch.no_grad():
        torch.testing.assert_close(layer(x[None])[0], slow_harmonic_convolution(layer, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_weight_has_a_gradient(network):
    generator = Spectrogram(small(spectrogram_network=network))
    generator(torch.randn(1, 1, generator.valid_length(2000)), 2000).square().mean().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad.isfinite().all(), name
        is_before_norm = ".0.bias" in name or name.endswith(".mix.bias")  # the normalisation removes these constants
        assert parameter.grad.any() or is_before_norm, name


@pytest.mark.parametrize("network", NETWORKS)
def test_a_fit_approaches_the_clip_and_depends_on_the_seed_alone(speech, network):
    def losses(seed, epochs):
        generator = build(small(spectrogram_network=network), seeded(seed, "weights"))
        problem = Problem(speech[4000:5000], None, 16000)
        return [
            step.loss.item() for step in Fit(problem, generator, FitConfig(epochs=epochs, lr=0.02), seeded(seed, "z"))
        ]

    first = losses(0, 25)
    assert first[-1] < 0.9 * first[0]
    assert losses(0, 3) == first[:3]
    assert losses(1, 3) != first[:3]


def test_the_spectrogram_works_for_all_tasks(speech):
    for solve in (dawp.denoise, dawp.dereverb, dawp.inpaint):
        result = solve(speech[4000:5000], **{**TINY, **SMALL, "generator": "spectrogram"})
        assert result.best["si_snr"].waveform.shape == (1000,)
        assert "network.last.weight" in result.generator["state_dict"]


def test_settings_of_the_harmonic_convolutions_belong_to_its_network_alone():
    for settings, is_used in (
        ({"spectrogram_network": "hourglass"}, False),
        ({"spectrogram_network": "harmonic"}, True),
    ):
        changed = small(**settings, spectrogram_anchor=3, spectrogram_harmonics=7)
        assert (changed.identity() != small(**settings).identity()) == is_used
