import pytest
import torch
from conftest import TINY, refused_as
from test_weights import SETTINGS, model_of, random_unet

import dawp
from dawp.config import Config
from dawp.methods.deep_prior.fit import Fit
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.methods.deep_prior.settings import FitConfig
from dawp.methods.trained.weights import save_model
from dawp.problem import Problem
from dawp.randomness import seeded

SIZE = {"generator": "subpixel", "subpixel_depth": 2, "subpixel_channels": 4, "subpixel_kernels": "3,5"}


def generator_of(seed=0, **settings):
    return build(GeneratorConfig(**{**SIZE, **settings}), seeded(seed, "weights"))


@pytest.fixture
def model(tmp_path):
    save_model(tmp_path / "model.pt", model_of())
    return tmp_path / "model.pt"


@pytest.mark.parametrize("depth", [1, 2, 6])
def test_the_output_has_the_requested_length(depth):
    generator = generator_of(subpixel_depth=depth)
    for length in (64, 65, 99, 1000, 1001):
        assert generator(torch.zeros(1, 1, generator.valid_length(length)), length).shape == (1, 1, length)


def test_the_input_noise_is_not_added_to_the_output():
    generator, z = generator_of(), torch.rand(1, 1, 1000)
    with torch.no_grad():
        generator.network.last.weight.zero_()
        generator.network.last.bias.zero_()
        assert not generator(z, 1000).any()


def test_weights_depend_on_the_seed():
    def weights(seed):
        return torch.cat([parameter.flatten() for parameter in generator_of(seed).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_a_fit_learns_a_tone():
    problem = Problem(torch.sin(torch.arange(1000) / 10), None, 16000)
    generator = generator_of(subpixel_depth=4, subpixel_channels=8)
    losses = [float(epoch.loss) for epoch in Fit(problem, generator, FitConfig(epochs=40, lr=0.01), seeded(0, "z"))]
    assert losses[-1] < 0.5 * losses[0]


def test_the_first_output_is_that_of_the_trained_weights(model, speech):
    problem = Problem(speech[4000:6000], None, 16000)
    first = next(iter(Fit(problem, generator_of(init=model), FitConfig(), seeded(0, "z"))))
    trained = random_unet()
    trained.additive = False
    level = problem.observed.square().mean().sqrt()
    with torch.no_grad():
        expected = level * trained(first.z)[0, 0]
    assert torch.allclose(first.output, expected, atol=1e-6)
    other = next(iter(Fit(problem, generator_of(), FitConfig(), seeded(0, "z"))))
    assert torch.equal(other.z, first.z)
    assert not torch.allclose(other.output, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        ({"generator": "demucs"}, "init"),
        ({"subpixel_depth": 3}, "subpixel_depth"),
        ({"subpixel_channels": 6}, "subpixel_channels"),
        ({"subpixel_kernels": "3"}, "subpixel_kernels"),
        ({"samplerate": 8000}, "samplerate"),
        ({"samplerate": None}, "samplerate"),
    ],
)
def test_a_model_with_other_settings_is_refused(settings, value, model):
    with refused_as("invalid_setting", value):
        Config.of("denoise", **{**SIZE, "init": model, **settings})


def test_the_results_depend_on_the_content_of_the_model(model, speech):
    def identity():
        return Config.of("denoise", **SIZE, init=model).effective()["init"]

    first = identity()
    save_model(model, model_of(random_unet(1), settings=SETTINGS))
    assert identity() != first
    assert "init" not in Config.of("denoise", **SIZE).effective()


def test_the_command_fits_from_a_model(model, speech):
    settings = {**TINY, **SIZE, "metrics": "si_snr"}
    random, trained = (dawp.denoise(speech[:4000], **settings, init=init) for init in (None, model))
    assert random.history.rows[0]["loss"] != trained.history.rows[0]["loss"]
    assert len(trained.history.rows) == 3
