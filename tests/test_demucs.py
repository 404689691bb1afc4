import pytest
import torch
from conftest import refused_as

from dawp.methods.deep_prior.generators.demucs import Demucs
from dawp.methods.deep_prior.generators.registry import build
from dawp.methods.deep_prior.generators.settings import GeneratorConfig
from dawp.randomness import seeded

# The variants of Table 3 of the paper, in order; attention with 2 layers and 2 heads.
TABLE_3 = [
    ({"lstm_layers": 0}, 214_657),
    ({"lstm_layers": 0, "depth": 4}, 4_149_505),
    ({"lstm_layers": 0, "depth": 6}, 67_074_817),
    ({"lstm_layers": 0, "skip": True}, 214_657),
    ({"lstm_layers": 0, "glu": True}, 296_961),
    ({}, 1_697_537),
    ({"lstm_layers": 0, "attention_layers": 2}, 1_400_705),
    ({"glu": True}, 1_779_841),
    ({"lstm_layers": 0, "attention_layers": 2, "glu": True}, 1_483_009),
]
SMALL = {"channels": 4, "lstm_layers": 1}


@pytest.mark.parametrize(("settings", "expected"), TABLE_3)
def test_number_of_parameters(settings, expected):
    generator = Demucs(GeneratorConfig(**settings))
    assert sum(parameter.numel() for parameter in generator.parameters()) == expected


@pytest.mark.parametrize("resample", [True, False])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
def test_the_output_has_the_requested_length(depth, skip, resample):
    generator = Demucs(GeneratorConfig(depth=depth, channels=2, lstm_layers=0, skip=skip, resample=resample))
    for length in [*range(64, 64 + 4**2 + 3), 127, 1000, 1001, 4095]:
        z = torch.zeros(1, 1, generator.valid_length(length))
        assert generator(z, length).shape == (1, 1, length)


@pytest.mark.parametrize("variant", [{"glu": True}, {"lstm_layers": 0}, {"lstm_layers": 0, "attention_layers": 1}])
def test_every_variant_generates_the_length(variant):
    generator = Demucs(GeneratorConfig(**{**SMALL, **variant}))
    assert generator(torch.randn(1, 1, generator.valid_length(333)), 333).shape == (1, 1, 333)


@pytest.mark.parametrize("length", [1, 63])
def test_too_short_is_refused(length):
    with refused_as("unusable_recording", f"64 samples.* {length}"):
        Demucs(GeneratorConfig(**SMALL)).valid_length(length)


def test_the_trim_is_centred():
    """Without resampling and bottleneck, an impulse in the middle of the input noise stays in the middle."""
    torch.manual_seed(0)
    generator = Demucs(GeneratorConfig(depth=1, channels=8, lstm_layers=0, resample=False))
    length = 401
    z = torch.zeros(1, 1, generator.valid_length(length))
    middle = z.shape[-1] // 2
    with torch.no_grad():
        quiet = generator(z, length)[0, 0]
        z[0, 0, middle - 2 : middle + 2] = 10.0
        moved = (generator(z, length)[0, 0] - quiet).abs()
    centre = (moved * torch.arange(length)).sum() / moved.sum()
    assert abs(centre.item() - length / 2) < 8  # within one kernel


def test_skip_connections_change_only_the_output():
    with_skip, without = (build(GeneratorConfig(**SMALL, skip=skip), seeded(0, "weights")) for skip in (True, False))
    assert all(
        torch.equal(a, b) for a, b in zip(with_skip.state_dict().values(), without.state_dict().values(), strict=True)
    )
    z = torch.randn(1, 1, without.valid_length(500))
    assert not torch.allclose(with_skip(z, 500), without(z, 500))


def test_weights_are_rescaled_to_the_geometric_mean_with_a_tenth():
    torch.manual_seed(0)
    plain = torch.nn.Conv1d(1, 64, 8, 4)
    torch.manual_seed(0)
    rescaled = Demucs(GeneratorConfig()).encoder[0][0]
    expected = (plain.weight.std() * 0.1).sqrt()  # geometric mean of the drawn deviation and 0.1
    assert rescaled.weight.std().item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_seed_determines_the_weights_and_the_global_random_state_is_unchanged():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, again, other = (build(GeneratorConfig(**SMALL), seeded(seed, "weights")) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [torch.cat([p.flatten() for p in g.parameters()]) for g in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_output_depends_only_on_weights_and_input():
    generator = Demucs(GeneratorConfig(channels=4, lstm_layers=0, attention_layers=2))
    z = torch.randn(1, 1, generator.valid_length(200))
    assert torch.equal(generator(z, 200), generator(z, 200))
